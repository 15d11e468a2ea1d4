"""Record batches in another order of their rows, through a scratch file."""

import io
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import ResourceError
from d2cli.files.mapped import map_scratch
from d2cli.quantities import size_text
from d2cli.stages.room import release

BLOCK_BYTES = 16 << 20  # of reordered rows


def in_order(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    places: NDArray[np.int64],
    folder: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some batches in another order.

    All rows go into a scratch file without a name, where they are read from again; of them no more
    than a block is in memory.

    Parameters
    ----------
    batches : iterable of record batches
    schema : Arrow schema
        Theirs.
    places : int64 array, shape (m,)
        The rows as they are to come, counted over all batches.
    folder : Path, optional
        Of the scratch file; left out, the system's.

    Raises
    ------
    ResourceError
        If there is no room for the scratch file.
    """
    kept = 0
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                offsets, starts = _store(file, batches, schema)
            except OSError:
                kept = os.fstat(file.fileno()).st_size
                raise
            if starts[-1]:
                data = map_scratch(file, Path(folder or tempfile.gettempdir()))
                at_once = max(BLOCK_BYTES * int(starts[-1]) // max(len(data), 1), 1)
                for first in range(0, len(places), at_once):
                    block = places[first : first + at_once]
                    yield from _gather(data, offsets, starts, block, schema)
                    release(data)
    except OSError as error:
        needed = f"; more than {size_text(kept)} are needed" if kept else ""
        raise ResourceError(
            f"{folder or tempfile.gettempdir()}: the rows cannot be kept there: "
            f"{error.strerror or error}{needed}",
            hint="free some space, name another folder with TMPDIR, or leave out --order rank",
        ) from error


def _store(
    file: BinaryIO, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> tuple[list[int], NDArray[np.int64]]:
    """Write every batch as a stream of its own, so that each may have its own dictionaries.

    Returns
    -------
    offsets : list of int
        Where each begins, and the end.
    starts : int64 array
        The first row of each, and their sum.
    """
    offsets, counts = [0], [0]
    for batch in batches:
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, schema) as writer:
            writer.write_batch(batch)
        file.write(stream.getbuffer())
        offsets.append(offsets[-1] + stream.tell())
        counts.append(batch.num_rows)
    file.flush()
    return offsets, np.cumsum(counts, dtype=np.int64)


def _gather(
    data: mmap.mmap,
    offsets: list[int],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Yield some rows in their order, read from the batches that they lie in."""
    ascending = np.sort(rows)
    owners = np.searchsorted(starts, ascending, side="right") - 1
    pieces = []
    for owner in np.unique(owners):
        buffer = pa.py_buffer(data).slice(offsets[owner], offsets[owner + 1] - offsets[owner])
        batch = pa.ipc.open_stream(buffer).read_next_batch()
        pieces.append(batch.take(pa.array(ascending[owners == owner] - starts[owner])))
    found = pa.Table.from_batches(pieces, schema).combine_chunks()
    yield from found.take(pa.array(np.searchsorted(ascending, rows))).to_batches()
