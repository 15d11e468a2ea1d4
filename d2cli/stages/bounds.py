"""What float32 products say for certain: bounds of squared distances, whatever the BLAS rounds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def relative_error(dim: int) -> float:
    """Bound the error of ``|a|**2 + |b|**2 - 2 a.b`` in float32, relative to |a|**2 + |b|**2.

    ``dim`` roundings of the product in any order, and fewer than 16 more for the rounded vectors,
    their norms, the two additions and the final rounding of distances to float32 [1]_.

    References
    ----------
    .. [1] Higham. Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 3.1.
    """
    return 1.01 * (dim + 16) * 2.0**-24


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds of the squared norms of some points, float32 (m,) each.

    A squared distance to a query, less the query's squared norm, is at least
    ``lower - 2 product`` and at most ``upper - 2 product``, up to the query's ``margin``.
    """

    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    margin: NDArray[np.float32]

    @property
    def limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The lower and upper bounds of points that are compared with a query."""
        return self.lower, self.upper


def bound_norms(points: NDArray[np.float32], *, rounding: float = 0.0) -> Bounds:
    """Return the bounds for points (m, d).

    Parameters
    ----------
    points : float32 array, shape (m, d)
        Centred and scaled.
    rounding : float
        Squared distances that differ by no more may be equal as float32 distances, as those below
        1e-38 are: `d2cli.stages.space.SearchSpace.rounding`.
    """
    lost = 2.0**-120 + rounding
    error = relative_error(points.shape[1])
    norms = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    # Squares of the tiniest float32 coordinates are lost: 2**-120 is more than all of them.
    return Bounds(
        (norms * (1 - error) - lost).astype(np.float32),
        (norms * (1 + error) + lost).astype(np.float32),
        (2 * error * norms).astype(np.float32),
    )
