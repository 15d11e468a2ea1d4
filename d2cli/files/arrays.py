"""Arrays as sources: NPY, mapped and not read, and the members of NPZ."""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.files.column import Column, ColumnKind
from d2cli.files.damage import reading


@dataclass
class ArraySource:
    """An NPY file (one array without a name) or an NPZ archive; loaded when asked for."""

    name: str
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
    load: Callable[[str], NDArray[Any]]
    columns: dict[str, Column] = field(init=False)
    n_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.columns = {
            name: Column(name, _kind_of_array(dtype, shape), f"{dtype} {shape}")
            for name, (dtype, shape) in self.shapes.items()
        }
        self.n_rows = max((shape[0] for _, shape in self.shapes.values() if shape), default=0)

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the whole array at once, as Arrow."""
        with reading(self.name):
            array = self.array(column)
            yield pa.array(array.astype(array.dtype.newbyteorder("="), copy=False))

    def array(self, column: str) -> NDArray[Any]:
        """Return the array as it is stored."""
        with reading(self.name):
            return self.load(column)


def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> ColumnKind:
    if dtype.kind in "fiu" and len(shape) in (1, 2):
        return "vectors" if len(shape) == 2 else "numbers"
    return "labels" if dtype.kind in "bU" and len(shape) == 1 else "other"


def open_npy(name: str, path: Path | None, data: bytes) -> ArraySource:
    """Open an NPY file, mapped if it has a path; ``data`` is all of it otherwise."""
    with reading(name):
        if path is not None:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            array = np.load(io.BytesIO(data), allow_pickle=False)
    return ArraySource(name, {"": (array.dtype, array.shape)}, lambda _: array)


def open_npz(name: str, file: Path | io.BytesIO) -> ArraySource:
    """Open an NPZ archive; only the headers of its members are read."""
    shapes = {}
    with reading(name), zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as stream:
                    shapes[member.removesuffix(".npy")] = _npy_header(stream)

    def load(column: str) -> NDArray[Any]:
        with np.load(file, allow_pickle=False) as members:
            return np.asarray(members[column])

    return ArraySource(name, shapes, load)


def _npy_header(stream: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:  # noqa: ANN401
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(stream)
    return dtype, shape
