"""Column names of a source for shell completion, without NumPy or pyarrow: a key press cannot wait.

Whatever is damaged, too large, remote or no file at all has no names: completion never fails.
"""

import csv
import glob
import json
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from d2cli.footers import parquet_columns

MOST_HEADER_BYTES = 1 << 20
MOST_ARCHIVE_BYTES = 1 << 20  # of an archive's list of members
MOST_PLACES = 10_000  # of a folder that are looked at to find a shard
SHARDS = (".parquet", ".pq")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
OBJECTS = (".jsonl", ".ndjson")


def column_names(path: Path) -> list[str]:
    """Return the columns of a source that a shell can show; else none.

    Parameters
    ----------
    path : Path
        A Parquet, NPZ, safetensors, CSV, TSV or JSON lines file, a folder of Parquet shards, a
        saved dataset, or a glob of files.
    """
    try:
        names = list(_names(path))
    except (
        OSError,
        ValueError,
        LookupError,
        RecursionError,
        NotImplementedError,  # of zipfile
        struct.error,
        zipfile.BadZipFile,
        csv.Error,
    ):
        return []
    return [name for name in names if isinstance(name, str) and name and name.isprintable()]


def _names(path: Path) -> Iterator[str]:
    if not path.exists():
        path = _existing(str(path))
    if path.is_dir():
        yield from _folder_names(path)
        return
    if not path.is_file():  # a pipe would wait for its writer
        return
    with path.open("rb") as file:
        head = file.read(8)
    suffix = path.suffix.lower()
    if head[:4] == b"PAR1":
        yield from parquet_columns(path)
    elif head[:2] == b"PK":
        yield from _archive_names(path)
    elif suffix == ".safetensors":
        yield from _tensor_names(path, int.from_bytes(head, "little"))
    elif suffix in DELIMITERS:
        first = csv.reader([_first_line(path)], delimiter=DELIMITERS[suffix])
        yield from next(first, [])
    elif suffix in OBJECTS:
        yield from _keys(json.loads(_first_line(path)))


def _existing(text: str) -> Path:
    """Return what a shell would make of ``~``, ``$HOME`` or a glob in a name."""
    text = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111 - text, as typed
    if glob.has_magic(text):
        text = next(glob.iglob(text), "")  # noqa: PTH207 - may be absolute
    return Path(text)


def _folder_names(folder: Path) -> Iterator[str]:
    description = folder / "dataset_info.json"
    if description.is_file():
        if description.stat().st_size <= MOST_HEADER_BYTES:
            yield from _keys(_keys(json.loads(description.read_text(encoding="utf-8")))["features"])
        return
    shard = next(_shards(folder), None)
    if shard is None:
        return
    yield from parquet_columns(shard)
    for part in shard.relative_to(folder).parts[:-1]:
        key, separator, _ = part.partition("=")
        if separator:
            yield key


def _shards(folder: Path) -> Iterator[Path]:
    """Yield the Parquet files among the first places of a folder."""
    seen = 0
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in sorted(files):
            if name[0] not in "._" and name.lower().endswith(SHARDS):
                place = Path(top, name)
                if place.is_file():
                    yield place
        seen += len(folders) + len(files)
        if seen > MOST_PLACES:
            return


def _archive_names(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 1 << 16), os.SEEK_END)
        end = file.read()
    at = end.rindex(b"PK\x05\x06")
    if int.from_bytes(end[at + 12 : at + 16], "little") <= MOST_ARCHIVE_BYTES:
        with zipfile.ZipFile(path) as archive:
            yield from (name.removesuffix(".npy") for name in archive.namelist())


def _tensor_names(path: Path, length: int) -> Iterator[str]:
    if length <= MOST_HEADER_BYTES:
        with path.open("rb") as file:
            file.seek(8)
            yield from (name for name in _keys(json.loads(file.read(length))) if name[:2] != "__")


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return lines.readline(MOST_HEADER_BYTES)


def _keys(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value
