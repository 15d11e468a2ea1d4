"""``d2 score``: a graph and a difficulty to a scores file."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from d2cli.errors import InputError
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key, to_stream
from d2cli.files.inputs import (
    DifficultyColumn,
    Labels,
    read_difficulty,
    read_group,
    refuse_known_source,
    rows_like,
)
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.publish import write_stdout
from d2cli.files.sources import STDIN
from d2cli.files.stages import graph_of, ids_of, scores_results, scores_table
from d2cli.params import Direction, ScoreParams
from d2cli.pipeline.run import STAGE_VERSIONS, Run, checked_place, run_stage
from d2cli.stages.score import score_rows


def make_scores(
    graph: Artifact,
    column: DifficultyColumn,
    params: ScoreParams,
    group: Labels | None,
    key: str,
    inputs: dict[str, str],
) -> Artifact:
    """Run the forward pass and seal the scores."""
    difficulty = column.orient(shift=params.shift)
    groups = group.groups if group else None
    try:
        scores = score_rows(graph_of(graph), difficulty, params, groups=groups)
    except InputError as error:
        raise error.at(column.where) from None
    return seal(
        "scores",
        scores_table(scores, ids_of(graph)),
        key=key,
        parameters=_score_parameters(column, params),
        inputs=inputs,
        results=scores_results(scores),
    )


def _score_parameters(column: DifficultyColumn, params: ScoreParams) -> dict[str, Any]:
    return {**asdict(params), "difficulty": column.name, "harder": column.direction}


def _score_inputs(
    graph: Artifact, column: DifficultyColumn, group: Labels | None
) -> dict[str, str]:
    inputs = {"graph": graph.digest, "difficulty": column.digest}
    return {**inputs, "group": group.digest} if group else inputs


def scores_key_and_inputs(
    graph: Artifact, column: DifficultyColumn, params: ScoreParams, group: Labels | None
) -> tuple[str, dict[str, str]]:
    """Return what scores depend on, and the digests of their inputs."""
    inputs = _score_inputs(graph, column, group)
    parameters = _score_parameters(column, params)
    return stage_key("scores", STAGE_VERSIONS["scores"], parameters, inputs), inputs


def run_score(
    run: Run,
    graph_ref: str,
    params: ScoreParams,
    *,
    difficulty: str,
    harder: Direction | None = None,
    group: str | None = None,
    id_: str | None = None,
    output: str = STDIN,
) -> Artifact:
    """Pass difficulty forward over a graph and publish the scores.

    Parameters
    ----------
    run : Run
    graph_ref : str
        Graph file, or "-".
    params : ScoreParams
    difficulty : str
        COLREF, or "uniform".
    harder : {"high", "low"}, optional
        Needed unless the score's name is known.
    group, id_ : str, optional
        COLREFs.
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.
    """
    if output != STDIN:
        check_suffix(Path(output), ARTIFACT_SUFFIXES, "a scores file")
    graph = read_artifact(graph_ref, "graph")
    rows = rows_like(graph.name, graph.table.num_rows, ids_of(graph), id_)
    column = read_difficulty(run.sources, difficulty, rows, harder)
    labels = read_group(run.sources, group, rows) if group else None
    place = checked_place(run, output, graph_ref)
    if place is not None:
        refuse_known_source(place, [graph])
    key, inputs = scores_key_and_inputs(graph, column, params, labels)
    if place is None or not Path(graph_ref).is_file():  # no path to find it by: it comes along
        path = None
    else:
        path = os.path.relpath(os.path.realpath(graph_ref), os.path.realpath(place.parent))

    def make() -> Artifact:
        scores = make_scores(graph, column, params, labels, key, inputs)
        return replace(scores, graph=graph) if path is None else scores

    artifact = run_stage(run, "scores", key, place, make, graph_path=path)
    if place is None:
        write_stdout(to_stream(artifact))
    return artifact
