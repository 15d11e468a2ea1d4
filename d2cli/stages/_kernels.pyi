"""Compiled loops. Arrays are C-ordered, rows and columns count from 0, inputs stay as they are.

Every function has a NumPy or plain Python oracle in ``tests/test_kernels.py``.
"""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.vectors import Vectors

class CandidateBlock:
    """For a block of queries, all columns that may be among the k nearest, whatever the rounding.

    A product of float32 matrices gives each squared distance only within known bounds. A column
    stays a candidate while its lower bound does not exceed the k-th smallest upper bound.
    """

    def __init__(self, margin: NDArray[np.float32], k: int) -> None:
        """Start without candidates; ``margin`` (q,) widens each query's limit."""

    def scan(
        self,
        products: NDArray[np.float32],
        lower: NDArray[np.float32],
        upper: NDArray[np.float32],
        own: NDArray[np.int32],
        first_column: int,
    ) -> None:
        """Take in columns ``first_column ...``: inner ``products`` (q, c), norm bounds (c,).

        ``own`` (q,) is the column of the query itself, which is never its candidate.
        """

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the candidates as (indptr (q + 1,), columns)."""

def nearest_of(
    vectors: Vectors,
    rows: NDArray[np.int64],
    queries: NDArray[np.int32],
    indptr: NDArray[np.int64],
    candidates: NDArray[np.int32],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k nearest candidates of each query and their true l2 distances, (q, k) each.

    Place p stands for ``vectors[rows[p]]``; queries and candidates are places. Distances are sums
    of squared differences in float64, their root rounded to float32; order and cut are by
    (distance, place). The query itself and negative candidates are left out; -1 and inf pad.
    """

def first_twins(vectors: Vectors, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return for each place the lowest place whose vector is equal; its own if there is none."""

def spread_to_twins(
    neighbors: NDArray[np.int32],
    distances: NDArray[np.float32],
    indptr: NDArray[np.int64],
    members: NDArray[np.int32],
    n: int,
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Turn neighbours among u distinct places into neighbours among their n members.

    ``members[indptr[p]:indptr[p + 1]]`` (ascending) share place p. Every member gets its k nearest
    other members by (distance, number), twins first at distance 0; (n, k) each.
    """

def undirected_union(
    neighbors: NDArray[np.int32], distances: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return (indptr, indices, distances) with an edge wherever either end lists the other.

    Indices ascend within a row. Where both ends list the edge, the row's own distance is taken.
    """

def sum_messages(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float64],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return ``sum_e weights[e] * values[indices[e]]`` for each row, added in edge order from 0."""

def nearest_marked(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    marked: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """Return each row's least distance to a marked neighbour; inf if none is marked."""

def pick_greedily(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float64],
    score: NDArray[np.float64],
    order: NDArray[np.int32],
    candidate: NDArray[np.uint8],
    included: NDArray[np.int64],
    group: NDArray[np.int32],
    budgets: NDArray[np.int64],
    clamped: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick the largest score, send its reverse messages, repeat; return (picks, score at pick).

    ``order[t]`` is the row that is t-th among ties. ``included`` rows (candidates) are picked
    first, in their order. A group whose budget is used up stops being candidates. The budgets must
    not exceed the candidates of their groups. A tournament tree over all rows makes a pick cost
    its degree times log n.
    """

def farthest_first(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    order: NDArray[np.int32],
    candidate: NDArray[np.uint8],
    included: NDArray[np.int64],
    budget: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick the candidate farthest from all picks along the graph, repeat; return (picks, distance).

    Lengths of paths are float64 sums of edge distances from the pick outwards; a row that no path
    reaches is infinitely far. ``order[t]`` is the row that is t-th among ties.
    """

def cover_greedily(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float64],
    order: NDArray[np.int32],
    demand: NDArray[np.uint8],
    candidate: NDArray[np.uint8],
    included: NDArray[np.int64],
    budget: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick the candidate that adds most to ``sum_i max_p w_ip``, repeat; return (picks, gain).

    The sum is over the rows in demand; a row weighs 1 for itself, and 0 for rows that are not its
    neighbours. Lazy evaluation, same picks as trying every candidate at every step.
    """

def drop_near_duplicates(
    easier: NDArray[np.int32],
    harder: NDArray[np.int32],
    fixed: NDArray[np.uint8],
    alive: NDArray[np.uint8],
    group: NDArray[np.int32],
    surplus: NDArray[np.int64],
) -> None:
    """Go through pairs in order and drop the easier row of each pair that is still whole.

    The other one goes if the easier is fixed or its group has no surplus left; neither if both
    have to stay. Changes ``alive`` (n,) and ``surplus`` (one a group).
    """
