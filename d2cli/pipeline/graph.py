"""``d2 graph``: vectors to a graph file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2cli.errors import InputError
from d2cli.files.artifacts import Artifact, seal, stage_key, to_stream
from d2cli.files.graph_index import index_column
from d2cli.files.inputs import Embedding, FoundEmbedding
from d2cli.files.modalities import FoundModalities, Fused, find_vectors, only_colref
from d2cli.files.origins import origin_of, to_record
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.remote import Place, as_place
from d2cli.files.roworder import row_order
from d2cli.files.sources import STDIN
from d2cli.files.stages import graph_of, graph_results, graph_table
from d2cli.files.stdout import write_stdout
from d2cli.params import Fusion, GraphParams
from d2cli.pipeline.engine import LOCAL, EngineParams
from d2cli.pipeline.forecast import forecast_graph, standing_artifacts
from d2cli.pipeline.modalities import graph_parameters, make_fused
from d2cli.pipeline.partitioned import make_partitioned, partitions_for, room_for_pieces
from d2cli.pipeline.planning import DryRun, plan_of, settle, warn_about_memory
from d2cli.pipeline.run import STAGE_VERSIONS, Run, checked_place, run_cached, run_stage
from d2cli.stages.graph import build_graph
from d2cli.stages.kept import KeptCells, keep_into
from d2cli.stages.vectors import as_searchable, width_of


def make_graph(
    run: Run,
    data: Embedding | Fused,
    params: GraphParams,
    key: str,
    *,
    spend: bool = False,
    engine: EngineParams = LOCAL,
    cache_dir: str | None = None,
) -> Artifact:
    """Check the vectors, build the graph, seal it; ``spend`` what nobody needs any more.

    A graph in partitions is made by tasks of the ``engine``.
    """
    if isinstance(data, Fused):
        artifact = make_fused(run, data, params, key)
    elif params.partitions is not None:
        artifact = make_partitioned(run, data, params, key, engine, cache_dir)
    else:
        artifact = _make_graph(run, data, params, key, spend=spend)
    return replace(artifact, row_order=row_order(data.rows.source) if data.rows.source else None)


def _make_graph(
    run: Run,
    data: Embedding,
    params: GraphParams,
    key: str,
    *,
    spend: bool,
) -> Artifact:
    """Do as `make_graph` with one embedding."""
    groups, kept = data.within.groups if data.within else None, dict[str, KeptCells]()
    try:
        vectors, whitening = as_searchable(
            data.vectors,
            params.metric,
            shrinkage=params.shrinkage,
            seed=params.seed,
            room=run.room,
            overwrite=spend,
            n_threads=run.n_threads,
            on_progress=run.on_progress,
        )
        graph = build_graph(
            vectors,
            params,
            groups=groups,
            n_threads=run.n_threads,
            on_progress=run.on_progress,
            room=run.room,
            keep=keep_into(kept, groups),
        )
        graph = replace(graph, whitening=whitening)
    except InputError as error:
        raise error.at(data.where) from None
    within = data.within.values if data.within else None
    return seal(
        "graph",
        graph_table(graph, data.rows.ids, within, index_column(kept, data.rows.n_rows)),
        key=key,
        parameters=graph_parameters(data, params),
        inputs=data.digests,
        results={**graph_results(graph), "dim": width_of(vectors)},
    )


def graph_key(data: Embedding | Fused, params: GraphParams) -> str:
    """Return what a graph depends on."""
    return stage_key("graph", STAGE_VERSIONS["graph"], graph_parameters(data, params), data.digests)


def cached_graph(
    run: Run,
    folder: Path | None,
    data: Embedding | Fused,
    params: GraphParams,
    *,
    spend: bool = False,
    engine: EngineParams = LOCAL,
    cache_dir: str | None = None,
) -> Artifact:
    """Return the graph of vectors from the cache folder, or make it; warn about its defects."""
    key = graph_key(data, params)
    how: dict[str, Any] = {"spend": spend, "engine": engine, "cache_dir": cache_dir}
    artifact = run_cached(
        run, folder, "graph", key, lambda: make_graph(run, data, params, key, **how)
    )
    warn_about_graph(run, artifact)
    return artifact


def warn_about_graph(run: Run, artifact: Artifact) -> None:
    """Say so if recall or memory missed their targets, or rows have too few neighbours."""
    warn_about_memory(run)
    results, k = artifact.meta["results"], artifact.meta["parameters"]["n_neighbors"]
    recall = results["recall"]
    if recall["value"] < recall["target"]:
        run.note(
            f"warning: recall@{k} is {recall['value']:.3f}; the target {recall['target']:g} was "
            f"not reached; {_way_out(results)}"
        )
    neighbors = graph_of(artifact).neighbors
    # Lists of several graphs may be longer than k.
    short = int((neighbors[:, min(k, neighbors.shape[1]) - 1] < 0).sum())
    if short:
        run.note(
            f"warning: {short:,} of {len(neighbors):,} rows have fewer than {k} other rows "
            "to be neighbors with; their lists are padded"
        )


def _way_out(results: dict[str, Any]) -> str:
    if results.get("candidates"):
        each = f"{results['candidates']} candidates of each modality a row were ranked"
        return f"{each}; --backend exact finds all"
    if "update" in results:
        return f"{results['probes']} cells a row were searched; --backend exact searches all again"
    if "cells" in results["backend"]:
        return f"{results['probes']} cells a row were searched; --backend fast goes on with hnsw"
    return f"hnsw looked at {results['ef_search']} candidates a row; --backend exact finds all"


def settle_engine(
    run: Run,
    found: FoundEmbedding | FoundModalities,
    params: GraphParams,
    engine: EngineParams,
    cache_dir: str | None,
    *,
    prune: bool = False,
) -> GraphParams:
    """Choose where vectors live; return the parameters with the partitions of the engine."""
    params = partitions_for(engine, params, found)
    if params.partitions is not None:
        run.room = room_for_pieces(cache_dir)
    elif prune:
        settle(run, found, params, cache_dir=cache_dir, prune=True)
    else:
        settle(run, found, params)
    return params


def run_graph(
    run: Run,
    source: str,
    params: GraphParams,
    *,
    embedding: Sequence[str] | str | None = None,
    fusion: Fusion | None = None,
    id_: str | None = None,
    within: str | None = None,
    output: str = STDIN,
    cache_dir: str | None = None,
    engine: EngineParams = LOCAL,
) -> Artifact:
    """Build the graph of a SOURCE and publish it.

    Parameters
    ----------
    run : Run
    source : str
        File with the vectors, or "-".
    params : GraphParams
    embedding : sequence of str, optional
        See `d2cli.files.modalities.find_vectors`.
    fusion : {"concat", "distance", "graphs"}, optional
        How several embeddings become one graph.
    id_, within : str, optional
        COLREFs.
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.
    cache_dir : str, optional
        Where vectors go that do not fit into memory; see `d2cli.files.cache.cache_folder`.
    engine : EngineParams
        Where it is built, and in how many partitions, which the graph depends on.

    Returns
    -------
    Artifact
    """
    found, place = _find(run, source, embedding, fusion, id_, within, output)
    params = settle_engine(run, found, params, engine, cache_dir)
    data = found.read(run.room, packed=params.metric == "hamming")
    key = graph_key(data, params)
    named = None
    if isinstance(found, FoundEmbedding):
        named = only_colref(run.sources, source, embedding)
    columns: dict[str, str | None] = {"embedding": named, "id_": id_, "within": within}
    recorded = to_record([origin_of(run.sources, source, found, **columns)], place)
    artifact = run_stage(
        run,
        "graph",
        key,
        place,
        lambda: make_graph(run, data, params, key, spend=True, engine=engine, cache_dir=cache_dir),
        sources=recorded,
    )
    warn_about_graph(run, artifact)
    if place is None:
        write_stdout(to_stream(artifact))
    return artifact


def plan_run_graph(
    run: Run,
    source: str,
    params: GraphParams,
    *,
    embedding: Sequence[str] | str | None = None,
    fusion: Fusion | None = None,
    id_: str | None = None,
    within: str | None = None,
    output: str = STDIN,
    cache_dir: str | None = None,
) -> DryRun:
    """Return what `run_graph` would do; reads no vectors and writes nothing."""
    found, place = _find(run, source, embedding, fusion, id_, within, output)
    plan = plan_of(run, found, params)
    standing = standing_artifacts("graph", place, None)
    where = str(place or "any file")
    return DryRun(plan, (forecast_graph(found, params, standing, where, force=run.force),))


def _find(
    run: Run,
    source: str,
    embedding: Sequence[str] | str | None,
    fusion: Fusion | None,
    id_: str | None,
    within: str | None,
    output: str,
) -> tuple[FoundEmbedding | FoundModalities, Place | None]:
    """Find the vectors and the place of the graph."""
    if output != STDIN:
        check_suffix(as_place(output), ARTIFACT_SUFFIXES, "a graph")
    found = find_vectors(
        run.sources, source, embedding=embedding, fusion=fusion, id_=id_, within=within
    )
    return found, checked_place(run, output)
