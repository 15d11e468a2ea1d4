"""The ids of a stream's rows, and lists of rows that are to be kept when they come."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.columns import check_unique
from d2cli.files.rowlists import read_entries
from d2cli.files.sources import Sources


def no_ids(kind: Any) -> pa.Array | None:  # noqa: ANN401
    """Return the ids of no rows, of an Arrow type; None if there are no ids."""
    return None if kind is None else pa.array([], kind)


def joined(held: pa.Array | None, new: pa.Array | None, first: int) -> pa.Array | None:
    """Return the ids of rows held and of a window, whose first row has the number ``first``.

    Raises
    ------
    InputError
        If an id stands twice. That of a row dropped before is not known any more.
    """
    if held is None or new is None:
        return None
    ids = pa.concat_arrays([held, new])
    check_unique(ids, f"the {len(held):,} rows held, then rows {first:,} and on of the stream")
    return ids


def taken(ids: pa.Array | None, places: NDArray[np.int64]) -> pa.Array | None:
    """Return the ids at some places."""
    return None if ids is None else ids.take(pa.array(places))


def read_list(text: str, sources: Sources, kind: Any) -> pa.Array:  # noqa: ANN401
    """Read a list of ids of an Arrow type, or of row numbers if that is None.

    Raises
    ------
    InputError
        If an entry stands twice or can be no id of that type.
    """
    found = read_entries(text, sources, ids=kind is not None)
    try:
        return found if kind is None else found.cast(kind)
    except pa.ArrowInvalid as error:
        raise InputError(f"{text}: {error}") from error


def places_of(
    entries: pa.Array, rows: NDArray[np.int64], ids: pa.Array | None
) -> NDArray[np.int64]:
    """Return where the entries of a list are among some rows, in its order; -1 if they are not."""
    import pyarrow.compute as pc

    found = pc.index_in(entries, value_set=pa.array(rows) if ids is None else ids)
    return np.asarray(found.fill_null(-1)).astype(np.int64)
