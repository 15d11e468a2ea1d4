"""Distances to edge weights."""

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.params import AUTO, Auto, Kernel


def edge_weights(
    distances: NDArray[np.float32], *, gamma: float, bandwidth: float, kernel: Kernel
) -> NDArray[np.float64]:
    """Weigh edges: ``exp(-gamma * (d / h)**2)``, or ``exp(-gamma * d / h)`` if exponential.

    Parameters
    ----------
    distances : float32 array, any shape
        In the metric's unit, not negative.
    gamma : float
        Not negative; 0 weighs every edge 1.
    bandwidth : float
        h, in the metric's unit; positive.
    kernel : {"gaussian", "exponential"}

    Returns
    -------
    float64 array of the same shape, 0 to 1

    References
    ----------
    Maharana, Yadav, Bansal. D2 Pruning. ICLR 2024. arXiv:2310.07931, section 3.2 (gaussian).
    """
    if not gamma >= 0 or not bandwidth > 0:
        raise ParameterError(
            f"gamma {gamma:g} and bandwidth {bandwidth:g} must be 0 or more, and > 0"
        )
    if gamma == 0:
        return np.ones(distances.shape)
    weights = distances.astype(np.float64)
    with np.errstate(over="ignore"):  # an infinite exponent weighs 0
        weights /= bandwidth
        if kernel == "gaussian":
            weights *= weights
        weights *= -gamma
    return np.exp(weights, out=weights)


def median_distance(distances: NDArray[np.float32]) -> float:
    """Return the median of the finite, positive distances in float64; 1 if there are none."""
    real = distances[np.isfinite(distances) & (distances > 0)]
    if not len(real):
        return 1.0
    middle = [(len(real) - 1) // 2, len(real) // 2]
    return float(np.partition(real, middle)[middle].astype(np.float64).mean())


def bandwidth_value(bandwidth: float | Auto, distances: NDArray[np.float32]) -> float:
    """Return the bandwidth; "auto" is the median of the stored, directed distances (n, k)."""
    return median_distance(distances) if bandwidth == AUTO else float(bandwidth)
