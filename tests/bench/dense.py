"""The whole run beside the method on dense n x n matrices, each in a process of its own."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

import d2cli

from .alone import peak_megabytes, run_alone
from .data import generate
from .stage import find_target, run_stage
from .tables import Entry, Table
from .timing import Run, blas_threads, clock, interleave, say
from .truth import Truth

RATE, DIM, K = 0.7, 512, 5
DENSE = "dense n x n"


def compare_dense(
    rows: int, *, backends: Sequence[str], wanted: float, n_threads: int, repeats: int
) -> Table:
    """Run the dense method and d2 from vectors to picks, and compare time, memory and picks."""
    vectors = generate("clustered", rows, DIM)
    say(f"dense: {rows:,} x {DIM}")
    truth = Truth.of(vectors, K)
    with TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "difficulty.npy", np.random.default_rng(1).random(rows))
        methods = [*(f"d2 {backend}" for backend in backends), DENSE]
        subjects = {}
        for method in methods:
            measure = partial(_measure, method, folder, truth, n_threads)
            approximate = method not in (DENSE, "d2 exact")
            target = find_target(wanted, partial(_recall_at, measure)) if approximate else 1.0
            subjects[method] = partial(measure, target)
        runs = interleave(subjects, repeats)
        dense = np.load(folder / f"picks of {DENSE}.npy")
        entries = []
        for method in methods:
            picks = np.load(folder / f"picks of {method}.npy")
            same = {"same_picks": float(np.mean(picks == dense))}
            entries.append(Entry(method, "", [{**run, **same} for run in runs[method]]))
    bases = [entry.method for entry in entries if entry.method != DENSE]
    return Table(
        f"Whole run beside dense matrices, {rows:,} x {DIM}, k = {K}",
        f"From vectors in memory to the order of the {1 - RATE:.0%} kept, {n_threads} "
        f"thread{'s' * (n_threads > 1)} (of BLAS, for the dense method), each run in a process of "
        f"its own, medians of {repeats} interleaved repeats, d2 with its recall check. "
        "Both compute what `--preset reference` does; picks equal where neighbours and roundings "
        "do. Peak above start leaves out libraries and the vectors.",
        [
            "seconds",
            "cpu_seconds",
            "process_seconds",
            "peak_megabytes",
            "added_megabytes",
            "recall",
            "same_picks",
        ],
        [(figure, base) for base in bases for figure in ("seconds", "added_megabytes")],
        entries,
        wanted,
    )


def _measure(method: str, folder: Path, truth: Truth, n_threads: int, target: float) -> Run:
    run = run_alone("dense", method, folder, "--recall", target, "--threads", n_threads)
    return {**run, "recall": truth.recall(np.load(folder / "neighbors.npy"))}


def _recall_at(measure: Callable[[float], Run], target: float) -> float:
    return measure(target)["recall"]


def pick_densely(
    vectors: NDArray[np.float32], difficulty: NDArray[np.float64], keep: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return neighbours (n, k) and picks of D2 Pruning on matrices of all pairs.

    Distances of all pairs in float32, the k smallest of each row into a dense symmetric float64
    matrix, then a loop of argmax and subtraction that reads one row of it a pick.
    """
    n = len(vectors)
    norms = np.einsum("ij,ij->i", vectors, vectors)
    distances = vectors @ vectors.T
    distances *= -2
    distances += norms[:, None]
    distances += norms
    np.sqrt(np.maximum(distances, 0, out=distances), out=distances)
    np.fill_diagonal(distances, np.inf)
    neighbors = np.empty((n, K), dtype=np.int64)
    linked = np.zeros((n, n))
    for i in range(n):
        near = np.argpartition(distances[i], K)[:K]
        neighbors[i] = near
        linked[i, near] = distances[i, near]
        linked[near, i] = distances[i, near]
    x = difficulty.copy()
    sent = np.maximum(difficulty, 1e-7)
    for i in range(n):
        near = np.flatnonzero(linked[i])
        x[i] += (np.exp(-linked[i, near]) * sent[near]).sum()
    picks = np.empty(keep, dtype=np.int64)
    for rank in range(keep):
        pick = int(np.argmax(x))
        near = np.flatnonzero(linked[pick])
        x[near] -= np.exp(-0.1 * linked[pick, near]) * x[pick]
        x[pick] = -np.inf
        picks[rank] = pick
    return neighbors, picks


def pick_sparsely(
    vectors: NDArray[np.float32],
    difficulty: NDArray[np.float64],
    *,
    backend: str,
    target: float,
    n_threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return neighbours and picks of d2 with the same parameters."""
    graph, _ = run_stage(vectors, backend=backend, target=target, k=K, n_threads=n_threads)
    scores = d2cli.score(graph, difficulty, preset="reference", n_threads=n_threads)
    return graph.neighbors, d2cli.select(scores, graph, rate=RATE, preset="reference").rows


def main() -> None:
    """Do one whole run and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("method")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recall", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    vectors = np.load(given.folder / "vectors.npy")
    difficulty = np.load(given.folder / "difficulty.npy")
    before = peak_megabytes()
    with blas_threads(given.threads), clock() as whole:
        if given.method == DENSE:
            neighbors, picks = pick_densely(vectors, difficulty, round(len(vectors) * (1 - RATE)))
        else:
            neighbors, picks = pick_sparsely(
                vectors,
                difficulty,
                backend=given.method.removeprefix("d2 "),
                target=given.recall,
                n_threads=given.threads,
            )
    peak = peak_megabytes()
    np.save(given.folder / "neighbors.npy", neighbors)
    np.save(given.folder / f"picks of {given.method}.npy", picks)
    figures = {
        "seconds": whole.seconds,
        "cpu_seconds": whole.cpu_seconds,
        "peak_megabytes": peak,
        "added_megabytes": peak - before,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
