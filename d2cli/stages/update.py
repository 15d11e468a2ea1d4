"""Add rows to a graph and remove others, without searching for the neighbours of all again.

New rows search among all rows. Old rows adopt new ones that are nearer than their k-th neighbour.
Rows that listed one that is gone search again. All other lists stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.params import GraphParams
from d2cli.stages.adoption import adopt
from d2cli.stages.cell_update import CellUpdate
from d2cli.stages.graph import KnnGraph, build_graph, measure_of, searches_exactly
from d2cli.stages.groups import Groups
from d2cli.stages.kept import KeptCells, Twins, fresh_cells, marked, renew_sample
from d2cli.stages.lists import (
    NOBODY,
    Packed,
    merge,
    pack,
    spread,
    take_out,
    to_positions,
    to_rows,
    unpack,
)
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.recall import Recall, share_found
from d2cli.stages.room import IN_MEMORY, Room
from d2cli.stages.scan import exact_index
from d2cli.stages.space import SearchSpace, build_space, distinct_rows
from d2cli.stages.vectors import (
    SMALLEST_DIFFERENCE,
    SPREAD_THEM,
    TOO_ALIKE,
    Searchable,
    unpack_codes,
)

FALLEN_BEHIND = 0.003  # in recall, of what hnsw reached


@dataclass(frozen=True, eq=False)
class Updated:
    """What came of an update.

    Attributes
    ----------
    graph : KnnGraph
    kept : dict of str to KeptCells
        By the name of the group, "" without groups; of those that are searched in cells.
    """

    graph: KnnGraph
    kept: dict[str, KeptCells]


def update_graph(
    graph: KnnGraph,
    vectors: Searchable,
    survivors: NDArray[np.int64],
    params: GraphParams,
    *,
    groups: Groups | None = None,
    kept: Mapping[str, KeptCells] | None = None,
    lacking: NDArray[np.bool_] | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
    room: Room = IN_MEMORY,
) -> Updated:
    """Return the graph of the survivors of a graph and of rows added to them.

    Parameters
    ----------
    graph : KnnGraph
        Over the old rows; ``params.n_neighbors`` wide.
    vectors : array, shape (n, d)
        As `as_searchable` returns them: those of the survivors, then those added.
    survivors : int64 array, shape (s,), ascending
        The old rows that stay.
    params : GraphParams
        Of the result. "exact" needs a graph that was built exactly; such a graph stays exact
        unless this is "cells".
    groups : Groups, optional
        Of all n rows; survivors of one group were in one group.
    kept : mapping of str to KeptCells, optional
        What was kept of ``graph``; what is missing is made anew.
    lacking : bool array, shape (s,), optional
        Survivors that search again whether or not they have lost a neighbour.
    n_threads, on_progress, room
        See `d2cli.stages.graph.build_graph`; the result does not depend on them.

    Returns
    -------
    Updated
        If exact, the graph is the very one that `build_graph` makes of ``vectors``.

    Raises
    ------
    InputError
        If all rows are so alike that float32 distances hardly tell them apart.
    """
    if params.backend == "exact" and graph.backend != "exact":
        raise ValueError("an approximate graph does not become exact by an update")
    exactly = graph.backend == "exact" and params.backend != "cells"
    if params.metric == "hamming" and not exactly:
        bits = unpack_codes(
            vectors.view(np.uint8), np.arange(len(vectors), dtype=np.int64), room=room
        )
        by_bits = replace(params, metric="l2")
        updated = update_graph(
            replace(graph, distances=_root(graph.distances)),
            bits,
            survivors,
            by_bits,
            groups=groups,
            kept=kept,
            lacking=lacking,
            n_threads=n_threads,
            on_progress=on_progress,
            room=room,
        )
        counts = np.rint(np.square(updated.graph.distances, dtype=np.float64))
        found = replace(updated.graph, distances=counts.astype(np.float32))
        return replace(updated, graph=found)
    n, k, n_old = len(vectors), params.n_neighbors, len(survivors)
    how: Any = {"n_threads": n_threads, "on_progress": on_progress, "room": room}
    packed, asking = carry_over(graph, survivors, n, k)
    if lacking is not None:
        asking[:n_old] |= lacking
    keeping: dict[str, KeptCells] = {}
    backends = set(graph.backend.split("+"))
    duplicates = probes = measured = 0
    right = 0.0
    every = [np.arange(n, dtype=np.int64)] if groups is None else groups.rows()
    for name, rows in zip(("",) if groups is None else groups.names, every, strict=True):
        part = _Part(vectors, rows, params, how, exactly, _aim(graph, params))
        known = (kept or {}).get(name)
        before = None
        if known is not None and not part.exactly and known.fits(k, int(vectors.shape[1])):
            before = _of_group(graph, survivors, rows[rows < n_old], name, known)
        part.update(to_positions(packed[rows], rows), asking[rows], n_old, before)
        packed[rows] = to_rows(part.lists, rows)
        duplicates += len(rows) - part.twins.n_places
        right += part.recall * len(rows)
        if part.kept is not None:
            keeping[name] = part.kept
            measured += len(part.kept.sample)
            probes = max(probes, part.kept.effort)
        backends |= part.backends
    neighbors, distances = unpack(packed)
    return Updated(
        KnnGraph(
            neighbors,
            distances,
            groups,
            "+".join(sorted(backends)),
            Recall(value=right / n, sample_size=measured, target=params.recall),
            graph.ef_search,
            duplicates,
            max(graph.probes, probes),
        ),
        keeping,
    )


def carry_over(
    graph: KnnGraph, survivors: NDArray[np.int64], n: int, k: int
) -> tuple[Packed, NDArray[np.bool_]]:
    """Return the lists of n rows, those of the survivors first, and who has to search.

    Returns
    -------
    packed : uint64 array, shape (n, k)
        Without the rows that go; added rows have nobody. See `d2cli.stages.lists`.
    asking : bool array, shape (n,)
        Who is added, or has lost a neighbour.
    """
    n_old = len(survivors)
    number = np.full(graph.n_samples + 1, -1, dtype=np.int32)
    number[survivors] = np.arange(n_old, dtype=np.int32)
    packed = np.full((n, k), NOBODY, dtype=np.uint64)
    asking = np.ones(n, dtype=np.bool_)
    packed[:n_old] = pack(graph.neighbors[survivors], graph.distances[survivors])
    asking[:n_old] = False
    if n_old < graph.n_samples:
        packed[:n_old], asking[:n_old] = take_out(packed[:n_old], number)
    return packed, asking


def _aim(graph: KnnGraph, params: GraphParams) -> float:
    """Return the recall that added rows search for.

    hnsw mostly goes far beyond its target, which a new graph would do again: added rows are not to
    fall behind by more than a little. Cells do not, or their target says how far.
    """
    if "hnsw" in graph.backend and params.recall >= graph.recall.target:
        return max(params.recall, graph.recall.value - FALLEN_BEHIND)
    return params.recall


def _root(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the l2 of bits from their number: the root, rounded as distances are."""
    return np.sqrt(counts.astype(np.float64)).astype(np.float32)


class _Part:
    """The rows that are searched together: those of a group, or all.

    Attributes
    ----------
    lists : uint64 array, shape (g, k)
        By position, after the update.
    kept : KeptCells or None
    recall : float
        1 if searched exactly.
    aim : float
        The recall that added rows search for.
    backends : set of str
        What searched.
    """

    def __init__(
        self,
        vectors: Searchable,
        rows: NDArray[np.int64],
        params: GraphParams,
        how: dict[str, Any],
        exactly: bool,
        aim: float,
    ) -> None:
        self.aim = aim
        self.vectors, self.rows, self.params, self.how = vectors, rows, params, how
        self.share = {name: how[name] for name in ("n_threads", "on_progress")}
        self.where = {name: how[name] for name in ("n_threads", "room")}
        self.places, indptr, members = distinct_rows(vectors, rows, **self.where)
        self.twins = Twins(indptr, members)
        width = int(vectors.shape[1])
        self.exactly = exactly or searches_exactly(len(self.places), width, params)
        self.kept: KeptCells | None = None
        self.recall, self.backends = 1.0, set[str]()
        self.lists = np.empty((0, params.n_neighbors), dtype=np.uint64)

    def update(
        self,
        lists: Packed,
        asking: NDArray[np.bool_],
        n_old: int,
        kept: Any,  # noqa: ANN401
    ) -> None:
        """Bring the lists of all rows up to date.

        Parameters
        ----------
        lists : uint64 array, shape (g, k)
            Of the rows before, by position; taken over.
        asking : bool array, shape (g,)
            Who is added, or lacks neighbours.
        n_old : int
            Rows from this number on are added.
        kept : (KeptCells, bool array) or None
            What was kept of the survivors, and who of its sample lacks neighbours.
        """
        self.lists = lists
        if self.exactly and not asking.any():
            return
        place_of, u = self.twins.place_of, self.twins.n_places
        asked = marked(place_of[asking], u)
        if 2 * len(asked) > u:  # as cheap
            self._build()
            return
        new = marked(place_of[self.rows >= n_old], u)
        if self.exactly:
            self._search_exactly(asked, new)
        else:
            self._search_cells(asked, new, int((self.rows < n_old).sum()), kept)

    def _space(self) -> SearchSpace:
        space = build_space(
            self.vectors, self.places, measure=measure_of(self.params), **self.where
        )
        if len(self.rows) == len(self.vectors) and space.scale * SMALLEST_DIFFERENCE >= 1:
            raise InputError(TOO_ALIKE, hint=SPREAD_THEM)
        return space

    def _search_exactly(self, asked: NDArray[np.int32], new: NDArray[np.int32]) -> None:
        self.backends = {"exact"}
        space, k, u = self._space(), self.params.n_neighbors, self.twins.n_places
        found = exact_index(space).search(asked, max(min(k, u - 1), 1), **self.share)
        self._take_in(asked, *found, own=True)
        if not len(new):
            return
        others = np.delete(np.arange(u, dtype=np.int32), asked)
        limits = unpack(self.lists[self.twins.leaders[others], -1])[1]
        adopted = adopt(space, others, limits, new, k, **self.share)
        self._take_in(*adopted, own=False)

    def _take_in(
        self,
        asked: NDArray[np.int32],
        neighbors: NDArray[np.int32],
        distances: NDArray[np.float32],
        *,
        own: bool,
    ) -> None:
        """Merge the neighbours of some places into the lists of their members."""
        both = self.twins.indptr, self.twins.members
        k = self.params.n_neighbors
        rows, more = spread(asked, neighbors, distances, *both, k, own=own)
        self.lists[rows] = merge(self.lists[rows], more)

    def _search_cells(
        self,
        asked: NDArray[np.int32],
        new: NDArray[np.int32],
        n_old: int,
        before: Any,  # noqa: ANN401
    ) -> None:
        self.backends = {"cells"}
        kept = None
        if before is not None:
            kept, torn = before
            space = kept.space(self.vectors, self.places, self.how["room"])
            added = np.arange(n_old, len(self.rows))
            kept = kept.grown(space, self.twins.place_of[added], self.how["n_threads"])
        if kept is None:
            space = self._space()
            kept = fresh_cells(space, self.twins, self.params, **self.share)
        else:
            seed = self.params.seed
            kept = renew_sample(kept, torn, space, self.twins, n_old, seed=seed, **self.share)
        searching = CellUpdate(space, self.twins, kept, self.lists, **self.share)
        if len(asked):
            kept = replace(kept, effort=searching.settle(self.aim))
            searching.search(asked, new)
        self.kept = kept
        exact = unpack(kept.exact)[1]
        self.recall = share_found(unpack(self.lists[kept.sample])[1], exact)

    def _build(self) -> None:
        """Build the graph of the group anew."""
        part = self.vectors[self.rows] if len(self.rows) < len(self.vectors) else self.vectors
        params = replace(self.params, backend="exact") if self.exactly else self.params

        def keep(_: NDArray[np.int64], kept: KeptCells) -> None:
            self.kept = kept

        graph = build_graph(part, params, keep=keep, **self.how)
        self.lists = pack(graph.neighbors, graph.distances)
        self.recall, self.backends = graph.recall.value, {graph.backend}


def _of_group(
    graph: KnnGraph,
    survivors: NDArray[np.int64],
    rows: NDArray[np.int64],
    name: str,
    kept: KeptCells,
) -> tuple[KeptCells, NDArray[np.bool_]] | None:
    """Take the rows that go out of what was kept of a group; None if it is of other rows."""
    before = np.arange(graph.n_samples)
    if graph.groups is not None:
        if name not in graph.groups.names:
            return None
        before = np.flatnonzero(graph.groups.codes == graph.groups.names.index(name))
    if len(before) != len(kept.cells) or not len(kept.sample):
        return None
    number = np.full(len(before) + 1, -1, dtype=np.int32)
    number[np.searchsorted(before, survivors[rows])] = np.arange(len(rows), dtype=np.int32)
    return kept.without(number)
