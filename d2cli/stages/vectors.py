"""Vectors that searches can rely on: finite, C-ordered, of a known type."""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.errors import InputError
from d2cli.params import AUTO, Auto
from d2cli.stages.defects import Defect
from d2cli.stages.parallel import Progress, Task, no_progress, run_tasks
from d2cli.stages.room import IN_MEMORY, Room, Rows, RowsInMemory, release
from d2cli.stages.whitening import Whitening, fit_whitening

Vectors: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
Searchable: TypeAlias = Vectors | NDArray[np.uint8]

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


def largest_value(width: int, metric: str = "l2") -> float:
    """Return the largest value with which no distance of vectors overflows float32."""
    return min(LARGEST, LARGEST_DISTANCE / (2 * (width if metric == "l1" else math.sqrt(width))))


def as_vectors(
    vectors: ArrayLike,
    metric: str,
    *,
    room: Room = IN_MEMORY,
    overwrite: bool = False,
    whitening: Whitening | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
    first_row: int = 0,
) -> Vectors:
    """Check vectors and bring them into the form that searches work on.

    That form is one in which the metric is l2, but for "l1".

    Parameters
    ----------
    vectors : array of numbers, shape (n, d)
        Any float or integer type. float64 and 32- or 64-bit integers are searched and measured as
        float64, everything smaller as float32. A C-ordered float32 array is not copied for "l2",
        "ip" and "l1". uint8 for "hamming": eight bits of a code each.
    metric : {"l2", "cosine", "ip", "l1", "mahalanobis", "hamming"}
        "cosine" divides each row by its length, and rounds to float32. "ip" leaves rows as they
        are, and refuses those of different lengths. "mahalanobis" whitens, and rounds to float32.
        "hamming" returns a float32 for each bit, (n, 8 d), of which the squared l2 is the number of
        bits that differ; see `as_searchable` for codes as they are.
    room : Room
        Where the result is put if it is a copy.
    overwrite : bool
        Nobody needs the vectors any more: the result may take their place.
    whitening : Whitening, optional
        For "mahalanobis", and needed there: new rows are whitened as those before.
    n_threads, on_progress
        Of whitening; see `d2cli.stages.parallel`. Results do not depend on them.
    first_row : int
        What messages call the first of them.

    Raises
    ------
    InputError
        If there are no rows or columns, a value is NaN or infinite, too large for a float32
        distance, a row is zero under "cosine", lengths differ under "ip", or codes are not uint8.
        Names the first row and the count.
    """
    if metric == "hamming":
        codes = as_codes(vectors, room=room)
        return unpack_codes(codes, np.arange(len(codes), dtype=np.int64), room=room)
    array = _matrix(vectors)
    if metric != "mahalanobis":
        return _checked(array, metric, room, first_row, overwrite=overwrite)
    if whitening is None:
        raise ValueError("vectors are whitened by the Whitening of their graph")
    checked = _checked(array, "l2", room, first_row, overwrite=overwrite)
    spend = overwrite or checked is not array
    how: Any = {"n_threads": n_threads, "on_progress": on_progress}
    return _whitened(checked, whitening, room, overwrite=spend, **how)


def as_searchable(
    vectors: ArrayLike,
    metric: str,
    *,
    shrinkage: float | Auto = AUTO,
    seed: int = 0,
    whitening: Whitening | None = None,
    room: Room = IN_MEMORY,
    overwrite: bool = False,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> tuple[Searchable, Whitening | None]:
    """Return vectors as a graph is built on them, and what they were whitened by.

    As `as_vectors`, but codes stay uint8 (n, d), and a whitening is fitted where none is given.

    Parameters
    ----------
    shrinkage, seed
        See `fit_whitening`.
    vectors, metric, whitening, room, overwrite, n_threads, on_progress
        See `as_vectors`.
    """
    if metric == "hamming":
        return as_codes(vectors, room=room), None
    how: Any = {"room": room, "n_threads": n_threads, "on_progress": on_progress}
    if metric == "mahalanobis" and whitening is None:
        given = np.asarray(vectors)
        checked = as_vectors(given, "l2", room=room, overwrite=overwrite)
        whitening = fit_whitening(checked, shrinkage=shrinkage, seed=seed, room=room)
        vectors, overwrite = checked, overwrite or checked is not given
    return as_vectors(vectors, metric, overwrite=overwrite, whitening=whitening, **how), whitening


def as_codes(vectors: ArrayLike, *, room: Room = IN_MEMORY) -> NDArray[np.uint8]:
    """Check packed binary codes, uint8 (n, d): eight bits a value.

    Raises
    ------
    InputError
        If they are of another type, or there are none.
    """
    codes = _matrix(vectors)
    if codes.dtype != np.uint8:
        raise InputError(
            f"is {codes.dtype}; hamming compares binary codes, eight bits to a uint8",
            hint="pack bits with np.packbits(bits, axis=1), or use --metric l2 for numbers",
        )
    if codes.flags.c_contiguous:
        return codes
    rows = room.rows(codes.shape, np.uint8)
    for start in range(0, len(codes), BLOCK_ROWS):
        rows.append(codes[start : start + BLOCK_ROWS])
    return rows.finish()


def unpack_codes(
    codes: NDArray[np.uint8], rows: NDArray[np.int64], *, room: Room = IN_MEMORY
) -> NDArray[np.float32]:
    """Return a 0 or 1 for each bit of some rows, float32 (m, 8 d), the highest bit first."""
    bits = room.rows((len(rows), 8 * codes.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = room.take(codes, rows[start : start + BLOCK_ROWS])
        bits.append(np.unpackbits(block, axis=1).astype(np.float32))
        room.have_read(codes, block)
    return bits.finish()


def width_of(vectors: Searchable) -> int:
    """Return the width of vectors, of codes in bits."""
    return int(vectors.shape[1]) * (8 if vectors.dtype == np.uint8 else 1)


def _matrix(vectors: ArrayLike) -> NDArray[Any]:
    """Return an array of numbers of shape (n, d), neither of them 0, or refuse it."""
    array = np.asarray(vectors)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"is {array.dtype} of shape {array.shape}, expected numbers of shape (rows, width)"
        )
    if not array.size:
        what = "rows" if not len(array) else "values: the vectors have width 0"
        raise InputError(f"holds no {what}", hint="expected at least one row and one column")
    return array


def _checked(
    array: NDArray[Any], metric: str, room: Room, first_row: int, *, overwrite: bool
) -> Vectors:
    """Check vectors; divide them by their lengths for "cosine"."""
    wide = vector_type(array.dtype)
    unit = metric == "cosine"
    alike = AlikeLengths(array.dtype) if metric == "ip" else None
    mend = "drop or mend these rows before building the graph"
    nan, infinite = Defect("holds NaN", mend), Defect("holds an infinite value", mend)
    most = largest_value(array.shape[1], metric)
    large = Defect(f"holds a value above {most:.3g}", "divide the vectors by a constant")
    zero = Defect("is a zero vector, which has no direction", "drop these rows, or use --metric l2")
    largest = 0.0
    rows = _place_of_result(array, wide, room, changed=unit, overwrite=overwrite)
    for start in range(0, len(array), BLOCK_ROWS):
        block = np.asarray(array[start : start + BLOCK_ROWS], dtype=wide)
        with np.errstate(all="ignore"):
            peaks = np.abs(block).max(axis=1).astype(np.float64)  # NaN where any value is
            largest = max(largest, float(peaks.max()))
            nan.add(first_row + start, np.isnan(peaks))
            infinite.add(first_row + start, np.isinf(peaks))
            large.add(first_row + start, (peaks > most) & ~np.isinf(peaks))
            zero.add(first_row + start, peaks == 0)
            if alike is not None:
                alike.add(first_row + start, block)
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
    if alike is not None:
        alike.refuse()
    if rows is None:
        checked: Vectors = array
        return checked
    release(array)
    checked = rows.finish()
    return checked


def _whitened(
    vectors: Vectors,
    whitening: Whitening,
    room: Room,
    *,
    overwrite: bool,
    n_threads: int,
    on_progress: Progress,
) -> Vectors:
    """Return checked vectors whitened; refuse rows that end up too far for float32 distances."""
    if vectors.shape[1] != len(whitening.mean):
        raise InputError(
            f"has width {vectors.shape[1]}, but the whitening is of width {len(whitening.mean)}"
        )
    rows = _place_of_result(vectors, np.float32, room, changed=True, overwrite=overwrite)
    assert rows is not None
    peaks = np.zeros(len(vectors), dtype=np.float32)
    with np.errstate(over="ignore"):
        run_tasks(
            [
                _whiten_block(vectors, start, whitening, rows, peaks, room)
                for start in range(0, len(vectors), BLOCK_ROWS)
            ],
            n_threads=n_threads,
            phase="whitening",
            total=len(vectors),
            on_progress=on_progress,
        )
    far = Defect(
        "is too far from the others once whitened", "a larger --shrinkage, or drop these rows"
    )
    far.add(0, ~(peaks <= largest_value(vectors.shape[1])))
    far.refuse()
    release(vectors)
    whitened: Vectors = rows.finish()
    return whitened


def _whiten_block(
    vectors: Vectors,
    start: int,
    whitening: Whitening,
    rows: Rows,
    peaks: NDArray[np.float32],
    room: Room,
) -> Task:
    block = vectors[start : start + BLOCK_ROWS]
    whitened = whitening.rows(block)
    room.have_read(vectors, block)
    peaks[start : start + BLOCK_ROWS] = np.abs(whitened).max(axis=1)
    rows.put(start, whitened)
    yield len(block)


def _place_of_result(
    array: NDArray[Any], wide: type[Any], room: Room, *, changed: bool, overwrite: bool
) -> Rows | None:
    """Return what takes checked vectors; None if they can stay as and where they are."""
    if not changed:
        usable = array.dtype == wide and array.flags.c_contiguous
        return None if usable else room.rows(array.shape, wide)
    own = array.flags.writeable and array.flags.owndata and array.flags.c_contiguous
    if overwrite and own and array.dtype == np.float32:
        return RowsInMemory(array)
    return room.rows(array.shape, np.float32)


class AlikeLengths:
    """Whether all rows are of one length but for rounding, looked at block by block.

    Rounding to a float16 moves a value, and so a length, by at most a part in 2**11, so that two
    may differ by one in 2**10; values that a float16 holds are taken to have been rounded to it.
    Wider ones are taken to be lengths that were made equal in float32: the squared length, a sum of
    d terms, is then known to d parts in 2**24, and two lengths are alike to as many.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.least, self.most = (math.inf, -1), (0.0, -1)
        self.halves = dtype.kind == "f"
        self.width = 0

    def add(self, start: int, block: NDArray[Any]) -> None:
        """Take in rows (b, d) from ``start`` on; to be called where NumPy's warnings are off."""
        self.width = block.shape[1]
        wide = block.astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        low, high = int(lengths.argmin()), int(lengths.argmax())
        self.least = min(self.least, (float(lengths[low]), start + low))
        if float(lengths[high]) > self.most[0]:
            self.most = float(lengths[high]), start + high
        self.halves = self.halves and bool((block.astype(np.float16) == block).all())

    @property
    def tolerance(self) -> float:
        """By what part of the longest length two may differ."""
        return 2.0**-10 if self.halves else (self.width + 4) * 2.0**-24

    def refuse(self) -> None:
        """Raise InputError if lengths differ."""
        (short, first), (long, last) = self.least, self.most
        if long - short > self.tolerance * long:
            raise InputError(
                f"rows {first} and {last} have lengths {short:.6g} and {long:.6g}; by inner "
                "product a long row far away is nearer than a short one is to itself, so ip needs "
                "rows of one length",
                hint="--metric cosine, or divide the rows by their lengths",
            )
