"""The tasks of a partitioned graph: each reads partitions from a store, and keeps its result there.

A task is known by what its part is called; whoever finds that part need not run it. It returns
the bytes of columns that it has read from the store and kept there.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.artifacts import Artifact
from d2cli.files.parts import Parts, quiet_parts, values_of
from d2cli.files.pieces import keep_piece, read_piece
from d2cli.files.remote import Place
from d2cli.pipeline.steps import array_bytes
from d2cli.stages.lists import pack, unpack
from d2cli.stages.partition_recall import Nearest, Sample, look_in_partition
from d2cli.stages.partition_search import (
    LARGE_CELL,
    Cells,
    Order,
    find_cells,
    one_cell,
    search_cells,
    search_exactly,
)
from d2cli.stages.places import Places, find_places, spread_lists
from d2cli.stages.vector_partitions import Coordinates, Division

HELD_BYTES = 256 << 20  # of partitions that a process has read

Traffic = tuple[int, int]  # bytes read, and bytes kept


@dataclass(frozen=True, eq=False)
class Shared:
    """What all tasks of one graph know.

    Attributes
    ----------
    store : Path or Remote
    of : str
        Key of the graph.
    division : Division
    pieces : tuple of (int, int)
        First row and the row after the last of each piece.
    numbers : tuple of int
        Partitions that have rows; not known to `divide_rows`.
    n_neighbors, seed : int
    exact : bool
        There are no cells.
    """

    store: Place
    of: str
    division: Division
    pieces: tuple[tuple[int, int], ...]
    numbers: tuple[int, ...]
    n_neighbors: int
    seed: int
    exact: bool

    @property
    def coordinates(self) -> Coordinates:
        """Where points are."""
        return self.division.coordinates

    def parts(self) -> Parts:
        """Return the store's parts."""
        return quiet_parts(self.store, self.of)


def piece_name(start: int, stop: int) -> dict[str, Any]:
    """Return what the part of `divide_rows` is called."""
    return {"stage": "piece", "start": start, "stop": stop}


def cells_name(number: int, *, exact: bool) -> dict[str, Any]:
    """Return what the first part of `index_partition` is called."""
    return {"stage": "cells", "partition": number, "exact": exact}


def centers_name(number: int, *, exact: bool) -> dict[str, Any]:
    """Return what the second part of `index_partition` is called, which is kept last."""
    return {"stage": "centers", "partition": number, "exact": exact}


def sample_name(number: int) -> dict[str, Any]:
    """Return what the part of `ask_partition` is called."""
    return {"stage": "sample", "partition": number}


def lists_name(number: int, probes: int) -> dict[str, Any]:
    """Return what the part of `search_partition` is called; 0 cells are an exact search."""
    return {"stage": "lists", "partition": number, "probes": probes}


def see_store(store: Place, of: str) -> bool:
    """Return whether a mark is seen that the process that began the run has left in the store."""
    return quiet_parts(store, of).find(stage="mark") is not None


def divide_rows(shared: Shared, start: int, vectors: NDArray[Any]) -> Traffic:
    """Keep the piece of some rows, sorted by partition; ``start`` is the first of them."""
    parts = shared.parts()
    partitions = shared.division.assign(vectors)
    stop = start + len(vectors)
    keep_piece(
        parts,
        np.arange(start, stop, dtype=np.int64),
        vectors,
        partitions,
        shared.division.n_partitions,
        **piece_name(start, stop),
    )
    return parts.read, parts.kept


def index_partition(shared: Shared, number: int) -> Traffic:
    """Find the places and the cells of a partition."""
    parts, coordinates = shared.parts(), shared.coordinates
    rows, vectors = read_rows(shared, parts, number)
    there = find_places(rows, vectors)
    if shared.exact:
        order, points = one_cell(there.n_places, coordinates.width), None
    else:
        points = coordinates.points(there.vectors)  # sorted by the next line
        cells, centers = shared.division.cells(there.vectors, number)
        n_rows = shared.pieces[-1][1]
        smaller = n_rows > LARGE_CELL * len(shared.division.centroids)
        order = find_cells(points, cells, centers, seed=shared.seed, smaller=smaller)
    place = np.empty(len(rows), dtype=np.int64)
    place[np.searchsorted(rows, there.members)] = np.repeat(np.arange(there.n_places), there.counts)
    position = np.empty(there.n_places, dtype=np.int64)
    position[order.places] = np.arange(there.n_places)
    columns: dict[str, NDArray[Any]] = {"row": rows, "place": place, "position": position[place]}
    if points is not None and coordinates.axes is not None:
        columns["point"] = points[position[place]]
    parts.keep(columns, **cells_name(number, exact=shared.exact))
    parts.keep(
        {"size": np.diff(order.starts), "center": order.centers},
        **centers_name(number, exact=shared.exact),
    )
    return parts.read, parts.kept


def ask_partition(shared: Shared, sample: Sample, number: int) -> Traffic:
    """Keep the exact neighbours that a sample has in a partition."""
    parts = shared.parts()
    reader = StoreReader(shared, parts, number)
    centers = parts.require(**centers_name(number, exact=shared.exact))
    points = reader.points(number) if shared.coordinates.axes is not None else None
    order = order_of(centers, reader.order(number))
    found = look_in_partition(sample, reader.places(number), order, points, shared.n_neighbors)
    neighbors, distances = unpack(found.lists)
    columns = {
        "neighbors": neighbors,
        "distances": distances,
        "cell": found.cells,
        "square": found.squares,
    }
    if points is not None:
        columns["limit"] = found.limits
    parts.keep(columns, **sample_name(number))
    return parts.read, parts.kept


def search_partition(shared: Shared, cells: Cells | None, number: int, probes: int) -> Traffic:
    """Keep the neighbours of all rows of a partition; without cells they are searched exactly."""
    parts, k = shared.parts(), shared.n_neighbors
    reader = StoreReader(shared, parts, number)
    own = reader.places(number)
    if cells is None:
        lists = search_exactly(number, reader, list(shared.numbers), k)
        searched = np.full(len(lists), len(shared.numbers), dtype=np.int64)
    else:
        narrowed = shared.coordinates.axes is not None
        lists, searched = search_cells(number, reader, cells, k, probes=probes, narrowed=narrowed)
    rows, lists = spread_lists(own, lists)
    neighbors, distances = unpack(lists)
    parts.keep(
        {
            "row": rows,
            "neighbors": neighbors,
            "distances": distances,
            "searched": np.repeat(searched, own.counts),
        },
        results={"duplicates": len(rows) - own.n_places},
        **lists_name(number, probes),
    )
    return parts.read, parts.kept


# --- what is in the parts -------------------------------------------------------------------------


def order_of(centers: Artifact, places: NDArray[np.int32]) -> Order:
    """Return the order that a part of `index_partition` holds, but for its places."""
    starts = np.concatenate([[0], np.cumsum(values_of(centers, "size"))]).astype(np.int64)
    return Order(places, starts, values_of(centers, "center"))


def nearest_in(part: Artifact, first_cell: int) -> Nearest:
    """Return what a part of `ask_partition` holds, its cells counted from ``first_cell``."""
    cells = values_of(part, "cell")
    limits = np.empty((len(cells), 0), dtype=np.float32)
    if "limit" in part.table.column_names:
        limits = values_of(part, "limit")
    return Nearest(
        pack(values_of(part, "neighbors"), values_of(part, "distances")),
        np.where(cells >= 0, cells + np.int32(first_cell), np.int32(-1)),
        values_of(part, "square"),
        limits,
    )


def read_rows(shared: Shared, parts: Parts, number: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the rows (m,) of a partition, ascending, and their vectors (m, d)."""
    pieces = deque(read_piece(parts, number, **piece_name(*one)) for one in shared.pieces)
    rows = np.concatenate([rows for rows, _ in pieces])
    vectors = np.empty((len(rows), pieces[0][1].shape[1]), dtype=pieces[0][1].dtype)
    start = 0
    while pieces:  # one after the other, so that there is hardly ever a second copy
        _, own = pieces.popleft()
        vectors[start : start + len(own)] = own
        start += len(own)
    return rows, vectors


@dataclass(frozen=True, eq=False)
class _Layout:
    """A partition but for its vectors; ``leaders`` are the first rows of places."""

    indptr: NDArray[np.int64]
    members: NDArray[np.int64]
    leaders: NDArray[np.int64]
    order: NDArray[np.int32]
    points: NDArray[np.float32] | None


# Of this process, the last ones at the end: a worker runs many tasks that read the same partitions.
_held: "OrderedDict[tuple[str, str, int, str], Any]" = OrderedDict()


def forget_partitions() -> None:
    """Hold no partitions any more."""
    _held.clear()


@dataclass(frozen=True, eq=False)
class StoreReader:
    """Partitions that are read from a store, where they are not at hand.

    Attributes
    ----------
    shared : Shared
    parts : Parts
    own : int
        The partition that stays at hand.
    """

    shared: Shared
    parts: Parts
    own: int
    _mine: dict[Any, Any] = field(default_factory=dict)

    def places(self, number: int) -> Places:
        """See `d2cli.stages.partition_search.Reader`."""
        layout = self._layout(number)
        return Places(self._vectors(number), layout.indptr, layout.members)

    def order(self, number: int) -> NDArray[np.int32]:
        """See `d2cli.stages.partition_search.Reader`."""
        return self._layout(number).order

    def points(self, number: int) -> NDArray[np.float32]:
        """See `d2cli.stages.partition_search.Reader`."""
        layout = self._layout(number)
        if layout.points is not None:
            return layout.points

        def compute() -> NDArray[np.float32]:
            return self.shared.coordinates.points(self._vectors(number)[layout.order])

        points: NDArray[np.float32] = self._hold("points", number, compute)
        return points

    def _layout(self, number: int) -> _Layout:
        layout: _Layout = self._hold("layout", number, lambda: self._read_layout(number))
        return layout

    def _vectors(self, number: int) -> NDArray[Any]:
        vectors: NDArray[Any] = self._hold("vectors", number, lambda: self._read_vectors(number))
        return vectors

    def _hold(self, what: str, number: int, make: Callable[[], Any]) -> Any:  # noqa: ANN401
        name = (str(self.shared.store), self.shared.of, number, what)
        value = self._mine.get(name, _held.get(name))
        if value is None:
            while _held and array_bytes(list(_held.values())) > HELD_BYTES:
                _held.popitem(last=False)
            value = make()
        _held[name] = value
        _held.move_to_end(name)
        if number == self.own:
            self._mine[name] = value
        return value

    def _read_layout(self, number: int) -> _Layout:
        part = self.parts.require(**cells_name(number, exact=self.shared.exact))
        rows, place = values_of(part, "row"), values_of(part, "place")
        leaders = np.unique(place, return_index=True)[1]
        order = np.argsort(values_of(part, "position")[leaders]).astype(np.int32)
        points = None
        if "point" in part.table.column_names:
            points = values_of(part, "point")[leaders[order]]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(place))]).astype(np.int64)
        return _Layout(indptr, rows[np.argsort(place, kind="stable")], leaders, order, points)

    def _read_vectors(self, number: int) -> NDArray[Any]:
        rows, vectors = read_rows(self.shared, self.parts, number)
        leaders = self._layout(number).leaders
        return vectors if len(leaders) == len(rows) else vectors[leaders]
