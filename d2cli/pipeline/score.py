"""``d2 score``: a graph and a difficulty to a scores file."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key, to_stream
from d2cli.files.digests import digest_array
from d2cli.files.inputs import (
    DifficultyColumn,
    Labels,
    read_classes,
    read_difficulty,
    read_group,
    refuse_known_source,
    rows_like,
)
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.remote import Place, Remote, as_place
from d2cli.files.sources import STDIN
from d2cli.files.stages import graph_of, ids_of, metric_of, scores_results, scores_table
from d2cli.files.stdout import write_stdout
from d2cli.params import PROBE, Direction, GraphParams, ScoreParams
from d2cli.pipeline.engine import LOCAL, EngineParams
from d2cli.pipeline.forward import check_forward_engine, make_in_parts
from d2cli.pipeline.modalities import read_side_by_side
from d2cli.pipeline.run import STAGE_VERSIONS, Run, checked_place, run_stage
from d2cli.stages.forward import Forward
from d2cli.stages.held_out import score_by_probe
from d2cli.stages.score import Scores, score_rows
from d2cli.stages.vectors import as_vectors


@dataclass(frozen=True, eq=False)
class Judge:
    """What ``prune_hardest="probe"`` decides by.

    Attributes
    ----------
    where : str
        Of the vectors.
    vectors : array, shape (n, d)
        As stored.
    labels : Labels
    select_given : dict
        Fields of `SelectParams` that the selections tried do not leave at their defaults.
    """

    where: str
    vectors: NDArray[Any]
    labels: Labels
    select_given: dict[str, Any]

    @property
    def digests(self) -> dict[str, str]:
        """Digests of both."""
        return {"probe": digest_array(self.vectors), "labels": self.labels.digest}


def scores_parameters(
    params: ScoreParams, column: DifficultyColumn, tried: dict[str, Any]
) -> dict[str, Any]:
    """Return the parameters that scores depend on; ``tried`` is what a `Judge` was given."""
    found = {**asdict(params), "difficulty": column.name, "harder": column.direction}
    return {**found, "tried": tried} if tried else found


def inputs_beside_graph(column: DifficultyColumn, group: Labels | None) -> dict[str, str]:
    """Return the digests of what scores depend on beside a graph and a judge."""
    found = {"difficulty": column.digest}
    return {**found, "group": group.digest} if group else found


@dataclass(frozen=True, eq=False)
class Scoring:
    """Everything that scores depend on.

    Attributes
    ----------
    graph : Artifact
    column : DifficultyColumn
    params : ScoreParams
    group : Labels or None
    judge : Judge or None
        There if, and only if, the cutoff is left to the probe.
    """

    graph: Artifact
    column: DifficultyColumn
    params: ScoreParams
    group: Labels | None
    judge: Judge | None

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, with name and direction of the difficulty."""
        tried = self.judge.select_given if self.judge else {}
        return scores_parameters(self.params, self.column, tried)

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of the inputs."""
        found = {"graph": self.graph.digest, **inputs_beside_graph(self.column, self.group)}
        return {**found, **self.judge.digests} if self.judge else found

    @property
    def key(self) -> str:
        """What the scores depend on."""
        return stage_key("scores", STAGE_VERSIONS["scores"], self.parameters, self.inputs)

    def make(self, run: Run, forward: Forward | None = None) -> Artifact:
        """Run the forward pass, in parts if so asked, and seal the scores."""
        scores = self._score(run, forward)
        artifact = seal(
            "scores",
            scores_table(scores, ids_of(self.graph)),
            key=self.key,
            parameters=self.parameters,
            inputs=self.inputs,
            results=scores_results(scores),
        )
        return replace(artifact, row_order=self.graph.row_order)

    def _score(self, run: Run, forward: Forward | None) -> Scores:
        graph = graph_of(self.graph)
        difficulty = self.column.orient(shift=self.params.shift)
        groups = self.group.groups if self.group else None
        judge, vectors = self.judge, None
        if judge is not None:
            try:
                vectors = as_vectors(
                    judge.vectors,
                    metric_of(self.graph),
                    room=run.room,
                    whitening=graph.whitening,
                    n_threads=run.n_threads,
                )
            except InputError as error:
                raise error.at(judge.where) from None
        try:
            if judge is None or vectors is None:
                return score_rows(graph, difficulty, self.params, groups=groups, forward=forward)
            return score_by_probe(
                graph,
                difficulty,
                self.params,
                vectors=vectors,
                labels=judge.labels.groups,
                groups=groups,
                select_given=judge.select_given,
                n_threads=run.n_threads,
                on_progress=run.on_progress,
            )
        except InputError as error:
            raise error.at(self.column.where) from None


def check_judge(
    params: ScoreParams, labels: str | None, embedding: Sequence[str] | str | None
) -> None:
    """Refuse a probe without labels, vectors or rate, and what only a probe would use."""
    if params.prune_hardest != PROBE:
        for option, given in (("--labels", labels), ("--embedding", embedding)):
            if given:
                raise ParameterError(
                    f"{option} is only used by --prune-hardest probe",
                    hint="leave it out, or add --prune-hardest probe",
                )
        return
    if not labels:
        raise ParameterError(
            "--prune-hardest probe needs the labels that a probe predicts", hint="add --labels"
        )
    if not embedding:
        raise ParameterError(
            "--prune-hardest probe needs the vectors that a probe sees",
            hint="add --embedding FILE::COLUMN, or use `d2 prune`",
        )
    if params.rate is None:
        raise ParameterError("--prune-hardest probe needs a rate", hint="add --rate")


def _way_to_graph(place: Place | None, graph_ref: str) -> str | None:
    """Return the path from scores to their graph; None if there is none, and it comes along."""
    graph = as_place(graph_ref)
    if isinstance(place, Remote):
        return place.way_to(graph) if isinstance(graph, Remote) else None
    if place is None or isinstance(graph, Remote) or not graph.is_file():
        return None
    return os.path.relpath(os.path.realpath(graph), os.path.realpath(place.parent))


def run_score(
    run: Run,
    graph_ref: str,
    params: ScoreParams,
    *,
    difficulty: str,
    harder: Direction | None = None,
    group: str | None = None,
    labels: str | None = None,
    embedding: Sequence[str] | str | None = None,
    id_: str | None = None,
    output: str = STDIN,
    engine: EngineParams = LOCAL,
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
    labels : str, optional
    embedding : sequence of str, optional
        COLREFs of what the probe of ``prune_hardest`` predicts and sees.
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.
    engine : EngineParams
        Where messages are summed; does not change the scores.
    """
    if output != STDIN:
        check_suffix(as_place(output), ARTIFACT_SUFFIXES, "a scores file")
    check_judge(params, labels, embedding)
    check_forward_engine(engine, params)
    graph = read_artifact(graph_ref, "graph")
    engine.check(graph.table.num_rows)
    rows = rows_like(graph.name, graph.table.num_rows, ids_of(graph), id_)
    column = read_difficulty(run.sources, difficulty, rows, harder)
    budgets = read_group(run.sources, group, rows) if group else None
    judge = None
    if labels and embedding:
        classes = read_classes(run.sources, labels, rows)
        made = graph.meta["parameters"]
        about = GraphParams(n_neighbors=made["n_neighbors"], seed=made["seed"])
        packed = made["metric"] == "hamming"
        where, vectors = read_side_by_side(run, embedding, rows, about, packed=packed)
        judge = Judge(where, vectors, classes, {})
    place = checked_place(run, output, graph_ref)
    if place is not None:
        refuse_known_source(place, [graph])
    scoring = Scoring(graph, column, params.for_score(margin=column.margin), budgets, judge)
    path = _way_to_graph(place, graph_ref)

    def make() -> Artifact:
        scores = make_in_parts(run, scoring, engine) if engine.in_parts else scoring.make(run)
        return replace(scores, graph=graph) if path is None else scores

    artifact = run_stage(run, "scores", scoring.key, place, make, graph_path=path)
    if place is None:
        write_stdout(to_stream(artifact))
    return artifact
