"""What a dry run says of each stage: whether its result is there already, and if not, why.

Vectors are not read, so a graph is known by everything but them, and what follows from it as well.
Where a result is gone, what was once made from it may still be there, and is found again if the new
one is the same.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2cli.files.artifact_tables import Kind
from d2cli.files.artifacts import Artifact, stage_key
from d2cli.files.cache import glance
from d2cli.files.digests import digest_labels
from d2cli.files.inputs import FoundEmbedding
from d2cli.files.modalities import FoundModalities
from d2cli.files.remote import Place
from d2cli.params import GraphParams
from d2cli.pipeline.modalities import graph_parameters, lists_of
from d2cli.pipeline.run import STAGE_VERSIONS
from d2cli.quantities import size_text
from d2cli.render.wording import plain

MISS, IF_SAME = "miss", "hit if the {} are the same"
IF_GRAPH_SAME = "hit if the graph is the same"
FORCED = "--force computes it again"
LABEL_BYTES = 20  # of an id or a group's name, about


@dataclass(frozen=True)
class Possible:
    """The digests that an input may turn out to have.

    Attributes
    ----------
    one_of : frozenset of str
        Those of the results that are there; empty where it is to be made.
    none_of : frozenset of str
        Those of results that are there and are not what will be made.
    """

    one_of: frozenset[str] = frozenset()
    none_of: frozenset[str] = frozenset()

    def __contains__(self, digest: object) -> bool:
        return digest in self.one_of if self.one_of else digest not in self.none_of


ANYTHING = Possible()


@dataclass(frozen=True)
class Forecast:
    """What will become of a stage.

    Attributes
    ----------
    stage : str
    status : str
        "miss", or "hit if the vectors are the same"; where the graph or the scores are to be made
        again, "hit if the graph is the same" or "hit if the scores are the same".
    reason : str
        Where it is, or what differs from the most similar result that is there.
    n_rows : int
    disk_bytes : int
        What its result takes up, about.
    found : tuple of Artifact
        The results that are there, alike in all that is known; their metadata only.
    standing : tuple of Artifact
        All that was looked at.
    """

    stage: str
    status: str
    reason: str
    n_rows: int
    disk_bytes: int
    found: tuple[Artifact, ...] = ()
    standing: tuple[Artifact, ...] = field(default=(), repr=False)

    def line(self) -> str:
        """Return it as text."""
        size = f"{self.n_rows:,} rows, about {size_text(self.disk_bytes)} on disk"
        return f"{self.stage}: {self.status} ({self.reason}); {size}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        names = ("stage", "status", "reason", "n_rows", "disk_bytes")
        return {name: getattr(self, name) for name in names}

    def possible(self) -> Possible:
        """Return what the digest of this result may turn out to be."""
        there = (frozenset(one.digest for one in many) for many in (self.found, self.standing))
        return Possible(*there)


def standing_artifacts(kind: Kind, output: Place | None, folder: Path | None) -> list[Artifact]:
    """Return what is at the output or, without one, in the cache folder: metadata, not verified."""
    paths: Iterable[Place] = ()
    if output is not None:
        paths = [output]
    elif folder is not None and os.access(folder, os.W_OK):  # else the run does without
        paths = sorted(folder.glob(f"{kind}-*.parquet"))
    found = (glance(path) for path in paths)
    return [artifact for artifact in found if artifact and artifact.meta.get("kind") == kind]


def forecast_graph(
    found: FoundEmbedding | FoundModalities,
    params: GraphParams,
    standing: list[Artifact],
    place: str,
    *,
    force: bool,
) -> Forecast:
    """Say whether a graph is there already.

    Parameters
    ----------
    found : FoundEmbedding or FoundModalities
        Vectors that are not read.
    params : GraphParams
    standing : list of Artifact
        See `standing_artifacts`.
    place : str
        Where the result goes, for messages.
    force : bool
        It is made in any case.
    """
    n = found.rows.n_rows
    inputs = {}
    if found.rows.ids is not None:
        inputs["id"] = digest_labels(found.rows.ids)
    if found.within is not None:
        inputs["within"] = found.within.digest
    width = params.n_neighbors * lists_of(found)
    size = n * (8 * width + (LABEL_BYTES if found.rows.ids is not None else 0))
    if force:
        return Forecast("graph", MISS, FORCED, n, size)
    # Without rows in its key, a graph of other vectors is known by their number.
    of_size = [one for one in standing if one.meta.get("n_rows") == n]
    made, open_inputs = graph_parameters(found, params), dict.fromkeys(found.unread, ANYTHING)
    like = _alike("graph", made, inputs, open_inputs, of_size)
    if like:
        status, reason = IF_SAME.format("vectors"), like[0].name
    else:
        status = MISS
        ours = [one for one in standing if _is_of_this_code(one)]
        reason = _difference(made, inputs, open_inputs, ours, place, n_rows=n)
    return Forecast("graph", status, reason, n, size, like, tuple(standing))


def forecast_next(
    kind: Kind,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    open_inputs: Mapping[str, Possible],
    standing: list[Artifact],
    *,
    before: Forecast,
    n_rows: int,
    row_bytes: int,
    place: str,
    force: bool,
) -> Forecast:
    """Say whether scores or a selection are there already.

    Parameters
    ----------
    kind : {"scores", "selection"}
    parameters, inputs : dict
        What the key is made of, but for ``open_inputs``.
    open_inputs : mapping of str to Possible
        Inputs whose digests are not known yet.
    standing : list of Artifact
    before : Forecast
        Of the stage before.
    n_rows, row_bytes : int
        Of the result.
    place : str
        Where the result goes, for messages.
    force : bool
        It is made in any case.
    """
    stage, size = {"scores": "score", "selection": "select"}[kind], n_rows * row_bytes
    if force:
        return Forecast(stage, MISS, FORCED, n_rows, size)
    like = _alike(kind, parameters, inputs, open_inputs, standing)
    if like:
        if before.found:  # known but for what it is known but for
            status = before.status
        else:
            status = IF_GRAPH_SAME if before.stage == "graph" else IF_SAME.format("scores")
        reason = like[0].name
    else:
        status, reason = MISS, "what it is made from will be made"
        if before.found:
            reason = _difference(parameters, inputs, open_inputs, standing, place)
    return Forecast(stage, status, reason, n_rows, size, like, tuple(standing))


def _alike(
    kind: Kind,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    open_inputs: Mapping[str, Possible],
    standing: Iterable[Artifact],
) -> tuple[Artifact, ...]:
    """Return the results whose keys a run would look for, if its open inputs are theirs."""

    def is_alike(one: Artifact) -> bool:
        wanted = _closed(inputs, open_inputs, one.meta["inputs"])
        return one.key == stage_key(kind, STAGE_VERSIONS[kind], parameters, wanted)

    return tuple(one for one in standing if is_alike(one))


def _closed(
    inputs: dict[str, str], open_inputs: Mapping[str, Possible], theirs: dict[str, str]
) -> dict[str, str]:
    """Return all inputs; open ones are as in another result where they may be, else empty."""
    as_theirs = {
        name: theirs.get(name, "") if theirs.get(name) in possible else ""
        for name, possible in open_inputs.items()
    }
    return {**inputs, **as_theirs}


def _is_of_this_code(graph: Artifact) -> bool:
    """Return whether this version would give a graph of the same inputs the same key."""
    of = graph.meta["parameters"], graph.meta["inputs"]
    return stage_key("graph", STAGE_VERSIONS["graph"], *of) == graph.key


def _difference(
    parameters: dict[str, Any],
    inputs: dict[str, str],
    open_inputs: Mapping[str, Possible],
    standing: Sequence[Artifact],
    place: str,
    *,
    n_rows: int | None = None,
) -> str:
    """Return what differs from the most similar result that is there."""
    nearest: tuple[str, ...] = ()
    for artifact in standing:
        meta = artifact.meta
        ours = _closed(inputs, open_inputs, meta["inputs"])
        changes = tuple(_changes(parameters, ours, meta))
        if n_rows is not None and meta.get("n_rows") != n_rows:
            changes = (f"rows {meta.get('n_rows'):,} -> {n_rows:,}", *changes)
        if changes and (not nearest or len(changes) < len(nearest)):
            nearest = changes
    if nearest:
        return ", ".join(nearest)
    return "made by other code" if standing else f"nothing like it in {place}"


def _changes(
    parameters: dict[str, Any], inputs: dict[str, str], meta: dict[str, Any]
) -> Iterator[str]:
    """Yield what differs from a result that is there, as "neighbors 10 -> 15"."""
    theirs = meta.get("parameters", {})
    for name in dict.fromkeys((*parameters, *theirs)):
        ours, other = parameters.get(name), theirs.get(name)
        if ours != other:
            yield f"{name.removeprefix('n_').replace('_', '-')} {_text(other)} -> {_text(ours)}"
    known = meta.get("inputs", {})
    for name in dict.fromkeys((*inputs, *known)):
        if inputs.get(name) == known.get(name):
            continue
        what = "changed" if name in inputs and name in known else "added"
        yield f"{name} {what if name in inputs else 'left out'}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return plain(value)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
