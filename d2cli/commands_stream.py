"""``d2 stream`` behind the parser: a run with notes and progress, then what is printed of it."""

from typing import Any

from d2cli import pipeline
from d2cli.commands import Setting, one_embedding
from d2cli.params import GraphParams, ScoreParams, SelectParams


def stream(
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    embedding: list[str] | None,
    targets: pipeline.Targets,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 stream``."""
    with setting.run() as run:
        done = pipeline.run_stream(
            run,
            source,
            graph_params,
            score_params,
            select_params,
            embedding=one_embedding(embedding),
            targets=targets,
            **more,
        )
    held = done.progress.coreset
    rate = 1 - len(held) / held.n_seen
    run.note(f"keeping {len(held):,} of {held.n_seen:,} rows (pruning rate {rate:.2f})")
