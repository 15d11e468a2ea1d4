"""Prototypicality: distance to the nearest centroid of a spherical k-means.

Sorscher et al. 2022, arXiv:2206.14486: a row far from every prototype is hard.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.params import Direction
from d2cli.stages.groups import Groups, one_group
from d2cli.stages.parallel import Progress, Task, no_progress, run_tasks
from d2cli.stages.vectors import Vectors

HARDER: dict[str, Direction] = {"prototypicality": "high"}
BLOCK_ROWS = 4096
MAX_ITERATIONS = 100
LEAST_GAIN = 1e-6  # of the mean cosine, for another iteration


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Where every row stands among the prototypes.

    Attributes
    ----------
    distances : float64 array, shape (n,)
        To the nearest prototype of the row's group: l2 between unit vectors, 0 to 2.
    n_prototypes : int
        Of all groups together.
    n_iterations : int
        The most that a group needed.
    converged : bool
        False if a group was still changing after 100 iterations.
    """

    distances: NDArray[np.float64]
    n_prototypes: int
    n_iterations: int
    converged: bool


def measure_prototypicality(
    vectors: Vectors,
    n_prototypes: int,
    *,
    groups: Groups | None = None,
    seed: int = 0,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Prototypes:
    """Measure how far every row is from the nearest prototype.

    Prototypes are the centroids, scaled to length 1, of a k-means under cosine similarity, begun
    by k-means++ and iterated until no row changes sides or the mean cosine gains less than 1e-6.
    A row as near to two prototypes belongs to the first. A prototype that has lost all rows moves
    to the row farthest from its own.

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
        Unit vectors, as `as_vectors` returns them for "cosine".
    n_prototypes : int
        K, of each group; at most as many as it has different rows.
    groups : Groups, optional
        Prototypes are sought inside a row's group.
    seed : int
        Of the first prototypes.
    n_threads : int
        Does not change the result.
    """
    found = np.zeros(len(vectors))
    total, most, converged = 0, 0, True
    parts = groups or one_group(len(vectors))
    for number, rows in enumerate(parts.rows()):
        own = vectors if groups is None else vectors[rows]
        rng = np.random.default_rng([seed, number])
        centers = _first_centers(own, min(n_prototypes, len(own)), rng)
        phase = "prototypes" if groups is None else f"prototypes of {parts.names[number]}"
        means = _SphericalMeans(own, centers, n_threads)
        iterations = means.fit(phase, on_progress)
        found[rows] = means.distances()
        total, most = total + len(means.centers), max(most, iterations)
        converged &= means.converged
    return Prototypes(found, total, most, converged)


def _first_centers(
    vectors: Vectors, n_centers: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Choose rows by k-means++: each with chances by its squared distance to those before."""
    chosen = [int(rng.integers(len(vectors)))]
    nearest = _squared_distances(vectors, vectors[chosen[0]])
    while len(chosen) < n_centers:
        ladder = np.cumsum(nearest)
        if ladder[-1] <= 0:  # all rows are chosen, or equal to one that is
            break
        chosen.append(int(np.searchsorted(ladder, rng.random() * ladder[-1], side="right")))
        nearest = np.minimum(nearest, _squared_distances(vectors, vectors[chosen[-1]]))
    return vectors[chosen].astype(np.float64)


def _squared_distances(vectors: Vectors, centers: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return squared distances (n,) to one centre (d,), or to one each (n, d)."""
    out = np.empty(len(vectors))
    for start in range(0, len(vectors), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        theirs = centers if centers.ndim == 1 else centers[rows]
        difference = vectors[rows].astype(np.float64) - theirs
        out[rows] = np.einsum("ij,ij->i", difference, difference)
    return out


class _SphericalMeans:
    """Lloyd's iteration on unit vectors."""

    def __init__(self, vectors: Vectors, centers: NDArray[np.float64], n_threads: int) -> None:
        self.vectors, self.centers, self.n_threads = vectors, centers, n_threads
        self.nearest = np.full(len(vectors), -1, dtype=np.int64)  # the centre of each row
        self.cosine = np.zeros(len(vectors), dtype=np.float32)  # to it
        self.converged = False

    def fit(self, phase: str, on_progress: Progress) -> int:
        """Move centres until that changes next to nothing; return the number of iterations."""
        quality = -np.inf
        for iteration in range(1, MAX_ITERATIONS + 1):
            before, worse = self.nearest.copy(), quality
            self._assign(phase, on_progress)
            quality = float(self.cosine.mean(dtype=np.float64))
            settled = 0 <= quality - worse < LEAST_GAIN
            self.converged = settled or bool((before == self.nearest).all())
            if self.converged:
                return iteration
            self._move()
        self._assign(phase, on_progress)
        return MAX_ITERATIONS

    def _assign(self, phase: str, on_progress: Progress) -> None:
        centers: NDArray[Any] = np.ascontiguousarray(self.centers.T, dtype=self.vectors.dtype)

        def assign(start: int) -> Task:
            rows = slice(start, start + BLOCK_ROWS)
            cosines = np.asarray(self.vectors[rows]) @ centers
            self.nearest[rows] = nearest = cosines.argmax(axis=1)
            self.cosine[rows] = cosines[np.arange(len(nearest)), nearest]
            yield len(nearest)

        n = len(self.vectors)
        run_tasks(
            [assign(start) for start in range(0, n, BLOCK_ROWS)],
            n_threads=self.n_threads,
            phase=phase,
            total=n,
            on_progress=on_progress,
        )

    def _move(self) -> None:
        """Move every centre to the direction of the sum of its rows."""
        sums = np.zeros_like(self.centers)
        for start in range(0, len(self.vectors), BLOCK_ROWS):
            codes = self.nearest[start : start + BLOCK_ROWS]
            order = np.argsort(codes, kind="stable")
            present, first = np.unique(codes[order], return_index=True)
            block = self.vectors[start : start + BLOCK_ROWS][order].astype(np.float64)
            sums[present] += np.add.reduceat(block, first, axis=0)
        lengths = np.sqrt((sums * sums).sum(axis=1))
        some = lengths > 0
        self.centers[some] = sums[some] / lengths[some, None]
        empty = np.flatnonzero(np.bincount(self.nearest, minlength=len(self.centers)) == 0)
        if len(empty):
            farthest = np.argsort(self.cosine, kind="stable")[: len(empty)]
            self.centers[empty] = self.vectors[farthest]

    def distances(self) -> NDArray[np.float64]:
        """Return the distance of every row to its centre."""
        out = np.empty(len(self.vectors))
        for start in range(0, len(out), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            out[rows] = np.sqrt(
                _squared_distances(self.vectors[rows], self.centers[self.nearest[rows]])
            )
        return out
