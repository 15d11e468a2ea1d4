"""Rows divided into partitions, on disk: pieces, of a batch of rows each, written once.

A piece is a part (`d2cli.files.parts`) whose rows are sorted by partition, one row group for each.
So a partition is read by its row groups alone, each verified by a digest of its own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from blake3 import blake3
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.artifact_tables import META
from d2cli.files.artifacts import Artifact
from d2cli.files.damage import DAMAGE
from d2cli.files.digests import parse_json
from d2cli.files.parts import Parts, column_values
from d2cli.files.sources import native_file


def keep_piece(
    parts: Parts,
    columns: Mapping[str, NDArray[Any]],
    partitions: NDArray[np.int32],
    n_partitions: int,
    **which: Any,  # noqa: ANN401
) -> Artifact:
    """Sort some rows by partition, and keep them; those of a partition stay in their order.

    Parameters
    ----------
    parts : Parts
    columns : mapping of str to array
        (b,) or (b, w) each.
    partitions : int32 array, shape (b,)
    n_partitions : int
    which
        What tells it from other parts.
    """
    order = np.argsort(partitions, kind="stable")
    counts = np.bincount(partitions, minlength=n_partitions)
    sorted_ = {name: np.ascontiguousarray(values[order]) for name, values in columns.items()}
    ends = np.cumsum(counts)
    digests = [
        _digest({name: values[end - count : end] for name, values in sorted_.items()})
        for count, end in zip(counts, ends, strict=True)
    ]
    return parts.keep(
        sorted_,
        results={"counts": counts.tolist(), "digests": digests},
        groups=[int(count) for count in counts if count],
        **which,
    )


def counts_of(parts: Parts, **which: Any) -> NDArray[np.int64]:  # noqa: ANN401
    """Return how many rows a piece has of each partition, (P,).

    Raises
    ------
    ResourceError
        If there is no such piece, or it is damaged.
    """
    return np.array(parts.results_of(**which)["counts"], dtype=np.int64)


def read_piece(
    parts: Parts,
    number: int,
    **which: Any,  # noqa: ANN401
) -> dict[str, NDArray[Any]]:
    """Return the columns (m,) or (m, w) of the rows that a piece has of a partition.

    Raises
    ------
    ResourceError
        If they are not as they were written, or the file is another one.
    """
    try:
        place = native_file(parts.where(**which))
        with pq.ParquetFile(place, page_checksum_verification=True) as file:
            meta = parse_json((file.metadata.metadata or {})[META])
            known = parts.checked_results(meta, **which)
            counts, digest = known["counts"], known["digests"][number]
            if counts[number]:
                group = sum(1 for count in counts[:number] if count)
                table = file.read_row_group(group, use_threads=False)
            else:
                table = file.schema_arrow.empty_table()
        columns = {name: column_values(table, name) for name in table.column_names}
        whole = _digest(columns) == digest
    except (*DAMAGE, LookupError, InputError) as error:
        raise parts.lost() from error
    if not whole:
        raise parts.lost()
    parts.read += sum(values.nbytes for values in columns.values())
    return columns


def _digest(columns: Mapping[str, NDArray[Any]]) -> str:
    state = blake3()
    for name, values in sorted(columns.items()):
        state.update(f"{name}{values.dtype.str}{values.shape}".encode())
        if values.size:
            state.update(np.ascontiguousarray(values).data.cast("B"))
    return state.hexdigest()
