"""Files that hold columns or arrays: Parquet, Arrow IPC, NPY, NPZ, or standard input.

A source is opened by what its first bytes say, not by its name, and lists its columns without
reading them. Tables yield Arrow arrays batch by batch; NPY stays mapped on disk.
"""

import io
import mmap
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from d2cli.errors import InputError, ParameterError
from d2cli.files.arrays import open_npy, open_npz
from d2cli.files.column import Source
from d2cli.files.damage import reading
from d2cli.files.tables import ParquetSource, open_arrow, open_text

STDIN = "-"
BUFFER_BYTES = 1 << 20  # of a Parquet column, read at a time


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
                # Else all of a row group's column, however large, is read at once.
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
            )
            return ParquetSource(name, file)
    if data.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        with reading(name):
            return open_arrow(name, data if path is None else _map(path))
    if data.startswith(b"\x93NUMPY"):
        return open_npy(name, path, data)
    if data.startswith(b"PK"):
        return open_npz(name, path if path is not None else io.BytesIO(data))
    if as_list:
        return open_text(name, data if path is None else path.read_bytes())
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


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
