"""What an update needs of an approximate graph, as a column of its file.

The bytes of cells, axes, centres and of a sample with its exact neighbours, spread over the rows:
so they are sealed with the graph, travel with it, and no footer grows with them. They are stored as
numbers of 4 bytes, which Parquet makes of smaller ones, too. A JSON header, after its length in 8
bytes, says whose cells follow and how many numbers they are.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError
from d2cli.files.artifacts import Artifact
from d2cli.files.digests import canonical_json, parse_json
from d2cli.files.stages import INDEX, matrix
from d2cli.stages.kept import KeptCells
from d2cli.stages.lists import pack, unpack

VERSION = 1
ARRAYS: dict[str, np.dtype[Any]] = {
    "cells": np.dtype("<u2"),  # d2cli.stages.cell_layout.MOST_CELLS is below 2**16
    "centers": np.dtype("<f4"),
    "axes": np.dtype("<f4"),
    "center": np.dtype("<f8"),
    "sample": np.dtype("<i4"),
    "neighbors": np.dtype("<i4"),
    "distances": np.dtype("<f4"),
}


def index_column(kept: Mapping[str, KeptCells], n_rows: int) -> NDArray[np.int32] | None:
    """Return what is kept of a graph as numbers, (n, w); None if that is nothing.

    Parameters
    ----------
    kept : mapping of str to KeptCells
        By group.
    n_rows : int
        n; the last numbers are filled up with zeros.
    """
    if not kept:
        return None
    heads, parts = [], []
    for name in sorted(kept):
        one, arrays = kept[name], _arrays(kept[name])
        lengths = {field: len(values) for field, values in arrays.items()}
        heads.append(
            {"group": name, "effort": int(one.effort), "scale": float(one.scale), **lengths}
        )
        parts += [values.astype(ARRAYS[field]).tobytes() for field, values in arrays.items()]
    head = canonical_json({"version": VERSION, "groups": heads}).encode()
    data = b"".join([len(head).to_bytes(8, "little"), head, *parts])
    width = -(-len(data) // (4 * n_rows))
    filled = data.ljust(4 * width * n_rows, b"\0")
    return np.frombuffer(filled, "<i4").astype(np.int32).reshape(n_rows, width)


def kept_of(graph: Artifact) -> dict[str, KeptCells]:
    """Return what is kept of a graph, by group; empty if its file has no such column.

    Raises
    ------
    ArtifactError
        If it makes no sense.
    """
    if INDEX not in graph.table.column_names:
        return {}
    try:
        return _read(matrix(graph.table, INDEX).astype("<i4").tobytes())
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"{graph.name}: is no graph of d2: its index: {error}") from error


def _read(data: bytes) -> dict[str, KeptCells]:
    start = 8 + int.from_bytes(data[:8], "little")
    head = parse_json(data[8:start])
    if head["version"] != VERSION:
        raise ValueError(f"has version {json.dumps(head['version'])[:20]}")
    found = {}
    for one in head["groups"]:
        arrays = {}
        for field, kind in ARRAYS.items():
            stop = start + int(one[field]) * kind.itemsize
            if not start <= stop <= len(data):
                raise ValueError(f"{field} ends beyond its bytes")
            arrays[field] = np.frombuffer(data[start:stop], kind).astype(kind.newbyteorder("="))
            start = stop
        found[str(one["group"])] = _shaped(arrays, int(one["effort"]), float(one["scale"]))
    return found


def _arrays(kept: KeptCells) -> dict[str, NDArray[Any]]:
    neighbors, distances = unpack(kept.exact)
    axes = np.empty(0, np.float32) if kept.axes is None else kept.axes
    return {
        "cells": kept.cells,
        "centers": kept.centers.ravel(),
        "axes": axes.ravel(),
        "center": kept.center,
        "sample": kept.sample,
        "neighbors": neighbors.ravel(),
        "distances": distances.ravel(),
    }


def _shaped(arrays: dict[str, NDArray[Any]], effort: int, scale: float) -> KeptCells:
    """Undo `_arrays`: the widths follow from each other.

    Raises
    ------
    ValueError
        If they do not, or a number is out of range.
    """
    dim, sample = len(arrays["center"]), arrays["sample"]
    axes = arrays["axes"].reshape(dim, -1) if len(arrays["axes"]) else None
    width = dim if axes is None else axes.shape[1]
    lists = (arrays[name].reshape(len(sample), -1) for name in ("neighbors", "distances"))
    centers, n = arrays["centers"].reshape(-1, width), len(arrays["cells"])
    for name, least, end in (("cells", 0, len(centers)), ("sample", 0, n), ("neighbors", -1, n)):
        values = arrays[name]
        if len(values) and not (least <= int(values.min()) and int(values.max()) < end):
            raise ValueError(f"{name} is out of range")
    if effort < 0 or not 0 < scale < np.inf:
        raise ValueError("a number is out of range")
    cells = arrays["cells"].astype(np.int32)
    return KeptCells(cells, centers, axes, arrays["center"], scale, effort, sample, pack(*lists))
