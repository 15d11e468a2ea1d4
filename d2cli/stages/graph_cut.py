"""Rows divided along the graph, so that few edges lead from one part to another."""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._graph_cut import breadth_first, stream
from d2cli.stages.adjacency import Adjacency
from d2cli.stages.parts import check_partitions

SLACK = 1.03  # of the rows of an even part, at most
PASSES = 5
LEAST_GAIN = 0.01  # of all edges, for another pass


def divide(adjacency: Adjacency, n_parts: int) -> NDArray[np.int32]:
    """Divide rows into parts of nearly one size with few edges between them.

    Rows come breadth first, so that a row comes after some of its neighbours, and each goes to
    the part that holds most of them, weighed by the room that is left in it; rows without an
    assigned neighbour go to the smallest part, the first of several. Rows are then streamed again
    while that brings another hundredth of all edges into parts. Takes time in proportion to edges,
    and is the same on every run.

    Parameters
    ----------
    adjacency : Adjacency
        Undirected graph over n rows.
    n_parts : int

    Returns
    -------
    int32 array, shape (n,)
        The part of each row. A part has at most 1.03 n / p rows, rounded up; one may be empty.

    Raises
    ------
    ParameterError
        If there are fewer rows than parts.

    References
    ----------
    Stanton, Kliot. Streaming graph partitioning for large distributed graphs. KDD 2012: linear
    deterministic greedy. Nishimura, Ugander. Restreaming graph partitioning. KDD 2013.
    """
    n, n_edges = adjacency.n_samples, len(adjacency.indices)
    check_partitions(n, n_parts)
    if n_parts == 1:
        return np.zeros(n, dtype=np.int32)
    order = breadth_first(adjacency.indptr, adjacency.indices)
    part, size = np.full(n, -1, dtype=np.int32), np.zeros(n_parts, dtype=np.int64)
    most, before = int(np.ceil(SLACK * n / n_parts)), 0
    for at in range(PASSES):
        inside = stream(adjacency.indptr, adjacency.indices, order, part, size, most)
        if at and inside - before < LEAST_GAIN * n_edges:
            break
        before = inside
    return part


def edges_across(adjacency: Adjacency, parts: NDArray[np.integer]) -> int:
    """Return how many edges, each counted at both ends, lead from one part to another."""
    across = 0
    for rows in adjacency.pieces(1 << 22):
        ends = adjacency.indptr[rows.start : rows.stop + 1]
        near = parts[adjacency.indices[ends[0] : ends[-1]]]
        across += int(np.count_nonzero(near != np.repeat(parts[rows], np.diff(ends))))
    return across
