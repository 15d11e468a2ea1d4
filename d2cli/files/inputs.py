"""What the stages take, read from files: arrays with their digests, rows matched."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.alignment import NO_IDS, Rows, identify
from d2cli.files.artifacts import Artifact
from d2cli.files.colref import only_column, resolve
from d2cli.files.column import Header, Source
from d2cli.files.columns import (
    ColumnRef,
    VectorDefects,
    group_labels,
    read_labels,
    read_numbers,
    read_vectors,
    read_vectors_there,
)
from d2cli.files.digests import digest_array, digest_labels, digest_some_rows
from d2cli.files.remote import Place
from d2cli.files.rowlists import read_rows
from d2cli.files.sources import Sources
from d2cli.params import Direction
from d2cli.stages.difficulty import MARGINS, Difficulty, direction_of, orient, uniform_difficulty
from d2cli.stages.groups import Groups
from d2cli.stages.room import IN_MEMORY, Room, release
from d2cli.stages.selection import Wishes
from d2cli.stages.space import gathered_rows

UNIFORM = "uniform"


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of all rows."""

    values: pa.Array
    digest: str

    @property
    def groups(self) -> Groups:
        """The rows grouped by label."""
        return group_labels(self.values)


@dataclass(frozen=True, eq=False)
class Embedding:
    """Vectors as they are stored (n, d), and the rows they belong to."""

    where: str
    vectors: NDArray[Any]
    rows: Rows
    within: Labels | None
    digests: dict[str, str]


@dataclass(frozen=True, eq=False)
class DifficultyColumn:
    """Values of a score (None for uniform difficulty), their name and direction.

    ``margin`` says whether the name is that of a margin and low values are harder.
    """

    where: str
    name: str | None
    values: NDArray[Any] | None
    direction: Direction | None
    digest: str
    n_rows: int
    margin: bool = False

    def orient(self, *, shift: bool) -> Difficulty:
        """Turn the values so that higher is harder; errors name the file."""
        if self.values is None or self.direction is None:
            return uniform_difficulty(self.n_rows)
        try:
            return orient(self.values, self.direction, shift=shift)
        except InputError as error:
            raise error.at(self.where) from None


@dataclass(frozen=True, eq=False)
class FoundEmbedding:
    """Vectors that are not read yet, and all that goes with them.

    Attributes
    ----------
    ref : ColumnRef
        The vectors.
    header : Header
        What is known of them beforehand.
    rows : Rows
    matched : int64 array, shape (n,), or None
        The row of the vectors for each of the rows; None if they are the same.
    within : Labels or None
    unread : tuple of str
        Names of the inputs whose digests are not known before they are read.
    """

    ref: ColumnRef
    header: Header
    rows: Rows
    matched: NDArray[np.int64] | None
    within: Labels | None
    unread: ClassVar[tuple[str, ...]] = ("vectors",)

    @property
    def where(self) -> str:
        """Where the vectors are, for messages."""
        return self.ref.where

    def read(self, room: Room = IN_MEMORY, *, packed: bool = False) -> Embedding:
        """Read the vectors into a room; ``packed`` codes stay uint8."""
        vectors = self.read_vectors(room, packed=packed)
        digests = {"vectors": digest_array(vectors, room)}
        if self.rows.ids is not None:
            digests["id"] = digest_labels(self.rows.ids)
        if self.within is not None:
            digests["within"] = self.within.digest
        return Embedding(self.ref.where, vectors, self.rows, self.within, digests)

    def read_vectors(self, room: Room = IN_MEMORY, *, packed: bool = False) -> NDArray[Any]:
        """Read the vectors (n, d) alone, without their digest."""
        vectors = read_vectors(self.ref, room, packed=packed)
        return vectors if self.matched is None else _take(vectors, self.matched, room)


def _take(vectors: NDArray[Any], rows: NDArray[np.int64], room: Room) -> NDArray[Any]:
    """Return ``vectors[rows]``, kept in a room."""
    if not room.on_disk:
        return vectors[rows]
    taken = room.rows((len(rows), vectors.shape[1]), vectors.dtype)
    at_once = gathered_rows(vectors)
    for start in range(0, len(rows), at_once):
        taken.append(room.take(vectors, rows[start : start + at_once]))
    release(vectors)
    return taken.finish()


def read_embedding(
    sources: Sources,
    source: str,
    *,
    embedding: str | None,
    id_: str | None,
    within: str | None,
    packed: bool = False,
) -> Embedding:
    """Read vectors, ids and the groups to search within; see `find_embedding`."""
    found = find_embedding(sources, source, embedding=embedding, id_=id_, within=within)
    return found.read(packed=packed)


def find_embedding(
    sources: Sources, source: str, *, embedding: str | None, id_: str | None, within: str | None
) -> FoundEmbedding:
    """Find vectors; read ids and the groups to search within.

    Parameters
    ----------
    sources : Sources
    source : str
        The command's SOURCE.
    embedding, id_, within : str or None
        COLREFs; the embedding is found by its type if left out, ids by their name.
    """
    home = sources.open(source)
    ref = (
        resolve(embedding, "embedding", sources, home)
        if embedding
        else only_column(home, "embedding")
    )
    header = ref.source.header(ref.column.name)
    n_rows = header.n_rows if ref.source is home else home.n_rows
    given = resolve(id_, "id", sources, home) if id_ and id_ != NO_IDS else None
    rows = identify(home, given, n_rows, id_)
    matched = rows.rows_of(ref, header.n_rows)
    labels = read_group(sources, within, rows) if within else None
    return FoundEmbedding(ref, header, rows, matched, labels)


def read_vectors_of(
    sources: Sources, text: str, rows: Rows, *, packed: bool = False
) -> tuple[str, NDArray[Any]]:
    """Read vectors (n, d) of rows that are known; return where they are as well."""
    ref = resolve(text, "embedding", sources, rows.source)
    vectors = read_vectors(ref, packed=packed)
    matched = rows.rows_of(ref, len(vectors))
    return ref.where, vectors if matched is None else vectors[matched]


def read_difficulty(
    sources: Sources, text: str, rows: Rows, harder: Direction | None
) -> DifficultyColumn:
    """Read a score column and settle its direction.

    ``harder`` comes first, then what the column's own metadata say, then its name.

    Raises
    ------
    ParameterError
        If the direction is not known.
    """
    if text == UNIFORM:
        return DifficultyColumn(UNIFORM, UNIFORM, None, None, UNIFORM, rows.n_rows)
    ref = resolve(text, "difficulty", sources, rows.source)
    direction = direction_of(ref.title, harder or ref.column.harder)
    values = _matched(ref, read_numbers(ref), rows)
    name = ref.column.name or None  # a lone array's name is a path, which results do not hold
    return DifficultyColumn(
        ref.where,
        name,
        values,
        direction,
        digest_array(values.astype(np.float64)),
        rows.n_rows,
        margin=direction == "low" and ref.title.lower() in MARGINS,
    )


def _matched(ref: ColumnRef, values: NDArray[Any], rows: Rows) -> NDArray[Any]:
    if values.ndim != 1:
        raise InputError(f"{ref.where}: has shape {values.shape}, expected one number a row")
    matched = rows.rows_of(ref, len(values))
    return values if matched is None else values[matched]


def read_group(sources: Sources, text: str, rows: Rows) -> Labels:
    """Read the label of every row."""
    ref = resolve(text, "label", sources, rows.source)
    labels = read_labels(ref)
    matched = rows.rows_of(ref, len(labels))
    if matched is not None:
        labels = labels.take(pa.array(matched))
    return Labels(labels, digest_labels(labels))


def read_classes(sources: Sources, text: str, rows: Rows) -> Labels:
    """Read what is to be predicted of every row.

    Raises
    ------
    InputError
        If all rows have the same label.
    """
    labels = read_group(sources, text, rows)
    names = labels.groups.names
    if len(names) < 2:
        raise InputError(
            f"{rows.name}::{text}: has one class only ('{names[0]}'), expected at least two"
        )
    return labels


def read_wishes(sources: Sources, include: str | None, exclude: str | None, rows: Rows) -> Wishes:
    """Read the rows to include, in file order, and the rows to exclude."""
    nothing = np.empty(0, dtype=np.int64)
    return Wishes(
        read_rows(include, rows, sources) if include is not None else nothing,
        read_rows(exclude, rows, sources) if exclude is not None else nothing,
    )


def rows_like(name: str, n_rows: int, ids: pa.Array | None, id_: str | None) -> Rows:
    """Return the rows of an artifact, to match other files with."""
    home: Source | None = None
    return Rows(name, n_rows, None if id_ == NO_IDS else ids, home, id_)


def refuse_known_source(path: Place, artifacts: Iterable[Artifact]) -> None:
    """Refuse to replace a file that holds the very data that some artifacts were made from.

    A command on artifacts does not read their sources, so it knows them by their digests only.

    Parameters
    ----------
    path : Path or Remote
        An output; need not exist.
    artifacts : iterable of Artifact
        Their ``inputs`` are the digests to look for.

    Raises
    ------
    ParameterError
        If a column or array of the file has one of the digests.
    """
    known = {digest: a.name for a in artifacts for digest in a.meta["inputs"].values()}
    if not path.is_file():
        return
    try:
        source = Sources().open(str(path))
    except InputError:
        return  # not readable as a source, so not one
    for column in source.columns.values():
        digests = (_digest_of(ColumnRef(source, column), packed=way) for way in (False, True))
        made = next((known[digest] for digest in digests if digest in known), None)
        if made:
            raise ParameterError(
                f"{path}: holds data that {made} was made from, and would be destroyed",
                hint="name another output",
            )


def _digest_of(ref: ColumnRef, *, packed: bool) -> str | None:
    """Return the digest of a column as a stage would have read it; None if none could."""
    try:
        if ref.column.kind == "vectors":
            if packed and ref.source.header(ref.column.name).dtype != np.uint8:
                return None  # read in one way only
            defects = VectorDefects(nulls=True)
            vectors, there = read_vectors_there(ref, IN_MEMORY, defects, packed=packed)
            rows = None if there is None else np.flatnonzero(there).astype(np.int64)
            return digest_some_rows(vectors, rows)
        if ref.column.kind == "numbers":
            return digest_array(read_numbers(ref).astype(np.float64))
    except InputError:  # such as a null: no artifact was made from this column
        return None
    return None
