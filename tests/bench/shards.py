"""A sharded Parquet source through all commands, each as a user runs it: seconds and peak memory.

    python -m tests.bench.shards --rows 5000000 --scratch /folder/with/10/GB

The limit given to ``d2 graph`` is 1.5 times the float32 matrix; the other commands have none.
"""

import argparse
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ALLOWED = 1.5  # times the float32 matrix
CENTERS, SPREAD = 2000, 0.6


def write_shards(folder: Path, *, rows: int, dim: int, shards: int) -> None:
    """Write clustered vectors, ids and a random difficulty."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CENTERS, dim)).astype(np.float32)
    ends = np.linspace(0, rows, shards + 1).astype(int)
    for shard, (first, last) in enumerate(pairwise(ends)):
        n = last - first
        noise = rng.normal(size=(n, dim), scale=SPREAD).astype(np.float32)
        flat = pa.array((centers[rng.integers(0, CENTERS, n)] + noise).ravel())
        columns = {
            "id": pa.array(np.arange(first, last)),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, dim),
            "el2n": pa.array(rng.random(n)),
        }
        pq.write_table(pa.table(columns), folder / f"part-{shard:05d}.parquet", compression="none")


def run(*arguments: str, cwd: Path) -> tuple[float, int]:
    """Run ``d2``; return its seconds and the most bytes that it had resident."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "d2cli", *arguments], cwd=cwd)
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"d2 {arguments[0]} failed")
    return time.perf_counter() - start, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--shards", type=int, default=50)
    parser.add_argument("--backend", default="cells")
    parser.add_argument("--scratch", type=Path)
    given = parser.parse_args()
    matrix = 4 * given.rows * given.dim
    graph = ["src", "--backend", given.backend, "--max-memory", str(round(ALLOWED * matrix))]
    score = ["graph.parquet", "--difficulty", "src::el2n", "-o", "scores.parquet"]
    commands = {
        "graph": [*graph, "-o", "graph.parquet"],
        "score": score,
        "select": ["scores.parquet", "--rate", "0.9", "-o", "keep.parquet"],
        "export": ["keep.parquet", "--source", "src", "-o", "kept"],
    }
    with TemporaryDirectory(dir=given.scratch) as name:
        folder = Path(name)
        write_shards(folder / "src", rows=given.rows, dim=given.dim, shards=given.shards)
        print(f"{given.rows:,} rows x {given.dim} in {given.shards} shards: {matrix / 1e9:.2f} GB")
        print("\n| command | seconds | peak GB | times the matrix |\n|---|---:|---:|---:|")
        for command, arguments in commands.items():
            seconds, peak = run(command, *arguments, "-q", cwd=folder)
            print(f"| {command} | {seconds:.0f} | {peak / 1e9:.2f} | {peak / matrix:.2f} |")


if __name__ == "__main__":
    main()
