"""Rows with a defect: the first, how many, one error for all of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError


def count_rows(count: int) -> str:
    """Return "1 row" or "1,234 rows"."""
    return "1 row" if count == 1 else f"{count:,} rows"


@dataclass
class Defect:
    """Collects the rows that share one defect, block by block.

    Attributes
    ----------
    what : str
        Follows "row 17", as in "is null".
    hint : str
        What to do about it.
    """

    what: str
    hint: str
    count: int = 0
    first: int = -1

    def add(self, start: int, bad: NDArray[np.bool_], what: str | None = None) -> None:
        """Take in a block of rows from ``start`` on; ``what`` replaces the text if it is first."""
        if not bad.any():
            return
        if not self.count:
            self.first = start + int(bad.argmax())
            self.what = what or self.what
        self.count += int(bad.sum())

    def refuse(self, where: str | None = None) -> None:
        """Raise InputError, beginning with ``where``, if any row has the defect."""
        if self.count:
            error = InputError(
                f"row {self.first} {self.what} ({count_rows(self.count)} in all)", hint=self.hint
            )
            raise error.at(where) if where else error
