"""``d2 update``: rows added to a graph, and others taken out of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files import cache
from d2cli.files.additions import (
    joined_labels,
    other_width,
)
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key, to_stream
from d2cli.files.columns import group_labels
from d2cli.files.digests import digest_array, digest_labels
from d2cli.files.graph_index import index_path, read_index
from d2cli.files.graph_sources import (
    Part,
    find_parts,
    join_vectors,
    refuse_wider,
    searched_type,
)
from d2cli.files.inputs import Embedding, FoundEmbedding
from d2cli.files.origins import Origin, origins_of, to_record
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.publish import write_stdout
from d2cli.files.remote import Place, as_place
from d2cli.files.rowlists import read_rows
from d2cli.files.sources import STDIN
from d2cli.files.stages import graph_of, graph_results, graph_table, ids_of, packed_in, stored_width
from d2cli.params import GraphParams
from d2cli.pipeline.changes import REBUILD, Changes, find_added, origins_after, origins_before
from d2cli.pipeline.forecast import FORCED, MISS, Forecast, standing_artifacts
from d2cli.pipeline.graph import keep_index, warn_about_graph
from d2cli.pipeline.plan import Plan
from d2cli.pipeline.planning import DryRun, follow, within_limit
from d2cli.pipeline.run import STAGE_VERSIONS, Run, checked_place, run_stage
from d2cli.pipeline.update_plan import plan_update
from d2cli.stages.graph import build_graph
from d2cli.stages.kept import KeptCells
from d2cli.stages.update import update_graph
from d2cli.stages.vectors import as_searchable, width_of


@dataclass(frozen=True, eq=False)
class Updating:
    """Everything that an updated graph depends on.

    Attributes
    ----------
    graph : Artifact
    params : GraphParams
        Of the result.
    parts : list of Part
        The sources of the graph.
    survivors : int64 array, shape (s,), ascending
    retired : int64 array, shape (r,), ascending
    found : FoundEmbedding or None
        The rows to add.
    origins : list of Origin
        The sources of the result.
    kept : dict of str to KeptCells
        What was kept of the graph.
    """

    graph: Artifact
    params: GraphParams
    parts: list[Part]
    survivors: NDArray[np.int64]
    retired: NDArray[np.int64]
    found: FoundEmbedding | None
    origins: list[Origin]
    kept: dict[str, KeptCells]

    @property
    def in_cells(self) -> bool:
        """Whether rows may be searched in cells."""
        was_exact = self.graph.meta["results"]["backend"] == "exact"
        return self.params.backend == "cells" or (self.params.backend != "exact" and not was_exact)

    @property
    def n_added(self) -> int:
        """Rows to add."""
        return self.found.rows.n_rows if self.found else 0

    def read_added(self, run: Run) -> Embedding | None:
        """Read the rows to add, if there are any."""
        if self.found is None:
            return None
        return self.found.read(run.room, packed=packed_in(self.graph))

    def plan(self, run: Run) -> Plan:
        """Return what the update takes, within the limit of `d2cli.files.memory`."""
        dtype = searched_type(self.graph, self.parts)
        dim = stored_width(self.graph)
        sources = [*(part.found for part in self.parts), *([self.found] if self.found else [])]
        held = sum(
            one.header.n_rows * dim * one.header.dtype.itemsize
            for one in sources
            if not one.header.mapped
        )
        plan = plan_update(
            self.graph.table.num_rows,
            self.n_added,
            len(self.retired),
            dim,
            self.params,
            dtype,
            in_cells=self.in_cells,
            held=held,
            n_threads=run.n_threads,
        )
        return within_limit(plan, self.graph.name)

    def inputs(self, added: Embedding | None) -> dict[str, str]:
        """Return the digests that the key is made of."""
        digests = {f"added_{name}": one for name, one in (added.digests if added else {}).items()}
        return {
            "graph": self.graph.digest,
            **digests,
            "retired": digest_array(self.retired.astype(np.float64)),
        }

    def key(self, added: Embedding | None) -> str:
        """Return what the result depends on."""
        inputs = self.inputs(added)
        return stage_key("graph", STAGE_VERSIONS["graph"], self.params.recorded(), inputs)

    def make(self, run: Run, added: Embedding | None, kept: dict[str, KeptCells]) -> Artifact:
        """Read the vectors, update the graph and seal it; ``kept`` is filled for the next."""
        if added is not None:
            self._check(run, added)
        joined, digest = join_vectors(
            self.graph, self.parts, self.survivors, added.vectors if added else None, run.room
        )
        dtype = str(joined.dtype)
        ids, within = joined_labels(self.graph, self.survivors, added)
        old = graph_of(self.graph)
        try:
            vectors, _ = as_searchable(
                joined,
                self.params.metric,
                whitening=old.whitening,
                room=run.room,
                overwrite=True,
                n_threads=run.n_threads,
            )
            del joined
            how: dict[str, Any] = {
                "groups": None if within is None else group_labels(within),
                "n_threads": run.n_threads,
                "on_progress": run.on_progress,
                "room": run.room,
            }
            if self.params.backend == "exact" and old.backend != "exact":
                run.note(f"note: {self.graph.name} is approximate, so all rows are searched again")
                graph = build_graph(vectors, self.params, **how)
            else:
                updated = update_graph(
                    old, vectors, self.survivors, self.params, kept=self.kept, **how
                )
                graph = updated.graph
                kept |= updated.kept
            graph = replace(graph, whitening=old.whitening)
        except InputError as error:
            if added is None:
                raise error.at(self.graph.name) from None
            # Each is right by itself: it is the two that differ.
            both = error.at(f"together with the rows of {self.graph.name}")
            raise both.at(added.where) from None
        inputs = {"vectors": digest}
        inputs |= {} if ids is None else {"id": digest_labels(ids)}
        inputs |= {} if within is None else {"within": digest_labels(within)}
        counts = {"added": self.n_added, "retired": len(self.retired), "dtype": dtype}
        return seal(
            "graph",
            graph_table(graph, ids, within),
            key=self.key(added),
            parameters=self.params.recorded(),
            inputs={**inputs, **self.inputs(added)},
            results={**graph_results(graph), "dim": width_of(vectors), "update": counts},
        )

    def _check(self, run: Run, added: Embedding) -> None:
        """Refuse added vectors that do not go with the graph; a bad row is named as it is there."""
        width = stored_width(self.graph)
        if added.vectors.ndim == 2 and added.vectors.shape[1] != width:
            raise other_width(self.graph, added.where, added.vectors.shape[1])
        refuse_wider(self.graph, self.parts, added.vectors.dtype, added.where)
        try:
            as_searchable(
                added.vectors,
                self.params.metric,
                whitening=graph_of(self.graph).whitening,
                room=run.room,
            )
        except InputError as error:
            raise error.at(added.where) from None


def run_update(
    run: Run,
    graph_ref: str,
    changes: Changes,
    *,
    output: str = STDIN,
    cache_dir: str | None = None,
) -> Artifact:
    """Update a graph and publish the result.

    Parameters
    ----------
    run : Run
    graph_ref : str
        Graph file, or "-".
    changes : Changes
    output : str
        Parquet file, or "-" for an Arrow stream on standard output.
    cache_dir : str, optional
        Where is kept what makes updates fast; see `d2cli.files.cache.cache_folder`.

    Returns
    -------
    Artifact

    Raises
    ------
    ParameterError
        If nothing is to be done, or with other parameters than those of the graph.
    InputError
        If rows to add do not go with the graph, or rows to take out are not in it, or are all.
    ArtifactError
        If the graph is damaged, or its sources hold other vectors.
    """
    updating, place = _find(run, graph_ref, changes, output)
    follow(run, updating.plan(run), cache_dir)
    kept: dict[str, KeptCells] = {}

    def make() -> Artifact:
        if updating.in_cells:
            updating.kept.update(_read_kept(run, updating.graph, cache_dir))
        return updating.make(run, added, kept)

    added = updating.read_added(run)
    artifact = run_stage(
        run,
        "graph",
        updating.key(added),
        place,
        make,
        sources=to_record(updating.origins, place),
    )
    keep_index(artifact, kept, cache_dir)
    warn_about_graph(run, artifact)
    if place is None:
        write_stdout(to_stream(artifact))
    return artifact


def plan_run_update(
    run: Run,
    graph_ref: str,
    changes: Changes,
    *,
    output: str = STDIN,
    cache_dir: str | None = None,
) -> DryRun:
    """Return what `run_update` would do; reads no vectors of the graph and writes nothing."""
    updating, place = _find(run, graph_ref, changes, output)
    plan = updating.plan(run)
    added = updating.read_added(run)
    standing = standing_artifacts("graph", place, None)
    key, n = updating.key(added), len(updating.survivors) + updating.n_added
    status, reason = MISS, f"{updating.n_added:,} rows added, {len(updating.retired):,} retired"
    if run.force:
        reason = FORCED
    elif any(one.key == key for one in standing):
        status, reason = "hit", str(place)
    size = n * (8 * updating.params.n_neighbors)
    return DryRun(plan, (Forecast("graph", status, reason, n, size),))


def _find(run: Run, graph_ref: str, changes: Changes, output: str) -> tuple[Updating, Place | None]:
    """Find everything, and refuse what does not go together before anything large is read."""
    if output != STDIN:
        check_suffix(as_place(output), ARTIFACT_SUFFIXES, "a graph")
    if changes.add is None and changes.retire is None:
        raise ParameterError("nothing is to be done", hint="add --add SOURCE or --retire FILE")
    graph = read_artifact(graph_ref, "graph")
    graph_of(graph)  # refused before all else if it makes no sense
    params = changes.params(graph)
    n_old = graph.table.num_rows
    retired = np.empty(0, dtype=np.int64)
    if changes.retire is not None:
        rows = Rows(graph.name, n_old, ids_of(graph), None)
        retired = np.sort(read_rows(changes.retire, rows, run.sources))
    if len(retired) == n_old:
        raise InputError(
            f"{changes.retire}: names all {n_old:,} rows of {graph.name}",
            hint=f"leave at least one, or {REBUILD}",
        )
    survivors = np.setdiff1d(np.arange(n_old), retired, assume_unique=True)
    recorded = origins_of(graph)
    parts = find_parts(run.sources, graph, origins_before(run, graph, recorded, changes))
    found, after = None, origins_after(parts, retired)
    if changes.add is not None:
        found, origin = find_added(run, graph, changes, recorded, survivors)
        after.append(origin)
    place = checked_place(run, output, graph_ref)
    return Updating(graph, params, parts, survivors, retired, found, after, {}), place


def _read_kept(run: Run, graph: Artifact, cache_dir: str | None) -> dict[str, KeptCells]:
    """Return what was kept of a graph; say so if it has to be made again."""
    path = index_path(cache.cache_folder(cache_dir), graph.digest)
    kept = read_index(path, graph.digest)
    if kept is None:
        why = f"{path} is damaged" if path.exists() else "its cells are not in the cache"
        run.note(f"note: {graph.name}: {why}; they are made again, which takes longer")
    return kept or {}
