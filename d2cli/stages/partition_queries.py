"""Places of a partition that are sent to others, which compare them with their own and answer.

A partition that many places look at is read by the task that searches these
(`d2cli.stages.partition_search`). Where few do, it is less to send the places: so what moves grows
with the rows, whatever the number of partitions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import NearestSoFar, nearest_among
from d2cli.stages.cell_scan import by_cell, compare
from d2cli.stages.lists import Packed, merge
from d2cli.stages.places import Places, rows_of_places
from d2cli.stages.vectors import Vectors


@dataclass(frozen=True, eq=False)
class Queries:
    """Places of one partition, each with one other that it asks; the pairs differ.

    Attributes
    ----------
    places : int32 array, shape (q,)
    partitions : int32 array, shape (q,)
    cells : int32 array, shape (q, w)
        Of that partition, counted from its first; padded with -1.
    limits : float32 array, shape (q,)
        Candidates count below it, see `d2cli.stages._neighbors.NearestSoFar`.
    """

    places: NDArray[np.int32]
    partitions: NDArray[np.int32]
    cells: NDArray[np.int32]
    limits: NDArray[np.float32]


def find_queries(
    there: NDArray[np.int32],
    cells: NDArray[np.int32],
    asked: NDArray[np.bool_],
    places: NDArray[np.int32],
    limits: NDArray[np.float32],
) -> Queries:
    """Return what some positions ask of other partitions.

    Parameters
    ----------
    there, cells : int32 arrays, shape (u, c)
        The partitions that each position looks at, again and again, and cells of them.
    asked : bool array, shape (u, c)
        Which of these are asked.
    places : int32 array, shape (u,)
        The place of each position.
    limits : float32 array, shape (u,)
    """
    rows, columns = np.nonzero(asked)
    order = np.lexsort((there[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    partitions = there[rows, columns]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(rows) > 0) | (np.diff(partitions) != 0)
    first = np.flatnonzero(new)
    number = np.cumsum(new) - 1
    rank = np.arange(len(rows)) - first[number]
    wanted = np.full((len(first), int(rank.max(initial=0)) + 1), -1, dtype=np.int32)
    wanted[number, rank] = cells[rows, columns]
    return Queries(places[rows[first]], partitions[first], wanted, limits[rows[first]])


def answer_queries(
    there: Places,
    order: NDArray[np.int32],
    points: NDArray[np.float32],
    starts: NDArray[np.int64],
    asking: tuple[Vectors, NDArray[np.float32]],
    cells: NDArray[np.int32],
    limits: NDArray[np.float32],
    k: int,
    *,
    wanted: int,
) -> tuple[NDArray[np.int64], Packed]:
    """Return the nearest rows of a partition to places of another one.

    Parameters
    ----------
    there : Places
        The partition that is asked.
    order : int32 array, shape (u,)
        The place of each of its positions.
    points : float32 array, shape (u, p)
        By position.
    starts : int64 array, shape (c + 1,)
        The first position of each of its cells, and their number.
    asking : (array (q, d), float32 array (q, p))
        Vectors and points of the places that ask.
    cells, limits
        See `Queries`.
    k : int
    wanted : int
        Candidates that are compared by their vectors, for each place.

    Returns
    -------
    who : int64 array, shape (a,), ascending
        Which of the places have an answer.
    lists : uint64 array, shape (a, k)
    """
    vectors, shown = asking
    best = NearestSoFar(len(vectors), wanted)
    best.stay_below(limits)
    nobody = np.full(len(vectors), -1, dtype=np.int32)
    norms = np.einsum("ij,ij->i", points, points)
    slots, columns = np.nonzero(cells >= 0)
    for cell, some in zip(*by_cell(slots, cells[slots, columns]), strict=True):
        span = int(starts[cell]), int(starts[cell + 1])
        compare(best, shown, nobody, some, (points, norms), span, 0)
    candidates = best.finish()
    real = candidates >= 0
    who = np.flatnonzero(real.any(axis=1))
    indptr = np.concatenate([[0], np.cumsum(real[who].sum(axis=1))]).astype(np.int64)
    queries = who.astype(np.int32)
    found = nearest_among(vectors, queries, there.vectors, indptr, order[candidates[real]], k)
    return who, rows_of_places(there, *found)


def add_answers(
    indptr: NDArray[np.int64], lists: Packed, places: NDArray[np.int64], answers: Packed
) -> None:
    """Merge the answers (a, k) for different places into the lists (m, k) of all their rows.

    Rows are in the order of their places: place p has the rows ``indptr[p]`` to
    ``indptr[p + 1] - 1``.
    """
    counts = indptr[places + 1] - indptr[places]
    ends = np.cumsum(counts)
    ahead = np.repeat(indptr[places] - (ends - counts), counts)
    rows = ahead + np.arange(ends[-1] if len(ends) else 0)
    lists[rows] = merge(lists[rows], np.repeat(answers, counts, axis=0))
