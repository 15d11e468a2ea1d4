"""Tables as sources: Parquet files, Arrow record batches, lines of text."""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from d2cli.files.chunks import first_groups, read_footer
from d2cli.files.column import Column, ColumnKind, Header
from d2cli.files.damage import reading
from d2cli.files.mapped import refuse_shorter
from d2cli.files.unpacking import unpacked, unpacking
from d2cli.params import Direction
from d2cli.stages.room import release

BATCH_BYTES = 4 << 20
TEXT_ROWS = 1 << 16  # at a time: of texts that repeat, the file does not say how long they are
FIRST_ROWS = 100  # that are looked at for the width of lists
HARDER = b"harder"  # field metadata: "high" or "low"


def _kind_of(kind: pa.DataType) -> ColumnKind:
    if isinstance(kind, pa.BaseExtensionType):
        return _kind_of(_plain(kind))
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        value = kind.value_type
        return "vectors" if types.is_floating(value) or types.is_integer(value) else "other"
    if types.is_floating(kind) or types.is_integer(kind):
        return "numbers"
    if types.is_dictionary(kind):
        return "labels"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind):
        return "labels"
    if types.is_string_view(kind):
        return "labels"
    return "images" if _holds_images(kind) else "other"


def is_text(kind: pa.DataType) -> bool:
    """Return whether values are texts or bytes, of any length."""
    types = pa.types
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(texts or types.is_binary(kind) or types.is_large_binary(kind))


def _holds_images(kind: pa.DataType) -> bool:
    """Return whether a type is that of images in files of Hugging Face: their bytes, and a path."""
    if not pa.types.is_struct(kind) or {field.name for field in kind} != {"bytes", "path"}:
        return False
    data = kind.field("bytes").type
    return bool(pa.types.is_binary(data) or pa.types.is_large_binary(data))


@dataclass
class ParquetSource:
    """A Parquet file; ``raw`` opens its bytes once more."""

    name: str
    file: pq.ParquetFile
    raw: Callable[[], str | pa.NativeFile]
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        with reading(self.name):
            check_row_count(self.file.metadata)
        self.columns = columns_of(self.file.schema_arrow)
        self.n_rows = int(self.file.metadata.num_rows)

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column in batches of about 4 MB."""
        with reading(self.name):
            rows = max(BATCH_BYTES // self._row_bytes(column), 1)
            if is_text(self.file.schema_arrow.field(column).type):
                rows = min(rows, TEXT_ROWS)
        # A name with a dot would be taken as a path into a struct, so then all columns are read.
        only = [column] if "." not in column else None
        with reading(self.name):
            batches = self.file.iter_batches(batch_size=rows, columns=only, use_threads=False)
            for batch in unpacked(batches, self.name, f"read column '{column}'"):
                yield batch.column(batch.schema.get_field_index(column))

    def batches_with(self, column: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, pa.Array]]:
        """Yield batches of the row groups that hold any of some ascending rows, with their start.

        Other row groups are not read.
        """
        with reading(self.name):
            at_once = max(BATCH_BYTES // self._row_bytes(column), 1)
        only = [column] if "." not in column else None
        stop = 0
        for group in range(self.file.metadata.num_row_groups):
            start, stop = stop, stop + self.file.metadata.row_group(group).num_rows
            if np.searchsorted(rows, start) == np.searchsorted(rows, stop):
                continue
            with reading(self.name):
                batches = self.file.iter_batches(
                    batch_size=at_once, row_groups=[group], columns=only, use_threads=False
                )
                for batch in unpacked(batches, self.name, f"read column '{column}'"):
                    yield start, batch.column(batch.schema.get_field_index(column))
                    start += batch.num_rows

    def array(self, column: str) -> None:
        """Return None: a table has no arrays."""
        return

    def header(self, column: str) -> Header:
        """Return rows and type of a list column."""
        return header_of(self.file.schema_arrow.field(column).type, self.n_rows)

    def width(self, column: str) -> int:
        """Return the width of a list column."""
        only = [column] if "." not in column else None
        with reading(self.name):
            batches = self.file.iter_batches(batch_size=FIRST_ROWS, columns=only, use_threads=False)
            first = (
                batch.column(batch.schema.get_field_index(column))
                for batch in unpacked(batches, self.name, f"read column '{column}'")
            )
            return width_of(self.file.schema_arrow.field(column).type, first)

    def _row_bytes(self, column: str) -> int:
        """Return about how many bytes a row of a column takes, not compressed."""
        kind = self.file.schema_arrow.field(column).type
        if pa.types.is_fixed_size_list(kind):
            return max(int(kind.list_size), 1) * 8
        groups = first_groups(read_footer(self.raw()))
        rows = sum(self.file.metadata.row_group(group).num_rows for group in range(len(groups)))
        own = [chunk for chunks in groups for chunk in chunks if chunk.column == column]
        # Equal values are stored as one and their number, so each counts as a number at least.
        size = max(sum(chunk.size for chunk in own), 8 * sum(chunk.values for chunk in own))
        return max(size // max(int(rows), 1), 8)


def check_row_count(metadata: pq.FileMetaData) -> None:
    """Raise ValueError if a Parquet footer does not say how many rows its row groups have."""
    groups = range(metadata.num_row_groups)
    if metadata.num_rows != sum(metadata.row_group(group).num_rows for group in groups):
        raise ValueError(f"the footer counts {metadata.num_rows:,} rows, its row groups do not")


def header_of(kind: pa.DataType, n_rows: int) -> Header:
    """Return what a list type says of a column of vectors."""
    value = _plain(kind).value_type
    return Header(n_rows, np.dtype(value.to_pandas_dtype()), mapped=False, in_table=True)


def width_of(kind: pa.DataType, batches: Iterator[pa.Array]) -> int:
    """Return the length of all lists, or of the first that is not null."""
    if pa.types.is_fixed_size_list(_plain(kind)):
        return int(_plain(kind).list_size)
    rows = next(batches, pa.array([]))[:FIRST_ROWS]
    rows.validate(full=True)  # damaged offsets are lengths below 0
    return next((len(row) for row in rows if row.is_valid), 0)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


@dataclass
class ArrowSource:
    """Record batches: an Arrow IPC file or stream, or lines of text.

    ``data`` is what they lie in: bytes, or the memory map of a file.
    """

    name: str
    schema: pa.Schema
    parts: list[pa.RecordBatch]
    data: bytes | mmap.mmap = b""
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.columns = columns_of(self.schema)
        self.n_rows = sum(part.num_rows for part in self.parts)

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column of each record batch."""
        at = self.schema.get_field_index(column)
        with reading(self.name):
            for part in self.parts:
                yield part.column(at)
                release(self.data)
            refuse_shorter()

    def array(self, column: str) -> None:
        """Return None: a table has no arrays."""
        return

    def header(self, column: str) -> Header:
        """Return rows and type of a list column."""
        return header_of(self.schema.field(column).type, self.n_rows)

    def width(self, column: str) -> int:
        """Return the width of a list column."""
        at, kind = self.schema.get_field_index(column), self.schema.field(column).type
        with reading(self.name):
            return width_of(kind, (part.column(at) for part in self.parts))


def open_arrow(name: str, data: bytes | mmap.mmap) -> ArrowSource:
    """Open an Arrow IPC file or stream."""
    with reading(name), unpacking(name, "read the record batches"):
        buffer = pa.py_buffer(data)
        if data[:6] == b"ARROW1":
            file = pa.ipc.open_file(buffer)
            parts = [file.get_batch(i) for i in range(file.num_record_batches)]
            return ArrowSource(name, file.schema, parts, data)
        stream = pa.ipc.open_stream(buffer)
        return ArrowSource(name, stream.schema, list(stream), data)


def open_lines(name: str, data: bytes) -> ArrowSource:
    """Open text as a table with one column, called "", of lines that are not empty."""
    with reading(name):
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    table = pa.table({"": pa.array([line for line in lines if line], pa.large_string())})
    return ArrowSource(name, table.schema, table.to_batches())


def columns_of(schema: pa.Schema) -> dict[str, Column]:
    """Return the columns of a table by name, and what each could be."""
    written_by_d2 = b"d2" in (schema.metadata or {})
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    return {
        f.name: Column(f.name, "other", "several columns of this name")
        if f.name in twice
        else Column(f.name, "other", "neighbor lists of a d2 graph")
        if written_by_d2 and _kind_of(f.type) == "vectors"
        else Column(f.name, _kind_of(f.type), str(f.type), _harder_of(f))
        for f in schema
    }


def _harder_of(field: pa.Field) -> Direction | None:
    names: dict[bytes, Direction] = {b"high": "high", b"low": "low"}
    return names.get((field.metadata or {}).get(HARDER, b""))
