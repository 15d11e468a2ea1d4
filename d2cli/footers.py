"""Column names in the footer of a Parquet file, read without pyarrow.

The footer is in Thrift's compact protocol [1]_ [2]_; of that, just what leads to the names is read.

References
----------
.. [1] https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
.. [2] https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator
from pathlib import Path

MOST_FOOTER_BYTES = 16 << 20
BOOLEAN_TRUE, BOOLEAN_FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(
    1, 13
)
WIDTHS = {BOOLEAN_TRUE: 1, BOOLEAN_FALSE: 1, BYTE: 1, DOUBLE: 8}  # bytes, of booleans in a list
SCHEMA_FIELD, NAME_FIELD, CHILDREN_FIELD = 2, 4, 5


def parquet_columns(path: Path) -> Iterator[str]:
    """Yield the names of the top level of a Parquet file's schema; none of a footer over 16 MiB.

    Raises
    ------
    OSError, ValueError, IndexError
        If the footer is damaged.
    """
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        if length > MOST_FOOTER_BYTES:
            return
        file.seek(-8 - length, 2)
        footer = Compact(file.read(length))
    for field, kind in footer.fields():
        if field != SCHEMA_FIELD or kind != LIST:
            footer.skip(kind)
            continue
        count, _ = footer.list_header()
        inner = 0  # elements that belong to the one before
        for element in range(count):
            name, children = _schema_element(footer)
            if element and not inner:
                yield name
            inner += children - (1 if inner else 0) if element else 0
        return


def _schema_element(footer: "Compact") -> tuple[str, int]:
    name, children = "", 0
    for field, kind in footer.fields():
        if field == NAME_FIELD and kind == BINARY:
            name = footer.binary().decode()
        elif field == CHILDREN_FIELD and kind == I32:
            children = footer.integer()
        else:
            footer.skip(kind)
    return name, children


class Compact:
    """A reader of Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _byte(self) -> int:
        self._move(1)
        return self._data[self._at - 1]

    def _move(self, length: int) -> None:
        self._at += length
        if self._at > len(self._data):
            raise IndexError("the footer ends before its schema")

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("no number is that long")

    def integer(self) -> int:
        """Read a signed integer of any width."""
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        """Read a string."""
        length = self._unsigned()
        self._move(length)
        return self._data[self._at - length : self._at]

    def list_header(self) -> tuple[int, int]:
        """Read how many elements a list has, and their kind."""
        byte = self._byte()
        count = byte >> 4
        return (self._unsigned() if count == 15 else count), byte & 0x0F

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and kind of each field of a struct; the caller reads or skips its value."""
        number = 0
        while byte := self._byte():
            number = number + (byte >> 4) if byte >> 4 else self.integer()
            yield number, byte & 0x0F

    def skip(self, kind: int) -> None:
        """Skip the value of a field."""
        if kind in (BOOLEAN_TRUE, BOOLEAN_FALSE):  # the kind is the value
            return
        if kind in (I16, I32, I64):
            self._unsigned()
        elif kind in WIDTHS:
            self._move(WIDTHS[kind])
        elif kind == BINARY:
            self._move(self._unsigned())
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        elif kind in (LIST, SET):
            self._skip_list()
        else:
            raise ValueError("no map, and nothing unknown, comes before the schema")

    def _skip_list(self) -> None:
        count, kind = self.list_header()
        if kind in WIDTHS:
            self._move(count * WIDTHS[kind])
            return
        for _ in range(count):
            self.skip(kind)
