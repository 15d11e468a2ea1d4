"""The cache folder: finished stages by key."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock

from d2cli.errors import ArtifactError, DamagedError, InputError
from d2cli.files.artifacts import Artifact, Kind, read_artifact

ENVIRONMENT = "D2_CACHE_DIR"


def cache_folder(given: Path | None) -> Path:
    """Return the folder given, else ``$D2_CACHE_DIR``, else the user's cache folder."""
    if given is not None:
        return given
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
    kind : {"graph", "scores", "selection"}
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
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a cache entry, so that one process builds it and others then find it."""
    with FileLock(f"{path}.lock"):
        yield
