"""A picture of the embedding: a sample of kept and dropped rows on its two widest axes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.vectors import Vectors

MOST_KEPT, MOST_DROPPED = 500, 700
ROUNDING = 1e-12  # spread below this share of the whole is none


@dataclass(frozen=True, eq=False)
class Map2d:
    """Places of some rows in the plane.

    Attributes
    ----------
    points : float64 array, shape (m, 2)
        On the first two principal axes, the mean of all rows at 0.
    kept : bool array, shape (m,)
    shares : tuple of float
        What the two axes hold of the variance, each 0 to 1.
    """

    points: NDArray[np.float64]
    kept: NDArray[np.bool_]
    shares: tuple[float, float]


def sample_rows(kept: NDArray[np.bool_], *, seed: int) -> NDArray[np.int64]:
    """Draw up to 500 kept and 700 dropped rows, ascending.

    Parameters
    ----------
    kept : bool array, shape (n,)
    seed : int
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for rows, most in ((np.flatnonzero(kept), MOST_KEPT), (np.flatnonzero(~kept), MOST_DROPPED)):
        drawn.append(rng.choice(rows, min(most, len(rows)), replace=False))
    return np.sort(np.concatenate(drawn))


def flatten(vectors: Vectors, kept: NDArray[np.bool_], *, kept_share: float) -> Map2d:
    """Lay rows out on the two axes along which the whole data set spreads most.

    A kept row of the sample stands for fewer rows than a dropped one, so rows are weighted: mean
    and axes are those of the data, not of the sample. An axis points to where its farthest row is.
    The second is 0 where the data have only one.

    Parameters
    ----------
    vectors : float32 or float64 array, shape (m, d)
        Rows of `sample_rows`.
    kept : bool array, shape (m,)
    kept_share : float
        Of all rows, 0 to 1.

    Returns
    -------
    Map2d
    """
    counts = np.where(kept, max(int(kept.sum()), 1), max(int((~kept).sum()), 1))
    weights = np.where(kept, kept_share, 1 - kept_share) / counts
    weights = weights / weights.sum()
    values = np.asarray(vectors, dtype=np.float64)
    size = np.abs(values).max() or 1.0
    values = values / size  # so that squares neither overflow nor vanish
    values -= weights @ values
    away = np.abs(values).max()
    values /= away if away > ROUNDING else np.inf
    roots = np.sqrt(weights)
    # Rows are few, so the products of rows are a smaller matrix than the covariance may be.
    spread, sides = np.linalg.eigh(roots[:, None] * (values @ values.T) * roots)
    total = float(np.maximum(spread, 0).sum())
    points, shares = np.zeros((len(values), 2)), [0.0, 0.0]
    for axis in range(min(2, len(values))):
        found = float(spread[-1 - axis])
        if found <= ROUNDING * total:
            break
        direction = values.T @ (roots * sides[:, -1 - axis]) / np.sqrt(found)
        along = values @ direction
        points[:, axis] = along * np.sign(along[np.abs(along).argmax()])
        shares[axis] = found / total
    return Map2d(points, kept, (shares[0], shares[1]))
