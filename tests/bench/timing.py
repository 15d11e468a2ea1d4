"""Clocks, thread limits, and interleaved repeats."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

Run = dict[str, float]  # what one run measured, by name: seconds, cpu_seconds, recall, ...


@dataclass
class Clock:
    """Wall and CPU seconds of a stretch of code; CPU seconds are those of all threads."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def clock() -> Iterator[Clock]:
    """Measure the body of a ``with``."""
    measured = Clock()
    with adding_to(measured):
        yield measured


@contextmanager
def adding_to(measured: Clock) -> Iterator[None]:
    """Add the seconds of the body to what was measured before."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        measured.seconds += time.perf_counter() - wall
        measured.cpu_seconds += time.process_time() - cpu


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Limit every BLAS and OpenMP library that is loaded.

    d2 runs with one BLAS thread a task, as its command line sets it; peers get all threads.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=count):
        yield


def interleave(subjects: Mapping[str, Callable[[], Run]], repeats: int) -> dict[str, list[Run]]:
    """Run every subject once, then every subject again; a noisy minute hits all of them."""
    runs: dict[str, list[Run]] = {name: [] for name in subjects}
    for repeat in range(repeats):
        for name, subject in subjects.items():
            gc.collect()
            run = subject()
            say(f"  {repeat + 1}/{repeats} {name}: {run['seconds']:.3g} s")
            runs[name].append(run)
    return runs


def medians(runs: list[Run]) -> Run:
    """Return the median of every figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def say(message: str) -> None:
    """Report progress on standard error; standard output is for the tables."""
    print(message, file=sys.stderr, flush=True)
