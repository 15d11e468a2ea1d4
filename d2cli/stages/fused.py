"""One graph of several modalities, by any of the ways that `d2cli.stages.fusion` defines."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from d2cli.errors import ParameterError
from d2cli.params import Fusion, GraphParams, Metric
from d2cli.stages.fused_distance import build_distance_graph
from d2cli.stages.fused_exact import sampled_bandwidths
from d2cli.stages.fused_graphs import build_graphs, unite
from d2cli.stages.fusion import Modalities, concatenate, require_complete, unit_rows
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.groups import Groups
from d2cli.stages.kept import KeptCells, keep_into
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.recall import Recall
from d2cli.stages.vectors import Vectors, as_vectors

ADDED_UP: tuple[Metric, ...] = ("l2", "cosine", "ip")  # metrics whose squared distances add up


@dataclass(frozen=True, eq=False)
class FusedGraph:
    """A graph of several modalities, and what is known of them.

    Attributes
    ----------
    graph : KnnGraph
    bandwidths : dict of str to float
        h_m of each modality, by name, in the unit of its metric.
    recalls : dict of str to Recall
        Of each modality's own graph, where there is one.
    candidates : int
        k' of each modality for a row ("distance" only); 0 if all was searched exactly.
    kept : dict of str to KeptCells
        What an update needs, by group; of "graphs" by modality and group, see `prefix_of`.
    """

    graph: KnnGraph
    bandwidths: dict[str, float]
    recalls: dict[str, Recall]
    candidates: int = 0
    kept: dict[str, KeptCells] = field(default_factory=dict)


def metric_for(params: GraphParams, fusion: Fusion) -> GraphParams:
    """Return the parameters that a fusion measures by: "concat" always by "cosine".

    Its rows have length 1, and "l2" is what a metric is if nobody names one.

    Raises
    ------
    ParameterError
        If "concat" is asked to measure by another metric, or the metric is none of vectors whose
        squared distances add up.
    """
    if params.metric not in ADDED_UP:
        raise ParameterError(
            f"metric {params.metric} does not go with several embeddings",
            hint=f"use --metric {', '.join(ADDED_UP[:-1])} or {ADDED_UP[-1]}",
        )
    if fusion != "concat":
        return params
    if params.metric not in (GraphParams().metric, "cosine"):
        raise no_effect(params.metric)
    return replace(params, metric="cosine")


def no_effect(metric: Metric) -> ParameterError:
    """Return the error about a metric that "concat" does not measure by."""
    return ParameterError(
        f"fusion concat divides rows by their length, so metric {metric} has no effect",
        hint="leave out --metric, or use --fusion distance or --fusion graphs",
    )


def fuse(
    modalities: Modalities,
    fusion: Fusion,
    params: GraphParams,
    *,
    groups: Groups | None = None,
    bandwidths: Mapping[str, float] | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> FusedGraph:
    """Build one graph of several modalities.

    Parameters
    ----------
    modalities : Modalities
        Of the metric of ``params``.
    fusion : {"concat", "distance", "graphs"}
        See `d2cli.stages.fusion`.
    params : GraphParams
        As `metric_for` returns them.
    groups : Groups, optional
        Neighbours are searched within a row's group only.
    bandwidths : mapping of str to float, optional
        h_m, by name, of "distance" and "concat"; left out, those of a sample of these rows.
    n_threads : int
        Does not change the result.

    Raises
    ------
    InputError
        If a row lacks a modality and ``fusion`` is "concat".
    """
    how: Any = {"groups": groups, "n_threads": n_threads, "on_progress": on_progress}
    kept: dict[str, KeptCells] = {}
    if fusion == "graphs":
        graphs = build_graphs(modalities, params, kept=kept, **how)
        graph, bandwidths = unite(modalities, graphs, groups)
        recalls = {name: one.recall for name, one in graphs.items()}
        return FusedGraph(graph, bandwidths, recalls, kept=kept)
    if fusion == "concat":
        require_complete(modalities)
    if bandwidths is None:
        bandwidths = sampled_bandwidths(modalities, params.n_neighbors, seed=params.seed, **how)
    if fusion == "distance":
        graph, candidates, recalls = build_distance_graph(modalities, bandwidths, params, **how)
        return FusedGraph(graph, dict(bandwidths), recalls, candidates)
    joined = as_vectors(concatenate(modalities, bandwidths), "l2", room=modalities.room)
    by_l2 = replace(params, metric="l2")
    keep = keep_into(kept, groups)
    graph = build_graph(joined, by_l2, room=modalities.room, keep=keep, **how)
    return FusedGraph(graph, dict(bandwidths), {}, kept=kept)


def side_by_side(
    modalities: Modalities,
    params: GraphParams,
    *,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Vectors:
    """Return what a map or a probe sees of several modalities: unit rows, scaled and concatenated.

    The vectors of the fusion "concat", but 0 where a row lacks a modality or is a zero vector; l2
    between them is meant.

    Parameters
    ----------
    modalities : Modalities
        By any metric whose vectors are those of the data.
    params : GraphParams
        k and the seed of the bandwidths.
    """
    unit = unit_rows(modalities)
    how: Any = {"n_threads": n_threads, "on_progress": on_progress}
    return concatenate(unit, bandwidths_of(unit, params, **how))


def bandwidths_of(
    modalities: Modalities,
    params: GraphParams,
    **how: Any,  # noqa: ANN401
) -> dict[str, float]:
    """Return the bandwidths of all rows together; ``how`` is threads and progress."""
    k, seed = params.n_neighbors, params.seed
    return sampled_bandwidths(modalities, k, groups=None, seed=seed, **how)


def fused_parameters(fusion: Fusion, shares: Mapping[str, float]) -> dict[str, Any]:
    """Return what a graph of several modalities records beside `GraphParams`."""
    return {"fusion": fusion, "weights": dict(shares)}
