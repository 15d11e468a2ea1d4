"""Files behind memory maps: scattered rows are read, not mapped; no file gets shorter unseen.

A look at a mapped row makes 64 KB to 2 MB resident, whatever the system has at hand around it.
Where a file has become shorter, a look at what is gone is a SIGBUS, or zeros up to the end of a
page. The program answers the former by one line and its exit code; the latter is looked for.
"""

import contextlib
import mmap
import os
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import D2Error, InputError, ResourceError
from d2cli.files import _sigbus
from d2cli.files.addresses import redact
from d2cli.render.wording import printable
from d2cli.stages.room import IN_MEMORY, mapping_of

UNCHANGED = "the file must not change while d2 reads it; copy it first, and read the copy"


@dataclass(frozen=True)
class _Behind:
    """The file of a map: where in it the map begins, and its bytes when it was mapped."""

    name: str
    file: IO[bytes]
    start: int
    size: int
    error: type[D2Error]

    def shorter(self) -> D2Error:
        return self.error(f"{self.name}: has become shorter while it was read", hint=UNCHANGED)

    def unreadable(self) -> D2Error:
        return self.error(
            f"{self.name}: cannot be read any more",
            hint=f"its disk or network has failed, or {UNCHANGED}",
        )


_behind: "weakref.WeakKeyDictionary[mmap.mmap, _Behind]" = weakref.WeakKeyDictionary()


def map_file(path: Path, name: str) -> mmap.mmap:
    """Map a whole file of a source; ``name`` is how messages call it."""
    file = path.open("rb")
    try:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except BaseException:
        file.close()
        raise
    watch(mapping, file, 0, name)
    return mapping


def map_array(
    path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], name: str
) -> NDArray[Any]:
    """Map an array that begins at ``offset`` bytes of a source's file, of which more is mapped."""
    file = path.open("rb")
    try:
        refuse_shorter()
        array = np.memmap(file, dtype, "r", offset, shape)
    except BaseException:
        file.close()
        raise
    mapping = mapping_of(array)
    if mapping is not None:
        watch(mapping, file, offset - offset % mmap.ALLOCATIONGRANULARITY, name)
    return array


def map_scratch(file: IO[bytes], folder: Path) -> mmap.mmap:
    """Map an open scratch file, which has no name, of a folder; the map closes the file."""
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    watch(mapping, file, 0, f"{folder}: a scratch file", ResourceError)
    return mapping


def watch(
    mapping: mmap.mmap,
    file: IO[bytes],
    start: int,
    name: str,
    error: type[D2Error] = InputError,
) -> None:
    """Keep a map's own file, open for as long as there is the map, and see if it gets shorter.

    Parameters
    ----------
    mapping : mmap
    file : binary file
    start : int
        Where in the file the map begins, in bytes.
    name : str
        How messages call it.
    error : type, optional
        What a file that gets shorter is; it has the exit code.
    """
    behind = _Behind(name, file, start, os.fstat(file.fileno()).st_size, error)
    _behind[mapping] = behind
    path = os.fsencode(file.name) if isinstance(file.name, str | Path) else b""
    shorter, unreadable = (
        f"error: {printable(redact(one.message))}\nhint: {one.hint}\n".encode(errors="replace")
        for one in (behind.shorter(), behind.unreadable())
    )
    number = _sigbus.watch(mapping, path, behind.size, shorter, unreadable, error.exit_code)
    weakref.finalize(mapping, _sigbus.unwatch, number)
    weakref.finalize(mapping, file.close)


def forget_all() -> None:
    """Watch no map of before any more: what an earlier run in this process had need of is over."""
    _behind.clear()


def refuse_shorter() -> None:
    """Raise the error of the first mapped file that is shorter than when it was mapped.

    To be asked when something was read of a map, and before a result of it is published.
    """
    for behind in list(_behind.values()):
        with contextlib.suppress(OSError, ValueError):  # closed by now: nothing is read of it
            if os.fstat(behind.file.fileno()).st_size < behind.size:
                raise behind.shorter()


def take_mapped(array: NDArray[Any], rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """Return ``array[rows]`` (b, d), read from the array's file if that is known.

    Raises
    ------
    InputError, ResourceError
        If the file, of a source or a scratch file, has become shorter.
    """
    mapping = mapping_of(array)
    known = _behind.get(mapping) if mapping is not None else None
    if mapping is None or known is None or not array.flags.c_contiguous:
        return IN_MEMORY.take(array, rows)
    if not hasattr(os, "preadv") or not array[:1].nbytes:
        return IN_MEMORY.take(array, rows)
    begin = known.start
    begin += array.ctypes.data - np.frombuffer(mapping, dtype=np.uint8).ctypes.data
    taken = np.empty((len(rows), array.shape[1]), dtype=array.dtype)
    for first, last in _runs(rows):
        part = taken[first:last]
        place = begin + int(rows[first]) * part.strides[0]
        if os.preadv(known.file.fileno(), [part.data.cast("B")], place) != part.nbytes:
            raise known.shorter()
    return taken


def _runs(rows: NDArray[np.integer[Any]]) -> Iterable[tuple[int, int]]:
    """Return the slices of rows that follow each other."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    return pairwise([0, *breaks.tolist(), len(rows)]) if len(rows) else []
