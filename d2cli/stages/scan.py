"""Exact search where no matrix product helps: l1, and bits of packed codes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import ScannedSoFar, scan_places
from d2cli.stages.exact import ExactIndex
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.space import SearchSpace, take_rows

QUERY_BLOCK = 256  # queries that share one reading of all vectors
TARGET_BLOCK = 1024  # places compared with them between two looks at the stop flag


class ScanIndex:
    """All places are compared with the query, one by one.

    Distances by l1 are float64 sums in a fixed order, rounded to float32, so d_ij = d_ji; float32
    sums only spare those that are certainly too far. Distances between codes are counts of bits.
    """

    name = "exact"
    effort = 0

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def search(
        self,
        queries: NDArray[np.int32],
        k: int,
        *,
        n_threads: int = 1,
        on_progress: Progress = no_progress,
        last: bool = False,
        among: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See `ExactIndex.search`; if given, only the places ``among`` are compared, ascending."""
        every = among is None
        numbers = np.arange(self.space.n_places, dtype=np.int32) if among is None else among
        neighbors = np.full((len(queries), k), -1, dtype=np.int32)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        if not len(numbers):
            return neighbors, distances
        space = self.space
        size = min(QUERY_BLOCK, -(-len(queries) // (2 * n_threads)) or 1)

        def search_block(start: int) -> Iterator[int]:
            stop = min(start + size, len(queries))
            asked = queries[start:stop]
            # Where the query itself is among the numbers.
            own = asked if every else _positions(asked, numbers)
            points = take_rows(space.vectors, space.rows[asked], space.room)
            nearest = ScannedSoFar(len(own), k)
            for first in range(0, len(numbers), TARGET_BLOCK):
                rows = space.rows[numbers[first : first + TARGET_BLOCK]]
                targets = take_rows(space.vectors, rows, space.room)
                scan_places(nearest, points, targets, own, first)
                space.room.have_read(space.vectors, targets)
                yield 0
            found, distances[start:stop] = nearest.finish()
            neighbors[start:stop] = found if every else np.where(found < 0, found, numbers[found])
            yield stop - start

        run_tasks(
            [search_block(start) for start in range(0, len(queries), size)],
            n_threads=n_threads,
            phase="exact search",
            total=len(queries),
            on_progress=on_progress,
        )
        return neighbors, distances


def _positions(places: NDArray[np.int32], among: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return where some places stand among ascending ones; -1 for those that do not."""
    at = np.minimum(np.searchsorted(among, places), len(among) - 1)
    return np.where(among[at] == places, at, -1).astype(np.int32)


def exact_index(space: SearchSpace) -> ExactIndex | ScanIndex:
    """Return what searches a space exactly."""
    return ExactIndex(space) if space.measure == "l2" else ScanIndex(space)
