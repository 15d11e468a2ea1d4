"""``d2 update`` behind the parser."""

import json
from typing import Any

from d2cli import display
from d2cli.commands import Setting, one_embedding, refuse_terminal
from d2cli.files.publish import write_stdout
from d2cli.pipeline.update import Changes, run_update


def update(
    graph: str,
    *,
    embedding: list[str] | None,
    sources: list[str] | None,
    output: str,
    cache_dir: str | None,
    as_json: bool,
    setting: Setting,
    **asked: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 update``."""
    changes = Changes(embedding=one_embedding(embedding), sources=tuple(sources or ()), **asked)
    refuse_terminal(output, as_json)
    with setting.run() as run:
        artifact = run_update(run, graph, changes, output=output, cache_dir=cache_dir)
    display.print_graph(artifact, run.stages[-1]["status"], output, run.note)
    if as_json:
        write_stdout((json.dumps(artifact.meta, indent=2, ensure_ascii=False) + "\n").encode())
