"""One graph of several modalities, sealed; and their vectors side by side, for maps and probes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import Artifact, seal
from d2cli.files.graph_index import index_column
from d2cli.files.inputs import Embedding, FoundEmbedding, read_vectors_of
from d2cli.files.modalities import FoundModalities, Fused, find_modalities_of
from d2cli.files.stages import graph_results, graph_table
from d2cli.params import Fusion, GraphParams
from d2cli.pipeline.run import Run
from d2cli.stages.fused import (
    FusedGraph,
    fuse,
    fused_parameters,
    metric_for,
    no_effect,
    side_by_side,
)
from d2cli.stages.fusion import Modalities, as_modalities


def graph_parameters(
    data: Embedding | FoundEmbedding | Fused | FoundModalities, params: GraphParams
) -> dict[str, Any]:
    """Return the parameters that a graph depends on; of one embedding those of `GraphParams`."""
    if isinstance(data, Embedding | FoundEmbedding):
        return params.recorded()
    settled = metric_for(params, data.fusion).recorded()
    return {**settled, **fused_parameters(data.fusion, data.shares)}


def refuse_metric(fusion: Fusion | None, params: GraphParams, given: Sequence[str]) -> None:
    """Refuse a metric that was asked for in so many words and that "concat" does not measure by."""
    if fusion == "concat" and "metric" in given and params.metric != "cosine":
        raise no_effect(params.metric)


def lists_of(found: FoundEmbedding | FoundModalities) -> int:
    """Return how many lists of k neighbours a row of the graph joins, at most."""
    return len(found.each) if isinstance(found, FoundModalities) and found.united else 1


def make_fused(run: Run, data: Fused, params: GraphParams, key: str) -> Artifact:
    """Check the vectors of all modalities, build one graph, seal it."""
    measured = metric_for(params, data.fusion)
    try:
        modalities = as_modalities(
            data.vectors_of,
            data.shares,
            data.rows.n_rows,
            measured.metric,
            rows=data.rows_of,
            room=run.room,
        )
        fused = fuse(
            modalities,
            data.fusion,
            measured,
            groups=data.within.groups if data.within else None,
            n_threads=run.n_threads,
            on_progress=run.on_progress,
        )
    except InputError as error:
        raise error.at(data.where) from None
    return seal(
        "graph",
        graph_table(
            fused.graph,
            data.rows.ids,
            data.within.values if data.within else None,
            index_column(fused.kept, data.rows.n_rows),
        ),
        key=key,
        parameters=graph_parameters(data, params),
        inputs=data.digests,
        results=fused_results(fused, modalities, data.lacking),
    )


def fused_results(
    fused: FusedGraph, modalities: Modalities, lacking: dict[str, int]
) -> dict[str, Any]:
    """Return what is known about a graph of several modalities beside its columns."""
    return {
        **graph_results(fused.graph),
        "dim": modalities.width,
        "bandwidths": fused.bandwidths,
        "recalls": {name: asdict(recall) for name, recall in fused.recalls.items()},
        "candidates": fused.candidates,
        "lacking": lacking,
    }


def vectors_of(run: Run, data: Embedding | Fused, params: GraphParams) -> NDArray[Any]:
    """Return the vectors that a map or a probe sees; of several modalities side by side.

    Those of one embedding come as they are stored; see `d2cli.stages.fused.side_by_side`.
    """
    if isinstance(data, Embedding):
        return data.vectors
    return side_by_side(
        unscaled(data), params, n_threads=run.n_threads, on_progress=run.on_progress
    )


def unscaled(data: Fused) -> Modalities:
    """Return modalities whose vectors are those of the data, checked."""
    n, metric = data.rows.n_rows, GraphParams().metric
    try:
        return as_modalities(data.vectors_of, data.shares, n, metric, rows=data.rows_of)
    except InputError as error:
        raise error.at(data.where) from None


def read_side_by_side(
    run: Run,
    given: Sequence[str] | str,
    rows: Rows,
    params: GraphParams,
    *,
    packed: bool = False,
) -> tuple[str, NDArray[Any]]:
    """Read the vectors of rows that are known, of several modalities side by side; and where.

    Parameters
    ----------
    run : Run
    given : sequence of str
        One COLREF, or several ``[NAME=]COLREF[:WEIGHT]``.
    rows : Rows
    params : GraphParams
        See `vectors_of`.
    packed : bool
        Codes of one embedding stay uint8.
    """
    texts = [given] if isinstance(given, str) else list(given)
    if len(texts) == 1:
        return read_vectors_of(run.sources, texts[0], rows, packed=packed)
    data = find_modalities_of(run.sources, texts, rows).read(run.room)
    return data.where, vectors_of(run, data, params)
