"""The cache folder: finished stages by key."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from d2cli.errors import ArtifactError, DamagedError, InputError
from d2cli.files.artifact_tables import Kind
from d2cli.files.artifacts import Artifact, peek_artifact, read_artifact
from d2cli.files.remote import Place

ENVIRONMENT = "D2_CACHE_DIR"
ENTRY = re.compile(r"(graph|scores|selection|part)-[0-9a-f]{40}\.parquet")


def cache_folder(given: str | None) -> Path:
    """Return the folder given, else ``$D2_CACHE_DIR``, else the user's cache folder."""
    if given:
        return Path(given)
    return Path(os.environ.get(ENVIRONMENT) or platformdirs.user_cache_dir("d2cli"))


def entry_path(folder: Path, kind: Kind, key: str) -> Path:
    """Return the file that holds a stage's result."""
    return folder / f"{kind}-{key[:40]}.parquet"


def find(path: Place, kind: Kind, key: str) -> tuple[Artifact | None, str | None]:
    """Return the up-to-date artifact at a path, and what was wrong with a damaged one.

    Parameters
    ----------
    path : Path or Remote
        A cache entry or a stage's output; need not exist.
    kind : {"graph", "difficulty", "scores", "selection"}
    key : str
        The key that it must carry.

    Returns
    -------
    artifact : Artifact or None
        None if it is absent, another's, or damaged.
    damage : str or None
        The message about a file that looks like an artifact but is damaged.
    """
    if not path.is_file():
        return None, None
    try:
        artifact = read_artifact(path, kind)
    except DamagedError as error:
        return None, error.message
    except (ArtifactError, InputError) as error:
        ours = isinstance(path, Path) and ENTRY.fullmatch(path.name)
        return None, error.message if ours and path.is_file() else None
    if artifact.key != key:
        return None, None
    if isinstance(path, Path) and ENTRY.fullmatch(path.name):
        _mark_used(path)
    return artifact, None


def _mark_used(path: Path) -> None:
    """Set the time of the last use, which many file systems record only once a day or never."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


@contextlib.contextmanager
def unused(path: Path) -> Iterator[None]:
    """Leave the time of the last use as it is, though a file is read: a look is no use."""
    before = None
    with contextlib.suppress(OSError):
        before = path.stat()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if before is not None and path.stat().st_mtime_ns == before.st_mtime_ns:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def glance(path: Place) -> Artifact | None:
    """Return an artifact without its rows, not verified; None if a file is none. No use of it."""
    with unused(path) if isinstance(path, Path) else contextlib.nullcontext():
        return peek_artifact(path)


def find_digest(folder: Path, kind: Kind, digest: str) -> Artifact | None:
    """Return the entry of a kind that claims a digest, without its rows and not verified.

    Parameters
    ----------
    folder : Path
        The cache folder; need not exist.
    kind : {"graph", "scores", "selection"}
    digest : str
        Of columns and metadata, as what was made from the entry records it.

    Returns
    -------
    Artifact or None
        Its name is its path.
    """
    for path in sorted(folder.glob(f"{kind}-*.parquet")):
        found = glance(path)
        if found is not None and found.digest == digest and found.meta["kind"] == kind:
            return found
    return None


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a cache entry, so that one process builds it and others then find it.

    Parameters
    ----------
    path : Path
        The entry.
    on_wait : callable
        Called once if another process holds the lock for longer than a second.

    Raises
    ------
    OSError
        If there can be no lock file.
    """
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
