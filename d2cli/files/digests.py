"""Digests of contents and keys of stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3
from numpy.typing import NDArray

from d2cli.stages.vectors import BLOCK_ROWS, vector_type


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_json(value: object) -> str:
    """Return the digest of a value made of plain numbers, strings, lists and dicts."""
    return blake3(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes."""
    state = blake3()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def digest_array(array: NDArray[Any]) -> str:
    """Return the digest of an array's numbers, the same however it is stored.

    Values are taken row by row in the type they are computed with (float32 or float64), so a
    float16 Parquet column and the same numbers as float32 NPY have one digest.
    """
    wide = np.dtype(vector_type(array.dtype)).newbyteorder("<")
    state = blake3(f"{wide.str}{array.shape}".encode())
    for start in range(0, len(array), BLOCK_ROWS):
        block = np.ascontiguousarray(array[start : start + BLOCK_ROWS], dtype=wide)
        if block.size:
            state.update(block.data.cast("B"))
    return state.hexdigest()


def digest_labels(values: pa.Array) -> str:
    """Return the digest of labels or ids without nulls (strings, integers, floats, booleans)."""
    if pa.types.is_string(values.type):
        values = values.cast(pa.large_string())
    state = blake3(f"{values.type}{len(values)}".encode())
    values = pa.concat_arrays([values])  # a copy without offset, so equal values have equal buffers
    if pa.types.is_large_string(values.type):
        offsets = np.frombuffer(values.buffers()[1], dtype=np.int64)[: len(values) + 1]
        state.update(np.ascontiguousarray(offsets - offsets[0]).tobytes())
        text = values.buffers()[2]
        if text is not None:
            state.update(memoryview(text)[int(offsets[0]) : int(offsets[-1])])
    else:
        state.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
    return state.hexdigest()
