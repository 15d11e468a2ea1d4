"""``d2 graph``: vectors to a graph file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from d2cli.errors import InputError
from d2cli.files.artifacts import Artifact, seal, stage_key, to_stream
from d2cli.files.inputs import Embedding, read_embedding
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.publish import write_stdout
from d2cli.files.sources import STDIN
from d2cli.files.stages import graph_of, graph_results, graph_table
from d2cli.params import GraphParams
from d2cli.pipeline.run import STAGE_VERSIONS, Run, checked_place, run_stage
from d2cli.stages.graph import build_graph
from d2cli.stages.vectors import as_vectors


def make_graph(run: Run, data: Embedding, params: GraphParams, key: str) -> Artifact:
    """Check the vectors, build the graph, seal it."""
    try:
        vectors = as_vectors(data.vectors, params.metric)
    except InputError as error:
        raise error.at(data.where) from None
    groups = data.within.groups if data.within else None
    graph = build_graph(
        vectors, params, groups=groups, n_threads=run.n_threads, on_progress=run.on_progress
    )
    within = data.within.values if data.within else None
    return seal(
        "graph",
        graph_table(graph, data.rows.ids, within),
        key=key,
        parameters=asdict(params),
        inputs=data.digests,
        results={**graph_results(graph), "dim": int(vectors.shape[1])},
    )


def graph_key(data: Embedding, params: GraphParams) -> str:
    """Return what a graph depends on."""
    return stage_key("graph", STAGE_VERSIONS["graph"], asdict(params), data.digests)


def warn_about_graph(run: Run, artifact: Artifact) -> None:
    """Say so if the recall target was missed or rows have too few neighbours."""
    results, k = artifact.meta["results"], artifact.meta["parameters"]["n_neighbors"]
    recall = results["recall"]
    if recall["value"] < recall["target"]:
        run.note(
            f"warning: recall@{k} is {recall['value']:.3f}; the target {recall['target']:g} was "
            f"not reached; {_way_out(results)}"
        )
    neighbors = graph_of(artifact).neighbors
    short = int((neighbors[:, -1] < 0).sum())
    if short:
        run.note(
            f"warning: {short:,} of {len(neighbors):,} rows have fewer than {k} other rows "
            "to be neighbors with; their lists are padded"
        )


def _way_out(results: dict[str, Any]) -> str:
    if "cells" in results["backend"]:
        return f"{results['probes']} cells a row were searched; --backend fast goes on with hnsw"
    return f"hnsw looked at {results['ef_search']} candidates a row; --backend exact finds all"


def run_graph(
    run: Run,
    source: str,
    params: GraphParams,
    *,
    embedding: str | None = None,
    id_: str | None = None,
    within: str | None = None,
    output: str = STDIN,
) -> Artifact:
    """Build the graph of a SOURCE and publish it.

    Parameters
    ----------
    run : Run
    source : str
        File with the vectors, or "-".
    params : GraphParams
    embedding, id_, within : str, optional
        COLREFs.
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.

    Returns
    -------
    Artifact
    """
    if output != STDIN:
        check_suffix(Path(output), ARTIFACT_SUFFIXES, "a graph")
    data = read_embedding(run.sources, source, embedding=embedding, id_=id_, within=within)
    place = checked_place(run, output)
    key = graph_key(data, params)
    artifact = run_stage(run, "graph", key, place, lambda: make_graph(run, data, params, key))
    warn_about_graph(run, artifact)
    if place is None:
        write_stdout(to_stream(artifact))
    return artifact
