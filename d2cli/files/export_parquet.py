"""Rows as Parquet: one file, or a folder with a file for each of the source."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from d2cli.files.export_datacomp import write_archive
from d2cli.files.records import Layout, Records

GROUP_ROWS = 1 << 20  # of a row group, at most, and where the source has none
GROUP_BYTES = 64 << 20  # held back for a row group, at most
CODEC = "zstd"  # for columns that were in no Parquet file


def write_parquet(
    file: BinaryIO, batches: Iterable[pa.RecordBatch], schema: pa.Schema, layout: Layout | None
) -> None:
    """Write batches as a Parquet file.

    Compression, dictionaries and the most rows of a row group are those of ``layout``, if there is
    one; row groups hold at most about 64 MB.

    Parameters
    ----------
    file : binary file
    batches : iterable of record batches
        Of the schema.
    schema : Arrow schema
        Stored with the metadata of its fields and its own.
    layout : Layout or None
    """
    group_rows = min(layout.group_rows if layout else GROUP_ROWS, GROUP_ROWS)
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(
        file, schema, write_page_checksum=True, **_storage(schema, layout)
    ) as writer:
        for batch in batches:
            held.append(batch)
            n_rows = sum(part.num_rows for part in held)
            if sum(part.nbytes for part in held) >= GROUP_BYTES:
                full = n_rows
            else:
                full = n_rows - n_rows % group_rows
            if full:
                table = pa.Table.from_batches(held, schema)
                writer.write_table(table.slice(0, full), row_group_size=group_rows)
                held = table.slice(full).to_batches()
        if held:
            writer.write_table(pa.Table.from_batches(held, schema), row_group_size=group_rows)


def _storage(schema: pa.Schema, layout: Layout | None) -> dict[str, Any]:
    """Return how the columns of a file are to be stored."""
    leaves = _leaves(schema) if layout else []
    if layout is None or len(leaves) < len(layout.codecs):
        return {"compression": CODEC}
    # What the file did not have, the names of its folders, comes last.
    codecs = (*layout.codecs, *[CODEC] * (len(leaves) - len(layout.codecs)))
    used = [leaf for leaf, used in zip(leaves, layout.dictionaries, strict=False) if used]
    return {"compression": dict(zip(leaves, codecs, strict=True)), "use_dictionary": used or False}


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the names that Parquet gives to the leaf columns of a schema, in their order."""
    empty = io.BytesIO()
    pq.write_table(schema.empty_table(), empty)
    stored = pq.read_metadata(pa.BufferReader(empty.getvalue())).schema
    return [stored.column(i).path for i in range(len(stored))]


def write_shards(
    folder: Path,
    records: Records,
    rows: NDArray[np.int64],
    counted: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
) -> int:
    """Write rows as one Parquet file for each shard that has any; return how many.

    Files are called as in the source, with the ending ``.parquet``; without any rows there is one
    file, that of the first shard, so that the columns are known. Arrays beside a shard of DataComp
    metadata come along, so that the folder is such metadata again.

    Parameters
    ----------
    folder : Path
        Empty.
    records : Records
    rows : int64 array
        Ascending.
    counted : callable
        What every batch passes through.
    """
    parts = [records.of_shard(rows, at) for at in range(len(records.shards))]
    written = [at for at, part in enumerate(parts) if len(part)] or [0]
    names = shard_names(records)
    for at in written:
        shard = records.shards[at]
        path = folder / names[at]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            write_parquet(file, counted(shard.read(parts[at])), shard.schema, shard.layout)
        if shard.archive is not None:
            write_archive(path.with_suffix(".npz"), shard.archive, parts[at])
    return len(written)


def shard_names(records: Records) -> list[str]:
    """Return the names of the exported shards, all different."""
    names = [PurePosixPath(shard.name) for shard in records.shards]
    parquet = [
        str(n if n.suffix in (".parquet", ".pq") else n.with_suffix(".parquet")) for n in names
    ]
    if len(set(parquet)) < len(parquet):  # such as a.arrow beside a.parquet
        parquet = [f"{name}.parquet" for name in names]
    return parquet
