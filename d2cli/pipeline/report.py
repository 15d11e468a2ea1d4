"""``d2 report``: the report of a selection again, from the files that it was made from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, ParameterError
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import Artifact
from d2cli.files.colref import only_column
from d2cli.files.column import Source
from d2cli.files.digests import digest_array
from d2cli.files.excerpts import Excerpts, find_excerpts
from d2cli.files.inputs import Labels, read_vectors_of, read_wishes, rows_like
from d2cli.files.modalities import find_modalities_of, input_name
from d2cli.files.previous import Previous, read_previous
from d2cli.files.stages import ids_of
from d2cli.params import GraphParams, SelectParams
from d2cli.pipeline.modalities import vectors_of
from d2cli.pipeline.run import Run
from d2cli.pipeline.selection import Pick, publish_report
from d2cli.pipeline.standing import Standing, colref_in, find_group, find_standing
from d2cli.pipeline.targets import Targets
from d2cli.stages.selection import Wishes


@dataclass(frozen=True)
class ReportRefs:
    """What the user names beside the selection; None where it is to be found.

    Attributes
    ----------
    scores, graph : str or None
        Files.
    source : str or None
        File of the data, whose columns the others may name.
    embedding : tuple of str
        COLREFs, each ``[NAME=]COLREF[:WEIGHT]`` if there are several.
    group, show, id_ : str or None
        COLREFs.
    include, exclude : str or None
        Lists of ids or rows.
    previous : str or None
        The previous selection.
    """

    scores: str | None = None
    graph: str | None = None
    source: str | None = None
    embedding: tuple[str, ...] = ()
    group: str | None = None
    include: str | None = None
    exclude: str | None = None
    id_: str | None = None
    show: str | None = None
    previous: str | None = None


def run_report(
    run: Run,
    selection_ref: str,
    refs: ReportRefs,
    *,
    targets: Targets,
    cache_dir: str | None = None,
) -> dict[str, Any]:
    """Compute the report of a selection and publish it.

    Parameters
    ----------
    run : Run
    selection_ref : str
        Parquet file of a selection, or "-".
    refs : ReportRefs
    targets : Targets
        Where the report goes; rows go nowhere.
    cache_dir : str, optional
        The cache folder that scores and graph are looked for in.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    ArtifactError
        If something that the selection was made from is not found, or is not what it was made from.
    """
    targets.check()
    if refs.embedding and targets.report_suffix != ".html":
        raise ParameterError(
            "--embedding draws a map, which only a report in HTML holds",
            hint="add -o report.html, or leave out --embedding",
        )
    standing = find_standing(
        selection_ref, scores_ref=refs.scores, graph_ref=refs.graph, cache_dir=cache_dir
    )
    selection, scores, graph = standing.selection, standing.scores, standing.graph
    rows = rows_like(scores.name, scores.table.num_rows, ids_of(scores), refs.id_)
    home = run.sources.open(refs.source) if refs.source else None
    pick = Pick(
        graph,
        scores,
        _params(selection),
        _group(run, standing, rows, refs),
        _wishes(run, selection, rows, refs),
        _shown(run, rows, refs),
        _previous(selection, rows, refs),
    )
    read_vectors = None
    if targets.report_suffix == ".html":
        read_vectors = _vectors(run, graph, rows, refs, home)
    targets.check_places(run, selection_ref, scores.name, graph.name, refs.previous)
    report = pick.report(run, selection)
    if targets.report is not None or targets.summary:
        publish_report(run, pick, selection, report, targets, read_vectors)
    return report


def _params(selection: Artifact) -> SelectParams:
    try:
        return SelectParams(**selection.meta["parameters"])
    except TypeError as error:
        raise ArtifactError(
            f"{selection.name}: has parameters that this version of d2 does not know",
            hint="make it again, or use the version that made it",
        ) from error


# --- what else the selection was made from --------------------------------------------------------


def _group(run: Run, standing: Standing, rows: Rows, refs: ReportRefs) -> Labels | None:
    """Return the groups that had budgets; they are needed."""
    labels = find_group(run.sources, standing, rows, group=refs.group, source=refs.source)
    if labels is None and "group" in standing.selection.meta["inputs"]:
        raise ArtifactError(
            f"{standing.selection.name}: was made with --group, whose column is not known here",
            hint="name it with --group FILE::COLUMN, or the data with --source",
        )
    return labels


def _wishes(run: Run, selection: Artifact, rows: Rows, refs: ReportRefs) -> Wishes:
    """Return the rows to include and exclude, if they are those of the selection."""
    wishes = read_wishes(run.sources, refs.include, refs.exclude, rows)
    for name in ("include", "exclude"):
        expected = selection.meta["inputs"].get(name)
        given: NDArray[np.int64] = getattr(wishes, name)
        if (digest_array(given) if len(given) else None) != expected:
            said = getattr(refs, name)
            raise ArtifactError(
                f"{selection.name}: was made with --{name}, whose rows are not known here"
                if said is None
                else f"{said}: does not hold the rows that {selection.name} was made with",
                hint=f"name the list that --{name} named then"
                if expected
                else f"leave out --{name}: the selection was made without it",
            )
    return wishes


def _previous(selection: Artifact, rows: Rows, refs: ReportRefs) -> Previous | None:
    """Return the previous selection, if it is the one that the selection was compared with."""
    expected = selection.meta["inputs"].get("previous")
    found = None if refs.previous is None else read_previous(refs.previous, rows)
    if (found.digest if found else None) != expected:
        raise ArtifactError(
            f"{selection.name}: was made with --previous, which is not known here"
            if found is None
            else f"{found.name}: is not the previous selection that {selection.name} was made with",
            hint="name the selection that --previous named then"
            if expected
            else "leave out --previous: the selection was made without it",
        )
    return found


def _shown(run: Run, rows: Rows, refs: ReportRefs) -> Excerpts | None:
    if not refs.show:
        return None
    return find_excerpts(run.sources, colref_in(run.sources, refs.show, refs.source), rows, None)


def _vectors(
    run: Run, graph: Artifact, rows: Rows, refs: ReportRefs, home: Source | None
) -> Callable[[], NDArray[Any]] | None:
    """Return what reads the vectors of the graph; None if they are not at hand."""
    if "fusion" in graph.meta["parameters"]:
        return _side_by_side(run, graph, rows, refs, home)
    if len(refs.embedding) > 1:
        raise ParameterError(
            f"{len(refs.embedding)} embeddings are given, but {graph.name} was made of one",
            hint="name that one",
        )
    named = refs.embedding[0] if refs.embedding else None
    if named is None and home is not None and _has_vectors(home):
        column = only_column(home, "embedding").column.name
        named = column or refs.source
    if named is None:
        return None
    ref = colref_in(run.sources, named, refs.source)
    packed = graph.meta["parameters"]["metric"] == "hamming"
    where, vectors = read_vectors_of(run.sources, ref, rows, packed=packed)
    if digest_array(vectors, run.room) != graph.meta["inputs"]["vectors"]:
        message = f"{where}: does not hold the vectors that {graph.name} was made from"
        if refs.embedding:
            raise ArtifactError(message, hint="name the right ones, or leave out --embedding")
        run.note(f"note: {message}, so there is no map")
        return None
    return lambda: vectors


def _side_by_side(
    run: Run, graph: Artifact, rows: Rows, refs: ReportRefs, home: Source | None
) -> Callable[[], NDArray[Any]] | None:
    """Do as `_vectors` for a graph of several modalities, which have to be named."""
    made, inputs = graph.meta["parameters"], graph.meta["inputs"]
    names = list(made["weights"])
    if not refs.embedding:
        listed = " ".join(f"-e {name}=FILE::COLUMN" for name in names)
        run.note(f"note: there is no map; {listed} would draw one")
        return None
    if len(refs.embedding) == 1:
        raise ParameterError(
            f"1 embedding is given, but {graph.name} was made of {len(names)}",
            hint=f"name all of them: {', '.join(names)}",
        )
    data = find_modalities_of(run.sources, refs.embedding, rows, home).read(run.room)
    for name in names:
        if data.digests.get(input_name(name)) != inputs[input_name(name)]:
            raise ArtifactError(
                f"{data.where_of.get(name, data.where)}: does not hold the vectors of {name} that "
                f"{graph.name} was made from",
                hint="name the right ones as -e NAME=FILE::COLUMN, or leave out --embedding",
            )
    params = GraphParams(n_neighbors=made["n_neighbors"], seed=made["seed"])
    weighed = replace(data, shares=made["weights"])
    return lambda: vectors_of(run, weighed, params)


def _has_vectors(home: Source) -> bool:
    return any(column.kind == "vectors" for column in home.columns.values())
