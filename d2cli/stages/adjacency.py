"""The undirected graph that messages travel on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._messages import nearest_marked, undirected_union


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Undirected neighbours in compressed rows.

    The neighbours of row i are ``indices[indptr[i]:indptr[i + 1]]``, ascending, without i itself
    and without repeats; every edge stands in both rows with the same distance.

    Attributes
    ----------
    indptr : int64 array, shape (n + 1,)
    indices : int32 array, shape (e,)
    distances : float32 array, shape (e,)
        In the metric's unit.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    distances: NDArray[np.float32]

    @property
    def n_samples(self) -> int:
        """Rows, n."""
        return len(self.indptr) - 1

    def nearest(self, marked: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return each row's distance to its nearest marked neighbour (n,); inf without one."""
        return nearest_marked(self.indptr, self.indices, self.distances, marked.astype(np.uint8))


def undirected(neighbors: NDArray[np.int32], distances: NDArray[np.float32]) -> Adjacency:
    """Connect i and j if either lists the other.

    Parameters
    ----------
    neighbors, distances : int32 and float32 arrays, shape (n, k)
        As in `d2cli.stages.graph.KnnGraph`; negative neighbours are padding.
    """
    return Adjacency(*undirected_union(neighbors, distances))
