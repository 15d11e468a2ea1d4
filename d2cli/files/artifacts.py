"""Stage results as files: one table with sealed metadata.

On disk an artifact is a Parquet file, through a pipe an Arrow IPC stream. The key-value metadata
``d2`` holds JSON: kind, schema version, key, parameters, input digests, results, versions, and a
digest of the columns and of all this. The digest is verified on every read.
"""

import io
import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3
from numpy.typing import NDArray

import d2cli
from d2cli.errors import ArtifactError, DamagedError, InputError
from d2cli.files import memory
from d2cli.files.digests import canonical_json, digest_json, digest_labels, parse_json
from d2cli.files.paths import refuse_slash
from d2cli.files.publish import write_atomically
from d2cli.files.remote import Place, Remote, as_place
from d2cli.files.sources import STDIN, native_file, read_stdin
from d2cli.files.tables import check_row_count

Kind = Literal["graph", "difficulty", "scores", "selection"]

SCHEMA_VERSION = 1
GROUP_ROWS = 1 << 16  # written at a time: a list column's level numbers are as large as its values
META, LOCATOR, CARRIED = b"d2", b"d2_graph_path", b"d2_graph"
ROW_ORDER = b"d2_row_order"
SEAL = b"d2_seal"  # digest of all of these, two of which have no other
MAKERS = {
    "graph": "d2 graph",
    "difficulty": "d2 difficulty",
    "scores": "d2 score",
    "selection": "d2 select",
}


@dataclass(frozen=True, eq=False)
class Artifact:
    """A table and what is known about it.

    Attributes
    ----------
    name : str
        Where it came from, for messages.
    meta : dict
        The sealed metadata.
    table : Arrow table
    graph_path : str or None
        Scores only: the graph's path relative to this file. Outside key and digest.
    graph : Artifact or None
        Scores only: the graph that comes along, through a pipe.
    row_order : dict or None
        How the rows of the source followed one another when this was made; see
        `d2cli.files.roworder`. Outside key and digest: the same rows in other files give the same
        result.
    """

    name: str
    meta: dict[str, Any]
    table: pa.Table
    graph_path: str | None = None
    graph: "Artifact | None" = None
    row_order: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """What the result depends on."""
        return str(self.meta["key"])

    @property
    def digest(self) -> str:
        """Digest of columns and metadata."""
        return str(self.meta["digest"])


def stage_key(stage: str, version: int, parameters: dict[str, Any], inputs: dict[str, Any]) -> str:
    """Return the key of a stage: digest of parameters, code version and input digests."""
    return digest_json(
        {
            "stage": stage,
            "stage_version": version,
            "schema_version": SCHEMA_VERSION,
            "parameters": parameters,
            "inputs": inputs,
        }
    )


def seal(
    kind: Kind,
    table: pa.Table,
    *,
    key: str,
    parameters: dict[str, Any],
    inputs: dict[str, Any],
    results: dict[str, Any],
) -> Artifact:
    """Join a table with its metadata and digest."""
    meta = {
        "kind": kind,
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "n_rows": table.num_rows,
        "parameters": parameters,
        "inputs": inputs,
        "results": results,
        "versions": library_versions(),
    }
    table = table.combine_chunks().replace_schema_metadata(None)
    meta["digest"] = _digest(meta, table)
    # As it will be read again, so that a report is the same whether or not it was made on the way.
    return Artifact(f"the {kind}", parse_json(canonical_json(meta)), table)


def library_versions() -> dict[str, str]:
    """Return the versions that may change bytes."""
    from importlib.metadata import version  # slow, and only needed where something is made

    return {
        "d2cli": d2cli.__version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "hnswlib": version("hnswlib"),
    }


def _digest(meta: dict[str, Any], table: pa.Table) -> str:
    rest = {name: value for name, value in meta.items() if name != "digest"}
    state = blake3(canonical_json(rest).encode())
    for name in table.column_names:
        values = column_of(table, name)
        if pa.types.is_fixed_size_list(values.type):
            # Not the type's own name: Parquet and Arrow call the list's item differently.
            width = values.type.list_size
            flat = flat_values(values)
            state.update(f"{name}{flat.dtype.str}{width}".encode())
            state.update(np.ascontiguousarray(flat).data.cast("B"))
        else:
            state.update(name.encode())
            state.update(digest_labels(values).encode())
    return state.hexdigest()


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


# --- writing --------------------------------------------------------------------------------------


def _encode(artifact: Artifact) -> pa.Table:
    """Return the table to be written: own columns, those of a graph that comes along, metadata."""
    table, meta = artifact.table, {META: canonical_json(artifact.meta).encode()}
    if artifact.graph is not None:
        meta[CARRIED] = canonical_json(artifact.graph.meta).encode()
        carried = artifact.graph.table
        for name in carried.column_names:
            if name not in table.column_names:
                table = table.append_column(carried.field(name), carried.column(name))
    elif artifact.graph_path is not None:
        meta[LOCATOR] = os.fsencode(artifact.graph_path)
    if artifact.row_order is not None:
        meta[ROW_ORDER] = canonical_json(artifact.row_order).encode()
    meta[SEAL] = _seal_of(meta)
    return table.replace_schema_metadata(meta)


def _seal_of(metadata: dict[bytes, bytes]) -> bytes:
    """Return the digest of everything that d2 keeps in the metadata of a file."""
    state = blake3()
    for name in (META, LOCATOR, CARRIED, ROW_ORDER):
        value = metadata.get(name)
        state.update(b"-" if value is None else f"{len(value)}:".encode() + value)
    return state.hexdigest().encode()


def write_artifact(path: Place, artifact: Artifact) -> Artifact:
    """Publish an artifact as a Parquet file; return it under that name."""
    table = _encode(artifact)
    write_atomically(
        path,
        lambda file: pq.write_table(
            table,
            file,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
            row_group_size=GROUP_ROWS,
        ),
        size=table.nbytes,
    )
    return replace(artifact, name=str(path))


def to_stream(artifact: Artifact) -> bytes:
    """Return an artifact as an Arrow IPC stream."""
    table, out = _encode(artifact), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


# --- reading --------------------------------------------------------------------------------------


def read_artifact(ref: str | Place, kind: Kind) -> Artifact:
    """Read and verify an artifact from a path or address, or from standard input for ``-``.

    Raises
    ------
    InputError
        If there is no such file.
    ArtifactError
        If it is no d2 artifact, of another kind or version, or damaged.
    """
    if ref != STDIN:
        refuse_slash(ref)
    name = "standard input" if ref == STDIN else str(as_place(ref))
    table = _read_table(ref, name, kind)
    metadata = table.schema.metadata or {}
    if META not in metadata:
        raise ArtifactError(
            f"{name}: is not written by d2, expected a {kind} file",
            hint=f"make one with `{MAKERS[kind]}`",
        )
    # Files of before there were seals have none; nor has one whose seal's name is damaged.
    unsealed = metadata.get(SEAL) != _seal_of(metadata)
    if unsealed and metadata.keys() & {SEAL, LOCATOR, CARRIED, ROW_ORDER}:
        raise DamagedError(
            f"{name}: is damaged: its metadata do not match their digest", hint="make it again"
        )
    locator = metadata.get(LOCATOR)
    artifact = _open(
        name, metadata[META], table, kind, os.fsdecode(locator) if locator is not None else None
    )
    artifact = replace(artifact, row_order=_row_order(metadata))
    if CARRIED not in metadata:
        return artifact
    graph = _open(f"{name} (its graph)", metadata[CARRIED], table, "graph", None)
    return replace(artifact, graph=replace(graph, row_order=artifact.row_order))


def _row_order(metadata: dict[bytes, bytes]) -> dict[str, Any] | None:
    """Return what a file says of the order of its rows; None where that is nothing or damaged."""
    try:
        found = parse_json(metadata.get(ROW_ORDER, b"null"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def peek(path: Place) -> dict[str, Any]:
    """Return the metadata at the end of an artifact's file, not verified; empty if it is none."""
    try:
        metadata = pq.read_metadata(native_file(path)).metadata or {}
        meta = parse_json(metadata.get(META, b"{}"))
    except (pa.ArrowException, OSError, ValueError, InputError):
        return {}
    return meta if isinstance(meta, dict) else {}


def seems_ours(path: Place) -> bool:
    """Return whether a file has any of our metadata, be they whole or damaged."""
    try:
        metadata = pq.read_metadata(native_file(path)).metadata or {}
    except (pa.ArrowException, OSError, ValueError, InputError):
        return False
    return bool(metadata.keys() & {META, LOCATOR, CARRIED, ROW_ORDER, SEAL})


def peek_artifact(path: Place) -> Artifact | None:
    """Return an artifact without its rows, not verified; None if a file is none."""
    meta = peek(path)
    known = all(name in meta for name in ("kind", "key", "digest", "parameters", "inputs"))
    return Artifact(str(path), meta, pa.table({})) if known else None


def _open(name: str, text: bytes, table: pa.Table, kind: Kind, graph_path: str | None) -> Artifact:
    damaged = DamagedError(
        f"{name}: is damaged: its contents do not match its digest", hint="make it again"
    )
    try:
        meta = parse_json(text)
        found, schema = str(meta["kind"]), int(meta["schema_version"])
        own = table.select([c for c in COLUMNS.get(found, ()) if c in table.column_names])
        own = own.combine_chunks().replace_schema_metadata(None)
    except (ValueError, KeyError, TypeError, OverflowError, pa.ArrowException) as error:
        raise damaged from error
    if found != kind:
        raise ArtifactError(
            f"{name}: is a {found} file, expected a {kind} file",
            hint=f"make one with `{MAKERS[kind]}`",
        )
    if schema != SCHEMA_VERSION:
        raise ArtifactError(
            f"{name}: has schema version {schema}, expected {SCHEMA_VERSION}",
            hint="it was made by another version of d2; make it again",
        )
    try:
        whole = _digest(meta, own) == meta.get("digest") and own.num_rows == meta.get("n_rows")
    except (ValueError, TypeError, RecursionError, pa.ArrowException) as error:
        raise damaged from error
    if not whole:
        raise damaged
    return Artifact(name, meta, own, graph_path)


# The columns that are read and that a digest covers, in this order; a file may hold others too.
COLUMNS: dict[str, tuple[str, ...]] = {
    "graph": ("id", "within", "neighbors", "distances"),
    "difficulty": (
        "id", "forgetting", "ever_correct", "aum", "el2n", "entropy", "variance", "variability",
        "confidence", "dynamic_uncertainty", "dual", "neighbor_distance", "label_disagreement",
        "prototypicality",
    ),
    "scores": ("id", "difficulty", "score", "pool"),
    "selection": (
        "row", "id", "rank", "difficulty", "score", "score_at_pick", "group",
    ),
}  # fmt: skip


# Read in portions, a list column needs little more memory than its values: no second copy of the
# file's bytes, and the level numbers, which are as large as the values, never for a whole column.
BUFFER_BYTES = 1 << 20
PORTION = 1 << 18  # values


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


def _read_table(ref: str | Place, name: str, kind: str) -> pa.Table:
    try:
        if ref == STDIN:
            data: Any = pa.py_buffer(read_stdin())
            head = data.slice(0, 4).to_pybytes()
        else:
            data = as_place(ref)
            if isinstance(data, Remote) or data.is_file():
                with data.open("rb") as file:
                    head = file.read(4)
            else:
                data = pa.py_buffer(data.read_bytes())
                head = data.slice(0, 4).to_pybytes()
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file", hint=f"make it with `{MAKERS[kind]}`") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    try:
        if head == b"PAR1":
            source = native_file(data) if isinstance(data, Place) else pa.BufferReader(data)
            with pq.ParquetFile(
                source,
                page_checksum_verification=True,
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
            ) as file:
                return _read_columns(name, file)
        if head == b"\xff\xff\xff\xff":
            buffer = pa.py_buffer(data.read_bytes()) if isinstance(data, Place) else data
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
