"""Columns with bad rows, read all the same: every defect is marked, the sound rows stay usable."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.columns import ColumnRef, VectorDefects, stored_type
from d2cli.files.damage import reading
from d2cli.stages.defects import Defect
from d2cli.stages.room import IN_MEMORY, Room, Rows
from d2cli.stages.vectors import vector_type


@dataclass
class Marks(Defect):
    """A defect that remembers all of its rows, (n,)."""

    rows: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def add(self, start: int, bad: NDArray[np.bool_], what: str | None = None) -> None:
        """See `Defect`."""
        super().add(start, bad, what)
        self.rows[start : start + len(bad)] |= bad


class MarkedDefects(VectorDefects):
    """What is wrong with which rows of a list column of n rows.

    ``marks`` are the rows that are null, of another width, or hold a null, (n,) each.
    """

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        marked = [
            Marks(defect.what, defect.hint, rows=np.zeros(n_rows, dtype=np.bool_))
            for defect in (self.null, self.ragged, self.gap)
        ]
        self.null, self.ragged, self.gap = marked
        self.marks = (marked[0].rows, marked[1].rows, marked[2].rows)


@dataclass(frozen=True, eq=False)
class FlawedVectors:
    """Vectors of which some rows may be no vectors.

    Attributes
    ----------
    vectors : array of numbers, shape (n, d)
        As stored where the source holds an array; ones in the rows that are marked.
    null, ragged, gap : bool array, shape (n,)
        Rows that are null, have another width than most, or hold a null value.
    """

    vectors: NDArray[Any]
    null: NDArray[np.bool_]
    ragged: NDArray[np.bool_]
    gap: NDArray[np.bool_]

    @property
    def sound(self) -> NDArray[np.bool_]:
        """Rows that are vectors, (n,)."""
        return ~(self.null | self.ragged | self.gap)


def read_flawed_vectors(
    ref: ColumnRef, room: Room = IN_MEMORY, *, packed: bool = False
) -> FlawedVectors:
    """Read embeddings (n, d), and mark the rows that are none.

    The width is that of most rows of the first batch with any; memory and ``packed`` are
    those of `read_vectors`.

    Raises
    ------
    InputError
        If there are no rows, no row is a vector, or the vectors have no width.
    """
    array = ref.source.array(ref.column.name)
    if array is not None:
        if not array.size:
            raise _nothing(ref, "rows" if not len(array) else "values: the vectors have width 0")
        none = np.zeros(len(array), dtype=np.bool_)
        return FlawedVectors(array, none, none, none)
    n_rows = ref.source.n_rows
    defects = MarkedDefects(n_rows)
    rows: Rows | None = None
    start = waiting = 0  # rows before the first that tells the width
    for batch in ref.source.batches(ref.column.name):
        with reading(ref.where):
            values = batch.storage if isinstance(batch, pa.ExtensionArray) else batch
            values.validate(full=True)
        if defects.width < 0:
            defects.width = _usual_width(values)
        block = defects.check(start, values)
        if block is None and defects.width > 0:
            block = _sound_rows(values, start, defects)
        if block is None:
            waiting += len(batch)
        else:
            if rows is None:
                kind = stored_type(
                    np.dtype(values.type.value_type.to_pandas_dtype()), packed=packed
                )
                rows = room.rows((n_rows, block.shape[1]), kind)
                rows.append(np.ones((waiting, block.shape[1]), dtype=block.dtype))
            rows.append(block)
        start += len(batch)
    pa.default_memory_pool().release_unused()
    if rows is None or defects.width == 0:
        what = "rows" if not n_rows else "values: the vectors have width 0"
        raise _nothing(ref, what if defects.width == 0 or not n_rows else "vectors: all are null")
    found = FlawedVectors(rows.finish(), *defects.marks)
    if not found.sound.any():
        raise _nothing(ref, "vectors: every row has a null or another width")
    return found


def _nothing(ref: ColumnRef, what: str) -> InputError:
    return InputError(f"{ref.where}: holds no {what}", hint="expected at least one vector")


def _widths(values: pa.Array) -> NDArray[np.int64]:
    if pa.types.is_fixed_size_list(values.type):
        return np.full(len(values), values.type.list_size, dtype=np.int64)
    return np.diff(np.asarray(values.offsets)).astype(np.int64)


def _usual_width(values: pa.Array) -> int:
    """Return the most frequent width of the rows that are not null; -1 if all are."""
    widths, counts = np.unique(_widths(values)[~np.asarray(values.is_null())], return_counts=True)
    return int(widths[counts.argmax()]) if len(widths) else -1


def _sound_rows(values: pa.Array, start: int, defects: MarkedDefects) -> NDArray[Any]:
    """Return the batch as (b, d), with ones in the rows that are marked."""
    part = slice(start, start + len(values))
    null, ragged, gap = (marks[part] for marks in defects.marks)
    good = ~(null | ragged | gap)
    dtype = vector_type(np.dtype(values.type.value_type.to_pandas_dtype()))
    numbers = values.flatten().to_numpy(zero_copy_only=False)  # without those of null rows
    wanted = np.repeat(good[~null], _widths(values)[~null])
    block = np.ones((len(values), defects.width), dtype=dtype)
    block[good] = numbers[wanted].reshape(-1, defects.width)
    return block


def read_flawed_numbers(ref: ColumnRef) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read numbers (n,) as float64, and which rows are null, (n,); those hold NaN.

    Raises
    ------
    InputError
        If the array is not of shape (n,).
    """
    array = ref.source.array(ref.column.name)
    if array is not None:
        if array.ndim != 1:
            raise InputError(f"{ref.where}: has shape {array.shape}, expected one number a row")
        return array.astype(np.float64), np.zeros(len(array), dtype=np.bool_)
    numbers, nulls = [np.empty(0)], [np.zeros(0, dtype=np.bool_)]
    for batch in ref.source.batches(ref.column.name):
        with reading(ref.where):
            values = batch.storage if isinstance(batch, pa.ExtensionArray) else batch
            values.validate(full=True)
        null = np.asarray(values.is_null())
        plain = values.to_numpy(zero_copy_only=False).astype(np.float64)
        numbers.append(np.where(null, np.nan, plain))
        nulls.append(null)
    return np.concatenate(numbers), np.concatenate(nulls)
