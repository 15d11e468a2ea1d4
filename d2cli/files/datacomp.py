"""DataComp metadata: Parquet shards with an NPZ archive of the same stem beside each.

The archive holds arrays such as ``l14_img`` (n, 768), one row for each row of the table; ``uid`` is
the table's id. Arrays are read from the archive in blocks, and its checksums are verified.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.arrays import ArraySource, archive_file, unwarned
from d2cli.files.blocks import arrow_blocks, rows_at_once, to_arrow
from d2cli.files.column import Column, Header, Source
from d2cli.files.damage import reading
from d2cli.files.remote import Place


@dataclass
class PairSource:
    """A table, and arrays with as many rows that are columns of it.

    Raises
    ------
    InputError
        If the numbers of rows differ.
    """

    table: Source
    arrays: ArraySource
    archive: Place
    name: str = field(init=False)
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.n_rows = self.table.name, self.table.n_rows
        for name, (_, shape) in self.arrays.shapes.items():
            if not shape or shape[0] != self.n_rows:
                raise InputError(
                    f"{self.archive}::{name}: has shape {shape}, but {self.name} has "
                    f"{self.n_rows:,} rows",
                    hint="the arrays beside a table need a row for each of its rows",
                )
        both = self.table.columns.keys() & self.arrays.columns.keys()
        self.columns = self.table.columns | self.arrays.columns
        for name in both:
            self.columns[name] = Column(name, "other", "several columns of this name")

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield a column of the table, or the rows of an array."""
        if column in self.table.columns:
            yield from self.table.batches(column)
            return
        with reading(f"{self.archive}::{column}"):
            yield from _member_blocks(self.archive, column)

    def array(self, column: str) -> NDArray[Any] | None:
        """Return None: arrays are read in batches."""
        return None

    def header(self, column: str) -> Header:
        """Return rows and type of a column of vectors."""
        return self._home(column).header(column)

    def width(self, column: str) -> int:
        """Return the width of vectors."""
        return self._home(column).width(column)

    def _home(self, column: str) -> Source:
        return self.table if column in self.table.columns else self.arrays


def _member_blocks(archive: Place, name: str) -> Iterator[pa.Array]:
    """Yield the rows of a member of an NPZ archive."""
    with zipfile.ZipFile(archive_file(archive)) as members, members.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        with unwarned():
            shape, by_column, dtype = read(stream)
        if by_column and len(shape) > 1:
            with unwarned(), np.load(archive_file(archive), allow_pickle=False) as whole:
                array = np.asarray(whole[name])
            yield from arrow_blocks(array)
            return
        step = rows_at_once(dtype, shape)
        for start in range(0, shape[0], step):
            block = (min(step, shape[0] - start), *shape[1:])
            size = dtype.itemsize * int(np.prod(block))
            data = stream.read(size)
            if len(data) != size:
                raise EOFError(f"ends in row {start + len(data) * block[0] // max(size, 1)}")
            yield to_arrow(np.frombuffer(data, dtype=dtype).reshape(block))
        stream.read(1)  # the checksum is compared at the end
