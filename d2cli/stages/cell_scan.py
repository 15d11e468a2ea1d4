"""Points compared with all points of a cell, which lie side by side."""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import NearestSoFar
from d2cli.stages.cells import COLUMNS

PIECE = 2048  # points that one matrix product compares


def by_cell(
    slots: NDArray[np.int64], cells: NDArray[np.int32]
) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """Return the different cells, ascending, and for each the slots (m,) that it is beside."""
    order = np.argsort(cells, kind="stable")
    found, starts = np.unique(cells[order], return_index=True)
    return found, np.split(slots[order].astype(np.int32), starts[1:])


def compare(
    best: NearestSoFar,
    points: NDArray[np.float32],
    own: NDArray[np.int32],
    slots: NDArray[np.int32],
    there: tuple[NDArray[np.float32], NDArray[np.float32]],
    cell: tuple[int, int],
    base: int,
) -> None:
    """Compare some points with all of a cell, and keep the nearest.

    Parameters
    ----------
    best : NearestSoFar
        Of the points (q, p), by positions.
    points : float32 array, shape (q, p)
    own : int32 array, shape (q,)
        The position that each point leaves out.
    slots : int32 array
        The points that are compared.
    there : (float32 array (u, p), float32 array (u,))
        The points of the cell's partition, and their squared norms.
    cell : (int, int)
        The first position, and the one after the last.
    base : int
        The position at which that partition begins.
    """
    targets, norms = there
    for first in range(0, len(slots), PIECE):
        some = slots[first : first + PIECE]
        queries = points[some]
        for start in range(*cell, COLUMNS):
            part = slice(start - base, min(start + COLUMNS, cell[1]) - base)
            best.merge(queries @ targets[part].T, norms[part], some, own, start)
