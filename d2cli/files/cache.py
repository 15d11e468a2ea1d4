"""The cache folder: finished stages by key."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from d2cli.errors import ArtifactError, DamagedError, InputError
from d2cli.files.artifacts import Artifact, Kind, read_artifact

ENVIRONMENT = "D2_CACHE_DIR"


def cache_folder(given: str | None) -> Path:
    """Return the folder given, else ``$D2_CACHE_DIR``, else the user's cache folder."""
    if given:
        return Path(given)
    return Path(os.environ.get(ENVIRONMENT) or platformdirs.user_cache_dir("d2cli"))


def entry_path(folder: Path, kind: Kind, key: str) -> Path:
    """Return the file that holds a stage's result."""
    return folder / f"{kind}-{key[:40]}.parquet"


def find(path: Path, kind: Kind, key: str) -> tuple[Artifact | None, str | None]:
    """Return the up-to-date artifact at a path, and what was wrong with a damaged one.

    Parameters
    ----------
    path : Path
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
        artifact = read_artifact(str(path), kind)
    except DamagedError as error:
        return None, error.message
    except (ArtifactError, InputError):
        return None, None
    return (artifact if artifact.key == key else None), None


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
