"""The tables of artifacts: their columns, read within the memory there is.

Nothing here knows what is in them; `d2cli.files.artifacts` seals and verifies.
"""

import os
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, DamagedError, InputError
from d2cli.files import memory
from d2cli.files.remote import Place, Remote, as_place
from d2cli.files.sources import STDIN, native_file, read_stdin
from d2cli.files.tables import check_row_count
from d2cli.files.unpacking import unpacking

Kind = Literal["graph", "difficulty", "scores", "selection", "checkpoint", "part"]

META = b"d2"  # the key of the metadata
MAKERS = {
    "graph": "d2 graph",
    "difficulty": "d2 difficulty",
    "scores": "d2 score",
    "selection": "d2 select",
    "checkpoint": "d2 stream",
    "part": "d2 select --partitions",
}

# The columns that are read and that a digest covers, in this order; a file may hold others too.
COLUMNS: dict[str, tuple[str, ...]] = {
    "graph": ("id", "within", "neighbors", "distances", "index"),
    "difficulty": (
        "id", "forgetting", "ever_correct", "aum", "el2n", "entropy", "variance", "variability",
        "confidence", "dynamic_uncertainty", "dual", "neighbor_distance", "label_disagreement",
        "prototypicality",
    ),
    "scores": ("id", "difficulty", "score", "pool"),
    "selection": (
        "row", "id", "rank", "difficulty", "score", "score_at_pick", "group",
    ),
    "checkpoint": (
        "row", "id", "rank", "difficulty", "score", "score_at_pick", "value", "vector", "near",
        "met", "sum", "windows",
    ),
    "part": (
        "row", "score_at_pick", "received", "vector", "place", "position", "point", "size",
        "center", "neighbors", "distances", "cell", "square", "limit", "searched",
    ),
}  # fmt: skip


# Read in portions, a list column needs little more memory than its values: no second copy of the
# file's bytes, and the level numbers, which are as large as the values, never for a whole column.
BUFFER_BYTES = 1 << 20
PORTION = 1 << 18  # values


def column_of(table: pa.Table, name: str) -> pa.Array:
    """Return a column in one piece; the very buffers of the table where it is in one already."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def flat_values(lists: pa.Array) -> NDArray[Any]:
    """Return the numbers (n * width,) of lists of one width, without a copy.

    Raises
    ------
    ValueError
        If a list or a number is missing.
    """
    if lists.null_count:
        raise ValueError("a list is missing")
    width = lists.type.list_size
    # Not by `flatten`, which loads pyarrow.compute.
    values: NDArray[Any] = lists.values.slice(lists.offset * width, len(lists) * width).to_numpy()
    return values


def _require(name: str, schema: pa.Schema, n_rows: int) -> None:
    """Refuse a table that does not fit into memory, with what is made of a graph."""
    plain = 0
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            if field.name == "neighbors":
                memory.require_graph(name, n_rows, field.type.list_size)
        else:
            plain += 1
    memory.require_rows(name, "read the columns", n_rows, 16 * plain)


def _read_columns(name: str, file: pq.ParquetFile) -> pa.Table:
    """Read the columns that artifacts have; none from a file that is not an artifact."""
    schema = file.schema_arrow
    known = {name for columns in COLUMNS.values() for name in columns}
    if META not in (schema.metadata or {}):
        return schema.empty_table()
    fields = [field for field in schema if field.name in known]
    if len({field.name for field in fields}) < len(fields):
        raise ValueError("a column stands twice")
    check_row_count(file.metadata)
    _require(name, pa.schema(fields), file.metadata.num_rows)
    columns = [
        _read_lists(file, field)
        if pa.types.is_fixed_size_list(field.type)
        else file.read(columns=[field.name], use_threads=False).column(0)
        for field in fields
    ]
    return pa.table(columns, schema=pa.schema(fields, schema.metadata))


def _read_lists(file: pq.ParquetFile, field: pa.Field) -> pa.Array:
    """Read a column of lists of one width, filling one array portion by portion."""
    kind, width = field.type.value_type, field.type.list_size
    flat = np.empty(file.metadata.num_rows * width, dtype=kind.to_pandas_dtype())
    at, array = 0, pa.Array.from_buffers(kind, len(flat), [None, pa.py_buffer(flat)])
    for batch in file.iter_batches(
        batch_size=max(PORTION // max(width, 1), 1), columns=[field.name], use_threads=False
    ):
        values = flat_values(batch.column(0))
        flat[at : at + len(values)] = values
        at += len(values)
    if at < len(flat):
        raise ValueError("the file ends early")
    return pa.FixedSizeListArray.from_arrays(array, type=field.type)


def read_table(ref: str | Place, name: str, kind: Kind) -> pa.Table:
    """Read the columns and the metadata of an artifact, of which nothing is verified yet.

    Raises
    ------
    InputError
        If there is no such file, or the system cannot read it.
    ArtifactError
        If it is neither Parquet nor an Arrow stream, or damaged.
    ResourceError
        If it does not fit into memory.
    """
    try:
        if ref == STDIN:
            data: Any = pa.py_buffer(read_stdin())
            head = data.to_pybytes()[:4] if data.size < 4 else data.slice(0, 4).to_pybytes()
        else:
            data = as_place(ref)
            if isinstance(data, Remote) or data.is_file():
                with data.open("rb") as file:
                    head = file.read(4)
            else:
                read = data.read_bytes()
                data, head = pa.py_buffer(read), read[:4]
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file", hint=f"make it with `{MAKERS[kind]}`") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    try:
        if head == b"PAR1":
            source = native_file(data) if isinstance(data, Place) else pa.BufferReader(data)
            with (
                pq.ParquetFile(
                    source,
                    page_checksum_verification=True,
                    pre_buffer=False,
                    buffer_size=BUFFER_BYTES,
                ) as file,
                unpacking(name, "read the columns"),
            ):
                return _read_columns(name, file)
        if head == b"\xff\xff\xff\xff":
            buffer = pa.py_buffer(data.read_bytes()) if isinstance(data, Place) else data
            with unpacking(name, "read the columns"):
                table = pa.ipc.open_stream(buffer).read_all()
            table.validate(full=True)
            _require(name, table.schema, table.num_rows)
            return table
    except MemoryError:  # which pyarrow's own is, too
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not the format's
            raise InputError(f"{name}: cannot be read: {os.strerror(error.errno)}") from error
        first_line = (str(error).splitlines() or [""])[0]
        raise DamagedError(
            f"{name}: is damaged or cut short: {first_line}", hint="make it again"
        ) from error
    raise ArtifactError(
        f"{name}: is not written by d2, expected a {kind} file",
        hint=f"make one with `{MAKERS[kind]}`",
    )
