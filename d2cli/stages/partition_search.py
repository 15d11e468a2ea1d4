"""The nearest neighbours of the rows of one partition, in all partitions.

Rows are searched in k-means cells, as `d2cli.stages.cells` does, but each partition has cells of
its own, and only partitions that hold some of the cells nearest to a row are looked at: read here
where many rows look at them, asked (`d2cli.stages.partition_queries`) where few do.

Equal rows are one place of their partition. Answers are rows, packed with their float32 distances
(`d2cli.stages.lists`), so lists of several partitions merge by (distance, row).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import NearestSoFar, nearest_among, smallest_columns
from d2cli.stages.cell_layout import CELL_ROWS, lay_out
from d2cli.stages.cell_scan import by_cell, compare
from d2cli.stages.cells import AS_THEY_ARE, ON_AXES
from d2cli.stages.lists import NOBODY, Packed, merge
from d2cli.stages.partition_queries import Queries, find_queries
from d2cli.stages.places import Places, rows_of_places

PIECE = 2048  # positions that one matrix product compares
LARGE_CELL = 3 * CELL_ROWS  # rows that a cell has on average; beyond it, there are to be more
READ_SHARE = 8  # a partition is read if places ask it that are at least 1 / 8 of its own
REACH, LEAST_REACH = 8, 256  # so many cells around a cell are considered for each probe


@dataclass(frozen=True, eq=False)
class Order:
    """The places of one partition in the order of its cells; see `d2cli.stages.cell_layout.Layout`.

    Attributes
    ----------
    places : int32 array, shape (u,)
        The place of each position.
    starts : int64 array, shape (c + 1,)
    centers : float32 array, shape (c, p)
    """

    places: NDArray[np.int32]
    starts: NDArray[np.int64]
    centers: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of all partitions, one partition after the other; so are positions.

    Attributes
    ----------
    starts : int64 array, shape (c + 1,)
        Cell i has the positions ``starts[i]`` to ``starts[i + 1] - 1``.
    centers : float32 array, shape (c, p)
    first : int64 array, shape (P + 1,)
        Partition j has the cells ``first[j]`` to ``first[j + 1] - 1``.
    """

    starts: NDArray[np.int64]
    centers: NDArray[np.float32]
    first: NDArray[np.int64]

    @property
    def n_cells(self) -> int:
        """Cells, c."""
        return len(self.centers)

    @property
    def bases(self) -> NDArray[np.int64]:
        """The first position of each partition, and their number, (P + 1,)."""
        return self.starts[self.first]


@dataclass(frozen=True, eq=False)
class Found:
    """What a partition knows of its places' neighbours.

    Attributes
    ----------
    lists : uint64 array, shape (u, k)
        By place; of all partitions but those that are asked.
    searched : int64 array, shape (u,)
        In how many partitions, those included.
    queries : Queries
    """

    lists: Packed
    searched: NDArray[np.int64]
    queries: Queries


class Reader(Protocol):
    """Where partitions come from."""

    def places(self, number: int) -> Places:
        """Return a partition."""

    def order(self, number: int) -> NDArray[np.int32]:
        """Return the place of each of its positions, (u,)."""

    def points(self, number: int) -> NDArray[np.float32]:
        """Return its points by position, (u, p)."""


def find_cells(
    points: NDArray[np.float32],
    cells: NDArray[np.int32],
    centers: NDArray[np.float32],
    *,
    seed: int,
    smaller: bool,
) -> Order:
    """Return the order of points (u, p), one for each place, which are sorted in place.

    By the ``cells`` (u,) that they are in, with their ``centers`` (c, p), or by ``smaller`` ones
    that k-means finds in the partition.
    """
    if smaller:
        layout = lay_out(points, seed=seed)
        return Order(layout.places, layout.starts, layout.centers)
    places = np.argsort(cells, kind="stable").astype(np.int32)
    points[:] = points[places]
    counts = np.bincount(cells, minlength=len(centers))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Order(places, starts, centers)


def one_cell(n_places: int, width: int) -> Order:
    """Return all places as one cell, whose centre nobody asks for."""
    places = np.arange(n_places, dtype=np.int32)
    return Order(places, np.array([0, n_places]), np.zeros((1, width), dtype=np.float32))


def join_cells(orders: list[Order | None], width: int) -> Cells:
    """Return the cells of all partitions; those of some may be missing, for they have no rows."""
    sizes = [np.diff(one.starts) if one else np.empty(0, np.int64) for one in orders]
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum([len(size) for size in sizes])]).astype(np.int64)
    nothing = np.empty((0, width), dtype=np.float32)
    return Cells(starts, np.concatenate([nothing, *(one.centers for one in orders if one)]), first)


def search_cells(
    own: int, reader: Reader, cells: Cells, k: int, *, probes: int, narrowed: bool
) -> Found:
    """Return about the nearest rows of each place of a partition, its own left out.

    Partitions that few places look at are not read: what there is to ask them is returned, too.

    Parameters
    ----------
    own : int
        The partition.
    reader : Reader
    cells : Cells
    k : int
    probes : int
        Cells that a place is compared with: the nearest ones of all partitions.
    narrowed : bool
        Points are on fewer axes than vectors, so more candidates are compared by the latter.

    Returns
    -------
    Found
    """
    points, bases = reader.points(own), cells.bases
    nearest = _nearest_cells(points, own, cells, probes)
    there = np.searchsorted(cells.first, nearest, side="right").astype(np.int32) - np.int32(1)
    ranked = np.sort(there, axis=1)
    new = np.diff(ranked, axis=1, prepend=-1) > 0  # a partition counts once for each place
    asking_it = np.bincount(ranked[new], minlength=len(bases) - 1)
    few = asking_it * READ_SHARE < np.diff(bases)
    few[own] = False
    best = NearestSoFar(len(points), candidates_for(k, narrowed=narrowed))
    asking = bases[own].astype(np.int32) + np.arange(len(points), dtype=np.int32)
    slots = np.repeat(np.arange(len(points)), nearest.shape[1])
    asked_cells, groups = by_cell(slots, nearest.ravel())
    holders = np.searchsorted(cells.first, asked_cells, side="right") - 1

    def scan(number: int, targets: NDArray[np.float32]) -> None:
        norms = np.einsum("ij,ij->i", targets, targets)
        for at in np.flatnonzero(holders == number):
            cell = asked_cells[at]
            compare(
                best,
                points,
                asking,
                groups[at],
                (targets, norms),
                (int(cells.starts[cell]), int(cells.starts[cell + 1])),
                int(bases[number]),
            )

    for number in np.unique(holders).tolist():
        if not few[number]:
            scan(number, reader.points(number))
    limits = best.limits()
    lists = _rank(own, reader, best.finish(), bases, k)
    order, searched = reader.order(own), new.sum(axis=1)
    by_place = np.empty_like(searched)
    by_place[order] = searched
    numbers = nearest - cells.first[there].astype(np.int32)
    return Found(lists, by_place, find_queries(there, numbers, few[there], order, limits))


def candidates_for(k: int, *, narrowed: bool) -> int:
    """Return how many candidates are compared by their vectors."""
    return (ON_AXES if narrowed else AS_THEY_ARE) * k


def _nearest_cells(
    points: NDArray[np.float32], own: int, cells: Cells, probes: int
) -> NDArray[np.int32]:
    """Return the nearest cells of the points of a partition, (u, probes).

    They are looked for among those around the cells that the points are in.
    """
    probes = min(probes, cells.n_cells)
    norms = np.einsum("ij,ij->i", cells.centers, cells.centers)
    transposed = np.ascontiguousarray(cells.centers.T)
    nearest = np.empty((len(points), probes), dtype=np.int32)
    reach, base = reach_of(probes), int(cells.bases[own])
    around = np.arange(cells.n_cells, dtype=np.int32)
    targets = transposed
    for cell in range(int(cells.first[own]), int(cells.first[own + 1])):
        if reach < cells.n_cells:
            middle = cells.centers[cell : cell + 1] @ transposed
            around = np.sort(smallest_columns(middle, norms, reach)[0])
            targets = np.ascontiguousarray(transposed[:, around])
        end = int(cells.starts[cell + 1]) - base
        for start in range(int(cells.starts[cell]) - base, end, PIECE):
            part = slice(start, min(start + PIECE, end))
            found = smallest_columns(points[part] @ targets, norms[around], probes)
            nearest[part] = around[found]
    return nearest


def reach_of(probes: int) -> int:
    """Return among how many cells around its own the nearest cells of a point are looked for."""
    return max(REACH * probes, LEAST_REACH)


def _rank(
    own: int, reader: Reader, candidates: NDArray[np.int32], bases: NDArray[np.int64], k: int
) -> Packed:
    """Return the k nearest rows of each place by true distance, (u, k).

    ``candidates`` are positions in all partitions, by position of this one, -1 where too few; none
    is that of the place itself.
    """
    asking, order = reader.places(own), reader.order(own)
    lists = np.full((asking.n_places, k), NOBODY, dtype=np.uint64)
    holders = np.where(candidates >= 0, np.searchsorted(bases, candidates, side="right") - 1, -1)

    def look(number: int, there: Places) -> None:
        here = holders == number
        who = np.flatnonzero(here.any(axis=1))
        queries = order[who]
        indptr = np.concatenate([[0], np.cumsum(here[who].sum(axis=1))]).astype(np.int64)
        places = reader.order(number)[candidates[here] - bases[number]]
        found = nearest_among(asking.vectors, queries, there.vectors, indptr, places, k)
        lists[queries] = merge(lists[queries], rows_of_places(there, *found))

    for number in np.unique(holders[holders >= 0]).tolist():
        look(number, reader.places(number))
    return lists
