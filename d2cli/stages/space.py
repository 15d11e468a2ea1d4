"""The search space: distinct rows of one group, centred and scaled to safe float32."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import first_twins, row_keys
from d2cli.stages.parallel import Task, run_tasks
from d2cli.stages.vectors import Vectors

BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """Places 0 ... u - 1 stand for different vectors; searches run on places.

    Distances do not change when all vectors move together, so the mean is subtracted: a common
    offset would cost float32 its digits. The scale is a power of two, so it costs none.
    """

    vectors: Vectors  # (n, d), all rows of the input
    rows: NDArray[np.int64]  # (u,) the row of each place, ascending
    center: NDArray[np.float64]  # (d,)
    scale: float  # power of two that brings the largest coordinate to 0.5 ... 1

    @property
    def n_places(self) -> int:
        """Distinct vectors, u."""
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Width of a vector, d."""
        return int(self.vectors.shape[1])

    def block(self, places: slice | NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the centred, scaled vectors of some places, float32 (b, d)."""
        block = take_rows(self.vectors, self.rows[places]) - self.center
        block *= self.scale
        return block.astype(np.float32)


def take_rows(vectors: Vectors, rows: NDArray[np.int64]) -> Vectors:
    """Return ``vectors[rows]``; a view if the rows are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return vectors[rows[0] : rows[-1] + 1]
    return vectors[rows]


def build_space(vectors: Vectors, rows: NDArray[np.int64], *, n_threads: int = 1) -> SearchSpace:
    """Centre and scale distinct rows.

    Parameters
    ----------
    vectors : float32 or float64 array, shape (n, d), C-ordered, finite
    rows : int64 array, shape (u,), ascending
        Rows of different vectors.
    n_threads : int
        Does not change the result.
    """
    starts = range(0, len(rows), BLOCK_ROWS)
    sums, lows, highs = (np.zeros((len(starts), vectors.shape[1])) for _ in range(3))

    def look(i: int) -> Iterator[int]:
        block = take_rows(vectors, rows[starts[i] : starts[i] + BLOCK_ROWS])
        sums[i] = block.sum(axis=0, dtype=np.float64)
        lows[i], highs[i] = block.min(axis=0), block.max(axis=0)
        yield 0

    _share([look(i) for i in range(len(starts))], n_threads)
    center = sums.sum(axis=0) / max(len(rows), 1)
    largest = 0.0
    if len(rows):
        away = np.maximum(highs.max(axis=0) - center, center - lows.min(axis=0))
        largest = float(away.max())
    exponent = max(int(np.frexp(largest)[1]), -1000)
    return SearchSpace(vectors, rows, center, float(np.ldexp(1.0, -exponent)))


def _share(tasks: list[Task], n_threads: int) -> None:
    run_tasks(tasks, n_threads=n_threads, phase="reading", total=0)


def distinct_rows(
    vectors: Vectors, rows: NDArray[np.int64], *, n_threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Group equal vectors.

    Parameters
    ----------
    vectors : float32 or float64 array, shape (n, d)
    rows : int64 array, shape (m,), ascending
    n_threads : int
        Does not change the result.

    Returns
    -------
    places : int64 array, shape (u,)
        The lowest row of each distinct vector, ascending.
    indptr, members : int64 array (u + 1,), int32 array (m,)
        ``members[indptr[p]:indptr[p + 1]]`` are the positions in ``rows``, ascending, whose
        vector is that of place p.
    """
    keys = np.empty(len(rows), dtype=np.uint64)

    def hash_rows(start: int) -> Iterator[int]:
        part = slice(start, start + BLOCK_ROWS)
        keys[part] = row_keys(vectors, rows[part])
        yield 0

    _share([hash_rows(start) for start in range(0, len(rows), BLOCK_ROWS)], n_threads)
    first = first_twins(vectors, rows, keys)
    if len(rows) and np.array_equal(first, np.arange(len(rows))):
        everything = np.arange(len(rows) + 1)
        return rows, everything.astype(np.int64), everything[:-1].astype(np.int32)
    leaders, place, counts = np.unique(first, return_inverse=True, return_counts=True)
    members = np.argsort(place, kind="stable").astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return rows[leaders], indptr, members
