"""Candidates by hnswlib, the same on every run; the only importer of hnswlib.

hnswlib builds a different graph on every run when threads insert together. So the positions are
dealt to a fixed number of shards, each built by one thread in a fixed order, and every query asks
all shards. Positions follow k-means cells, so that walks stay in the cache; a random head goes in
first, so that walks between cells are short.
"""

from collections.abc import Iterator

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import keep_nearest
from d2cli.stages.approximate import Take
from d2cli.stages.cell_layout import Layout
from d2cli.stages.parallel import Progress, Task, no_progress, run_tasks

M = 24
EF_CONSTRUCTION = 60
LAST_EFFORT = 3072
SHARDS_FROM = (30_000, 400_000, 2_000_000)  # rows from which there are 2, 4 and 8 shards
HEAD = 0.05  # share of the rows inserted first, in random order
PIECE = 512  # positions inserted or queried between two looks at the stop flag


class HnswSource:
    """A fixed set of hnswlib indexes over one layout.

    Parameters
    ----------
    layout : Layout
        Of different points: equal ones would break the navigability of the graph.
    k : int
        Neighbours that will be asked for; the effort starts at half as many again.
    seed : int
        Of the random levels and the head.
    n_threads : int
        Shards built at a time; does not change the result.
    """

    name = "hnsw"
    refines = True

    def __init__(
        self,
        layout: Layout,
        k: int,
        *,
        seed: int,
        n_threads: int = 1,
        on_progress: Progress = no_progress,
    ) -> None:
        self.layout = layout
        self.effort = 3 * k // 2
        n = len(layout.places)
        n_shards = 2 ** sum(n >= rows for rows in SHARDS_FROM)
        self.sizes = [len(range(shard, n, n_shards)) for shard in range(n_shards)]
        self.indexes = []
        for size in self.sizes:
            index = hnswlib.Index(space="l2", dim=layout.points.shape[1])
            index.init_index(
                max_elements=size, M=M, ef_construction=EF_CONSTRUCTION, random_seed=seed
            )
            index.set_num_threads(1)
            self.indexes.append(index)

        def build(shard: int) -> Iterator[int]:
            own = np.arange(shard, n, n_shards, dtype=np.int32)
            rng = np.random.default_rng([seed, shard])
            first = rng.random(len(own)) < HEAD
            own = np.concatenate([rng.permutation(own[first]), own[~first]])
            for start in range(0, len(own), PIECE):
                piece = own[start : start + PIECE]
                points = layout.room.take(layout.points, piece)
                self.indexes[shard].add_items(points, piece, num_threads=1)
                yield len(piece)

        run_tasks(
            [build(shard) for shard in range(n_shards)],
            n_threads=n_threads,
            phase="building hnsw",
            total=n,
            on_progress=on_progress,
        )

    def try_harder(self) -> bool:
        """Raise the candidates by two fifths; False if they are all places, or 3,072."""
        most = min(LAST_EFFORT, len(self.layout.places))
        if self.effort >= most:
            return False
        self.effort = min(self.effort * 7 // 5 + 1, most)
        return True

    def wanted(self, k: int, *, narrowed: bool) -> int:
        """Return the effort: it is the number of candidates."""
        return max(self.effort, k)

    def tasks(self, asked: NDArray[np.int32], wanted: int, take: Take) -> list[Task]:
        """See `d2cli.stages.approximate.Source`; hnsw's ef is what a shard is asked for."""
        # A shard holds its share of the nearest, give or take; one more for the query itself.
        a_shard = min(wanted + 1, wanted // len(self.indexes) + 12)
        for index in self.indexes:
            index.set_ef(a_shard)

        def search(start: int) -> Iterator[int]:
            part = slice(start, min(start + PIECE, len(asked)))
            points = self.layout.room.take(self.layout.points, asked[part])
            answers = [
                _query(index, points, min(a_shard, size))
                for index, size in zip(self.indexes, self.sizes, strict=True)
            ]
            numbers = np.concatenate([numbers for numbers, _ in answers], axis=1)
            away = np.concatenate([away for _, away in answers], axis=1)
            take(part, keep_nearest(numbers, away, asked[part], wanted))
            yield part.stop - part.start

        return [search(start) for start in range(0, len(asked), PIECE)]

    def give_up(self) -> None:
        """Free the indexes, which hold a copy of the points."""
        self.indexes.clear()


def _query(
    index: hnswlib.Index, points: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ask one shard for positions and squared distances; -1 and infinity where it has too few."""
    try:
        labels, away = index.knn_query(points, k=k, num_threads=1)
        return np.asarray(labels).astype(np.int32), np.asarray(away, dtype=np.float32)
    except RuntimeError:  # one of the queries reaches fewer than k: ask one by one
        numbers = np.full((len(points), k), -1, dtype=np.int32)
        distances = np.full((len(points), k), np.inf, dtype=np.float32)
        for row, point in enumerate(points):
            least, most = 0, k  # as many as are reached lie between them
            asked = k
            while least < most:
                try:
                    labels, away = index.knn_query(point[None], k=asked, num_threads=1)
                except RuntimeError:
                    most = asked - 1
                else:
                    least = asked
                    numbers[row, :asked], distances[row, :asked] = labels[0], away[0]
                asked = (least + most + 1) // 2
        return numbers, distances
