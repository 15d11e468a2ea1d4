"""Rows as lists: ids, row numbers, a mask, weights; and rows of an array as an array."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.stages.room import release

BLOCK_BYTES = 16 << 20
BATCH_ROWS = 1 << 16


def write_npy(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write an array (n,) as NPY."""
    _write_header(file, array.dtype, array.shape)
    # Not by np.save, which does not notice when the disk is full at the end of a file.
    file.write(np.ascontiguousarray(array).view(np.uint8).data)


def _write_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def write_rows_of(file: BinaryIO, array: NDArray[Any], rows: NDArray[np.int64]) -> None:
    """Write some rows of an array, in their order, as NPY of the same type in C order.

    Parameters
    ----------
    file : binary file
    array : array, shape (n, ...)
        May be mapped; blocks of about 16 MB are read at a time.
    rows : int64 array, shape (m,)
    """
    _write_header(file, array.dtype, (len(rows), *array.shape[1:]))
    at_once = max(BLOCK_BYTES // max(array[:1].nbytes, 1), 1)
    for first in range(0, len(rows), at_once):
        file.write(np.ascontiguousarray(array[rows[first : first + at_once]]).tobytes())
        release(array)


def write_lines(write: Callable[[bytes], Any], batches: Iterable[pa.Array], where: str) -> None:
    """Write one id or number a line.

    Raises
    ------
    InputError
        If an id is empty or holds a line break.
    """
    for batch in batches:
        lines = [str(value) for value in batch.to_pylist()]
        for line in lines:
            if not line or "\n" in line or "\r" in line:
                defect = "holds a line break" if line else "is empty"
                raise InputError(
                    f"{where}: the id {line!r} {defect}, so ids cannot be written one a line",
                    hint="write .csv instead",
                )
        write("".join(f"{line}\n" for line in lines).encode())


def numbers(rows: NDArray[np.int64]) -> Iterator[pa.Array]:
    """Yield row numbers in batches."""
    for first in range(0, len(rows), BATCH_ROWS):
        yield pa.array(rows[first : first + BATCH_ROWS])


def write_ids(file: BinaryIO, batches: Iterable[pa.Array]) -> None:
    """Write ids as CSV with the header ``id``."""
    writer = None
    for ids in batches:
        batch = pa.record_batch({"id": ids})
        writer = writer or pyarrow.csv.CSVWriter(file, batch.schema)
        writer.write_batch(batch)
    if writer is None:
        file.write(b'"id"\n')
    else:
        writer.close()


def write_weights(
    file: BinaryIO,
    weights: NDArray[np.float64],
    rows: NDArray[np.int64],
    ids: Iterable[pa.Array] | None,
) -> None:
    """Write CSV with the columns ``row``, ``id`` (if there are ids) and ``weight`` of some rows.

    Parameters
    ----------
    file : binary file
    weights : float64 array, shape (n,)
        Of all rows.
    rows : int64 array, shape (m,)
    ids : iterable of arrays, optional
        Of these rows.
    """
    columns = {"row": pa.array(rows)}
    if ids is not None:
        columns["id"] = pa.concat_arrays(list(ids))
    columns["weight"] = pa.array(weights[rows])
    pyarrow.csv.write_csv(pa.table(columns), file)
