"""Selections and lists of rows to be put side by side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.alignment import Rows
from d2cli.files.artifact_tables import column_of
from d2cli.files.artifacts import Artifact, read_artifact, seems_ours
from d2cli.files.colref import ID_NAMES, id_column, resolve
from d2cli.files.column import Source
from d2cli.files.columns import ColumnRef, check_unique, read_labels, read_numbers
from d2cli.files.inputs import read_group
from d2cli.files.remote import as_place
from d2cli.files.sources import Sources
from d2cli.files.stages import ids_of


@dataclass(frozen=True, eq=False)
class Side:
    """A selection, or a list of rows, that is compared.

    Attributes
    ----------
    name : str
    ids : Arrow array or None
        All different.
    rows : int64 array or None
    lines : bool
        Whether ids are lines of text, which row numbers may be as well.
    n_rows : int or None
        Of the data; None for a list.
    rank : int64 array or None
    difficulty : float64 array or None
    group : Arrow array or None
    artifact : Artifact or None
        None for a list.
    """

    name: str
    ids: pa.Array | None
    rows: NDArray[np.int64] | None
    lines: bool = False
    n_rows: int | None = None
    rank: NDArray[np.int64] | None = None
    difficulty: NDArray[np.float64] | None = None
    group: pa.Array | None = None
    artifact: Artifact | None = None

    def __len__(self) -> int:
        values = self.rows if self.rows is not None else self.ids
        assert values is not None
        return len(values)

    def name_of(self, at: int) -> str | int:
        """Return the id of the row at a position, or its number where there are no ids."""
        if self.ids is not None:
            found: str | int = self.ids[at].as_py()
            return found
        assert self.rows is not None
        return int(self.rows[at])


def read_side(sources: Sources, ref: str) -> Side:
    """Read a selection that d2 wrote, as Parquet or as a list, or any list of ids or rows.

    Parameters
    ----------
    sources : Sources
    ref : str
        Parquet; NPY of row numbers; text of one id or row a line; CSV or JSON lines with a column
        ``id``, ``uid`` or ``row``.

    Raises
    ------
    InputError
        If it is none of them, or names a row twice.
    ArtifactError
        If it is an artifact of ours, but damaged or no selection.
    """
    if seems_ours(as_place(ref)):
        return _side_of(read_artifact(ref, "selection"), ref)
    source = sources.open(ref, as_list=True)
    if "" in source.columns and len(source.columns) == 1:
        return _plain_list(source)
    ids, rows = _labels(source, ID_NAMES), _labels(source, ("row",))
    if ids is None and rows is None:
        raise InputError(
            f"{ref}: has no column id, uid or row; it has {', '.join(source.columns)}",
            hint="a selection is compared by ids or by row numbers",
        )
    rank = _labels(source, ("rank",))
    difficulty = source.columns.get("difficulty")
    return Side(
        ref,
        ids,
        None if rows is None else _row_numbers(rows, ref),
        rank=None if rank is None else _row_numbers(rank, ref),
        difficulty=None
        if difficulty is None or difficulty.kind != "numbers"
        else read_numbers(ColumnRef(source, difficulty)).astype(np.float64),
        group=_labels(source, ("group",)),
    )


def _side_of(artifact: Artifact, ref: str) -> Side:
    table = artifact.table
    return Side(
        ref,
        ids_of(artifact),
        table.column("row").to_numpy(),
        n_rows=artifact.meta["results"]["n_samples"],
        rank=table.column("rank").to_numpy(),
        difficulty=table.column("difficulty").to_numpy(),
        group=column_of(table, "group") if "group" in table.column_names else None,
        artifact=artifact,
    )


def _plain_list(source: Source) -> Side:
    """Return a list without names of columns: an array of rows, or lines."""
    ref = ColumnRef(source, source.columns[""])
    labels = read_labels(ref)
    check_unique(labels, ref.where)
    if source.array("") is not None:
        return Side(source.name, None, _row_numbers(labels, source.name))
    try:
        rows = _row_numbers(labels, source.name)
    except InputError:
        rows = None
    return Side(source.name, labels, rows, lines=True)


def _labels(source: Source, names: tuple[str, ...]) -> pa.Array | None:
    """Return the first of some columns that a source has, all values different if they are ids."""
    for name in names:
        column = source.columns.get(name)
        if column is not None and column.kind in ("labels", "numbers"):
            labels = read_labels(ColumnRef(source, column))
            if name != "group":
                check_unique(labels, f"{source.name}::{name}")
            return labels
    return None


def _row_numbers(values: pa.Array, where: str) -> NDArray[np.int64]:
    try:
        numbers = np.asarray(values.cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise InputError(f"{where}: is {values.type}, expected row numbers") from error
    if numbers.min(initial=0) < 0:
        raise InputError(f"{where}: entry {int(numbers.argmin())} is a negative row number")
    return numbers.astype(np.int64)


def number_rows(
    a: Side, b: Side, *, by_row: bool
) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
    """Give the rows of both sides numbers, equal rows equal ones.

    By id if both sides have ids, else by row.

    Parameters
    ----------
    a, b : Side
    by_row : bool
        By row in any case.

    Returns
    -------
    by : {"id", "row"}
    codes_a, codes_b : int64 arrays

    Raises
    ------
    InputError
        If they have neither in common, or rows of data of different size would be matched by
        number though nobody asked for it.
    """
    if a.ids is not None and b.ids is not None and not by_row:
        ids_a, ids_b = a.ids, b.ids
        if ids_a.type != ids_b.type and (a.lines or b.lines):
            ids_a, ids_b = ids_a.cast(pa.large_string()), ids_b.cast(pa.large_string())
        if ids_a.type != ids_b.type:
            raise InputError(
                f"{b.name}: ids are {ids_b.type}, those of {a.name} are {ids_a.type}",
                hint="--rows matches by row number instead",
            )
        both = pa.concat_arrays([ids_a, ids_b]).dictionary_encode()
        codes = np.asarray(both.indices).astype(np.int64)
        return "id", codes[: len(a)], codes[len(a) :]
    if a.rows is None or b.rows is None:
        one, other = (a, b) if a.rows is None else (b, a)
        raise InputError(
            f"{one.name}: holds ids, {other.name} "
            + ("row numbers only" if other.ids is None else "has row numbers"),
            hint="compare two files that both have ids, or both have row numbers",
        )
    if not by_row and None not in (a.n_rows, b.n_rows) and a.n_rows != b.n_rows:
        raise InputError(
            f"{b.name}: was made from {b.n_rows:,} rows, {a.name} from {a.n_rows:,}, and they "
            "have no ids",
            hint="--rows matches by row number all the same",
        )
    return "row", a.rows, b.rows


def read_groups_of(sources: Sources, side: Side, text: str) -> pa.Array:
    """Return the label of every row of a side from a column of another file, by id or by row."""
    ref = resolve(text, "label", sources, None)
    if side.ids is not None and id_column(ref.source, None) is not None:
        rows = Rows(side.name, len(side.ids), side.ids, None)
        return read_group(sources, text, rows).values
    if side.rows is None:
        raise InputError(f"{ref.where}: has no ids to be matched with those of {side.name}")
    labels = read_labels(ref)
    wanted = side.n_rows or int(side.rows.max(initial=-1)) + 1
    if len(labels) != wanted and (side.n_rows is not None or len(labels) < wanted):
        raise InputError(
            f"{ref.where}: has {len(labels):,} rows, but {side.name} was made from {wanted:,}"
        )
    return labels.take(pa.array(side.rows))


def comparable(a: pa.Array, b: pa.Array) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return labels as arrays of one type: as text unless both are of the same type of numbers."""
    if a.type == b.type and not pa.types.is_large_string(a.type) and not pa.types.is_string(a.type):
        return a.to_numpy(zero_copy_only=False), b.to_numpy(zero_copy_only=False)
    texts = (np.array([str(value) for value in labels.to_pylist()], object) for labels in (a, b))
    first, second = texts
    return first, second
