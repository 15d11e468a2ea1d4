"""What a graph in partitions moves, holds and costs, predicted and measured.

``python -m tests.bench.cluster_graph --folder FOLDER``, from the root. The constants of the model
are measured on two smaller sizes, with workers that hold no partition but the one they search and
the one they look at, as if partitions were large. The rows to check run so, too; as they are, in
one process; and undivided, to be compared at the targets that give the same recall.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2cli.files.artifacts import read_artifact

from .cluster_runs import SCORE, K, Run, d2, make_idle, manifold
from .data import generate

ROW, LIST = 8, 16 + 8 * K  # bytes of a row's number; of its list, and in how many partitions
BESIDE = 12 + 4 * 3  # bytes of a row that is sent: which, how near, and about so many cells
# Imported by every process that is started; a worker then holds nothing longer than it must.
HOLD_NOTHING = "import d2cli.pipeline.partition_store as store\nstore.HELD_BYTES = 0\n"


# --- the model ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constants:
    """What the model takes from measurements.

    Attributes
    ----------
    layout : float
        Bytes a row that are kept of where it is in its partition, and of its point there.
    visits : float
        How often a task reads another partition.
    asked : float
        Rows that are sent to other partitions, for each row.
    beside, answered : float
        Bytes of such a row beside its vector, and of its answer.
    merged : float
        Share of the rows whose lists are merged with answers.
    held, fixed : float
        Bytes that a worker holds: for each row of a partition beside two vectors, and anyway.
    micros : float
        CPU time a row, in microseconds.
    """

    layout: float
    visits: float
    asked: float
    beside: float
    answered: float
    merged: float
    held: float
    fixed: float
    micros: float


def predict(c: Constants, n: int, n_parts: int, dim: int) -> dict[str, float]:
    """Return bytes moved, memory a worker and CPU time of n vectors in partitions."""
    row, merged = 4 * dim + ROW, c.merged * LIST
    asked, answered = c.asked * (4 * dim + c.beside), c.asked * c.answered
    return {
        "sent": 4 * dim * n,  # to be divided
        "kept": (row + c.layout + LIST + asked + answered + merged) * n,
        # To be indexed; with its layout for the sample, searched by its own task and by others,
        # and to answer; questions and answers; merged and collected.
        "read": (
            row
            + (row + c.layout) * (2 + c.visits + (c.asked > 0))
            + asked
            + answered
            + merged
            + c.merged * c.layout
            + LIST
        )
        * n,
        "memory a worker": (8 * dim + c.held) * n / n_parts + c.fixed,
        "CPU seconds": c.micros * n / 1e6,
    }


# --- measurements ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """Graphs in a folder, of vectors of one kind."""

    folder: Path
    data: str
    dim: int
    partitions: int
    workers: int
    recall: float

    def line(self, n: int) -> tuple[object, ...]:
        """Return how an undivided graph of n rows is built, but for its recall."""
        name = f"{self.data}-{self.dim}-{n}.npy"
        if not (self.folder / name).exists():
            vectors = manifold(n) if self.data == "manifold" else generate(self.data, n, self.dim)
            np.save(self.folder / name, vectors)
        return ("graph", name, "-k", K, "--backend", "cells", "--json", "--force", "-q")

    def parted(self, n: int) -> tuple[object, ...]:
        """Return how it is built in partitions."""
        how = ("--partitions", self.partitions, "--store", self.folder / "parts")
        return (*self.line(n), "--recall", self.recall, *how)

    def on_ray(self, n: int) -> tuple[dict[str, float], Run]:
        """Build a graph on a cluster of this machine; return what that took."""
        more = ("--engine", "ray", "--threads", self.workers, "-o", "ray.parquet")
        (self.folder / "sitecustomize.py").write_text(HOLD_NOTHING)
        run = d2(self.folder, *self.parted(n), *more, PYTHONPATH=str(self.folder))
        steps: dict[str, Any] = {
            step["step"]: step for step in json.loads(run.output)["stages"][0]["steps"]
        }
        layout = steps["indexing"]["bytes_kept"]
        found: dict[str, float] = {
            what: sum(step[f"bytes_{what}"] for step in steps.values())
            for what in ("sent", "kept", "read")
        }
        # The sample is compared with every partition, each once.
        once = steps["measuring recall"]["bytes_read"]
        line = ("score", "g.parquet", "--difficulty", "d.npy", *SCORE, "-o", "s.parquet", "-q")
        idle = d2(make_idle(self.folder), *line, "--force", "--engine", "ray")
        found["memory a worker"] = run.worker - idle.worker
        nothing = {"bytes_kept": 0, "bytes_read": 0}
        answering, merging = (steps.get(name, nothing) for name in ("answering", "merging"))
        sent = steps["searching"]["bytes_kept"] - LIST * n
        asked = sent / (4 * self.dim + BESIDE) / n
        found |= {
            "layout": layout / n,
            "visits": steps["searching"]["bytes_read"] / once - 1,
            "asked": asked,
            "beside": BESIDE,
            "answered": answering["bytes_kept"] / (asked * n) if asked else 0,
            "merged": merging["bytes_kept"] / (LIST * n),
        }
        return found, run

    def here(self, n: int) -> Run:
        """Build the same graph in one process."""
        return d2(self.folder, *self.parted(n), "--threads", 1, "-o", "parted.parquet")

    def whole(self, n: int, recall: float) -> Run:
        """Build an undivided graph in one process."""
        how = ("--recall", recall, "--threads", 1)
        return d2(self.folder, *self.line(n), *how, "-o", "whole.parquet")

    def recall_of(self, name: str) -> float:
        """Return the recall that a graph says it has."""
        recall: float = read_artifact(self.folder / name, "graph").meta["results"]["recall"][
            "value"
        ]
        return recall

    def constants(self, sizes: tuple[int, int]) -> Constants:
        """Measure the constants: memory is a line through two sizes, the others are the last."""
        found = {n: self.on_ray(n)[0] for n in sizes}
        small, large = (found[n]["memory a worker"] for n in sizes)
        rows = [n / self.partitions for n in sizes]
        slope = (large - small) / (rows[1] - rows[0])
        last = found[sizes[1]]
        micros = 1e6 * self.here(sizes[1]).cpu_seconds / sizes[1]
        held, fixed = slope - 8 * self.dim, large - slope * rows[1]
        moved = {name: last[name] for name in Constants.__annotations__ if name in last}
        return Constants(**moved, held=held, fixed=fixed, micros=micros)


def main() -> None:
    """Print predicted against measured; exit 1 if graphs differ."""
    name = "python -m tests.bench.cluster_graph"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for vectors, made once")
    parser.add_argument("--data", choices=("manifold", "clustered"), default="manifold")
    parser.add_argument("--dim", type=int, default=32, help="of clustered vectors")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the check")
    parser.add_argument("--sizes", default="200000,500000", help="that constants are taken from")
    parser.add_argument("--partitions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recall", type=float, default=0.95, help="target in partitions")
    parser.add_argument("--whole-recall", type=float, default=0.95, help="target undivided")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    how = (given.partitions, given.workers, given.recall)
    study = Study(given.folder, given.data, given.dim, *how)
    small, large = map(int, given.sizes.split(","))
    constants = study.constants((small, large))
    listed = ", ".join(f"{name} {value:.4g}" for name, value in vars(constants).items())
    print(f"constants of {given.data} x {given.dim}, {given.partitions} partitions: {listed}")
    model = predict(constants, given.rows, given.partitions, given.dim)
    measured, ray = study.on_ray(given.rows)
    parted, whole = study.here(given.rows), study.whole(given.rows, given.whole_recall)
    measured["CPU seconds"] = parted.cpu_seconds
    print(f"\n| {given.rows:,} rows | predicted | measured | ratio |\n|---|--:|--:|--:|")
    for name, value in model.items():
        print(f"| {name} | {value:.4g} | {measured[name]:.4g} | {value / measured[name]:.2f} |")
    recalls = " and ".join(
        f"{study.recall_of(f'{name}.parquet'):.4f}" for name in ("parted", "whole")
    )
    ratio = parted.cpu_seconds / whole.cpu_seconds
    print(
        f"\nin partitions {parted}, undivided {whole}: {ratio:.2f} times the CPU time, "
        f"recall {recalls}; as tasks that hold nothing {ray}"
    )
    ours, theirs = ((given.folder / f"{name}.parquet").read_bytes() for name in ("parted", "ray"))
    if ours != theirs:
        print("OTHER BYTES")
        sys.exit(1)


if __name__ == "__main__":
    main()
