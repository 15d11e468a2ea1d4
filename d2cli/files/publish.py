"""Files appear whole or not at all: temporary file, fsync, rename.

A temporary file is locked while its writer lives, so the next run in the folder can tell a live
one from what a kill left behind, and sweeps the latter.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from d2cli import interrupts
from d2cli.errors import ResourceError
from d2cli.files.mapped import refuse_shorter
from d2cli.files.paths import exists, is_file
from d2cli.files.remote import Place, Remote
from d2cli.quantities import size_text

try:
    import fcntl
except ImportError:  # pragma: no cover - not on this platform: nothing is swept there
    fcntl = None  # type: ignore[assignment]


SUFFIX = ".d2tmp"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(
    path: Place, write: Callable[[BinaryIO], None], *, size: int | None = None
) -> None:
    """Replace a file by what ``write`` writes, or leave it as it was.

    A link is followed: its target is replaced. A device or pipe is written to directly, until its
    reader leaves.

    Parameters
    ----------
    path : Path or Remote
    write : callable
        Takes a binary file opened for writing.
    size : int, optional
        Bytes that it will write, or a little less, where that is known.

    Raises
    ------
    ResourceError
        If the disk is full or the file cannot be written; names the path and, where there is too
        little space, how much is needed.
    """
    if isinstance(path, Remote):
        path.publish(write)
        return
    target, written = Path(os.path.realpath(path)), 0
    try:
        if is_device(path):
            with contextlib.suppress(BrokenPipeError), path.open("wb") as device:
                write(device)
            return
        _sweep(target.parent)
        _refuse_full_disk(target.parent, size)
        temporary, file = create_locked(target)
        remove = partial(temporary.unlink, missing_ok=True)
        try:
            with interrupts.undone_by(remove), file:
                write(file)
                refuse_shorter()
                file.flush()
                os.fsync(file.fileno())
                if target.exists():
                    os.fchmod(file.fileno(), target.stat().st_mode & 0o7777)
                temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                written = temporary.stat().st_size
            remove()
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise not_written(path, error, size=size, written=written) from error


def _refuse_full_disk(folder: Path, size: int | None) -> None:
    """Raise OSError if a file of that size has no room."""
    free = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
    if size is not None and free is not None and free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def not_written(
    path: Place, error: OSError, *, size: int | None = None, written: int = 0
) -> ResourceError:
    """Return the error of an output that could not be written.

    Parameters
    ----------
    path : Path or Remote
    error : OSError
    size : int, optional
        Bytes that are needed, where that is known.
    written : int
        Bytes that there was room for.

    Raises
    ------
    InputError
        If what was written lay in a mapped file that has become shorter.
    """
    if error.errno == errno.EFAULT:
        refuse_shorter()
    message = f"{path}: cannot be written: {error.strerror or error}"
    if error.errno in NO_ROOM and (size is not None or written):
        if size is not None and size >= written:
            message += f"; {size_text(size)} are needed"
        elif written:
            message += f"; more than {size_text(written)} are needed"
        if error.errno != errno.EFBIG:
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(Path(os.path.realpath(str(path))).parent).free
                message += f", {size_text(free)} are free"
    return ResourceError(
        message, hint="nothing was changed; free some space, or name another place"
    )


def is_device(path: Place) -> bool:
    """Return whether a path is a device or pipe: written to directly, never replaced or read."""
    if isinstance(path, Remote):
        return False
    return exists(path) and not is_file(path) and not path.is_dir()


def write_bytes(path: Place, data: bytes) -> bool:
    """Replace a file by these bytes; leave it alone, and return False, if it holds them already."""
    if isinstance(path, Remote):
        if path.holds(data):
            return False
        path.publish(lambda file: _write_all(file, data))
        return True
    target = Path(os.path.realpath(path))
    with contextlib.suppress(OSError):
        if target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data:
            return False
    write_atomically(path, lambda file: _write_all(file, data), size=len(data))
    return True


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _temporary_name() -> str:
    return f".{secrets.token_hex(8)}{SUFFIX}"


def _open_new(path: Path) -> BinaryIO:
    return path.open("xb")


def create_locked(
    target: Path, open_new: Callable[[Path], BinaryIO] = _open_new
) -> tuple[Path, BinaryIO]:
    """Make something new beside the target; it is locked, lest it is taken for left over.

    Parameters
    ----------
    target : Path
    open_new : callable, optional
        Makes what is to have a path, and opens the file whose lock stands for it. Left out, that
        file alone.

    Returns
    -------
    path : Path
        A hidden name.
    file : binary file
        Locked until it is closed.
    """
    while True:
        path = target.with_name(_temporary_name())
        file = open_new(path)
        if fcntl is None:
            return path, file
        # Another run may sweep it between the two calls: then it is locked, or has no name left.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                return path, file
        file.close()


def _sweep(folder: Path) -> None:
    """Remove temporary files whose writer is gone."""
    if fcntl is None:
        return
    for path in folder.glob(f".*{SUFFIX}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
