"""Files behind memory maps, so that scattered rows can be read and not mapped.

A look at a mapped row makes 64 KB to 2 MB resident, whatever the system has at hand around it.
"""

import mmap
import os
import weakref
from collections.abc import Iterable
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ResourceError
from d2cli.stages.room import IN_MEMORY, mapping_of

# The file of a map, and where in the file the map begins.
_files: "weakref.WeakKeyDictionary[mmap.mmap, tuple[IO[bytes], int]]" = weakref.WeakKeyDictionary()


def remember(mapping: mmap.mmap, file: IO[bytes], start: int) -> None:
    """Keep a map's own file, open at ``start`` bytes, for as long as there is the map."""
    _files[mapping] = (file, start)
    weakref.finalize(mapping, file.close)


def take_mapped(array: NDArray[Any], rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """Return ``array[rows]`` (b, d), read from the array's file if that is known.

    Raises
    ------
    ResourceError
        If the file has become shorter.
    """
    mapping = mapping_of(array)
    known = _files.get(mapping) if mapping is not None else None
    if mapping is None or known is None or not array.flags.c_contiguous:
        return IN_MEMORY.take(array, rows)
    if not hasattr(os, "preadv") or not array[:1].nbytes:
        return IN_MEMORY.take(array, rows)
    file, begin = known
    begin += array.ctypes.data - np.frombuffer(mapping, dtype=np.uint8).ctypes.data
    taken = np.empty((len(rows), array.shape[1]), dtype=array.dtype)
    for first, last in _runs(rows):
        part = taken[first:last]
        place = begin + int(rows[first]) * part.strides[0]
        if os.preadv(file.fileno(), [part.data.cast("B")], place) != part.nbytes:
            raise ResourceError(
                f"row {int(rows[first])} of the vectors cannot be read again",
                hint="the file must not change while d2 reads it",
            )
    return taken


def _runs(rows: NDArray[np.integer[Any]]) -> Iterable[tuple[int, int]]:
    """Return the slices of rows that follow each other."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    return pairwise([0, *breaks.tolist(), len(rows)]) if len(rows) else []
