"""Lists of neighbours that grow: ranked by (distance, row), merged, spread to equal rows.

A neighbour is packed into one number: the bits of its distance, then its row. Distances are not
negative, so the order of these numbers is that by (distance, row).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Packed: TypeAlias = NDArray[np.uint64]

NOBODY = np.uint64((int(np.float32(np.inf).view(np.uint32)) << 32) | 0xFFFFFFFF)  # row -1, infinity


def pack(neighbors: NDArray[np.int32], distances: NDArray[np.float32]) -> Packed:
    """Return neighbours and their distances, of one shape, as numbers of the same shape.

    Parameters
    ----------
    neighbors : int32 array
        Rows; -1 where there is none.
    distances : float32 array
        Not negative; infinity where there is none.
    """
    bits = np.ascontiguousarray(distances).view(np.uint32).astype(np.uint64)
    rows = np.ascontiguousarray(neighbors).view(np.uint32).astype(np.uint64)
    return (bits << np.uint64(32)) | rows


def unpack(packed: Packed) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the neighbours and the distances that `pack` took."""
    rows = (packed & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32)
    return rows, (packed >> np.uint64(32)).astype(np.uint32).view(np.float32)


def merge(lists: Packed, others: Packed) -> Packed:
    """Return the k nearest of two lists a row, (m, k), each neighbour once.

    Parameters
    ----------
    lists : uint64 array, shape (m, k)
        Packed, in any order.
    others : uint64 array, shape (m, c)
        Packed, in any order. A neighbour that both have has one distance.
    """
    both = np.sort(np.concatenate([lists, others], axis=1), axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = NOBODY
    both.sort(axis=1)
    return both[:, : lists.shape[1]]


def take_out(lists: Packed, number: NDArray[np.int32]) -> tuple[Packed, NDArray[np.bool_]]:
    """Take rows out of lists, and number the others anew.

    Parameters
    ----------
    lists : uint64 array, shape (m, k)
        Packed and ascending.
    number : int32 array, shape (n + 1,)
        The new number of each row, ascending; -1 for those that go, and at the end.

    Returns
    -------
    lists : uint64 array, shape (m, k)
        Ascending; shorter lists are padded.
    torn : bool array, shape (m,)
        Who has lost a neighbour.
    """
    before, distances = unpack(lists)
    neighbors = number[before]  # the last is that of nobody
    gone = neighbors < 0
    packed = pack(neighbors, np.where(gone, np.float32(np.inf), distances))
    torn: NDArray[np.bool_] = np.any(gone & (before >= 0), axis=1)
    return np.sort(packed, axis=1), torn


def to_positions(packed: Packed, rows: NDArray[np.int64]) -> Packed:
    """Turn neighbours into positions in ``rows`` (g,), ascending, where all of them are."""
    if len(rows) and rows[-1] == len(rows) - 1:
        return packed
    neighbors, distances = unpack(packed)
    positions = np.searchsorted(rows, neighbors).astype(np.int32)
    return pack(np.where(neighbors < 0, np.int32(-1), positions), distances)


def to_rows(packed: Packed, rows: NDArray[np.int64]) -> Packed:
    """Undo `to_positions`."""
    if len(rows) and rows[-1] == len(rows) - 1:
        return packed
    positions, distances = unpack(packed)
    numbers = rows.astype(np.int32)
    return pack(np.where(positions < 0, np.int32(-1), numbers[positions]), distances)


def spread(
    asked: NDArray[np.int32],
    neighbors: NDArray[np.int32],
    distances: NDArray[np.float32],
    indptr: NDArray[np.int64],
    members: NDArray[np.int32],
    k: int,
    *,
    own: bool = True,
) -> tuple[NDArray[np.int32], Packed]:
    """Turn neighbours of some places into neighbours of their members; see `distinct_rows`.

    Parameters
    ----------
    asked : int32 array, shape (q,)
        Different places.
    neighbors, distances : int32 and float32 arrays, shape (q, c)
        Places near them; -1 and infinity where there are fewer.
    indptr, members : int64 array (u + 1,), int32 array
        The members of each place, ascending.
    k : int
        Neighbours a member.
    own : bool
        Members of one place are neighbours, too, at distance 0.

    Returns
    -------
    rows : int32 array, shape (m,)
        All members of the places.
    lists : uint64 array, shape (m, k)
        Packed and ascending; no member is in its own list.
    """
    if own:
        neighbors = np.concatenate([asked[:, None], neighbors], axis=1)
        distances = np.concatenate([np.zeros((len(asked), 1), np.float32), distances], axis=1)
    slots, columns = np.nonzero(neighbors >= 0)
    places, lengths = neighbors[slots, columns], distances[slots, columns]
    # k + 1 members are enough: one of them may be the row that asks.
    counts = np.minimum(indptr[places + 1] - indptr[places], k + 1)
    at = np.repeat(indptr[places], counts) + _count_up(counts)
    packed = pack(members[at], np.repeat(lengths, counts))
    slots = np.repeat(slots, counts)
    order = np.lexsort((packed, slots))
    packed, slots = packed[order], slots[order]
    rank = _count_up(np.bincount(slots, minlength=len(asked)))
    near = rank <= k
    lists = np.full((len(asked), k + 1), NOBODY, dtype=np.uint64)
    lists[slots[near], rank[near]] = packed[near]
    counts = indptr[asked + 1] - indptr[asked]
    rows = members[np.repeat(indptr[asked], counts) + _count_up(counts)]
    lists = np.repeat(lists, counts, axis=0)
    lists[unpack(lists)[0] == rows[:, None]] = NOBODY
    lists.sort(axis=1)
    return rows, lists[:, :k]


def _count_up(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, ... up to each count, one after another."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - counts, counts)
