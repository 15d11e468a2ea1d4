"""Columns to arrays: vectors, numbers, labels and ids, with every bad row counted."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files import memory
from d2cli.files.column import Column, Source
from d2cli.files.damage import reading
from d2cli.files.sources import STDIN
from d2cli.files.unpacking import require_held, unpacking
from d2cli.stages.defects import Defect
from d2cli.stages.groups import Groups
from d2cli.stages.room import IN_MEMORY, Room, Rows
from d2cli.stages.vectors import vector_type

TEXT_TYPES = ("string", "large_string", "string_view")
NUMBER_BYTES, LABEL_BYTES = 16, 32  # of a row in parts and whole; of text at least so many
NO_NULLS = "every row needs a value; drop or fill these rows"


@dataclass(frozen=True)
class ColumnRef:
    """One column or array of an opened source."""

    source: Source
    column: Column

    @property
    def where(self) -> str:
        """How messages call it: FILE or FILE::COLUMN."""
        name = self.column.name
        return f"{self.source.name}::{name}" if name else self.source.name

    @property
    def title(self) -> str:
        """The column's name; for a lone array the file's or folder's name without its ending."""
        if self.column.name:
            return self.column.name
        if self.source.name == STDIN:
            return "values"
        parts = self.source.name.replace("\\", "/").split("/")
        # Of a glob, what stands before a wildcard: aum for "aum-*.npy" and "aum/*.npy".
        names = (re.split(r"[-_]?[*?\[]", part.split(".", 1)[0])[0] for part in reversed(parts))
        return next(filter(None, names), "values")


def read_vectors(ref: ColumnRef, room: Room = IN_MEMORY, *, packed: bool = False) -> NDArray[Any]:
    """Read embeddings (n, d).

    Tables fill one array of the room, batch by batch; an array comes as it is stored, an NPY file
    mapped and not read. ``packed`` leaves uint8 of tables as they are: codes, not numbers.

    Raises
    ------
    InputError
        If a row is null, holds a null or differs in width; names the first such row and the count.
    """
    return read_vectors_there(ref, room, VectorDefects(), packed=packed)[0]


def read_vectors_there(
    ref: ColumnRef, room: Room, defects: "VectorDefects", *, packed: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Read embeddings as `read_vectors`, but null rows, if ``defects`` allow them, are left out.

    Only a room in memory takes fewer rows than the column has.

    Returns
    -------
    vectors : array, shape (p, d)
        Of the rows that are not null.
    there : bool array, shape (n,), or None
        Which rows these are; None if all.
    """
    array = ref.source.array(ref.column.name)
    if array is not None:
        return array, None
    rows: Rows | None = None
    there: list[NDArray[np.bool_]] = []
    start = 0
    for batch in ref.source.batches(ref.column.name):
        with reading(ref.where):
            values = storage(batch)
            values.validate(full=True)
        block = defects.check(start, values)
        if defects.nulls:
            there.append(np.asarray(values.is_valid()))
        if block is not None:
            if rows is None:
                shape = (ref.source.n_rows, block.shape[1])
                kind = stored_type(block.dtype, packed=packed)
                if not room.on_disk:
                    row_bytes = shape[1] * np.dtype(kind).itemsize
                    memory.require_rows(ref.where, "read the vectors", shape[0], row_bytes)
                rows = room.rows(shape, kind)
            rows.append(block)
        start += len(batch)
    pa.default_memory_pool().release_unused()
    defects.refuse(ref.where)
    if rows is None:
        raise InputError(f"{ref.where}: holds no rows", hint="expected at least one")
    valid = np.concatenate(there) if there else None
    if valid is None or valid.all():
        return rows.finish(), None
    return rows.finish()[: int(valid.sum())], valid


def stored_type(dtype: np.dtype[Any], *, packed: bool) -> type[np.generic]:
    """Return the type of the array that vectors of a table are read into."""
    return np.uint8 if packed and dtype == np.uint8 else vector_type(dtype)


class VectorDefects:
    """What can be wrong with list columns; null rows are not, if ``nulls`` are allowed."""

    def __init__(self, *, nulls: bool = False) -> None:
        self.nulls = nulls
        self.width = -1
        self.null = Defect("is null", NO_NULLS)
        self.ragged = Defect("", "all vectors need the same width; drop or mend these rows")
        self.gap = Defect("holds a null value", NO_NULLS)

    def check(self, start: int, batch: pa.Array) -> NDArray[Any] | None:
        """Return the batch as (b, d), or None if any row up to here is bad."""
        null = np.asarray(batch.is_null())
        if not self.nulls:
            self.null.add(start, null)
        if pa.types.is_fixed_size_list(batch.type):
            widths = np.full(len(batch), batch.type.list_size)
        else:
            widths = np.diff(np.asarray(batch.offsets))
        if self.width < 0 and not null.all():
            self.width = int(widths[~null][0])
        bad = (widths != self.width) & ~null
        if bad.any():
            found = int(widths[bad.argmax()])
            self.ragged.add(start, bad, f"has {found} values, expected {self.width}")
        values = batch.flatten()  # drops null rows
        if values.null_count:
            owner = np.repeat(np.flatnonzero(~null), widths[~null])
            gaps = np.zeros(len(batch), dtype=np.bool_)
            gaps[owner[np.asarray(values.is_null())]] = True
            self.gap.add(start, gaps)
        if self.null.count or self.ragged.count or self.gap.count or self.width < 0:
            return None
        numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return numbers.reshape(len(batch) - int(null.sum()), self.width)

    def refuse(self, where: str) -> None:
        """Raise InputError for the first kind of defect found."""
        for defect in (self.null, self.ragged, self.gap):
            defect.refuse(where)


def read_numbers(ref: ColumnRef) -> NDArray[Any]:
    """Read numbers (n,) in their own type.

    Raises
    ------
    InputError
        If a row is null; names the first and the count.
    """
    array = ref.source.array(ref.column.name)
    if array is not None:
        return array
    memory.require_rows(ref.where, "read the numbers", ref.source.n_rows, NUMBER_BYTES)
    parts = list(_without_nulls(ref))
    arrays = [part.to_numpy(zero_copy_only=False) for part in parts]
    return np.concatenate(arrays) if arrays else np.empty(0)


def read_labels(ref: ColumnRef) -> pa.Array:
    """Read labels or ids as Arrow: integers as int64, strings as large_string, others as they are.

    Raises
    ------
    InputError
        If a row is null or NaN, or the type is none of integer, float, boolean, string.
    """
    memory.require_rows(ref.where, "read the labels or ids", ref.source.n_rows, LABEL_BYTES)
    parts = [plain_type(part, ref) for part in _without_nulls(ref)]
    labels = pa.concat_arrays(parts) if parts else pa.array([], pa.int64())
    if pa.types.is_floating(labels.type):
        nan = Defect("is NaN", NO_NULLS)
        nan.add(0, np.isnan(labels.to_numpy()))
        nan.refuse(ref.where)
    return labels


def plain_type(values: pa.Array, ref: ColumnRef) -> pa.Array:
    """Return labels as int64, large_string, float64 or boolean; refuse all others."""
    types = pa.types
    try:
        if types.is_integer(values.type):
            return values.cast(pa.int64())
        if str(values.type) in TEXT_TYPES:
            return values.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise InputError(f"{ref.where}: {error}") from error
    if types.is_floating(values.type):
        return values.cast(pa.float64())
    if types.is_boolean(values.type):
        return values
    raise InputError(f"{ref.where}: is {values.type}, expected integers, strings or booleans")


def _without_nulls(ref: ColumnRef) -> list[pa.Array]:
    null = Defect("is null", NO_NULLS)
    garbled = Defect("is not valid UTF-8", "text has to be UTF-8; mend or drop these rows")
    parts, start, held = [], 0, 0
    for batch in ref.source.batches(ref.column.name):
        part = storage(batch)
        if pa.types.is_dictionary(part.type):
            with reading(ref.where), unpacking(ref.where, "read the column"):
                part.validate(full=True)
                part = part.dictionary_decode()
        held += part.nbytes
        require_held(ref.where, "read the column", held)
        with reading(ref.where):
            _check_text(start, part, garbled)
        if not garbled.count:
            with reading(ref.where):
                part.validate(full=True)
            null.add(start, np.asarray(part.is_null()))
            parts.append(part)
        start += len(part)
    garbled.refuse(ref.where)
    null.refuse(ref.where)
    return parts


def _check_text(start: int, values: pa.Array, garbled: Defect) -> None:
    """Count the rows of a string column that are not UTF-8."""
    if str(values.type) not in TEXT_TYPES:
        return
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        # Only bytes whose places are sound can be looked at.
        raw_type = dict(
            zip(TEXT_TYPES, (pa.binary(), pa.large_binary(), pa.binary_view()), strict=True)
        )
        same = (raw_type[str(values.type)], len(values), values.buffers())
        raws = pa.Array.from_buffers(*same, offset=values.offset)
        raws.validate(full=True)
        bad = np.zeros(len(values), dtype=np.bool_)
        for i, raw in enumerate(raws.to_pylist()):
            try:
                (raw or b"").decode()
            except UnicodeDecodeError:
                bad[i] = True
        garbled.add(start, bad)


def storage(values: pa.Array) -> pa.Array:
    """Return what an array of an extension type is stored as; others as they are."""
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def check_unique(ids: pa.Array, where: str) -> None:
    """Raise InputError if an id stands twice; names the first repetition and the count."""
    if pa.types.is_integer(ids.type):
        ordered = np.sort(ids.to_numpy())
        if not np.any(ordered[1:] == ordered[:-1]):
            return
    encoded = ids.dictionary_encode()
    if len(encoded.dictionary) == len(ids):
        return
    codes = np.asarray(encoded.indices)
    _, first = np.unique(codes, return_index=True)
    repeated = np.ones(len(codes), dtype=np.bool_)
    repeated[first] = False
    row = int(repeated.argmax())
    defect = Defect(
        f"repeats the id {ids[row].as_py()!r}", "ids must be unique; --id names another column"
    )
    defect.add(0, repeated)
    defect.refuse(where)


def group_labels(labels: pa.Array) -> Groups:
    """Group rows by label; names ascend by label (numbers by value)."""
    import pyarrow.compute as pc  # slow to load, and mostly not needed

    encoded = labels.dictionary_encode()
    order = np.asarray(pc.array_sort_indices(encoded.dictionary))
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    names = tuple(str(name) for name in encoded.dictionary.take(pa.array(order)).to_pylist())
    return Groups(place[np.asarray(encoded.indices)], names)
