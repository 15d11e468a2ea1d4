"""Training logs: what a model said of every row at every epoch, read one epoch at a time.

Three kinds: one array [epochs, n, classes]; a folder or glob of per-epoch files (n, classes); a
long table with an id and an epoch in every row. None is ever held in memory as a whole.
"""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.alignment import NO_IDS, Rows, identify
from d2cli.files.colref import resolve
from d2cli.files.column import Source, list_columns
from d2cli.files.columns import ColumnRef, read_labels, read_vectors
from d2cli.files.damage import reading
from d2cli.files.digests import digest_array, digest_json, digest_labels
from d2cli.files.epochfiles import open_files, open_folder
from d2cli.files.logs import KINDS, Block, DynamicsLog, check_numbers, check_width, in_blocks
from d2cli.files.longtable import open_table
from d2cli.files.mapped import map_array
from d2cli.files.paths import exists
from d2cli.files.sources import STDIN, Sources
from d2cli.files.tables import ParquetSource

SAMPLE_ROWS = 1000


@dataclass(frozen=True, eq=False)
class Classes:
    """The class number of every row, and the rows that a log is matched with."""

    where: str
    numbers: NDArray[np.int64]
    rows: Rows
    digests: dict[str, str]


def read_classes(sources: Sources, text: str, id_: str | None) -> Classes:
    """Read labels as class numbers, and the ids beside them.

    Raises
    ------
    InputError
        If they are not whole numbers.
    """
    ref = resolve(text, "label", sources, None)
    values = read_labels(ref)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int64())
    if not pa.types.is_int64(values.type):
        kind = "strings" if pa.types.is_large_string(values.type) else str(values.type)
        raise InputError(
            f"{ref.where}: labels are {kind}, expected whole numbers",
            hint="a label is the number of its class in the log, from 0: names do not tell it",
        )
    given = resolve(id_, "id", sources, ref.source) if id_ and id_ != NO_IDS else None
    rows = identify(ref.source, given, len(values), id_)
    if not rows.n_rows:
        raise InputError(f"{ref.where}: holds no rows", hint="expected at least one")
    digests = {"labels": digest_labels(values)}
    if rows.ids is not None:
        digests["id"] = digest_labels(rows.ids)
    return Classes(ref.where, values.to_numpy().astype(np.int64), rows, digests)


def read_final(sources: Sources, text: str, rows: Rows, n_classes: int | None) -> "FinalOutputs":
    """Read the outputs of the final model, (n, classes), in the order of the labels' rows."""
    ref = resolve(text, "embedding", sources, None)
    outputs = _in_our_rows(ref, rows)
    check_width(ref.where, outputs.shape[1], n_classes)
    return FinalOutputs(ref.where, outputs, digest_array(outputs))


@dataclass(frozen=True, eq=False)
class FinalOutputs:
    """Logits or probabilities (n, classes) of the final model."""

    where: str
    outputs: NDArray[Any]
    digest: str

    def blocks(self) -> Iterator[Block]:
        """Yield them in parts."""
        return in_blocks(self.outputs)


def open_dynamics(sources: Sources, text: str, rows: Rows) -> DynamicsLog:
    """Open a training log.

    Parameters
    ----------
    sources : Sources
    text : str
        A file, ``FILE::COLUMN``, a folder, a glob, or "-".
    rows : Rows
        Of the labels, which the log is matched with.

    Raises
    ------
    InputError
        If there is no such log, or its shape does not fit the rows.
    """
    place, column = text, None
    if text != STDIN and not exists(text) and "::" in text:
        place, _, column = text.partition("::")
    if Path(place).is_dir():
        return open_folder(sources, Path(place), column, rows)
    if not exists(place) and glob.has_magic(place):
        found = sorted(Path(name) for name in glob.glob(place))  # noqa: PTH207 - may be absolute
        return open_files(sources, place, found, column, rows)
    source = sources.open(place)
    if isinstance(source, ParquetSource):
        return open_table(source, column, rows)
    return _open_array(source, column, rows)


def sample_outputs(log: DynamicsLog) -> NDArray[Any]:
    """Return outputs of up to 1,000 rows, spread over the first part of the first epoch."""
    outputs = next((outputs for _, outputs in log.blocks(0) if len(outputs)), np.empty((0, 1)))
    return outputs[:: max(len(outputs) // SAMPLE_ROWS, 1)]


def _in_our_rows(ref: ColumnRef, rows: Rows) -> NDArray[Any]:
    outputs = read_vectors(ref)
    check_numbers(ref.where, outputs.dtype)
    matched = rows.rows_of(ref, len(outputs))
    return outputs if matched is None else outputs[matched]


# --- one array ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ArrayLog:
    """An array [epochs, n, classes]; an NPY file is mapped, not read."""

    where: str
    array: NDArray[Any]

    @property
    def n_epochs(self) -> int:
        """First axis."""
        return len(self.array)

    @property
    def n_classes(self) -> int:
        """Last axis."""
        return int(self.array.shape[2])

    def name_of(self, epoch: int) -> str:
        """Return "FILE: epoch 3"."""
        return f"{self.where}: epoch {epoch}"

    def blocks(self, epoch: int) -> Iterator[Block]:
        """Yield the rows of an epoch, ascending."""
        return in_blocks(self._epoch(epoch))

    def digest(self) -> str:
        """Return the digest of the epochs' digests."""
        return digest_json([digest_array(self._epoch(epoch)) for epoch in range(self.n_epochs)])

    def _epoch(self, epoch: int) -> NDArray[Any]:
        """Return (n, c), of a mapped file by a mapping of its own.

        What was read of a mapping stays in memory until it is closed, so one epoch is open at most.
        """
        whole = self.array
        if not isinstance(whole, np.memmap) or not whole.flags.c_contiguous or not whole.filename:
            return np.asarray(whole[epoch])
        offset = whole.offset + epoch * whole.strides[0]
        with reading(self.where):
            path = Path(whole.filename)
            return map_array(path, whole.dtype, offset, whole.shape[1:], self.where)


def _open_array(source: Source, column: str | None, rows: Rows) -> ArrayLog:
    ref = _array_column(source, column)
    array = source.array(ref.column.name)
    if array is None:
        raise InputError(
            f"{source.name}: is an Arrow table, expected {KINDS}", hint="write it as Parquet"
        )
    check_numbers(ref.where, array.dtype)
    expected = f"expected [epochs, {rows.n_rows}, classes]: {rows.name} has {rows.n_rows:,} rows"
    if array.ndim != 3 or array.shape[1] != rows.n_rows or not array.shape[0]:
        raise InputError(
            f"{ref.where}: has shape {list(array.shape)}, {expected}",
            hint="turn the axes, or name the labels that the log was made with",
        )
    check_width(ref.where, array.shape[2], None)
    return ArrayLog(ref.where, array)


def _array_column(source: Source, column: str | None) -> ColumnRef:
    if column is not None:
        if column not in source.columns:
            raise InputError(f"{source.name}: no column '{column}'; it has {list_columns(source)}")
        return ColumnRef(source, source.columns[column])
    if len(source.columns) != 1:
        raise InputError(
            f"{source.name}: holds {len(source.columns)} arrays: {list_columns(source)}",
            hint="name one as FILE::NAME",
        )
    return ColumnRef(source, next(iter(source.columns.values())))
