"""What a source says of its columns before it reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.params import Direction

ColumnKind = Literal["vectors", "numbers", "labels", "images", "other"]


@dataclass(frozen=True)
class Column:
    """A column or array of a source: what it could be, and its type for messages.

    ``harder`` says which values are harder, where the field's own metadata do (key ``harder``).
    """

    name: str
    kind: ColumnKind
    type: str
    harder: Direction | None = None


@dataclass(frozen=True)
class Header:
    """What a source says of vectors before they are read.

    Attributes
    ----------
    n_rows : int
    dtype : dtype
        As stored.
    mapped : bool
        They lie in a memory-mapped file, and are not read until they are looked at.
    in_table : bool
        They are read batch by batch into an array of the type that they are searched as.
    """

    n_rows: int
    dtype: np.dtype[Any]
    mapped: bool
    in_table: bool


class Source(Protocol):
    """Anything with columns."""

    name: str
    columns: dict[str, Column]
    n_rows: int

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column as Arrow arrays, in row order."""

    def array(self, column: str) -> NDArray[Any] | None:
        """Return the column as an array if it is stored as one; None for tables."""

    def header(self, column: str) -> Header:
        """Return what is known of a column of vectors without reading it."""

    def width(self, column: str) -> int:
        """Return the width of vectors, by their type or first rows; 0 if these do not tell it."""


def list_columns(source: Source) -> str:
    """Return "a (float), b (string)" for messages."""
    return ", ".join(f"{c.name} ({c.type})" if c.name else c.type for c in source.columns.values())
