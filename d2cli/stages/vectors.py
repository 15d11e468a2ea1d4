"""Vectors that searches can rely on: finite, C-ordered, of a known type."""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.errors import InputError
from d2cli.stages.defects import Defect
from d2cli.stages.room import IN_MEMORY, Room, Rows, RowsInMemory, release

Vectors: TypeAlias = NDArray[np.float32] | NDArray[np.float64]

BLOCK_ROWS = 4096
LARGEST = 1e37  # beyond it distances may not fit into float32, in wide vectors even below it
LARGEST_DISTANCE = 3e38
SMALLEST = 1e-30  # if all values are below it, float32 distances lose their digits
# If no two rows differ by more, float32 distances, which end at 2**-149, hardly tell them apart.
SMALLEST_DIFFERENCE = 2.0**-136
TOO_ALIKE = f"no two rows differ by more than about {SMALLEST_DIFFERENCE:.0e}"
SPREAD_THEM = "subtract what all rows have in common, then multiply by a constant"


def vector_type(dtype: np.dtype[Any]) -> type[np.float32 | np.float64]:
    """Return what vectors of a type are searched as: float32 if it holds them, else float64."""
    return np.float32 if np.result_type(dtype, np.float32) == np.float32 else np.float64


def largest_value(width: int) -> float:
    """Return the largest value with which no distance of vectors overflows float32."""
    return min(LARGEST, LARGEST_DISTANCE / (2 * math.sqrt(width)))


def as_vectors(
    vectors: ArrayLike, metric: str, *, room: Room = IN_MEMORY, overwrite: bool = False
) -> Vectors:
    """Check vectors and bring them into the form that searches work on.

    Parameters
    ----------
    vectors : array of numbers, shape (n, d)
        Any float or integer type. float64 and 32- or 64-bit integers are searched and measured as
        float64, everything smaller as float32. A C-ordered float32 array is not copied for "l2".
    metric : {"l2", "cosine"}
        "cosine" divides each row by its length, and rounds to float32.
    room : Room
        Where the result is put if it is a copy.
    overwrite : bool
        Nobody needs the vectors any more: the result may take their place.

    Raises
    ------
    InputError
        If there are no rows or columns, a value is NaN or infinite, too large for a float32
        distance, or a row is zero under "cosine". Names the first row and the count.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"is {array.dtype} of shape {array.shape}, expected numbers of shape (rows, width)"
        )
    if not array.size:
        what = "rows" if not len(array) else "values: the vectors have width 0"
        raise InputError(f"holds no {what}", hint="expected at least one row and one column")
    wide = vector_type(array.dtype)
    unit = metric == "cosine"
    mend = "drop or mend these rows before building the graph"
    nan, infinite = Defect("holds NaN", mend), Defect("holds an infinite value", mend)
    most = largest_value(array.shape[1])
    large = Defect(f"holds a value above {most:.3g}", "divide the vectors by a constant")
    zero = Defect("is a zero vector, which has no direction", "drop these rows, or use --metric l2")
    largest = 0.0
    rows = _place_of_result(array, wide, room, unit=unit, overwrite=overwrite)
    for start in range(0, len(array), BLOCK_ROWS):
        block = np.asarray(array[start : start + BLOCK_ROWS], dtype=wide)
        with np.errstate(all="ignore"):
            peaks = np.abs(block).max(axis=1).astype(np.float64)  # NaN where any value is
            largest = max(largest, float(peaks.max()))
            nan.add(start, np.isnan(peaks))
            infinite.add(start, np.isinf(peaks))
            large.add(start, (peaks > most) & ~np.isinf(peaks))
            zero.add(start, peaks == 0)
            if unit:
                scaled = block / peaks[:, None]
                lengths = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
                block = scaled / lengths[:, None]
        if rows is not None:
            rows.append(block)
        room.have_read(array, array[start : start + BLOCK_ROWS])
    for defect in (nan, infinite, large):
        defect.refuse()
    if 0 < largest < SMALLEST:
        raise InputError(
            f"holds no value above {SMALLEST:g}", hint="multiply the vectors by a constant"
        )
    if unit:
        zero.refuse()
    if rows is None:
        checked: Vectors = array
        return checked
    release(array)
    checked = rows.finish()
    return checked


def _place_of_result(
    array: NDArray[Any], wide: type[Any], room: Room, *, unit: bool, overwrite: bool
) -> Rows | None:
    """Return what takes checked vectors; None if they can stay as and where they are."""
    if not unit:
        usable = array.dtype == wide and array.flags.c_contiguous
        return None if usable else room.rows(array.shape, wide)
    own = array.flags.writeable and array.flags.owndata and array.flags.c_contiguous
    if overwrite and own and array.dtype == np.float32:
        return RowsInMemory(array)
    return room.rows(array.shape, np.float32)
