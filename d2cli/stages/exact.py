"""Exact search: float32 matrix products narrow the candidates, float64 differences decide."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import CandidateBlock
from d2cli.stages.bounds import bound_norms
from d2cli.stages.pairs import AllPairs, candidate_bytes
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.space import SearchSpace

QUERY_BLOCK = 4096  # queries that share one reading of all vectors
PRODUCT_ROWS, PRODUCT_COLUMNS = 512, 2048  # one matrix product: 4 MB
MOST_CANDIDATE_BYTES = 1 << 28  # of all places at once


class ExactIndex:
    """All places are compared with the query; the answer is exact whatever the BLAS rounds.

    With ``n_targets`` only so many places, the first, are answers; the others can but ask.
    """

    name = "exact"
    effort = 0

    def __init__(self, space: SearchSpace, *, n_targets: int | None = None) -> None:
        self.space = space
        self.n_targets = space.n_places if n_targets is None else n_targets

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
        everything = len(queries) == self.space.n_places == self.n_targets
        if everything and fits_at_once(self.space.n_places, k):
            pairs = AllPairs(self.space, self._reachable(k))
            how: Any = {"n_threads": n_threads, "total": len(queries), "on_progress": on_progress}
            run_tasks(pairs.tasks(n_threads), phase="exact search", **how)
            run_tasks(pairs.rank(neighbors, distances), phase="ranking", **how)
            return neighbors, distances
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
        return _Scan(self.space, queries, self._reachable(k), self.n_targets)

    def _reachable(self, k: int) -> int:
        if self.n_targets < self.space.n_places:
            return min(k, self.n_targets)
        return min(k, max(self.space.n_places - 1, 1))


def fits_at_once(n_places: int, k: int) -> bool:
    """Return whether all places are searched together: their candidates may take 256 MB."""
    return n_places * candidate_bytes(k) <= MOST_CANDIDATE_BYTES


class _Scan:
    """One pass of a block of queries over all places."""

    def __init__(
        self, space: SearchSpace, queries: NDArray[np.int32], k: int, n_targets: int
    ) -> None:
        self.space = space
        self.n_targets = n_targets
        self.queries = queries
        self.points = space.block(queries)
        margin = bound_norms(self.points).margin
        self.starts = range(0, len(queries), PRODUCT_ROWS)
        self.blocks = [CandidateBlock(margin[s : s + PRODUCT_ROWS], k) for s in self.starts]
        self.steps = self._steps()

    def _steps(self) -> Iterator[None]:
        for first in range(0, self.n_targets, PRODUCT_COLUMNS):
            columns = self.space.block(slice(first, min(first + PRODUCT_COLUMNS, self.n_targets)))
            limits = bound_norms(columns, rounding=self.space.rounding).limits
            transposed = np.ascontiguousarray(columns.T)
            for start, candidates in zip(self.starts, self.blocks, strict=True):
                part = slice(start, start + PRODUCT_ROWS)
                products = self.points[part] @ transposed
                candidates.scan(products, *limits, self.queries[part], first)
            yield

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the candidates of all queries as (indptr, places)."""
        indptr, columns = [np.zeros(1, dtype=np.int64)], []
        for block in self.blocks:
            ends, places = block.finish()
            indptr.append(ends[1:] + indptr[-1][-1])
            columns.append(places)
        return np.concatenate(indptr), np.concatenate(columns)
