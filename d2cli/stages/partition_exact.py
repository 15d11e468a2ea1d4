"""The nearest neighbours of the rows of one partition, in all partitions, exactly."""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.exact import ExactIndex
from d2cli.stages.lists import NOBODY, Packed, merge
from d2cli.stages.partition_search import Reader
from d2cli.stages.places import Places, rows_of_places
from d2cli.stages.space import build_space
from d2cli.stages.vectors import Vectors


def search_exactly(own: int, reader: Reader, numbers: list[int], k: int) -> Packed:
    """Return the nearest rows of each place of a partition, its own left out, (u, k).

    Parameters
    ----------
    own : int
        The partition.
    reader : Reader
    numbers : list of int
        All partitions that have rows.
    k : int
    """
    asking = reader.places(own)
    lists = np.full((asking.n_places, k), NOBODY, dtype=np.uint64)
    for number in numbers:
        there = asking if number == own else reader.places(number)
        places = np.arange(asking.n_places, dtype=np.int64) if number == own else None
        lists = merge(lists, exactly_in(there, asking.vectors, places, k))
    return lists


def exactly_in(there: Places, vectors: Vectors, places: NDArray[np.int64] | None, k: int) -> Packed:
    """Return the nearest rows in a partition of some vectors (q, d), packed, (q, k).

    ``places`` (q,) are the places of these vectors in that partition, each of which is left out;
    -1 or None where they are in another.
    """
    asked = np.full(len(vectors), -1, dtype=np.int64) if places is None else places
    foreign = np.flatnonzero(asked < 0)
    both = np.concatenate([there.vectors, vectors[foreign]]) if len(foreign) else there.vectors
    queries = asked.astype(np.int32)
    queries[foreign] = there.n_places + np.arange(len(foreign), dtype=np.int32)
    space = build_space(both, np.arange(len(both), dtype=np.int64))
    neighbors, distances = ExactIndex(space, n_targets=there.n_places).search(queries, k)
    return rows_of_places(there, neighbors, distances)
