"""Behind ``d2 check``: a run, its report on standard output, and the exit code."""

from typing import Any

from d2cli import display
from d2cli.commands.running import Setting, one_embedding
from d2cli.files.stdout import write_stdout
from d2cli.params import Metric
from d2cli.pipeline.check import run_check
from d2cli.pipeline.findings import CheckParams
from d2cli.render.checks import check_lines, render_checks

FAILED = 3  # bad input data


def check(
    source: str,
    *,
    neighbors: tuple[int, ...],
    metric: Metric,
    rate: float | None,
    seed: int,
    embedding: list[str] | None,
    strict: bool,
    as_json: bool,
    setting: Setting,
    **columns: Any,  # noqa: ANN401
) -> int:
    """Run ``d2 check``; return its exit code."""
    params = CheckParams(neighbors=neighbors, metric=metric, rate=rate, seed=seed)
    with setting.run() as run:
        found = run_check(run, source, params, embedding=one_embedding(embedding), **columns)
    if as_json:
        write_stdout(render_checks(found))
    else:
        lines = check_lines(found, escape=display.one_line)
        write_stdout("\n".join([*lines, ""]).encode())
    return FAILED if found["verdict"] in (("warn", "fail") if strict else ("fail",)) else 0
