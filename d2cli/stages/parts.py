"""Rows divided into parts, each with its own edges and the neighbours that it has in others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.stages._rounds import edges_of_part, from_other_ends, turned
from d2cli.stages.methods import Task


def check_partitions(n_samples: int, n_parts: int) -> None:
    """Refuse more parts than rows, or none.

    Raises
    ------
    ParameterError
    """
    if not 1 <= n_parts <= n_samples:
        raise ParameterError(
            f"partitions is {n_parts:,}, expected 1 to {n_samples:,}, the number of rows",
            hint="lower --partitions",
        )


def even_parts(n_samples: int, n_parts: int) -> NDArray[np.int64]:
    """Divide rows into parts of consecutive rows whose sizes differ by at most one, (n,).

    Raises
    ------
    ParameterError
        If there are fewer rows than parts.
    """
    check_partitions(n_samples, n_parts)
    return np.arange(n_samples, dtype=np.int64) * n_parts // n_samples


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one part, and their edges to all candidates.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        Ascending.
    around : int64 array, shape (h,)
        Their neighbours in other parts, ascending.
    indptr, indices, weights, start, place, beside_indptr, beside
        See `Neighborhood`: the rows come first, then those around.
    group : int32 array, shape (m,)
    """

    rows: NDArray[np.int64]
    around: NDArray[np.int64]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float64]
    start: NDArray[np.float64]
    place: NDArray[np.int32]
    beside_indptr: NDArray[np.int64]
    beside: NDArray[np.int32]
    group: NDArray[np.int32]


def cut_parts(
    task: Task, score: NDArray[np.float64], open_: NDArray[np.bool_], parts: NDArray[np.integer]
) -> Iterator[Part]:
    """Yield the parts that have open rows.

    Parameters
    ----------
    task : Task
    score : float64 array, shape (n,)
        First scores.
    open_ : bool array, shape (n,)
        All others are left out.
    parts : int array, shape (n,)
        The part of each row.
    """
    around, place = task.graph.adjacency, task.place.astype(np.int32)
    # A message has the weight that its sender knows; in graphs of d2 both ends know the same.
    distances = from_other_ends(around.indptr, around.indices, around.distances)
    marked, local = open_.astype(np.uint8), np.full(len(score), -1, dtype=np.int32)
    opened = np.flatnonzero(open_)
    by_part = opened[np.argsort(parts[opened], kind="stable")]
    for rows in np.split(by_part, np.flatnonzero(np.diff(parts[by_part])) + 1):
        if not len(rows):
            continue
        beside, ends, near, edges = edges_of_part(
            around.indptr, around.indices, marked, rows, local
        )
        yield Part(
            rows,
            beside,
            ends,
            near,
            task.weigh(distances[edges]),
            score[rows],
            place[np.concatenate([rows, beside])],
            *turned(ends, near, len(beside)),
            task.groups.codes[rows],
        )
