"""Compiled loops over vectors: the search for neighbours.

Arrays are C-ordered, rows and columns count from 0, inputs stay as they are.

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
