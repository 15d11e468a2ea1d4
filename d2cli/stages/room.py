"""Where vectors live: in memory, or on disk with only a part of them resident.

Searches read vectors in blocks, and ask their room for scattered rows. They tell it what they have
read, and a room that is short of memory lets the system take pages of memory-mapped vectors back.
Results do not depend on the room.
"""

import mmap
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Rows(Protocol):
    """An array that is filled from its first row to its last, or by several threads at once."""

    def append(self, block: NDArray[Any]) -> None:
        """Add the next rows, (b, d), converted to the array's type."""

    def put(self, start: int, block: NDArray[Any]) -> None:
        """Write the rows from ``start`` on, (b, d), which may be anywhere, and are not counted."""

    def finish(self) -> NDArray[Any]:
        """Return the array; all rows have been added."""


class Room:
    """Enough memory for everything: nothing is given back.

    Attributes
    ----------
    on_disk : bool
        Rows are to be read by `take` and in blocks, not one here and one there.
    """

    on_disk = False

    def rows(self, shape: tuple[int, int], dtype: DTypeLike) -> Rows:
        """Return an array (n, d) to be filled row by row."""
        return RowsInMemory(np.empty(shape, dtype=dtype))

    def have_read(self, vectors: NDArray[Any], block: NDArray[Any]) -> None:
        """Take note that a block was read: a view of the vectors, or as large as one."""

    def have_looked(self, vectors: NDArray[Any], n_rows: int) -> None:
        """Take note that about so many rows were looked at, one here and one there."""

    def take(self, vectors: NDArray[Any], rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return a copy of some rows, (b, d)."""
        taken: NDArray[Any] = vectors[rows]
        return taken


class RowsInMemory:
    """An array in memory, whatever it holds, to be filled."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.filled = 0

    def append(self, block: NDArray[Any]) -> None:
        """See `Rows`."""
        self.put(self.filled, block)
        self.filled += len(block)

    def put(self, start: int, block: NDArray[Any]) -> None:
        """See `Rows`."""
        self.array[start : start + len(block)] = block

    def finish(self) -> NDArray[Any]:
        """See `Rows`."""
        return self.array


IN_MEMORY = Room()


def mapping_of(array: Any) -> mmap.mmap | None:  # noqa: ANN401
    """Return the read-only memory map that an array lies in; None if there is none.

    A map that can be written to may be the only place of what was written, and is left alone.
    """
    owner = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    if owner is None or owner.closed:
        return None
    with memoryview(owner) as view:
        return owner if view.readonly else None


def release(array: Any) -> None:  # noqa: ANN401
    """Let the system take back the pages of a memory-mapped array; they are read again if needed.

    Arrays in memory, and systems that have no such call, are left alone.
    """
    mapping = mapping_of(array)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
