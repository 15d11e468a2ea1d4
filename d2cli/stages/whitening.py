"""Whitening: the linear map under which l2 is the Mahalanobis distance."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.params import AUTO, Auto
from d2cli.stages._neighbors import whiten_rows
from d2cli.stages.room import IN_MEMORY, Room

SAMPLE_ROWS = 50_000  # that the covariance is fitted to
BLOCK_ROWS = 4096
MOST_WIDTH = 2048  # the map is stored with the graph: 17 MB at this width
# A pivot of the correlations below it, times the width, is rounding: an axis that others determine.
SINGULAR = 2.0**-46


@dataclass(frozen=True, eq=False)
class Whitening:
    """A map ``x -> factor @ (x - mean)`` to axes without correlation and of variance about 1.

    Attributes
    ----------
    mean : float64 array, shape (d,)
    factor : float64 array, shape (d, d)
        Lower triangular: the inverse of the Cholesky factor of the shrunken covariance.
    shrinkage : float
        Weight of the multiple of the identity in it, 0 to 1.
    sample_size : int
        Rows that mean and covariance were taken from.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]
    shrinkage: float
    sample_size: int

    def rows(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        """Return whitened vectors, float32 (b, d): float64 sums in a fixed order, rounded."""
        return whiten_rows(np.ascontiguousarray(vectors), self.mean, self._transposed)

    @cached_property
    def _transposed(self) -> NDArray[np.float64]:
        return np.ascontiguousarray(self.factor.T)


def fit_whitening(
    vectors: NDArray[Any],
    *,
    shrinkage: float | Auto = AUTO,
    seed: int = 0,
    rows: NDArray[np.int64] | None = None,
    room: Room = IN_MEMORY,
) -> Whitening:
    """Fit the map to a seeded sample of at most 50,000 rows.

    The covariance is ``(1 - s) S + s trace(S) / d I``, S being that of the sample. "auto" is the s
    of least expected squared error [1]_, estimated as
    ``min(1, (sum_k |x_k|^4 / n - |S|^2) / (n |S - trace(S) / d I|^2))`` with x_k less the mean and
    Frobenius norms: near 1 where rows are few beside axes, near 0 where there are many.

    Parameters
    ----------
    vectors : float32 or float64 array, shape (n, d)
        Finite.
    shrinkage : float or "auto"
        0 to 1.
    seed : int
        Of the sample.
    rows : int64 array, optional
        Ascending rows that the sample is drawn from; all if left out.
    room : Room
        Where the vectors live; does not change the result.

    Raises
    ------
    InputError
        If no two rows of the sample differ, or the covariance cannot be inverted: with shrinkage 0,
        where an axis is constant, or a combination of others, as it is wherever n <= d.
    ParameterError
        If d is above 2,048.

    References
    ----------
    .. [1] Ledoit, Wolf. A well-conditioned estimator for large-dimensional covariance matrices.
       Journal of Multivariate Analysis 88, 2004.
    """
    n, dim = vectors.shape
    if dim > MOST_WIDTH:
        raise ParameterError(
            f"mahalanobis needs vectors of at most {MOST_WIDTH:,} axes, these have {dim:,}",
            hint="reduce them first, by principal components say, or use --metric cosine",
        )
    sample = np.arange(n) if rows is None else rows
    if len(sample) > SAMPLE_ROWS:
        rng = np.random.default_rng([seed, 2])
        sample = sample[np.sort(rng.choice(len(sample), SAMPLE_ROWS, replace=False))]
    mean, constant = _mean(vectors, sample, room)
    covariance, fourth = np.zeros((dim, dim)), 0.0
    for block in _blocks(vectors, sample, room):
        away = np.where(constant, 0.0, block - mean)
        covariance += away.T @ away
        fourth += float((np.einsum("ij,ij->i", away, away) ** 2).sum())
    size = len(sample)
    covariance /= size
    level = float(np.trace(covariance)) / dim
    if not level > 0:
        raise InputError(
            "holds no two rows that differ: there is no covariance to whiten by",
            hint="use --metric l2",
        )
    if shrinkage == AUTO:
        apart = float(((covariance - level * np.eye(dim)) ** 2).sum())
        noise = max(fourth / size - float((covariance**2).sum()), 0.0) / size
        used = min(noise / apart, 1.0) if noise < apart else 1.0
    else:
        used = float(shrinkage)
    shrunken = (1 - used) * covariance
    shrunken[np.diag_indices(dim)] += used * level
    return Whitening(mean, _inverse_of_cholesky(shrunken, used), used, size)


def _mean(
    vectors: NDArray[Any], sample: NDArray[np.int64], room: Room
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean of a sample, (d,), and which axes are constant in it, (d,)."""
    dim = vectors.shape[1]
    total, low, high = np.zeros(dim), np.full(dim, np.inf), np.full(dim, -np.inf)
    for block in _blocks(vectors, sample, room):
        total += block.sum(axis=0)
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    constant = low == high
    return np.where(constant, low, total / len(sample)), constant


def _blocks(
    vectors: NDArray[Any], sample: NDArray[np.int64], room: Room
) -> Iterator[NDArray[np.float64]]:
    """Yield the rows of a sample in blocks of a fixed size."""
    for start in range(0, len(sample), BLOCK_ROWS):
        block = room.take(vectors, sample[start : start + BLOCK_ROWS])
        yield block.astype(np.float64)
        room.have_read(vectors, block)


def _inverse_of_cholesky(covariance: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    """Return the inverse of the lower Cholesky factor of a covariance (d, d), or refuse it."""
    dim = len(covariance)
    deviation = np.sqrt(np.diag(covariance))
    try:
        if not deviation.all():
            raise np.linalg.LinAlgError
        # Of the correlations, so that axes of very different scales are no reason to refuse.
        lower = np.linalg.cholesky(covariance / deviation / deviation[:, None])
        if float(np.diag(lower).min()) ** 2 < dim * SINGULAR:
            raise np.linalg.LinAlgError
    except np.linalg.LinAlgError:
        raise InputError(
            f"has a covariance that cannot be inverted with shrinkage {shrinkage:g}: an axis is "
            "constant or a combination of others",
            hint="--shrinkage auto, or a number above 0",
        ) from None
    inverse = np.zeros((dim, dim))
    for i in range(dim):  # forward substitution, a row at a time
        inverse[i, :i] = -(lower[i, :i] @ inverse[:i, :i]) / lower[i, i]
        inverse[i, i] = 1 / lower[i, i]
    return inverse / deviation
