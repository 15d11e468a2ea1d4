"""Questions to the file system that any text may be asked about."""

from d2cli.files.addresses import is_remote, names_column
from d2cli.files.remote import Place, as_place


def exists(path: str | Place) -> bool:
    """Return whether there is a file; False too for what can be no path (too long, a null byte).

    The address of a remote file counts as one, and is not asked; with ``::COLUMN`` it is none.
    """
    if isinstance(path, str) and is_remote(path):
        return not names_column(path)
    try:
        return as_place(path).exists() if isinstance(path, str) else path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: str | Place) -> bool:
    """Return whether there is a regular file; False for what can be no path."""
    try:
        return as_place(path).is_file() if isinstance(path, str) else path.is_file()
    except (OSError, ValueError):
        return False
