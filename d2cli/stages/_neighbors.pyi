"""Compiled loops over vectors: the search for neighbours.

Arrays are C-ordered, rows and columns count from 0, inputs stay as they are.

Every function has a NumPy or plain Python oracle in ``tests/test_kernels.py``.
"""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.vectors import Searchable, Vectors

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

    def scan_transposed(
        self,
        products: NDArray[np.float32],
        lower: NDArray[np.float32],
        upper: NDArray[np.float32],
        own: NDArray[np.int32],
        first_column: int,
    ) -> None:
        """Do as `scan` with ``products.T``: ``products`` are (c, q)."""

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

def nearest_among(
    asking: Vectors,
    queries: NDArray[np.int32],
    there: Vectors,
    indptr: NDArray[np.int64],
    candidates: NDArray[np.int32],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """As `nearest_of`, but queries are rows of ``asking``, and candidates are rows of ``there``."""

def row_keys(vectors: Searchable, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a hash of ``vectors[rows]``, (m,); equal vectors (0.0 is -0.0) have equal ones."""

def first_twins(
    vectors: Searchable, rows: NDArray[np.int64], keys: NDArray[np.uint64]
) -> NDArray[np.int32]:
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

class ScannedSoFar:
    """The k nearest places seen so far of n queries."""

    def __init__(self, n: int, k: int) -> None: ...
    def finish(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return neighbours and distances (n, k), ascending by (distance, place); -1, inf pad."""

def scan_places(
    nearest: ScannedSoFar,
    queries: Searchable,
    targets: Searchable,
    own: NDArray[np.int32],
    first: int,
) -> None:
    """Offer each query (q, d) the places first, first + 1 ..., which are ``targets`` (t, d).

    By bits that differ if they are uint8, else by l1: sums of absolute differences in float64,
    rounded to float32. ``own`` (q,) is the place of each query, which it leaves out.
    """

def whiten_rows(
    vectors: Vectors, mean: NDArray[np.float64], transposed: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return ``(vectors - mean) @ transposed``, (b, d), summed in float64 by ascending axis.

    ``transposed`` (d, d) is upper triangular. A row's result depends on that row alone.
    """

def smallest_columns(
    products: NDArray[np.float32], norms: NDArray[np.float32], k: int
) -> NDArray[np.int32]:
    """Return for each row the k columns of least ``norms[c] - 2 products[r, c]``, (r, k).

    Ascending, equal values by column; -1 where there are fewer columns. With norms of squared
    lengths and products of points with centres these are the nearest centres.
    """

class NearestSoFar:
    """The k numbers of least value seen so far, for n slots; those of a slot differ.

    ``own[s]`` is the number that slot s leaves out.
    """

    def __init__(self, n: int, k: int) -> None: ...
    def merge(
        self,
        products: NDArray[np.float32],
        norms: NDArray[np.float32],
        slots: NDArray[np.int32],
        own: NDArray[np.int32],
        first: int,
    ) -> None:
        """Offer slot ``slots[r]`` the numbers first, first + 1 ... at ``norms - 2 products[r]``.

        ``products`` is (r, m), ``norms`` (m,), ``own`` (n,). A number is offered once.
        """

    def limits(self) -> NDArray[np.float32]:
        """Return the value that a number has to be below for a slot, (n,)."""

    def stay_below(self, limits: NDArray[np.float32]) -> None:
        """Take no values but those below ``limits`` (n,); to be called before any merge."""

    def finish(self) -> NDArray[np.int32]:
        """Return the numbers (n, k), ascending by (value, number), -1 where there are fewer."""

def keep_nearest(
    numbers: NDArray[np.int32], values: NDArray[np.float32], own: NDArray[np.int32], k: int
) -> NDArray[np.int32]:
    """Return the k numbers of least value of each row, by (value, number), -1 where too few.

    ``numbers`` and ``values`` are (r, m); numbers of a row differ, or are -1, which is left out as
    is ``own[r]``.
    """

def refine_neighbors(
    points: NDArray[np.float32],
    neighbors: NDArray[np.int32],
    first: int,
    last: int,
    breadth: int,
) -> NDArray[np.int32]:
    """Look among the neighbours of neighbours of rows ``first`` to ``last - 1``.

    Parameters
    ----------
    points : float32 array, shape (n, p)
    neighbors : int32 array, shape (n, k)
        Nearest first, -1 pads.
    breadth : int
        So many of a row's nearest are asked for so many of theirs; at most k.

    Returns
    -------
    int32 array, shape (last - first, k)
        The k nearest of the row's own list and what was found, by (float32 distance, row).
    """
