"""Scoring in parts: what the rows of a part receive is kept before it counts, and found again."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.files.artifacts import Artifact
from d2cli.files.parts import Parts, values_of
from d2cli.params import PROBE, ScoreParams
from d2cli.pipeline.engine import EngineParams, working
from d2cli.pipeline.run import Run
from d2cli.pipeline.steps import Steps
from d2cli.stages.forward import Forward
from d2cli.stages.parts import even_parts


class Scored(Protocol):
    """What can be scored in parts, see `d2cli.pipeline.score.Scoring`."""

    @property
    def graph(self) -> Artifact:
        """What messages travel on."""

    @property
    def key(self) -> str:
        """What the scores depend on."""

    def make(self, run: Run, forward: Forward | None) -> Artifact:
        """Score and seal."""


def check_forward_engine(engine: EngineParams, params: ScoreParams) -> None:
    """Refuse parts where scores are tried again and again.

    Raises
    ------
    ParameterError
    """
    if engine.in_parts and params.prune_hardest == PROBE:
        raise ParameterError(
            "--prune-hardest probe does not run in parts",
            hint="leave out --engine and --partitions, or give the fraction that it found",
        )


class _Sums:
    """The sums of a scoring, a part of it each."""

    def __init__(self, parts: Parts, steps: Steps) -> None:
        self._parts, self._steps = parts, steps
        self.found = 0

    def find(self, at: int, start: int, stop: int) -> NDArray[np.float64] | None:
        part = self._parts.find(stage="scores", at=at, start=start, stop=stop)
        if part is None:
            return None
        self.found += 1
        self._steps.add(bytes_read=part.table.nbytes)
        return values_of(part, "received")

    def record(self, at: int, start: int, stop: int, received: NDArray[np.float64]) -> None:
        columns = {"received": received}
        with self._steps.keeping(columns):
            self._parts.keep(columns, stage="scores", at=at, start=start, stop=stop)


def make_in_parts(
    run: Run, scoring: Scored, engine: EngineParams, cache_dir: str | None = None
) -> Artifact:
    """Score on parts of the graph, but for those that are in the store."""
    n = scoring.graph.table.num_rows
    with working(run, engine, scoring.key, n, cache_dir) as work:
        sums = _Sums(work.parts, work.steps)
        forward = Forward(
            even_parts(n, work.partitions), work.executor, sums.find, sums.record, run.on_progress
        )
        artifact = scoring.make(run, forward)
        work.told.update(tasks_found=sums.found)
    run.afterwards.append(work.parts.discard)
    return artifact
