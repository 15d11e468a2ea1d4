"""Two selections side by side: what they share, and how alike their orders are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.groups import group_by
from d2cli.stages.report import spread


@dataclass(frozen=True, eq=False)
class Matched:
    """Which rows of two selections are the same.

    Attributes
    ----------
    common_a, common_b : int64 arrays, shape (c,)
        Positions of the common rows in A and in B, in step with each other.
    lost : int64 array
        Positions in A of the rows that B does not have.
    gained : int64 array
        Positions in B of the rows that A does not have.
    """

    common_a: NDArray[np.int64]
    common_b: NDArray[np.int64]
    lost: NDArray[np.int64]
    gained: NDArray[np.int64]

    @property
    def n_a(self) -> int:
        """Rows of A."""
        return len(self.common_a) + len(self.lost)

    @property
    def n_b(self) -> int:
        """Rows of B."""
        return len(self.common_b) + len(self.gained)

    @property
    def jaccard(self) -> float:
        """Common rows as a share of the rows of either; 1 if there are none at all."""
        either = self.n_a + len(self.gained)
        return len(self.common_a) / either if either else 1.0

    @property
    def change(self) -> float:
        """Rows lost or rows gained, whichever are more, as a share of A's rows."""
        return max(len(self.lost), len(self.gained)) / max(self.n_a, 1)


def match(codes_a: NDArray[np.int64], codes_b: NDArray[np.int64]) -> Matched:
    """Match rows by number; each stands at most once in A, and at most once in B."""
    _, at_a, at_b = np.intersect1d(codes_a, codes_b, assume_unique=True, return_indices=True)
    by_a = np.argsort(at_a)
    return Matched(
        at_a[by_a].astype(np.int64),
        at_b[by_a].astype(np.int64),
        np.setdiff1d(np.arange(len(codes_a)), at_a, assume_unique=True).astype(np.int64),
        np.setdiff1d(np.arange(len(codes_b)), at_b, assume_unique=True).astype(np.int64),
    )


def compare_groups(
    matched: Matched, labels_a: NDArray[Any], labels_b: NDArray[Any]
) -> list[dict[str, Any]]:
    """Count the rows of every group in A and B, and those lost and gained.

    A row that is in both counts in either under the label it has there.

    Parameters
    ----------
    matched : Matched
    labels_a, labels_b : arrays of one type
        Of the rows of A and B.

    Returns
    -------
    list of dict
        Ascending by label: name, a, b, lost, gained, and ``loss``, the rows by which the group has
        become smaller as a share of those it had in A (0 if it has not).
    """
    groups = group_by(np.concatenate([labels_a, labels_b]))
    of_a, of_b = groups.codes[: len(labels_a)], groups.codes[len(labels_a) :]

    def count(codes: NDArray[np.int32]) -> list[int]:
        counted: list[int] = np.bincount(codes, minlength=groups.n_groups).tolist()
        return counted

    columns = (count(of_a), count(of_b), count(of_a[matched.lost]), count(of_b[matched.gained]))
    return [
        {
            "name": name,
            "a": a,
            "b": b,
            "lost": lost,
            "gained": gained,
            "loss": max(a - b, 0) / a if a else 0.0,
        }
        for name, a, b, lost, gained in zip(groups.names, *columns, strict=True)
    ]


def compare_difficulty(
    matched: Matched, of_a: NDArray[np.float64], of_b: NDArray[np.float64]
) -> dict[str, Any]:
    """Describe the difficulty of the rows of A and B, of those lost, and of those gained.

    Every row has the difficulty that its own selection gives it. ``differs`` is the number of
    common rows whose two difficulties are not the same: then the values do not compare.
    """
    return {
        "a": spread(of_a),
        "b": spread(of_b),
        "lost": spread(of_a[matched.lost]),
        "gained": spread(of_b[matched.gained]),
        "differs": int((of_a[matched.common_a] != of_b[matched.common_b]).sum()),
    }


def kendall_tau(x: NDArray[Any], y: NDArray[Any]) -> float | None:
    """Return Kendall's tau-b of two rankings: 1 for the same order, -1 for the reverse one.

    ``(C - D) / sqrt((P - T_x) (P - T_y))`` over the P pairs of rows: C in the same order in both,
    D in the opposite one, T_x and T_y tied in x and in y. Takes O(n log n).

    Parameters
    ----------
    x, y : arrays of numbers, shape (n,)

    Returns
    -------
    float or None
        None where all is tied, and for fewer than two rows.

    References
    ----------
    Knight. A computer method for calculating Kendall's tau with ungrouped data. JASA 61, 1966.
    """
    n = len(x)
    pairs = n * (n - 1) // 2
    _, of_x = np.unique(x, return_inverse=True)
    _, of_y = np.unique(y, return_inverse=True)
    ties_x, ties_y = _tied_pairs(of_x), _tied_pairs(of_y)
    if ties_x == pairs or ties_y == pairs:
        return None
    ties_both = _tied_pairs(np.unique(of_x * np.int64(n) + of_y, return_inverse=True)[1])
    # Sorted by (x, y), pairs tied in either are no inversions, so these are the discordant ones.
    discordant = count_inversions(of_y[np.lexsort((of_y, of_x))])
    concordant = pairs - ties_x - ties_y + ties_both - discordant
    # Python's integers: the product of two numbers of pairs does not fit 64 bits.
    return float((concordant - discordant) / ((pairs - ties_x) * (pairs - ties_y)) ** 0.5)


def _tied_pairs(codes: NDArray[np.int64]) -> int:
    counts = np.bincount(codes).astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def count_inversions(values: NDArray[np.int64]) -> int:
    """Count the pairs that stand in the wrong order: i before j though its value is larger.

    The values are sorted bit by bit from the highest, each pass stable: two values part at the
    highest bit that they differ in, and are an inversion if the one that has it set comes first.

    Parameters
    ----------
    values : int64 array, shape (n,)
        Not negative.
    """
    total = 0
    for bit in range(int(values.max(initial=0)).bit_length() - 1, -1, -1):
        is_set = (values >> bit) & 1
        block = values >> (bit + 1)  # those whose higher bits agree stand together
        first = np.searchsorted(block, block)
        before = np.concatenate([[0], np.cumsum(is_set)])
        total += int((before[:-1] - before[first])[is_set == 0].sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return total
