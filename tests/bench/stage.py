"""The graph stage of d2, timed with its recall check and without."""

import functools
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import d2cli
import d2cli.stages
from d2cli.params import Backend
from d2cli.stages.graph import KnnGraph

from .peers import Vectors
from .timing import Clock, Run, adding_to, blas_threads, clock, say

BACKENDS: tuple[str, ...] = get_args(Backend)  # "auto" and "exact" among them


@contextmanager
def clock_of_check() -> Iterator[Clock]:
    """Measure what the stage spends on checking recall, within the run that is measured whole.

    The check asks for a sample of the places, the stage itself for all of them. So a stopwatch
    stands around the method ``search`` of every ``...Index`` class of d2cli.stages, and counts
    calls with fewer queries than places; not those that come from another search or from a worker
    thread, which are parts of the stage. What remains is index and search at the effort that was
    found, and every search of all places that missed the target. This is all that the bench knows
    about the inside of the stage.
    """
    spent, inside = Clock(), [False]

    def timed(search: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(search)
        def call(index, queries, *args, **kwargs):
            if inside[0] or threading.current_thread() is not threading.main_thread():
                return search(index, queries, *args, **kwargs)
            inside[0] = True
            aside = spent if len(queries) < index.space.n_places else Clock()
            try:
                with adding_to(aside):
                    return search(index, queries, *args, **kwargs)
            finally:
                inside[0] = False

        return call

    originals = {kind: kind.search for kind in _indexes()}
    for kind, search in originals.items():
        kind.search = timed(search)
    try:
        yield spent
    finally:
        for kind, search in originals.items():
            kind.search = search


def _indexes() -> set[Any]:
    """Return the classes of d2cli.stages that have a ``search`` of their own."""
    modules = [
        importlib.import_module(f"d2cli.stages.{module.name}")
        for module in pkgutil.iter_modules(d2cli.stages.__path__)
    ]
    return {
        kind
        for module in modules
        for name, kind in vars(module).items()
        if name.endswith("Index") and name != "Index" and "search" in vars(kind)
    }


def run_stage(
    vectors: Vectors, *, backend: str, target: float, k: int, n_threads: int
) -> tuple[KnnGraph, Run]:
    """Build a graph; ``seconds`` and ``cpu_seconds`` are without the check, ``checked_`` with."""
    with blas_threads(1), clock_of_check() as check, clock() as whole:
        graph = d2cli.graph(
            vectors, n_neighbors=k, backend=backend, recall=target, n_threads=n_threads
        )
    if 0 < graph.recall.sample_size < len(vectors) and not check.seconds:
        raise RuntimeError("recall was measured, but no search was seen that looks like it")
    return graph, {
        "seconds": whole.seconds - check.seconds,
        "cpu_seconds": whole.cpu_seconds - check.cpu_seconds,
        "checked_seconds": whole.seconds,
    }


def find_target(wanted: float, recall_at: Callable[[float], float]) -> float:
    """Return the lowest of a few targets with which the recall measured here reaches ``wanted``.

    d2 measures on a sample of its own, so a target just reached there may be just missed here.
    ``recall_at`` builds a graph with a target and returns its recall.
    """
    target = wanted
    for part in (0.0, 0.25, 0.5, 0.75):
        target = wanted + part * (1 - wanted)
        recall = recall_at(target)
        say(f"  target {target:.4f}: recall {recall:.4f}")
        if recall >= wanted:
            break
    return target
