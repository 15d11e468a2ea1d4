"""The k-nearest-neighbour graph: vectors to neighbours and true distances."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.params import GraphParams
from d2cli.stages._neighbors import spread_to_twins
from d2cli.stages.adjacency import Adjacency, undirected
from d2cli.stages.approximate import ApproximateIndex
from d2cli.stages.cell_layout import Layout, lay_out, lay_out_on_disk
from d2cli.stages.cells import CellSource
from d2cli.stages.groups import Groups
from d2cli.stages.hnsw import HnswSource
from d2cli.stages.kept import Keep, Twins, keep_cells
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.projection import principal_axes, project
from d2cli.stages.recall import Recall, RecallCheck, check_recall, raise_effort
from d2cli.stages.room import IN_MEMORY, Room, release
from d2cli.stages.scan import exact_index
from d2cli.stages.space import Measure, SearchSpace, build_space, distinct_rows
from d2cli.stages.vectors import (
    SMALLEST_DIFFERENCE,
    SPREAD_THEM,
    TOO_ALIKE,
    Searchable,
    unpack_codes,
)
from d2cli.stages.whitening import Whitening

# Up to here exact search is at most as slow as hnsw on two threads: tests/bench/crossover.py.
EXACT_ROWS = 32_000  # distinct rows of a group
EXACT_ROWS_AT_WIDTH_1 = 280_000  # and at most this divided by the root of the width
MOST_PROBES_OF_FAST = 96  # cells; where more are needed, hnsw takes over


class Index(Protocol):
    """What all backends offer: the k nearest other places of some places."""

    name: str

    @property
    def effort(self) -> int:
        """What was spent on a query: hnsw's ef, cells probed, 0 for exact search."""

    def search(
        self,
        queries: NDArray[np.int32],
        k: int,
        *,
        n_threads: int,
        on_progress: Progress,
        last: bool = False,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return neighbours and distances, (q, k) each, ascending by (distance, place).

        The ``last`` search may free what others would need.
        """


@dataclass(frozen=True, eq=False)
class KnnGraph:
    """The k nearest neighbours of every row, itself excluded.

    Attributes
    ----------
    neighbors : int32 array, shape (n, k)
        Row numbers, ascending by (distance, row); -1 pads rows with fewer than k neighbours.
    distances : float32 array, shape (n, k)
        In the metric's unit, not squared; infinity where padded.
    groups : Groups or None
        The groups that neighbours were searched within.
    backend : str
        "exact", "hnsw", "cells", or such as "exact+hnsw" where groups took different ones.
    recall : Recall
        Measured, or 1 by construction.
    ef_search : int
        The largest number of candidates that hnsw was asked for; 0 without hnsw.
    n_duplicates : int
        Rows whose vector equals that of a lower row of their group.
    probes : int
        The largest number of cells that a row was compared with; 0 without cells.
    whitening : Whitening or None
        What the vectors were whitened by; new ones are to be whitened so.
    """

    neighbors: NDArray[np.int32]
    distances: NDArray[np.float32]
    groups: Groups | None
    backend: str
    recall: Recall
    ef_search: int = 0
    n_duplicates: int = 0
    probes: int = 0
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        if self.neighbors.shape != self.distances.shape or self.neighbors.ndim != 2:
            raise ValueError("neighbors and distances must be of one shape (n, k)")

    @property
    def n_samples(self) -> int:
        """Rows, n."""
        return len(self.neighbors)

    @property
    def n_neighbors(self) -> int:
        """Neighbours stored a row, k."""
        return int(self.neighbors.shape[1])

    @cached_property
    def adjacency(self) -> Adjacency:
        """The undirected union, which messages travel on; computed once."""
        return undirected(self.neighbors, self.distances)


def build_graph(
    vectors: Searchable,
    params: GraphParams,
    *,
    groups: Groups | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
    room: Room = IN_MEMORY,
    keep: Keep | None = None,
) -> KnnGraph:
    """Find the k nearest neighbours of every row.

    A row is left out of its own list by number, so equal rows are neighbours at distance 0. Equal
    rows are searched as one and spread out again, which keeps hnsw correct among duplicates.

    Parameters
    ----------
    vectors : array, shape (n, d)
        As `as_searchable` returns them for ``params.metric``.
    params : GraphParams
    groups : Groups, optional
        Neighbours are searched within a row's group only.
    n_threads : int
        Does not change the result.
    room : Room
        Where the vectors live; does not change the result.
    keep : callable, optional
        Takes the rows of each group that is searched approximately, and its `KeptCells`.

    Returns
    -------
    KnnGraph
        Rows of groups with k rows or fewer are padded with -1 and infinity.

    Raises
    ------
    InputError
        If there are different rows, but none differs by more than about 1e-41 from the others.
    """
    n, k = len(vectors), params.n_neighbors
    if groups is None:
        everything = np.arange(n, dtype=np.int64)
        return _search_group(vectors, everything, params, n_threads, on_progress, room, keep)
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    backends, duplicates, effort, probes = set(), 0, 0, 0
    found, measured, before = 0.0, 0, 0
    for rows in groups.rows():
        told = _of_all_rows(on_progress, before, len(rows), n)
        part = _search_group(vectors, rows, params, n_threads, told, room, keep)
        row_numbers = rows.astype(np.int32)
        neighbors[rows] = np.where(part.neighbors >= 0, row_numbers[part.neighbors], np.int32(-1))
        distances[rows] = part.distances
        backends.add(part.backend)
        duplicates += part.n_duplicates
        effort, probes = max(effort, part.ef_search), max(probes, part.probes)
        found += part.recall.value * len(rows)
        measured += part.recall.sample_size
        before += len(rows)
    recall = Recall(value=found / n, sample_size=measured, target=params.recall)
    backend = "+".join(sorted(backends))
    return KnnGraph(neighbors, distances, groups, backend, recall, effort, duplicates, probes)


def _of_all_rows(on_progress: Progress, before: int, n_group: int, n: int) -> Progress:
    """Return a progress of one group that counts in rows of all groups."""
    if n_group == n or on_progress is no_progress:
        return on_progress

    def tell(phase: str, done: int, total: int) -> None:
        on_progress(phase, before + done * n_group // max(total, 1), n)

    return tell


def _search_group(
    vectors: Searchable,
    rows: NDArray[np.int64],
    params: GraphParams,
    n_threads: int,
    on_progress: Progress,
    room: Room,
    keep: Keep | None,
) -> KnnGraph:
    """Search within the rows of one group; neighbours are positions in ``rows``."""
    n_rows = len(vectors)
    places, indptr, members = distinct_rows(vectors, rows, n_threads=n_threads, room=room)
    exactly = searches_exactly(len(places), vectors.shape[1], params)
    counts_bits, measure = params.metric == "hamming", measure_of(params)
    if counts_bits and not exactly:
        vectors = unpack_codes(vectors.view(np.uint8), places, room=room)
        places, measure = np.arange(len(places), dtype=np.int64), "l2"
    space = build_space(vectors, places, n_threads=n_threads, room=room, measure=measure)
    if len(rows) == n_rows and space.scale * SMALLEST_DIFFERENCE >= 1:
        raise InputError(TOO_ALIKE, hint=SPREAD_THEM)
    k = params.n_neighbors
    k_places = max(min(k, space.n_places - 1), 1)
    queries = np.arange(space.n_places, dtype=np.int32)
    how: Any = {"n_threads": n_threads, "on_progress": on_progress}
    index: Index
    if exactly:
        index, check = exact_index(space), None
    else:
        check = check_recall(space, k_places, target=params.recall, seed=params.seed, **how)
        index = _approximate_index(space, k_places, params, check, **how)
        if keep is not None:
            effort = index.effort if index.name == "cells" else 0
            twins = Twins(indptr, members)
            keep(rows, keep_cells(space, index.layout, check, effort, twins, k))
    neighbors, distances = index.search(queries, k_places, last=True, **how)
    recall = Recall(value=1.0, sample_size=0, target=params.recall)
    if check is not None:
        recall = check.measure(distances[check.sample])
        if counts_bits:  # squared l2 of bits
            distances = np.rint(np.square(distances, dtype=np.float64)).astype(np.float32)
    # Positions equal places only if there are neither duplicates nor missing columns.
    if space.n_places < len(rows) or k_places < k:
        neighbors, distances = spread_to_twins(neighbors, distances, indptr, members, len(rows), k)
    return KnnGraph(
        neighbors,
        distances,
        None,
        index.name,
        recall,
        ef_search=index.effort if index.name == "hnsw" else 0,
        probes=index.effort if index.name == "cells" else 0,
        n_duplicates=len(rows) - space.n_places,
    )


def measure_of(params: GraphParams) -> Measure:
    """Return what vectors as `as_searchable` returns them are compared by."""
    return params.metric if params.metric in ("l1", "hamming") else "l2"


def searches_exactly(n_places: int, dim: int, params: GraphParams) -> bool:
    """Return whether so many different vectors of a width are searched exactly."""
    if params.metric == "l1":
        return True
    if params.backend in ("exact", "hnsw", "cells"):
        return params.backend == "exact"
    return n_places <= min(EXACT_ROWS, EXACT_ROWS_AT_WIDTH_1 / math.sqrt(dim))


def _lay_out(space: SearchSpace, seed: int, *, n_threads: int, on_progress: Progress) -> Layout:
    """Lay out what candidates are searched in; on disk where the vectors are."""
    how: Any = {"n_threads": n_threads, "on_progress": on_progress}
    axes, room = principal_axes(space, seed=seed), space.room
    if not room.on_disk:
        points = project(space, axes, **how)
        release(space.vectors)
        return replace(lay_out(points, seed=seed, **how), axes=axes)
    if axes is None:  # points are made of vectors whenever they are needed
        shape = (space.n_places, space.dim)
        return lay_out_on_disk(space.block, shape, room, seed=seed, **how)
    points = project(space, axes, **how)
    release(space.vectors)

    def block(places: slice | NDArray[np.int32]) -> NDArray[np.float32]:
        taken = points[places] if isinstance(places, slice) else room.take(points, places)
        room.have_read(points, taken)
        return taken

    return replace(lay_out_on_disk(block, points.shape, room, seed=seed, **how), axes=axes)


def _approximate_index(
    space: SearchSpace,
    k: int,
    params: GraphParams,
    check: RecallCheck,
    *,
    n_threads: int,
    on_progress: Progress,
) -> ApproximateIndex:
    """Return an index whose effort reaches the target recall on the sample, if it can."""
    how: Any = {"n_threads": n_threads, "on_progress": on_progress}
    layout = _lay_out(space, params.seed, **how)
    if params.backend in ("cells", "fast"):
        if params.backend == "cells":
            source = CellSource(layout, space=space)
        else:
            source = CellSource(layout, last_effort=MOST_PROBES_OF_FAST)
        index = ApproximateIndex(space, source)
        recall = raise_effort(index, k, check, n_threads=n_threads)
        if recall.reached or params.backend == "cells":
            return index
    index = ApproximateIndex(space, HnswSource(layout, k, seed=params.seed, **how))
    raise_effort(index, k, check, n_threads=n_threads)
    return index
