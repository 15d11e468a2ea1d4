"""Exact search: float32 matrix products narrow the candidates, float64 differences decide."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import CandidateBlock
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.space import SearchSpace

QUERY_BLOCK = 4096  # queries that share one reading of all vectors
PRODUCT_ROWS, PRODUCT_COLUMNS = 512, 2048  # one matrix product: 4 MB


def _relative_error(dim: int) -> float:
    """Bound the error of ``|a|**2 + |b|**2 - 2 a.b`` in float32, relative to |a|**2 + |b|**2.

    ``dim`` roundings of the product in any order, and fewer than 16 more for the rounded vectors,
    their norms, the two additions and the final rounding of distances to float32 [1]_.

    References
    ----------
    .. [1] Higham. Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 3.1.
    """
    return 1.01 * (dim + 16) * 2.0**-24


class ExactIndex:
    """All places are compared with the query; the answer is exact whatever the BLAS rounds."""

    name = "exact"
    effort = 0

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def search(
        self,
        queries: NDArray[np.int32],
        k: int,
        *,
        n_threads: int = 1,
        on_progress: Progress = no_progress,
        last: bool = False,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k nearest other places of each query and their distances, (q, k) each.

        Ascending by (distance, place); padded with -1 and infinity if there are fewer than k.
        """
        neighbors = np.full((len(queries), k), -1, dtype=np.int32)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        # No more than QUERY_BLOCK at once, and enough blocks for all threads to have work.
        size = min(QUERY_BLOCK, -(-len(queries) // (2 * n_threads)) or 1)

        def search_block(start: int) -> Iterator[int]:
            stop = min(start + size, len(queries))
            block = queries[start:stop]
            scan = self._scan(block, k)
            for _ in scan.steps:
                yield 0
            neighbors[start:stop], distances[start:stop] = self.space.nearest(
                block, *scan.finish(), k
            )
            yield stop - start

        run_tasks(
            [search_block(start) for start in range(0, len(queries), size)],
            n_threads=n_threads,
            phase="exact search",
            total=len(queries),
            on_progress=on_progress,
        )
        return neighbors, distances

    def _scan(self, queries: NDArray[np.int32], k: int) -> "_Scan":
        return _Scan(self.space, queries, min(k, max(self.space.n_places - 1, 1)))


class _Scan:
    """One pass of a block of queries over all places."""

    def __init__(self, space: SearchSpace, queries: NDArray[np.int32], k: int) -> None:
        self.space = space
        self.queries = queries
        self.error = _relative_error(space.dim)
        self.points = space.block(queries)
        norms = np.einsum("ij,ij->i", self.points, self.points, dtype=np.float64)
        margin = (2 * self.error * norms).astype(np.float32)
        self.starts = range(0, len(queries), PRODUCT_ROWS)
        self.blocks = [CandidateBlock(margin[s : s + PRODUCT_ROWS], k) for s in self.starts]
        self.steps = self._steps()

    def _steps(self) -> Iterator[None]:
        for first in range(0, self.space.n_places, PRODUCT_COLUMNS):
            columns = self.space.block(slice(first, first + PRODUCT_COLUMNS))
            norms = np.einsum("ij,ij->i", columns, columns, dtype=np.float64)
            # Squares of the tiniest float32 coordinates are lost: 2**-120 is more than all of them.
            lower = (norms * (1 - self.error) - 2.0**-120).astype(np.float32)
            upper = (norms * (1 + self.error) + 2.0**-120).astype(np.float32)
            transposed = np.ascontiguousarray(columns.T)
            for start, candidates in zip(self.starts, self.blocks, strict=True):
                part = slice(start, start + PRODUCT_ROWS)
                candidates.scan(
                    self.points[part] @ transposed, lower, upper, self.queries[part], first
                )
            yield

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the candidates of all queries as (indptr, places)."""
        indptr, columns = [np.zeros(1, dtype=np.int64)], []
        for block in self.blocks:
            ends, places = block.finish()
            indptr.append(ends[1:] + indptr[-1][-1])
            columns.append(places)
        return np.concatenate(indptr), np.concatenate(columns)
