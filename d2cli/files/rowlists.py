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
    found = _read(text, rows, sources)
    unique, first = np.unique(found, return_index=True)
    if len(unique) < len(found):
        repeated = np.ones(len(found), dtype=np.bool_)
        repeated[first] = False
        raise InputError(
            f"{text}: entry {int(repeated.argmax())} names a row for the second time "
            f"({int(repeated.sum()):,} such in all)"
        )
    return found


def _read(text: str, rows: Rows, sources: Sources) -> NDArray[np.int64]:
    file, separator, name = text.partition("::")
    separator = "" if exists(text) else separator
    source = sources.open(file if separator else text, as_list=True)
    ids = rows.ids is not None
    names = [name] if separator else ["", *(["id", "uid"] if ids else ["row"])]
    for candidate in names:
        if candidate in source.columns:
            labels = read_labels(fitting(source, source.columns[candidate], "id"))
            lone_array = candidate == "" and source.array("") is not None
            if ids and not lone_array:
                return rows.lookup(labels, text)
            return _row_numbers(labels, text, rows.n_rows)
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
