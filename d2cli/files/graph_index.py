"""What is kept of graphs in the cache folder, so that rows are added to them quickly.

One Parquet file for each graph, with a row for each group that is searched in cells. Its metadata
hold the graph's digest, and one of all values that is verified on every read: what is damaged, or
of another graph, is not used.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3
from numpy.typing import NDArray

from d2cli.errors import ResourceError
from d2cli.files.damage import DAMAGE
from d2cli.files.digests import canonical_json, parse_json
from d2cli.files.publish import write_atomically
from d2cli.files.tables import check_row_count
from d2cli.files.unpacking import unpacking
from d2cli.stages.kept import KeptCells
from d2cli.stages.lists import pack, unpack

META, VERSION = b"d2_index", 1
NUMBERS: dict[str, np.dtype[Any]] = {"effort": np.dtype(np.int32), "scale": np.dtype(np.float64)}
ARRAYS: dict[str, np.dtype[Any]] = {
    "cells": np.dtype(np.int32),
    "centers": np.dtype(np.float32),
    "axes": np.dtype(np.float32),
    "center": np.dtype(np.float64),
    "sample": np.dtype(np.int32),
    "neighbors": np.dtype(np.int32),
    "distances": np.dtype(np.float32),
}
UNSOUND = (*DAMAGE, LookupError, AttributeError, ResourceError)  # what a damaged file may lead to


def index_path(folder: Path, digest: str) -> Path:
    """Return the file that holds what is kept of the graph with a digest."""
    return folder / f"index-{digest[:40]}.parquet"


def write_index(path: Path, digest: str, kept: dict[str, KeptCells]) -> None:
    """Keep what belongs to a graph; a cache that cannot be written to is no obstacle.

    Parameters
    ----------
    path : Path
    digest : str
        Of the graph.
    kept : dict of str to KeptCells
        By group.
    """
    names = sorted(kept)
    rows = [_flat(kept[name]) for name in names]
    columns: dict[str, pa.Array] = {"group": pa.array(names, pa.large_string())}
    for name, kind in NUMBERS.items():
        columns[name] = pa.array([row[name] for row in rows], pa.from_numpy_dtype(kind))
    for name, kind in ARRAYS.items():
        columns[name] = _lists([row[name] for row in rows], kind)
    meta = {"version": VERSION, "graph": digest, "digest": _digest(digest, names, rows)}
    table = pa.table(columns).replace_schema_metadata({META: canonical_json(meta).encode()})
    try:
        write_atomically(
            path,
            lambda file: pq.write_table(
                table,
                file,
                compression="none",
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
            ),
            size=table.nbytes,
        )
    except ResourceError:
        return


def read_index(path: Path, digest: str) -> dict[str, KeptCells] | None:
    """Return what was kept of the graph with a digest.

    Returns
    -------
    dict of str to KeptCells, or None
        None if the file is absent, damaged or of another graph.
    """
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            check_row_count(file.metadata)
            _check_columns(file.schema_arrow)
            _check_size(file.metadata, path.stat().st_size)
            with unpacking(str(path), "read what is kept of a graph"):
                table = file.read(use_threads=False)
        meta = parse_json((table.schema.metadata or {})[META])
        names = [str(name) for name in table["group"].to_pylist()]
        rows = [_row(table, i) for i in range(len(names))]
        if meta["version"] != VERSION or meta["graph"] != digest:
            return None
        if meta["digest"] != _digest(digest, names, rows):
            return None
        return {name: _shaped(row) for name, row in zip(names, rows, strict=True)}
    except UNSOUND:
        return None


def index_damage(path: Path) -> str | None:
    """Return what is wrong with a file in the cache folder, or None."""
    try:
        meta = parse_json((pq.read_metadata(path).metadata or {})[META])
        whole = index_path(path.parent, meta["graph"]) == path
        whole = whole and read_index(path, meta["graph"]) is not None
    except UNSOUND:
        whole = False
    return None if whole or not path.exists() else f"{path}: is damaged"


def _flat(kept: KeptCells) -> dict[str, Any]:
    neighbors, distances = unpack(kept.exact)
    axes = np.empty(0, np.float32) if kept.axes is None else kept.axes
    return {
        "effort": int(kept.effort),
        "scale": float(kept.scale),
        "cells": kept.cells,
        "centers": kept.centers.ravel(),
        "axes": axes.ravel(),
        "center": kept.center,
        "sample": kept.sample,
        "neighbors": neighbors.ravel(),
        "distances": distances.ravel(),
    }


def _shaped(row: dict[str, Any]) -> KeptCells:
    """Undo `_flat`: the widths follow from each other.

    Raises
    ------
    ValueError
        If they do not, or a number is out of range.
    """
    dim, sample = len(row["center"]), row["sample"]
    axes = row["axes"].reshape(dim, -1) if len(row["axes"]) else None
    width = dim if axes is None else axes.shape[1]
    lists = (row[name].reshape(len(sample), -1) for name in ("neighbors", "distances"))
    centers, n = row["centers"].reshape(-1, width), len(row["cells"])
    for name, least, end in (("cells", 0, len(centers)), ("sample", 0, n), ("neighbors", -1, n)):
        if len(row[name]) and not (least <= row[name].min() and row[name].max() < end):
            raise ValueError(f"{name} is out of range")
    return KeptCells(
        row["cells"],
        centers,
        axes,
        row["center"],
        float(row["scale"]),
        int(row["effort"]),
        sample,
        pack(*lists),
    )


def _lists(arrays: list[NDArray[Any]], kind: np.dtype[Any]) -> pa.Array:
    """Return arrays as lists of one column, without turning numbers into objects."""
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in arrays])]).astype(np.int64)
    flat = np.concatenate([np.empty(0, kind), *arrays]).astype(kind)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))


def _check_columns(schema: pa.Schema) -> None:
    """Raise ValueError if the columns are not those that `write_index` writes."""
    expected: dict[str, pa.DataType] = {"group": pa.large_string()}
    expected |= {name: pa.from_numpy_dtype(kind) for name, kind in NUMBERS.items()}
    expected |= {name: pa.large_list(pa.from_numpy_dtype(kind)) for name, kind in ARRAYS.items()}
    if schema.names != list(expected) or schema.types != list(expected.values()):
        raise ValueError("its columns are others")


def _check_size(metadata: pq.FileMetaData, size: int) -> None:
    """Raise ValueError if columns hold more than a file of ``size`` bytes does as they are."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for i in range(metadata.num_columns):
            column = group.column(i)
            if column.compression != "UNCOMPRESSED" or {*column.encodings} - {"PLAIN", "RLE"}:
                raise ValueError("it is compressed")
            if max(column.total_uncompressed_size, 4 * column.num_values) > size:
                raise ValueError("it holds more than there is room for in the file")


def _row(table: pa.Table, i: int) -> dict[str, Any]:
    row: dict[str, Any] = {name: table[name][i].as_py() for name in NUMBERS}
    for name in ARRAYS:
        values = table[name][i].values
        if values is None:
            raise ValueError(f"{name} is missing")
        row[name] = values.to_numpy(zero_copy_only=True)
    return row


def _digest(graph: str, names: list[str], rows: list[dict[str, Any]]) -> str:
    state = blake3(canonical_json([VERSION, graph, names]).encode())
    for row in rows:
        state.update(canonical_json([row[name] for name in NUMBERS]).encode())
        for name in ARRAYS:
            state.update(f"{name}{len(row[name])}".encode())
            state.update(np.ascontiguousarray(row[name]).data.cast("B") if len(row[name]) else b"")
    return state.hexdigest()
