"""Approximate search: candidates on the principal axes, neighbours of neighbours, true distances.

Where candidates come from is the only thing in which the backends differ (`d2cli.stages.hnsw`,
`d2cli.stages.cells`). All of this works on positions in a layout; answers are places.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import refine_neighbors
from d2cli.stages.cell_layout import Layout
from d2cli.stages.parallel import Progress, Task, no_progress, run_tasks
from d2cli.stages.room import release
from d2cli.stages.space import SearchSpace

PIECE = 512  # positions worked on between two looks at the stop flag
BREADTH = 10  # of the nearest candidates, so many are asked for so many of theirs

Take = Callable[[slice, NDArray[np.int32]], None]


class Source(Protocol):
    """Where candidates come from.

    Attributes
    ----------
    name : str
    effort : int
    layout : Layout
    refines : bool
        Whether neighbours of neighbours on the axes may be better candidates.
    """

    name: str
    effort: int
    layout: Layout

    @property
    def refines(self) -> bool:
        """See above."""

    def try_harder(self) -> bool:
        """Raise the effort; False if it is at its end."""

    def wanted(self, k: int, *, narrowed: bool) -> int:
        """Return how many candidates a query needs for k neighbours."""

    def tasks(self, asked: NDArray[np.int32], wanted: int, take: Take) -> list[Task]:
        """Return tasks that find candidates of the ascending positions ``asked``.

        Each calls ``take`` with slices of ``asked`` and int32 positions (rows of it, ``wanted``),
        nearest first, without the position itself, -1 where there are too few.
        """

    def give_up(self) -> None:
        """Free what only further searches would need."""


class ApproximateIndex:
    """The k nearest places, but for those that the source of candidates misses."""

    def __init__(self, space: SearchSpace, source: Source) -> None:
        self.space = space
        self.source = source
        self.layout = source.layout
        self.name = source.name
        self.positions = self.layout.positions

    @property
    def effort(self) -> int:
        """What is spent on a query, in the units of the source."""
        return self.source.effort

    @effort.setter
    def effort(self, effort: int) -> None:
        self.source.effort = effort

    def try_harder(self) -> bool:
        """Raise the effort; False if it is at its end."""
        return self.source.try_harder()

    def search(
        self,
        queries: NDArray[np.int32],
        k: int,
        *,
        n_threads: int = 1,
        on_progress: Progress = no_progress,
        last: bool = False,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return about the k nearest other places of each query, and their distances, (q, k) each.

        As `ExactIndex.search`, but a neighbour may be missed. If all places are asked for, the
        neighbours of neighbours are looked at as well, where the source ``refines``. The ``last``
        search frees the source of candidates as soon as it has them.
        """
        slots = np.argsort(self.positions[queries], kind="stable")
        asked = self.positions[queries][slots]
        narrowed = self.layout.points.shape[1] < self.space.dim
        wanted = self.source.wanted(k, narrowed=narrowed)
        candidates = np.full((len(asked), wanted), -1, dtype=np.int32)

        def share(phase: str, tasks: list[Task]) -> None:
            run_tasks(
                tasks, n_threads=n_threads, phase=phase, total=len(asked), on_progress=on_progress
            )

        def in_pieces(work: Callable[[slice], None]) -> list[Task]:
            def task(start: int) -> Iterator[int]:
                part = slice(start, min(start + PIECE, len(asked)))
                work(part)
                yield part.stop - part.start

            return [task(start) for start in range(0, len(asked), PIECE)]

        def take(part: slice, found: NDArray[np.int32]) -> None:
            candidates[part, : found.shape[1]] = found

        if last:
            release(self.space.vectors)  # not looked at before the ranking
        share(f"searching {self.name}", self.source.tasks(asked, wanted, take))
        if last:
            self.source.give_up()
        if len(asked) == self.space.n_places and self.source.refines:
            refined = np.empty_like(candidates)

            def refine(part: slice) -> None:
                refined[part] = self._refine(candidates, part)

            share("refining", in_pieces(refine))
            candidates = refined
            del refined
        neighbors = np.empty((len(queries), k), dtype=np.int32)
        distances = np.empty((len(queries), k), dtype=np.float32)

        def rank(part: slice) -> None:
            found = candidates[part]
            places = np.where(found >= 0, self.layout.places[found], np.int32(-1))
            neighbors[slots[part]], distances[slots[part]] = self.space.nearest(
                self.layout.places[asked[part]],
                np.arange(len(found) + 1, dtype=np.int64) * wanted,
                places.ravel(),
                k,
            )

        share("ranking", in_pieces(rank))
        return neighbors, distances

    def _refine(self, candidates: NDArray[np.int32], part: slice) -> NDArray[np.int32]:
        """Return better candidates of some positions; all are given."""
        points, room = self.layout.points, self.layout.room
        breadth = min(BREADTH, candidates.shape[1])
        refined = refine_neighbors(points, candidates, part.start, part.stop, breadth)
        if room.on_disk:
            room.have_looked(points, len(np.unique(candidates[part])))
        return refined
