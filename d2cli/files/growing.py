"""Streams that are not all there yet: a pipe of Arrow batches, a growing folder."""

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from d2cli.errors import InputError, ParameterError
from d2cli.files.damage import reading
from d2cli.files.globs import shard_files
from d2cli.files.sources import STDIN
from d2cli.files.tables import ArrowSource
from d2cli.files.unpacking import unpacking

DONE = ("_DONE", "_SUCCESS")  # files that say that nothing more will come
LONGEST_NAP = 0.5  # seconds between two looks at a folder
MAGIC = b"ARROW1\0\0"  # before what is otherwise a stream, in an Arrow file


def is_pipe(ref: str) -> bool:
    """Return whether a source is standard input, or a path that can be read once only."""
    if ref == STDIN:
        return True
    try:
        path = Path(ref)
        return path.is_fifo() or path.is_char_device()
    except (OSError, ValueError):
        return False


def piped_batches(ref: str) -> Iterator[ArrowSource]:
    """Yield the batches of an Arrow stream as they come in, each a source of its own.

    An Arrow file is a stream between a head and a footer, and is read as one.

    Raises
    ------
    ParameterError
        If standard input is a terminal.
    InputError
        If it is empty, no Arrow stream, or cut short within a batch.
    ResourceError
        If a batch unpacks to more than there is memory for.
    """
    if ref != STDIN:
        with reading(ref), Path(ref).open("rb") as file:
            yield from _batches(ref, file)
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise ParameterError(
            "nothing to read: no input was named and standard input is a terminal",
            hint="name a file or folder, or pipe an Arrow stream in",
        )
    yield from _batches("standard input", sys.stdin.buffer)


def _batches(name: str, file: IO[bytes]) -> Iterator[ArrowSource]:
    head = file.read(len(MAGIC))
    if not head:
        raise InputError(
            f"{name} is empty", hint="if a command stands before the pipe, it has failed"
        )
    if head != MAGIC and head[:4] != b"\xff\xff\xff\xff":
        raise InputError(
            f"{name}: is no Arrow stream, which is all that can be read bit by bit",
            hint="name Parquet, NPY and other files as SOURCE instead of piping them",
        )
    with reading(name), unpacking(name, "read the schema"):
        stream = pa.ipc.open_stream(file if head == MAGIC else _Rest(head, file))
    number = 0
    while True:
        with reading(name), unpacking(name, "read a batch"):
            try:
                batch = stream.read_next_batch()
            except StopIteration:
                return
        yield ArrowSource(f"{name}, batch {number}", stream.schema, [batch])
        number += 1


class _Rest(io.RawIOBase):
    """A file whose first bytes were read already."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self.head, self.file = head, file

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer only at the end."""
        if not self.head:
            return self.file.read(size)
        first, self.head = (self.head, b"") if size < 0 else (self.head[:size], self.head[size:])
        return first + (self.file.read(size - len(first) if size > 0 else size) if size else b"")


def growing_shards(folder: str, seconds: float) -> Iterator[Path]:
    """Yield the shards of a folder in the order of their names, and wait for more.

    Parameters
    ----------
    folder : str
        Looked at again and again, until a file ``_DONE`` or ``_SUCCESS`` lies in it.
    seconds : float
        Or until no new shard has come for so long.

    Raises
    ------
    InputError
        If a shard comes late: its name belongs before that of one already taken.
    """
    root, since = Path(folder), time.monotonic()
    taken: set[Path] = set()  # some may be gone again
    last: Path | None = None
    nap = min(max(seconds / 10, 0.01), LONGEST_NAP)
    while True:
        # First the mark, then the shards: those that came before it are all seen.
        done = any((root / name).exists() for name in DONE)
        shards = shard_files(root)
        before = [path for path in shards if last is not None and _key(path) <= _key(last)]
        if not taken.issuperset(before):
            raise InputError(
                f"{folder}: a shard came whose name belongs before that of {last}, which is taken",
                hint="give later shards later names, such as part-00017.parquet",
            )
        for path in shards[len(before) :]:
            last = path
            taken.add(path)
            yield path
            since = time.monotonic()
        if len(shards) == len(before):
            if done or time.monotonic() - since >= seconds:
                return
            time.sleep(nap)


def _key(path: Path) -> bytes:
    return os.fsencode(path.as_posix())
