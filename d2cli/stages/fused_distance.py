"""The graph by fused distance: exact, or from the candidates of each modality's own graph."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.params import GraphParams
from d2cli.stages._neighbors import spread_to_twins
from d2cli.stages.fused_exact import FusedSpace
from d2cli.stages.fusion import Modalities
from d2cli.stages.graph import KnnGraph, build_graph, searches_exactly
from d2cli.stages.groups import Groups
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.recall import SAMPLE_SIZE, Recall, share_found

MOST_CANDIDATES = 1024  # of each modality, for a row
USUAL_CANDIDATES = 20  # for a neighbour; how many are needed is not known before a search
RANKED_ROWS = 512  # whose candidates are ranked at a time


def build_distance_graph(
    modalities: Modalities,
    bandwidths: Mapping[str, float],
    params: GraphParams,
    *,
    groups: Groups | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> tuple[KnnGraph, int, dict[str, Recall]]:
    """Find the k nearest neighbours of every row by fused distance.

    Up to as many rows as an ordinary graph of the same width, and with ``backend="exact"``, all
    pairs are compared. Else every modality's own graph (see `build_graph`) gives k' candidates a
    row, and their union is ranked by true distances. The neighbours of a seeded sample of 1,000
    rows of a group are searched exactly; k' starts where enough of them would be candidates if the
    modalities' graphs were exact, and is doubled, up to 1,024, until the recall on the sample
    reaches ``params.recall``. Those graphs miss at most half of what may be missed.

    Parameters
    ----------
    modalities : Modalities
        Of n rows.
    bandwidths : mapping of str to float
        h_m, by name.
    params : GraphParams
    groups : Groups, optional
        Neighbours are searched within a row's group only.
    n_threads : int
        Does not change the result.

    Returns
    -------
    graph : KnnGraph
        Lists ascending by (distance, row); rows with fewer than k others to be compared with are
        padded with -1 and infinity.
    candidates : int
        The largest k'; 0 if all was searched exactly.
    recalls : dict of str to Recall
        Recall@k' of each modality's own graph, by name; empty if all was searched exactly.
    """
    n, k = modalities.n_samples, params.n_neighbors
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    backends, duplicates, candidates, found, measured = set(), 0, 0, 0.0, 0
    of_each: dict[str, list[tuple[Recall, int]]] = {}
    everything = [np.arange(n, dtype=np.int64)]
    some, searched = modalities.any_of, 0
    for members in everything if groups is None else groups.rows():
        rows = members[some[members]]
        if not len(rows):
            continue
        part, asked, recalls = _search_group(
            modalities.of(rows), bandwidths, params, n_threads=n_threads, on_progress=on_progress
        )
        numbers = rows.astype(np.int32)
        neighbors[rows] = np.where(part.neighbors >= 0, numbers[part.neighbors], np.int32(-1))
        distances[rows] = part.distances
        backends.add(part.backend)
        duplicates += part.n_duplicates
        candidates = max(candidates, asked)
        found += part.recall.value * len(rows)
        measured += part.recall.sample_size
        searched += len(rows)
        for name, one in recalls.items():
            of_each.setdefault(name, []).append((one, len(rows)))
    value = found / searched if measured else 1.0
    recall = Recall(value=value, sample_size=measured, target=params.recall)
    backend = "+".join(sorted(backends))
    graph = KnnGraph(neighbors, distances, groups, backend, recall, n_duplicates=duplicates)
    return graph, candidates, {name: _mean(parts) for name, parts in of_each.items()}


def _mean(parts: Sequence[tuple[Recall, int]]) -> Recall:
    """Return the recall of several groups, each with its number of rows."""
    value = sum(one.value * rows for one, rows in parts) / sum(rows for _, rows in parts)
    size = sum(one.sample_size for one, _ in parts)
    return Recall(value=value, sample_size=size, target=parts[0][0].target)


def _search_group(
    modalities: Modalities,
    bandwidths: Mapping[str, float],
    params: GraphParams,
    **how: Any,  # noqa: ANN401
) -> tuple[KnnGraph, int, dict[str, Recall]]:
    """Search among the rows of one group; neighbours are positions in it."""
    n, k = modalities.n_samples, params.n_neighbors
    space = FusedSpace(modalities, bandwidths)
    places, indptr, members = modalities.places(n_threads=how["n_threads"])
    recalls: dict[str, Recall] = {}
    if searches_exactly(len(places), modalities.width, params):
        wanted = max(min(k, len(places) - 1), 1)
        neighbors, distances = space.search(places, places, wanted, **how)
        number = np.full(n + 1, -1, dtype=np.int32)  # the last is that of no neighbour
        number[places] = np.arange(len(places), dtype=np.int32)
        neighbors, distances = spread_to_twins(number[neighbors], distances, indptr, members, n, k)
        backend, recall, asked = "exact", Recall(value=1.0, sample_size=0, target=params.recall), 0
    else:
        neighbors, distances, recall, asked, graphs = _approximately(space, params, **how)
        recalls = {name: graph.recall for name, graph in graphs.items()}
        backend = "+".join(sorted({graph.backend for graph in graphs.values()}))
    duplicates = n - len(places)
    graph = KnnGraph(neighbors, distances, None, backend, recall, n_duplicates=duplicates)
    return graph, asked, recalls


def _approximately(
    space: FusedSpace,
    params: GraphParams,
    **how: Any,  # noqa: ANN401
) -> tuple[NDArray[np.int32], NDArray[np.float32], Recall, int, dict[str, KnnGraph]]:
    """Rank candidates of all modalities, of more and more until the recall is reached."""
    n, k = space.n_samples, params.n_neighbors
    chosen = np.random.default_rng(params.seed).choice(n, min(SAMPLE_SIZE, n), replace=False)
    sample = np.sort(chosen).astype(np.int64)
    nearest, exact = space.search(sample, np.arange(n, dtype=np.int64), k, **how)
    most = max(min(n - 1, max(MOST_CANDIDATES, k)), 1)
    needed = candidates_needed(space.modalities, sample, nearest, most, **how)
    # Half of what may be missed is left to the modalities' graphs, the other to their length.
    share = (1 + params.recall) / 2
    asked = max(min(k, most), _enough(needed[nearest >= 0], share, most))
    while True:
        candidates, graphs = _candidates(
            space, replace(params, n_neighbors=asked, recall=share), **how
        )
        _, found = _rank(space, sample, candidates[sample], k, **how)
        value = share_found(found, exact)
        if value >= params.recall or asked >= most:
            break
        asked = min(2 * asked, most)
    neighbors, distances = _rank(space, np.arange(n, dtype=np.int64), candidates, k, **how)
    recall = Recall(value=value, sample_size=len(sample), target=params.recall)
    return neighbors, distances, recall, asked, graphs


def candidates_needed(
    modalities: Modalities,
    sample: NDArray[np.int64],
    nearest: NDArray[np.int32],
    most: int,
    **how: Any,  # noqa: ANN401
) -> NDArray[np.int64]:
    """Return how many neighbours by a modality it takes to find each fused neighbour, (s, k).

    The least of all modalities, searched exactly; ``most + 1`` where more are needed.

    Parameters
    ----------
    modalities : Modalities
    sample : int64 array, shape (s,)
        Rows.
    nearest : int32 array, shape (s, k)
        Their neighbours by fused distance, -1 pads.
    """
    needed = np.full(nearest.shape, most + 1, dtype=np.int64)
    for one in modalities.each:
        alone = Modalities(modalities.n_samples, (one,), modalities.room)
        has = one.numbers(modalities.n_samples) >= 0
        at = np.flatnonzero(has[sample])
        columns = np.flatnonzero(has).astype(np.int64)
        space = FusedSpace(alone, {one.name: 1.0})
        lists, _ = space.search(sample[at], columns, min(most, max(len(columns) - 1, 1)), **how)
        for c in range(nearest.shape[1]):
            found = lists == nearest[at, c][:, None]
            rank = np.where(found.any(axis=1), found.argmax(axis=1) + 1, most + 1)
            needed[at, c] = np.minimum(needed[at, c], rank)
    return needed


def _enough(needed: NDArray[np.int64], share: float, most: int) -> int:
    """Return the least number that is enough for a share of them; ``most`` if none is."""
    if not len(needed):
        return 1
    ordered = np.sort(needed)
    return min(int(ordered[max(math.ceil(share * len(ordered)) - 1, 0)]), most)


def _candidates(
    space: FusedSpace,
    params: GraphParams,
    **how: Any,  # noqa: ANN401
) -> tuple[NDArray[np.int32], dict[str, KnnGraph]]:
    """Return the neighbours of each row in all modalities, each once, -1 pads; and the graphs."""
    lists, graphs = [], {}
    for one in space.modalities.each:
        graph = build_graph(one.vectors, params, room=space.room, **how)
        graphs[one.name] = graph
        if one.rows is None:
            lists.append(graph.neighbors)
            continue
        of_all = np.full((space.n_samples, params.n_neighbors), -1, dtype=np.int32)
        numbers = one.rows.astype(np.int32)
        of_all[one.rows] = np.where(graph.neighbors >= 0, numbers[graph.neighbors], np.int32(-1))
        lists.append(of_all)
    together = np.concatenate(lists, axis=1)
    together.sort(axis=1)
    together[:, 1:][together[:, 1:] == together[:, :-1]] = -1
    return together, graphs


def _rank(
    space: FusedSpace,
    queries: NDArray[np.int64],
    candidates: NDArray[np.int32],
    k: int,
    *,
    n_threads: int,
    on_progress: Progress,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k nearest of the candidates (q, c) of each query, (q, k) each."""
    neighbors = np.empty((len(queries), k), dtype=np.int32)
    distances = np.empty((len(queries), k), dtype=np.float32)

    def rank(start: int) -> Iterator[int]:
        part = slice(start, min(start + RANKED_ROWS, len(queries)))
        at, column = np.nonzero(candidates[part] >= 0)
        rows = candidates[part][at, column].astype(np.int64)
        neighbors[part], distances[part] = space.nearest(queries[part], at, rows, k)
        yield part.stop - part.start

    run_tasks(
        [rank(start) for start in range(0, len(queries), RANKED_ROWS)],
        n_threads=n_threads,
        phase="ranking",
        total=len(queries),
        on_progress=on_progress,
    )
    return neighbors, distances
