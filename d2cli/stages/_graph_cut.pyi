"""Compiled loops of `d2cli.stages.graph_cut`. Edges stand at both ends, arrays are C-ordered."""

import numpy as np
from numpy.typing import NDArray

def breadth_first(indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return all rows, breadth first from the lowest row that has not been reached, (n,)."""

def stream(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    order: NDArray[np.int32],
    part: NDArray[np.int32],
    size: NDArray[np.int64],
    most: int,
) -> int:
    """Assign rows one by one to the part that most of their neighbours are in, if it has room.

    Parameters
    ----------
    indptr, indices : int64 and int32 arrays
        See `d2cli.stages.adjacency.Adjacency`.
    order : int32 array, shape (n,)
        The rows, as they come.
    part : int32 array, shape (n,)
        -1 of rows that have none yet. Changed.
    size : int64 array, shape (p,)
        Rows of each part. Changed.
    most : int
        A part of so many rows takes no more; p times as many are at least n.

    Returns
    -------
    int
        Edges, from both ends, to neighbours in the same part, as each row found them.
    """
