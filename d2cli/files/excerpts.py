"""A few values of a column, for people to read: texts, or the paths of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.files.addresses import is_remote
from d2cli.files.alignment import Rows
from d2cli.files.colref import resolve
from d2cli.files.column import Source
from d2cli.files.columns import ColumnRef
from d2cli.files.paths import exists
from d2cli.files.sources import Sources
from d2cli.render.wording import shorten

LONGEST = 400  # characters that are kept of a value


@dataclass(frozen=True, eq=False)
class Excerpts:
    """A column that is to be shown, not read yet.

    Attributes
    ----------
    ref : ColumnRef
    matched : int64 array, shape (n,), or None
        The row of the column for each of the data's rows; None if they are the same.
    """

    ref: ColumnRef
    matched: NDArray[np.int64] | None

    @property
    def title(self) -> str:
        """The column's name."""
        return self.ref.title

    @property
    def folder(self) -> Path | None:
        """The folder that paths in the column start from; None for standard input and addresses."""
        if is_remote(self.ref.source.name):
            return None
        path = Path(self.ref.source.name)
        while not exists(path) and any(c in str(path) for c in "*?["):  # of a pattern
            path = path.parent
        if not exists(path):
            return None
        return path if path.is_dir() else path.parent

    def of(self, rows: list[int]) -> dict[int, str]:
        """Return the texts of some rows, cut to 400 characters; missing values are left out."""
        wanted = np.unique(np.array(rows, dtype=np.int64))
        places = wanted if self.matched is None else self.matched[wanted]
        values = _values_at(self.ref, places)
        return {
            int(row): shorten(str(value), LONGEST)
            for row, value in zip(wanted, values, strict=True)
            if value is not None
        }


def find_excerpts(sources: Sources, text: str, rows: Rows, home: Source | None) -> Excerpts:
    """Find the column that a COLREF means, and match its rows; reads at most its ids.

    Raises
    ------
    InputError
        If there is no such column, it holds neither text nor numbers, or its rows do not match.
    """
    ref = resolve(text, "label", sources, home)
    array = ref.source.array(ref.column.name)
    length = ref.source.n_rows if array is None else len(array)
    return Excerpts(ref, rows.rows_of(ref, length))


def _values_at(ref: ColumnRef, places: NDArray[np.int64]) -> list[Any]:
    """Return the values at some rows of a column, read in batches."""
    array = ref.source.array(ref.column.name)
    if array is not None:
        return [array[place].item() for place in places]
    order = np.argsort(places, kind="stable")
    ascending = places[order]
    found: list[Any] = [None] * len(places)
    start = 0
    for batch in ref.source.batches(ref.column.name):
        low, high = np.searchsorted(ascending, [start, start + len(batch)])
        for i in range(int(low), int(high)):
            found[int(order[i])] = _plain(batch[int(ascending[i]) - start])
        start += len(batch)
    return found


def _plain(value: pa.Scalar) -> Any:  # noqa: ANN401
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return None
