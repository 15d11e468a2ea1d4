"""Groups of rows: classes, sources, languages."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each row belongs to.

    Attributes
    ----------
    codes : int32 array, shape (n,)
        Group numbers 0 ... g - 1, each used at least once.
    names : tuple of str, length g
        What the groups are called, ascending by label.
    """

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.codes) and (self.counts() == 0).any():
            raise ValueError("every group needs at least one row")

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.names)

    def counts(self) -> NDArray[np.int64]:
        """Return the rows of each group, (g,)."""
        return np.bincount(self.codes, minlength=self.n_groups).astype(np.int64)

    def rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of each group, ascending."""
        order = np.argsort(self.codes, kind="stable")
        yield from np.split(order, np.cumsum(self.counts())[:-1])


def group_by(labels: NDArray[np.generic]) -> Groups:
    """Group rows by their labels (n,): numbers, booleans or strings, without gaps."""
    names, codes = np.unique(labels, return_inverse=True)
    return Groups(codes.astype(np.int32), tuple(str(name) for name in names.tolist()))


def one_group(n_samples: int) -> Groups:
    """Put all rows into one group."""
    return Groups(np.zeros(n_samples, dtype=np.int32), ("all",))
