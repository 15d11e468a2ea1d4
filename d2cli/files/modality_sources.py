"""The modalities of a graph from its sources, known by their digests, then those of added rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.additions import other_width
from d2cli.files.alignment import NO_IDS
from d2cli.files.artifacts import Artifact
from d2cli.files.column import Source, list_columns
from d2cli.files.digests import digest_some_rows
from d2cli.files.graph_sources import NAME_THEM, foreign
from d2cli.files.modalities import FoundModalities, Fused, find_named, input_name
from d2cli.files.named_refs import NamedRef, parse, resolve_named
from d2cli.files.origins import Origin
from d2cli.files.sources import Sources
from d2cli.params import Fusion
from d2cli.stages.room import Room
from d2cli.stages.vectors import vector_type


@dataclass(frozen=True, eq=False)
class FusedPart:
    """A source of the rows of a graph of several modalities, found again; nothing is read yet."""

    origin: Origin
    found: FoundModalities

    def read(self, name: str, room: Room) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Read a modality of the rows that the graph holds: vectors (p, d), and of which rows."""
        vectors, rows = self.found.each[name].read(room)
        if rows is None:
            rows = np.arange(len(vectors), dtype=np.int64)
        kept = self.origin.kept
        if kept is None:
            return vectors, rows
        held = kept[rows]
        return vectors[held], np.cumsum(kept)[rows[held]] - 1


@dataclass(frozen=True, eq=False)
class Joined:
    """Modalities of a graph's survivors, then of the added rows.

    Attributes
    ----------
    vectors_of, rows_of
        See `d2cli.files.modalities.Fused`.
    digests : dict of str to str
        By the names of inputs.
    lacking : dict of str to int
        How many rows lack each modality.
    """

    vectors_of: dict[str, NDArray[Any]]
    rows_of: dict[str, NDArray[np.int64] | None]
    digests: dict[str, str]
    lacking: dict[str, int]


def shares_in(graph: Artifact) -> dict[str, float]:
    """Return the shares of a graph's modalities, by name, ascending."""
    weights = graph.meta["parameters"]["weights"]
    return {str(name): float(weights[name]) for name in sorted(weights)}


def find_fused_parts(
    sources: Sources, graph: Artifact, origins: Sequence[Origin]
) -> list[FusedPart]:
    """Find the sources of a graph of several modalities; see `find_parts`.

    Raises
    ------
    InputError
        If one is not there, or cannot be read.
    ArtifactError
        If they do not have the rows of the graph.
    """
    shares, parts = shares_in(graph), []
    fusion: Fusion = graph.meta["parameters"]["fusion"]
    for origin in origins:
        try:
            home = sources.open(origin.source)
            refs = {name: _recorded(graph, home, origin, name) for name in shares}
            found = find_named(
                sources,
                origin.source,
                refs,
                shares,
                fusion,
                id_=origin.colref("id"),
                within=None,
            )
        except InputError as error:
            error.hint = f"{graph.name} was made from it; {NAME_THEM}"
            raise
        if origin.n_rows < 0:  # nothing is recorded
            origin = replace(origin, n_rows=found.rows.n_rows)
        if found.rows.n_rows != origin.n_rows:
            raise foreign(graph, found.where)
        parts.append(FusedPart(origin, found))
    if sum(part.origin.n_kept for part in parts) != graph.table.num_rows:
        raise foreign(graph, ", ".join(part.found.where for part in parts))
    return parts


def _recorded(graph: Artifact, home: Source, origin: Origin, name: str) -> NamedRef:
    """Return the column of a modality where a source is recorded."""
    colref = origin.colref(input_name(name))
    if colref is None:
        raise InputError(
            f"{home.name}: which column holds '{name}' of {graph.name} is not known; it has "
            f"{list_columns(home)}"
        )
    return NamedRef(colref, name, colref)


def named_fused_origin(
    sources: Sources,
    graph: Artifact,
    text: str,
    recorded: Origin | None,
    given: Sequence[str] | None,
) -> Origin:
    """Return the origin that ``--source FILE`` names in place of a recorded one.

    Columns are those of the recorded names; where nothing is recorded, those of the names that
    ``-e NAME=COLREF`` gives for the added rows.
    """
    home, columns = sources.open(text), {}
    known = named_refs(sources, graph, given, home)
    for name in shares_in(graph):
        role = input_name(name)
        file, column = recorded.columns.get(role, ("", "")) if recorded else ("", "")
        if column in home.columns:
            columns[role] = ("", column)
        elif file:
            columns[role] = (file, column)
        elif name in known:
            columns[role] = ("", known[name].colref)
    id_ = recorded.name("id") if recorded else None
    if id_ and (id_ == NO_IDS or id_ in home.columns):
        columns["id"] = ("", id_)
    kept = recorded.kept if recorded else None
    return Origin(text, columns, recorded.n_rows if recorded else -1, kept)


def named_refs(
    sources: Sources, graph: Artifact, given: Sequence[str] | None, home: Source | None
) -> dict[str, NamedRef]:
    """Return what ``-e [NAME=]COLREF`` says of added rows, by the names of a graph's modalities.

    Raises
    ------
    InputError
        If a name is none of the graph's.
    ParameterError
        If a name is given twice, or with a weight.
    """
    found: dict[str, NamedRef] = {}
    shares = shares_in(graph)
    for text in given or ():
        one = parse(text, home)
        if one.weight != "1":
            raise ParameterError(
                f"embedding '{text}' has a weight, but those of {graph.name} stay",
                hint="leave out the weight, or build a new graph with `d2 graph`",
            )
        name = one.name or resolve_named(one, sources, home).title
        if name not in shares:
            raise InputError(
                f"embedding '{text}' is of '{name}', but {graph.name} is of {', '.join(shares)}",
                hint="say -e NAME=COLREF with one of these names",
            )
        if name in found:
            raise ParameterError(
                f"2 embeddings are called '{name}'", hint="give each name of the graph once"
            )
        found[name] = one
    return found


def find_fused_added(
    sources: Sources,
    graph: Artifact,
    source: str,
    given: Sequence[str] | None,
    recorded: Origin | None,
    *,
    id_: str | None,
    within: str | None,
) -> FoundModalities:
    """Find the modalities of the rows to add: as named, else under the names of the columns before.

    Raises
    ------
    InputError
        If a modality of the graph is missing, or of another width.
    """
    home, shares = sources.open(source), shares_in(graph)
    refs = named_refs(sources, graph, given, home)
    for name in shares:
        column = recorded.name(input_name(name)) if recorded else None
        if name in refs:
            continue
        if column not in home.columns or not column:
            wanted = f" (column '{column}' of the rows before)" if column else ""
            raise InputError(
                f"{home.name}: has no '{name}'{wanted}, which {graph.name} is of; it has "
                f"{list_columns(home)}",
                hint=f"name it with -e {name}=COLREF",
            )
        refs[name] = NamedRef(column, name, column)
    fusion: Fusion = graph.meta["parameters"]["fusion"]
    return find_named(sources, source, refs, shares, fusion, id_=id_, within=within)


def join_modalities(
    graph: Artifact,
    parts: Sequence[FusedPart],
    survivors: NDArray[np.int64],
    added: Fused | None,
    room: Room,
) -> Joined:
    """Return the modalities of a graph's survivors, then of the added rows.

    Raises
    ------
    ArtifactError
        If the parts do not hold the vectors that the graph was made from.
    InputError
        If added vectors are of another width or of a wider type, or a modality has no row left.
    """
    number = np.full(graph.table.num_rows, -1, dtype=np.int64)
    number[survivors] = np.arange(len(survivors))
    n = len(survivors) + (added.rows.n_rows if added else 0)
    vectors_of, rows_of, digests, lacking = {}, {}, {}, {}
    for name, wide in searched_types(graph, parts).items():
        vectors, rows = _read_old(graph, parts, name, wide, room)
        stay = number[rows] >= 0
        if not stay.all():
            vectors, rows = vectors[stay], rows[stay]
        rows = number[rows]
        if added is not None:
            more, theirs = _read_added(graph, added, name, vectors)
            vectors = np.concatenate([vectors, more])
            rows = np.concatenate([rows, theirs + len(survivors)])
        if not len(rows):
            raise InputError(
                f"{graph.name}: no row with a '{name}' is left",
                hint="retire fewer rows, or build a new graph with `d2 graph`",
            )
        vectors_of[name] = vectors
        rows_of[name] = rows if len(rows) < n else None
        digests[input_name(name)] = digest_some_rows(vectors, rows_of[name])
        if len(rows) < n:
            lacking[name] = n - len(rows)
    return Joined(vectors_of, rows_of, digests, lacking)


def _read_old(
    graph: Artifact, parts: Sequence[FusedPart], name: str, wide: np.dtype[Any], room: Room
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read a modality of a graph's rows: vectors (p, d) of type ``wide``, and of which rows."""
    read = [part.read(name, room) for part in parts]
    strange = foreign(graph, ", ".join(part.found.each[name].ref.where for part in parts))
    if len({vectors.shape[1:] for vectors, _ in read}) > 1:
        raise strange
    vectors = np.concatenate([own.astype(wide, copy=False) for own, _ in read])
    starts = np.cumsum([0, *(part.origin.n_kept for part in parts)])
    rows = np.concatenate([own + at for (_, own), at in zip(read, starts, strict=False)])
    some = None if len(rows) == graph.table.num_rows else rows
    if digest_some_rows(vectors, some) != graph.meta["inputs"].get(input_name(name)):
        raise strange
    return vectors, rows


def _read_added(
    graph: Artifact, added: Fused, name: str, old: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return a modality of added rows, of the type and width of the old, and of which rows."""
    more, rows, where = added.vectors_of[name], added.rows_of[name], added.where_of[name]
    if more.shape[1:] != old.shape[1:]:
        raise other_width(graph, where, more.shape[-1], old.shape[1])
    if np.dtype(vector_type(more.dtype)).itemsize > old.dtype.itemsize:
        raise InputError(
            f"{where}: is {more.dtype}, but '{name}' of {graph.name} was searched as {old.dtype}",
            hint=f"store the added vectors as {old.dtype}, or build a new graph with `d2 graph`",
        )
    if rows is None:
        rows = np.arange(len(more), dtype=np.int64)
    return more.astype(old.dtype, copy=False), rows


def searched_types(graph: Artifact, parts: Sequence[FusedPart]) -> dict[str, np.dtype[Any]]:
    """Return the type that each modality of a graph was searched in, by name."""
    recorded: Mapping[str, Any] = graph.meta["results"].get("update", {}).get("dtypes", {})
    found = {}
    for name in shares_in(graph):
        if recorded.get(name) in ("float32", "float64"):
            found[name] = np.dtype(str(recorded[name]))
            continue
        types = (vector_type(part.found.each[name].header.dtype) for part in parts)
        found[name] = np.result_type(*types)
    return found
