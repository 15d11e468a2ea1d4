"""``d2 graph``, ``score``, ``select`` and ``prune``, behind the parser."""

from typing import Any

from d2cli import display, pipeline
from d2cli.commands.running import (
    Setting,
    print_artifact,
    print_json,
    print_plan,
    refuse_dry_run,
    refuse_terminal,
)
from d2cli.params import (
    GraphParams,
    ScoreParams,
    SelectParams,
)
from d2cli.pipeline import Targets as Targets
from d2cli.pipeline.modalities import refuse_metric


def graph(
    source: str,
    params: GraphParams,
    *,
    embedding: list[str] | None,
    output: str,
    as_json: bool,
    dry_run: bool,
    engine: pipeline.EngineParams,
    given: tuple[str, ...],
    setting: Setting,
    **columns: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 graph``."""
    refuse_metric(columns.get("fusion"), params, given)
    what: dict[str, Any] = {"embedding": embedding, "output": output, **columns}
    if dry_run:
        refuse_dry_run(engine)
        with setting.run() as run:
            planned = pipeline.plan_run_graph(run, source, params, **what)
        print_plan(planned, as_json)
        return
    refuse_terminal(output, as_json)
    with setting.run() as run:
        artifact = pipeline.run_graph(run, source, params, engine=engine, **what)
    display.print_graph(artifact, run.stages[-1]["status"], output, run.note)
    display.print_steps(run.stages, run.note)
    print_artifact(artifact, as_json, run.stages)


def score(
    graph: str,
    params: ScoreParams,
    *,
    output: str,
    as_json: bool,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 score``."""
    refuse_terminal(output, as_json)
    with setting.run() as run:
        artifact = pipeline.run_score(run, graph, params, output=output, **more)
    display.print_scores(artifact, run.stages[-1]["status"], output, run.note)
    display.print_steps(run.stages, run.note)
    print_artifact(artifact, as_json, run.stages)


def select(
    scores: str,
    given: dict[str, Any],
    *,
    targets: Targets,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 select``."""
    with setting.run() as run:
        done = pipeline.run_select(run, scores, given, targets=targets, **more)
    _finish_selection(done, run, targets)


def prune(
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    embedding: list[str] | None,
    targets: Targets,
    dry_run: bool,
    engine: pipeline.EngineParams,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 prune``."""
    refuse_metric(more.get("fusion"), graph_params, more.get("given", ()))
    params = (graph_params, score_params, select_params)
    more |= {"embedding": embedding, "targets": targets}
    if dry_run:
        refuse_dry_run(engine)
        with setting.run() as run:
            planned = pipeline.plan_run_prune(run, source, *params, **more)
        print_plan(planned, targets.as_json)
        return
    with setting.run() as run:
        done = pipeline.run_prune(run, source, *params, engine=engine, **more)
    _finish_selection(done, run, targets)


def _finish_selection(done: pipeline.Selected, run: pipeline.Run, targets: Targets) -> None:
    display.print_selection(done, run.stages, run.note)
    if targets.as_json:
        print_json(done.report)
