"""Questions to the file system that any text may be asked about."""

import os
from pathlib import Path

from d2cli.errors import InputError
from d2cli.files.addresses import is_remote, names_column
from d2cli.files.remote import Place, as_place


def exists(path: str | Place) -> bool:
    """Return whether there is a file; False too for what can be no path (too long, a null byte).

    The address of a remote file counts as one, and is not asked; with ``::COLUMN`` it is none.
    """
    if isinstance(path, str) and is_remote(path):
        return not names_column(path)
    try:
        # Not by a path object, which forgets a slash at the end: only a folder may have one.
        return os.path.exists(path) if isinstance(path, str) else path.exists()  # noqa: PTH110
    except (OSError, ValueError):
        return False


def is_file(path: str | Place) -> bool:
    """Return whether there is a regular file; False for what can be no path."""
    try:
        if isinstance(path, str) and not is_remote(path):
            return os.path.isfile(path)  # noqa: PTH113 - see above
        return as_place(path).is_file()
    except (OSError, ValueError):
        return False


def refuse_slash(text: str | Place) -> None:
    """Refuse the name of a plain file with a slash after it, which is that of a folder.

    Raises
    ------
    InputError
    """
    if isinstance(text, str) and not is_remote(text) and not exists(text) and exists(Path(text)):
        raise InputError(f"{text}: there is no such folder, but a file", hint="leave out the slash")
