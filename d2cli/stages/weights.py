"""What each kept row stands for: itself, and the dropped rows that it is nearest to."""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.adjacency import Adjacency

EDGES_AT_ONCE = 1 << 22


def nearest_kept(adjacency: Adjacency, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the nearest kept neighbour of every row.

    Parameters
    ----------
    adjacency : Adjacency
        Undirected graph over n rows.
    kept : bool array, shape (n,)

    Returns
    -------
    int64 array, shape (n,)
        A row; of several at one distance the lowest. -1 without a kept neighbour.
    """
    indptr = adjacency.indptr
    nearest = np.full(adjacency.n_samples, -1, dtype=np.int64)
    for piece in adjacency.pieces(EDGES_AT_ONCE):
        start, stop = piece.start, piece.stop
        edges = slice(indptr[start], indptr[stop])
        others = adjacency.indices[edges]
        places = np.flatnonzero(kept[others])
        owners = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))[places]
        # Neighbours ascend by row, and the sort is stable: the lowest of equals comes first.
        order = np.lexsort((adjacency.distances[edges][places], owners))
        rows, first = np.unique(owners[order], return_index=True)
        nearest[rows] = others[places[order[first]]]
    return nearest


def weigh_kept(adjacency: Adjacency, kept: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Weigh every kept row by the number of rows that it stands for.

    A kept row stands for itself and for every dropped row whose nearest kept neighbour it is (the
    lowest of several at one distance). Dropped rows without a kept neighbour are shared evenly by
    all kept rows, so that the weights add up to n.

    Parameters
    ----------
    adjacency : Adjacency
        Undirected graph over n rows.
    kept : bool array, shape (n,)

    Returns
    -------
    weights : float64 array, shape (n,)
        0 for dropped rows; at least 1 for kept ones.
    n_shared : int
        Dropped rows without a kept neighbour.
    """
    nearest = nearest_kept(adjacency, kept)[~kept]
    found = nearest[nearest >= 0]
    n_shared = len(nearest) - len(found)
    weights = np.bincount(found, minlength=len(kept)).astype(np.float64)
    n_kept = int(kept.sum())
    weights[kept] += 1 + (n_shared / n_kept if n_kept else 0.0)
    return weights, n_shared
