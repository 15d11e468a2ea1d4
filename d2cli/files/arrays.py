"""Arrays as sources: NPY, mapped and not read, and the members of NPZ."""

import contextlib
import io
import math
import mmap
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files import memory
from d2cli.files.column import Column, ColumnKind, Header
from d2cli.files.damage import reading
from d2cli.files.mapped import watch
from d2cli.files.remote import Place, Remote
from d2cli.files.unpacking import unpacking
from d2cli.stages.room import mapping_of

LONGEST_HEADER = 10_000  # bytes of an NPY header that NumPy takes; it reads longer ones, too


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Read without a word what NumPy warns of: headers by Python 2, old names of types."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass
class ArraySource:
    """An NPY file (one array without a name) or an NPZ archive; loaded when asked for."""

    name: str
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
    load: Callable[[str], NDArray[Any]]
    mapped: bool = False  # in a file, and not read yet
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

    def header(self, column: str) -> Header:
        """Return rows, type and place of an array."""
        dtype, shape = self.shapes[column]
        return Header(shape[0], dtype, self.mapped, in_table=False)

    def width(self, column: str) -> int:
        """Return the width of an array (n, d)."""
        return self.shapes[column][1][1]


def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> ColumnKind:
    if dtype.kind in "fiu" and len(shape) in (1, 2):
        return "vectors" if len(shape) == 2 else "numbers"
    return "labels" if dtype.kind in "bU" and len(shape) == 1 else "other"


def open_npy(name: str, path: Path | None, data: bytes) -> ArraySource:
    """Open an NPY file, mapped if it has a path; ``data`` is all of it otherwise."""
    with reading(name), unwarned():
        if path is None:
            with io.BytesIO(data) as stream:
                _check_size(name, *_npy_header(stream), len(data) - stream.tell())
            array = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            with path.open("rb") as file:
                header = _npy_header(file)
                _check_size(name, *header, os.fstat(file.fileno()).st_size - file.tell())
            array = _map_array(path, name)
    return ArraySource(
        name, {"": (array.dtype, array.shape)}, lambda _: array, mapped=path is not None
    )


def _map_array(path: Path, name: str) -> NDArray[Any]:
    """Map the array in an NPY file; the file stays open beside the map."""
    file = path.open("rb")
    try:
        with np.errstate(over="ignore"):  # of sizes that no file has, which are refused after it
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        mapping = mapping_of(array)
        # Both are the same file if the path still leads to what was opened first.
        if mapping is None:
            file.close()
        elif os.path.samestat(os.fstat(file.fileno()), path.stat()):
            offset = getattr(array, "offset", 0)
            watch(mapping, file, offset - offset % mmap.ALLOCATIONGRANULARITY, name)
        else:  # replaced meanwhile
            file.close()
            return _map_array(path, name)
    except BaseException:
        file.close()
        raise
    return array


def archive_file(file: Place | io.BytesIO) -> Path | IO[bytes]:
    """Return what a reader of archives opens; a remote one is then read by ranges."""
    return file.open_buffered() if isinstance(file, Remote) else file


def open_npz(name: str, file: Place | io.BytesIO) -> ArraySource:
    """Open an NPZ archive; only the headers of its members are read."""
    shapes = {}
    with reading(name), zipfile.ZipFile(archive_file(file)) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as stream:
                    dtype, shape = _npy_header(stream)
                    held = archive.getinfo(member).file_size - stream.tell()
                _check_size(f"{name}::{member}", dtype, shape, held)
                shapes[member.removesuffix(".npy")] = dtype, shape

    def load(column: str) -> NDArray[Any]:
        dtype, shape = shapes[column]
        where = f"{name}::{column}"
        memory.require(
            where,
            "read the array",
            math.prod(shape) * dtype.itemsize,
            hint="an NPY file is mapped, not read",
        )
        with (
            unpacking(where, "read the array"),
            unwarned(),
            np.load(archive_file(file), allow_pickle=False) as members,
        ):
            return np.asarray(members[column])

    return ArraySource(name, shapes, load)


def _check_size(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], held: int) -> None:
    """Refuse an array that is larger than what its file holds of it, before it is allocated."""
    needed = math.prod(shape) * dtype.itemsize
    if needed > held:
        raise InputError(
            f"{name}: is cut short: {dtype} {shape} takes {needed:,} bytes, it holds {held:,}",
            hint="the file is damaged; get or save it again",
        )


def _npy_header(stream: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:  # noqa: ANN401
    version = np.lib.format.read_magic(stream)
    length = stream.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > LONGEST_HEADER:
        raise ValueError(f"its header has {int.from_bytes(length, 'little'):,} bytes")
    stream.seek(-len(length), os.SEEK_CUR)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    with unwarned():
        shape, _, dtype = read(stream)
    return dtype, shape
