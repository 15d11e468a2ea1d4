"""How far the neighbours of a row reach among all rows of a stream, of which it met a part."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.graph import KnnGraph


def merge_met(near: NDArray[np.float32], graph: KnnGraph, m: int) -> NDArray[np.float32]:
    """Return the distances to the k nearest rows met by the coreset, its first ``m`` candidates.

    A row of the window that is none of the k nearest candidates is none of the k nearest met.
    """
    found = np.where(graph.neighbors[:m] >= m, graph.distances[:m], np.float32(np.inf))
    both = np.sort(np.concatenate([near, found], axis=1), axis=1)
    merged: NDArray[np.float32] = both[:, : near.shape[1]]
    return merged


def estimate_radius(near: NDArray[np.float32], share: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return how far from each row its k-th nearest of all rows seen is likely to be, (m,).

    Parameters
    ----------
    near : float32 array, shape (m, k)
        Distances to the k nearest rows met.
    share : float64 array, shape (m,)
        Rows met among all rows seen, above 0 and up to 1.

    Notes
    -----
    Of the rows within the radius a share was met: it is the (k share)-th nearest of these,
    between two of them by interpolation. Where that is less than one row, distances shrink as
    ``share**(1 / dimension)``, the dimension being that by which they grow from the first to the
    k-th. Infinite where fewer than k rows were met.
    """
    k = near.shape[1]
    place = np.minimum(k * share, k) - 1
    low = np.clip(np.floor(place).astype(np.int64), 0, k - 1)
    high, each = np.minimum(low + 1, k - 1), np.arange(len(near))
    full = np.isfinite(near[:, -1])
    finite = np.where(full[:, None], near, np.float32(1)).astype(np.float64)
    first, last = finite[each, low], finite[each, high]
    radius = first + (last - first) * np.maximum(place - low, 0)
    typical = np.median(finite[full], axis=0) if full.any() else np.ones(k)
    if k > 1 and 0 < typical[0] < typical[-1]:
        power = math.log(typical[-1] / typical[0]) / math.log(k)
        radius = np.where(place < 0, radius * (place + 1) ** power, radius)
    return np.where(full, radius, np.inf).astype(np.float32)


def scale_to(near: NDArray[np.float32], radius: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distances to the k nearest of all rows seen, likewise; the last is the radius."""
    last = near[:, -1]
    known = np.isfinite(last) & (last > 0)
    ratio = np.divide(radius, last, out=np.ones_like(last), where=known)
    return near * ratio[:, None]


def within_radius(graph: KnnGraph, radius: NDArray[np.float32]) -> KnnGraph:
    """Return the graph without the neighbours of each row that are farther than its radius."""
    far = graph.distances > radius[:, None]
    if not far.any():
        return graph
    return replace(
        graph,
        neighbors=np.where(far, np.int32(-1), graph.neighbors),
        distances=np.where(far, np.float32(np.inf), graph.distances),
    )
