"""A uniform sample of a stream's difficulties, of bounded size and without any luck in it.

Every row has a fixed lot, a hash of the seed and its number; the sample is the rows of least lot.
So it does not depend on how the stream comes in, and can go on from where it was.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def lots(rows: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Return the lot of each row, uint64 (m,): splitmix64 of its number and the seed.

    References
    ----------
    Steele, Lea, Flood. Fast splittable pseudorandom number generators. OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        state = rows.astype(np.uint64) + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
        state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows of least lot among those seen.

    Attributes
    ----------
    rows : int64 array, shape (m,), ascending
        Numbers in the stream.
    values : float64 array, shape (m,)
        Their scores, as they were read.
    capacity : int
        The most rows that are held.
    seed : int
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    capacity: int
    seed: int

    @classmethod
    def empty(cls, capacity: int, seed: int) -> "Sample":
        """Return a sample of nothing."""
        return cls(np.empty(0, np.int64), np.empty(0), capacity, seed)

    def add(self, rows: NDArray[np.int64], values: NDArray[np.float64]) -> "Sample":
        """Return the sample after some more rows, with higher numbers than all before."""
        rows = np.concatenate([self.rows, rows])
        values = np.concatenate([self.values, values])
        if len(rows) > self.capacity:
            drawn = lots(rows, self.seed)
            least = np.sort(np.lexsort((rows, drawn))[: self.capacity])
            rows, values = rows[least], values[least]
        return Sample(rows, values, self.capacity, self.seed)
