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
    value : float64 array, shape (m + h,)
        Score at the pick of rows that are picked; of open ones a bound that the score at their
        pick does not exceed. Changed.
    state : uint8 array, shape (m + h,)
        0 out, 1 open, 2 picked, 3 picked since ``value`` was last brought up to date. Changed.
    """

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        weights: NDArray[np.float64],
        start: NDArray[np.float64],
        place: NDArray[np.int32],
        value: NDArray[np.float64],
        state: NDArray[np.uint8],
    ) -> None: ...
    def catch_up(self, rows: NDArray[np.int32]) -> None:
        """Score those of some rows anew that are open and beside fresh picks.

        Fresh picks are fresh no more.
        """

    def decide(
        self,
        rows: NDArray[np.int32],
        group: NDArray[np.int32],
        least: NDArray[np.float64],
        last: NDArray[np.int32],
    ) -> NDArray[np.int64]:
        """Pick rows that come before all open neighbours, and go on until there are none.

        Parameters
        ----------
        rows : int32 array
            The open rows to look at, best in descending order of value. Overwritten.
        group : int32 array, shape (m,)
        least : float64 array, one a group
        last : int32 array, one a group
            Rows that come after this score and place are left open.

        Returns
        -------
        int64 array
            The rows picked; ``value`` has their scores, and is up to date for open rows.
        """

def from_other_ends(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], distances: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return for every edge the distance that its other end has for it.

    Every edge has to stand at both ends, with ascending indices in each row.
    """
