"""Rows divided into partitions by the k-means centroids of a sample: near rows are together.

The partition of a row depends on its vector alone: not on the rows beside it, or on how a matrix
product rounds. So equal rows share a partition, whatever the batches that rows come in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import nearest_of
from d2cli.stages.partition import chain, fit_centers, nearest_centers
from d2cli.stages.space import SearchSpace
from d2cli.stages.vectors import Vectors

CENTROIDS_A_PART = 16  # so that partitions are of about one size
MOST_CENTROIDS = 256  # beside one for each partition
SAMPLE_A_CENTROID = 64  # rows that k-means is fitted to
PIECE = 2048  # rows compared with all centroids at a time


@dataclass(frozen=True, eq=False)
class Coordinates:
    """How vectors are brought into safe float32, and onto the axes that candidates are searched on.

    Attributes
    ----------
    center : float64 array, shape (d,)
        See `d2cli.stages.space.SearchSpace`; so is ``scale``.
    scale : float
    axes : float32 array, shape (d, p), or None
        See `d2cli.stages.projection.principal_axes`.
    """

    center: NDArray[np.float64]
    scale: float
    axes: NDArray[np.float32] | None

    @property
    def width(self) -> int:
        """Of a point, p."""
        return len(self.center) if self.axes is None else self.axes.shape[1]

    def whole(self, vectors: Vectors) -> NDArray[np.float32]:
        """Return vectors (b, d) centred and scaled, float32 (b, d); each by itself."""
        block = vectors - self.center
        block *= self.scale
        return block.astype(np.float32)

    def points(self, vectors: Vectors) -> NDArray[np.float32]:
        """Return vectors (b, d) on the axes, float32 (b, p)."""
        points = np.empty((len(vectors), self.width), dtype=np.float32)
        for start in range(0, len(vectors), PIECE):
            part = self.whole(vectors[start : start + PIECE])
            points[start : start + PIECE] = part if self.axes is None else part @ self.axes
        return points


@dataclass(frozen=True, eq=False)
class Division:
    """Which partition a row belongs to: that of the nearest centroid.

    Attributes
    ----------
    centroids : float32 array, shape (c, d)
        Centred and scaled.
    partitions : int32 array, shape (c,)
        The partition of each centroid, ascending; one may have none, and then no rows.
    n_partitions : int
    """

    centroids: NDArray[np.float32]
    partitions: NDArray[np.int32]
    n_partitions: int

    def assign(self, whole: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the partition of each row (b,); ``whole`` (b, d) as `Coordinates.whole`.

        Of centroids at the same distance, as float32, the first counts.
        """
        nearest = np.empty(len(whole), dtype=np.int32)
        for start in range(0, len(whole), PIECE):
            nearest[start : start + PIECE] = self._nearest(whole[start : start + PIECE])
        return self.partitions[nearest]

    def _nearest(self, whole: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the nearest centroid; where products do not tell, float64 sums do."""
        centroids, n = self.centroids, len(self.centroids)
        norms = np.einsum("ij,ij->i", centroids, centroids)
        lengths = np.einsum("ij,ij->i", whole, whole)
        values = norms - 2 * (whole @ centroids.T)
        # More than a float32 product, its norms and a distance in float32 are rounded by.
        slack = (whole.shape[1] + 16) * 2.0**-22 * (np.sqrt(lengths) + np.sqrt(norms.max())) ** 2
        near = values <= (values.min(axis=1) + slack)[:, None]
        counts = near.sum(axis=1)
        nearest: NDArray[np.int32] = near.argmax(axis=1).astype(np.int32)
        unclear = np.flatnonzero(counts > 1)
        if len(unclear):
            both = np.concatenate([centroids, whole[unclear]])
            found, _ = nearest_of(
                both,
                np.arange(len(both), dtype=np.int64),
                (n + np.arange(len(unclear))).astype(np.int32),
                np.concatenate([[0], np.cumsum(counts[unclear])]).astype(np.int64),
                np.nonzero(near[unclear])[1].astype(np.int32),
                1,
            )
            nearest[unclear] = found[:, 0]
        return nearest


def divide(space: SearchSpace, n_partitions: int, *, seed: int) -> Division:
    """Fit centroids to a sample, and make partitions of about as many of its rows each.

    Centroids that are near each other go to one partition, or to one and the next.

    Parameters
    ----------
    space : SearchSpace
        Of all rows.
    n_partitions : int
        At most as many as rows.
    seed : int
        Of the sample and the first centroids.
    """
    n = space.n_places
    n_centroids = min(CENTROIDS_A_PART * n_partitions, max(n_partitions, MOST_CENTROIDS), n)
    rng = np.random.default_rng([seed, n_partitions])
    size = min(n, SAMPLE_A_CENTROID * n_centroids)
    sample = space.block(np.sort(rng.choice(n, size, replace=False)).astype(np.int32))
    centroids = fit_centers(sample, n_centroids, rng)
    centroids = centroids[chain(centroids)]
    counts = np.bincount(nearest_centers(sample, centroids), minlength=n_centroids)
    middles = np.cumsum(counts) - counts / 2
    partitions = np.minimum(middles * n_partitions / size, n_partitions - 1).astype(np.int32)
    return Division(centroids, partitions, n_partitions)
