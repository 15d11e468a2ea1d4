"""Run generators on threads, with progress and a clean stop.

A task is a generator that does a piece of work, yields how much that was, and goes on. Between
pieces it can be stopped, so an interrupt never waits for more than one piece.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]  # phase, done, total
Task: TypeAlias = Iterator[int]


def no_progress(phase: str, done: int, total: int) -> None:
    """Report nothing."""


def run_tasks(
    tasks: Sequence[Task],
    *,
    n_threads: int,
    phase: str,
    total: int,
    on_progress: Progress = no_progress,
) -> None:
    """Exhaust all tasks, at most ``n_threads`` at a time.

    What tasks compute must not depend on their order: they write to places of their own.

    Parameters
    ----------
    tasks : sequence of generators yielding int
        Amounts of work done, adding up to ``total``.
    n_threads : int
        1 runs in the calling thread, in order.
    phase : str
        Name of the work for ``on_progress``.
    total : int
        All work.
    on_progress : callable
        Called with (phase, done, total) after each piece, one call at a time.
    """
    stop, lock = Event(), Lock()
    done = 0

    def exhaust(task: Task) -> None:
        nonlocal done
        for amount in task:
            with lock:
                done += amount
                on_progress(phase, done, total)
            if stop.is_set():
                return

    if n_threads == 1 or len(tasks) == 1:
        for task in tasks:
            exhaust(task)
        return
    with ThreadPoolExecutor(max_workers=n_threads) as pool:
        try:
            futures = [pool.submit(exhaust, task) for task in tasks]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
