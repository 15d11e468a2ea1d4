"""Many files of one kind as one source: the rows of the first, then those of the second, ...

One shard is open at a time, and none between two reads, so their number does not matter.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.arrays import ArraySource
from d2cli.files.blocks import arrow_blocks
from d2cli.files.column import Column, Header, Source
from d2cli.files.damage import reading
from d2cli.files.datacomp import PairSource
from d2cli.files.remote import Place
from d2cli.files.tables import ArrowSource, ParquetSource
from d2cli.stages.room import release

NULL_LABEL = "__HIVE_DEFAULT_PARTITION__"  # what writers call the folder of rows without a value
LABEL_ROWS = 1 << 16  # of a folder's label, yielded at a time


@dataclass
class ShardedSource:
    """Files with the same columns, in a given order.

    Attributes
    ----------
    name : str
        Of the folder or glob, for messages.
    paths : sequence of Path or Remote
        The shards; their order is that of the rows.
    open_shard : callable
        Opens one of them.
    labels : dict
        Columns that are not in the files: a text for each shard, or None.
    rows : list of int
        The number of rows of each shard.
    """

    name: str
    paths: Sequence[Place]
    open_shard: Callable[[Any], Source]
    labels: dict[str, list[str | None]] = field(default_factory=dict)
    rows: list[int] = field(init=False, default_factory=list)
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)
    _arrays: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        first: dict[str, _Type] | None = None
        for path in self.paths:
            with self.opened(path) as shard:
                layout = _layout(shard)
                if first is None:
                    first, columns = layout, shard.columns
                    self._arrays = isinstance(shard, ArraySource)
                elif layout != first:
                    self._refuse(path, layout, first)
                self.rows.append(shard.n_rows)
        self.n_rows = sum(self.rows)
        self.columns = {
            name: replace(column, type=first[name].text(self.n_rows)) if first else column
            for name, column in columns.items()
        }
        for name in self.labels:
            both = Column(name, "other", "in the files and in the names of their folders")
            kind = self._label_type(name)
            new = Column(name, "numbers" if kind == pa.int64() else "labels", str(kind))
            self.columns[name] = both if name in self.columns else new

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column shard by shard.

        Raises
        ------
        InputError
            If a shard has changed since it was opened first.
        """
        if column in self.labels:
            yield from self._label_batches(column)
            return
        for path, n_rows in zip(self.paths, self.rows, strict=True):
            found = 0
            with self.opened(path) as shard:
                for batch in _batches(shard, column) if column in shard.columns else ():
                    found += len(batch)
                    if found > n_rows:
                        break
                    yield batch
            if found != n_rows:
                raise InputError(
                    f"{path}: has changed since it was opened",
                    hint="the files must not change while d2 reads them",
                )

    def array(self, column: str) -> NDArray[Any] | None:
        """Return arrays (n,) as one; None for tables and for vectors, which are read in batches."""
        if not self._arrays or self.columns[column].kind == "vectors":
            return None
        parts = []
        for path in self.paths:
            with self.opened(path) as shard:
                parts.append(np.array(shard.array(column)))
        return np.concatenate(parts)

    def header(self, column: str) -> Header:
        """Return rows and type of a column of vectors."""
        with self.opened(self.paths[0]) as shard:
            header = shard.header(column)
        return replace(header, n_rows=self.n_rows, mapped=False, in_table=True)

    def width(self, column: str) -> int:
        """Return the width of vectors in the first shard that tells it."""
        for path in self.paths:
            with self.opened(path) as shard:
                width = shard.width(column)
            if width:
                return width
        return 0

    @contextlib.contextmanager
    def opened(self, path: Place) -> Iterator[Source]:
        """Open a shard, and close what would stay open."""
        shard = self.open_shard(path)
        try:
            yield shard
        finally:
            _close(shard)

    def _refuse(self, path: Place, layout: "dict[str, _Type]", first: "dict[str, _Type]") -> None:
        """Say in what a shard differs from the first one."""
        if list(first) == [""] == list(layout):
            what = f"is {layout['']}, but {self.paths[0]} is {first['']}"
        elif missing := sorted(first.keys() - layout.keys()):
            what = f"has no column '{missing[0]}', which {self.paths[0]} has"
        elif more := sorted(layout.keys() - first.keys()):
            what = f"has a column '{more[0]}', which {self.paths[0]} does not have"
        else:
            name = next(name for name in first if layout[name] != first[name])
            what = f"column '{name}' is {layout[name]}, but {first[name]} in {self.paths[0]}"
        raise InputError(
            f"{path}: {what}",
            hint="shards need the same columns and types; a glob in quotes, such as "
            "'folder/part-*.parquet', names some of the files",
        )

    def _label_type(self, name: str) -> pa.DataType:
        texts = [text for text in self.labels[name] if text is not None]
        numbers = all(re.fullmatch(r"-?[0-9]{1,18}", text) for text in texts)
        return pa.int64() if numbers and texts else pa.large_string()

    def _label_batches(self, name: str) -> Iterator[pa.Array]:
        kind = self._label_type(name)
        for text, n_rows in zip(self.labels[name], self.rows, strict=True):
            value = int(text) if text is not None and kind == pa.int64() else text
            for start in range(0, n_rows, LABEL_ROWS):
                yield pa.repeat(pa.scalar(value, kind), min(LABEL_ROWS, n_rows - start))


@dataclass(frozen=True)
class _Type:
    """What must be equal of a column in all shards: its type, and a direction if it has one."""

    kind: Any
    harder: str | None = None

    def text(self, n_rows: int | str) -> str:
        if not isinstance(self.kind, tuple):
            return str(self.kind)
        dtype, *shape = self.kind
        return f"{dtype} ({', '.join(str(size) for size in (n_rows, *shape))}{',' * (not shape)})"

    def __str__(self) -> str:
        return self.text("n") + (f", harder when {self.harder}" if self.harder else "")


def _layout(shard: Source) -> dict[str, _Type]:
    """Return what a shard holds, by column."""
    if isinstance(shard, PairSource):
        inside, beside = _layout(shard.table), _layout(shard.arrays)
        twice = {name: _Type(shard.columns[name].type) for name in inside.keys() & beside.keys()}
        return inside | beside | twice
    if isinstance(shard, ArraySource):
        return {
            name: _Type(("str" if dtype.kind == "U" else dtype.newbyteorder("="), *shape[1:]))
            for name, (dtype, shape) in shard.shapes.items()
        }
    schema = pa.schema([])
    if isinstance(shard, ParquetSource):
        schema = shard.file.schema_arrow
    elif isinstance(shard, ArrowSource):
        schema = shard.schema
    once = {name for name in schema.names if schema.names.count(name) == 1}
    return {
        # Types, not their texts: what a list calls its items makes no difference.
        name: _Type(schema.field(name).type if name in once else column.type, column.harder)
        for name, column in shard.columns.items()
    }


def batches_with(
    source: Source, column: str, rows: NDArray[np.int64]
) -> Iterator[tuple[int, pa.Array]]:
    """Yield batches of a column that hold all of some ascending rows, each with its first row.

    Shards and row groups that hold none of them are not read.
    """
    if isinstance(source, PairSource) and column in source.table.columns:
        yield from batches_with(source.table, column, rows)
        return
    if isinstance(source, ParquetSource):
        yield from source.batches_with(column, rows)
        return
    start = 0
    if isinstance(source, ShardedSource) and column not in source.labels:
        for path, n_rows in zip(source.paths, source.rows, strict=True):
            first, last = np.searchsorted(rows, (start, start + n_rows))
            if first < last:
                with source.opened(path) as shard:
                    for at, batch in batches_with(shard, column, rows[first:last] - start):
                        yield start + at, batch
            start += n_rows
        return
    for batch in _batches(source, column):
        yield start, batch
        start += len(batch)


def _batches(shard: Source, column: str) -> Iterator[pa.Array]:
    """Yield the column of a shard; what lies in a map, and may be kept, as a copy."""
    array = shard.array(column)
    if array is not None:
        with reading(shard.name):
            yield from arrow_blocks(array)
        return
    # A map stays open as long as anything in it, so all shards would.
    copy = isinstance(shard, ArrowSource) and shard.columns[column].kind != "vectors"
    for batch in shard.batches(column):
        if copy:
            with reading(shard.name):
                whole = pa.concat_arrays([batch, batch[:0]])
            yield whole
        else:
            yield batch


def _close(shard: Source) -> None:
    """Close what would stay open until it is collected, and give back what was read of a map."""
    if isinstance(shard, PairSource):
        _close(shard.table)
    elif isinstance(shard, ParquetSource):
        shard.file.close()
    elif isinstance(shard, ArrowSource):
        release(shard.data)
