"""The order of equals."""

import numpy as np
from numpy.typing import NDArray

from d2cli.params import Ties


def tie_order(n_samples: int, ties: Ties, seed: int) -> NDArray[np.int32]:
    """Return the rows in the order in which equals are taken, int32 (n,).

    "row" takes the lowest row first, "random" draws one order of all rows from the seed.
    """
    if ties == "row":
        return np.arange(n_samples, dtype=np.int32)
    return np.random.default_rng(seed).permutation(n_samples).astype(np.int32)
