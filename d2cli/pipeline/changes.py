"""What an update is asked for, and which files that means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files.additions import check_ids, check_type, check_width, within_of
from d2cli.files.alignment import NO_IDS
from d2cli.files.artifacts import Artifact
from d2cli.files.graph_sources import NAME_THEM, Part, named_origin
from d2cli.files.inputs import FoundEmbedding, find_embedding
from d2cli.files.modalities import FoundModalities, only_colref
from d2cli.files.modality_sources import FusedPart, find_fused_added, named_fused_origin
from d2cli.files.origins import Origin, origin_of
from d2cli.files.stages import fusion_of, graph_params
from d2cli.params import GraphParams
from d2cli.pipeline.run import Run

REBUILD = "build a new graph with `d2 graph`"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is to become of a graph, as it was asked for.

    Attributes
    ----------
    add : str or None
        SOURCE of the rows to add.
    retire : str or None
        List of the rows to take out; see `d2cli.files.rowlists`.
    sources : tuple of str
        The sources of the graph, where those that it records are not to be used.
    embedding : tuple of str
        COLREFs of the added SOURCE, of several embeddings each NAME=COLREF; what is left out has
        the name that the graph records.
    id_, within : str or None
        As are these.
    n_neighbors, metric : int, str or None
        Refused unless they are the graph's.
    backend : {"auto", "exact", "cells"}
    recall : float or None
        None for the graph's target.
    """

    add: str | None
    retire: str | None
    sources: tuple[str, ...] = ()
    embedding: tuple[str, ...] = ()
    id_: str | None = None
    within: str | None = None
    n_neighbors: int | None = None
    metric: str | None = None
    backend: Literal["auto", "exact", "cells"] = "auto"
    recall: float | None = None

    def params(self, graph: Artifact) -> GraphParams:
        """Return the parameters of the result."""
        made = replace(graph_params(graph), partitions=None)  # all rows are in one place again
        self._refuse_other("neighbors", self.n_neighbors, made.n_neighbors, graph, ParameterError)
        self._refuse_other("metric", self.metric, made.metric, graph, InputError)
        if self.recall is not None:
            made = replace(made, recall=self.recall)
        return made if self.backend == "auto" else replace(made, backend=self.backend)

    def _refuse_other(
        self,
        option: str,
        wanted: object,
        there: object,
        graph: Artifact,
        error: type[InputError] | type[ParameterError],
    ) -> None:
        if wanted not in (None, there):
            raise error(
                f"{option} is {wanted}, but {graph.name} was built with {option} {there}",
                hint=f"leave out --{option}, or {REBUILD}",
            )

    def colref(self, run: Run, graph: Artifact, home: str) -> str | None:
        """Return what names the one embedding of added rows; None if nothing does."""
        if len(self.embedding) > 1:
            raise InputError(
                f"{len(self.embedding)} embeddings are given, but {graph.name} is of one",
                hint=f"give one, or {REBUILD}",
            )
        return only_colref(run.sources, home, self.embedding)


def origins_before(
    run: Run, graph: Artifact, recorded: list[Origin] | None, changes: Changes
) -> list[Origin]:
    """Return the sources of the graph: as named, else as recorded."""
    if not changes.sources:
        if recorded is None:
            raise ArtifactError(f"{graph.name}: does not say where its vectors are", hint=NAME_THEM)
        return recorded
    known: Sequence[Origin | None] = recorded or [None] * len(changes.sources)
    if len(known) != len(changes.sources):
        raise ParameterError(
            f"--source is given {len(changes.sources)} times, but {graph.name} was made from "
            f"{len(known)} sources",
            hint=f"they are: {', '.join(one.source for one in recorded or ())}",
        )
    both = list(zip(changes.sources, known, strict=True))
    if fusion_of(graph):
        given = changes.embedding
        return [named_fused_origin(run.sources, graph, *one, given) for one in both]
    named = changes.colref(run, graph, changes.sources[0])
    return [named_origin(run.sources, text, one, named) for text, one in both]


def origins_after(
    parts: Sequence[Part] | Sequence[FusedPart], retired: NDArray[np.int64]
) -> list[Origin]:
    """Return the origins less the retired rows; those that have no rows left are left out."""
    found, at = [], 0
    for part in parts:
        held = part.origin.n_kept
        own = retired[(retired >= at) & (retired < at + held)] - at
        at += held
        origin = part.origin.without(own)
        if origin.n_kept:
            found.append(origin)
    return found


def find_added(
    run: Run,
    graph: Artifact,
    changes: Changes,
    recorded: list[Origin] | None,
    survivors: NDArray[np.int64],
) -> tuple[FoundEmbedding | FoundModalities, Origin]:
    """Find the rows to add, and where they are; refuse those that do not go with the graph."""
    assert changes.add is not None
    home = run.sources.open(changes.add)
    last = recorded[-1] if recorded else None

    def known(role: str) -> str | None:
        """Return the name that the graph records, if the added source has it."""
        name = last.name(role) if last else None
        return name if name in home.columns or (role == "id" and name == NO_IDS) else None

    within = changes.within or known("within")
    old_groups = within_of(graph)
    if old_groups is None and changes.within:
        raise ParameterError(
            f"within is {changes.within}, but {graph.name} was built without groups",
            hint=f"leave out --within, or {REBUILD}",
        )
    if old_groups is not None and not within:
        raise InputError(
            f"{home.name}: {graph.name} was searched within groups, and which column holds them "
            "here is not known",
            hint="name it with --within",
        )
    others: dict[str, str | None] = {
        "id_": changes.id_ or known("id"),
        "within": within if old_groups is not None else None,
    }
    found: FoundEmbedding | FoundModalities
    named = None
    if fusion_of(graph):
        found = find_fused_added(run.sources, graph, changes.add, changes.embedding, last, **others)
    else:
        named = changes.colref(run, graph, changes.add) or known("embedding")
        found = find_embedding(run.sources, changes.add, embedding=named, **others)
        check_width(graph, found)
    check_ids(graph, found, survivors)
    if old_groups is not None and found.within is not None:
        check_type(found.within.values, old_groups, f"{home.name}::{within}", graph, "groups")
    return found, origin_of(run.sources, changes.add, found, embedding=named, **others)
