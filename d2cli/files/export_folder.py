"""Folders appear whole or not at all: built beside their place, then renamed.

A folder of ours holds an empty file whose name is the digest of what else is there, so that it is
replaced only as long as nothing has been added or changed. That file is locked while its writer
lives; what a kill left behind is swept by the next run beside it.
"""

import contextlib
import ctypes
import ctypes.util
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from d2cli import interrupts
from d2cli.errors import ParameterError, ResourceError
from d2cli.files.digests import digest_json
from d2cli.files.mapped import refuse_shorter
from d2cli.files.publish import SUFFIX, _sync_folder, create_locked, not_written

try:
    import fcntl
except ImportError:  # pragma: no cover - not on this platform: nothing is swept there
    fcntl = None  # type: ignore[assignment]

SEAL = ".d2-export"  # readers of data leave empty files and names with a dot alone
EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def write_folder(path: Path, build: Callable[[Path], None]) -> None:
    """Replace a folder by what ``build`` puts into it, or leave it as it was.

    Parameters
    ----------
    path : Path
        Does not exist, is empty, or was written by this function; see `check_folder`.
    build : callable
        Takes a new folder and fills it.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written; names the path.
    """
    target, written = Path(os.path.realpath(path)), 0
    try:
        _sweep(target.parent)
        with _building(target) as made:
            try:
                build(made)
                refuse_shorter()
                _finish(made)
                _put(made, target)
            except OSError:
                with contextlib.suppress(OSError):
                    written = sum(_contents(made).values())
                raise
        _sync_folder(target.parent)
    except OSError as error:
        raise not_written(path, error, written=written) from error


@contextlib.contextmanager
def _building(target: Path) -> Iterator[Path]:
    """Make a new folder beside the target, with its seal locked; its name is free afterwards."""
    made, lock = create_locked(target, _open_folder)
    try:
        with interrupts.undone_by(partial(_remove, made)), lock:
            yield made
    finally:
        _remove(made)


def _open_folder(path: Path) -> BinaryIO:
    """Make a new folder and open its seal."""
    while True:
        path.mkdir()
        with contextlib.suppress(FileNotFoundError):  # swept by another run, for it was empty
            return (path / SEAL).open("xb")


def _remove(folder: Path) -> None:
    """Remove a folder as far as possible, its seal last: by it, what is left is known as ours."""
    with contextlib.suppress(OSError):
        inside = sorted(folder.iterdir(), key=lambda path: path.name.startswith(SEAL))
        for path in inside:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        folder.rmdir()


def _finish(folder: Path) -> None:
    """Seal a folder, and make sure that all is on disk."""
    contents = _contents(folder)
    for name in contents:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    (folder / SEAL).rename(folder / _seal(contents))
    for inner in {folder, *((folder / name).parent for name in contents)}:
        _sync_folder(inner)


def _contents(folder: Path) -> dict[str, int]:
    """Return the sizes of all files in a folder and its folders, seals left out."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    sizes = {path.relative_to(folder).as_posix(): path.lstat().st_size for path in found}
    return {name: size for name, size in sizes.items() if size or not name.startswith(SEAL)}


def _seal(contents: dict[str, int]) -> str:
    return f"{SEAL}-{digest_json(contents)[:20]}"


def _put(made: Path, target: Path) -> None:
    """Give a new folder its name; an old one there is then called as the new one was."""
    if not target.exists():
        made.rename(target)
        return
    made.chmod(target.stat().st_mode & 0o7777)
    if _exchange(made, target):
        return
    # Not a name that is swept: were we killed now, this would be the only copy.
    old = target.with_name(f"{target.name}.{secrets.token_hex(8)}.old")
    target.rename(old)
    try:
        made.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; False where the system cannot."""
    name = ctypes.util.find_library("c")
    rename = getattr(ctypes.CDLL(name, use_errno=True), "renameat2", None) if name else None
    if rename is None:
        return False
    done = rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE)
    return int(done) == 0


def _sweep(folder: Path) -> None:
    """Remove folders whose writer is gone."""
    if fcntl is None:
        return
    for path in folder.glob(f".*{SUFFIX}/{SEAL}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path.parent)
    for path in folder.glob(f".*{SUFFIX}/"):
        with contextlib.suppress(OSError):
            path.rmdir()  # which only removes it if it is empty


def check_folder(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse, before any work, a folder that cannot or must not be written.

    Raises
    ------
    ParameterError
        If it is a file, holds anything but what d2 wrote, holds or lies in one of the inputs,
        or lies in a folder that does not exist.
    ResourceError
        If the folder it lies in cannot be written to.
    """
    target = Path(os.path.realpath(path))
    for source in inputs:
        place = Path(os.path.realpath(source))
        inside = place.is_dir() and place in target.parents
        if target in (place, *place.parents) or inside:
            raise ParameterError(
                f"{path}: holds or lies in an input of this command", hint="name another output"
            )
    if not target.parent.is_dir():
        raise ParameterError(f"{path}: there is no folder {target.parent}", hint="make it first")
    if not os.access(target.parent, os.W_OK):
        raise ResourceError(f"{path}: the folder cannot be written to", hint="name another place")
    if not target.exists():
        return
    if not target.is_dir():
        raise ParameterError(f"{path}: is no folder", hint="name a folder, or remove the file")
    contents = _contents(target)
    if contents and not (target / _seal(contents)).exists():
        raise ParameterError(
            f"{path}: holds files that are not as `d2 export` left them",
            hint="name another folder, or empty this one",
        )
