"""The search space: distinct rows of one group, centred and scaled to safe float32."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import first_twins, nearest_of, row_keys
from d2cli.stages.parallel import Task, run_tasks
from d2cli.stages.room import IN_MEMORY, Room
from d2cli.stages.vectors import Searchable, Vectors

Measure: TypeAlias = Literal["l2", "l1", "hamming"]

BLOCK_ROWS = 4096
CENTER_ROWS = 1024  # that tell whether a few rows far off have moved the mean away from the rest
FAR_OFF = 4.0  # so many usual distances from the middle: then the mean is no centre
# Of the widest axis: so much may rounding leave of the mean of a constant one.
ROUNDED_MEAN = 2.0**-30
# Below 2**-126 float32 distances are rounded to multiples of 2**-149: so far may the squares of two
# that become equal lie apart, twice over.
TIED_SQUARES = 2.0**-273
GATHERED_BYTES = 4 << 20  # of vectors on disk that are copied at a time to be compared


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """Places 0 ... u - 1 stand for different vectors; searches run on places.

    Distances do not change when all vectors move together, so the mean is subtracted: a common
    offset would cost float32 its digits. Where rows far off have moved the mean away from the
    others, their median is subtracted. The scale is a power of two, so it costs none.
    """

    vectors: Searchable  # (n, d), all rows of the input
    rows: NDArray[np.int64]  # (u,) the row of each place, ascending
    center: NDArray[np.float64]  # (d,)
    scale: float  # power of two that brings the largest coordinate to 0.5 ... 1
    room: Room = field(default=IN_MEMORY)  # where the vectors live
    measure: Measure = "l2"  # "hamming": vectors are uint8 codes, as they are, in no centre

    @property
    def n_places(self) -> int:
        """Distinct vectors, u."""
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Width of a vector, d."""
        return int(self.vectors.shape[1])

    @property
    def rounding(self) -> float:
        """Up to what difference squared distances here may be one float32 distance of vectors."""
        # 2**100 is as good as infinity, and has room left in float32.
        return float(min(self.scale * TIED_SQUARES * self.scale, 2.0**100))

    def block(self, places: slice | NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the centred, scaled vectors of some places, float32 (b, d)."""
        taken = take_rows(self.vectors, self.rows[places], self.room)
        block = taken - self.center
        self.room.have_read(self.vectors, taken)
        block *= self.scale
        return block.astype(np.float32)

    def nearest(
        self,
        queries: NDArray[np.int32],
        indptr: NDArray[np.int64],
        candidates: NDArray[np.int32],
        k: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k nearest of the candidates of each query by true distance, (q, k) each.

        Parameters
        ----------
        queries : int32 array, shape (q,)
            Places.
        indptr, candidates : int64 array (q + 1,), int32 array
            ``candidates[indptr[i]:indptr[i + 1]]`` are the places that query i is compared with;
            negative ones and the query itself are left out.
        k : int

        Returns
        -------
        neighbors, distances : int32 and float32 arrays, shape (q, k)
            Ascending by (distance, place); padded with -1 and infinity.
        """
        if not self.room.on_disk:
            vectors = cast("Vectors", self.vectors)  # no codes: they are scanned
            return nearest_of(vectors, self.rows, queries, indptr, candidates, k)
        # So few queries at a time that all vectors they need fit into a small copy.
        at_once = gathered_rows(self.vectors)
        neighbors = np.empty((len(queries), k), dtype=np.int32)
        distances = np.empty((len(queries), k), dtype=np.float32)
        start = 0
        while start < len(queries):
            stop = int(np.searchsorted(indptr, indptr[start] + at_once, side="right")) - 1
            part = slice(start, min(max(stop, start + 1), len(queries)))
            ends = indptr[part.start : part.stop + 1]
            neighbors[part], distances[part] = self._nearest_by_copy(
                queries[part], ends - ends[0], candidates[ends[0] : ends[-1]], k
            )
            start = part.stop
        return neighbors, distances

    def _nearest_by_copy(
        self,
        queries: NDArray[np.int32],
        indptr: NDArray[np.int64],
        candidates: NDArray[np.int32],
        k: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """As `nearest`, but every vector is looked up once; numbers of the copy keep the order."""
        real = candidates >= 0
        needed, inverse = np.unique(
            np.concatenate([queries, candidates[real]]), return_inverse=True
        )
        numbers: NDArray[np.int32] = inverse.astype(np.int32)
        compared = np.full(len(candidates), -1, dtype=np.int32)
        compared[real] = numbers[len(queries) :]
        copy = cast("Vectors", take_rows(self.vectors, self.rows[needed], self.room))
        everything = np.arange(len(needed), dtype=np.int64)
        found, distances = nearest_of(
            copy, everything, numbers[: len(queries)], indptr, compared, k
        )
        return np.where(found >= 0, needed[found], np.int32(-1)), distances


def take_rows(vectors: Searchable, rows: NDArray[np.int64], room: Room = IN_MEMORY) -> Searchable:
    """Return ``vectors[rows]``; a view if the rows are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return vectors[rows[0] : rows[-1] + 1]
    taken: Searchable = room.take(vectors, rows)
    return taken


def gathered_rows(vectors: NDArray[Any]) -> int:
    """Return how many scattered rows of vectors on disk are worked on at a time."""
    row_bytes = int(vectors.shape[1]) * int(vectors.itemsize)
    return max(GATHERED_BYTES // max(row_bytes, 1), 1)


def build_space(
    vectors: Searchable,
    rows: NDArray[np.int64],
    *,
    n_threads: int = 1,
    room: Room = IN_MEMORY,
    measure: Measure = "l2",
) -> SearchSpace:
    """Centre and scale distinct rows.

    Parameters
    ----------
    vectors : float32 or float64 array, shape (n, d), C-ordered, finite
        uint8 codes for "hamming", which stay as they are.
    rows : int64 array, shape (u,), ascending
        Rows of different vectors.
    n_threads : int
        Does not change the result.
    room : Room
        Where the vectors live; does not change the result.
    measure : {"l2", "l1", "hamming"}
        What rows are compared by.
    """
    if measure == "hamming":
        return SearchSpace(vectors, rows, np.zeros(vectors.shape[1]), 1.0, room, measure)
    starts = range(0, len(rows), BLOCK_ROWS)
    sums, lows, highs = (np.zeros((len(starts), vectors.shape[1])) for _ in range(3))

    def look(i: int) -> Iterator[int]:
        block = take_rows(vectors, rows[starts[i] : starts[i] + BLOCK_ROWS], room)
        sums[i] = block.sum(axis=0, dtype=np.float64)
        lows[i], highs[i] = block.min(axis=0), block.max(axis=0)
        room.have_read(vectors, block)
        yield 0

    _share([look(i) for i in range(len(starts))], n_threads)
    center = sums.sum(axis=0) / max(len(rows), 1)
    largest = 0.0
    if len(rows):
        center = _center(vectors, rows, center, room)
        low, high = lows.min(axis=0), highs.max(axis=0)
        away = np.maximum(high - center, center - low)
        varies = high > low
        if away[~varies].max(initial=0.0) > ROUNDED_MEAN * away[varies].max(initial=0.0):
            center = np.where(varies, center, low)
            away[~varies] = 0.0
        largest = float(away.max())
    exponent = max(int(np.frexp(largest)[1]), -1000)
    return SearchSpace(vectors, rows, center, float(np.ldexp(1.0, -exponent)), room, measure)


def _center(
    vectors: Searchable, rows: NDArray[np.int64], mean: NDArray[np.float64], room: Room
) -> NDArray[np.float64]:
    """Return the mean (d,), or the median of some rows if the mean is far from most of them."""
    some = np.linspace(0, len(rows) - 1, min(len(rows), CENTER_ROWS)).astype(np.int64)
    block = take_rows(vectors, rows[some], room)
    points = block.astype(np.float64)
    room.have_read(vectors, block)
    median = np.median(points, axis=0)
    points -= median
    usual = float(np.median(np.einsum("ij,ij->i", points, points)))
    moved = mean - median
    return median if float(moved @ moved) > FAR_OFF**2 * usual else mean


def _share(tasks: list[Task], n_threads: int) -> None:
    run_tasks(tasks, n_threads=n_threads, phase="reading", total=0)


def distinct_rows(
    vectors: Searchable,
    rows: NDArray[np.int64],
    *,
    n_threads: int = 1,
    room: Room = IN_MEMORY,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Group equal vectors.

    Parameters
    ----------
    vectors : float32, float64 or uint8 array, shape (n, d)
    rows : int64 array, shape (m,), ascending
    n_threads : int
        Does not change the result.
    room : Room
        Where the vectors live; does not change the result.

    Returns
    -------
    places : int64 array, shape (u,)
        The lowest row of each distinct vector, ascending.
    indptr, members : int64 array (u + 1,), int32 array (m,)
        ``members[indptr[p]:indptr[p + 1]]`` are the positions in ``rows``, ascending, whose
        vector is that of place p.
    """
    keys = np.empty(len(rows), dtype=np.uint64)

    def hash_rows(start: int) -> Iterator[int]:
        part = slice(start, start + BLOCK_ROWS)
        block = take_rows(vectors, rows[part], room)
        keys[part] = row_keys(block, np.arange(len(block), dtype=np.int64))
        room.have_read(vectors, block)
        yield 0

    _share([hash_rows(start) for start in range(0, len(rows), BLOCK_ROWS)], n_threads)
    first = _twins(vectors, rows, keys, room)
    if len(rows) and np.array_equal(first, np.arange(len(rows))):
        everything = np.arange(len(rows) + 1)
        return rows, everything.astype(np.int64), everything[:-1].astype(np.int32)
    leaders, place, counts = np.unique(first, return_inverse=True, return_counts=True)
    members = np.argsort(place, kind="stable").astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return rows[leaders], indptr, members


def _twins(
    vectors: Searchable, rows: NDArray[np.int64], keys: NDArray[np.uint64], room: Room
) -> NDArray[np.int32]:
    """Return for every row, by position, the first one with its vector, (m,)."""
    if not room.on_disk:
        return first_twins(vectors, rows, keys)
    # Only rows with a key in common are looked at, so few keys at a time.
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    repeated = order[np.concatenate([same, [False]]) | np.concatenate([[False], same])]
    ends = np.flatnonzero(np.append(keys[repeated][1:] != keys[repeated][:-1], True)) + 1
    first = np.arange(len(rows), dtype=np.int32)
    start, at_once = 0, gathered_rows(vectors)
    while start < len(repeated):
        at = int(np.searchsorted(ends, start + at_once, side="right")) - 1
        stop = int(ends[at]) if at >= 0 and ends[at] > start else int(ends[at + 1])
        part = repeated[start:stop]
        copy, everything = room.take(vectors, rows[part]), np.arange(len(part), dtype=np.int64)
        first[part] = part[first_twins(copy, everything, keys[part])]
        start = stop
    return first
