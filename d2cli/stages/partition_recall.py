"""How many cells have to be searched: the exact neighbours of a sample, and the cells they are in.

Every partition tells the nearest of its rows to each row of the sample, exactly. The nearest of all
partitions are merged by (distance, row), and a neighbour will be found where its cell is among
those searched: so the least number of cells that reaches a recall is known without trying any.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import NearestSoFar
from d2cli.stages.cells import ON_AXES
from d2cli.stages.lists import NOBODY, Packed, unpack
from d2cli.stages.partition_exact import exactly_in
from d2cli.stages.partition_search import REACH, Cells, Order, reach_of
from d2cli.stages.places import Places, with_twins
from d2cli.stages.vectors import Vectors

PIECE = 2048  # positions that one matrix product compares
ROWS = 64  # of the sample whose cells are ranked at a time


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows whose neighbours are found exactly.

    Attributes
    ----------
    rows : int64 array, shape (s,), ascending
    vectors : float32 or float64 array, shape (s, d)
    points : float32 array, shape (s, p)
        On the axes.
    """

    rows: NDArray[np.int64]
    vectors: Vectors
    points: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest rows, in one partition or in all, to each row of a sample.

    Attributes
    ----------
    lists : uint64 array, shape (s, k)
        Packed, ascending.
    cells : int32 array, shape (s, k)
        The cell of each; -1 for a row that equals the one that asks, and where there is none.
    squares : float32 array, shape (s, k)
        Squared distances on the axes; 0 where the cell is -1.
    limits : float32 array, shape (s, w)
        The least squared distances on the axes, ascending; infinity where there are fewer, and
        w is 0 where vectors are searched as they are.
    """

    lists: Packed
    cells: NDArray[np.int32]
    squares: NDArray[np.float32]
    limits: NDArray[np.float32]

    def merge(self, other: "Nearest") -> "Nearest":
        """Return the nearest of both, which are of different partitions."""
        lists = np.concatenate([self.lists, other.lists], axis=1)
        order = np.argsort(lists, axis=1, kind="stable")[:, : self.lists.shape[1]]

        def joined(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> NDArray[np.generic]:
            return np.take_along_axis(np.concatenate([ours, theirs], axis=1), order, axis=1)

        limits = np.sort(np.concatenate([self.limits, other.limits], axis=1), axis=1)
        return Nearest(
            np.take_along_axis(lists, order, axis=1),
            joined(self.cells, other.cells),  # type: ignore[arg-type]
            joined(self.squares, other.squares),  # type: ignore[arg-type]
            limits[:, : self.limits.shape[1]],
        )

    @property
    def distances(self) -> NDArray[np.float32]:
        """Distances of the neighbours, (s, k)."""
        return unpack(self.lists)[1]


def look_in_partition(
    sample: Sample, there: Places, order: Order, points: NDArray[np.float32] | None, k: int
) -> Nearest:
    """Return the nearest rows of a partition to each row of a sample; its cells count from 0.

    ``points`` (u, p) are those of the partition by position; None if vectors are searched as they
    are.
    """
    mine = np.flatnonzero(np.isin(sample.rows, there.members))
    places = np.full(len(sample.rows), -1, dtype=np.int64)
    places[mine] = there.place_of(sample.rows[mine])
    lists = exactly_in(there, sample.vectors, places, k)
    if len(mine):
        lists[mine] = with_twins(there, places[mine], sample.rows[mine], lists[mine])
    rows, real = unpack(lists)[0], lists != NOBODY
    cells = np.full(lists.shape, -1, dtype=np.int32)
    squares = np.zeros(lists.shape, dtype=np.float32)
    limits = np.empty((len(lists), 0), dtype=np.float32)
    found = there.place_of(rows[real].astype(np.int64))
    positions = np.empty(there.n_places, dtype=np.int64)
    positions[order.places] = np.arange(there.n_places)
    cells[real] = np.searchsorted(order.starts, positions[found], side="right") - 1
    who = np.nonzero(real)[0]
    cells[real] = np.where(places[who] == found, np.int32(-1), cells[real])
    if points is not None:
        squares[real] = _squares(sample.points[who], points[positions[found]])
        squares[cells < 0] = 0
        limits = _least_squares(sample, points, places, positions, ON_AXES * k)
    return Nearest(lists, cells, squares, limits)


def _squares(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared distances of pairs (m, p), each by itself."""
    difference = points - others
    found: NDArray[np.float32] = np.einsum("ij,ij->i", difference, difference)
    return found


def _least_squares(
    sample: Sample,
    points: NDArray[np.float32],
    places: NDArray[np.int64],
    positions: NDArray[np.int64],
    wanted: int,
) -> NDArray[np.float32]:
    """Return the least squared distances of points to each row of a sample, (s, wanted)."""
    n = len(sample.rows)
    own = np.where(places >= 0, positions[np.maximum(places, 0)], -1).astype(np.int32)
    best, slots = NearestSoFar(n, wanted), np.arange(n, dtype=np.int32)
    for start in range(0, len(points), PIECE):
        block = points[start : start + PIECE]
        norms = np.einsum("ij,ij->i", block, block)
        best.merge(sample.points @ block.T, norms, slots, own, start)
    found = best.finish()
    limits = np.full((n, wanted), np.inf, dtype=np.float32)
    real = found >= 0
    limits[real] = _squares(sample.points[np.nonzero(real)[0]], points[found[real]])
    return np.sort(limits, axis=1)


def needed_probes(sample: Sample, nearest: Nearest, cells: Cells, target: float) -> int | None:
    """Return the least number of cells by which a share of the neighbours is found.

    Parameters
    ----------
    sample : Sample
    nearest : Nearest
        In all partitions; its cells are those of ``cells``.
    cells : Cells
    target : float
        That share, 0 to 1.

    Returns
    -------
    int or None
        None if the axes hide too many neighbours for any number of cells.
    """
    real = nearest.lists != NOBODY
    if not real.any():
        return 1
    ranks = np.ones(nearest.cells.shape, dtype=np.int64)
    norms = np.einsum("ij,ij->i", cells.centers, cells.centers)
    for start in range(0, len(sample.rows), ROWS):
        part = slice(start, start + ROWS)
        at = nearest.cells[part]
        values = norms - 2 * (sample.points[part] @ cells.centers.T)
        own = cells.centers[values.argmin(axis=1)]
        apart = _ranks(norms - 2 * (own @ cells.centers.T), at)
        # Cells beyond the least reach are considered once there are so many probes.
        beyond = np.where(apart > reach_of(1), -(-apart // REACH), 1)
        ranks[part] = np.where(at < 0, 1, np.maximum(_ranks(values, at), beyond))
    if nearest.limits.shape[1]:
        hidden = nearest.squares > nearest.limits[:, -1:]
        ranks[hidden] = cells.n_cells + 1
    needed = np.sort(ranks[real])
    probes = int(needed[max(int(np.ceil(target * len(needed))) - 1, 0)])
    return probes if probes <= cells.n_cells else None


def _ranks(values: NDArray[np.float32], columns: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the rank, from 1, that some columns (q, k) have by their value in each row (q, c)."""
    ranked = np.sort(values, axis=1)
    theirs = np.take_along_axis(values, np.maximum(columns, 0), axis=1)
    found = [np.searchsorted(*pair) for pair in zip(ranked, theirs, strict=True)]
    return 1 + np.array(found, dtype=np.int64)
