"""A graph of one embedding, updated: from files to what is sealed."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.additions import other_width
from d2cli.files.artifacts import Artifact
from d2cli.files.graph_index import kept_of
from d2cli.files.graph_sources import Part, join_vectors, refuse_wider
from d2cli.files.inputs import Embedding
from d2cli.files.stages import graph_of, graph_results, stored_width
from d2cli.params import GraphParams
from d2cli.pipeline.run import Run
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.groups import Groups
from d2cli.stages.kept import KeptCells
from d2cli.stages.update import update_graph
from d2cli.stages.vectors import as_searchable, width_of


@dataclass(frozen=True, eq=False)
class Updated:
    """An updated graph, and what is recorded of it.

    Attributes
    ----------
    graph : KnnGraph
    digests : dict of str to str
        Of the vectors, by the names of inputs.
    results : dict
    types : dict
        The types that vectors were searched in.
    kept : dict of str to KeptCells
        For the next update.
    """

    graph: KnnGraph
    digests: dict[str, str]
    results: dict[str, Any]
    types: dict[str, Any]
    kept: dict[str, KeptCells] = field(default_factory=dict)


def update_vectors(
    run: Run,
    graph: Artifact,
    parts: list[Part],
    *,
    survivors: NDArray[np.int64],
    params: GraphParams,
    added: Embedding | None,
    groups: Groups | None,
) -> Updated:
    """Read the vectors of a graph and update it.

    Parameters
    ----------
    graph : Artifact
    parts : list of Part
        Its sources.
    survivors : int64 array, shape (s,), ascending
    params : GraphParams
        Of the result.
    added : Embedding or None
    groups : Groups or None
        Of the survivors, then of the added rows.

    Raises
    ------
    InputError
        If added rows do not go with the graph.
    ArtifactError
        If the parts do not hold the vectors that the graph was made from.
    """
    old, whitening = graph_of(graph), graph_of(graph).whitening
    if added is not None:
        _check(run, graph, parts, params, added)
    joined, digest = join_vectors(
        graph, parts, survivors, added.vectors if added else None, run.room
    )
    types = {"dtype": str(joined.dtype)}
    found: dict[str, KeptCells] = {}
    how: dict[str, Any] = {"n_threads": run.n_threads, "room": run.room}
    try:
        vectors, _ = as_searchable(
            joined, params.metric, whitening=whitening, overwrite=True, **how
        )
        del joined
        how |= {"groups": groups, "on_progress": run.on_progress}
        if params.backend == "exact" and old.backend != "exact":
            run.note(f"note: {graph.name} is approximate, so all rows are searched again")
            made = build_graph(vectors, params, **how)
        else:
            kept = kept_of(graph)
            if old.backend != "exact" and not kept:  # of before they were kept
                run.note(f"note: {graph.name} has no cells; they are made, which takes longer")
            updated = update_graph(old, vectors, survivors, params, kept=kept, **how)
            made, found = updated.graph, updated.kept
    except InputError as error:
        raise together(error, graph, added.where if added else None) from None
    made = replace(made, whitening=whitening)
    results = {**graph_results(made), "dim": width_of(vectors)}
    return Updated(made, {"vectors": digest}, results, types, found)


def together(error: InputError, graph: Artifact, where: str | None) -> InputError:
    """Return an error about a graph's rows and added ones, which are right by themselves."""
    if where is None:
        return error.at(graph.name)
    return error.at(f"together with the rows of {graph.name}").at(where)


def _check(
    run: Run, graph: Artifact, parts: list[Part], params: GraphParams, added: Embedding
) -> None:
    """Refuse added vectors that do not go with a graph; a bad row is named as it is there."""
    width = stored_width(graph)
    if added.vectors.ndim == 2 and added.vectors.shape[1] != width:
        raise other_width(graph, added.where, added.vectors.shape[1])
    refuse_wider(graph, parts, added.vectors.dtype, added.where)
    whitening = graph_of(graph).whitening
    try:
        as_searchable(added.vectors, params.metric, whitening=whitening, room=run.room)
    except InputError as error:
        raise error.at(added.where) from None
