"""Exact search by the fused distance: float64 products narrow the candidates, differences decide.

``d_ij**2 = sum w_m (d_m,ij / h_m)**2 / sum w_m`` over the modalities m that both rows have; pairs
without a common modality are no neighbours.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.fusion import Modalities, Modality
from d2cli.stages.groups import Groups
from d2cli.stages.kernel import median_distance
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.recall import SAMPLE_SIZE
from d2cli.stages.room import Room

QUERY_ROWS, COLUMN_ROWS = 256, 4096  # of one block of products: 8 MB
GATHERED_VALUES = 1 << 21  # of vectors that are subtracted at a time: 16 MB
ROUNDING = 2.0**-22  # more than the relative rounding of float32 distances
SMALLEST_STEP = 2.0**-148  # and their absolute one, near 0
MARGIN = 8 * np.finfo(np.float64).eps  # of a product, times its terms and squared lengths


class FusedSpace:
    """Rows with several modalities, and distances between them.

    Parameters
    ----------
    modalities : Modalities
        Of n rows.
    bandwidths : mapping of str to float
        h_m, by name.
    """

    def __init__(self, modalities: Modalities, bandwidths: Mapping[str, float]) -> None:
        self.modalities = modalities
        self.n_samples, self.room = modalities.n_samples, modalities.room
        self.numbers = [one.numbers(self.n_samples) for one in modalities.each]
        self.units = [1 / bandwidths[one.name] for one in modalities.each]
        self.centers = [_center(one) for one in modalities.each]

    def _block(self, m: int, rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return float64 points (b, d) of some rows, 0 where there are none, and which there are.

        They are centred and in units of the bandwidth, times the root of the share.
        """
        one, numbers = self.modalities.each[m], self.numbers[m][rows]
        has = numbers >= 0
        points = np.zeros((len(rows), one.vectors.shape[1]))
        points[has] = self.room.take(one.vectors, numbers[has])
        points[has] -= self.centers[m]
        points *= np.sqrt(one.share) * self.units[m]
        return points, has

    def search(
        self,
        queries: NDArray[np.int64],
        columns: NDArray[np.int64],
        k: int,
        *,
        n_threads: int = 1,
        on_progress: Progress = no_progress,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k nearest of some rows and their distances, (q, k) each.

        Parameters
        ----------
        queries : int64 array, shape (q,)
            Rows.
        columns : int64 array, shape (c,)
            Rows that are compared with each; the query itself is left out.

        Returns
        -------
        neighbors, distances : int32 and float32 arrays, shape (q, k)
            Ascending by (distance, row); padded with -1 and infinity.
        """
        neighbors = np.full((len(queries), k), -1, dtype=np.int32)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)

        def search_block(start: int) -> Iterator[int]:
            part = slice(start, min(start + QUERY_ROWS, len(queries)))
            for found in self._candidates(queries[part], columns, k):
                if found is None:
                    yield 0
                else:
                    neighbors[part], distances[part] = self.nearest(queries[part], *found, k)
            yield part.stop - part.start

        run_tasks(
            [search_block(start) for start in range(0, len(queries), QUERY_ROWS)],
            n_threads=n_threads,
            phase="exact search",
            total=len(queries),
            on_progress=on_progress,
        )
        return neighbors, distances

    def _candidates(
        self, queries: NDArray[np.int64], columns: NDArray[np.int64], k: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]] | None]:
        """Yield None after every piece of work; at last all pairs that may be among the k nearest.

        Pairs are (position in queries, row). Products of float64 give a squared distance within a
        margin; a pair stays while it may be at most as far as the k-th, as float32 distances go.
        """
        ours = [self._block(m, queries) for m in range(len(self.units))]
        lengths = [np.einsum("ij,ij->i", points, points) for points, _ in ours]
        shares = [one.share for one in self.modalities.each]
        terms = sum(points.shape[1] + 8 for points, _ in ours) / min(shares)
        best = np.full((len(queries), k), np.inf)
        longest, limit = 0.0, np.full(len(queries), np.inf)
        found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        for first in range(0, len(columns), COLUMN_ROWS):
            rows = columns[first : first + COLUMN_ROWS]
            squares = np.zeros((len(queries), len(rows)))
            common = np.zeros_like(squares)
            for m, (points, has) in enumerate(ours):
                theirs, have = self._block(m, rows)
                length = np.einsum("ij,ij->i", theirs, theirs)
                longest = max(longest, float(length.max(initial=0.0)))
                part = points @ theirs.T
                part *= -2
                part += lengths[m][:, None]
                part += length
                both = has[:, None] & have
                squares += np.where(both, part, 0.0)
                common += shares[m] * both
            with np.errstate(divide="ignore", invalid="ignore"):
                squares /= common
            squares[common == 0] = np.inf
            squares[queries[:, None] == rows] = np.inf
            best = np.partition(np.concatenate([best, squares], axis=1), k - 1, axis=1)[:, :k]
            margin = MARGIN * terms * (sum(lengths) + len(shares) * longest)
            farthest = np.sqrt(np.maximum(best.max(axis=1), 0) + margin)
            limit = (farthest * (1 + ROUNDING) + SMALLEST_STEP) ** 2 + margin
            at, column = np.nonzero((squares <= limit[:, None]) & np.isfinite(squares))
            found.append((at, rows[column], squares[at, column]))
            yield None
        at, row, square = (np.concatenate(parts) for parts in zip(*found, strict=True))
        near = square <= limit[at]
        yield at[near], row[near]

    def nearest(
        self,
        queries: NDArray[np.int64],
        at: NDArray[np.int64],
        rows: NDArray[np.int64],
        k: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k nearest of some candidates by true distance, (q, k) each, as `search`.

        Parameters
        ----------
        queries : int64 array, shape (q,)
        at, rows : int64 arrays, shape (e,)
            ``rows[e]`` is a candidate of ``queries[at[e]]``, once, and not the query itself.
        """
        neighbors = np.full((len(queries), k), -1, dtype=np.int32)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        far = self.distances(queries[at], rows)
        order = np.lexsort((rows, far, at))
        at, rows, far = at[order], rows[order], far[order]
        starts = np.searchsorted(at, np.arange(len(queries)))
        place = np.arange(len(at)) - starts[at]
        taken = (place < k) & np.isfinite(far)
        neighbors[at[taken], place[taken]] = rows[taken]
        distances[at[taken], place[taken]] = far[taken]
        return neighbors, distances

    def distances(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the fused distance of each pair of rows, (e,); infinity without a common modality.

        Squares of differences are added up in float64 in a fixed order: d_ij = d_ji to the bit.
        """
        out = np.empty(len(left), dtype=np.float32)
        widest = max(int(one.vectors.shape[1]) for one in self.modalities.each)
        at_once = max(GATHERED_VALUES // widest, 1)
        for start in range(0, len(left), at_once):
            part = slice(start, start + at_once)
            total, common = np.zeros(len(left[part])), np.zeros(len(left[part]))
            for m, one in enumerate(self.modalities.each):
                a, b = self.numbers[m][left[part]], self.numbers[m][right[part]]
                both = (a >= 0) & (b >= 0)
                squares = squared_distances(one, a[both], b[both], self.modalities.room)
                total[both] += one.share * (squares * self.units[m] * self.units[m])
                common[both] += one.share
            with np.errstate(divide="ignore", invalid="ignore"):
                out[part] = np.where(common > 0, np.sqrt(total / common), np.inf)
        return out


def squared_distances(
    modality: Modality, left: NDArray[np.int64], right: NDArray[np.int64], room: Room
) -> NDArray[np.float64]:
    """Return the squared distance of pairs of vectors of one modality, by their numbers, (e,)."""
    difference = room.take(modality.vectors, left).astype(np.float64)
    difference -= room.take(modality.vectors, right)
    difference *= difference
    added: NDArray[np.float64] = difference.sum(axis=1)
    return added


def _center(modality: Modality) -> NDArray[np.float64]:
    """Return the mean of some vectors, (d,); distances do not depend on it, rounding does."""
    some = np.linspace(0, len(modality.vectors) - 1, min(len(modality.vectors), SAMPLE_SIZE))
    return np.asarray(modality.vectors[some.astype(np.int64)].mean(axis=0, dtype=np.float64))


def sampled_bandwidths(
    modalities: Modalities,
    k: int,
    *,
    groups: Groups | None,
    seed: int,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> dict[str, float]:
    """Return h_m of each modality, by name: the median finite, positive distance to k neighbours.

    The neighbours are those of a seeded sample of 1,000 rows that have the modality (of all, if
    there are fewer) among all that have it, within their group; searched exactly.
    """
    found = {}
    for one in modalities.each:
        alone = Modality(one.name, 1.0, one.vectors)
        n = len(one.vectors)
        space = FusedSpace(Modalities(n, (alone,), modalities.room), {one.name: 1.0})
        chosen = np.random.default_rng(seed).choice(n, min(SAMPLE_SIZE, n), replace=False)
        sample = np.sort(chosen).astype(np.int64)
        codes = np.zeros(n, dtype=np.int32)
        if groups is not None:
            codes = groups.codes if one.rows is None else groups.codes[one.rows]
        lengths = []
        for code in np.unique(codes[sample]):
            members = np.flatnonzero(codes == code).astype(np.int64)
            asked = sample[codes[sample] == code]
            how: Any = {"n_threads": n_threads, "on_progress": on_progress}
            lengths.append(space.search(asked, members, k, **how)[1])
        found[one.name] = median_distance(np.concatenate(lengths))
    return found
