"""Folders and globs as sources: which files are the shards, in what order, with what labels.

Shards come in the order of their paths, compared byte by byte (as ``LC_ALL=C sort`` does). Files
and folders whose names begin with ``.`` or ``_`` are left out, as they are by other readers.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Generic
from urllib.parse import unquote

from d2cli.errors import InputError
from d2cli.files.arrays import open_npz
from d2cli.files.column import Source
from d2cli.files.datacomp import PairSource
from d2cli.files.paths import exists, is_file
from d2cli.files.remote import Remote
from d2cli.files.remote_folders import list_files
from d2cli.files.saved_datasets import INFO, STATE, PlaceT, data_files
from d2cli.files.shards import NULL_LABEL, ShardedSource

KINDS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".parq": "Parquet",
    ".npy": "NPY",
    ".npz": "NPZ",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".ipc": "Arrow",
}
OF_HOW_MANY = re.compile(r"(.+)-[0-9]{5}-of-([0-9]{5})(?:-[0-9a-f]+)?")
SPLITS = {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval"}


def is_folder_or_glob(text: str) -> bool:
    """Return whether a text is the path of a folder, or a glob that matches some files."""
    return (exists(text) and Path(text).is_dir()) or is_glob(text)


def is_glob(text: str) -> bool:
    """Return whether a text that is no path itself is a glob that matches some files."""
    if exists(text) or not glob.has_magic(text):
        return False
    try:
        return next(glob.iglob(text, recursive=True), None) is not None  # noqa: PTH207 - any path
    except (OSError, ValueError):
        return False


def absence(text: str) -> str:
    """Return what to say of a text that is no path, and no glob that matches any file."""
    return "no file matches" if glob.has_magic(text) else "no such file"


def names_files(text: str) -> bool:
    """Return whether a text is the path of a file or folder, or a glob that matches some files."""
    return exists(text) or is_glob(text)


def open_folder(text: str, open_file: Callable[[Path], Source]) -> tuple[Source, list[Path]]:
    """Open a folder or glob; return the source and every file that it is read from.

    Parameters
    ----------
    text : str
        A folder of shards or of a saved dataset, or a glob.
    open_file : callable
        Opens one file.

    Raises
    ------
    InputError
        If there are no shards, or they are of several kinds, splits or layouts.
    """
    folder = Path(text)
    try:
        if folder.is_dir():
            saved = data_files(folder)
            if saved is not None:
                notes = [path for path in (folder / STATE, folder / INFO) if is_file(path)]
                return ShardedSource(text, saved, open_file), [*saved, *notes]
            root, found = folder, list(_walk(folder, ()))
        else:
            root, found = _matches(text)
    except OSError as error:
        raise InputError(f"{error.filename or text}: cannot be read: {error.strerror}") from error
    found.sort(key=lambda path: os.fsencode(path.as_posix()))
    return _Shards(text, folder.is_dir(), root, found, is_file).open(open_file)


def open_remote_folder(
    remote: Remote, open_file: Callable[[Remote], Source]
) -> tuple[Source, list[Remote]]:
    """Open a folder or glob of another machine, by the same rules; see `open_folder`.

    Raises
    ------
    InputError
        As above, or if the folder cannot be listed.
    """
    if remote.is_dir():
        saved = data_files(remote)
        if saved is not None:
            return ShardedSource(str(remote), saved, open_file), saved
    root, found = list_files(remote)
    tables = [file for file in found if file.suffix.lower() in KINDS]
    # Of a glob, what lies beside the tables was not listed.
    known = {str(file) for file in found} if remote.is_dir() else None

    def is_there(file: Remote) -> bool:
        return is_file(file) if known is None else str(file) in known

    tables.sort(key=lambda file: os.fsencode(file.relative_to(root).as_posix()))
    return _Shards(str(remote), remote.is_dir(), root, tables, is_there).open(open_file)


@dataclass(frozen=True)
class _Shards(Generic[PlaceT]):
    """The files that a folder or glob means, here or on another machine.

    Attributes
    ----------
    text : str
        The folder or glob, for messages.
    whole : bool
        Whether it is a folder.
    root : Path or Remote
        What all files lie below.
    found : list of Path or Remote
        In the order of their rows.
    is_there : callable
        Whether there is another such file.
    """

    text: str
    whole: bool
    root: PlaceT
    found: list[PlaceT]
    is_there: Callable[[PlaceT], bool]

    def open(self, open_file: Callable[[PlaceT], Source]) -> tuple[Source, list[PlaceT]]:
        """Open them as one source; return it and every file that it is read from."""
        tables = self._of_one_kind()
        if self.whole:
            _refuse_splits(self.root, tables)
        labels = _folder_labels(self.root, tables)
        archives: list[PlaceT] = []
        if KINDS[tables[0].suffix.lower()] == "Parquet":
            beside = [table.with_suffix(".npz") for table in tables]
            archives = [path for path in beside if self.is_there(path)]
        if not archives:
            return ShardedSource(self.text, tables, open_file, labels), tables
        others: list[PlaceT] = [path for path in self.found if path.suffix.lower() == ".npz"]
        _refuse_single(tables, archives + others)

        def open_pair(path: PlaceT) -> Source:
            archive = path.with_suffix(".npz")
            return PairSource(open_file(path), open_npz(str(archive), archive), archive)

        return ShardedSource(self.text, tables, open_pair, labels), tables + archives

    def _of_one_kind(self) -> list[PlaceT]:
        """Return the shards without the archives beside Parquet files."""
        kinds = {KINDS[path.suffix.lower()] for path in self.found}
        if not kinds:
            raise InputError(
                f"{self.text}: no shards there, expected .parquet, .npy or .arrow files",
                hint="name a folder of shards, one written by datasets' save_to_disk(), a glob in "
                "quotes such as 'data/train-*.parquet', or a file",
            )
        if kinds == {"NPZ"}:
            raise InputError(
                f"{self.text}: NPZ files without the Parquet files of the same names beside them",
                hint="name one of the files",
            )
        if len(kinds) > 1 and kinds != {"Parquet", "NPZ"}:
            folder = self.text if self.whole else self.text.rpartition("/")[0]
            below = f"{folder.rstrip('/')}/" if folder.rstrip("/") else folder
            raise InputError(
                f"{self.text}: holds {' and '.join(sorted(kinds))} files",
                hint=f"name one kind by a glob in quotes, such as '{below}*{self.found[0].suffix}'",
            )
        return [path for path in self.found if KINDS[path.suffix.lower()] != "NPZ"]


def shard_files(folder: Path) -> list[Path]:
    """Return the files of a folder that could be shards, in the order of their rows.

    Raises
    ------
    InputError
        If the folder cannot be listed.
    """
    try:
        found = list(_walk(folder, ()))
    except OSError as error:
        where = error.filename or folder
        raise InputError(f"{where}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda path: os.fsencode(path.as_posix()))


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a folder that have a known ending; a link to a folder above is none."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for path in folder.iterdir():
        if path.name.startswith((".", "_")):
            continue
        if path.is_dir():
            yield from _walk(path, (*above, real))
        elif path.suffix.lower() in KINDS:
            yield path


def _matches(text: str) -> tuple[Path, list[Path]]:
    """Return the part of a glob before its first wildcard, and the files that it names."""
    parts = Path(text).parts
    fixed = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    asked = any(part.startswith("_") for part in parts[fixed:])
    found: list[Path] = []
    for match in map(Path, glob.glob(text, recursive=True)):  # noqa: PTH207 - may be absolute
        if not asked and any(part.startswith("_") for part in match.parts[fixed:]):
            continue
        if match.is_dir():
            found += _walk(match, ())
        elif match.suffix.lower() in KINDS:
            found.append(match)
    return root, list(dict.fromkeys(found))  # files below a matching folder may match, too


def _refuse_single(tables: list[PlaceT], archives: list[PlaceT]) -> None:
    """Refuse tables of which only some have an archive, and archives without a table."""
    beside = {path.with_suffix("") for path in tables}
    lone = next((path for path in archives if path.with_suffix("") not in beside), None)
    with_arrays = {path.with_suffix("") for path in archives}
    bare = next((path for path in tables if path.with_suffix("") not in with_arrays), None)
    if lone is None and bare is None:
        return
    raise InputError(
        f"{lone}: there is no {lone.stem}.parquet beside it"
        if lone is not None
        else f"{bare}: there is no .npz file of that name beside it, but beside others",
        hint="each shard of DataComp metadata is a Parquet file and an NPZ file of the same name",
    )


# --- splits ---------------------------------------------------------------------------------------


def _refuse_splits(folder: PlaceT, paths: list[PlaceT]) -> None:
    """Refuse shards of several splits, and a split whose shards are not all there."""
    found: dict[str, str] = {}  # split -> a glob or folder that names it alone
    numbered: Counter[tuple[str, str]] = Counter()
    for path in paths:
        split = _split_of(path.relative_to(folder))
        if split is None:
            continue
        name, only, count = split
        found.setdefault(name, str(folder / str(only)))
        if count:
            numbered[name, count] += 1
    if len(found) > 1:
        first = next((name for name in found if "train" in name.rsplit("/", 1)[-1]), min(found))
        raise InputError(
            f"{folder}: holds several splits: {', '.join(sorted(found))}",
            hint=f"name one of them in quotes: '{found[first]}'",
        )
    for (name, count), number in numbered.items():
        if number != int(count):
            raise InputError(
                f"{folder}: holds {number:,} of {int(count):,} shards of {name}",
                hint=f"get the others; if these are meant, name them: '{found[name]}'",
            )


def _split_of(path: PurePath) -> tuple[str, PurePath, str] | None:
    """Return the split of a shard, what names its shards alone, and how many there should be."""
    folders = [part for part in path.parts[:-1] if "=" not in part]
    numbered = OF_HOW_MANY.fullmatch(path.stem)
    if numbered:
        split, count = numbered.groups()
        return "/".join([*folders, split]), path.with_name(f"{split}-*{path.suffix}"), count
    for at, part in enumerate(path.parts[:-1]):
        if part.lower() in SPLITS:
            return part, PurePath(*path.parts[: at + 1]), ""
    word = re.split(r"[-_.]", path.stem, maxsplit=1)[0]
    if word.lower() in SPLITS:
        return word, path.with_name(f"{word}*{path.suffix}"), ""
    return None


# --- labels ---------------------------------------------------------------------------------------


def _folder_labels(root: PlaceT, paths: list[PlaceT]) -> dict[str, list[str | None]]:
    """Return the ``key=value`` folders below the root as columns: a text for each shard.

    Raises
    ------
    InputError
        If shards lie in folders of different keys, or one key stands twice.
    """
    found = []
    for path in paths:
        parts = [part.partition("=") for part in path.relative_to(root).parts[:-1] if "=" in part]
        found.append([(unquote(key), unquote(value)) for key, _, value in parts if key])
        keys = [key for key, _ in found[-1]]
        if keys != [key for key, _ in found[0]] or len(set(keys)) < len(keys):
            raise InputError(
                f"{path}: is in folders of {', '.join(keys) or 'no labels'}, "
                f"{paths[0]} in those of {', '.join(key for key, _ in found[0]) or 'no labels'}",
                hint="key=value folders need the same keys, each once, for all shards",
            )
    names = [key for key, _ in found[0]]
    return {
        name: [None if row[at][1] == NULL_LABEL else row[at][1] for row in found]
        for at, name in enumerate(names)
    }
