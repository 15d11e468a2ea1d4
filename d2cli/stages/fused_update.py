"""Rows added to a graph of several modalities, and others taken out of it.

The bandwidths of "distance" and "concat" stay those that the graph was made with: by others, every
distance of it would be another. Those of "graphs" are the medians of the graphs as they are now.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.params import Fusion, GraphParams
from d2cli.stages.fused import FusedGraph
from d2cli.stages.fused_distance import build_distance_graph
from d2cli.stages.fused_exact import FusedSpace
from d2cli.stages.fused_graphs import groups_among, groups_of, of_all_rows, prefix_of, unite
from d2cli.stages.fusion import Modalities, Modality, concatenate, require_complete
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups
from d2cli.stages.kept import KeptCells, Twins, marked
from d2cli.stages.lists import Packed, merge, spread, to_positions, to_rows, unpack
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.recall import SAMPLE_SIZE, Recall, share_found
from d2cli.stages.space import SearchSpace
from d2cli.stages.update import carry_over, update_graph
from d2cli.stages.vectors import as_vectors


def update_fused(
    graph: KnnGraph,
    modalities: Modalities,
    survivors: NDArray[np.int64],
    fusion: Fusion,
    params: GraphParams,
    bandwidths: Mapping[str, float],
    *,
    groups: Groups | None = None,
    kept: Mapping[str, KeptCells] | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> FusedGraph:
    """Return the graph of the survivors of a graph and of rows added to them.

    By "distance", rows that search are compared with all others, and all others with the added
    ones, also where the graph was built approximately. By "graphs", the list of a row in the graph
    of a modality is found again among all that the row lists, then updated as any graph is.

    Parameters
    ----------
    graph : KnnGraph
        Over the old rows.
    modalities : Modalities
        Of n rows: the survivors, then those added.
    survivors : int64 array, shape (s,), ascending
        The old rows that stay.
    fusion, params, groups
        See `d2cli.stages.fused.fuse`.
    bandwidths : mapping of str to float
        That the graph was made with.
    kept : mapping of str to KeptCells, optional
        What was kept of the graph. By "graphs" it is used where no rows go: of those that went, it
        is not known any more which modalities they had.
    n_threads, on_progress
        The result does not depend on them.

    Returns
    -------
    FusedGraph
        If the graph was built exactly and ``params.backend`` is not "cells", the very one that
        `fuse` makes of the modalities by these bandwidths.

    Raises
    ------
    InputError
        If a row lacks a modality and ``fusion`` is "concat".
    """
    how: Any = {"n_threads": n_threads, "on_progress": on_progress}
    if fusion == "distance":
        return _update_distance(graph, modalities, survivors, params, bandwidths, groups, **how)
    if fusion == "graphs":
        return _update_graphs(graph, modalities, survivors, params, groups, kept or {}, **how)
    require_complete(modalities)
    joined = as_vectors(concatenate(modalities, bandwidths), "l2", room=modalities.room)
    by_l2 = replace(params, metric="l2")
    updated = update_graph(graph, joined, survivors, by_l2, groups=groups, kept=kept, **how)
    return FusedGraph(updated.graph, dict(bandwidths), {}, kept=updated.kept)


def _update_distance(
    graph: KnnGraph,
    modalities: Modalities,
    survivors: NDArray[np.int64],
    params: GraphParams,
    bandwidths: Mapping[str, float],
    groups: Groups | None,
    **how: Any,  # noqa: ANN401
) -> FusedGraph:
    n, k, n_old = modalities.n_samples, params.n_neighbors, len(survivors)
    packed, asking = carry_over(graph, survivors, n, k)
    was_exact = graph.backend == "exact"
    if 2 * int(asking.sum()) > n:  # as cheap
        again = was_exact and params.backend != "cells"
        settled = replace(params, backend="exact") if again else params
        built, candidates, recalls = build_distance_graph(
            modalities, bandwidths, settled, groups=groups, **how
        )
        return FusedGraph(built, dict(bandwidths), recalls, candidates)
    chosen = np.random.default_rng(params.seed).choice(n, min(SAMPLE_SIZE, n), replace=False)
    sampled = np.zeros(n, dtype=np.bool_)
    sampled[[] if was_exact else chosen] = True
    duplicates, found, exact = 0, [], []
    for rows in [np.arange(n, dtype=np.int64)] if groups is None else groups.rows():
        part = _DistancePart(modalities.of(rows), bandwidths, to_positions(packed[rows], rows))
        if asking[rows].any():
            part.update(asking[rows], rows >= n_old, how)
        duplicates += len(rows) - part.twins.n_places
        sample = np.flatnonzero(sampled[rows]).astype(np.int64)
        if len(sample):
            everyone = np.arange(len(rows), dtype=np.int64)
            exact.append(part.space.search(sample, everyone, k, **how)[1])
            found.append(unpack(part.lists[sample])[1])
        packed[rows] = to_rows(part.lists, rows)
    value = 1.0 if was_exact else share_found(np.concatenate(found), np.concatenate(exact))
    neighbors, distances = unpack(packed)
    updated = KnnGraph(
        neighbors,
        distances,
        groups,
        "+".join(sorted({*graph.backend.split("+"), "exact"})),
        Recall(value=value, sample_size=int(sampled.sum()), target=params.recall),
        n_duplicates=duplicates,
    )
    return FusedGraph(updated, dict(bandwidths), {})


class _DistancePart:
    """Rows that are compared by fused distance: those of a group, or all.

    Attributes
    ----------
    lists : uint64 array, shape (g, k)
        Of the rows, by position; before the update, then after it.
    """

    def __init__(
        self, modalities: Modalities, bandwidths: Mapping[str, float], lists: Packed
    ) -> None:
        self.space, self.lists = FusedSpace(modalities, bandwidths), lists
        self.places, indptr, members = modalities.places()
        self.twins = Twins(indptr, members)

    def update(
        self, asking: NDArray[np.bool_], added: NDArray[np.bool_], how: dict[str, Any]
    ) -> None:
        """Let rows that ask search among all, and all others among those added, (g,) each."""
        place_of, u, k = self.twins.place_of, self.twins.n_places, self.lists.shape[1]
        asked, new = marked(place_of[asking], u), marked(place_of[added], u)
        wanted = max(min(k, u - 1), 1)
        found = self.space.search(self.places[asked], self.places, wanted, **how)
        self._take_in(asked, *found, own=True)
        others = np.delete(np.arange(u, dtype=np.int32), asked)
        if not len(new) or not len(others):
            return
        limits = unpack(self.lists[self.twins.leaders[others], -1])[1]
        rows, columns = self.places[others], self.places[new]
        neighbors, distances = self.space.search(rows, columns, min(k, len(new)), **how)
        near = distances[:, 0] <= limits
        self._take_in(others[near], neighbors[near], distances[near], own=False)

    def _take_in(
        self,
        asked: NDArray[np.int32],
        neighbors: NDArray[np.int32],
        distances: NDArray[np.float32],
        *,
        own: bool,
    ) -> None:
        """Merge the rows that some places found into the lists of their members."""
        number = np.full(len(self.lists) + 1, -1, dtype=np.int32)  # the last is that of nobody
        number[self.places] = np.arange(len(self.places), dtype=np.int32)
        both = self.twins.indptr, self.twins.members
        k = self.lists.shape[1]
        rows, more = spread(asked, number[neighbors], distances, *both, k, own=own)
        self.lists[rows] = merge(self.lists[rows], more)


def _update_graphs(
    graph: KnnGraph,
    modalities: Modalities,
    survivors: NDArray[np.int64],
    params: GraphParams,
    groups: Groups | None,
    kept: Mapping[str, KeptCells],
    **how: Any,  # noqa: ANN401
) -> FusedGraph:
    n, n_old, graphs = modalities.n_samples, len(survivors), {}
    keeping: dict[str, KeptCells] = {}
    usable = kept if n_old == graph.n_samples else {}
    packed, asking = carry_over(graph, survivors, n, graph.n_neighbors)
    listed = unpack(packed[:n_old])[0]
    for one in modalities.each:
        old, rows = _lists_of(one, listed, graph, params.n_neighbors, modalities)
        old = replace(old, groups=groups_among(groups, rows))
        start = prefix_of(one)
        known = {name[len(start) :]: usable[name] for name in usable if name.startswith(start)}
        updated = update_graph(
            old,
            one.vectors,
            np.arange(len(rows), dtype=np.int64),
            params,
            groups=groups_of(one, groups),
            kept=known,
            lacking=asking[rows],
            room=modalities.room,
            **how,
        )
        graphs[one.name] = of_all_rows(updated.graph, one, n, groups)
        keeping |= {start + name: cells for name, cells in updated.kept.items()}
    united, bandwidths = unite(modalities, graphs, groups)
    recalls = {name: own.recall for name, own in graphs.items()}
    return FusedGraph(united, bandwidths, recalls, kept=keeping)


def _lists_of(
    one: Modality,
    listed: NDArray[np.int32],
    graph: KnnGraph,
    k: int,
    modalities: Modalities,
) -> tuple[KnnGraph, NDArray[np.int64]]:
    """Return the graph of a modality, found again in the union; and the rows it is of, (p,).

    Parameters
    ----------
    one : Modality
    listed : int32 array, shape (s, w)
        The rows that the union lists for each of the survivors; -1 for those that went.
    graph : KnnGraph
        The union.
    k : int
        Neighbours a modality. What its graph lists for a row is the nearest k of what the union
        lists, as long as none of these went.
    modalities : Modalities
        Of all rows.
    """
    numbers = one.numbers(modalities.n_samples)
    rows = np.flatnonzero(numbers[: len(listed)] >= 0)
    near = np.where(listed[rows] >= 0, numbers[listed[rows]], -1).astype(np.int32)
    every = np.arange(len(one.vectors), dtype=np.int64)
    space = SearchSpace(one.vectors, every, np.zeros(0), 1.0, modalities.room)
    ends = np.arange(len(rows) + 1, dtype=np.int64) * listed.shape[1]
    found = space.nearest(numbers[rows].astype(np.int32), ends, near.ravel(), k)
    return KnnGraph(*found, None, graph.backend, graph.recall), rows
