"""What may be written where: an output is refused before any work, not after it."""

import errno
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

from d2cli.errors import ParameterError, ResourceError
from d2cli.files.paths import is_file
from d2cli.files.remote import Place, Remote
from d2cli.files.remote_folders import may_hold

try:
    import fcntl
except ImportError:  # pragma: no cover - not on this platform: nothing is swept there
    fcntl = None  # type: ignore[assignment]
from d2cli.files.publish import _temporary_name, is_device

SHARDS = (".parquet", ".pq", ".arrow", ".npy", ".npz")  # what a folder of data may consist of


def _would_be_part(path: Path, source: Path) -> bool:
    """Return whether an output would be read as one more shard of a folder or glob."""
    if path.suffix.lower() not in SHARDS or path.name.startswith((".", "_")):
        return False
    place = Path(os.path.realpath(path))
    if source.is_dir():
        return Path(os.path.realpath(source)) in place.parents
    return not source.exists() and fnmatch(str(place), os.path.realpath(source))


def refuse_inputs(path: Path, inputs: list[Place]) -> None:
    """Refuse a file that is one of the inputs, through links too, or would come among them."""
    if _is_stdin(path) or any(_same_file(path, source) for source in inputs):
        _refuse_input(path)
    for source in inputs:
        if isinstance(source, Path) and _would_be_part(path, source):
            _refuse_part(path, source)


def _would_be_remote_part(path: Remote, source: Remote) -> bool:
    """Return whether an output would be read as one more shard of a remote folder or glob."""
    if path.suffix.lower() not in SHARDS or path.name.startswith((".", "_")):
        return False
    return may_hold(source, path)


def _refuse_part(path: Place, source: Place) -> NoReturn:
    raise ParameterError(
        f"{path}: would be a part of the source {source}", hint="name an output in another folder"
    )


def check_output(path: Place, inputs: Iterable[Place]) -> None:
    """Refuse, before any work, an output that cannot or must not be written.

    Raises
    ------
    ParameterError
        If it is a folder, in a folder that does not exist, or one of the inputs, through links
        too.
    ResourceError
        If the folder cannot be written to, or the server of a remote file not be reached.
    """
    if isinstance(path, Remote):
        path.check_output()
        for source in inputs:
            if isinstance(source, Remote) and not source.is_dir() and path.same_as(source):
                _refuse_input(path)
            if isinstance(source, Remote) and _would_be_remote_part(path, source):
                _refuse_part(path, source)
        return
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path}: cannot be a file name: {error}") from error
    if is_folder:
        raise ParameterError(f"{path}: is a folder", hint="name a file in it")
    _refuse_loop(path)
    refuse_inputs(path, list(inputs))
    if is_device(path):
        return
    target = Path(os.path.realpath(path))
    folder = target.parent
    if not folder.is_dir():
        raise ParameterError(f"{path}: there is no folder {folder}", hint="make it first")
    if not os.access(folder, os.W_OK):
        raise ResourceError(f"{path}: the folder cannot be written to", hint="name another place")
    _refuse_long(path, target)


def _refuse_long(path: Path, target: Path) -> None:
    """Refuse a path that, whole, is too long for the system, or for a temporary file beside it."""
    for place in (target, target.with_name(_temporary_name())):
        try:
            place.lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ParameterError(
                    f"{path}: the whole path is too long to be written", hint="name a shorter one"
                ) from error


def _refuse_loop(path: Path) -> None:
    """Refuse a link that leads nowhere but to itself: one of its links would be replaced."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ParameterError(
                f"{path}: is a link that leads back to itself", hint="remove it first"
            ) from error


def _refuse_input(path: Place) -> NoReturn:
    raise ParameterError(
        f"{path}: is an input of this command and would be destroyed", hint="name another output"
    )


def _same_file(path: Path, other: Place) -> bool:
    if isinstance(other, Remote):
        return False
    try:
        return path.samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def _is_stdin(path: Path) -> bool:
    """Return whether a path is the file that standard input is redirected from."""
    try:
        stdin, file = os.fstat(0), path.stat()
    except OSError:
        return False
    return is_file(path) and (stdin.st_dev, stdin.st_ino) == (file.st_dev, file.st_ino)
