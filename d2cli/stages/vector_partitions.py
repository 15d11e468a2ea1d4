"""Rows divided into partitions by the k-means centroids of a sample: near rows are together.

The partition of a row depends on its vector alone: not on the rows beside it, or on how a matrix
product rounds. So equal rows share a partition, whatever the batches that rows come in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import nearest_of, smallest_columns
from d2cli.stages.cell_layout import (
    CELL_ROWS,
    MOST_CELLS,
    SAMPLE_A_CELL,
    chain,
    fit_centers,
    nearest_centers,
)
from d2cli.stages.space import SearchSpace
from d2cli.stages.vectors import Vectors

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

    def one_by_one(self, vectors: Vectors) -> NDArray[np.float32]:
        """Do as `points`, but what a row gives does not depend on the rows beside it."""
        whole = self.whole(vectors)
        return whole if self.axes is None else np.stack([row @ self.axes for row in whole])


@dataclass(frozen=True, eq=False)
class Division:
    """Which partition a row belongs to: that of the nearest centroid.

    Attributes
    ----------
    coordinates : Coordinates
    centroids : float32 array, shape (c, p)
        On the axes.
    partitions : int32 array, shape (c,)
        The partition of each centroid, ascending; one may have none, and then no rows.
    n_partitions : int
    """

    coordinates: Coordinates
    centroids: NDArray[np.float32]
    partitions: NDArray[np.int32]
    n_partitions: int

    def assign(self, vectors: Vectors) -> NDArray[np.int32]:
        """Return the partition of each row (b,) of vectors (b, d).

        Of centroids at the same distance, as float32, the first counts.
        """
        return self.partitions[self._nearest(vectors, self.centroids)]

    def cells(self, vectors: Vectors, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the cell of each row (b,) of a partition, and the centroids of its cells."""
        own = self.centroids[self.partitions == number]
        return self._nearest(vectors, own), own

    def _nearest(self, vectors: Vectors, centroids: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the nearest centroid of each row; where products do not tell, float64 sums do."""
        norms = np.einsum("ij,ij->i", centroids, centroids)
        transposed = np.ascontiguousarray(centroids.T)
        nearest = np.empty(len(vectors), dtype=np.int32)
        for start in range(0, len(vectors), PIECE):
            block = vectors[start : start + PIECE]
            points = self.coordinates.points(block)
            products = points @ transposed
            two = smallest_columns(products, norms, min(2, len(centroids)))
            part = nearest[start : start + PIECE]
            part[:] = two[:, 0]
            if len(centroids) == 1:
                continue
            least, next_ = (norms[at] - 2 * products[np.arange(len(at)), at] for at in two.T)
            unclear = np.flatnonzero(~(next_ - least > self._slack(points, norms)))
            if len(unclear):
                part[unclear] = _settle(self.coordinates.one_by_one(block[unclear]), centroids)
        return nearest

    def _slack(
        self, points: NDArray[np.float32], norms: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return more than rounding may move differences of squared distances by, (b,)."""
        lengths = np.sqrt(np.einsum("ij,ij->i", points, points))
        # A product, its norms and a distance in float32 are rounded by less; so are the axes.
        part = (len(self.coordinates.center) + 16) * 2.0**-22
        if self.coordinates.axes is not None:
            part *= np.sqrt(points.shape[1])
        slack: NDArray[np.float32] = np.float32(part) * (lengths + np.sqrt(norms.max())) ** 2
        return slack


def _settle(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the nearest centroid of each point (b, p) by float64 sums, the first of equal ones."""
    n = len(centroids)
    found, _ = nearest_of(
        np.concatenate([centroids, points]),
        np.arange(n + len(points), dtype=np.int64),
        (n + np.arange(len(points))).astype(np.int32),
        np.arange(len(points) + 1, dtype=np.int64) * n,
        np.tile(np.arange(n, dtype=np.int32), len(points)),
        1,
    )
    return found[:, 0]


def divide(
    space: SearchSpace, axes: NDArray[np.float32] | None, n_partitions: int, *, seed: int
) -> Division:
    """Fit centroids to a sample, and make partitions of about as many of its rows each.

    There are as many centroids as an undivided search has cells. Those that are near each other go
    to one partition, or to one and the next.

    Parameters
    ----------
    space : SearchSpace
        Of all rows.
    axes : float32 array, shape (d, p), optional
        See `d2cli.stages.projection.principal_axes`.
    n_partitions : int
        At most as many as rows.
    seed : int
        Of the sample and the first centroids.
    """
    n, coordinates = space.n_places, Coordinates(space.center, space.scale, axes)
    n_centroids = max(min(MOST_CELLS, n // CELL_ROWS), n_partitions)
    rng = np.random.default_rng(seed)
    size = min(n, SAMPLE_A_CELL * n_centroids)
    sample = space.block(np.sort(rng.choice(n, size, replace=False)).astype(np.int32))
    if axes is not None:
        sample = sample @ axes
    centroids = fit_centers(sample, n_centroids, rng)
    centroids = centroids[chain(centroids)]
    counts = np.bincount(nearest_centers(sample, centroids), minlength=n_centroids)
    middles = np.cumsum(counts) - counts / 2
    partitions = np.minimum(middles * n_partitions / size, n_partitions - 1).astype(np.int32)
    return Division(coordinates, centroids, partitions, n_partitions)
