"""A graph of several modalities, updated: from files to what is sealed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, InputError
from d2cli.files.artifacts import Artifact
from d2cli.files.graph_index import kept_of
from d2cli.files.modalities import Fused
from d2cli.files.modality_sources import FusedPart, join_modalities, shares_in
from d2cli.files.stages import fusion_of, graph_of
from d2cli.params import GraphParams
from d2cli.pipeline.modalities import fused_results
from d2cli.pipeline.run import Run
from d2cli.pipeline.updated import Updated, together
from d2cli.stages.fused import fuse
from d2cli.stages.fused_update import update_fused
from d2cli.stages.fusion import as_modalities, require_complete
from d2cli.stages.groups import Groups


def _check(run: Run, graph: Artifact, params: GraphParams, added: Fused) -> None:
    """Refuse added rows that do not go with a graph; a bad row is named as it is there."""
    n = added.rows.n_rows
    try:
        modalities = as_modalities(
            added.vectors_of, shares_in(graph), n, params.metric, rows=added.rows_of, room=run.room
        )
        if fusion_of(graph) == "concat":
            require_complete(modalities)
    except InputError as error:
        raise error.at(added.where) from None


def bandwidths_in(graph: Artifact) -> dict[str, float]:
    """Return the bandwidths that a graph was made with, by the names of its modalities.

    Raises
    ------
    ArtifactError
        If they make no sense.
    """
    try:
        recorded = graph.meta["results"]["bandwidths"]
        found = {name: float(recorded[name]) for name in shares_in(graph)}
    except (KeyError, TypeError, ValueError):
        found = {}
    if not found or not all(0 < value < np.inf for value in found.values()):
        raise ArtifactError(f"{graph.name}: is no graph of d2: it has no bandwidths")
    return found


def update_modalities(
    run: Run,
    graph: Artifact,
    parts: list[FusedPart],
    *,
    survivors: NDArray[np.int64],
    params: GraphParams,
    added: Fused | None,
    groups: Groups | None,
    again: bool,
) -> Updated:
    """Read the modalities of a graph and update it; see `update_vectors`.

    With ``again``, bandwidths are measured and all rows are searched as for a new graph.
    """
    fusion, bandwidths, old = fusion_of(graph), bandwidths_in(graph), graph_of(graph)
    assert fusion is not None
    if added is not None:
        _check(run, graph, params, added)
    joined = join_modalities(graph, parts, survivors, added, run.room)
    types = {"dtypes": {name: str(own.dtype) for name, own in joined.vectors_of.items()}}
    n = len(survivors) + (added.rows.n_rows if added else 0)
    how: Any = {"groups": groups, "n_threads": run.n_threads, "on_progress": run.on_progress}
    try:
        modalities = as_modalities(
            joined.vectors_of,
            shares_in(graph),
            n,
            params.metric,
            rows=joined.rows_of,
            room=run.room,
        )
        if again:
            why = "is approximate" if old.backend != "exact" else "has bandwidths of fewer rows"
            run.note(f"note: {graph.name} {why}, so all rows are searched again")
            fused = fuse(modalities, fusion, params, **how)
        else:
            kept = kept_of(graph)
            fused = update_fused(
                old, modalities, survivors, fusion, params, bandwidths, kept=kept, **how
            )
    except InputError as error:
        raise together(error, graph, added.where if added else None) from None
    results = fused_results(fused, modalities, joined.lacking)
    return Updated(fused.graph, joined.digests, results, types, fused.kept)
