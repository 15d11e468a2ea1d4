"""Files that hold columns or arrays, folders and globs of such files, or standard input.

A file is opened by what its first bytes say, not by its name, and lists its columns without
reading them; only text, whose bytes do not tell, goes by its ending. Tables yield Arrow arrays
batch by batch; NPY stays mapped on disk.
"""

import io
import sys
import weakref
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from d2cli.errors import InputError, ParameterError
from d2cli.files import memory
from d2cli.files.addresses import is_remote
from d2cli.files.arrays import open_npy, open_npz
from d2cli.files.column import Source
from d2cli.files.damage import reading
from d2cli.files.globs import absence, is_folder_or_glob, open_folder, open_remote_folder
from d2cli.files.mapped import map_file
from d2cli.files.paths import is_file, refuse_slash
from d2cli.files.remote import Place, Remote, discard
from d2cli.files.remote_folders import is_folder_or_glob as is_remote_folder
from d2cli.files.safetensors import HEAD_BYTES, is_safetensors, open_safetensors
from d2cli.files.tables import ParquetSource, open_arrow, open_lines
from d2cli.files.text import SUFFIXES as TEXT_SUFFIXES
from d2cli.files.text import header_names, open_text_table

STDIN = "-"
PIPE_BYTES = 32 << 20  # of standard input, read at a time
BUFFER_BYTES = 1 << 20  # of a Parquet column, read at a time
KINDS = "Parquet, Arrow, NPY, NPZ, safetensors, CSV or JSON lines"
LISTED = {"id", "uid", "row"}  # columns by which a CSV file is a list of rows with other columns


class Sources:
    """Opens every file of one run once, and remembers which files were read."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, bool], Source] = {}
        self.paths: list[Place] = []
        self.folders: list[Place] = []  # and globs: what comes into them would be read as well

    def open(self, ref: str, *, as_list: bool = False) -> Source:
        """Open a file, folder or glob by its path or address, or standard input for ``-``.

        With ``as_list``, what is none of the known formats is text: a table with one column,
        called "", of lines.

        Raises
        ------
        InputError
            If it does not exist, is empty, or of an unknown kind.
        ParameterError
            If its kind needs a package that is not installed.
        """
        if not ref:
            raise InputError("a file's name is empty", hint="name a file, or leave out the option")
        key = (ref, as_list and ref != STDIN)
        if key not in self._open:
            if ref == STDIN:
                self._open[key] = _open_bytes("standard input", None, read_stdin(), as_list)
            elif is_remote(ref):
                self._open[key] = self._open_remote(Remote(ref), as_list)
            elif is_folder_or_glob(ref):
                self._open[key], files = open_folder(ref, _open_file)
                self.paths.extend(files)
                self.folders.append(Path(ref))
            else:
                refuse_slash(ref)
                self._open[key] = _open_file(Path(ref), as_list)
                if is_file(ref):
                    self.paths.append(Path(ref))
        return self._open[key]

    def _open_remote(self, remote: Remote, as_list: bool) -> Source:
        if not is_remote_folder(remote):
            source = _open_remote(remote, as_list)
            self.paths.append(remote)
            return source
        source, files = open_remote_folder(remote, _open_remote)
        self.paths.extend(files)
        self.folders.append(remote)
        return source


def _open_file(path: Path, as_list: bool = False) -> Source:
    try:
        if not path.is_file() and path.exists() and not path.is_dir():
            return _open_bytes(str(path), None, path.read_bytes(), as_list)  # a pipe or device
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path}: {absence(str(path))}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return _open_bytes(str(path), path, head, as_list)


def _open_remote(remote: Remote, as_list: bool = False) -> Source:
    """Open Parquet where it is, and anything else in a temporary file that goes with the source."""
    with remote.open_file() as file, reading(str(remote)):
        head = bytes(file.read(HEAD_BYTES))
    if head.startswith(b"PAR1"):
        with reading(str(remote)):
            return ParquetSource(str(remote), remote.open_parquet(), remote.open_file)
    path, copy = remote.spool()
    try:
        source = _open_bytes(str(remote), path, head, as_list)
    except BaseException:
        discard(path, copy)
        raise
    weakref.finalize(source, discard, path, copy)
    return source


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
    held = io.BytesIO()
    while piece := sys.stdin.buffer.read(PIPE_BYTES):
        held.write(piece)
        memory.require(
            "standard input", "read all of it", PIPE_BYTES, hint="a file is read bit by bit"
        )
    data = held.getvalue()
    if not data:
        raise InputError(
            "standard input is empty", hint="if a command stands before the pipe, it has failed"
        )
    return data


def _open_bytes(name: str, path: Path | None, data: bytes, as_list: bool) -> Source:
    """Open by the first bytes; ``data`` is all of it where there is no path."""
    if not data and not as_list:
        raise InputError(f"{name}: is empty, expected {KINDS}")
    if data.startswith(b"PAR1"):
        with reading(name):

            def raw() -> str | pa.NativeFile:
                return pa.BufferReader(data) if path is None else native_file(path)

            file = pq.ParquetFile(
                raw(),
                page_checksum_verification=True,
                # Else all of a row group's column, however large, is read at once.
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
            )
            return ParquetSource(name, file, raw)
    if data.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        with reading(name):
            return open_arrow(name, data if path is None else map_file(path, name))
    if data.startswith(b"\x93NUMPY"):
        return open_npy(name, path, data)
    if data.startswith(b"PK"):
        return open_npz(name, path if path is not None else io.BytesIO(data))
    if is_safetensors(data):
        return open_safetensors(name, path, data)
    return _open_text(name, path, data, as_list)


def _open_text(name: str, path: Path | None, data: bytes, as_list: bool) -> Source:
    """Open text by its ending; as a list of rows, it may also be lines."""

    def text() -> IO[bytes]:
        return io.BytesIO(data) if path is None else path.open("rb")

    def native() -> str | pa.BufferReader:
        return pa.BufferReader(data) if path is None else native_file(path)

    if data and name.lower().endswith(TEXT_SUFFIXES):
        lines = as_list and name.lower().endswith((".csv", ".tsv"))
        with reading(name):
            if not lines or LISTED & set(header_names(name, text)):
                return open_text_table(name, text, native)
    if as_list:
        return open_lines(name, data if path is None else path.read_bytes())
    raise InputError(
        f"{name}: is none of {KINDS}",
        hint="text is read by its ending: .csv and .tsv with a header, .jsonl with an object in "
        "each line",
    )


def native_file(path: Place) -> str | pa.NativeFile:
    """Return what pyarrow can open: the path, or the contents where it cannot take the path.

    Never a Python file object: pyarrow reads those on threads of its own, and such a thread that
    is still alive when Python ends aborts the process.
    """
    if isinstance(path, Remote):
        return path.open_file()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return pa.BufferReader(path.read_bytes())
    return str(path)
