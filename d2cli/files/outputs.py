"""Selections as the files that other tools take, and as lines of text."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.artifacts import Artifact
from d2cli.files.publish import is_device
from d2cli.files.remote import Place

SELECTION_SUFFIXES = (".parquet", ".npy", ".txt", ".csv", ".jsonl")
ARTIFACT_SUFFIXES = (".parquet", ".pq")
REPORT_SUFFIXES = (".json", ".md")


def check_suffix(path: Place, allowed: tuple[str, ...], what: str) -> None:
    """Raise ParameterError unless a file's ending is one that can be written."""
    if path.suffix.lower() not in allowed and not is_device(path):
        raise ParameterError(
            f"{path}: {what} cannot be written as '{path.suffix or path.name}'",
            hint=f"end the name in {', '.join(allowed)}",
        )


def in_order(selection: Artifact, order: str) -> pa.Table:
    """Return the table of a selection ascending by "row" or by "rank"."""
    if order == "row":
        return selection.table
    return selection.table.take(pa.array(np.argsort(selection.table.column("rank").to_numpy())))


def to_lines(table: pa.Table) -> bytes:
    """Return one id a line, or one row number where there are no ids.

    Raises
    ------
    InputError
        If an id is empty or holds a line break.
    """
    ids = "id" in table.column_names
    column = table.column("id" if ids else "row").to_pylist()
    lines = [str(value) for value in column]
    for value in lines if ids else ():
        if not value or "\n" in value or "\r" in value:
            defect = "holds a line break" if value else "is empty"
            raise InputError(
                f"id {value!r} {defect}, so ids cannot be written one a line",
                hint="write .parquet, .csv or .jsonl instead",
            )
    return "".join(f"{line}\n" for line in lines).encode()


def to_npy(table: pa.Table) -> bytes:
    """Return the row numbers as NPY, int64."""
    rows: NDArray[np.int64] = table.column("row").to_numpy()
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(rows), allow_pickle=False)
    return out.getvalue()


def to_csv(table: pa.Table) -> bytes:
    """Return all columns as CSV with a header."""
    out = io.BytesIO()
    pa.csv.write_csv(table, out)
    return out.getvalue()


def to_jsonl(table: pa.Table) -> bytes:
    """Return one JSON object a row."""
    lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
    return "".join(f"{line}\n" for line in lines).encode()


def to_bytes(selection: Artifact, suffix: str, order: str) -> bytes:
    """Return a selection in the format of a suffix other than ``.parquet``."""
    write = {".npy": to_npy, ".txt": to_lines, ".csv": to_csv, ".jsonl": to_jsonl}[suffix]
    return write(in_order(selection, order))
