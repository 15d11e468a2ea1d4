"""Rows as a folder that ``datasets.load_from_disk`` opens, written without that library.

The folder holds Arrow streams, ``state.json``, which lists them, and ``dataset_info.json``. What
the columns mean (classes, images) goes along in the schema's own metadata, and in the
``dataset_info.json`` of a source that has one.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from d2cli.errors import InputError
from d2cli.files.damage import reading
from d2cli.files.digests import digest_file, digest_json
from d2cli.files.saved_datasets import INFO, STATE

SHARD_BYTES = 500 << 20
# What is true of the source as a whole only.
SIZES = ("splits", "download_size", "download_checksums", "dataset_size", "size_in_bytes",
         "post_processing_size")  # fmt: skip


def write_datasets(
    folder: Path,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    home: Path | None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write batches as a folder of ``datasets``; return the number of its Arrow files.

    Parameters
    ----------
    folder : Path
        Empty.
    batches : iterable of record batches
    schema : Arrow schema
    home : Path or None
        A folder of ``datasets`` that the rows come from.
    shard_bytes : int
        About the size of an Arrow file, at most.
    """
    plain = plain_schema(schema)
    parts = _write_parts(folder, (_plain(batch, plain) for batch in batches), plain, shard_bytes)
    names = [f"data-{at:05}-of-{len(parts):05}.arrow" for at in range(len(parts))]
    for part, name in zip(parts, names, strict=True):
        part.rename(folder / name)
    info, state = _info(home), _state(home)
    # The library takes data sets of one fingerprint for the same, so it is that of the contents.
    digests = [digest_file(folder / name) for name in names]
    state |= {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": digest_json([digests, info])[:16],
    }
    for name, value in ((STATE, state), (INFO, info)):
        (folder / name).write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")
    return len(names)


def _write_parts(
    folder: Path, batches: Iterator[pa.RecordBatch], schema: pa.Schema, shard_bytes: int
) -> list[Path]:
    """Write Arrow streams under names of their own, at least one; return their paths."""
    parts: list[Path] = []
    batch = next(batches, None)
    while not parts or batch is not None:
        parts.append(folder / f"part-{len(parts)}")
        size = 0
        with parts[-1].open("xb") as file, pa.ipc.new_stream(file, schema) as stream:
            while batch is not None and size < shard_bytes:
                stream.write_batch(batch)
                size += batch.nbytes
                batch = next(batches, None)
    return parts


def _info(home: Path | None) -> dict[str, Any]:
    """Return what is known of a data set, other than its size."""
    found = _read_json(home / INFO) if home else {}
    info = {"citation": "", "description": "", "features": None, "homepage": "", "license": ""}
    return info | {key: value for key, value in found.items() if key not in SIZES}


def _state(home: Path | None) -> dict[str, Any]:
    """Return how a data set is to be looked at."""
    state: dict[str, Any] = {
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    found = _read_json(home / STATE) if home else {}
    return state | {key: found[key] for key in state if key in found}


def _read_json(path: Path) -> dict[str, Any]:
    with reading(str(path)):
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: is no JSON object", hint="the folder is damaged")
    return found


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the types that ``datasets`` reads: no dictionaries, no views."""
    fields = [field.with_type(_plain_type(field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
