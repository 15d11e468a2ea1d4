"""Rows added to a graph beside building it: ``python -m tests.bench.update``, from the root.

Every repeat builds a graph of all rows but the last, adds these, and builds the graph of all;
stages are timed from array to graph, recall measured as they do.
"""

import argparse
import statistics

import numpy as np

from d2cli.params import GraphParams
from d2cli.stages.graph import build_graph
from d2cli.stages.update import update_graph

from .data import Source
from .machine import describe
from .tables import document
from .timing import blas_threads, clock, say


def main() -> None:
    """Print a table: one line for each backend and share of added rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.update", description=__doc__)
    parser.add_argument("--set", default="clustered:200000x128", help="as for tests.bench --sets")
    parser.add_argument("--data", default=None, help="folder of the real sets")
    parser.add_argument("--backends", default="hnsw,cells")
    parser.add_argument("--shares", default="0.01", help="added rows, of those before")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    vectors = Source.parse(given.set).load(given.data)
    print(document(describe(), []), flush=True)
    print(
        "| backend | rows | added | build s | build CPU s | update s | update CPU s "
        "| update / build, CPU | recall built | recall updated |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |", flush=True)
    for backend in given.backends.split(","):
        for share in map(float, given.shares.split(",")):
            print(_line(vectors, backend, share, given.repeats), flush=True)


def _line(vectors: np.ndarray, backend: str, share: float, repeats: int) -> str:
    params, n = GraphParams(backend=backend), round(len(vectors) / (1 + share))
    runs = []
    with blas_threads(1):
        for repeat in range(repeats):
            kept = {}

            def keep(_, cells, kept=kept):
                kept[""] = cells

            graph = build_graph(vectors[:n], params, keep=keep)
            with clock() as updating:
                updated = update_graph(graph, vectors, np.arange(n), params, kept=kept).graph
            with clock() as building:
                built = build_graph(vectors, params)
            took = f"{updating.seconds:.3g} s of {building.seconds:.3g}"
            say(f"  {repeat + 1}/{repeats} {backend}: {took}")
            runs.append((building, updating))
    build, update = (
        [
            statistics.median(getattr(run[i], name) for run in runs)
            for name in ("seconds", "cpu_seconds")
        ]
        for i in (0, 1)
    )
    share_of_cpu = statistics.median(two.cpu_seconds / one.cpu_seconds for one, two in runs)
    return (
        f"| {backend} | {n:,} | {len(vectors) - n:,} | {build[0]:.3g} | {build[1]:.3g} "
        f"| {update[0]:.3g} | {update[1]:.3g} | {100 * share_of_cpu:.1f} % "
        f"| {built.recall.value:.4f} | {updated.recall.value:.4f} |"
    )


if __name__ == "__main__":
    main()
