"""Files that hold columns or arrays: Parquet, Arrow IPC, NPY, NPZ, or standard input.

A source is opened by what its first bytes say, not by its name, and lists its columns without
reading them. Tables yield Arrow arrays batch by batch; NPY stays mapped on disk.
"""

import io
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError

ColumnKind = Literal["vectors", "numbers", "labels", "other"]
STDIN = "-"
BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class Column:
    """A column or array of a source: what it could be, and its type for messages."""

    name: str
    kind: ColumnKind
    type: str


class Source(Protocol):
    """Anything with columns."""

    name: str
    columns: dict[str, Column]
    n_rows: int

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column as Arrow arrays, in row order."""

    def array(self, column: str) -> NDArray[Any] | None:
        """Return the column as an array if it is stored as one; None for tables."""


def list_columns(source: Source) -> str:
    """Return "a (float), b (string)" for messages."""
    return ", ".join(f"{c.name} ({c.type})" if c.name else c.type for c in source.columns.values())


# --- tables ---------------------------------------------------------------------------------------


def _kind_of(kind: pa.DataType) -> ColumnKind:
    if isinstance(kind, pa.BaseExtensionType):
        return _kind_of(kind.storage_type)
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
    return "other"


@dataclass
class ParquetSource:
    """A Parquet file."""

    name: str
    file: pq.ParquetFile
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.columns = _columns_of(self.file.schema_arrow)
        self.n_rows = int(self.file.metadata.num_rows)

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column in batches of about 16 MB."""
        rows = max(BATCH_BYTES // _row_bytes(self.file, column), 1)
        # A name with a dot would be taken as a path into a struct, so then all columns are read.
        only = [column] if "." not in column else None
        with _reading(self.name):
            for batch in self.file.iter_batches(batch_size=rows, columns=only):
                yield batch.column(batch.schema.get_field_index(column))

    def array(self, column: str) -> None:
        """Return None: a table has no arrays."""
        return


def _top_level(path: str) -> str:
    return path.split(".", maxsplit=1)[0]


def _row_bytes(file: pq.ParquetFile, column: str) -> int:
    kind = file.schema_arrow.field(column).type
    if pa.types.is_fixed_size_list(kind):
        return max(int(kind.list_size), 1) * 8
    total = 0
    for group in range(file.metadata.num_row_groups):
        meta = file.metadata.row_group(group)
        for leaf in range(meta.num_columns):
            chunk = meta.column(leaf)
            if _top_level(chunk.path_in_schema) == _top_level(column):
                total += chunk.total_uncompressed_size
    return max(int(total) // max(int(file.metadata.num_rows), 1), 8)


@dataclass
class ArrowSource:
    """An Arrow IPC file or stream."""

    name: str
    data: pa.Buffer
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        with _reading(self.name):
            if self.data.slice(0, 6).to_pybytes() == b"ARROW1":
                file = pa.ipc.open_file(self.data)
                self.schema = file.schema
                self.parts = [file.get_batch(i) for i in range(file.num_record_batches)]
            else:
                stream = pa.ipc.open_stream(self.data)
                self.schema = stream.schema
                self.parts = list(stream)
        self.columns = _columns_of(self.schema)
        self.n_rows = sum(part.num_rows for part in self.parts)

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column of each record batch, checked in full first."""
        at = self.schema.get_field_index(column)
        with _reading(self.name):
            for part in self.parts:
                values = part.column(at)
                values.validate(full=True)
                yield values

    def array(self, column: str) -> None:
        """Return None: a table has no arrays."""
        return


def _columns_of(schema: pa.Schema) -> dict[str, Column]:
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    return {
        f.name: Column(f.name, "other", "several columns of this name")
        if f.name in twice
        else Column(f.name, _kind_of(f.type), str(f.type))
        for f in schema
    }


# --- arrays ---------------------------------------------------------------------------------------


@dataclass
class ArraySource:
    """An NPY file (one array without a name) or an NPZ archive; loaded when asked for."""

    name: str
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
    load: Callable[[str], NDArray[Any]]
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.columns = {
            name: Column(name, _kind_of_array(dtype, shape), f"{dtype} {shape}")
            for name, (dtype, shape) in self.shapes.items()
        }
        self.n_rows = max((shape[0] for _, shape in self.shapes.values() if shape), default=0)

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the whole array at once, as Arrow."""
        with _reading(self.name):
            array = self.array(column)
            yield pa.array(array.astype(array.dtype.newbyteorder("="), copy=False))

    def array(self, column: str) -> NDArray[Any]:
        """Return the array as it is stored."""
        with _reading(self.name):
            return self.load(column)


def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> ColumnKind:
    if dtype.kind in "fiu" and len(shape) in (1, 2):
        return "vectors" if len(shape) == 2 else "numbers"
    return "labels" if dtype.kind in "bU" and len(shape) == 1 else "other"


def _open_npy(name: str, path: Path | None, data: bytes) -> ArraySource:
    with _reading(name):
        if path is not None:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            array = np.load(io.BytesIO(data), allow_pickle=False)
    return ArraySource(name, {"": (array.dtype, array.shape)}, lambda _: array)


def _open_npz(name: str, file: Path | io.BytesIO) -> ArraySource:
    shapes = {}
    with _reading(name), zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as stream:
                    shapes[member.removesuffix(".npy")] = _npy_header(stream)

    def load(column: str) -> NDArray[Any]:
        with np.load(file, allow_pickle=False) as members:
            return np.asarray(members[column])

    return ArraySource(name, shapes, load)


def _npy_header(stream: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:  # noqa: ANN401
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(stream)
    return dtype, shape


# --- opening --------------------------------------------------------------------------------------


# What pyarrow, NumPy and zipfile raise for files that are not what they seem.
DAMAGE = (
    pa.ArrowException,
    ValueError,
    EOFError,
    OSError,
    KeyError,
    TypeError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class _reading:
    """Turn what the readers raise into one InputError that names the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MemoryError):
            return
        if isinstance(error, DAMAGE) and not isinstance(error, ParameterError):
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{self.name}: cannot be read: {first_line}",
                hint="the file is damaged or of a kind that d2 does not read",
            ) from error


class Sources:
    """Opens every file of one run once, and remembers which files were read."""

    def __init__(self) -> None:
        self._open: dict[str, Source] = {}
        self.paths: list[Path] = []

    def open(self, ref: str) -> Source:
        """Open a file by its path, or standard input for ``-``.

        Raises
        ------
        InputError
            If it does not exist, is empty, or of an unknown kind.
        """
        if ref not in self._open:
            self._open[ref] = self._open_stdin() if ref == STDIN else self._open_path(Path(ref))
        return self._open[ref]

    def _open_stdin(self) -> Source:
        data = read_stdin()
        return _open_bytes("standard input", None, data)

    def _open_path(self, path: Path) -> Source:
        try:
            if not path.is_file() and path.exists() and not path.is_dir():
                return _open_bytes(str(path), None, path.read_bytes())  # a pipe or device
            with path.open("rb") as file:
                head = file.read(8)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self.paths.append(path)
        return _open_bytes(str(path), path, head)


def read_stdin() -> bytes:
    """Read all of standard input.

    Raises
    ------
    ParameterError
        If it is a terminal.
    InputError
        If it is empty.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ParameterError(
            "nothing to read: no input was named and standard input is a terminal",
            hint="name a file, or pipe one in",
        )
    data = sys.stdin.buffer.read()
    if not data:
        raise InputError(
            "standard input is empty", hint="if a command stands before the pipe, it has failed"
        )
    return data


def _open_bytes(name: str, path: Path | None, data: bytes) -> Source:
    """Open by the first bytes; ``data`` is all of it where there is no path."""
    if not data:
        raise InputError(f"{name}: is empty, expected Parquet, Arrow, NPY or NPZ")
    if data.startswith(b"PAR1"):
        with _reading(name):
            file = pq.ParquetFile(
                pa.BufferReader(data) if path is None else _native(path),
                page_checksum_verification=True,
            )
            return ParquetSource(name, file)
    if data.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        with _reading(name):
            buffer = pa.py_buffer(data) if path is None else _map(path)
            return ArrowSource(name, buffer)
    if data.startswith(b"\x93NUMPY"):
        return _open_npy(name, path, data)
    if data.startswith(b"PK"):
        return _open_npz(name, path if path is not None else io.BytesIO(data))
    raise InputError(
        f"{name}: is neither Parquet, Arrow, NPY nor NPZ",
        hint="text formats (CSV, JSONL) have to be converted first",
    )


def _native(path: Path) -> str | pa.BufferReader:
    """Hand pyarrow the path, or the contents where it cannot take the path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return pa.BufferReader(path.read_bytes())
    return str(path)


def _map(path: Path) -> pa.Buffer:
    native = _native(path)
    return (pa.memory_map(native) if isinstance(native, str) else native).read_buffer()
