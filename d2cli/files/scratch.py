"""Vectors that are larger than the memory they may use: in files without a name.

A scratch file is removed as soon as it is open, so nothing is left behind however the run ends.
It is written, not mapped, so that a full disk is an error and written pages are not ours.
"""

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from d2cli.errors import ResourceError
from d2cli.files.mapped import map_scratch, take_mapped
from d2cli.quantities import size_text
from d2cli.stages.room import Room, Rows, release

WINDOW = 1 << 16  # bytes that become resident with a page: Linux maps so much around it
BLOCK_BYTES = 16 << 20  # written at a time


class DiskRoom(Room):
    """Vectors on disk, of which about ``resident`` bytes stay in memory.

    Parameters
    ----------
    resident : int
        Bytes of memory-mapped vectors that may be resident.
    folder : callable
        Returns the folder of scratch files; called when the first one is needed.
    """

    on_disk = True

    def __init__(self, resident: int, folder: Callable[[], Path]) -> None:
        # One half is what was read since the last release, the other what threads read meanwhile.
        self.share = max(resident // 2, 1)
        self.folder = folder
        self._read = 0
        self._looked_at: dict[int, weakref.ref[NDArray[Any]]] = {}  # since then
        self._lock = Lock()

    def rows(self, shape: tuple[int, int], dtype: DTypeLike) -> Rows:
        """Return an array (n, d) that is filled on disk.

        Raises
        ------
        ResourceError
            If the folder cannot be written to or has too little space; so does ``append``.
        """
        return _RowsOnDisk(self.folder(), shape, np.dtype(dtype))

    def have_read(self, vectors: NDArray[Any], block: NDArray[Any]) -> None:
        """See `Room`."""
        # A column of rows that lie apart, as in Fortran order, is a page of its own.
        apart = 0 if block.flags.c_contiguous else WINDOW * block.shape[-1]
        self._count(vectors, block.nbytes + apart)

    def have_looked(self, vectors: NDArray[Any], n_rows: int) -> None:
        """See `Room`."""
        self._count(vectors, n_rows * max(mmap.PAGESIZE, int(vectors.strides[0])))

    def _count(self, vectors: NDArray[Any], n_bytes: int) -> None:
        with self._lock:
            self._read += n_bytes
            self._looked_at[id(vectors)] = weakref.ref(vectors)
            if self._read < self.share:
                return
            looked_at, self._looked_at, self._read = self._looked_at, {}, 0
        for reference in looked_at.values():
            release(reference())

    def take(self, vectors: NDArray[Any], rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """See `Room`."""
        return take_mapped(vectors, rows)


class _RowsOnDisk:
    """An array in an unnamed file, written and then mapped."""

    def __init__(self, folder: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.folder, self.shape, self.dtype, self.filled = folder, shape, dtype, 0
        size = shape[0] * shape[1] * dtype.itemsize
        self.file, self._lock = _open_unnamed(folder), Lock()
        self._close_unless = weakref.finalize(self, self.file.close)  # unless it is finished
        try:
            free = shutil.disk_usage(folder).free
        except OSError:
            free = size
        if free < size:
            self.file.close()
            raise ResourceError(
                f"{folder}: too little space for the vectors: {size_text(size)} are needed, "
                f"{size_text(free)} are free",
                hint="free some space, name another folder with TMPDIR, or raise --max-memory",
            )

    def append(self, block: NDArray[Any]) -> None:
        self.put(self.filled, block)
        self.filled += len(block)

    def put(self, start: int, block: NDArray[Any]) -> None:
        at = start * self.shape[1] * self.dtype.itemsize
        rows = max(BLOCK_BYTES // max(self.shape[1] * self.dtype.itemsize, 1), 1)
        try:
            for start in range(0, len(block), rows):
                part = np.ascontiguousarray(block[start : start + rows], dtype=self.dtype)
                left = part.data.cast("B") if part.size else memoryview(b"")
                with self._lock:
                    self.file.seek(at)
                    at += len(left)
                    while left:
                        left = left[self.file.write(left) :]
        except OSError as error:
            self.file.close()
            raise ResourceError(
                f"{self.folder}: the vectors cannot be kept there: {error.strerror}; "
                f"{size_text(self.shape[0] * self.shape[1] * self.dtype.itemsize)} are needed",
                hint="free some space, name another folder with TMPDIR, or raise --max-memory",
            ) from error

    def finish(self) -> NDArray[Any]:
        if 0 in self.shape:
            return np.empty(self.shape, dtype=self.dtype)
        self._close_unless.detach()
        return np.ndarray(self.shape, self.dtype, map_scratch(self.file, self.folder))


def _open_unnamed(folder: Path) -> IO[bytes]:
    try:
        # Unbuffered: a write that fails is not tried again when the file is closed.
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ResourceError(
            f"{folder}: cannot hold scratch files: {reason}",
            hint="name another folder with TMPDIR, or raise --max-memory",
        ) from error


def scratch_folder(cache: Path) -> Path:
    """Return the folder that TMPDIR names; without it the cache folder, or else the system's."""
    named = os.environ.get("TMPDIR")
    if named:
        return Path(named)
    return cache if cache.is_dir() and os.access(cache, os.W_OK) else Path(tempfile.gettempdir())
