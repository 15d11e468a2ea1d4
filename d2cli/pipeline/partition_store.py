"""What tasks of a partitioned graph keep in a store, by name, and partitions read from it."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.artifacts import Artifact
from d2cli.files.parts import Parts, quiet_parts, values_of
from d2cli.files.pieces import read_piece
from d2cli.files.remote import Place
from d2cli.pipeline.steps import array_bytes
from d2cli.stages.lists import pack
from d2cli.stages.partition_recall import Nearest
from d2cli.stages.partition_search import Order
from d2cli.stages.places import Places
from d2cli.stages.vector_partitions import Coordinates, Division

HELD_BYTES = 256 << 20  # of partitions that a process has read


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


def queries_name(number: int, probes: int, chunk: int) -> dict[str, Any]:
    """Return what a chunk of the places is called that `search_partition` sends to others."""
    return {"stage": "queries", "partition": number, "probes": probes, "chunk": chunk}


def lists_name(number: int, probes: int) -> dict[str, Any]:
    """Return what the last part of `search_partition` is called; 0 cells are an exact search."""
    return {"stage": "lists", "partition": number, "probes": probes}


def answers_name(number: int, probes: int) -> dict[str, Any]:
    """Return what the part of `answer_partition` is called."""
    return {"stage": "answers", "partition": number, "probes": probes}


def merged_name(number: int, probes: int) -> dict[str, Any]:
    """Return what the part of `merge_partition` is called."""
    return {"stage": "merged", "partition": number, "probes": probes}


def asked_by(parts: Parts, number: int, probes: int) -> list[list[int]]:
    """Return the partitions that the places of another ask, by chunks.

    Raises
    ------
    ResourceError
        If its lists are not there, or are damaged.
    """
    asked: list[list[int]] = parts.results_of(**lists_name(number, probes))["asked"]
    return asked


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
    rows = np.concatenate([piece["row"] for piece in pieces])
    first = pieces[0]["vector"]
    vectors = np.empty((len(rows), first.shape[1]), dtype=first.dtype)
    start = 0
    while pieces:  # one after the other, so that there is hardly ever a second copy
        own = pieces.popleft()["vector"]
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
