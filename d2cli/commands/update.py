"""``d2 update`` behind the parser."""

from typing import Any

from d2cli import display
from d2cli.commands.running import Setting, print_json, print_plan, refuse_terminal
from d2cli.pipeline.changes import Changes
from d2cli.pipeline.update import plan_run_update, run_update


def update(
    graph: str,
    *,
    embedding: list[str] | None,
    sources: list[str] | None,
    output: str,
    cache_dir: str | None,
    as_json: bool,
    dry_run: bool,
    setting: Setting,
    **asked: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 update``."""
    changes = Changes(embedding=tuple(embedding or ()), sources=tuple(sources or ()), **asked)
    if dry_run:
        with setting.run() as run:
            planned = plan_run_update(run, graph, changes, output=output, cache_dir=cache_dir)
        print_plan(planned, as_json)
        return
    refuse_terminal(output, as_json)
    with setting.run() as run:
        artifact = run_update(run, graph, changes, output=output, cache_dir=cache_dir)
    display.print_graph(artifact, run.stages[-1]["status"], output, run.note)
    if as_json:
        print_json(artifact.meta)
