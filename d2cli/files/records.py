"""Whole rows of a source, all columns, batch by batch: for what hands rows on as they are.

A source is one Parquet or Arrow file or several (its shards), whose rows count on in their order.
Nothing but the rows that are asked for is kept, and row groups without any are not read.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.artifact_tables import META
from d2cli.files.artifacts import CARRIED, LOCATOR, ROW_ORDER, SEAL
from d2cli.files.chunks import first_groups, read_footer
from d2cli.files.damage import reading
from d2cli.files.mapped import map_file
from d2cli.files.remote import Place, Remote, discard
from d2cli.files.sources import BUFFER_BYTES, native_file
from d2cli.files.text import TextSource
from d2cli.files.unpacking import unpacked
from d2cli.stages.room import release

BATCH_BYTES = 8 << 20
PARQUET, ARROW = b"PAR1", (b"ARROW1", b"\xff\xff\xff\xff")  # how files begin
SEALS = (
    META,
    LOCATOR,
    CARRIED,
    ROW_ORDER,
    SEAL,
)  # true of a whole artifact, not of some of its rows


@dataclass(frozen=True)
class Layout:
    """How a Parquet file stores its columns: to store others like it.

    Attributes
    ----------
    codecs : tuple of str
        Of each leaf column, in lower case, "none" for none.
    dictionaries : tuple of bool
        Whether each leaf column has a dictionary.
    group_rows : int
        Of the largest row group.
    """

    codecs: tuple[str, ...]
    dictionaries: tuple[bool, ...]
    group_rows: int


@dataclass(frozen=True)
class Shard:
    """A file of a source.

    Attributes
    ----------
    path : Path or Remote
    name : str
        Within the source, with "/".
    n_rows : int
    schema : Arrow schema
        Without the metadata that seals an artifact of ours.
    layout : Layout or None
        None for Arrow, and for Parquet without rows.
    parquet : bool
    labels : tuple of (field, text or None)
        Columns that are not in the file, but in the names of its folders: one value each.
    text : TextSource or None
        What reads the file, if it is one of text.
    archive : Path, Remote or None
        The arrays beside a table of DataComp metadata, a row for each of its rows.
    """

    path: Place
    name: str
    n_rows: int
    schema: pa.Schema
    layout: Layout | None
    parquet: bool
    labels: tuple[tuple[pa.Field, str | None], ...] = ()
    text: TextSource | None = None
    archive: Place | None = None

    @property
    def full_schema(self) -> pa.Schema:
        """The columns of the file and the labels."""
        schema = self.schema
        for field, _ in self.labels:
            schema = schema.append(field)
        return schema

    def labelled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch of the file with its labels as further columns."""
        columns = [_repeat(field, text, batch.num_rows) for field, text in self.labels]
        return pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=self.full_schema)

    def read(self, rows: NDArray[np.int64], column: str | None = None) -> Iterator[pa.RecordBatch]:
        """Yield some rows of the shard, ascending, in batches of at most about 8 MB.

        Parameters
        ----------
        rows : int64 array
            Ascending and all different.
        column : str, optional
            The only one to be read.

        Raises
        ------
        InputError
            If the file is damaged, or has changed since it was opened.
        """
        if not len(rows):
            return
        found = 0
        with reading(str(self.path)):
            only = None if column is None else [column]
            batches = self._batches(rows, only)
            for start, batch in batches:
                stop = start + batch.num_rows
                here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
                found += len(here)
                if len(here):
                    batch = batch if only is None else batch.select(only)
                    yield _take(batch, here).replace_schema_metadata(self.schema.metadata)
        if found < len(rows):
            raise InputError(f"{self.path}: ends early: it has changed while it was read")

    def _batches(
        self, rows: NDArray[np.int64], only: list[str] | None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield batches that hold all of some rows, each with its first row."""
        if self.parquet:
            return self._parquet_batches(rows, only)
        return self._arrow_batches() if self.text is None else self._text_batches(self.text)

    def _text_batches(self, text: TextSource) -> Iterator[tuple[int, pa.RecordBatch]]:
        start = 0
        for batch in text.rows():
            yield start, batch
            start += batch.num_rows

    def _parquet_batches(
        self, rows: NDArray[np.int64], only: list[str] | None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the row groups that hold any of the rows, in pieces with their first row."""
        # A name with a dot would be taken as a path into a struct, so then all columns are read.
        columns = only if only and "." not in only[0] else None
        with _open_parquet(self.path) as file:
            stop = 0
            for group in range(file.metadata.num_row_groups):
                meta = file.metadata.row_group(group)
                start, stop = stop, stop + meta.num_rows
                if np.searchsorted(rows, start) == np.searchsorted(rows, stop):
                    continue
                at_once = _rows_at_once(meta.total_byte_size, meta.num_rows)
                batches = file.iter_batches(
                    batch_size=at_once, row_groups=[group], columns=columns, use_threads=False
                )
                for batch in unpacked(batches, str(self.path), "read the rows"):
                    yield start, batch
                    start += batch.num_rows

    def _arrow_batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield all record batches, in pieces with their first row."""
        data, start = _map(self.path), 0
        for whole in unpacked(_record_batches(data), str(self.path), "read the rows"):
            whole.validate(full=True)
            at_once = _rows_at_once(whole.nbytes, whole.num_rows)
            for first in range(0, whole.num_rows, at_once):
                yield start + first, whole.slice(first, at_once)
            start += whole.num_rows
            release(data)


def _repeat(field: pa.Field, text: str | None, n_rows: int) -> pa.Array:
    """Return one value of a label's column so many times."""
    value = int(text) if text is not None and pa.types.is_integer(field.type) else text
    return pa.repeat(pa.scalar(value, field.type), n_rows)


def _rows_at_once(size: int, n_rows: int) -> int:
    """Return how many rows of so large a batch are about `BATCH_BYTES`."""
    return max(BATCH_BYTES * n_rows // max(size, 1), 1) if n_rows else 1


def _take(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pa.RecordBatch:
    return batch if len(rows) == batch.num_rows else batch.take(pa.array(rows))


def _open_parquet(path: Place) -> pq.ParquetFile:
    if isinstance(path, Remote):
        return path.open_parquet()
    return pq.ParquetFile(
        native_file(path),
        page_checksum_verification=True,
        pre_buffer=False,
        buffer_size=BUFFER_BYTES,
    )


def _map(path: Place) -> mmap.mmap:
    """Map a file; a remote one is copied here before, without a name."""
    if isinstance(path, Remote):
        local, copy = path.spool()
        try:
            return map_file(local, str(path))
        finally:
            discard(local, copy)
    return map_file(path, str(path))


def _open_ipc(data: Any) -> Any:  # noqa: ANN401
    buffer = pa.py_buffer(data)
    return pa.ipc.open_file(buffer) if data[:6] == b"ARROW1" else pa.ipc.open_stream(buffer)


def _record_batches(data: Any) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    reader = _open_ipc(data)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        yield from reader


def has_rows(path: Place) -> bool:
    """Return whether a file is a table of a kind that can be handed on row by row."""
    with reading(str(path)), path.open("rb") as file:
        return _head(file).startswith((PARQUET, *ARROW))


def _head(file: Any) -> bytes:  # noqa: ANN401
    return bytes(file.read(6))


def open_shard(path: Place, name: str) -> Shard:
    """Read what a Parquet or Arrow file says of itself.

    Parameters
    ----------
    path : Path or Remote
    name : str
        What to call it within its source.

    Raises
    ------
    InputError
        If it is neither, or damaged.
    """
    with reading(str(path)):
        with path.open("rb") as file:
            head = _head(file)
        if head.startswith(PARQUET):
            with _open_parquet(path) as parquet:
                schema, meta = parquet.schema_arrow, parquet.metadata
                return Shard(
                    path, name, meta.num_rows, _unsealed(schema), _layout(meta, path), True
                )
        if head.startswith(ARROW):
            data = _map(path)
            schema = _open_ipc(data).schema
            batches = unpacked(_record_batches(data), str(path), "count the rows")
            n_rows = sum(batch.num_rows for batch in batches)
            release(data)
            return Shard(path, name, n_rows, _unsealed(schema), None, False)
    raise InputError(
        f"{path}: is neither Parquet nor Arrow", hint="only tables have rows to hand on"
    )


def _unsealed(schema: pa.Schema) -> pa.Schema:
    """Return a schema without what is true only of a whole artifact."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key not in SEALS}
    return schema.with_metadata(kept or None)


def _layout(meta: Any, path: Place) -> Layout | None:  # noqa: ANN401
    if not meta.num_row_groups:
        return None
    groups = (meta.row_group(i).num_rows for i in range(meta.num_row_groups))
    first = first_groups(read_footer(native_file(path)))[0]
    return Layout(
        tuple(chunk.codec for chunk in first),
        tuple(chunk.dictionary for chunk in first),
        max(max(groups), 1),
    )


@dataclass(frozen=True)
class Records:
    """The rows of a source: those of its shards, one after the other.

    Attributes
    ----------
    name : str
    shards : sequence of Shard
        At least one; all have the same columns, as `d2cli.files.shards` makes sure.
    """

    name: str
    shards: Sequence[Shard]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The row that each shard begins with, and their sum, (shards + 1,)."""
        return np.cumsum([0, *(shard.n_rows for shard in self.shards)], dtype=np.int64)

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return int(self.starts[-1])

    @property
    def schema(self) -> pa.Schema:
        """The columns of all shards, in the order and with the metadata of the first."""
        return self.shards[0].full_schema

    def of_shard(self, rows: NDArray[np.int64], at: int) -> NDArray[np.int64]:
        """Return which of some ascending rows are in a shard, counted from its own first row."""
        start, stop = self.starts[at], self.starts[at + 1]
        first, last = np.searchsorted(rows, (start, stop))
        found: NDArray[np.int64] = rows[first:last] - start
        return found

    def read_column(self, rows: NDArray[np.int64], name: str) -> Iterator[pa.Array]:
        """Yield one column of some rows, ascending; its types are those of the shards."""
        for at, shard in enumerate(self.shards):
            here = self.of_shard(rows, at)
            for field, text in shard.labels:
                if field.name == name:
                    yield _repeat(field, text, len(here))
                    break
            else:
                for batch in shard.read(here, name):
                    yield batch.column(0)

    def read(self, rows: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Yield some rows, ascending, as batches of one schema."""
        schema = self.schema
        for at, shard in enumerate(self.shards):
            for batch in shard.read(self.of_shard(rows, at)):
                yield like(shard.labelled(batch), schema)


def like(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the order and metadata of a schema of the same columns."""
    if batch.schema.names != schema.names:
        batch = batch.select(schema.names)
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema)
