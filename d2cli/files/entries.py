"""What lies in the cache folder: listed, verified, removed. Files of others are not looked at."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from d2cli.errors import D2Error, InputError, ParameterError, ResourceError
from d2cli.files.artifacts import read_artifact
from d2cli.files.cache import glance, unused
from d2cli.files.cells import read_cell
from d2cli.files.digests import parse_json
from d2cli.files.publish import SUFFIX
from d2cli.render.wording import neighbors_text, printable, shorten

try:
    import fcntl
except ImportError:  # pragma: no cover - not on this platform: nothing is known to be left over
    fcntl = None  # type: ignore[assignment]

EntryKind = Literal["graph", "scores", "selection", "part", "cell", "leftover"]

ARTIFACT = re.compile(r"(graph|scores|selection|part)-([0-9a-f]{40})\.parquet")
CELL = re.compile(r"cell-([0-9a-f]{40})\.json")
TEMPORARY = re.compile(r"\.[0-9a-f]{16}" + re.escape(SUFFIX))
LOCK = ".lock"


@dataclass(frozen=True)
class Entry:
    """A file in the cache folder that d2 put there.

    Attributes
    ----------
    path : Path
    kind : {"graph", "scores", "selection", "part", "cell", "leftover"}
        Results of stages, parts of a result that a run has still to finish, cells of a
        comparison, and what a run that was killed left behind.
    key : str
        Beginning of the key, as far as the name has it; empty for what was left behind.
    size : int
        Bytes.
    used : float
        Time of the last use or change, in seconds since 1970.
    n_rows : int or None
        None where the file does not tell.
    what : str
        The parameters that tell it from others, for people.
    """

    path: Path
    kind: EntryKind
    key: str
    size: int
    used: float
    n_rows: int | None = None
    what: str = ""


def list_entries(folder: Path) -> list[Entry]:
    """Return the entries of a cache folder, the one longest unused first.

    Only regular files with the names that d2 gives count: no folders, no links. A folder that does
    not exist has none. Looking is no use of an entry.

    Raises
    ------
    ParameterError
        If it is no folder.
    ResourceError
        If it cannot be read.
    """
    try:
        with os.scandir(folder) as files:
            found = list(files)
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise ParameterError(f"{folder}: is no folder", hint="name another --cache-dir") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ResourceError(f"{folder}: cannot be read: {reason}") from error
    names = {file.name for file in found}
    entries: list[Entry] = []
    for file in found:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if file.is_file(follow_symlinks=False):
                entries += _entry(Path(file.path), file.stat(follow_symlinks=False), names)
    return sorted(entries, key=lambda entry: (entry.used, entry.path.name))


def _entry(path: Path, status: os.stat_result, names: set[str]) -> Iterator[Entry]:
    size, used = status.st_size, max(status.st_atime, status.st_mtime)
    if found := ARTIFACT.fullmatch(path.name):
        kind: Any = found[1]
        rows, what = _describe(path)
        yield Entry(path, kind, found[2], size, used, rows, what)
    elif found := CELL.fullmatch(path.name):
        rows, what = _describe_cell(path)
        yield Entry(path, "cell", found[1], size, used, rows, what)
    elif TEMPORARY.fullmatch(path.name) or _is_lone_lock(path, names):
        yield Entry(path, "leftover", "", size, used)


def _is_lone_lock(path: Path, names: set[str]) -> bool:
    entry = path.name.removesuffix(LOCK)
    return path.name.endswith(LOCK) and ARTIFACT.fullmatch(entry) is not None and entry not in names


def _describe(path: Path) -> tuple[int | None, str]:
    """Return rows and main parameters, as the file says and without verifying it."""
    found = glance(path)
    if found is None:
        return None, ""
    made, n_rows = found.meta["parameters"], found.meta.get("n_rows")
    try:
        what = {
            "graph": lambda: neighbors_text(made),
            "scores": lambda: str(made["difficulty"] or "an array without a name"),
            "selection": lambda: (
                f"{made['method']}, "
                + (f"keep {made['keep']:,}" if made["rate"] is None else f"rate {made['rate']:g}")
            ),
            "part": lambda: f"of {made['of'][:12]}",
        }[found.meta["kind"]]()
    except (KeyError, TypeError, ValueError):
        what = ""
    return n_rows if isinstance(n_rows, int) else None, shorten(printable(what), 40)


def _describe_cell(path: Path) -> tuple[int | None, str]:
    with unused(path):
        try:
            found = parse_json(path.read_bytes())
            what = f"{found['method']}, rate {found['rate']:g}, seed {found['seed']}"
            return int(found["kept"][0]), shorten(printable(what), 40)
        except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError):
            return None, ""


def damage_of(entry: Entry) -> str | None:
    """Return what is wrong with an entry, or None; reads all of it, which is no use of it."""
    if entry.kind == "leftover":
        return None
    with unused(entry.path):
        if entry.kind == "cell":
            whole = read_cell(entry.path) is not None or not entry.path.exists()
            return None if whole else f"{entry.path}: is damaged"
        try:
            found = read_artifact(str(entry.path), entry.kind)
        except InputError:
            return None if not entry.path.exists() else f"{entry.path}: cannot be read"
        except D2Error as error:
            return error.message
    if not found.key.startswith(entry.key):
        return f"{entry.path}: holds another result than its name says"
    return None


# --- removing -------------------------------------------------------------------------------------


def in_use(entry: Entry) -> bool:
    """Return whether a running process makes or writes an entry; changes nothing."""
    if entry.path.name.endswith(SUFFIX):
        return not _is_abandoned(entry.path)
    lock = _lock_of(entry)
    if lock is None or not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def remove_entry(entry: Entry) -> bool:
    """Remove an entry, with its lock, unless a running process makes or writes it.

    Returns
    -------
    bool
        Whether it is gone.

    Raises
    ------
    ResourceError
        If the system does not allow it.
    """
    try:
        if entry.path.name.endswith(SUFFIX):
            return _is_abandoned(entry.path, remove=True)
        lock = _lock_of(entry)
        if lock is None:
            entry.path.unlink(missing_ok=True)
            return True
        with FileLock(lock, timeout=0):
            # Who waits for this lock sees that its file is gone, and makes another.
            entry.path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        return True
    except Timeout:
        return False
    except OSError as error:
        raise ResourceError(
            f"{entry.path}: cannot be removed: {error.strerror or error}",
            hint="see who may write to the cache folder",
        ) from error


def _lock_of(entry: Entry) -> Path | None:
    """Return the lock of an entry; cells have none."""
    if entry.kind == "cell":
        return None
    return entry.path.with_name(entry.path.name.removesuffix(LOCK) + LOCK)


def _is_abandoned(path: Path, *, remove: bool = False) -> bool:
    """Return whether the writer of a temporary file is gone; remove the file then, if asked to."""
    if fcntl is None:
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                path.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
