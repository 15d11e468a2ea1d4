"""Commands behind the parser: a run with notes and progress, then what is printed of it."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from d2cli import display, pipeline
from d2cli.errors import ParameterError
from d2cli.files.artifacts import Artifact
from d2cli.files.publish import write_stdout
from d2cli.files.sources import STDIN
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.pipeline import Targets as Targets


@dataclass(frozen=True)
class Setting:
    """Options that every command has and no result depends on."""

    threads: int | None
    force: bool
    quiet: bool

    @contextmanager
    def run(self) -> Iterator[pipeline.Run]:
        """Open a run that prints notes and, on a terminal, progress."""
        with display.progress(quiet=self.quiet) as on_progress:
            yield pipeline.Run(
                n_threads=self.threads or processors(),
                force=self.force,
                note=display.Notes(quiet=self.quiet),
                on_progress=on_progress,
            )


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_embedding(given: list[str] | None) -> str | None:
    """Return the embedding's COLREF; several are not supported."""
    if given and len(given) > 1:
        raise ParameterError(
            f"{len(given)} embeddings are given, expected one",
            hint="concatenate them into one column first",
        )
    return given[0] if given else None


def refuse_terminal(output: str, as_json: bool) -> None:
    """Refuse to pour a binary stream onto a terminal, or two things into one."""
    if output != STDIN:
        return
    if as_json:
        raise ParameterError(
            "--json needs standard output", hint="send the result to a file with -o"
        )
    if sys.stdout.isatty():
        raise ParameterError(
            "the result is binary and standard output is a terminal",
            hint="name a file with -o, or pipe it on",
        )


def _print_json(value: Any) -> None:  # noqa: ANN401
    write_stdout((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _finish(artifact: Artifact, as_json: bool) -> None:
    if as_json:
        _print_json(artifact.meta)


def graph(
    source: str,
    params: GraphParams,
    *,
    embedding: list[str] | None,
    output: str,
    as_json: bool,
    setting: Setting,
    **columns: str | None,
) -> None:
    """Run ``d2 graph``."""
    refuse_terminal(output, as_json)
    with setting.run() as run:
        artifact = pipeline.run_graph(
            run, source, params, embedding=one_embedding(embedding), output=output, **columns
        )
    display.print_graph(artifact, run.stages[-1]["status"], output, run.note)
    _finish(artifact, as_json)


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
    _finish(artifact, as_json)


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
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 prune``."""
    with setting.run() as run:
        done = pipeline.run_prune(
            run,
            source,
            graph_params,
            score_params,
            select_params,
            embedding=one_embedding(embedding),
            targets=targets,
            **more,
        )
    _finish_selection(done, run, targets)


def _finish_selection(done: pipeline.Selected, run: pipeline.Run, targets: Targets) -> None:
    display.print_selection(done, run.stages, run.note)
    if targets.as_json:
        _print_json(done.report)
