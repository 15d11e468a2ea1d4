"""Lists of rows that the user names: for ``--include`` and ``--exclude``."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.alignment import Rows
from d2cli.files.colref import fitting
from d2cli.files.columns import read_labels
from d2cli.files.paths import exists
from d2cli.files.sources import Sources


def read_rows(text: str, rows: Rows, sources: Sources) -> NDArray[np.int64]:
    """Read a list of rows in file order.

    NPY holds row numbers, as ``d2 select -o keep.npy`` writes them. Text (one a line) and columns
    of Parquet, Arrow, CSV and JSON lines hold ids where the data have ids, else row numbers; a
    table is read by its column ``id``, ``uid`` or ``row``, or by ``FILE::COLUMN``.

    Parameters
    ----------
    text : str
        FILE or FILE::COLUMN.
    rows : Rows
        The rows of the data.
    sources : Sources
        Opens files.

    Returns
    -------
    int64 array, all different

    Raises
    ------
    InputError
        If an entry is unknown, out of range, or stands twice.
    """
    labels, numbered = _read(text, sources, ids=rows.ids is not None)
    found = _row_numbers(labels, text, rows.n_rows) if numbered else rows.lookup(labels, text)
    _refuse_repeated(text, found)
    return found


def read_entries(text: str, sources: Sources, *, ids: bool) -> pa.Array:
    """Read a list of rows that are still to come: ids if the data have ids, else row numbers.

    Parameters, order and errors are those of `read_rows`, but for entries that are no row.

    Returns
    -------
    Arrow array
        Of int64 for row numbers, else as `d2cli.files.columns.read_labels` returns ids.
    """
    labels, numbered = _read(text, sources, ids=ids)
    if ids and numbered:
        raise InputError(
            f"{text}: holds row numbers, but the stream has ids",
            hint="list ids, or stream with --id none",
        )
    if numbered:
        labels = pa.array(_row_numbers(labels, text, np.iinfo(np.int64).max))
    _refuse_repeated(text, np.asarray(labels.dictionary_encode().indices))
    return labels


def _refuse_repeated(text: str, found: NDArray[np.integer]) -> None:
    """Raise InputError if a number stands twice."""
    unique, first = np.unique(found, return_index=True)
    if len(unique) < len(found):
        repeated = np.ones(len(found), dtype=np.bool_)
        repeated[first] = False
        raise InputError(
            f"{text}: entry {int(repeated.argmax())} names a row for the second time "
            f"({int(repeated.sum()):,} such in all)"
        )


def _read(text: str, sources: Sources, *, ids: bool) -> tuple[pa.Array, bool]:
    """Return the entries of a list, and whether they are row numbers."""
    file, separator, name = text.partition("::")
    separator = "" if exists(text) else separator
    source = sources.open(file if separator else text, as_list=True)
    names = [name] if separator else ["", *(["id", "uid"] if ids else ["row"])]
    for candidate in names:
        if candidate in source.columns:
            labels = read_labels(fitting(source, source.columns[candidate], "id"))
            lone_array = candidate == "" and source.array("") is not None
            return labels, not ids or lone_array
    wanted = " or ".join(repr(candidate) for candidate in names if candidate)
    raise InputError(
        f"{text}: no column {wanted}; it has {', '.join(source.columns)}",
        hint="name the column as FILE::COLUMN",
    )


def _row_numbers(values: pa.Array, where: str, n_rows: int) -> NDArray[np.int64]:
    if pa.types.is_large_string(values.type):
        import pyarrow.compute as pc

        values = pc.utf8_trim_whitespace(values)
        wrong = pc.invert(pc.match_substring_regex(values, "^-?[0-9]{1,18}$"))
        if pc.any(wrong).as_py():
            entry = int(np.asarray(wrong).argmax())
            raise InputError(
                f"{where}: entry {entry} is {values[entry].as_py()!r}, expected a row number, "
                "because the data have no ids"
            )
    elif not pa.types.is_int64(values.type) and len(values):
        raise InputError(f"{where}: is {values.type}, expected row numbers")
    numbers = np.asarray(values.cast(pa.int64()))
    outside = (numbers < 0) | (numbers >= n_rows)
    if outside.any():
        entry = int(outside.argmax())
        raise InputError(
            f"{where}: entry {entry} is row {numbers[entry]}, expected 0 to {n_rows - 1} "
            f"({int(outside.sum()):,} such in all)"
        )
    return numbers.astype(np.int64)
