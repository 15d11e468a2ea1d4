"""A graph in partitions: tasks for each, whose results are in a store before they count.

The vectors are read batch by batch, checked, and divided into partitions; from then on only tasks
look at them. This process holds numbers for each cell and the neighbour lists that the graph is.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError, ResourceError
from d2cli.files.artifacts import Artifact, seal
from d2cli.files.cache import cache_folder
from d2cli.files.inputs import Embedding, FoundEmbedding
from d2cli.files.modalities import FoundModalities
from d2cli.files.parts import values_of
from d2cli.files.pieces import counts_of
from d2cli.files.scratch import DiskRoom, scratch_folder
from d2cli.files.stages import graph_results, graph_table
from d2cli.params import GraphParams
from d2cli.pipeline.engine import LEAST_ROWS, EngineParams, Work, working
from d2cli.pipeline.part_tasks import Call, PartTasks
from d2cli.pipeline.partition_store import (
    Shared,
    answers_name,
    asked_by,
    cells_name,
    centers_name,
    forget_partitions,
    lists_name,
    merged_name,
    nearest_in,
    order_of,
    piece_name,
    queries_name,
    sample_name,
)
from d2cli.pipeline.partition_tasks import (
    answer_partition,
    ask_partition,
    divide_rows,
    index_partition,
    merge_partition,
    search_partition,
    see_store,
)
from d2cli.pipeline.run import Run
from d2cli.stages.graph import KnnGraph, searches_exactly
from d2cli.stages.partition_recall import Nearest, Sample, needed_probes
from d2cli.stages.partition_search import Cells, join_cells
from d2cli.stages.projection import principal_axes
from d2cli.stages.recall import SAMPLE_SIZE, Recall, share_found
from d2cli.stages.space import build_space
from d2cli.stages.vector_partitions import divide
from d2cli.stages.vectors import (
    SMALLEST_DIFFERENCE,
    SPREAD_THEM,
    TOO_ALIKE,
    Vectors,
    as_searchable,
    width_of,
)

PIECE_BYTES, LEAST_PIECE_BYTES = 16 << 20, 4 << 20  # of vectors that one task divides
PIECES_AT_ONCE = 16  # that are on their way to tasks
RESIDENT = 64 << 20  # bytes of vectors that stay in memory while they are read
INDEX_NAMES = (cells_name, centers_name)


def partitions_for(
    engine: EngineParams, params: GraphParams, found: FoundEmbedding | FoundModalities
) -> GraphParams:
    """Return the parameters with the number of partitions; without parts, as they are.

    Left out, it is one for each 50,000 rows: a graph depends on it, so it must not depend on the
    cluster.

    Raises
    ------
    ParameterError
        If there are more partitions than rows, or what is searched cannot be divided.
    """
    if not engine.in_parts:
        return params
    n = found.rows.n_rows
    engine.check(n)
    for what, there in (
        ("a graph of several embeddings", isinstance(found, FoundModalities)),
        ("--within", found.within is not None),
    ):
        if there:
            raise ParameterError(
                f"{what} is not searched in partitions", hint="leave out --engine and --partitions"
            )
    return replace(params, partitions=engine.partitions or max(n // LEAST_ROWS, 1))


def room_for_pieces(cache_dir: str | None) -> DiskRoom:
    """Return where vectors live that only pass through: on disk."""
    return DiskRoom(RESIDENT, lambda: scratch_folder(cache_folder(cache_dir)))


def make_partitioned(
    run: Run,
    data: Embedding,
    params: GraphParams,
    key: str,
    engine: EngineParams,
    cache_dir: str | None,
) -> Artifact:
    """Check the vectors, build the graph in partitions, seal it.

    Parameters
    ----------
    run : Run
    data : Embedding
    params : GraphParams
        With ``partitions``.
    key : str
    engine : EngineParams
        Where tasks run; does not change the graph.
    cache_dir : str, optional
        Where results of tasks are kept if no store is named.
    """
    settled = replace(engine, partitions=params.partitions)
    try:
        vectors, whitening = as_searchable(
            data.vectors,
            params.metric,
            shrinkage=params.shrinkage,
            seed=params.seed,
            room=run.room,
            n_threads=run.n_threads,
            on_progress=run.on_progress,
        )
        with working(run, settled, key, len(vectors), cache_dir, "centroids") as work:
            tasks = PartTasks(work, run.on_progress, engine.engine == "ray")
            try:
                graph, searched = _Building(
                    run, work, cast("Vectors", vectors), params, tasks
                ).build()
            finally:
                forget_partitions()
            work.told.update(tasks_found=tasks.found)
    except InputError as error:
        raise error.at(data.where) from None
    run.afterwards.append(work.parts.discard)
    graph = replace(graph, whitening=whitening)
    return seal(
        "graph",
        graph_table(graph, data.rows.ids, None),
        key=key,
        parameters=params.recorded(),
        inputs=data.digests,
        results={
            **graph_results(graph),
            "dim": width_of(vectors),
            "partitions_searched": {
                "mean": float(searched.mean()),
                "largest": int(searched.max()),
            },
        },
    )


@dataclass(eq=False)
class _Building:
    """The stages of one graph, one after the other."""

    run: Run
    work: Work
    vectors: Vectors
    params: GraphParams
    tasks: PartTasks

    def build(self) -> tuple[KnnGraph, NDArray[np.int64]]:
        """Return the graph, and in how many partitions each row was searched."""
        self._check_store()
        shared = self._divide()
        handle = self.work.executor.put(shared)
        self.tasks.run_each(
            "indexing",
            shared.numbers,
            lambda number: (index_partition, handle, number),
            lambda number: [part_name(number, exact=shared.exact) for part_name in INDEX_NAMES],
        )
        if shared.exact:
            recall = Recall(value=1.0, sample_size=0, target=self.params.recall)
            return self._graph(shared, handle, None, 0, recall)
        cells, sample, nearest = self._ask(shared, handle)
        probes = needed_probes(sample, nearest, cells, self.params.recall)
        while probes is not None and probes < cells.n_cells:
            graph, searched = self._graph(shared, handle, cells, probes, None)
            recall = Recall(
                value=share_found(graph.distances[sample.rows], nearest.distances),
                sample_size=len(sample.rows),
                target=self.params.recall,
            )
            if recall.reached:
                return replace(graph, recall=recall), searched
            probes = probes * 3 // 2 + 1
        recall = Recall(value=1.0, sample_size=0, target=self.params.recall)
        return self._graph(shared, handle, None, 0, recall)

    def _check_store(self) -> None:
        """Refuse a store that is none, or that some machine does not see."""
        parts, executor = self.work.parts, self.work.executor
        if parts.store is None:
            raise ResourceError(
                "there is no folder for results of tasks", hint="name one with --store"
            )
        if isinstance(parts.store, Path):
            parts.store = parts.store.absolute()
        parts.keep({"row": np.zeros(1, dtype=np.int64)}, stage="mark")
        if not all(executor.everywhere(see_store, parts.store, parts.of)):
            raise ParameterError(
                f"{parts.store}: is not seen by all nodes of the cluster",
                hint="name a shared folder, or such as s3://bucket/parts, with --store",
            )

    def _divide(self) -> Shared:
        """Write the partitions; rows are read in their order, a piece at a time."""
        run, params, n = self.run, self.params, len(self.vectors)
        assert params.partitions is not None
        rows = np.arange(n, dtype=np.int64)
        space = build_space(self.vectors, rows, n_threads=run.n_threads, room=run.room)
        if space.scale * SMALLEST_DIFFERENCE >= 1:
            raise InputError(TOO_ALIKE, hint=SPREAD_THEM)
        exact = searches_exactly(n, self.vectors.shape[1], params)
        axes = None if exact else principal_axes(space, seed=params.seed)
        row_bytes = int(self.vectors.shape[1]) * self.vectors.itemsize
        step = max(n * row_bytes // params.partitions, LEAST_PIECE_BYTES)
        step = max(min(step, PIECE_BYTES) // row_bytes, 1)
        assert self.work.parts.store is not None
        shared = Shared(
            self.work.parts.store,
            self.work.parts.of,
            divide(space, axes, params.partitions, seed=params.seed),
            tuple((start, min(start + step, n)) for start in range(0, n, step)),
            (),
            params.n_neighbors,
            params.seed,
            exact,
        )
        handle = self.work.executor.put(shared)

        def call(piece: tuple[int, int]) -> Call:
            block = self.vectors[slice(*piece)]
            copy = np.array(block)
            run.room.have_read(self.vectors, block)
            return divide_rows, handle, piece[0], copy

        def there(piece: tuple[int, int]) -> bool:
            return self.tasks.there([piece_name(*piece)])

        pieces = [(partial(call, piece), partial(there, piece)) for piece in shared.pieces]
        self.tasks.run("dividing", pieces, PIECES_AT_ONCE)
        parts = self.work.parts
        counts = sum(counts_of(parts, **piece_name(*piece)) for piece in shared.pieces)
        return replace(shared, numbers=tuple(np.flatnonzero(counts).tolist()))

    def _ask(self, shared: Shared, handle: Any) -> tuple[Cells, Sample, Nearest]:  # noqa: ANN401
        """Return all cells, a sample of rows, and its exact neighbours."""
        n = len(self.vectors)
        assert self.params.partitions is not None
        orders: list[Any] = [None] * self.params.partitions
        for number in shared.numbers:
            centers = self.tasks.collect(**centers_name(number, exact=False))
            orders[number] = order_of(centers, np.empty(0, np.int32))
        cells = join_cells(orders, shared.coordinates.width)
        rng = np.random.default_rng(self.params.seed)
        rows = np.sort(rng.choice(n, min(SAMPLE_SIZE, n), replace=False)).astype(np.int64)
        vectors = self.run.room.take(self.vectors, rows)
        sample = Sample(rows, vectors, shared.coordinates.points(vectors))
        asked = self.work.executor.put(sample)
        self.tasks.run_each(
            "measuring recall",
            shared.numbers,
            lambda number: (ask_partition, handle, asked, number),
            lambda number: [sample_name(number)],
        )
        nearest: Nearest | None = None
        for number in shared.numbers:
            part = self.tasks.collect(**sample_name(number))
            one = nearest_in(part, int(cells.first[number]))
            nearest = one if nearest is None else nearest.merge(one)
        assert nearest is not None
        return cells, sample, nearest

    def _search(
        self,
        shared: Shared,
        handle: Any,  # noqa: ANN401
        cells: Cells | None,
        probes: int,
    ) -> dict[int, dict[str, Any]]:
        """Search all rows; return by partition what the parts with their lists are called."""
        put, parts = self.work.executor.put(cells), self.work.parts
        names = {number: lists_name(number, probes) for number in shared.numbers}

        def call(number: int) -> Call:
            return search_partition, handle, put, number, probes

        def there(number: int) -> bool:
            part = parts.find(**names[number])
            chunks = [] if part is None else part.meta["results"]["asked"]
            kept = [queries_name(number, probes, chunk) for chunk in range(len(chunks))]
            return part is not None and self.tasks.there(kept)

        searches = [(partial(call, number), partial(there, number)) for number in shared.numbers]
        self.tasks.run("searching", searches, len(searches))
        asked = {number: asked_by(parts, number, probes) for number in names}
        asking: dict[int, list[tuple[int, int]]] = {}
        for number, chunks in asked.items():
            for chunk, others in enumerate(chunks):
                for other in others:
                    asking.setdefault(other, []).append((number, chunk))
        self.tasks.run_each(
            "answering",
            sorted(asking),
            lambda number: (answer_partition, handle, put, number, probes, tuple(asking[number])),
            lambda number: [answers_name(number, probes)],
        )
        merged = {number: tuple(chain(*chunks)) for number, chunks in asked.items() if chunks}
        self.tasks.run_each(
            "merging",
            list(merged),
            lambda number: (merge_partition, handle, number, probes, merged[number]),
            lambda number: [merged_name(number, probes)],
        )
        return names | {number: merged_name(number, probes) for number in merged}

    def _graph(
        self,
        shared: Shared,
        handle: Any,  # noqa: ANN401
        cells: Cells | None,
        probes: int,
        recall: Recall | None,
    ) -> tuple[KnnGraph, NDArray[np.int64]]:
        """Search all rows; return the graph, and in how many partitions each row was searched."""
        names = self._search(shared, handle, cells, probes)
        n, k = len(self.vectors), self.params.n_neighbors
        neighbors = np.empty((n, k), dtype=np.int32)
        distances = np.empty((n, k), dtype=np.float32)
        searched = np.empty(n, dtype=np.int64)
        duplicates = 0
        for number in shared.numbers:
            part = self.tasks.collect(**names[number])
            rows = values_of(part, "row")
            neighbors[rows] = values_of(part, "neighbors")
            distances[rows] = values_of(part, "distances")
            searched[rows] = values_of(part, "searched")
            duplicates += part.meta["results"]["duplicates"]
        graph = KnnGraph(
            neighbors,
            distances,
            None,
            "exact" if cells is None else "cells",
            recall or Recall(value=0.0, sample_size=0, target=self.params.recall),
            n_duplicates=duplicates,
            probes=probes,
        )
        return graph, searched
