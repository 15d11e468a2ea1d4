"""Approximate search with hnswlib, the same on every run; the only importer of hnswlib.

hnswlib builds a different graph on every run when threads insert together. So the places are dealt
to a fixed number of shards, each built by one thread in a fixed order, every query asks all shards,
and true distances decide between their answers. Neighbour lists are kept, the index never is.
"""

from collections.abc import Iterator

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import nearest_of
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.space import SearchSpace

M = 16
EF_CONSTRUCTION = 80
FIRST_EF_SEARCH = 24
LAST_EF_SEARCH = 3072
SHARD_ROWS = 5_000  # a space below twice this has one shard
MOST_SHARDS = 4
PIECE = 512  # places inserted or queried between two looks at the stop flag


class HnswIndex:
    """A fixed set of hnswlib indexes over one search space.

    Parameters
    ----------
    space : SearchSpace
        Different vectors: equal ones would break the navigability of the graph.
    seed : int
        Of the random levels.
    n_threads : int
        Shards built at a time; does not change the result.
    """

    name = "hnsw"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        n_threads: int = 1,
        on_progress: Progress = no_progress,
    ) -> None:
        self.space = space
        self.ef_search = FIRST_EF_SEARCH
        n_shards = min(MOST_SHARDS, max(1, space.n_places // SHARD_ROWS))
        self.shards = [
            np.arange(shard, space.n_places, n_shards, dtype=np.int32) for shard in range(n_shards)
        ]
        self.indexes = []
        for shard in self.shards:
            index = hnswlib.Index(space="l2", dim=space.dim)
            index.init_index(
                max_elements=len(shard), M=M, ef_construction=EF_CONSTRUCTION, random_seed=seed
            )
            index.set_num_threads(1)
            self.indexes.append(index)

        def build(index: hnswlib.Index, shard: NDArray[np.int32]) -> Iterator[int]:
            for start in range(0, len(shard), PIECE):
                piece = shard[start : start + PIECE]
                index.add_items(space.block(piece), piece, num_threads=1)
                yield len(piece)

        run_tasks(
            [build(*pair) for pair in zip(self.indexes, self.shards, strict=True)],
            n_threads=n_threads,
            phase="building hnsw",
            total=space.n_places,
            on_progress=on_progress,
        )

    def search(
        self,
        queries: NDArray[np.int32],
        k: int,
        *,
        n_threads: int = 1,
        on_progress: Progress = no_progress,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return about the k nearest other places of each query, and their distances, (q, k) each.

        As `ExactIndex.search`, but a neighbour may be missed; ``ef_search`` is the effort.
        """
        neighbors = np.full((len(queries), k), -1, dtype=np.int32)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        # One more for the query itself, one for a pair that float32 puts in the wrong order.
        wanted = k + 2
        for index in self.indexes:
            index.set_ef(max(self.ef_search, wanted))

        def search_block(start: int) -> Iterator[int]:
            block = queries[start : start + PIECE]
            points = self.space.block(block)
            found = [
                _query(index, points, min(wanted, len(shard)))
                for index, shard in zip(self.indexes, self.shards, strict=True)
            ]
            candidates = np.ascontiguousarray(np.concatenate(found, axis=1))
            ends = np.arange(len(block) + 1, dtype=np.int64) * candidates.shape[1]
            part = slice(start, start + len(block))
            neighbors[part], distances[part] = nearest_of(
                self.space.vectors, self.space.rows, block, ends, candidates.ravel(), k
            )
            yield len(block)

        run_tasks(
            [search_block(start) for start in range(0, len(queries), PIECE)],
            n_threads=n_threads,
            phase="searching hnsw",
            total=len(queries),
            on_progress=on_progress,
        )
        return neighbors, distances


def _query(index: hnswlib.Index, points: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Ask one shard; -1 where it cannot reach k places."""
    try:
        labels, _ = index.knn_query(points, k=k, num_threads=1)
        return np.asarray(labels).astype(np.int32)
    except RuntimeError:  # one of the queries reaches fewer than k: ask one by one, k falling
        answer = np.full((len(points), k), -1, dtype=np.int32)
        for row, point in enumerate(points):
            for fewer in range(k, 0, -1):
                try:
                    labels, _ = index.knn_query(point[None], k=fewer, num_threads=1)
                except RuntimeError:
                    continue
                answer[row, :fewer] = labels[0]
                break
        return answer
