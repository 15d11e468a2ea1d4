"""What score and select move and hold on a cluster, predicted and measured.

``python -m tests.bench.cluster_cost --folder FOLDER``, from the root. The constants of the model
are measured in this process on graphs of two smaller sizes; the rows to check run as tasks of Ray,
once whole and once in parts, and have to write the same bytes. ``--paper`` prints what the model
says of sizes that are not run.
"""

import argparse
import json
import math
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2cli.files.artifacts import Artifact, read_artifact, seal, write_artifact
from d2cli.files.stages import graph_of, graph_table, scores_of
from d2cli.params import SelectParams
from d2cli.stages.division import divide, edges_across
from d2cli.stages.executor import InProcess
from d2cli.stages.graph import KnnGraph
from d2cli.stages.parts import even_parts
from d2cli.stages.recall import Recall
from d2cli.stages.rounds import Rounds
from d2cli.stages.score import Scores
from d2cli.stages.selection import select_coreset

RATE, K, DIM = 0.5, 10, 32
SCORE = ("--harder", "high", "--rate", str(RATE), "--prune-hardest", "0")
PAPER = (12_800_000, 1_280_000_000, 12_800_000_000)


# --- what is run ----------------------------------------------------------------------------------


def make(folder: Path, n: int, kind: str) -> Path:
    """Make a graph of n rows in random order and its scores, unless they are there."""
    home = folder / f"{kind}-{n}"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "graph.parquet").exists():
        rng = np.random.default_rng(11)
        np.save(home / "el2n.npy", rng.random(n))
        if kind == "random":
            write_artifact(home / "graph.parquet", random_graph(n))
        else:
            np.save(home / "vectors.npy", manifold(n))
            line = ("graph", "vectors.npy", "-k", K, "--backend", "cells", "-o", "graph.parquet")
            d2(home, *line, "--cache-dir", home)
    if not (home / "scores.parquet").exists():
        line = ("score", "graph.parquet", "--difficulty", "el2n.npy", *SCORE)
        d2(home, *line, "-o", "scores.parquet")
    return home


def manifold(n: int) -> np.ndarray:
    """Return points of a bent sheet of six dimensions in 32, with noise; one connected whole."""
    rng = np.random.default_rng(11)
    inward, outward = rng.normal(size=(6, 64)), rng.normal(size=(64, DIM)) / 8
    points = np.empty((n, DIM), dtype=np.float32)
    for start in range(0, n, 1 << 16):
        some = rng.normal(size=(min(1 << 16, n - start), 6))
        noise = 0.15 * rng.normal(size=(len(some), DIM))
        points[start : start + len(some)] = np.tanh(some @ inward / 2) @ outward + noise
    return points


def random_graph(n: int) -> Artifact:
    """Return a graph whose neighbours are drawn at random: no division has few edges across."""
    rng = np.random.default_rng(3)
    neighbors = (np.arange(n)[:, None] + rng.integers(1, n // K, (n, K)).cumsum(1)) % n
    ends = np.sort(np.stack([neighbors, np.broadcast_to(np.arange(n)[:, None], (n, K))]), axis=0)
    distances = (1 + (ends[0] * 31 + ends[1] * 17) % 9973 / 9973).astype(np.float32)
    order = np.argsort(distances, axis=1, kind="stable")
    graph = KnnGraph(
        np.take_along_axis(neighbors, order, 1).astype(np.int32),
        np.take_along_axis(distances, order, 1),
        None,
        "exact",
        Recall(value=1.0, sample_size=0, target=0.0),
    )
    return seal(
        "graph",
        graph_table(graph, None, None),
        key="0" * 64,
        parameters={"n_neighbors": K, "metric": "l2", "seed": 0, "backend": "exact"},
        inputs={"vectors": "0" * 64},
        results={
            "backend": "exact",
            "recall": vars(graph.recall),
            "ef_search": None,
            "probes": None,
            "duplicates": 0,
            "dim": DIM,
        },
    )


@dataclass(frozen=True)
class Run:
    """A command that was run: its output, and peak memory of its own of any worker, in bytes."""

    output: str
    worker: int
    seconds: float


def d2(folder: Path, *arguments: object) -> Run:
    """Run ``d2`` in a folder, and watch the workers that Ray starts for it."""
    line = [sys.executable, "-m", "d2cli", *map(str, arguments)]
    start = time.perf_counter()
    child = subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, text=True)
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max([peak[0], *map(own_memory, workers_of(child.pid))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = child.communicate()
    ended.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(line)}: exit {child.returncode}")
    return Run(output, peak[0], time.perf_counter() - start)


def workers_of(pid: int) -> list[int]:
    """Return the processes below one that run tasks of Ray."""
    parents = {}
    for name in (path.name for path in Path("/proc").glob("[0-9]*")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2]
            parents[int(name)] = int(fields.split()[1])
        except OSError:
            continue
    found = []
    for one in parents:
        above = one
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and one != pid and is_worker(one):
            found.append(one)
    return found


def is_worker(pid: int) -> bool:
    """Return whether a process is called as Ray calls its workers."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


def own_memory(pid: int) -> int:
    """Return the memory of a process but for what it shares, in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return 0


# --- the model ------------------------------------------------------------------------------------


class Tally(InProcess):
    """Counts what rounds tell each other."""

    news = changed = 0

    def go_on(self, function, *arguments, anew):
        """Count rows told of and rows scored anew."""
        done = super().go_on(function, *arguments, anew=anew)
        self.news += len(arguments[2].places)
        self.changed += len(done.result.changed)
        return done


@dataclass(frozen=True)
class Constants:
    """What the model takes from measurements, a row of the graph each but for the last two.

    Attributes
    ----------
    edges : float
        Counted at both ends.
    across : float
        Edges between parts of a selection.
    around, beside : float
        Rows that parts see of others, when scoring (consecutive rows) and when selecting.
    news, changed : float
        Rows told to parts, and rows scored anew, in all rounds.
    rounds : float
    """

    edges: float
    across: float
    around: float
    beside: float
    news: float
    changed: float
    rounds: float


def constants(home: Path, n_parts: int) -> Constants:
    """Measure the constants on one graph."""
    graph = graph_of(read_artifact(home / "graph.parquet", "graph"))
    return constants_of(graph, scores_of(read_artifact(home / "scores.parquet", "scores")), n_parts)


def constants_of(graph: KnnGraph, scores: Scores, n_parts: int) -> Constants:
    """Measure the constants on a graph and its scores."""
    around, n = graph.adjacency, graph.n_samples
    parts, tally, rounds = divide(around, n_parts), Tally(), []
    known = Rounds.of(parts).known
    select_coreset(
        graph,
        scores,
        SelectParams(rate=RATE),
        rounds=Rounds(lambda _: parts, tally, known, lambda picked: rounds.append(picked)),
    )
    return Constants(
        len(around.indices) / n,
        edges_across(around, parts) / n,
        rows_around(around, even_parts(n, n_parts)) / n,
        rows_around(around, parts) / n,
        tally.news / n,
        tally.changed / n,
        len(rounds),
    )


def rows_around(adjacency, parts: np.ndarray) -> int:
    """Return how many rows all parts see of others, together."""
    owners = np.repeat(parts, np.diff(adjacency.indptr)).astype(np.int64)
    outside = owners != parts[adjacency.indices]
    pairs = owners[outside] * len(parts) + adjacency.indices[outside]
    return len(np.unique(pairs))


def extrapolate(small: Constants, large: Constants, sizes: tuple[int, int], n: int) -> Constants:
    """Continue two measurements: shares by a power of n up to 1, rounds by its logarithm."""
    step = math.log(n / sizes[1]) / math.log(sizes[1] / sizes[0])
    found = {}
    for name, after in vars(large).items():
        before = getattr(small, name)
        if name == "rounds":
            found[name] = after + (after - before) * step
        else:
            found[name] = after * (after / before) ** step if before and after else after
    return Constants(**found)


def predict(c: Constants, n: int, n_parts: int) -> dict[str, float]:
    """Return bytes, memory a worker (without what it shares) and rounds of both stages."""
    picks = n - round(RATE * n)
    part, seen = n / n_parts, (1 + c.beside) * n / n_parts
    return {
        "score, sent": (8 + 8 * c.edges + 9 * (1 + c.around)) * n,
        "score, received": 8 * n,
        "score, kept": 8 * n,
        "select, sent": (32 + 12 * c.edges + 20 * c.beside + 4 * c.across) * n
        + (13 + 9 * c.beside) * n
        + 13 * c.news * n,
        "select, received": 12 * (picks + c.changed * n),
        "select, kept": 16 * picks,
        "select, rounds": c.rounds,
        "select, memory a worker": 17 * seen + 50 * part,
        "select, object store": (32 + 12 * c.edges + 20 * c.beside + 4 * c.across) * n
        + 2 * (13 * n + 9 * c.beside * n),
        "both, memory of the driver": (12 * K + 8 * c.edges + 80) * n,
    }


def measure(home: Path, n_parts: int) -> tuple[dict[str, float], str]:
    """Score and select whole and on a cluster of this machine; return what that took."""
    ray = ("--engine", "ray", "--partitions", n_parts, "--store", home / "parts")
    line = ("score", "graph.parquet", "--difficulty", "el2n.npy", *SCORE, "--force")
    one = d2(home, *line, "-o", "scores.parquet", "--json")
    many = d2(home, *line, "-o", "again.parquet", "--json", *ray)
    same = (home / "scores.parquet").read_bytes() == (home / "again.parquet").read_bytes()
    found = figures("score", json.loads(many.output)["stages"][0])
    line = ("select", "scores.parquet", "--rate", RATE, "--force")
    whole = d2(home, *line, "-o", "keep.parquet", "--report", "whole.json")
    parted = d2(home, *line, "-o", "keep-again.parquet", "--report", "parted.json", *ray)
    same &= (home / "keep.parquet").read_bytes() == (home / "keep-again.parquet").read_bytes()
    alone, stage = (
        json.loads((home / name).read_text())["stages"][-1]
        for name in ("whole.json", "parted.json")
    )
    found |= figures("select", stage)
    idle = d2(make_idle(home), "score", "g.parquet", "--difficulty", "d.npy", *SCORE, *ray[:2],
              "-o", "s.parquet", "--force")  # fmt: skip
    found |= {
        "select, rounds": stage["rounds"],
        "select, memory a worker": parted.worker - idle.worker,
    }
    steps = {step["step"]: step["seconds"] for step in stage["steps"]}
    text = (
        f"score {one.seconds:.1f} s whole, {many.seconds:.1f} s as tasks; "
        f"select {whole.seconds:.1f} s whole, {parted.seconds:.1f} s as tasks "
        f"(stage {alone['seconds']:.1f} and {stage['seconds']:.1f} s: "
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items())
        + f"); {100 * stage['edges_across']:.1f} % of edges across; "
        + ("the same bytes" if same else "OTHER BYTES")
    )
    return found, text


def make_idle(home: Path) -> Path:
    """Make a graph of hardly any rows, whose workers hold only what every worker holds."""
    idle = home / "idle"
    idle.mkdir(exist_ok=True)
    if not (idle / "g.parquet").exists():
        np.save(idle / "d.npy", np.random.default_rng(0).random(100))
        np.save(idle / "v.npy", manifold(100))
        d2(idle, "graph", "v.npy", "-o", "g.parquet")
    return idle


def figures(name: str, stage: dict) -> dict[str, float]:
    """Return the bytes that a stage reports, by the names of the model."""
    return {
        f"{name}, {what}": sum(step[f"bytes_{what}"] for step in stage["steps"])
        for what in ("sent", "received", "kept")
    }


# --- the command ----------------------------------------------------------------------------------


def main() -> None:
    """Print predicted against measured; exit 1 if bytes differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster_cost", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for graphs, made once")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the check")
    parser.add_argument("--sizes", default="100000,300000", help="that constants are taken from")
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--graph", choices=("manifold", "random"), default="manifold")
    parser.add_argument("--paper", action="store_true", help="print the model for large sizes")
    given = parser.parse_args()
    small, large = map(int, given.sizes.split(","))
    found = [
        constants(make(given.folder, n, given.graph), given.partitions) for n in (small, large)
    ]
    print(f"| constant, {given.partitions} partitions | {small:,} rows | {large:,} rows |")
    print("|---|--:|--:|")
    for name in vars(found[0]):
        print(f"| {name} | {getattr(found[0], name):.4g} | {getattr(found[1], name):.4g} |")
    if given.paper:
        paper(found[1], large // given.partitions)
        return
    model = predict(extrapolate(*found, (small, large), given.rows), given.rows, given.partitions)
    measured, text = measure(make(given.folder, given.rows, given.graph), given.partitions)
    print(f"\n| {given.rows:,} rows | predicted | measured | ratio |\n|---|--:|--:|--:|")
    for name, value in measured.items():
        print(f"| {name} | {model[name]:.4g} | {value:.4g} | {model[name] / value:.2f} |")
    print(f"\n{text}")
    if "OTHER" in text:
        raise SystemExit(1)


def paper(c: Constants, rows_a_part: int) -> None:
    """Print the model with the constants as they are, on parts of a size."""
    sizes = [(n, math.ceil(n / rows_a_part)) for n in PAPER]
    models = [predict(c, n, n_parts) for n, n_parts in sizes]
    head = " | ".join(f"{n:,} rows, {n_parts:,} parts" for n, n_parts in sizes)
    print(f"\n| | {head} |\n|---|" + "--:|" * len(sizes))
    for name in models[0]:
        print(f"| {name} | " + " | ".join(f"{model[name]:.3g}" for model in models) + " |")


if __name__ == "__main__":
    main()
