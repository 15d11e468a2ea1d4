"""Graphs and runs for `tests.bench.cluster_cost`."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2cli.files.artifacts import Artifact, seal, write_artifact
from d2cli.files.stages import graph_table
from d2cli.stages.graph import KnnGraph
from d2cli.stages.recall import Recall

RATE, K, DIM = 0.5, 10, 32
SCORE = ("--harder", "high", "--rate", str(RATE), "--prune-hardest", "0")


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


def make_idle(home: Path) -> Path:
    """Make a graph of hardly any rows, whose workers hold only what every worker holds."""
    idle = home / "idle"
    idle.mkdir(exist_ok=True)
    if not (idle / "g.parquet").exists():
        np.save(idle / "d.npy", np.random.default_rng(0).random(100))
        np.save(idle / "v.npy", manifold(100))
        d2(idle, "graph", "v.npy", "-o", "g.parquet")
    return idle


@dataclass(frozen=True)
class Run:
    """A command that was run.

    Attributes
    ----------
    output : str
    worker : int
        Peak memory of its own of any worker, in bytes.
    seconds, cpu_seconds : float
        The second of the command and all processes below it.
    """

    output: str
    worker: int
    seconds: float
    cpu_seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.cpu_seconds:.1f} CPU s)"


def d2(folder: Path, *arguments: object, **environment: str) -> Run:
    """Run ``d2`` in a folder, and watch the processes that Ray starts for it."""
    line = [sys.executable, "-m", "d2cli", *map(str, arguments)]
    start = time.perf_counter()
    more = {**os.environ, **environment}
    child = subprocess.Popen(line, cwd=folder, env=more, stdout=subprocess.PIPE, text=True)
    peak, cpu, ended = [0], {}, threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            below = processes_below(child.pid)
            cpu.update(below)
            peak[0] = max([peak[0], *(own_memory(pid) for pid in below if is_worker(pid))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = child.communicate()
    took = time.perf_counter() - start
    ended.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(line)}: exit {child.returncode}")
    return Run(output, peak[0], took, sum(cpu.values()))


def processes_below(top: int) -> dict[int, float]:
    """Return a process and those below it, with the CPU seconds that each has used."""
    parents, cpu = {}, {}
    for name in (path.name for path in Path("/proc").glob("[0-9]*")):
        try:
            text = Path(f"/proc/{name}/stat").read_text(errors="replace")
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        parents[int(name)] = int(fields[1])
        cpu[int(name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    found = {}
    for one in parents:
        above = one
        while above in parents and above != top:
            above = parents[above]
        if above == top:
            found[one] = cpu[one]
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
