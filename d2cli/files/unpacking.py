"""A bound on what libraries allocate while they unpack a file, however much it turns out to hold.

Some kilobytes of a compressed page, of a dictionary with one long value, or of a run length can
stand for gigabytes, and what a header says of them may be a lie. So while a library unpacks, the
system refuses it memory beyond the limit of the command (RLIMIT_DATA; where the system does not
count a process's data, nothing is bounded).
"""

import contextlib
import resource
import threading
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from d2cli.errors import ResourceError
from d2cli.files import memory

BEYOND = 0.25  # of the limit: plans are estimates, and not all that is allocated becomes resident
LEAST = 64 << 20  # bytes beyond it: what libraries hold besides
# What libraries say where the system refuses them memory, if they do not raise MemoryError.
REFUSED = ("malloc of size", "realloc of size", "bad_alloc", "allocate memory", "Out of memory")

Item = TypeVar("Item")

_lock = threading.Lock()
_inside = 0  # blocks, of all threads
_before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
_limit: ContextVar[memory.Limit | None] = ContextVar("limit of unpacking", default=None)


@contextlib.contextmanager
def within(limit: memory.Limit | None) -> Iterator[None]:
    """Unpack within a limit of its own, where the command goes on beyond it."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def require_held(where: str, step: str, n_bytes: int) -> None:
    """Refuse to go on where what was unpacked takes more than the whole limit.

    Raises
    ------
    ResourceError
        If it does.
    """
    limit = _current()
    if limit is not None and n_bytes > limit.n_bytes:
        raise _too_much(where, step, limit)


def _current() -> memory.Limit | None:
    return _limit.get() or memory.current_limit()


def _too_much(where: str, step: str, limit: memory.Limit) -> ResourceError:
    return ResourceError(
        f"{where}: unpacks to more than there is memory for (step '{step}'), {limit}",
        hint=f"{memory.way_out(limit)}; smaller pages, row groups or batches need less",
    )


@contextlib.contextmanager
def unpacking(where: str, step: str) -> Iterator[None]:
    """Unpack inside the block, within the limit of the command; see `memory.current_limit`.

    Parameters
    ----------
    where : str
        What is unpacked, for the message.
    step : str
        What for.

    Raises
    ------
    ResourceError
        If that takes more.
    """
    limit = _current()
    if limit is None:
        yield
        return
    _enter(limit)
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or any(said in str(error) for said in REFUSED):
            raise _too_much(where, step, limit) from error
        raise
    finally:
        _leave()


def unpacked(items: Iterable[Item], where: str, step: str) -> Iterator[Item]:
    """Yield items, each of which is unpacked as `unpacking` does it."""
    iterator = iter(items)
    while True:
        with unpacking(where, step):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def _enter(limit: memory.Limit) -> None:
    """Let the system refuse memory; the first of several blocks at a time says how much."""
    global _inside, _before
    with _lock:
        _inside += 1
        data = memory.data_memory()
        if _inside > 1 or not data:
            return
        left = max(limit.n_bytes - memory.resident_memory(), 0)
        most = data + left + max(int(BEYOND * limit.n_bytes), LEAST)
        _before = resource.getrlimit(resource.RLIMIT_DATA)
        given = [n for n in _before if n != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(most, *given, most), _before[1]))


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside and memory.data_memory():
            resource.setrlimit(resource.RLIMIT_DATA, _before)
