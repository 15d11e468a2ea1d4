"""safetensors files as sources: tensors are arrays, as the members of NPZ are.

The package checks the header against the file; tensors are then mapped, and not read until they are
looked at. bfloat16 is widened to float32, which holds every one of its values, while it is read.
"""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.arrays import ArraySource
from d2cli.files.blocks import arrow_blocks, rows_at_once, to_arrow
from d2cli.files.column import Column, Header
from d2cli.files.damage import reading
from d2cli.files.mapped import map_file
from d2cli.stages.room import release

HEAD_BYTES = 9  # of a file, that tell the kind
LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # the upper half of a float32
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file, and as what."""

    type: str
    shape: tuple[int, ...]
    start: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type as it is read; void for what NumPy does not have."""
        return np.dtype(np.float32 if self.type == "BF16" else TYPES.get(self.type, "V"))


@dataclass
class TensorSource:
    """A safetensors file; ``data`` is its bytes or memory map."""

    name: str
    tensors: dict[str, Tensor]
    data: bytes | mmap.mmap
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in self.tensors.items()}
        arrays = ArraySource(self.name, shapes, self._stored)
        self.columns, self.n_rows = arrays.columns, arrays.n_rows
        for name, tensor in self.tensors.items():
            if tensor.type not in TYPES or tensor.type == "BF16":
                called = "bfloat16" if tensor.type == "BF16" else tensor.type
                self.columns[name] = replace(self.columns[name], type=f"{called} {tensor.shape}")

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the rows of a tensor, a few megabytes at a time."""
        stored = self._stored(column)
        with reading(self.name):
            if self.tensors[column].type != "BF16":
                yield from arrow_blocks(stored)
                return
            step = rows_at_once(stored.dtype, stored.shape)
            for start in range(0, len(stored), step):
                wide = stored[start : start + step].astype(np.uint32) << 16
                yield to_arrow(wide.view(np.float32))
                release(stored)

    def array(self, column: str) -> NDArray[Any] | None:
        """Return the tensor as it is stored; None for what is read in batches."""
        return self._stored(column) if self._as_stored(column) else None

    def header(self, column: str) -> Header:
        """Return rows, type and place of a tensor."""
        tensor, whole = self.tensors[column], self._as_stored(column)
        mapped = whole and isinstance(self.data, mmap.mmap)
        return Header(tensor.shape[0], tensor.dtype, mapped, in_table=not whole)

    def width(self, column: str) -> int:
        """Return the width of a tensor (n, d)."""
        return self.tensors[column].shape[1]

    def _as_stored(self, column: str) -> bool:
        """Return whether a tensor needs no conversion: searches want whole numbers of steps."""
        return self.tensors[column].type != "BF16" and bool(self._stored(column).flags.aligned)

    def _stored(self, column: str) -> NDArray[Any]:
        tensor = self.tensors[column]
        if 0 in tensor.shape:
            return np.empty(tensor.shape, dtype=TYPES[tensor.type])
        return np.ndarray(tensor.shape, TYPES[tensor.type], self.data, tensor.start)


def is_safetensors(head: bytes) -> bool:
    """Return whether a file that begins so is of this kind: a length, and JSON of that length."""
    size = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= size <= LARGEST_HEADER


def open_safetensors(name: str, path: Path | None, data: bytes) -> TensorSource:
    """Open a file, mapped if it has a path; ``data`` is all of it otherwise.

    Raises
    ------
    ParameterError
        If the package safetensors is not installed.
    InputError
        If the file does not have the size that its header declares, or is damaged otherwise.
    """
    try:
        from safetensors import SafetensorError, deserialize, safe_open
    except ImportError as error:
        raise ParameterError(
            f"{name}: reading safetensors files needs the package safetensors",
            hint="pip install 'd2cli[safetensors]'",
        ) from error
    check: Any = deserialize
    with reading(name):
        try:
            if path is None:
                check(data)
            else:
                with safe_open(path, framework="numpy"):
                    pass
        except SafetensorError as error:
            raise InputError(
                f"{name}: cannot be read: {error}",
                hint="the file is damaged, or cut short; get or save it again",
            ) from error
        whole = data if path is None else map_file(path, name)
        size = int.from_bytes(whole[:8], "little")
        entries = json.loads(whole[8 : 8 + size])
        entries.pop("__metadata__", None)
        tensors = {
            key: Tensor(entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
            for key, entry in entries.items()
        }
    return TensorSource(name, tensors, whole)
