"""Measured recall: an approximate search against the exact one on a seeded sample."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.exact import ExactIndex
from d2cli.stages.hnsw import LAST_EF_SEARCH, HnswIndex
from d2cli.stages.parallel import Progress, no_progress

SAMPLE_SIZE = 1000


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Recall@k of a graph, and on how many rows it was measured.

    ``value`` is the share of the k nearest neighbours that were found, by distance: a neighbour
    counts if it is at most as far as the exact k-th. ``sample_size`` is 0 where nothing had to be
    measured because the search was exact.
    """

    value: float
    sample_size: int
    target: float

    @property
    def reached(self) -> bool:
        """Whether the target was reached."""
        return self.value >= self.target


def share_found(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Return the share of finite exact distances (q, k) matched by ``found`` (q, k)."""
    real = np.isfinite(exact)
    if not real.any():
        return 1.0
    farthest = np.where(real, exact, -np.inf).max(axis=1, keepdims=True)
    hits = np.minimum((found <= farthest).sum(axis=1), real.sum(axis=1))
    return float(hits.sum() / real.sum())


def raise_effort(
    index: HnswIndex,
    k: int,
    *,
    target: float,
    seed: int,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Recall:
    """Double ``index.ef_search`` until the recall on the sample reaches the target, or 3,072.

    Parameters
    ----------
    index : HnswIndex
        Its ``ef_search`` is left at the effort that was reached.
    k : int
        Neighbours that count.
    target : float
        Recall to reach, 0 to 1.
    seed : int
        Of the sample: ``SAMPLE_SIZE`` places, or all if there are fewer.
    """
    places = index.space.n_places
    size = min(SAMPLE_SIZE, places)
    sample = np.random.default_rng(seed).choice(places, size, replace=False).astype(np.int32)
    sample.sort()
    _, exact = ExactIndex(index.space).search(
        sample, k, n_threads=n_threads, on_progress=on_progress
    )
    while True:
        _, found = index.search(sample, k, n_threads=n_threads)
        recall = Recall(value=share_found(found, exact), sample_size=size, target=target)
        if recall.reached or index.ef_search >= min(LAST_EF_SEARCH, places):
            return recall
        index.ef_search *= 2
