"""Coarse k-means cells, and the points laid out in their order.

Rows of one cell lie side by side in memory, which is what makes both approximate searches fast:
a graph walk stays in the cache, and a cell is one operand of a matrix product.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import smallest_columns
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.room import IN_MEMORY, Room

CELL_ROWS = 300  # places a cell has on average
MOST_CELLS = 4096
SAMPLE_A_CELL = 32  # places a cell that k-means is fitted to
ITERATIONS = 4
SORTED_COLUMNS = 16  # one line of the processor's cache
PIECE = 2048  # places assigned between two looks at the stop flag
MOVED_BYTES = 16 << 20  # of points on disk that are sorted at a time

Block = Callable[[slice | NDArray[np.int32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Layout:
    """Points in the order of their cells; a position is a row number in this order.

    Attributes
    ----------
    points : float32 array, shape (u, p)
        By position; in ``room``.
    places : int32 array, shape (u,)
        The place of each position; ascending within a cell.
    starts : int64 array, shape (c + 1,)
        Cell i has the positions ``starts[i]`` to ``starts[i + 1] - 1``.
    centers : float32 array, shape (c, p)
        Cells that are near each other have near numbers.
    axes : float32 array, shape (d, p), or None
        What the points are on, where they are not the vectors themselves.
    """

    points: NDArray[np.float32]
    places: NDArray[np.int32]
    starts: NDArray[np.int64]
    centers: NDArray[np.float32]
    room: Room = IN_MEMORY
    axes: NDArray[np.float32] | None = None

    @property
    def n_cells(self) -> int:
        """Cells, c."""
        return len(self.centers)

    @property
    def positions(self) -> NDArray[np.int32]:
        """The position of each place, (u,)."""
        inverse = np.empty(len(self.places), dtype=np.int32)
        inverse[self.places] = np.arange(len(self.places), dtype=np.int32)
        return inverse


def lay_out(
    points: NDArray[np.float32],
    *,
    seed: int,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Layout:
    """Partition points into about u / 300 cells by k-means on a sample, and sort them by cell.

    Parameters
    ----------
    points : float32 array, shape (u, p)
        By place. Taken over: they are sorted in place, for there is no room for a second copy.
    seed : int
        Of the sample and the first centres.
    n_threads, on_progress
        See `d2cli.stages.parallel`; results do not depend on them.
    """
    places, starts, centers = _partition(
        points.__getitem__, len(points), seed, n_threads, on_progress
    )
    _sort_rows(points, places, n_threads)
    return Layout(points, places, starts, centers)


def arrange(
    block: Block,
    width: int,
    cells: NDArray[np.int32],
    centers: NDArray[np.float32],
    room: Room = IN_MEMORY,
    *,
    n_threads: int = 1,
) -> Layout:
    """Lay points out in cells that are known; see `lay_out_on_disk`, which finds them.

    Parameters
    ----------
    block : callable
        Returns the points of ascending places, float32 (b, p).
    width : int
        Of the points, p.
    cells : int32 array, shape (u,)
        The cell of each place.
    centers : float32 array, shape (c, p)
    room : Room
        Where the points laid out will live.
    """
    places, starts = _order(cells, len(centers))
    points = _move(block, (len(cells), width), places, room, n_threads)
    return Layout(points, places, starts, centers, room)


def nearest_centers(
    points: NDArray[np.float32], centers: NDArray[np.float32], *, n_threads: int = 1
) -> NDArray[np.int32]:
    """Return the number of the nearest centre (c, p) of every point (m, p)."""
    return _assign(points.__getitem__, len(points), centers, n_threads)


def lay_out_on_disk(
    block: Block,
    shape: tuple[int, int],
    room: Room,
    *,
    seed: int,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Layout:
    """As `lay_out`, but for points that are read from disk and written to it.

    Parameters
    ----------
    block : callable
        Returns the points of a slice of places, or of ascending places, float32 (b, p).
    shape : (int, int)
        All points (u, p).
    room : Room
        Where the points laid out will live.
    """
    places, starts, centers = _partition(block, shape[0], seed, n_threads, on_progress)
    return Layout(_move(block, shape, places, room, n_threads), places, starts, centers, room)


def _move(
    block: Block, shape: tuple[int, int], places: NDArray[np.int32], room: Room, n_threads: int
) -> NDArray[np.float32]:
    """Return the points of all places in the order of these, (u, p), in a room."""
    points = room.rows(shape, np.float32)
    step = max(MOVED_BYTES // (4 * max(shape[1], 1)), 1)

    def move(start: int) -> Iterator[int]:
        part = places[start : start + step]
        ascending = np.argsort(part)
        moved = np.empty((len(part), shape[1]), dtype=np.float32)
        for first in range(0, len(part), PIECE):
            some = ascending[first : first + PIECE]
            moved[some] = block(part[some])
        points.put(start, moved)
        yield 0

    run_tasks(
        [move(start) for start in range(0, shape[0], step)],
        n_threads=n_threads,
        phase="sorting",
        total=0,
    )
    moved: NDArray[np.float32] = points.finish()
    return moved


def _partition(
    block: Block, n: int, seed: int, n_threads: int, on_progress: Progress
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
    """Return places, starts and centers of a layout of n points."""
    n_cells = min(MOST_CELLS, max(1, n // CELL_ROWS))
    rng = np.random.default_rng(seed)
    size = min(n, SAMPLE_A_CELL * n_cells)
    sample = block(np.sort(rng.choice(n, size, replace=False)).astype(np.int32))
    centers = fit_centers(sample, n_cells, rng, n_threads)
    centers = centers[chain(centers)]
    return *_order(_assign(block, n, centers, n_threads, on_progress), n_cells), centers


def fit_centers(
    sample: NDArray[np.float32], n_cells: int, rng: np.random.Generator, n_threads: int = 1
) -> NDArray[np.float32]:
    """Return the centres of k-means, (c, p), fitted to a sample (m, p) of at least c points."""
    centers = sample[np.sort(rng.choice(len(sample), n_cells, replace=False))]
    for _ in range(ITERATIONS if n_cells > 1 else 0):
        cells = _assign(sample.__getitem__, len(sample), centers, n_threads)
        centers = _means(sample, cells, centers)
    return centers


def _order(cells: NDArray[np.int32], n_cells: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return places by their cells, and where each cell starts."""
    counts = np.bincount(cells, minlength=n_cells)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.argsort(cells, kind="stable").astype(np.int32), starts


def _sort_rows(points: NDArray[np.float32], order: NDArray[np.int32], n_threads: int) -> None:
    """Replace ``points`` by ``points[order]``, a few columns at a time."""

    def sort(start: int) -> Iterator[int]:
        part = slice(start, start + SORTED_COLUMNS)
        points[:, part] = points[order, part]
        yield 0

    run_tasks(
        [sort(start) for start in range(0, points.shape[1], SORTED_COLUMNS)],
        n_threads=min(n_threads, 2),  # each holds a copy of its columns
        phase="sorting",
        total=0,
    )


def _assign(
    block: Block,
    n: int,
    centers: NDArray[np.float32],
    n_threads: int,
    on_progress: Progress = no_progress,
) -> NDArray[np.int32]:
    """Return the number of the nearest centre of every point."""
    cells = np.empty(n, dtype=np.int32)
    transposed = np.ascontiguousarray(centers.T)
    norms = np.einsum("ij,ij->i", centers, centers)

    def assign(start: int) -> Iterator[int]:
        part = slice(start, min(start + PIECE, n))
        cells[part] = smallest_columns(block(part) @ transposed, norms, 1)[:, 0]
        yield part.stop - part.start

    run_tasks(
        [assign(start) for start in range(0, n, PIECE)],
        n_threads=n_threads,
        phase="assigning cells",
        total=n,
        on_progress=on_progress,
    )
    return cells


def _means(
    points: NDArray[np.float32], cells: NDArray[np.int32], centers: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the mean of every cell; an empty one keeps its centre."""
    order = np.argsort(cells, kind="stable")
    counts = np.bincount(cells, minlength=len(centers))
    filled = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts)])[filled]
    sums = np.add.reduceat(points[order], starts, axis=0, dtype=np.float64)
    means = centers.copy()
    means[filled] = sums / counts[filled, None]
    return means


def chain(centers: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order centres so that neighbours in the order are near: always the nearest one left."""
    left = centers.astype(np.float32).copy()
    chain = np.empty(len(centers), dtype=np.int64)
    norms = np.einsum("ij,ij->i", left, left)
    at = 0
    for step in range(len(centers)):
        chain[step] = at
        norms[at] = np.inf
        at = int(np.argmin(norms - 2 * (left @ left[at]))) if step + 1 < len(centers) else at
    return chain
