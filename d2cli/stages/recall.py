"""Measured recall: an approximate search against the exact one on a seeded sample."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.approximate import ApproximateIndex
from d2cli.stages.exact import ExactIndex
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.space import SearchSpace

SAMPLE_SIZE = 1000
MANY_SAMPLES = 30  # times the sample: from so many places on, the effort is settled finely


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


@dataclass(frozen=True, eq=False)
class RecallCheck:
    """Exact answers for a sample of places, to hold searches against.

    Attributes
    ----------
    sample : int32 array, shape (s,)
        Places, ascending.
    exact : float32 array, shape (s, k)
        Distances of their true neighbours.
    neighbors : int32 array, shape (s, k)
        These neighbours.
    target : float
        Recall wanted, 0 to 1.
    """

    sample: NDArray[np.int32]
    exact: NDArray[np.float32]
    neighbors: NDArray[np.int32]
    target: float

    def measure(self, found: NDArray[np.float32]) -> Recall:
        """Return the recall of distances (s, k) found for the sample."""
        value = share_found(found, self.exact)
        return Recall(value=value, sample_size=len(self.sample), target=self.target)


def check_recall(
    space: SearchSpace,
    k: int,
    *,
    target: float,
    seed: int,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> RecallCheck:
    """Search a seeded sample of 1,000 places exactly, or all if there are fewer.

    Parameters
    ----------
    space : SearchSpace
    k : int
        Neighbours that count.
    target : float
        Recall wanted, 0 to 1.
    seed : int
        Of the sample.
    """
    size = min(SAMPLE_SIZE, space.n_places)
    chosen = np.random.default_rng(seed).choice(space.n_places, size, replace=False)
    sample: NDArray[np.int32] = np.sort(chosen).astype(np.int32)
    neighbors, exact = ExactIndex(space).search(
        sample, k, n_threads=n_threads, on_progress=on_progress
    )
    return RecallCheck(sample, exact, neighbors, target)


def raise_effort(
    index: ApproximateIndex, k: int, check: RecallCheck, *, n_threads: int = 1
) -> Recall:
    """Raise the effort until the recall on the sample reaches the target, or it is at its end.

    Steps are large, so with many places the last one is halved while that is worth a search of the
    sample. The effort stays at the least one that reached the target.

    The sample is searched alone, without the neighbours of neighbours that a search of all places
    looks at; the recall of the whole is therefore at least what is returned, up to chance.
    """

    def measure() -> Recall:
        _, found = index.search(check.sample, k, n_threads=n_threads)
        return check.measure(found)

    missed = 0
    while not (recall := measure()).reached:
        missed = index.effort
        if not index.try_harder():
            return recall
    if missed and index.space.n_places >= MANY_SAMPLES * len(check.sample):
        enough = index.effort
        while enough - missed > max(missed // 8, 1):
            index.effort = (missed + enough) // 2
            tried = measure()
            if tried.reached:
                recall, enough = tried, index.effort
            else:
                missed = index.effort
        index.effort = enough
    return recall
