"""How time and memory grow with the rows, each run in a process of its own."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from .alone import peak_megabytes, run_alone
from .data import generate
from .ladder import climb
from .peers import APPROXIMATE
from .stage import find_target, run_stage
from .tables import Entry, Table
from .timing import Run, blas_threads, clock, interleave, say
from .truth import Truth

DIM = 512
ROWS = (100_000, 200_000, 400_000)
IMAGENET_ROWS = 1_281_167
PEER, BUILD = "hnswlib", {"M": 12, "efc": 60}


def compare_growth(
    sizes: Sequence[int],
    *,
    backends: Sequence[str],
    with_peer: bool,
    wanted: float,
    k: int,
    n_threads: int,
    repeats: int,
    scratch: Path | None,
) -> Table:
    """Build graphs of ever more clustered rows; the peer's effort is looked for at every size."""
    entries = []
    for rows in sizes:
        say(f"growth: {rows:,} x {DIM}")
        with TemporaryDirectory(dir=scratch) as name:
            folder = Path(name)
            np.save(folder / "vectors.npy", generate("clustered", rows, DIM))
            vectors = np.load(folder / "vectors.npy", mmap_mode="r")
            truth = Truth.of(vectors, k)
            np.savez(folder / "truth.npz", rows=truth.rows, farthest=truth.farthest)
            methods = [f"d2 {backend}" for backend in backends] + [PEER] * with_peer
            subjects = {}
            for method in methods:
                measure = partial(_measure, method, folder, truth, n_threads)
                target = wanted
                if method != PEER:
                    target = find_target(wanted, partial(_recall_at, measure))
                subjects[method] = partial(measure, target)
            runs = interleave(subjects, repeats)
            del vectors, truth
        for method, measured in runs.items():
            figures = [
                {**run, "microseconds_a_row": 1e6 * run["seconds"] / rows} for run in measured
            ]
            entries.append(Entry(f"{method}, {rows:,}", "", figures))
    threads = f"{n_threads} thread{'s' * (n_threads > 1)}"
    largest = f"{max(sizes):,}"
    return Table(
        f"Growth with the rows, {DIM} wide, recall {wanted:g}",
        f"From array to graph of clustered vectors, k = {k}, {threads}, each run in a "
        f"process of its own, medians of {repeats} interleaved repeats. {PEER} has M 12, efc 60 "
        "and the least effort that reaches the recall on a sample. Peak above start leaves out "
        "libraries and the vectors themselves.",
        [
            "seconds",
            "checked_seconds",
            "cpu_seconds",
            "microseconds_a_row",
            "recall",
            "peak_megabytes",
            "added_megabytes",
        ],
        [("seconds", f"d2 {backend}, {largest}") for backend in backends],
        entries,
        wanted,
    )


def _measure(method: str, folder: Path, truth: Truth, n_threads: int, target: float) -> Run:
    run = run_alone(
        "growth", method, folder, "--recall", target, "--threads", n_threads, "--k", truth.k
    )
    return {**run, "recall": truth.recall(np.load(folder / "neighbors.npy"))}


def _recall_at(measure: Callable[[float], Run], target: float) -> float:
    return measure(target)["recall"]


def main() -> None:
    """Build one graph and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("method")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recall", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--k", type=int, required=True)
    given = parser.parse_args()
    vectors = np.load(given.folder / "vectors.npy")
    with np.load(given.folder / "truth.npz") as stored:
        truth = Truth(vectors, stored["rows"], given.k, stored["farthest"])
    before = peak_megabytes()
    if given.method == PEER:
        neighbors, run = _run_peer(truth, given.recall, given.threads)
    else:
        graph, run = run_stage(
            vectors,
            backend=given.method.removeprefix("d2 "),
            target=given.recall,
            k=given.k,
            n_threads=given.threads,
        )
        neighbors = graph.neighbors
    peak = peak_megabytes()
    np.save(given.folder / "neighbors.npy", neighbors)
    print(json.dumps({**run, "peak_megabytes": peak, "added_megabytes": peak - before}))


def _run_peer(truth: Truth, wanted: float, n_threads: int) -> tuple[np.ndarray, Run]:
    """Build one index; find the effort on the sample, ask for all rows with it."""
    index = None

    def build_once(vectors, setting, threads):
        nonlocal index, building
        with clock() as building:
            index = APPROXIMATE[PEER].build(vectors, setting, threads)
        return index

    building = None
    peer = replace(APPROXIMATE[PEER], builds=(BUILD,), build=build_once)
    best, _ = climb(peer, truth.vectors, truth, wanted=wanted, n_threads=n_threads)
    with blas_threads(n_threads), clock() as asking:
        found = peer.query(index, truth.vectors, slice(None), truth.k, best.effort, n_threads)
    return found, {
        "seconds": building.seconds + asking.seconds,
        "cpu_seconds": building.cpu_seconds + asking.cpu_seconds,
        "effort": best.effort,
    }


if __name__ == "__main__":
    main()
