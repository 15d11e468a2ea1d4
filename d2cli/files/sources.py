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
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.params import Direction

ColumnKind = Literal["vectors", "numbers", "labels", "other"]
STDIN = "-"
BATCH_BYTES = 16 << 20
HARDER = b"harder"  # field metadata: "high" or "low"


@dataclass(frozen=True)
class Column:
    """A column or array of a source: what it could be, and its type for messages.

    ``harder`` says which values are harder, where the field's own metadata do (key ``harder``).
    """

    name: str
    kind: ColumnKind
    type: str
    harder: Direction | None = None


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
        with reading(self.name):
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
    """Record batches: an Arrow IPC file or stream, or a table read from text."""

    name: str
    schema: pa.Schema
    parts: list[pa.RecordBatch]
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.columns = _columns_of(self.schema)
        self.n_rows = sum(part.num_rows for part in self.parts)

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column of each record batch."""
        at = self.schema.get_field_index(column)
        with reading(self.name):
            for part in self.parts:
                yield part.column(at)

    def array(self, column: str) -> None:
        """Return None: a table has no arrays."""
        return


def _open_arrow(name: str, data: pa.Buffer) -> ArrowSource:
    with reading(name):
        if data.slice(0, 6).to_pybytes() == b"ARROW1":
            file = pa.ipc.open_file(data)
            parts = [file.get_batch(i) for i in range(file.num_record_batches)]
            return ArrowSource(name, file.schema, parts)
        stream = pa.ipc.open_stream(data)
        return ArrowSource(name, stream.schema, list(stream))


def _open_text(name: str, data: bytes) -> ArrowSource:
    """Open a list of rows as text: CSV with a known header, JSON lines, else one a line."""
    with reading(name):
        text = data.decode("utf-8-sig")
        header = text.split("\n", 1)[0].replace('"', "").strip().split(",")
        types = {"id": pa.large_string(), "uid": pa.large_string(), "row": pa.int64()}
        if name.lower().endswith(".csv") and types.keys() & set(header):
            options = pa.csv.ConvertOptions(column_types=types)
            table = pa.csv.read_csv(pa.BufferReader(data), convert_options=options)
        elif name.lower().endswith(".jsonl"):
            table = pa.json.read_json(pa.BufferReader(data))
        else:
            lines = text.replace("\r\n", "\n").split("\n")
            table = pa.table({"": pa.array([line for line in lines if line], pa.large_string())})
    return ArrowSource(name, table.schema, table.to_batches())


def _columns_of(schema: pa.Schema) -> dict[str, Column]:
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
        with reading(self.name):
            array = self.array(column)
            yield pa.array(array.astype(array.dtype.newbyteorder("="), copy=False))

    def array(self, column: str) -> NDArray[Any]:
        """Return the array as it is stored."""
        with reading(self.name):
            return self.load(column)


def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> ColumnKind:
    if dtype.kind in "fiu" and len(shape) in (1, 2):
        return "vectors" if len(shape) == 2 else "numbers"
    return "labels" if dtype.kind in "bU" and len(shape) == 1 else "other"


def _open_npy(name: str, path: Path | None, data: bytes) -> ArraySource:
    with reading(name):
        if path is not None:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            array = np.load(io.BytesIO(data), allow_pickle=False)
    return ArraySource(name, {"": (array.dtype, array.shape)}, lambda _: array)


def _open_npz(name: str, file: Path | io.BytesIO) -> ArraySource:
    shapes = {}
    with reading(name), zipfile.ZipFile(file) as archive:
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


class reading:
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

    def open(self, ref: str, *, as_list: bool = False) -> Source:
        """Open a file by its path, or standard input for ``-``.

        With ``as_list``, what is none of the known formats is text: CSV or JSON lines by its
        ending, else a table with one column, called "", of lines.

        Raises
        ------
        InputError
            If it does not exist, is empty, or of an unknown kind.
        """
        if ref not in self._open:
            if ref == STDIN:
                self._open[ref] = _open_bytes("standard input", None, read_stdin(), as_list)
            else:
                self._open[ref] = self._open_path(Path(ref), as_list)
        return self._open[ref]

    def _open_path(self, path: Path, as_list: bool) -> Source:
        try:
            if not path.is_file() and path.exists() and not path.is_dir():
                return _open_bytes(str(path), None, path.read_bytes(), as_list)  # a pipe or device
            with path.open("rb") as file:
                head = file.read(8)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self.paths.append(path)
        return _open_bytes(str(path), path, head, as_list)


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


def _open_bytes(name: str, path: Path | None, data: bytes, as_list: bool) -> Source:
    """Open by the first bytes; ``data`` is all of it where there is no path."""
    if not data and not as_list:
        raise InputError(f"{name}: is empty, expected Parquet, Arrow, NPY or NPZ")
    if data.startswith(b"PAR1"):
        with reading(name):
            file = pq.ParquetFile(
                pa.BufferReader(data) if path is None else native_file(path),
                page_checksum_verification=True,
            )
            return ParquetSource(name, file)
    if data.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        with reading(name):
            return _open_arrow(name, pa.py_buffer(data) if path is None else _map(path))
    if data.startswith(b"\x93NUMPY"):
        return _open_npy(name, path, data)
    if data.startswith(b"PK"):
        return _open_npz(name, path if path is not None else io.BytesIO(data))
    if as_list:
        return _open_text(name, data if path is None else path.read_bytes())
    raise InputError(
        f"{name}: is neither Parquet, Arrow, NPY nor NPZ",
        hint="text formats (CSV, JSONL) have to be converted first",
    )


def native_file(path: Path) -> str | pa.BufferReader:
    """Return what pyarrow can open: the path, or the contents where it cannot take the path.

    Never a Python file object: pyarrow reads those on threads of its own, and such a thread that
    is still alive when Python ends aborts the process.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return pa.BufferReader(path.read_bytes())
    return str(path)


def _map(path: Path) -> pa.Buffer:
    native = native_file(path)
    return (pa.memory_map(native) if isinstance(native, str) else native).read_buffer()
