"""Digests of contents and keys of stages."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3
from numpy.typing import NDArray

from d2cli.files.mapped import refuse_shorter
from d2cli.stages.room import IN_MEMORY, Room
from d2cli.stages.vectors import BLOCK_ROWS, vector_type


def parse_json(data: str | bytes) -> Any:  # noqa: ANN401
    """Return what a JSON text of a file says.

    Raises
    ------
    ValueError
        If it is no JSON, or nested so deep that it cannot be read.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


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


def digest_array(array: NDArray[Any], room: Room = IN_MEMORY) -> str:
    """Return the digest of an array's numbers, the same however it is stored.

    Values are taken row by row in the type they are computed with (float32 or float64), so a
    float16 Parquet column and the same numbers as float32 NPY have one digest. ``room`` is where
    the array lives.
    """

    def blocks() -> Iterable[NDArray[Any]]:
        for start in range(0, len(array), BLOCK_ROWS):
            yield (block := array[start : start + BLOCK_ROWS])
            room.have_read(array, block)

    return digest_blocks(array.dtype, array.shape, blocks())


def digest_blocks(
    dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> str:
    """Return what `digest_array` does for an array that comes as blocks of rows."""
    wide = np.dtype(vector_type(dtype)).newbyteorder("<")
    state = blake3(f"{wide.str}{shape}".encode())
    for block in blocks:
        if block.size:
            state.update(np.ascontiguousarray(block, dtype=wide).data.cast("B"))
    refuse_shorter()
    return state.hexdigest()


def digest_some_rows(array: NDArray[Any], rows: NDArray[np.int64] | None) -> str:
    """Return the digest of what some rows have (p, ...); ``rows`` (p,) is None if all do."""
    digest = digest_array(array)
    return digest if rows is None else digest_json([digest, digest_array(rows)])


def digest_labels(values: pa.Array) -> str:
    """Return the digest of labels or ids without nulls (strings, integers, floats, booleans).

    Equal values have equal digests, whether they are a slice of a longer array or one of their own.
    """
    if pa.types.is_string(values.type):
        values = values.cast(pa.large_string())
    state = blake3(f"{values.type}{len(values)}".encode())
    if pa.types.is_large_string(values.type):
        _, places, text = values.buffers()
        offsets = np.zeros(1, dtype=np.int64)  # of no values, which may come without a buffer
        if len(values):
            offsets = np.frombuffer(places, dtype=np.int64)[values.offset :][: len(values) + 1]
        state.update((offsets - offsets[0] if offsets[0] else offsets).data.cast("B"))
        if text is not None:
            state.update(memoryview(text)[int(offsets[0]) : int(offsets[-1])])
    else:
        numbers = np.ascontiguousarray(values.to_numpy(zero_copy_only=False))
        if numbers.size:
            state.update(numbers.data.cast("B"))
    return state.hexdigest()
