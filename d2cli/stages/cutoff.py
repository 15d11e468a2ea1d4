"""Cutoffs: the hardest rows of each group leave the pool before any message is passed."""

import math

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.stages.difficulty import Difficulty
from d2cli.stages.groups import Groups
from d2cli.stages.noise import find_mislabelled


def prune_hardest(
    difficulty: NDArray[np.float64],
    fraction: float,
    *,
    groups: Groups,
    order: NDArray[np.int32],
    available: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Take the hardest rows of each group out of the pool.

    Parameters
    ----------
    difficulty : float64 array, shape (n,)
    fraction : float
        ``floor(fraction * n_g + 0.5)`` rows of a group of n_g rows are taken out.
    groups : Groups
    order : int32 array, shape (n,)
        Rows in the order in which equally hard ones are taken out.
    available : bool array, shape (n,), optional
        Rows that there are at all; n_g counts only these.

    Returns
    -------
    bool array, shape (n,)
        False for the rows taken out and those not available.
    """
    pool = np.ones(len(difficulty), dtype=np.bool_) if available is None else available.copy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    for members in groups.rows():
        rows = members[pool[members]]
        hardest_first = rows[np.lexsort((place[rows], -difficulty[rows]))]
        pool[hardest_first[: math.floor(fraction * len(rows) + 0.5)]] = False
    return pool


def prune_automatically(
    difficulty: Difficulty,
    rate: float | None,
    *,
    groups: Groups,
    order: NDArray[np.int32],
    available: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], str]:
    """Take rows out of the pool whose label looks wrong, or else a part of those learned wrong.

    If `find_mislabelled` finds a hump of its own, it goes and nothing else. Otherwise the hardest
    go: a fraction ``h max(0.8, R**2 (1 + R**2))`` of each group, where h is the share of rows with
    a negative margin and R the pruning rate; the fewer rows are kept, the less they may be
    ambiguous. No group loses more than the fraction R. The constants come from the study in
    ``tests/study``.

    Parameters
    ----------
    difficulty : Difficulty
        Of a margin such as aum: its sign has to say right or wrong.
    rate : float or None
        R; without it the factor is 0.8.
    groups : Groups
    order : int32 array, shape (n,)
        Rows in the order in which equally hard ones are taken out.
    available : bool array, shape (n,), optional
        Rows that there are at all.

    Returns
    -------
    pool : bool array, shape (n,)
    reason : str
        One sentence.

    Raises
    ------
    ParameterError
        If the score is no margin, that is, not harder when low.
    """
    if difficulty.direction != "low":
        raise ParameterError(
            "prune-hardest auto needs a margin, whose sign says whether a row is learned right",
            hint="use --difficulty aum, or give a fraction",
        )
    pool = np.ones(len(difficulty.values), dtype=np.bool_) if available is None else available
    rows = np.flatnonzero(pool)
    noise = find_mislabelled(difficulty.values[rows], zero=difficulty.shift)
    hump = np.zeros(len(pool), dtype=np.bool_)
    hump[rows[noise.mislabelled]] = True
    wrong = float((difficulty.values[rows] > difficulty.shift).mean())
    unlearned = 0.0 if hump.any() else wrong
    most = 1.0 if rate is None else rate
    factor = 0.8 if rate is None else max(0.8, rate**2 * (1 + rate**2))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    left = pool.copy()
    for group in groups.rows():
        members = group[pool[group]]
        wanted = hump[members].sum() + unlearned * factor * len(members)
        count = min(math.floor(wanted + 0.5), math.floor(most * len(members)))
        hardest = members[np.lexsort((place[members], -difficulty.values[members]))]
        left[hardest[:count]] = False
    total = int(pool.sum() - left.sum())
    reason = f"{total:,} rows cut: {noise.reason}"
    if not hump.any():
        reason += f"; {100 * wrong:.1f} % of the rows are learned wrong, times {factor:.2f}"
    return left, reason
