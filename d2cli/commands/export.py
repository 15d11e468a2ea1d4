"""``d2 export`` behind the parser: a run with notes and progress, then what is printed of it."""

import json

from d2cli.commands.running import Setting
from d2cli.errors import ParameterError
from d2cli.files.sources import STDIN
from d2cli.files.stdout import write_stdout
from d2cli.pipeline.export import Exported, run_export


def export(
    selection: str,
    source: str,
    *,
    output: str,
    as_json: bool,
    setting: Setting,
    **more: object,
) -> None:
    """Run ``d2 export``."""
    if as_json and output == STDIN:
        raise ParameterError("--json needs standard output", hint="send the rows to a file with -o")
    with setting.run() as run:
        done = run_export(run, selection, source, output=output, **more)  # type: ignore[arg-type]
    for line in lines(done):
        run.note(line)
    if as_json:
        write_stdout((json.dumps(done.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())


def lines(done: Exported) -> list[str]:
    """Return what an export has done as lines of plain text."""
    which = "dropped" if done.dropped else "kept"
    where = "standard output" if done.output == STDIN else done.output
    files = f", {done.n_files:,} files" if done.n_files > 1 else ""
    told = [
        f"exported {done.n_written:,} {which} of {done.n_rows:,} rows to {where} "
        f"({done.format}{files})"
    ]
    weights = done.figures.get("weights")
    if weights:
        shared = weights["shared_rows"]
        told.append(
            f"  weights add up to {weights['sum']:,.10g}"
            + (f"; {shared:,} rows without a kept neighbor are shared by all" if shared else "")
        )
    return told
