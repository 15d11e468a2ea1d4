"""Compiled loops over a graph: messages and selection.

Arrays are C-ordered, rows and columns count from 0, inputs stay as they are. In the main thread
every function looks for signals now and then, so an interrupt ends it within a moment.

Every function has a NumPy or plain Python oracle in ``tests/test_kernels.py`` or
``tests/test_messages.py``.
"""

import numpy as np
from numpy.typing import NDArray

def undirected_union(
    neighbors: NDArray[np.int32], distances: NDArray[np.float32], at_once: int = ...
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return (indptr, indices, distances) with an edge wherever either end lists the other.

    Distances are not negative. Indices ascend within a row. Where both ends list the edge, the
    row's own distance is taken. The edges into ``at_once`` rows are gathered at a time.
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

class GreedyPicks:
    """Pick the largest score, send its reverse messages, repeat; piece by piece.

    ``order[t]`` is the row that is t-th among ties. ``included`` rows (candidates) are picked
    first, in their order. A group whose budget is used up stops being candidates.

    With ``earlier``, rows that are not among them are newcomers: the first ``free[g]`` of group g
    cost nothing, each one more takes one of the ``spare`` places that all groups share. Newcomers
    of a group stop being candidates once there is neither.

    A tournament of eights over all rows knows an upper bound of every score. Messages lower scores
    without telling it, and a winner whose bound is stale goes back with its score, so a pick costs
    its degree and a few rounds of log n / 3. A negative pick raises scores and bounds at once.

    Attributes
    ----------
    rows : int64 array, shape (budget,)
        Picks in their order; the first ``done`` are made.
    scores : float64 array, shape (budget,)
        Score of each when it was picked.
    done : int
    lacking : int
        The row that would be next, but has to be weighed first; -1 if there is none.
    by_place : float64 array, shape (n,)
        The score that each row has now, in the order of ties; -inf once it is out. Not a copy.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    done: int
    lacking: int
    by_place: NDArray[np.float64]

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        score: NDArray[np.float64],
        order: NDArray[np.int32],
        candidate: NDArray[np.uint8],
        included: NDArray[np.int64],
        group: NDArray[np.int32],
        budgets: NDArray[np.int64],
        clamped: bool,
        earlier: NDArray[np.uint8] | None = ...,
        free: NDArray[np.int64] | None = ...,
        spare: int = ...,
    ) -> None: ...
    def weigh(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Take the weights of all edges of some different rows, side by side; forget all others."""

    def advance(self, count: int) -> int:
        """Make up to ``count`` more picks, and return how many are done in all.

        Fewer are made if a row has no weights yet; see ``lacking``. How the picks are divided into
        calls does not change them.

        Raises
        ------
        ValueError
            If a budget exceeds the candidates of its group.
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
