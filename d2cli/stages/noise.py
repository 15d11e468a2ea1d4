"""Rows that are hard because their label is wrong: the lower hump of the margins.

Models learn mislabelled rows last, so their margins form a hump of their own, while
rows that are merely hard are the tail of one hump. Two normal distributions are fitted to the
margins; only where they stand apart is anything cut.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 200
MOST_FITTED = 16_384  # values that the mixture is fitted to
APART = 2.0  # Ashman's D, above which two humps are told apart
POSTERIOR = 0.2  # of belonging to the lower hump, from which on a row is cut
LEAST_SHARE, MOST_SHARE = 0.005, 0.5
SAFE_EXPONENT = 200  # of the largest value as a power of two: squares of 2**-200 are far from 0


@dataclass(frozen=True, eq=False)
class Noise:
    """Which rows look mislabelled, and why.

    Attributes
    ----------
    mislabelled : bool array, shape (n,)
    separation : float
        Ashman's D of the two humps, ``sqrt(2) |m1 - m2| / sqrt(s1**2 + s2**2)``.
    reason : str
        One sentence for the user.
    """

    mislabelled: NDArray[np.bool_]
    separation: float
    reason: str


def fit_two_normals(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit a mixture of two normal distributions by expectation maximisation.

    Starts from the 5 % and 60 % quantiles and runs 200 steps, so the result is the same on every
    run. More than 16,384 values are represented by that many of their quantiles.

    Parameters
    ----------
    values : float64 array, shape (n,)
        Not all equal, and of a magnitude whose squares fit into float64.

    Returns
    -------
    weights, means, deviations : float64 arrays, shape (2,)
        The lower one first.
    posterior : float64 array, shape (n,)
        Probability of belonging to the lower one.
    """
    means = np.quantile(values, [0.05, 0.6])
    deviations = np.full(2, values.std() / 2)
    weights = np.full(2, 0.5)
    least = 1e-6 * values.std()
    points = values
    if len(values) > MOST_FITTED:  # as many equally spaced quantiles have the same humps
        places = np.linspace(0, len(values) - 1, MOST_FITTED).round().astype(np.int64)
        points = np.sort(values)[places]
    for _ in range(ITERATIONS):
        for i, share in enumerate(_shares(points, weights, means, deviations)):
            total = float(share.sum()) + 1e-300
            weights[i] = total / len(points)
            means[i] = float((share * points).sum()) / total
            spread = float((share * (points - means[i]) ** 2).sum())
            deviations[i] = np.sqrt(spread / total) + least
    lower = int(means.argmin())
    order = [lower, 1 - lower]
    posterior = _shares(values, weights, means, deviations)[lower]
    return weights[order], means[order], deviations[order], posterior


def _shares(
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probability of each point, (n,), to belong to either distribution."""
    with np.errstate(over="ignore", divide="ignore"):
        odds = np.log(weights[0] / deviations[0]) - np.log(weights[1] / deviations[1])
        odds = odds - 0.5 * ((points - means[0]) / deviations[0]) ** 2
        odds += 0.5 * ((points - means[1]) / deviations[1]) ** 2
        return 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(odds))


def _safe_scale(values: NDArray[np.float64]) -> float:
    """Return the power of two whose product with the values has squares that fit into float64.

    It is 1 wherever they do already, so that such values are fitted as they are.
    """
    exponent = int(np.frexp(np.abs(values).max())[1])
    return 1.0 if abs(exponent) <= SAFE_EXPONENT else math.ldexp(1.0, -max(exponent, -1000))


def find_mislabelled(difficulty: NDArray[np.float64], *, zero: float | None) -> Noise:
    """Find rows whose difficulty forms a hump of its own at the hard end.

    Parameters
    ----------
    difficulty : float64 array, shape (n,)
        Higher is harder.
    zero : float or None
        The difficulty at which the model is undecided (for aum, where the margin is 0), if the
        score has such a point: the hard hump then has to lie beyond it.

    Returns
    -------
    Noise
        No row is mislabelled if the humps do not stand apart (D at most 2), the hard one is not
        beyond ``zero``, or it has less than 0.5 % or more than half of the rows.

    References
    ----------
    Ashman, Bird, Zepf. Detecting bimodality in astronomical datasets. AJ 108, 1994 (D > 2);
    Pleiss et al. Identifying mislabeled data using the area under the margin ranking. 2020.
    """
    none = np.zeros(len(difficulty), dtype=np.bool_)
    if len(difficulty) < 10 or difficulty.min() == difficulty.max():
        return Noise(none, 0.0, "too few different values to tell humps apart")
    scale = _safe_scale(difficulty)
    margin = -difficulty * scale
    weights, means, deviations, posterior = fit_two_normals(margin)
    apart = float(np.sqrt(2) * (means[1] - means[0]) / np.hypot(*deviations))
    share = float(weights[0])
    if apart <= APART:
        return Noise(none, apart, f"one hump of difficulty (D {apart:.1f}, 2 needed)")
    if zero is not None and means[0] >= -zero * scale:
        return Noise(none, apart, "even the hard hump is learned right")
    if not LEAST_SHARE < share < MOST_SHARE:
        return Noise(none, apart, f"the hard hump has {100 * share:.1f} % of the rows")
    sure = (posterior > POSTERIOR) & (margin < means[1])
    found = margin <= margin[sure].max(initial=-np.inf)
    return Noise(
        found,
        apart,
        f"{int(found.sum()):,} form a hump of their own at the hard end (D {apart:.1f})",
    )
