"""A few values of a column, for people to look at: texts, the paths of images, or images."""

from collections.abc import Iterator
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
from d2cli.files.shards import batches_with
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
        """Return the texts of some rows, cut to 400 characters; missing values are left out.

        Of an image it is the path that is stored with it, or else how large it is.
        """
        texts = ((row, _text(value)) for row, value in self._values(rows))
        return {row: shorten(text, LONGEST) for row, text in sorted(texts) if text is not None}

    def images(self, rows: list[int]) -> Iterator[tuple[int, bytes]]:
        """Yield the contents of the images of some rows, one at a time; none of other columns."""
        if self.ref.column.kind == "images":
            for row, value in self._values(rows):
                if value is not None and value["bytes"] is not None:
                    yield row, value["bytes"]

    def _values(self, rows: list[int]) -> Iterator[tuple[int, Any]]:
        wanted = np.unique(np.array(rows, dtype=np.int64))
        places = wanted if self.matched is None else self.matched[wanted]
        for at, value in _values_at(self.ref, places):
            yield int(wanted[at]), value


def find_excerpts(sources: Sources, text: str, rows: Rows, home: Source | None) -> Excerpts:
    """Find the column that a COLREF means, and match its rows; reads at most its ids.

    Raises
    ------
    InputError
        If there is no such column, it holds neither text, numbers nor images, or its rows do not
        match.
    """
    ref = resolve(text, "shown", sources, home)
    array = ref.source.array(ref.column.name)
    length = ref.source.n_rows if array is None else len(array)
    return Excerpts(ref, rows.rows_of(ref, length))


def _text(value: Any) -> str | None:  # noqa: ANN401
    if not isinstance(value, dict):
        return None if value is None else str(value)
    if value["path"] is not None or value["bytes"] is None:
        return value["path"]  # type: ignore[no-any-return]
    return f"image, {len(value['bytes']):,} bytes"


def _values_at(ref: ColumnRef, places: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
    """Yield the values at some rows of a column, each with its place among them."""
    array = ref.source.array(ref.column.name)
    if array is not None:
        yield from ((at, array[place].item()) for at, place in enumerate(places))
        return
    order = np.argsort(places, kind="stable")
    ascending = places[order]
    for start, batch in batches_with(ref.source, ref.column.name, ascending):
        low, high = np.searchsorted(ascending, [start, start + len(batch)])
        for i in range(int(low), int(high)):
            yield int(order[i]), _plain(batch[int(ascending[i]) - start])


def _plain(value: pa.Scalar) -> Any:  # noqa: ANN401
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return None
