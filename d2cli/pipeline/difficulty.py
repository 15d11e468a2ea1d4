"""``d2 difficulty``: a training log, a graph or embeddings to difficulty columns."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key, to_stream
from d2cli.files.colref import split
from d2cli.files.dynamics import (
    Classes,
    FinalOutputs,
    open_dynamics,
    read_classes,
    read_final,
    sample_outputs,
)
from d2cli.files.inputs import find_embedding, read_group, refuse_known_source, rows_like
from d2cli.files.logs import DynamicsLog
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.remote import Place, as_place
from d2cli.files.sources import STDIN
from d2cli.files.stages import difficulty_table, graph_of, ids_of
from d2cli.files.stdout import write_stdout
from d2cli.params import AUTO, DynamicsParams, LogValues, PrototypeParams
from d2cli.pipeline.planning import require_vectors
from d2cli.pipeline.run import STAGE_VERSIONS, Run, checked_place, run_stage
from d2cli.stages import dynamics as tally
from d2cli.stages import neighborhood, prototypes
from d2cli.stages.vectors import as_vectors


def run_dynamics(
    run: Run,
    dynamics: str,
    params: DynamicsParams,
    *,
    labels: str | None,
    final: str | None = None,
    id_: str | None = None,
    output: str = STDIN,
) -> Artifact:
    """Turn a training log into difficulty columns and publish them.

    Parameters
    ----------
    run : Run
    dynamics : str
        File, folder or glob; see `d2cli.files.dynamics`.
    params : DynamicsParams
    labels : str or None
        COLREF of the class numbers; needed.
    final : str, optional
        COLREF of the final model's outputs, for the entropy. Left out, those of the last epoch.
    id_ : str, optional
        COLREF of the ids beside the labels.
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.
    """
    _check_output(output)
    if labels is None:
        raise ParameterError(
            "a training log needs labels", hint="name the class of every row with --labels COLREF"
        )
    classes = read_classes(run.sources, labels, id_)
    log = open_dynamics(run.sources, dynamics, classes.rows)
    last = read_final(run.sources, final, classes.rows, log.n_classes) if final else None
    place = checked_place(run, output)
    n_classes = log.n_classes or (last.outputs.shape[1] if last else None)
    try:
        tally.check_labels(classes.numbers, n_classes)
    except InputError as error:
        raise error.at(classes.where) from None
    el2n_epochs, window = params.el2n_epochs_of(log.n_epochs), params.window_of(log.n_epochs)
    values = _values_of(log, params)
    of_final = _values_of_final(last, params) if last else None
    parameters = {
        "method": "dynamics", "values": values, "final_values": of_final,
        "el2n_epochs": el2n_epochs, "window": window,
    }  # fmt: skip
    inputs = {"dynamics": log.digest(), **classes.digests}
    if last is not None:
        inputs["final"] = last.digest
    _note_what(run, log, params, values, of_final)

    def make() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        columns = _tally(run, log, classes, values, el2n_epochs, window)
        if last is not None and of_final is not None:
            columns["entropy"] = _entropy(last, of_final, len(classes.numbers))
        columns = {name: columns[name] for name in tally.HARDER if name in columns}
        left_out = [name for name in tally.HARDER if name not in columns]
        results = {"n_epochs": log.n_epochs, "n_classes": n_classes, "left_out": left_out}
        return columns, results

    artifact = _publish(run, place, parameters, inputs, classes.rows.ids, make)
    _note_left_out(run, artifact)
    return artifact


def _values_of(log: DynamicsLog, params: DynamicsParams) -> LogValues:
    """Return what a log holds: as given, or by a sample of its rows."""
    if log.n_classes is None:
        if params.values == "logits":
            raise ParameterError(
                f"{log.where}: holds one number a row, which can only be a probability",
                hint="leave --values out, or name a column of lists",
            )
        return "probabilities"
    if params.values != AUTO:
        return params.values
    return "probabilities" if tally.looks_like_probabilities(sample_outputs(log)) else "logits"


def _values_of_final(final: FinalOutputs, params: DynamicsParams) -> LogValues:
    if params.values != AUTO:
        return params.values
    _, outputs = next(final.blocks())
    return "probabilities" if tally.looks_like_probabilities(outputs) else "logits"


def _note_what(
    run: Run, log: DynamicsLog, params: DynamicsParams, values: str, of_final: str | None
) -> None:
    if log.n_classes is None:
        run.note(f"note: {log.where} is read as the probability of the label")
    elif params.values == AUTO:
        run.note(f"note: {log.where} is read as {values}; --values says otherwise")
    if of_final is not None and params.values == AUTO and of_final != values:
        run.note(f"note: --final is read as {of_final}; --values says otherwise")


def _note_left_out(run: Run, artifact: Artifact) -> None:
    left_out, n_epochs = artifact.meta["results"]["left_out"], artifact.meta["results"]["n_epochs"]
    windowed = [name for name in ("dynamic_uncertainty", "dual") if name in left_out]
    if windowed:
        run.note(
            f"note: {n_epochs} epochs are too few for a window of 10, so {', '.join(windowed)} "
            "are left out; --window takes a smaller one"
        )
    others = [name for name in left_out if name not in windowed]
    if others:
        run.note(
            f"note: {', '.join(others)} need the outputs of all classes and are left out"
            if len(others) > 1
            else f"note: {others[0]} needs the outputs of all classes and is left out"
        )


def _tally(
    run: Run,
    log: DynamicsLog,
    classes: Classes,
    values: LogValues,
    el2n_epochs: int,
    window: int | None,
) -> dict[str, NDArray[Any]]:
    """Go through the log, epoch by epoch."""
    n = len(classes.numbers)
    sums = tally.Tally(n, log.n_epochs, el2n_epochs=el2n_epochs, window=window)
    for epoch in range(log.n_epochs):
        check = tally.EpochCheck(n, values)
        for rows, outputs in log.blocks(epoch):
            if check.admit(rows, outputs):
                sums.add(epoch, rows, _read(outputs, classes.numbers[rows], values))
        check.refuse(log.name_of(epoch))
        run.on_progress("epochs", epoch + 1, log.n_epochs)
    return sums.columns()


def _read(outputs: NDArray[Any], labels: NDArray[np.int64], values: LogValues) -> tally.Reading:
    if outputs.ndim == 1:
        return tally.Reading(np.minimum(outputs.astype(np.float64), 1.0))
    return tally.read_outputs(outputs, labels, values)


def _entropy(final: FinalOutputs, values: LogValues, n_samples: int) -> NDArray[np.float64]:
    check = tally.EpochCheck(n_samples, values)
    entropy = np.zeros(n_samples)
    for rows, outputs in final.blocks():
        if check.admit(rows, outputs):
            anything = np.zeros(len(outputs), dtype=np.int64)  # entropy does not ask for the label
            entropy[rows] = tally.read_outputs(outputs, anything, values).entropy
    check.refuse(final.where)
    return entropy


def run_neighborhood(
    run: Run,
    graph_ref: str,
    *,
    labels: str | None = None,
    id_: str | None = None,
    output: str = STDIN,
) -> Artifact:
    """Turn a graph, and labels if given, into difficulty columns and publish them.

    Parameters
    ----------
    run : Run
    graph_ref : str
        Graph file, or "-".
    labels, id_ : str, optional
        COLREFs; labels may be of any type.
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.
    """
    _check_output(output)
    graph = read_artifact(graph_ref, "graph")
    rows = rows_like(graph.name, graph.table.num_rows, ids_of(graph), id_)
    group = read_group(run.sources, labels, rows) if labels else None
    place = checked_place(run, output, graph_ref)
    if place is not None:
        refuse_known_source(place, [graph])
    inputs = {"graph": graph.digest, **({"labels": group.digest} if group else {})}

    def make() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        knn = graph_of(graph)
        columns = {"neighbor_distance": neighborhood.neighbor_distance(knn)}
        if group is not None:
            columns["label_disagreement"] = neighborhood.label_disagreement(knn, group.groups)
        return columns, {"alone": int((knn.neighbors < 0).all(axis=1).sum())}

    artifact = _publish(run, place, {"method": "neighborhood"}, inputs, ids_of(graph), make)
    alone = artifact.meta["results"]["alone"]
    if alone:
        run.note(f"warning: {alone:,} rows have no neighbor; they count as far as the farthest")
    if group is not None and "within" in graph.table.column_names:
        run.note(
            "warning: this graph searched inside groups; label_disagreement says little if these "
            "were the labels"
        )
    return artifact


def run_prototypes(
    run: Run,
    embedding: str,
    params: PrototypeParams,
    *,
    labels: str | None = None,
    id_: str | None = None,
    output: str = STDIN,
) -> Artifact:
    """Measure how far embeddings are from their prototypes and publish it.

    Parameters
    ----------
    run : Run
    embedding : str
        FILE, FILE::COLUMN, or "-".
    params : PrototypeParams
    labels, id_ : str, optional
        COLREFs; with labels, prototypes are sought inside a label.
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.
    """
    _check_output(output)
    source, column = split(embedding)
    found = find_embedding(run.sources, source, embedding=column, id_=id_, within=labels)
    require_vectors(
        found,
        "read the vectors and find prototypes",
        copies=1,
        row_bytes=60,
        smaller="vectors of fewer rows or axes need less",
    )
    data = found.read()
    place = checked_place(run, output)
    count = params.n_prototypes(data.rows.n_rows, labelled=labels is not None)
    parameters = {"method": "prototypes", **asdict(params), "prototypes": count}

    def make() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        try:
            vectors = as_vectors(data.vectors, "cosine")
        except InputError as error:
            raise error.at(data.where) from None
        found = prototypes.measure_prototypicality(
            vectors,
            count,
            groups=data.within.groups if data.within else None,
            seed=params.seed,
            n_threads=run.n_threads,
            on_progress=run.on_progress,
        )
        return {"prototypicality": found.distances}, {
            "n_prototypes": found.n_prototypes,
            "n_iterations": found.n_iterations,
            "converged": found.converged,
        }

    artifact = _publish(run, place, parameters, data.digests, data.rows.ids, make)
    results = artifact.meta["results"]
    if not results["converged"]:
        run.note(f"warning: prototypes still moved after {results['n_iterations']} iterations")
    return artifact


def _check_output(output: str) -> None:
    if output != STDIN:
        check_suffix(as_place(output), ARTIFACT_SUFFIXES, "difficulty columns")


def _publish(
    run: Run,
    place: Place | None,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    ids: Any,  # noqa: ANN401
    make: Any,  # noqa: ANN401
) -> Artifact:
    """Make the columns unless they are up to date, and write them."""
    key = stage_key("difficulty", STAGE_VERSIONS["difficulty"], parameters, inputs)

    def sealed() -> Artifact:
        columns, results = make()
        harder = {
            name: direction
            for known in (tally.HARDER, neighborhood.HARDER, prototypes.HARDER)
            for name, direction in known.items()
            if name in columns
        }
        return seal(
            "difficulty",
            difficulty_table(columns, ids, harder),
            key=key,
            parameters=parameters,
            inputs=inputs,
            results={**results, "harder": harder},
        )

    artifact = run_stage(run, "difficulty", key, place, sealed)
    if place is None:
        write_stdout(to_stream(artifact))
    return artifact
