"""Results on standard output: whole or not at all, and no error if nobody reads them."""

import contextlib
import os
import sys

from d2cli.errors import ReaderGone, ResourceError
from d2cli.files.mapped import refuse_shorter

try:
    import fcntl
except ImportError:  # pragma: no cover - not on this platform: nothing is swept there
    fcntl = None  # type: ignore[assignment]


def write_stdout(data: bytes) -> None:
    """Write a whole result to standard output; a reader that leaves early is no error.

    What a command has to do after that, such as a report or its exit code, is still done.

    Raises
    ------
    ResourceError
        If that fails for another reason.
    """
    with contextlib.suppress(ReaderGone):
        stream_stdout(data)


def stream_stdout(data: bytes) -> None:
    """Write a part of a result to standard output.

    Raises
    ------
    ReaderGone
        If nobody reads it any more, so that the rest need not be made.
    InputError
        If a mapped file has become shorter, so that the result may be wrong.
    ResourceError
        If that fails for another reason.
    """
    refuse_shorter()
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        silence_stdout()
        raise ReaderGone from error
    except OSError as error:
        raise ResourceError(f"standard output: cannot be written: {error.strerror}") from error


def silence_stdout() -> None:
    """Let all that is still to be written to standard output go nowhere: its reader has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
