"""Stage results as files: one table with sealed metadata.

On disk an artifact is a Parquet file, through a pipe an Arrow IPC stream. The key-value metadata
``d2`` holds JSON: kind, schema version, key, parameters, input digests, results, versions, and a
digest of the columns and of all this. The digest is verified on every read.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

import d2cli
from d2cli.errors import ArtifactError, DamagedError, InputError
from d2cli.files.artifact_tables import (
    COLUMNS,
    MAKERS,
    META,
    Kind,
    column_of,
    flat_values,
    read_table,
)
from d2cli.files.digests import canonical_json, digest_json, digest_labels, parse_json
from d2cli.files.paths import refuse_slash
from d2cli.files.publish import write_atomically
from d2cli.files.remote import Place, as_place
from d2cli.files.sources import STDIN, native_file

SCHEMA_VERSION = 1
GROUP_ROWS = 1 << 16  # written at a time: a list column's level numbers are as large as its values
LOCATOR, CARRIED = b"d2_graph_path", b"d2_graph"
ROW_ORDER, SOURCES = b"d2_row_order", b"d2_graph_sources"
SEAL = b"d2_seal"  # digest of all of these, three of which have no other
_FORM = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
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
    sources : list of dict or None
        Graphs only: where the vectors are; see `d2cli.files.origins`. Outside key and digest.
    """

    name: str
    meta: dict[str, Any]
    table: pa.Table
    graph_path: str | None = None
    graph: "Artifact | None" = None
    row_order: dict[str, Any] | None = None
    sources: list[dict[str, Any]] | None = None

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
    if artifact.sources is not None:
        meta[SOURCES] = canonical_json(artifact.sources).encode()
    meta[SEAL] = _seal_of(meta)
    return table.replace_schema_metadata(meta)


def _seal_of(metadata: dict[bytes, bytes]) -> bytes:
    """Return the digest of everything that d2 keeps in the metadata of a file."""
    state = blake3()
    for name in (META, LOCATOR, CARRIED, ROW_ORDER):
        value = metadata.get(name)
        state.update(b"-" if value is None else f"{len(value)}:".encode() + value)
    if SOURCES in metadata:  # which files had none of before it was kept
        state.update(f"{len(metadata[SOURCES])}:".encode() + metadata[SOURCES])
    return state.hexdigest().encode()


def write_artifact(
    path: Place, artifact: Artifact, *, groups: Sequence[int] | None = None
) -> Artifact:
    """Publish an artifact as a Parquet file; return it under that name.

    ``groups`` are the rows of each of its row groups; left out, they are of one size.
    """
    table = _encode(artifact)

    def write(file: BinaryIO) -> None:
        if groups is None:
            pq.write_table(table, file, row_group_size=GROUP_ROWS, **_FORM)
            return
        start = 0
        with pq.ParquetWriter(file, table.schema, **_FORM) as writer:
            for rows in groups:
                writer.write_table(table.slice(start, rows), row_group_size=max(rows, 1))
                start += rows

    write_atomically(path, write, size=table.nbytes)
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
    table = read_table(ref, name, kind)
    metadata = table.schema.metadata or {}
    if META not in metadata:
        raise ArtifactError(
            f"{name}: is not written by d2, expected a {kind} file",
            hint=f"make one with `{MAKERS[kind]}`",
        )
    # Files of before there were seals have none; nor has one whose seal's name is damaged.
    unsealed = metadata.get(SEAL) != _seal_of(metadata)
    if unsealed and metadata.keys() & {SEAL, LOCATOR, CARRIED, ROW_ORDER, SOURCES}:
        raise DamagedError(
            f"{name}: is damaged: its metadata do not match their digest", hint="make it again"
        )
    locator = metadata.get(LOCATOR)
    artifact = _open(
        name, metadata[META], table, kind, os.fsdecode(locator) if locator is not None else None
    )
    artifact = replace(artifact, row_order=_row_order(metadata), sources=_sources(metadata))
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


def _sources(metadata: dict[bytes, bytes]) -> list[dict[str, Any]] | None:
    """Return what a graph says of where its vectors are; None where that is nothing or damaged."""
    try:
        found = parse_json(metadata.get(SOURCES, b"null"))
    except ValueError:
        return None
    whole = isinstance(found, list) and all(isinstance(one, dict) for one in found)
    return found if whole else None


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
    return bool(metadata.keys() & {META, LOCATOR, CARRIED, ROW_ORDER, SOURCES, SEAL})


def peek_artifact(path: Place) -> Artifact | None:
    """Return an artifact without its rows, not verified; None if a file is none."""
    meta = peek(path)
    known = all(name in meta for name in ("kind", "key", "digest", "parameters", "inputs"))
    return Artifact(str(path), meta, pa.table({})) if known else None


def _with_wide_ids(table: pa.Table) -> pa.Table:
    """Return ids of text as they were written; a file whose schema is lost names another type."""
    at = table.schema.get_field_index("id")
    if at < 0 or not pa.types.is_string(table.schema.field(at).type):
        return table
    return table.set_column(at, "id", table["id"].cast(pa.large_string()))


def _open(name: str, text: bytes, table: pa.Table, kind: Kind, graph_path: str | None) -> Artifact:
    damaged = DamagedError(
        f"{name}: is damaged: its contents do not match its digest", hint="make it again"
    )
    try:
        meta = parse_json(text)
        found, schema = str(meta["kind"]), int(meta["schema_version"])
        own = table.select([c for c in COLUMNS.get(found, ()) if c in table.column_names])
        own = _with_wide_ids(own.combine_chunks().replace_schema_metadata(None))
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
