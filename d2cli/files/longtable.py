"""A training log as a long table: id, epoch and outputs in every row."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.alignment import NO_IDS, Rows
from d2cli.files.colref import ID_NAMES, id_column
from d2cli.files.column import Column, Source, list_columns
from d2cli.files.columns import ColumnRef, VectorDefects
from d2cli.files.damage import reading
from d2cli.files.digests import digest_file, digest_json
from d2cli.files.logs import KINDS, Block, check_width
from d2cli.files.tables import BATCH_BYTES, ParquetSource
from d2cli.files.unpacking import unpacked, unpacking
from d2cli.stages.defects import Defect


@dataclass(frozen=True, eq=False)
class TableLog:
    """A Parquet file with id, epoch and outputs in every row, in any order.

    Every epoch reads the row groups that hold some of it, so files sorted by epoch are read once.
    """

    where: str
    source: ParquetSource
    id_name: str
    epoch_name: str
    outputs: ColumnRef
    ids: pa.Array  # of our rows
    groups: dict[int, list[int]]  # epoch number -> row groups with rows of it
    n_classes: int | None

    @property
    def n_epochs(self) -> int:
        """Number of different epochs."""
        return len(self.groups)

    def name_of(self, epoch: int) -> str:
        """Return "FILE::COLUMN: epoch 3", with the number in the file."""
        return f"{self.where}: epoch {list(self.groups)[epoch]}"

    def blocks(self, epoch: int) -> Iterator[Block]:
        """Yield the rows of an epoch as the file has them; ids that are not ours are left out."""
        number, groups = list(self.groups.items())[epoch]
        columns = [self.id_name, self.epoch_name, self.outputs.column.name]
        size = max(BATCH_BYTES // (8 * (self.n_classes or 1)), 1)
        starts = self.starts()
        for group in groups:
            start = starts[group]
            with reading(self.where):
                batches = self.source.file.iter_batches(
                    size, row_groups=[group], columns=columns, use_threads=False
                )
                for batch in unpacked(batches, self.where, "read an epoch"):
                    own = np.asarray(pc.equal(batch.column(self.epoch_name), number))
                    if own.any():
                        yield self._block(batch, start, own)
                    start += batch.num_rows

    def starts(self) -> list[int]:
        """Return the first row of every row group."""
        meta = self.source.file.metadata
        sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        return [0, *itertools.accumulate(sizes)]

    def _block(self, batch: pa.RecordBatch, start: int, own: NDArray[np.bool_]) -> Block:
        """Match the own rows of a batch, whose first row is ``start`` in the file."""
        ids = _plain_ids(batch.column(self.id_name), self.ids.type, self.where)
        null = Defect("has no id", "every row of a log needs an id; drop or fill these rows")
        null.add(start, np.asarray(ids.is_null()))
        null.refuse(self.where)
        outputs = _plain_outputs(batch.column(self.outputs.column.name), start, self.where)
        if self.n_classes is not None:
            check_width(self.where, outputs.shape[1], self.n_classes)
        found = pc.index_in(ids, value_set=self.ids)
        own = own & np.asarray(found.is_valid())
        rows = np.asarray(found.fill_null(0))[own].astype(np.int64)
        return rows, outputs[own]

    def digest(self) -> str:
        """Return the digest of the file's bytes and of the columns read."""
        columns = [self.id_name, self.epoch_name, self.outputs.column.name]
        return digest_json([digest_file(Path(self.source.name)), *columns])


def _plain_ids(values: pa.Array, expected: pa.DataType, where: str) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_integer(values.type) != pa.types.is_integer(expected):
        raise InputError(
            f"{where}: ids are {values.type}, those of the labels are {expected}",
            hint="store both as strings or both as integers; labels without ids are numbered",
        )
    return values.cast(expected)


def _plain_outputs(values: pa.Array, start: int, where: str) -> NDArray[Any]:
    """Return lists as (b, c), numbers as (b,)."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if not hasattr(values, "flatten"):
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)  # null: NaN
    defects = VectorDefects()
    block = defects.check(start, values)
    defects.refuse(where)
    assert block is not None  # what keeps it from being one is refused
    return block


def open_table(source: ParquetSource, column: str | None, rows: Rows) -> TableLog:
    """Open a table, its outputs in ``column`` or in the only one that could hold them."""
    named = rows.id_name if rows.id_name != NO_IDS else None
    id_ref = id_column(source, named)
    epoch = next((c for c in source.columns.values() if c.name.lower() == "epoch"), None)
    if id_ref is None or epoch is None or epoch.kind != "numbers":
        raise InputError(
            f"{source.name}: has {list_columns(source)}; expected an id, a number epoch, and "
            "outputs",
            hint=f"a log is {KINDS}",
        )
    if source.name == "standard input":
        raise ParameterError(
            "a long table cannot be read from standard input: it is read once an epoch",
            hint="save it to a file first",
        )
    ref = _output_column(source, column, (id_ref.column.name, epoch.name))
    ids = rows.ids
    if ids is None:
        # Without ids beside the labels, whole numbers are what the log calls its rows by.
        ids = pa.array(np.arange(rows.n_rows, dtype=np.int64))
    groups = _plan(source, epoch)
    with reading(ref.where):
        width = None if ref.column.kind == "numbers" else _width(source, ref.column)
    if width is not None:
        check_width(ref.where, width, None)
    return TableLog(ref.where, source, id_ref.column.name, epoch.name, ref, ids, groups, width)


def _output_column(source: Source, column: str | None, taken: tuple[str, ...]) -> ColumnRef:
    if column is not None:
        if column not in source.columns:
            raise InputError(f"{source.name}: no column '{column}'; it has {list_columns(source)}")
        found = [source.columns[column]]
    else:
        free = [c for c in source.columns.values() if c.name not in (*taken, *ID_NAMES)]
        found = [c for c in free if c.kind == "vectors"] or [c for c in free if c.kind == "numbers"]
    if len(found) != 1 or found[0].kind not in ("vectors", "numbers"):
        raise InputError(
            f"{source.name}: {len(found)} columns could be the outputs; it has "
            f"{list_columns(source)}",
            hint=f"name a list or number column as {source.name}::COLUMN",
        )
    return ColumnRef(source, found[0])


def _plan(source: ParquetSource, epoch: Column) -> dict[int, list[int]]:
    """Find the row groups of every epoch; epochs ascend."""
    groups: dict[int, list[int]] = {}
    where = f"{source.name}::{epoch.name}"
    start = 0
    for group in range(source.file.metadata.num_row_groups):
        with reading(where), unpacking(where, "find the epochs"):
            values = source.file.read_row_group(group, columns=[epoch.name], use_threads=False)
            values = values.column(0)
        if not pa.types.is_integer(values.type):
            raise InputError(f"{where}: is {values.type}, expected whole numbers")
        if values.null_count:
            first = start + int(np.asarray(values.is_null()).argmax())
            raise InputError(
                f"{where}: row {first} is null ({values.null_count:,} rows in all)",
                hint="every row needs an epoch; drop or fill these rows",
            )
        for number in pc.unique(values).to_pylist():
            groups.setdefault(int(number), []).append(group)
        start += len(values)
    if not groups:
        raise InputError(f"{where}: holds no rows", hint="expected at least one epoch")
    return dict(sorted(groups.items()))


def _width(source: ParquetSource, column: Column) -> int:
    """Return the length of the first list."""
    batches = source.file.iter_batches(batch_size=1, columns=[column.name], use_threads=False)
    for batch in unpacked(batches, f"{source.name}::{column.name}", "read the first row"):
        (values,) = batch.column(0).to_pylist()
        return len(values or ())
    return 0
