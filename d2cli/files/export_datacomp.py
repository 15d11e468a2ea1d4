"""Rows for DataComp: a subset file of uids, as its resharder reads them, and arrays of metadata."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.arrays import archive_file
from d2cli.files.damage import reading
from d2cli.files.remote import Place
from d2cli.stages.defects import Defect

SINCE = (1980, 1, 1, 0, 0, 0)  # of members of archives: the same rows give the same bytes
DTYPE = np.dtype("u8,u8")  # not one with other field names: the resharder compares it
DIGITS = 32
_VALUES = np.full(256, 255, dtype=np.uint8)  # of a byte as a hexadecimal digit; 255 for none
for _digit, _byte in enumerate(b"0123456789abcdef"):
    _VALUES[_byte] = _VALUES[bytes([_byte]).upper()[0]] = _digit


def subset_of(uids: Iterable[pa.Array], rows: NDArray[np.int64], where: str) -> NDArray[np.void]:
    """Return uids as sorted pairs of their first and last 16 hexadecimal digits.

    Parameters
    ----------
    uids : iterable of large_string arrays
        Of the rows, batch by batch.
    rows : int64 array, shape (m,)
        For messages.
    where : str
        The column, for messages.

    Returns
    -------
    array of dtype "u8,u8", shape (m,)
        Ascending by the first, then the second number.

    Raises
    ------
    InputError
        If a uid is not 32 hexadecimal digits, or stands twice.
    """
    bad = Defect("is no uid", "a uid of DataComp is 32 hexadecimal digits")
    subset, at = np.empty(len(rows), dtype=DTYPE), 0
    for batch in uids:
        digits, valid = _digits(batch)
        if not valid.all():
            first = int((~valid).argmax())
            bad.add(int(rows[at + first]), ~valid[first:])
        halves = np.zeros((len(batch), 2), dtype=np.uint64)
        for place in range(DIGITS):
            halves[:, place // 16] = halves[:, place // 16] << np.uint64(4) | digits[:, place]
        part = subset[at : at + len(batch)]
        part["f0"], part["f1"] = halves.T
        at += len(batch)
    bad.refuse(where)
    order = np.lexsort((subset["f1"], subset["f0"]))
    subset = subset[order]
    same = subset[1:] == subset[:-1]
    if same.any():
        first = int(same.argmax())
        one, other = sorted(rows[order[first : first + 2]].tolist())
        raise InputError(
            f"{where}: rows {one} and {other} have the same uid ({int(same.sum()):,} such in all)",
            hint="a uid that stands twice would be one sample; drop one of the rows",
        )
    return subset


def _digits(uids: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the values of all digits, (b, 32), 0 where a uid is none, and which are uids, (b,)."""
    raw = np.zeros((len(uids), DIGITS), dtype=np.uint8)
    _, places, text = uids.buffers()
    if not len(uids):
        return raw, np.ones(0, dtype=np.bool_)
    offsets = np.frombuffer(places, dtype=np.int64)[uids.offset :][: len(uids) + 1]
    valid = np.diff(offsets) == DIGITS
    if valid.any():
        letters = np.frombuffer(text, dtype=np.uint8)
        raw[valid] = _VALUES[letters[offsets[:-1][valid][:, None] + np.arange(DIGITS)]]
    valid &= (raw != 255).all(axis=1)
    raw[~valid] = 0
    return raw, valid


def write_archive(path: Path, archive: Place, rows: NDArray[np.int64]) -> None:
    """Write some rows of all arrays of an NPZ archive as another one, array by array.

    Parameters
    ----------
    path : Path
        Does not exist.
    archive : Path or Remote
    rows : int64 array, shape (m,)
    """
    where = str(archive)
    with reading(where):
        arrays = np.load(archive_file(archive), allow_pickle=False)
    with arrays, zipfile.ZipFile(path, "x") as members:
        for name in arrays.files:
            with reading(f"{where}::{name}"):
                kept = np.ascontiguousarray(arrays[name][rows])
            member = zipfile.ZipInfo(f"{name}.npy", SINCE)
            with members.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, kept, allow_pickle=False)
