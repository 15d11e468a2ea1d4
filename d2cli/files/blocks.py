"""Arrays as Arrow, a few megabytes at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.files.mapped import refuse_shorter
from d2cli.files.tables import BATCH_BYTES
from d2cli.stages.room import release


def rows_at_once(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Return how many rows of an array (n, ...) are a batch."""
    row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    return max(BATCH_BYTES // max(row_bytes, 1), 1)


def arrow_blocks(array: NDArray[Any]) -> Iterator[pa.Array]:
    """Yield an array (n,) or (n, d) as copies of its rows; what was read of a map is given back."""
    step = rows_at_once(array.dtype, array.shape)
    for start in range(0, len(array), step):
        yield to_arrow(array[start : start + step])
        release(array)
    refuse_shorter()


def to_arrow(block: NDArray[Any]) -> pa.Array:
    """Return a copy of (b,) or (b, d) as Arrow: numbers or labels, or lists of one length."""
    native = np.array(block, dtype=block.dtype.newbyteorder("="), order="C")
    values = pa.array(native.reshape(-1))
    if native.ndim == 1:
        return values
    width = native.shape[1]
    if not width:  # lists of no values do not tell their number
        return pa.array([[]] * len(native), pa.list_(values.type))
    return pa.FixedSizeListArray.from_arrays(values, width)
