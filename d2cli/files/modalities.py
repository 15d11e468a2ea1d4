"""Several embeddings of the same rows, read with gaps: some rows may lack a modality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.alignment import NO_IDS, Rows, identify
from d2cli.files.colref import fitting, resolve, split
from d2cli.files.column import Header, Source, list_columns
from d2cli.files.columns import ColumnRef, VectorDefects, read_vectors_there
from d2cli.files.digests import digest_labels, digest_some_rows
from d2cli.files.inputs import FoundEmbedding, Labels, find_embedding, read_group
from d2cli.files.named_refs import NamedRef, colref_alone, has_name, parse, resolve_named
from d2cli.files.sources import Sources
from d2cli.params import FUSION, Fusion
from d2cli.stages.fusion import require_any, shares_of
from d2cli.stages.room import IN_MEMORY, Room


@dataclass(frozen=True, eq=False)
class Fused:
    """Vectors of several modalities as they are stored, and the rows they belong to.

    Attributes
    ----------
    fusion : {"concat", "distance", "graphs"}
    shares : dict of str to float
        By name, ascending.
    vectors_of : dict of str to array, shape (p, d)
    rows_of : dict of str to int64 array, shape (p,), or None
        The rows that have the modality, ascending; None if all do.
    where_of : dict of str to str
        FILE::COLUMN.
    rows : Rows
    within : Labels or None
    digests : dict of str to str
    """

    fusion: Fusion
    shares: dict[str, float]
    vectors_of: dict[str, NDArray[Any]]
    rows_of: dict[str, NDArray[np.int64] | None]
    where_of: dict[str, str]
    rows: Rows
    within: Labels | None
    digests: dict[str, str]

    @property
    def where(self) -> str:
        """Where the vectors are, for messages."""
        return self.rows.name

    @property
    def lacking(self) -> dict[str, int]:
        """How many rows lack each modality."""
        counts = {name: self.rows.n_rows - len(v) for name, v in self.vectors_of.items()}
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True, eq=False)
class FoundModality:
    """One modality that is not read yet.

    Attributes
    ----------
    ref : ColumnRef
    header : Header
    matched : int64 array, shape (n,), or None
        The row of the vectors for each of the rows, -1 where there is none; None if the same.
    file : str
        Where the column is, as it was named; "" for the SOURCE itself.
    """

    ref: ColumnRef
    header: Header
    matched: NDArray[np.int64] | None
    file: str = ""

    @property
    def width(self) -> int:
        """Width of a vector, 0 if it is not known before they are read."""
        return self.ref.source.width(self.ref.column.name)

    def read(self, room: Room) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return the vectors of the rows that have any (p, d), and these rows; None if all do."""
        vectors, there = read_vectors_there(self.ref, room, VectorDefects(nulls=True))
        if self.matched is None:
            return vectors, None if there is None else np.flatnonzero(there).astype(np.int64)
        numbers = self.matched
        if there is not None:
            number = np.where(there, np.cumsum(there) - 1, -1)
            numbers = np.where(numbers >= 0, number[numbers], -1)
        has = numbers >= 0
        return vectors[numbers[has]], None if has.all() else np.flatnonzero(has).astype(np.int64)


@dataclass(frozen=True, eq=False)
class FoundModalities:
    """Several modalities that are not read yet, and all that goes with them."""

    fusion: Fusion
    shares: dict[str, float]
    each: dict[str, FoundModality]
    rows: Rows
    within: Labels | None

    @property
    def where(self) -> str:
        """Where the vectors are, for messages."""
        return self.rows.name

    @property
    def united(self) -> bool:
        """Whether the graph is the union of one graph per modality."""
        return self.fusion == "graphs"

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of the inputs whose digests are not known before they are read."""
        return tuple(input_name(name) for name in self.each)

    def read(self, room: Room = IN_MEMORY, *, packed: bool = False) -> Fused:
        """Read all vectors; ``packed`` codes are not fused, and are refused when they are.

        Raises
        ------
        InputError
            If a row has no modality at all, or a modality has no row.
        """
        vectors, rows, digests = {}, {}, {}
        for name, found in self.each.items():
            vectors[name], rows[name] = found.read(room)
            if not len(vectors[name]):
                raise InputError(f"{found.ref.where}: has a vector for no row of {self.rows.name}")
            digests[input_name(name)] = digest_some_rows(vectors[name], rows[name])
        try:
            require_any(rows, self.rows.n_rows)
        except InputError as error:
            raise error.at(self.rows.name) from None
        if self.rows.ids is not None:
            digests["id"] = digest_labels(self.rows.ids)
        if self.within is not None:
            digests["within"] = self.within.digest
        where = {name: found.ref.where for name, found in self.each.items()}
        return Fused(
            self.fusion, self.shares, vectors, rows, where, self.rows, self.within, digests
        )


def input_name(name: str) -> str:
    """Return how the digest of a modality is called among those of a graph's inputs."""
    return f"vectors of {name}"


def only_colref(sources: Sources, source: str, embedding: Sequence[str] | str | None) -> str | None:
    """Return the COLREF of at most one embedding, without a NAME before it; None if none is."""
    if not embedding:
        return None
    (text,) = [embedding] if isinstance(embedding, str) else embedding
    return colref_alone(text, sources.open(source)) if has_name(text) else text


def find_vectors(
    sources: Sources,
    source: str,
    *,
    embedding: Sequence[str] | str | None,
    fusion: Fusion | None,
    id_: str | None,
    within: str | None,
) -> FoundEmbedding | FoundModalities:
    """Find the vectors of one embedding, or of several; read ids and the groups to search within.

    Parameters
    ----------
    sources : Sources
    source : str
        The command's SOURCE.
    embedding : sequence of str
        Each ``[NAME=]COLREF[:WEIGHT]``; a name that is left out is that of the column or file.
        One without a NAME is a plain COLREF; none: the only one that SOURCE has.
    fusion : {"concat", "distance", "graphs"} or None
        `FUSION` if left out; refused unless there are several.
    id_, within : str or None
        COLREFs.
    """
    given = [embedding] if isinstance(embedding, str) else list(embedding or ())
    if len(given) < 2:
        if fusion is not None:
            raise ParameterError(
                f"fusion {fusion} needs several embeddings, {len(given) or 'none'} "
                f"{'is' if len(given) < 2 else 'are'} given",
                hint="give -e NAME=COLREF for each, or leave out --fusion",
            )
        alone = only_colref(sources, source, embedding)
        return find_embedding(sources, source, embedding=alone, id_=id_, within=within)
    shares, colrefs = _name(sources, given, sources.open(source))
    return find_named(sources, source, colrefs, shares, fusion or FUSION, id_=id_, within=within)


def find_named(
    sources: Sources,
    source: str,
    colrefs: Mapping[str, NamedRef],
    shares: dict[str, float],
    fusion: Fusion,
    *,
    id_: str | None,
    within: str | None,
) -> FoundModalities:
    """Find modalities whose names and shares are known; see `find_vectors`."""
    home = sources.open(source)
    refs = {name: resolve_named(one, sources, home) for name, one in colrefs.items()}
    lengths = (
        ref.source.header(ref.column.name).n_rows for ref in refs.values() if ref.source is home
    )
    ids = resolve(id_, "id", sources, home) if id_ and id_ != NO_IDS else None
    rows = identify(home, ids, next(lengths, home.n_rows), id_)
    files = {
        name: "" if ref.source is home else split(colrefs[name].colref)[0]
        for name, ref in refs.items()
    }
    labels = read_group(sources, within, rows) if within else None
    return FoundModalities(fusion, shares, _match(refs, rows, files), rows, labels)


def find_modalities_of(
    sources: Sources, given: Sequence[str], rows: Rows, home: Source | None = None
) -> FoundModalities:
    """Find several modalities of rows that are known, each ``[NAME=]COLREF[:WEIGHT]``.

    Columns without a file are those of ``home``, or of where the rows come from.
    """
    home = home or rows.source
    shares, named = _name(sources, given, home)
    refs = {name: resolve_named(one, sources, home) for name, one in named.items()}
    return FoundModalities(FUSION, shares, _match(refs, rows), rows, None)


def same_columns(found: FoundModalities, home: Source) -> FoundModalities:
    """Find the modalities of other rows: those of a file that has the columns of the same names."""
    refs = {}
    for name, one in found.each.items():
        column = home.columns.get(one.ref.column.name)
        if column is None or not column.name:
            raise InputError(
                f"{home.name}: no column '{one.ref.column.name}' with the {name} of its rows; it "
                f"has {list_columns(home)}",
                hint="the file needs the columns of all modalities, under their names",
            )
        refs[name] = fitting(home, column, "embedding")
    n_rows = max(home.header(ref.column.name).n_rows for ref in refs.values())
    rows = Rows(home.name, n_rows, None, home, NO_IDS)
    return FoundModalities(found.fusion, found.shares, _match(refs, rows), rows, None)


def _name(
    sources: Sources, given: Sequence[str], home: Source | None
) -> tuple[dict[str, float], dict[str, NamedRef]]:
    """Return the shares of modalities, and what was said of them, by name, ascending."""
    parsed = [parse(text, home) for text in given]
    names = [one.name or resolve_named(one, sources, home).title for one in parsed]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(
                f"{names.count(name)} embeddings are called '{name}'",
                hint="give each a name of its own: -e NAME=COLREF",
            )
    shares = shares_of({name: one.weight for name, one in zip(names, parsed, strict=True)})
    by_name = dict(zip(names, parsed, strict=True))
    return shares, {name: by_name[name] for name in shares}


def _match(
    refs: Mapping[str, ColumnRef], rows: Rows, files: Mapping[str, str] | None = None
) -> dict[str, FoundModality]:
    """Return modalities with the vector of each row."""
    found = {}
    for name, ref in refs.items():
        header = ref.source.header(ref.column.name)
        matched = rows.rows_of(ref, header.n_rows, partial=True)
        found[name] = FoundModality(ref, header, matched, (files or {}).get(name, ""))
    return found
