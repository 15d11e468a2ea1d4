"""Add rows to a graph and remove others, without searching for the neighbours of all again.

New rows search among all rows. Old rows adopt new ones that are nearer than their k-th neighbour.
Rows that listed one that is gone search again. All other lists stay as they are.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.params import GraphParams
from d2cli.stages.adoption import adopt
from d2cli.stages.exact import ExactIndex
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.groups import Groups
from d2cli.stages.lists import NOBODY, Packed, merge, pack, spread, unpack
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.recall import Recall
from d2cli.stages.room import IN_MEMORY, Room
from d2cli.stages.space import SearchSpace, build_space, distinct_rows
from d2cli.stages.vectors import SMALLEST_DIFFERENCE, SPREAD_THEM, TOO_ALIKE, Vectors


@dataclass(frozen=True, eq=False)
class OldLists:
    """What is left of a graph: the lists of its survivors, and which of them lack neighbours.

    Attributes
    ----------
    packed : uint64 array, shape (s, k)
        See `d2cli.stages.lists`; rows are numbered as they are from now on.
    torn : bool array, shape (s,)
        Who had a neighbour that is gone.
    """

    packed: Packed
    torn: NDArray[np.bool_]


def leave(graph: KnnGraph, survivors: NDArray[np.int64]) -> OldLists:
    """Take rows out of a graph.

    Parameters
    ----------
    graph : KnnGraph
        Over n rows.
    survivors : int64 array, shape (s,), ascending
        The rows that stay; they are numbered 0 ... s - 1 from now on.
    """
    if len(survivors) == graph.n_samples:
        packed = pack(graph.neighbors, graph.distances)
        return OldLists(packed, np.zeros(len(packed), dtype=np.bool_))
    number = np.full(graph.n_samples + 1, -1, dtype=np.int32)  # the last is that of nobody
    number[survivors] = np.arange(len(survivors), dtype=np.int32)
    before = graph.neighbors[survivors]
    neighbors = number[before]
    gone = neighbors < 0
    distances = np.where(gone, np.float32(np.inf), graph.distances[survivors])
    packed = np.sort(pack(neighbors, distances), axis=1)  # who stays keeps the order
    torn: NDArray[np.bool_] = np.any(gone & (before >= 0), axis=1)
    return OldLists(packed, torn)


def update_graph(
    graph: KnnGraph,
    vectors: Vectors,
    survivors: NDArray[np.int64],
    params: GraphParams,
    *,
    groups: Groups | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
    room: Room = IN_MEMORY,
) -> KnnGraph:
    """Return the graph of the survivors of a graph and of rows added to them.

    Parameters
    ----------
    graph : KnnGraph
        Over the old rows; ``params.n_neighbors`` wide.
    vectors : array, shape (n, d)
        As `as_vectors` returns them: those of the survivors, then those added.
    survivors : int64 array, shape (s,), ascending
        The old rows that stay.
    params : GraphParams
        Of the result. Where it is searched exactly, the lists of ``graph`` are exact, too.
    groups : Groups, optional
        Of all n rows; survivors of one group were in one group.
    n_threads, on_progress, room
        See `d2cli.stages.graph.build_graph`; the result does not depend on them.

    Returns
    -------
    KnnGraph
        If exact, the very one that `build_graph` makes of ``vectors``.

    Raises
    ------
    InputError
        If all rows are so alike that float32 distances hardly tell them apart.
    """
    n, k = len(vectors), params.n_neighbors
    how: Any = {"n_threads": n_threads, "on_progress": on_progress, "room": room}
    old = leave(graph, survivors)
    packed = np.full((n, k), NOBODY, dtype=np.uint64)
    packed[: len(survivors)] = old.packed
    asking = np.ones(n, dtype=np.bool_)  # who is added, or lacks neighbours
    asking[: len(survivors)] = old.torn
    duplicates = 0
    for rows in [np.arange(n, dtype=np.int64)] if groups is None else groups.rows():
        part = _Part(vectors, rows, params, how)
        duplicates += len(rows) - part.space.n_places
        lists = part.update(_to_places(packed[rows], rows), asking[rows], len(survivors))
        packed[rows] = _to_rows(lists, rows)
    neighbors, distances = unpack(packed)
    recall = Recall(value=1.0, sample_size=0, target=params.recall)
    return KnnGraph(neighbors, distances, groups, "exact", recall, n_duplicates=duplicates)


def _to_places(packed: Packed, rows: NDArray[np.int64]) -> Packed:
    """Turn neighbours into positions in ``rows``, where all of them are."""
    if len(rows) and rows[-1] == len(rows) - 1:
        return packed
    neighbors, distances = unpack(packed)
    positions = np.searchsorted(rows, neighbors).astype(np.int32)
    return pack(np.where(neighbors < 0, np.int32(-1), positions), distances)


def _to_rows(packed: Packed, rows: NDArray[np.int64]) -> Packed:
    """Undo `_to_places`."""
    if len(rows) and rows[-1] == len(rows) - 1:
        return packed
    positions, distances = unpack(packed)
    numbers = rows.astype(np.int32)
    return pack(np.where(positions < 0, np.int32(-1), numbers[positions]), distances)


class _Part:
    """The rows that are searched together: those of a group, or all."""

    def __init__(
        self, vectors: Vectors, rows: NDArray[np.int64], params: GraphParams, how: dict[str, Any]
    ) -> None:
        self.vectors, self.rows, self.params, self.how = vectors, rows, params, how
        where: Any = {"n_threads": how["n_threads"], "room": how["room"]}
        places, self.indptr, self.members = distinct_rows(vectors, rows, **where)
        self.space: SearchSpace = build_space(vectors, places, **where)
        if len(rows) == len(vectors) and self.space.scale * SMALLEST_DIFFERENCE >= 1:
            raise InputError(TOO_ALIKE, hint=SPREAD_THEM)

    def update(self, lists: Packed, asking: NDArray[np.bool_], n_old: int) -> Packed:
        """Return the lists of all rows, by position.

        Parameters
        ----------
        lists : uint64 array, shape (g, k)
            Of the rows before, by position.
        asking : bool array, shape (g,)
            Who is added, or lacks neighbours.
        n_old : int
            Rows from this number on are added.
        """
        if not asking.any():
            return lists
        k, u = self.params.n_neighbors, self.space.n_places
        place_of = np.empty(len(self.rows), dtype=np.int32)
        place_of[self.members] = np.repeat(np.arange(u, dtype=np.int32), np.diff(self.indptr))
        asked = np.unique(place_of[asking])
        if 2 * len(asked) > u:  # as cheap, and the same
            return self._build()
        lists = lists.copy()
        share: Any = {name: self.how[name] for name in ("n_threads", "on_progress")}
        found = ExactIndex(self.space).search(asked, max(min(k, u - 1), 1), **share)
        self._take_in(lists, asked, *found, own=True)
        new = np.unique(place_of[self.rows >= n_old])
        if not len(new):
            return lists
        others = np.setdiff1d(np.arange(u, dtype=np.int32), asked, assume_unique=True)
        limits = unpack(lists[self.members[self.indptr[others]], -1])[1]
        self._take_in(lists, *adopt(self.space, others, limits, new, k, **share), own=False)
        return lists

    def _take_in(
        self,
        lists: Packed,
        asked: NDArray[np.int32],
        neighbors: NDArray[np.int32],
        distances: NDArray[np.float32],
        *,
        own: bool,
    ) -> None:
        """Merge the neighbours of some places into the lists of their members."""
        k = lists.shape[1]
        rows, more = spread(asked, neighbors, distances, self.indptr, self.members, k, own=own)
        lists[rows] = merge(lists[rows], more)

    def _build(self) -> Packed:
        """Return the lists of a graph that is built anew."""
        part = self.vectors[self.rows] if len(self.rows) < len(self.vectors) else self.vectors
        exact = replace(self.params, backend="exact")
        graph = build_graph(part, exact, **self.how)
        return pack(graph.neighbors, graph.distances)
