"""Answer to SIGBUS: the system's word that a mapped file has nothing behind an address."""

import mmap

def install(before: bytes) -> None:
    """Answer SIGBUS in the whole process, from now on.

    At an address of a watched file the answer is ``before`` and the file's text on standard error,
    and the end of the process, whatever it was doing, without any clean-up. Any other SIGBUS is
    left to whoever was to answer it before.

    Parameters
    ----------
    before : bytes
        Up to 63 bytes, written before the text.

    Raises
    ------
    OSError
        If the system refuses.
    """

def watch(
    mapping: mmap.mmap, path: bytes, size: int, shorter: bytes, unreadable: bytes, exit_code: int
) -> int:
    """Know a mapped file from now on.

    Parameters
    ----------
    mapping : mmap
    path : bytes
        Where the file is; whether it is shorter is asked there when the signal comes.
    size : int
        Bytes of the file now.
    shorter, unreadable : bytes
        What to write if the file is shorter then, and if it is not.
    exit_code : int

    Returns
    -------
    int
        For `unwatch`.
    """

def unwatch(number: int) -> None:
    """Know a file no longer: it is about to be unmapped, or has been."""
