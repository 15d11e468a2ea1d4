"""``d2 update``: rows added to a graph, and others taken out of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.additions import joined_labels
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key, to_stream
from d2cli.files.column import Header
from d2cli.files.columns import group_labels
from d2cli.files.digests import digest_array, digest_json, digest_labels
from d2cli.files.graph_index import index_column
from d2cli.files.graph_sources import Part, find_parts, searched_type
from d2cli.files.inputs import Embedding, FoundEmbedding
from d2cli.files.modalities import FoundModalities, Fused
from d2cli.files.modality_sources import FusedPart, find_fused_parts, searched_types
from d2cli.files.origins import Origin, origins_of, to_record
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.remote import Place, as_place
from d2cli.files.rowlists import read_rows
from d2cli.files.sources import STDIN
from d2cli.files.stages import (
    FUSED_PARAMETERS,
    fusion_of,
    graph_of,
    graph_table,
    ids_of,
    packed_in,
    stored_width,
)
from d2cli.files.stdout import write_stdout
from d2cli.params import Fusion, GraphParams
from d2cli.pipeline.changes import REBUILD, Changes, find_added, origins_after, origins_before
from d2cli.pipeline.forecast import FORCED, MISS, Forecast, standing_artifacts
from d2cli.pipeline.graph import warn_about_graph
from d2cli.pipeline.plan import Plan
from d2cli.pipeline.planning import DryRun, follow, in_memory, within_limit
from d2cli.pipeline.run import STAGE_VERSIONS, Run, checked_place, run_stage
from d2cli.pipeline.update_fused import bandwidths_in, update_modalities
from d2cli.pipeline.update_plan import plan_fused_update, plan_update
from d2cli.pipeline.updated import update_vectors


@dataclass(frozen=True, eq=False)
class Updating:
    """Everything that an updated graph depends on.

    Attributes
    ----------
    graph : Artifact
    params : GraphParams
        Of the result.
    parts : list of Part or FusedPart
        The sources of the graph.
    survivors : int64 array, shape (s,), ascending
    retired : int64 array, shape (r,), ascending
    found : FoundEmbedding, FoundModalities or None
        The rows to add.
    origins : list of Origin
        The sources of the result.
    exactly : bool
        The graph built anew was asked for.
    """

    graph: Artifact
    params: GraphParams
    parts: list[Part] | list[FusedPart]
    survivors: NDArray[np.int64]
    retired: NDArray[np.int64]
    found: FoundEmbedding | FoundModalities | None
    origins: list[Origin]
    exactly: bool

    @property
    def in_cells(self) -> bool:
        """Whether rows may be searched in cells."""
        was_exact = self.graph.meta["results"]["backend"] == "exact"
        return self.params.backend == "cells" or (self.params.backend != "exact" and not was_exact)

    @property
    def n_added(self) -> int:
        """Rows to add."""
        return self.found.rows.n_rows if self.found else 0

    @property
    def fusion(self) -> Fusion | None:
        """How several embeddings became the graph; None if it is of one."""
        return fusion_of(self.graph)

    @property
    def again(self) -> bool:
        """Whether bandwidths are measured again, as those of graphs are in any case."""
        was_exact = self.graph.meta["results"]["backend"] == "exact"
        if not self.fusion or (was_exact and self.fusion == "graphs"):
            return False
        return self.exactly or (self.params.backend == "exact" and not was_exact)

    @property
    def fused_parts(self) -> list[FusedPart]:
        """The sources of a graph of several embeddings."""
        return [part for part in self.parts if isinstance(part, FusedPart)]

    @property
    def plain_parts(self) -> list[Part]:
        """The sources of a graph of one embedding."""
        return [part for part in self.parts if isinstance(part, Part)]

    def read_added(self, run: Run) -> Embedding | Fused | None:
        """Read the rows to add, if there are any."""
        if self.found is None:
            return None
        return self.found.read(run.room, packed=packed_in(self.graph))

    def plan(self, run: Run) -> Plan:
        """Return what the update takes, within the limit of `d2cli.files.memory`."""
        found = [*(part.found for part in self.parts), *([self.found] if self.found else [])]
        headers: list[tuple[Header, int]] = []
        for one in found:
            if isinstance(one, FoundModalities):
                headers += [(own.header, own.width) for own in one.each.values()]
            else:
                headers.append((one.header, stored_width(self.graph)))
        held = sum(
            header.n_rows * width * header.dtype.itemsize
            for header, width in headers
            if not header.mapped
        )
        sizes = self.graph.table.num_rows, self.n_added, len(self.retired)
        how: Any = {"in_cells": self.in_cells, "held": held, "n_threads": run.n_threads}
        if self.fusion:
            widths = {name: one.width for name, one in self.fused_parts[0].found.each.items()}
            types = searched_types(self.graph, self.fused_parts)
            plan = plan_fused_update(*sizes, widths, types, self.params, self.fusion, **how)
            return in_memory(plan, self.graph.name)
        dtype = searched_type(self.graph, self.plain_parts)
        plan = plan_update(*sizes, stored_width(self.graph), self.params, dtype, **how)
        return within_limit(plan, self.graph.name)

    def recorded(self) -> dict[str, Any]:
        """Return the parameters that the result records."""
        more = self.graph.meta["parameters"]
        return {
            **self.params.recorded(),
            **{name: more[name] for name in FUSED_PARAMETERS if name in more},
        }

    def inputs(self, added: Embedding | Fused | None) -> dict[str, str]:
        """Return the digests that the key is made of."""
        digests = {f"added_{name}": one for name, one in (added.digests if added else {}).items()}
        if self.fusion and not self.again:
            digests["bandwidths"] = digest_json(bandwidths_in(self.graph))
        return {
            "graph": self.graph.digest,
            **digests,
            "retired": digest_array(self.retired.astype(np.float64)),
        }

    def key(self, added: Embedding | Fused | None) -> str:
        """Return what the result depends on."""
        inputs = self.inputs(added)
        return stage_key("graph", STAGE_VERSIONS["graph"], self.recorded(), inputs)

    def make(self, run: Run, added: Embedding | Fused | None) -> Artifact:
        """Read the vectors, update the graph and seal it."""
        ids, within = joined_labels(self.graph, self.survivors, added)
        groups = None if within is None else group_labels(within)
        common: Any = {"survivors": self.survivors, "params": self.params, "groups": groups}
        if isinstance(added, Fused) or self.fusion:
            assert not isinstance(added, Embedding)
            made = update_modalities(
                run, self.graph, self.fused_parts, added=added, again=self.again, **common
            )
        else:
            made = update_vectors(run, self.graph, self.plain_parts, added=added, **common)
        index = index_column(made.kept, made.graph.n_samples)
        inputs = made.digests
        inputs |= {} if ids is None else {"id": digest_labels(ids)}
        inputs |= {} if within is None else {"within": digest_labels(within)}
        counts = {"added": self.n_added, "retired": len(self.retired), **made.types}
        return seal(
            "graph",
            graph_table(made.graph, ids, within, index),
            key=self.key(added),
            parameters=self.recorded(),
            inputs={**inputs, **self.inputs(added)},
            results={**made.results, "update": counts},
        )


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
        Where vectors go that do not fit into memory; see `d2cli.files.cache.cache_folder`.

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
    added = updating.read_added(run)
    artifact = run_stage(
        run,
        "graph",
        updating.key(added),
        place,
        lambda: updating.make(run, added),
        sources=to_record(updating.origins, place),
    )
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
    before = origins_before(run, graph, recorded, changes)
    find = find_fused_parts if fusion_of(graph) else find_parts
    parts = find(run.sources, graph, before)
    found, after = None, origins_after(parts, retired)
    if changes.add is not None:
        found, origin = find_added(run, graph, changes, recorded, survivors)
        after.append(origin)
    place, exactly = checked_place(run, output, graph_ref), changes.backend == "exact"
    return Updating(graph, params, parts, survivors, retired, found, after, exactly), place
