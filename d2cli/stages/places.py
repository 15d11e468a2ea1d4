"""Places of a partition: its different vectors, each with the rows that have it.

Neighbours are searched among places, and are rows in the end: packed with their distances, see
`d2cli.stages.lists`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.lists import NOBODY, Packed, pack
from d2cli.stages.space import distinct_rows
from d2cli.stages.vectors import Vectors


@dataclass(frozen=True, eq=False)
class Places:
    """The different vectors of one partition.

    Attributes
    ----------
    vectors : float32 or float64 array, shape (u, d)
        By place.
    indptr, members : int64 array (u + 1,), int64 array (m,)
        The rows of place p are ``members[indptr[p]:indptr[p + 1]]``, ascending; places ascend by
        their first row.
    """

    vectors: Vectors
    indptr: NDArray[np.int64]
    members: NDArray[np.int64]

    @property
    def n_places(self) -> int:
        """Places, u."""
        return len(self.vectors)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each place, (u,)."""
        return np.diff(self.indptr)

    def place_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of some rows of the partition."""
        order = np.argsort(self.members, kind="stable")
        at = order[np.searchsorted(self.members[order], rows)]
        return np.searchsorted(self.indptr, at, side="right") - 1


def find_places(rows: NDArray[np.int64], vectors: Vectors) -> Places:
    """Return the places of the rows (m,) of a partition, ascending, with their vectors (m, d)."""
    first, indptr, members = distinct_rows(vectors, np.arange(len(rows), dtype=np.int64))
    return Places(vectors if len(first) == len(rows) else vectors[first], indptr, rows[members])


def rows_of_places(
    there: Places, neighbors: NDArray[np.int32], distances: NDArray[np.float32]
) -> Packed:
    """Turn neighbouring places (q, k) into the k nearest rows of these places, packed, (q, k)."""
    k, none = neighbors.shape[1], neighbors < 0
    first = np.where(none, 0, there.indptr[neighbors])
    lists = np.where(none, NOBODY, pack(there.members[first].astype(np.int32), distances))
    counts = np.where(none, 0, there.counts[neighbors])
    many = np.flatnonzero((counts > 1).any(axis=1))
    if len(many):
        counts, first, distances = counts[many], first[many], distances[many]
        found = [lists[many]]
        for t in range(1, min(int(counts.max()), k)):
            more = np.minimum(first + t, len(there.members) - 1)
            members = pack(there.members[more].astype(np.int32), distances)
            found.append(np.where(t < counts, members, NOBODY))
        lists[many] = np.sort(np.concatenate(found, axis=1), axis=1)[:, :k]
    return np.sort(lists, axis=1)


def with_twins(
    there: Places, places: NDArray[np.int64], rows: NDArray[np.int64], lists: Packed
) -> Packed:
    """Add to the lists (q, k) of some rows the others of their place, which are at distance 0."""
    k = lists.shape[1]
    lists = np.sort(lists, axis=1)
    counts = there.counts[places]
    many = np.flatnonzero(counts > 1)
    if len(many):
        counts, first = counts[many], there.indptr[places[many]]
        found = [lists[many]]
        for t in range(min(int(counts.max()), k + 1)):
            members = there.members[np.minimum(first + t, len(there.members) - 1)]
            twins = pack(members.astype(np.int32), np.zeros(len(many), dtype=np.float32))
            real = (t < counts) & (members != rows[many])
            found.append(np.where(real, twins, NOBODY)[:, None])
        lists[many] = np.sort(np.concatenate(found, axis=1), axis=1)[:, :k]
    return lists


def spread_lists(own: Places, lists: Packed) -> tuple[NDArray[np.int64], Packed]:
    """Turn lists of places (u, k) into those of their rows; return the rows (m,), too."""
    places = np.repeat(np.arange(own.n_places, dtype=np.int64), own.counts)
    return own.members, with_twins(own, places, own.members, lists[places])
