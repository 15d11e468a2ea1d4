"""A stop that is asked for comes within a second or two, whatever is being computed.

Python answers a signal between two of its own steps, on the main thread alone. A sort, a matrix
product or the reading of a column may be one such step, and last for minutes. So a thread looks at
the clock from the signal on: where the usual way out takes too long, it removes what is half-done
and ends the process.
"""

import contextlib
import itertools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

GRACE = 1.0  # seconds for the usual way out


class Terminated(BaseException):
    """SIGTERM arrived."""


_undo: dict[int, Callable[[], None]] = {}
_numbers = itertools.count()


@contextlib.contextmanager
def undone_by(undo: Callable[[], None]) -> Iterator[None]:
    """Have something undone if the process must end inside the block without leaving it.

    Parameters
    ----------
    undo : callable
        Runs on another thread, at any moment of the block; must not wait for a lock.
    """
    number = next(_numbers)
    _undo[number] = undo
    try:
        yield
    finally:
        del _undo[number]


@contextlib.contextmanager
def answered(*, alone: bool) -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM raise Terminated inside the block.

    Signals that were ignored before, as those of ``nohup`` are, stay so.

    Parameters
    ----------
    alone : bool
        The process is ours: the first signal ends it within about ``GRACE`` seconds, those that
        follow change nothing, and so it stays after the block, for Python waits for threads then.
    """
    if not alone:
        previous = signal.signal(signal.SIGTERM, _raise)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
        return
    asked = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    _watch()
    for number in asked:
        signal.signal(number, _raise_once)
    try:
        yield
    finally:
        if _leaving.is_set():  # by a signal: a late one must not end Python while it cleans up
            for number in asked:
                signal.signal(number, signal.SIG_IGN)
        _leaving.set()


_leaving = threading.Event()


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _raise_once(number: int, frame: FrameType | None) -> None:
    """Begin the usual way out; a second signal must not cut it short."""
    if not _leaving.is_set():
        _leaving.set()
        _raise(number, frame)


def _watch() -> None:
    """Start the thread that ends the process if the usual way out takes too long."""
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.detach(), warn_on_full_buffer=False)

    def end_late() -> None:
        number = 0
        while number not in (signal.SIGINT, signal.SIGTERM):
            number = told.recv(1)[0]  # one byte a signal, written by Python's handler in C
        threading.Event().wait(GRACE)
        for undo in list(_undo.values()):
            with contextlib.suppress(BaseException):
                undo()
        os._exit(128 + number)

    threading.Thread(target=end_late, name="d2-interrupts", daemon=True).start()
