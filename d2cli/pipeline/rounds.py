"""Selecting in rounds: every round's picks are kept before they count, and found again."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.files.artifacts import Artifact
from d2cli.files.parts import Parts, values_of
from d2cli.params import SelectParams
from d2cli.pipeline.engine import EngineParams, working
from d2cli.pipeline.run import Run
from d2cli.pipeline.steps import Steps
from d2cli.stages.adjacency import Adjacency
from d2cli.stages.graph_cut import divide, edges_across
from d2cli.stages.methods import Picked
from d2cli.stages.parallel import Progress
from d2cli.stages.rounds import Rounds


class Selecting(Protocol):
    """What can be selected in rounds, see `d2cli.pipeline.selection.Pick`."""

    @property
    def scores(self) -> Artifact:
        """What is selected from."""

    @property
    def key(self) -> str:
        """What the selection depends on."""

    def make(self, on_progress: Progress, rounds: Rounds | None) -> Artifact:
        """Select and seal."""


def check_engine(engine: EngineParams, params: SelectParams, n_rows: int) -> None:
    """Refuse parts for a method that has none, and more parts than rows.

    Raises
    ------
    ParameterError
    """
    if engine.in_parts and params.method != "d2":
        raise ParameterError(
            f"--method {params.method} does not run in parts",
            hint="leave out --engine and --partitions",
        )
    if engine.in_parts and params.max_changes is not None:
        raise ParameterError(
            "--max-changes does not go with parts: it counts changes in the order of all picks",
            hint="leave out --engine and --partitions",
        )
    engine.check(n_rows)


class Chain:
    """The rounds of a selection, each kept under the digest of the one before.

    So a round is found only behind the very rounds that it followed: two runs on other partitions
    decide other rows in each round, and the rounds of one do not go on from those of the other.
    """

    def __init__(self, parts: Parts, steps: Steps) -> None:
        self._parts, self._steps, self._last = parts, steps, ""
        found = []
        while (part := parts.find(after=self._last, stage="selection")) is not None:
            found.append(Picked(values_of(part, "row"), values_of(part, "score_at_pick")))
            steps.add(bytes_read=part.table.nbytes)
            self._last = part.digest
        self.found = len(found)
        self.made = 0
        self.known = Picked(
            np.concatenate([np.empty(0, np.int64), *(picked.rows for picked in found)]),
            np.concatenate([np.empty(0), *(picked.values for picked in found)]),
        )

    def record(self, picked: Picked) -> None:
        """Keep a round."""
        columns = {"row": picked.rows, "score_at_pick": picked.values}
        with self._steps.keeping(columns):
            part = self._parts.keep(columns, after=self._last, stage="selection")
        self._last = part.digest
        self.made += 1


def make_in_rounds(
    run: Run, pick: Selecting, engine: EngineParams, cache_dir: str | None
) -> Artifact:
    """Select on parts of the graph, going on from the last round that there is."""
    n = pick.scores.table.num_rows
    with working(run, engine, pick.key, n, cache_dir) as work:
        chain = Chain(work.parts, work.steps)
        if chain.found:
            run.note(f"going on after {chain.found:,} rounds, {len(chain.known.rows):,} rows")

        def divided(adjacency: Adjacency) -> NDArray[np.int32]:
            parts = divide(adjacency, work.partitions)
            n_edges = max(len(adjacency.indices), 1)
            work.told.update(edges_across=edges_across(adjacency, parts) / n_edges)
            return parts

        rounds = Rounds(divided, work.executor, chain.known, chain.record)
        artifact = pick.make(run.on_progress, rounds)
        work.told.update(rounds=chain.made, rounds_found=chain.found)
    run.afterwards.append(work.parts.discard)
    return artifact
