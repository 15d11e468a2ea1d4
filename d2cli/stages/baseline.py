"""The honest baseline: random selections of the same size and groups."""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.groups import Groups


def random_selection(
    candidate: NDArray[np.bool_], groups: Groups, budgets: tuple[int, ...], *, seed: int
) -> NDArray[np.bool_]:
    """Keep as many rows of each group as its budget says, drawn without replacement.

    Parameters
    ----------
    candidate : bool array, shape (n,)
        Rows that may be kept.
    groups : Groups
        Over the same rows.
    budgets : tuple of int
        Rows to keep of each group.
    seed : int

    Returns
    -------
    bool array, shape (n,)
        True for the rows kept.
    """
    rng = np.random.default_rng(seed)
    kept = np.zeros(len(candidate), dtype=np.bool_)
    for rows, budget in zip(groups.rows(), budgets, strict=True):
        kept[rng.choice(rows[candidate[rows]], budget, replace=False)] = True
    return kept
