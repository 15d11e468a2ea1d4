"""Rows divided into partitions, on disk: pieces, of a batch of rows each, written once.

A piece is a part (`d2cli.files.parts`) whose rows are sorted by partition, one row group for each.
So a partition is read by its row groups alone, each verified by a digest of its own.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3
from numpy.typing import NDArray

from d2cli.errors import DamagedError, InputError
from d2cli.files.artifact_tables import META, flat_values
from d2cli.files.artifacts import Artifact, peek
from d2cli.files.damage import DAMAGE
from d2cli.files.digests import parse_json
from d2cli.files.parts import Parts
from d2cli.files.remote import Place
from d2cli.files.sources import native_file

ROW, VECTOR = "row", "vector"


def keep_piece(
    parts: Parts,
    rows: NDArray[np.int64],
    vectors: NDArray[Any],
    partitions: NDArray[np.int32],
    n_partitions: int,
    **which: Any,  # noqa: ANN401
) -> Artifact:
    """Sort some rows by partition, and keep them.

    Parameters
    ----------
    parts : Parts
    rows : int64 array, shape (b,), ascending
    vectors : float32 or float64 array, shape (b, d)
    partitions : int32 array, shape (b,)
    n_partitions : int
    which
        What tells it from other parts.
    """
    order = np.argsort(partitions, kind="stable")
    counts = np.bincount(partitions, minlength=n_partitions)
    rows, vectors = rows[order], np.ascontiguousarray(vectors[order])
    ends = np.cumsum(counts)
    digests = [
        _digest(rows[end - count : end], vectors[end - count : end])
        for count, end in zip(counts, ends, strict=True)
    ]
    return parts.keep(
        {ROW: rows, VECTOR: vectors},
        results={"counts": counts.tolist(), "digests": digests},
        groups=[int(count) for count in counts if count],
        **which,
    )


def counts_of(place: Place) -> NDArray[np.int64]:
    """Return how many rows a piece has of each partition, (P,), as its metadata say.

    Raises
    ------
    DamagedError
        If there is no such piece, or it does not say.
    """
    try:
        return np.array(peek(place)["results"]["counts"], dtype=np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(place) from error


def _damaged(place: Place) -> DamagedError:
    return DamagedError(
        f"{place}: is damaged: its contents do not match its digest",
        hint="run the same command again, which makes it again",
    )


def read_piece(
    parts: Parts,
    number: int,
    **which: Any,  # noqa: ANN401
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the rows (m,), ascending, that a piece has of a partition, and their vectors (m, d).

    Raises
    ------
    DamagedError
        If they are not as they were written.
    """
    place = parts.where(**which)
    try:
        with pq.ParquetFile(native_file(place), page_checksum_verification=True) as file:
            known = parse_json((file.metadata.metadata or {})[META])["results"]
            counts, digest = known["counts"], known["digests"][number]
            if not counts[number]:
                schema = file.schema_arrow
                nothing = schema.field(VECTOR).type
                kind = nothing.value_type.to_pandas_dtype()
                return np.empty(0, np.int64), np.empty((0, nothing.list_size), dtype=kind)
            group = sum(1 for count in counts[:number] if count)
            table = file.read_row_group(group, columns=[ROW, VECTOR], use_threads=False)
        rows = table.column(ROW).combine_chunks().to_numpy()
        lists = table.column(VECTOR).combine_chunks()
        lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
        vectors = flat_values(lists).reshape(len(lists), lists.type.list_size)
        whole = _digest(rows, vectors) == digest
    except (*DAMAGE, LookupError, InputError) as error:
        raise _damaged(place) from error
    if not whole:
        raise _damaged(place)
    parts.read += rows.nbytes + vectors.nbytes
    return rows, vectors


def _digest(rows: NDArray[np.int64], vectors: NDArray[Any]) -> str:
    state = blake3(f"{vectors.dtype.str}{vectors.shape}".encode())
    for values in (rows, vectors):
        if values.size:
            state.update(np.ascontiguousarray(values).data.cast("B"))
    return state.hexdigest()
