"""Column names for shell completion, read without NumPy or pyarrow: a key press cannot wait.

Parquet keeps its schema in the footer, in Thrift's compact protocol [1]_ [2]_; of that, just what
leads to the names is read. Whatever does not fit ends the list: completion never fails.

References
----------
.. [1] https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
.. [2] https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

import csv
import json
import shlex
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

MOST_FOOTER_BYTES = 16 << 20
BOOLEAN_TRUE, BOOLEAN_FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(
    1, 13
)
SCHEMA_FIELD, NAME_FIELD, CHILDREN_FIELD = 2, 4, 5


def words_of_line(environment: Mapping[str, str]) -> list[str]:
    """Return the words of an unfinished line; the shells' scripts hand it over in the environment.

    The parser's own list is empty where the last option still waits for its value.
    """
    line = environment.get("_TYPER_COMPLETE_ARGS") or environment.get("COMP_WORDS") or ""
    try:
        return shlex.split(line)
    except ValueError:  # an open quotation
        return line.split()


def complete_columns(words: list[str], incomplete: str) -> list[str]:
    """Return what a COLREF could be: columns of the source, or of the file before ``::``.

    Parameters
    ----------
    words : list of str
        Of the line so far; the first that is a file or folder counts as the SOURCE.
    incomplete : str
        What has been typed.
    """
    file, separator, start = incomplete.partition("::")
    if separator:
        return [f"{file}::{name}" for name in column_names(Path(file)) if name.startswith(start)]
    source = next((Path(word) for word in words if Path(word).exists()), None)
    names = column_names(source) if source else []
    return [name for name in names if name.startswith(incomplete)]


def column_names(path: Path) -> list[str]:
    """Return the columns of a Parquet, NPZ, CSV or JSONL file that a shell can show; else none."""
    try:
        if path.is_dir():
            path = next(path.rglob("*.parquet"), path / "none")
        with path.open("rb") as file:
            head = file.read(4)
        if head == b"PAR1":
            names = list(_parquet_columns(path))
        elif head[:2] == b"PK":
            names = [name.removesuffix(".npy") for name in zipfile.ZipFile(path).namelist()]
        elif path.suffix in (".csv", ".jsonl"):
            with path.open(encoding="utf-8-sig", newline="") as lines:
                first = lines.readline(1 << 20)
            names = (
                list(json.loads(first)) if path.suffix == ".jsonl" else next(csv.reader([first]))
            )
        else:
            names = []
    except (OSError, ValueError, IndexError, StopIteration, zipfile.BadZipFile, csv.Error):
        return []
    return [name for name in names if name and name.isprintable()]


def _parquet_columns(path: Path) -> Iterator[str]:
    """Yield the names of the top level of a Parquet file's schema."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        if length > MOST_FOOTER_BYTES:
            return
        file.seek(-8 - length, 2)
        footer = _Compact(file.read(length))
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


def _schema_element(footer: "_Compact") -> tuple[str, int]:
    name, children = "", 0
    for field, kind in footer.fields():
        if field == NAME_FIELD and kind == BINARY:
            name = footer.binary().decode()
        elif field == CHILDREN_FIELD and kind == I32:
            children = footer.integer()
        else:
            footer.skip(kind)
    return name, children


class _Compact:
    """A reader of Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def integer(self) -> int:
        """Read a signed integer of any width."""
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        """Read a string."""
        length = self._unsigned()
        self._at += length
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
        """Skip a value."""
        if kind in (I16, I32, I64):
            self._unsigned()
        elif kind == BYTE:
            self._at += 1
        elif kind == DOUBLE:
            self._at += 8
        elif kind == BINARY:
            self.binary()
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        elif kind in (LIST, SET):
            count, inner = self.list_header()
            for _ in range(count):
                self._at += 1 if inner in (BOOLEAN_TRUE, BOOLEAN_FALSE) else 0
                self.skip(inner)
        elif kind == MAP:
            raise ValueError("no map comes before the schema")
