"""Which places have new ones among their neighbours: none that is near enough is missed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.bounds import bound_norms
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.scan import ScanIndex
from d2cli.stages.space import SearchSpace

BLOCK, COLUMNS = 2048, 2048  # places, and new ones, of one matrix product: 16 MB
# A distance is rounded to float32, and squares of it to float64.
ROUNDED = 1 + 2.0**-20


def adopt(
    space: SearchSpace,
    places: NDArray[np.int32],
    limits: NDArray[np.float32],
    new: NDArray[np.int32],
    k: int,
    *,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Find for some places the nearest of the new places within a limit.

    By l2, matrix products in float32 leave out the pairs that are too far apart whatever their
    rounding; true distances decide among the others. By l1 and hamming all pairs are looked at.

    Parameters
    ----------
    space : SearchSpace
    places : int32 array, shape (p,)
        Different places, none of them new.
    limits : float32 array, shape (p,)
        Distances beyond which nobody is wanted; may be infinite.
    new : int32 array, shape (m,)
        Different places.
    k : int
        Neighbours wanted at most.

    Returns
    -------
    adopters : int32 array, shape (a,)
        Those of the places that found any, in their order.
    neighbors, distances : int32 and float32 arrays, shape (a, c)
        At most k new places, ascending by (distance, place); padded with -1 and infinity. All
        that are
        within the limit are among them, unless there are more than k; some beyond it may be, too.
    """
    if space.measure != "l2":
        index, wanted = ScanIndex(space), min(k, len(new))
        nearest, lengths = index.search(
            places, wanted, among=new, n_threads=n_threads, on_progress=on_progress
        )
        near = lengths[:, 0] <= limits
        return places[near], nearest[near], lengths[near]
    starts = range(0, len(places), BLOCK)
    found: list[Any] = [None] * len(starts)

    def look(i: int) -> Iterator[int]:
        part = slice(starts[i], min(starts[i] + BLOCK, len(places)))
        pairs = []
        for near in _near_pairs(space, places[part], limits[part], new):
            pairs.append(near)
            yield 0
        found[i] = rank_pairs(space, places[part], np.concatenate(pairs, axis=1), new, k)
        yield part.stop - part.start

    run_tasks(
        [look(i) for i in range(len(starts))],
        n_threads=n_threads,
        phase="adopting",
        total=len(places),
        on_progress=on_progress,
    )
    if not found:
        return places, np.empty((0, k), np.int32), np.empty((0, k), np.float32)
    adopters, neighbors, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return adopters, neighbors, distances


def _near_pairs(
    space: SearchSpace,
    places: NDArray[np.int32],
    limits: NDArray[np.float32],
    new: NDArray[np.int32],
) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs that may be within the limits, (2, c): numbers of places, of new ones."""
    points = space.block(places)
    bounds = bound_norms(points, rounding=space.rounding)
    norms = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    square = (limits.astype(np.float64) * space.scale * ROUNDED) ** 2
    # Twice the margin: once for the product, once for this sum in float32.
    most = (square - norms + 2.0 * bounds.margin + (norms - bounds.lower)).astype(np.float32)
    most = np.nextafter(most, np.float32(np.inf))[:, None]
    for first in range(0, len(new), COLUMNS):
        columns = space.block(new[first : first + COLUMNS])
        lower = bound_norms(columns, rounding=space.rounding).lower
        products = points @ np.ascontiguousarray(columns.T)
        products *= -2
        products += lower
        near = np.nonzero(products <= most)
        yield np.stack([near[0], near[1] + first])


def rank_pairs(
    space: SearchSpace,
    places: NDArray[np.int32],
    pairs: NDArray[np.int64],
    new: NDArray[np.int32],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Rank new places by their true distances; returns what `adopt` does.

    Parameters
    ----------
    pairs : int64 array, shape (2, c)
        Numbers into ``places``, and into ``new``, in any order; no pair twice.
    """
    pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
    counts = np.bincount(pairs[0], minlength=len(places))
    adopting = np.flatnonzero(counts)
    indptr = np.concatenate([[0], np.cumsum(counts[adopting])]).astype(np.int64)
    adopters = places[adopting]
    return adopters, *space.nearest(adopters, indptr, new[pairs[1]], k)
