"""Lists of rows that the user names: for ``--include`` and ``--exclude``."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.alignment import Rows
from d2cli.files.colref import fitting
from d2cli.files.columns import ColumnRef, read_labels
from d2cli.files.paths import exists, is_file
from d2cli.files.sources import Sources

TEXT_SUFFIXES = (".txt", ".csv", "")


def read_rows(text: str, rows: Rows, sources: Sources) -> NDArray[np.int64]:
    """Read a list of rows in file order.

    NPY holds row numbers, as ``d2 select -o keep.npy`` writes them. Text (one a line) and Parquet
    or Arrow columns hold ids where the data have ids, else row numbers; a table is read by its
    column ``id``, ``uid`` or ``row``, or by ``FILE::COLUMN``.

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
    path = Path(text)
    if is_file(path) and path.suffix.lower() in TEXT_SUFFIXES:
        found = _from_lines(path, rows)
        sources.paths.append(path)
    else:
        found = _from_column(text, rows, sources)
    unique, first = np.unique(found, return_index=True)
    if len(unique) < len(found):
        repeated = np.ones(len(found), dtype=np.bool_)
        repeated[first] = False
        raise InputError(
            f"{text}: entry {int(repeated.argmax())} names a row for the second time "
            f"({int(repeated.sum()):,} such in all)"
        )
    return found


def _from_lines(path: Path, rows: Rows) -> NDArray[np.int64]:
    try:
        lines = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error
    entries = [line for line in lines if line]
    if rows.ids is not None:
        return rows.lookup(pa.array(entries, pa.large_string()), str(path))
    return _row_numbers(pa.array(entries, pa.large_string()), str(path), rows.n_rows)


def _from_column(text: str, rows: Rows, sources: Sources) -> NDArray[np.int64]:
    file, separator, name = text.partition("::")
    source = sources.open(text if exists(text) or not separator else file)
    if "" in source.columns:  # a lone array
        return _row_numbers(read_labels(ColumnRef(source, source.columns[""])), text, rows.n_rows)
    names = [name] if separator else (["id", "uid"] if rows.ids is not None else ["row"])
    for candidate in names:
        if candidate in source.columns:
            labels = read_labels(fitting(source, source.columns[candidate], "id"))
            if rows.ids is not None:
                return rows.lookup(labels, text)
            return _row_numbers(labels, text, rows.n_rows)
    raise InputError(
        f"{text}: no column {' or '.join(repr(n) for n in names)}; "
        f"it has {', '.join(source.columns)}",
        hint="name the column as FILE::COLUMN",
    )


def _row_numbers(values: pa.Array, where: str, n_rows: int) -> NDArray[np.int64]:
    if pa.types.is_large_string(values.type):
        wrong = pc.invert(pc.match_substring_regex(values, "^-?[0-9]{1,18}$"))
        if pc.any(wrong).as_py():
            entry = int(np.asarray(wrong).argmax())
            raise InputError(
                f"{where}: entry {entry} is {values[entry].as_py()!r}, expected a row number, "
                "because the data have no ids"
            )
    elif not pa.types.is_int64(values.type):
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
