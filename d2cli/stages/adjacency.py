"""The undirected graph that messages travel on."""

from collections.abc import Iterator
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

    def pieces(self, n_edges: int) -> Iterator[slice]:
        """Yield consecutive rows, of about ``n_edges`` edges at a time."""
        start = 0
        while start < self.n_samples:
            stop = int(np.searchsorted(self.indptr, self.indptr[start] + n_edges, side="right")) - 1
            yield slice(start, stop := max(stop, start + 1))
            start = stop

    def edges_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of all edges of some rows in ``indices``, row by row."""
        starts, counts = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        ends = np.cumsum(counts)
        return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)

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
