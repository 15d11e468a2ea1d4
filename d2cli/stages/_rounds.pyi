"""Compiled loops of a selection in rounds; what they compute is proved in `d2cli.stages.rounds`.

Arrays are C-ordered. In the main thread every function looks for signals now and then. The oracle
is the loop "argmax, subtract, repeat", in ``tests/test_rounds.py``.
"""

import numpy as np
from numpy.typing import NDArray

class Neighborhood:
    """The edges of m rows, and the state that they and h rows around them are in.

    Parameters
    ----------
    indptr : int64 array, shape (m + 1,)
    indices : int32 array, shape (e,)
        Below m one of the rows themselves, else one around them.
    weights : float64 array, shape (e,)
        Of the message that comes along each edge.
    start : float64 array, shape (m,)
        Scores before any message.
    place : int32 array, shape (m + h,)
        Where each row stands among equals.
    beside_indptr, beside : int64 array, shape (h + 1,), and int32 array
        Of each row around, the rows that it is a neighbour of.
    value : float64 array, shape (m + h,)
        Score at the pick of rows that are picked; of open ones a bound that the score at their
        pick does not exceed. Changed.
    state : uint8 array, shape (m + h,)
        0 out, 1 open, 2 picked, 3 picked since ``value`` was last brought up to date. Changed.
    blocker : int32 array, shape (m,)
        An open neighbour that a row waited for when it was last looked at, or -1: where to look
        first. Changed.
    """

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        weights: NDArray[np.float64],
        start: NDArray[np.float64],
        place: NDArray[np.int32],
        beside_indptr: NDArray[np.int64],
        beside: NDArray[np.int32],
        value: NDArray[np.float64],
        state: NDArray[np.uint8],
        blocker: NDArray[np.int32],
    ) -> None: ...
    def hear(self, places: NDArray[np.int32]) -> None:
        """Let those of some rows that are fresh picks count: neighbours are to be scored anew.

        They are fresh no more.
        """

    def decide(
        self, group: NDArray[np.int32], least: NDArray[np.float64], last: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Pick rows that come before all open neighbours, and go on until there are none.

        A row that has to wait is looked at again only when the row that it waits for is picked or
        falls: the work is in proportion to the edges of rows that change.

        Parameters
        ----------
        group : int32 array, shape (m,)
        least : float64 array, one a group
        last : int32 array, one a group
            Rows that come after this score and place are left open.

        Returns
        -------
        decided : int32 array
            The rows picked; ``value`` has their scores.
        changed : int32 array
            Open rows that were scored anew; ``value`` is up to date for them as for all others.
        """

def edges_of_part(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    open_: NDArray[np.uint8],
    rows: NDArray[np.int64],
    local: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Return the edges between some rows and all open ones.

    Parameters
    ----------
    indptr, indices : int64 and int32 arrays
        Of the whole graph, over n rows.
    open_ : uint8 array, shape (n,)
    rows : int64 array, shape (m,)
        Open ones.
    local : int32 array, shape (n,)
        All -1, as it is again afterwards.

    Returns
    -------
    around : int64 array, shape (h,)
        The other rows at these edges, ascending.
    ends : int64 array, shape (m + 1,)
    near : int32 array, shape (e,)
        Of each edge, the place of its other end among ``rows`` and then ``around``.
    edges : int64 array, shape (e,)
        Where each edge stands in ``indices``.
    """

def turned(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], n_around: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return ``beside_indptr`` and ``beside`` of a `Neighborhood`."""

def from_other_ends(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], distances: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return for every edge the distance that its other end has for it.

    Every edge has to stand at both ends, with ascending indices in each row.
    """
