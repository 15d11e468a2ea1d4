"""Many short tasks in child processes, which may die or hang without an end to the others."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

Task = Callable[[Path, int], str]


def in_children(
    make: Callable[[Path], Task],
    folder: Path,
    count: int,
    *,
    seconds: float,
    jobs: int | None = None,
) -> Iterator[tuple[int, str]]:
    """Yield the number and the verdict of every task, in no order.

    Parameters
    ----------
    make : callable
        Makes the task in a child, which has a folder of its own; a function of a module.
    folder : Path
        Where the children's folders go.
    count : int
        Tasks are called with 0 to ``count - 1``.
    seconds : float
        A task that takes longer is ended; its verdict is "hang". Where one dies of a signal, it is
        that signal's name.
    jobs : int, optional
        Children at a time.
    """
    context = multiprocessing.get_context("spawn")
    left = iter(range(count))
    jobs = min(jobs or os.cpu_count() or 1, count)
    children: dict[Any, list[Any]] = {}  # of a pipe: the process, its task

    def start(at: int) -> None:
        ours, theirs = context.Pipe()
        place = folder / f"child-{at}"
        process = context.Process(target=_serve, args=(theirs, make, place), daemon=True)
        process.start()
        theirs.close()
        children[ours] = [process, None, at]

    for at in range(jobs):
        start(at)
    while children:
        ready = wait(list(children), timeout=seconds)
        for pipe in ready or list(children):
            process, task, at = children[pipe]
            try:
                if not ready:  # nothing from any: each has had its time
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
                    raise EOFError
                verdict = pipe.recv()
                if task is not None:
                    yield task, verdict
            except (EOFError, OSError):
                process.join()
                died = signal.Signals(-process.exitcode).name if process.exitcode < 0 else "exit"
                yield (-1 if task is None else task), died if ready else "hang"
                del children[pipe]
                start(at)
                continue
            task = next(left, None)
            if task is None:
                pipe.send(None)
                process.join()
                del children[pipe]
            else:
                children[pipe][1] = task
                pipe.send(task)


def _serve(pipe: Connection, make: Callable[[Path], Task], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    task = make(folder)
    pipe.send("")
    with contextlib.suppress(EOFError):
        while (number := pipe.recv()) is not None:
            pipe.send(task(folder, number))
