"""The union of one graph per modality, its edges weighed by all modalities that have them.

An undirected edge of the graph of any modality has the similarity ``s_ij = sum_m w_m exp(-(d_m,ij /
h_m)**2)`` over the modalities whose graph has the edge, with the shares w_m divided by the sum of
those of the modalities that both rows have. It is stored as the distance ``sqrt(-ln s_ij)``: in
units of the bandwidth, so that a gaussian of it is the similarity again.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from d2cli.params import GraphParams
from d2cli.stages.fusion import Modalities, Modality
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.groups import Groups
from d2cli.stages.kept import KeptCells, keep_into
from d2cli.stages.kernel import median_distance
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.recall import Recall


def build_graphs(
    modalities: Modalities,
    params: GraphParams,
    *,
    groups: Groups | None = None,
    kept: dict[str, KeptCells] | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> dict[str, KnnGraph]:
    """Find the k nearest neighbours by each modality, by name, among the rows that have it.

    Rows are those of all modalities: one that lacks a modality has no neighbours in its graph.
    ``kept`` is filled with what an update needs.
    """
    n, graphs = modalities.n_samples, {}
    for one in modalities.each:
        own = groups_of(one, groups)
        graph = build_graph(
            one.vectors,
            params,
            groups=own,
            keep=None if kept is None else keep_into(kept, own, prefix_of(one)),
            n_threads=n_threads,
            on_progress=on_progress,
            room=modalities.room,
        )
        graphs[one.name] = of_all_rows(graph, one, n, groups)
    return graphs


def prefix_of(one: Modality) -> str:
    """Return what stands before the group in the names of what is kept of a modality."""
    return f"{len(one.name)}:{one.name}:"


def groups_of(one: Modality, groups: Groups | None) -> Groups | None:
    """Return the groups of the rows that have a modality."""
    return groups if one.rows is None else groups_among(groups, one.rows)


def groups_among(groups: Groups | None, rows: NDArray[np.int64]) -> Groups | None:
    """Return the groups of some rows."""
    if groups is None:
        return None
    kept, codes = np.unique(groups.codes[rows], return_inverse=True)
    names = tuple(groups.names[code] for code in kept)
    return Groups(codes.reshape(-1).astype(np.int32), names)


def of_all_rows(graph: KnnGraph, one: Modality, n: int, groups: Groups | None) -> KnnGraph:
    """Return the graph of the rows that have a modality as one of all n; others have no list."""
    if one.rows is None:
        return graph
    numbers, k = one.rows.astype(np.int32), graph.n_neighbors
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    found = graph.neighbors
    neighbors[one.rows] = np.where(found >= 0, numbers[found], np.int32(-1))
    distances[one.rows] = graph.distances
    return replace(graph, neighbors=neighbors, distances=distances, groups=groups)


def unite(
    modalities: Modalities, graphs: dict[str, KnnGraph], groups: Groups | None
) -> tuple[KnnGraph, dict[str, float]]:
    """Unite one graph per modality.

    Parameters
    ----------
    modalities : Modalities
    graphs : dict of str to KnnGraph
        By the names of the modalities, as `build_graphs` returns them.
    groups : Groups or None
        Those that neighbours were searched within.

    Returns
    -------
    graph : KnnGraph
        A row lists what any of its graphs lists: as many neighbours as the longest of these lists
        has, at most as many as all graphs together. Distances are ``sqrt(-ln s_ij)``, float32,
        ascending by (distance, row); -1 and infinity pad. The recall is the least of the graphs'.
    bandwidths : dict of str to float
        h_m, the median finite, positive distance of each graph.
    """
    n = modalities.n_samples
    bandwidths = {name: median_distance(graph.distances) for name, graph in graphs.items()}
    listed = {name: _pairs(graph) for name, graph in graphs.items()}
    edges = np.unique(np.concatenate([_edge_keys(*pair[:2], n) for pair in listed.values()]))
    logs, lost, common = np.full(len(edges), -np.inf), np.zeros(len(edges)), np.zeros(len(edges))
    low, high = edges // n, edges % n
    for one in modalities.each:
        left, right, lengths = listed[one.name]
        exponents = np.full(len(edges), np.inf)  # an edge that both ends list has one distance
        at = np.searchsorted(edges, _edge_keys(left, right, n))
        exponents[at] = (lengths.astype(np.float64) / bandwidths[one.name]) ** 2
        has = one.numbers(n) >= 0
        share = one.share * (has[low] & has[high])
        logs = np.logaddexp(logs, np.log(one.share) - exponents)
        lost -= share * np.expm1(-exponents)
        common += share
    lost = np.minimum(lost / common, 1.0)
    # ln s by the sum of logarithms where s is small, by what 1 lacks where s is nearly 1.
    with np.errstate(divide="ignore"):
        squares = np.where(lost < 0.5, -np.log1p(-lost), np.log(common) - logs)
    far = np.sqrt(np.maximum(squares, 0.0)).astype(np.float32)
    directed = np.unique(np.concatenate([left * n + right for left, right, _ in listed.values()]))
    neighbors, distances = _lists(directed // n, directed % n, edges, far, n)
    recall = min((graph.recall for graph in graphs.values()), key=_worse_first)
    backends = sorted({part for graph in graphs.values() for part in graph.backend.split("+")})
    graph = KnnGraph(
        neighbors,
        distances,
        groups,
        "+".join(backends),
        recall,
        max(graph.ef_search for graph in graphs.values()),
        probes=max(graph.probes for graph in graphs.values()),
    )
    return graph, bandwidths


def _worse_first(recall: Recall) -> tuple[float, int]:
    return recall.value, -recall.sample_size


def _pairs(
    graph: KnnGraph,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the directed edges of a graph: rows, neighbours, distances, (e,) each."""
    real = graph.neighbors >= 0
    left = np.arange(graph.n_samples, dtype=np.int64).repeat(real.sum(axis=1))
    return left, graph.neighbors[real].astype(np.int64), graph.distances[real]


def _edge_keys(left: NDArray[np.int64], right: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return one number for each undirected edge, whichever of its ends comes first."""
    keys: NDArray[np.int64] = np.minimum(left, right) * n + np.maximum(left, right)
    return keys


def _lists(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    edges: NDArray[np.int64],
    far: NDArray[np.float32],
    n: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return directed edges, each once, as padded lists ascending by (distance, row)."""
    lengths = far[np.searchsorted(edges, _edge_keys(left, right, n))]
    order = np.lexsort((right, lengths, left))
    left, right, lengths = left[order], right[order], lengths[order]
    counts = np.bincount(left, minlength=n)
    width = max(int(counts.max(initial=0)), 1)
    place = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    neighbors = np.full((n, width), -1, dtype=np.int32)
    distances = np.full((n, width), np.inf, dtype=np.float32)
    neighbors[left, place] = right
    distances[left, place] = lengths
    return neighbors, distances
