"""Remote files as sources and outputs, by their addresses.

A remote file answers the questions that are asked of a path. Parquet is read by ranges; what is
mapped or read as a whole comes into a temporary file first.
"""

import contextlib
import io
import mmap
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, TypeAlias, cast

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from d2cli.errors import D2Error, InputError, ParameterError, ResourceError
from d2cli.files.addresses import follow_address, is_remote, redact, relative_address, split_address
from d2cli.files.filesystems import (
    CONNECT,
    GS,
    HTTP,
    NOT_FOUND,
    S3,
    filesystem_of,
    reason_of,
    refusal,
)
from d2cli.files.mapped import refuse_shorter
from d2cli.files.scratch import scratch_folder

STEP_BYTES = 1 << 18  # a range of an archive, whose members are far apart
BUFFER_BYTES = 8 << 20  # a range, where a file is read in ranges of our own choice
WHOLE = (*S3, *GS, "hf")  # that show a file only once it is written and closed


@dataclass(frozen=True)
class Remote:
    """A file of another machine. Its text has no credentials and is fit for messages.

    Attributes
    ----------
    address : str
        As the user gave it; of a file that a listing has found, with its name at the end.
    path : str or None
        Of a file that a listing has found: what its file system calls it. Nothing of its name is
        then taken for a part of an address, such as a query after a question mark.
    """

    address: str = field(repr=False)
    path: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.path is None:
            return redact(self.address)
        # Lest what shows it takes the rest of a name for a query.
        name = self._path.replace("?", "%3F").replace("#", "%23")
        return f"{redact(self.home)}{name}"

    @property
    def scheme(self) -> str:
        """Such as ``s3``."""
        return split_address(self.address)[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self._path).name

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self._path).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self._path).stem

    @property
    def home(self) -> str:
        """The address of the place that it is in, such as a bucket."""
        scheme, place, _ = split_address(self.address)
        return f"{scheme}://{place}/"

    @property
    def _path(self) -> str:
        return split_address(self.address if self.path is not None else str(self))[2]

    def where(self) -> tuple[Any, str]:
        """Return its file system, and what that calls it; see `filesystem_of`."""
        if self.path is None:
            return filesystem_of(self.address)
        return filesystem_of(self.home)[0], self.path

    def with_suffix(self, suffix: str) -> "Remote":
        """Return the file of the same name with another ending."""
        size = len(self.suffix)
        path = None if self.path is None else self.path.removesuffix(self.suffix) + suffix
        return Remote(self.address[: len(self.address) - size] + suffix, path)

    def relative_to(self, folder: "Remote") -> PurePosixPath:
        """Return the way to this file from a folder above it."""
        return PurePosixPath(self._path).relative_to(folder._path or ".")

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.address.rstrip('/')}/{name}")

    def is_file(self) -> bool:
        """Return whether there is such a file, as far as one may know."""
        with contextlib.suppress(D2Error):
            return bool(self._info().type == pafs.FileType.File)
        return False

    def is_dir(self) -> bool:
        """Return whether the address is that of a folder, by its looks."""
        return self.path is None and (not self.name or self.address.endswith("/"))

    def exists(self) -> bool:
        """Return whether there is such a file."""
        return self.is_file()

    def same_as(self, other: "Remote") -> bool:
        """Return whether both are one file."""
        return bool(self.where() == other.where())

    def way_to(self, other: "Remote") -> str | None:
        """Return the relative path from beside this file to another; None between servers."""
        return relative_address(other.address, self.address)

    def beside(self, relative: str) -> "Remote":
        """Return the file that a relative path leads to from beside this one."""
        return Remote(follow_address(self.address, relative))

    # --- reading ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def asking(self, kind: type[D2Error] = InputError) -> Iterator[tuple[Any, str]]:
        """Yield file system and path; what goes wrong is said in our words."""
        try:
            yield self.where()
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:
            raise refusal(str(self), error, kind) from error

    def _info(self) -> pafs.FileInfo:
        with self.asking() as (files, path):
            return files.get_file_info(path)

    def open_file(self) -> pa.NativeFile:
        """Open for reading by ranges.

        Raises
        ------
        InputError
            If there is no such file, no permission or no connection.
        """
        with self.asking() as (files, path):
            if self.is_dir():
                raise InputError(f"{self}: is a folder", hint="name a file in it")
            return files.open_input_file(path)

    def open(self, mode: str = "rb") -> pa.NativeFile:
        """Open for reading, as a path would."""
        return self.open_file()

    def open_buffered(self) -> BinaryIO:
        """Open for reading by ranges in many small steps, as of archives."""
        return io.BufferedReader(cast(Any, self.open_file()), STEP_BYTES)

    def read_bytes(self) -> bytes:
        """Return the contents."""
        with self.open_file() as file:
            return self._read(file, None)

    def _read(self, file: pa.NativeFile, size: int | None) -> bytes:
        with self.asking():
            return bytes(file.read(size))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the contents as text."""
        return self.read_bytes().decode(encoding)

    def open_parquet(self) -> "RemoteParquet":
        """Open a Parquet file, of which only what is asked for is read."""
        return RemoteParquet(self)

    def spool(self) -> tuple[Path, BinaryIO]:
        """Copy the file into a temporary one, which the caller removes; it is open and locked."""
        from d2cli.files.publish import create_locked  # which writes remote files

        with self.open_file() as file, _scratch(self) as folder:
            path, copy = create_locked(folder / "copy")
            try:
                while block := self._read(file, BUFFER_BYTES):
                    copy.write(block)
                copy.flush()
            except BaseException:
                discard(path, copy)
                raise
            return path, copy

    # --- writing ----------------------------------------------------------------------------------

    def check_output(self) -> None:
        """Refuse, before any work, what cannot be written.

        Raises
        ------
        ParameterError
            If it is a folder, of a kind that is only read, or in a bucket that does not exist.
        ResourceError
            If its server cannot be reached.
        """
        if self.is_dir():
            raise ParameterError(f"{self}: is a folder", hint="name a file in it")
        if self.scheme in HTTP or "?" in self.address:
            raise ParameterError(
                f"{self}: such addresses are only read", hint="name a file, or an s3:// address"
            )
        if self.scheme not in (*S3, *GS):
            with self.asking(ResourceError):
                return
        with self.asking(ResourceError) as (files, path):
            try:
                bucket = files.get_file_info(path.split("/", 1)[0])
            except OSError as error:
                if reason_of(error) in (CONNECT, NOT_FOUND):
                    raise
                return  # whoever may not look at the bucket may still write in it
        if bucket.type == pafs.FileType.NotFound:
            raise ParameterError(f"{self}: there is no such bucket", hint="make it first")

    def holds(self, data: bytes) -> bool:
        """Return whether there is such a file already, with these contents."""
        with contextlib.suppress(D2Error):
            return self._info().size == len(data) and self.read_bytes() == data
        return False

    def publish(self, write: Callable[[BinaryIO], None]) -> None:
        """Replace the file by what ``write`` writes, or leave it as it was.

        Raises
        ------
        ResourceError
            If it cannot be written.
        """
        # Not straight to the server: a stream that is left in the middle may be completed there.
        with _scratch(self) as folder, tempfile.TemporaryFile(dir=folder) as copy:
            write(copy)
            refuse_shorter()
            copy.flush()
            with self.asking(ResourceError) as (files, path):
                _upload(files, path, copy, whole=self.scheme in WHOLE)


Place: TypeAlias = Path | Remote


def as_place(text: str | Place) -> Place:
    """Return the path or the remote file that a text means."""
    if not isinstance(text, str):
        return text
    return Remote(text) if is_remote(text) else Path(text)


def place_beside(place: str | Place, relative: str) -> Place:
    """Return what a relative path leads to from beside a file; the links of a path are followed."""
    start = as_place(place)
    if isinstance(start, Remote):
        return start.beside(relative)
    return Path(os.path.normpath(Path(os.path.realpath(start)).parent / relative))


class RemoteParquet(pq.ParquetFile):  # type: ignore[misc]
    """A remote Parquet file; when its server is lost, it says so."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        super().__init__(
            remote.open_file(),
            page_checksum_verification=True,
            # Else all of a row group's column, however large, is read at once.
            pre_buffer=False,
            buffer_size=BUFFER_BYTES,
        )

    def iter_batches(self, *args: Any, **options: Any) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
        """Yield record batches, read on this thread: the file may be a Python object."""
        try:
            yield from super().iter_batches(*args, **{**options, "use_threads": False})
        except OSError as error:
            if reason_of(error) is None:
                raise
            raise refusal(str(self._remote), error) from error


def discard(path: Path, file: BinaryIO) -> None:
    """Remove a temporary file."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        file.close()


@contextlib.contextmanager
def _scratch(remote: Remote) -> Iterator[Path]:
    """Yield the folder that a file passes through; say so if it has no room."""
    from d2cli.files.cache import cache_folder  # which reads artifacts, which may be remote

    folder = scratch_folder(cache_folder(None))
    try:
        yield folder
    except OSError as error:
        raise ResourceError(
            f"{remote}: has no room in {folder} on its way: {error.strerror or error}",
            hint="free some space, or name another folder with TMPDIR",
        ) from error


def _upload(files: Any, path: str, copy: IO[bytes], *, whole: bool) -> None:  # noqa: ANN401
    folder, _, _ = path.rpartition("/")
    target = path if whole else f"{folder}/.{secrets.token_hex(8)}.d2tmp"
    size = copy.seek(0, os.SEEK_END)
    data = mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    try:
        stream = files.open_output_stream(target)
        # At once: whoever completes the stream, after whatever interrupt, completes all of it.
        stream.write(pa.py_buffer(data))
        stream.close()
        if not whole:
            files.move(target, path)
    except BaseException:
        if not whole:
            with contextlib.suppress(Exception):
                files.delete_file(target)
        raise
