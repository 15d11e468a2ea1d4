"""Rows worth a look: the hardest that stay, the hardest that go, and the most redundant."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.adjacency import Adjacency

EXAMPLES = 10  # rows of each kind


@dataclass(frozen=True, eq=False)
class Gallery:
    """Row numbers of each kind, at most ten, the most telling first.

    Attributes
    ----------
    hardest_kept, hardest_dropped : int64 arrays
        By falling difficulty, of equals the lowest row first.
    most_redundant : int64 array
        Dropped rows by their distance to the nearest kept neighbour; rows without one are left out.
    """

    hardest_kept: NDArray[np.int64]
    hardest_dropped: NDArray[np.int64]
    most_redundant: NDArray[np.int64]


def pick_examples(
    adjacency: Adjacency, difficulty: NDArray[np.float64], kept: NDArray[np.bool_]
) -> Gallery:
    """Pick the rows to show.

    Parameters
    ----------
    adjacency : Adjacency
        Undirected graph over n rows.
    difficulty : float64 array, shape (n,)
    kept : bool array, shape (n,)
    """
    nearest = adjacency.nearest(kept)
    return Gallery(
        _least(-difficulty, np.flatnonzero(kept)),
        _least(-difficulty, np.flatnonzero(~kept)),
        _least(nearest, np.flatnonzero(~kept & np.isfinite(nearest))),
    )


def _least(
    values: NDArray[np.float64] | NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rows of the ten least values, ascending by (value, row)."""
    among = values[rows]
    if len(rows) > EXAMPLES:
        limit = np.partition(among, EXAMPLES - 1)[EXAMPLES - 1]
        rows, among = rows[among <= limit], among[among <= limit]
    return rows[np.argsort(among, kind="stable")[:EXAMPLES]]


def nearest_kept(
    adjacency: Adjacency, kept: NDArray[np.bool_], row: int
) -> tuple[int, float] | None:
    """Return the nearest kept neighbour of a row and its distance, of equals the lowest row."""
    around = slice(adjacency.indptr[row], adjacency.indptr[row + 1])
    neighbors, distances = adjacency.indices[around], adjacency.distances[around]
    usable = kept[neighbors]
    if not usable.any():
        return None
    at = int(np.argmin(np.where(usable, distances, np.float32(np.inf))))
    return int(neighbors[at]), float(distances[at])
