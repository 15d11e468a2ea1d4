"""Questions to the file system that any text may be asked about."""

from pathlib import Path


def exists(path: str | Path) -> bool:
    """Return whether there is a file; False too for what can be no path (too long, a null byte)."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_file(path: str | Path) -> bool:
    """Return whether there is a regular file; False for what can be no path."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
