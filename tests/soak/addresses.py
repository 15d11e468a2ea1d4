"""Address spaces (RLIMIT_AS) from what libraries need to what a run needs, in steps.

Above `FLOOR` a command is done or refused with exit code 5 and one line; below it, where libraries
cannot even be imported, it fails in some way; nothing is ever torn:
``python -m tests.soak.addresses --count 100``.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

FLOOR = 340_000_000  # bytes of addresses that importing the libraries takes
LEAST, MOST = 100_000_000, 900_000_000
OLD = b"an old file"
COMMANDS = (
    "graph e.npy --backend cells -j 2 -o OUT",
    "prune e.npy --difficulty s.npy --harder high --rate 0.5 -j 1 -o OUT --report OUT.html",
    "score g.parquet --difficulty s.npy --harder high -o OUT",
    "graph e.npz --backend hnsw -j 4 -o OUT",
    "select s.parquet --rate 0.5 -o OUT",
)


def prepare(folder):
    """Write inputs of 20,000 rows x 64, and a graph and scores of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20_000, 64)).astype(np.float32)
    np.save(folder / "e.npy", vectors)
    np.savez(folder / "e.npz", e=vectors)
    np.save(folder / "s.npy", rng.random(len(vectors)))
    for line in (
        "graph e.npy --backend cells -o g.parquet",
        "score g.parquet --difficulty s.npy --harder high -o s.parquet",
    ):
        done = _run(folder, line.split(), resource.RLIM_INFINITY)
        assert done.returncode == 0, done.stderr


def _run(folder, arguments, limit):
    return subprocess.run(
        [sys.executable, "-m", "d2cli", *arguments, "-q"],
        cwd=folder,
        env={**os.environ, "D2_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )


def step(folder, number, line, limit):
    """Run a command within so many addresses; return its exit code and what is wrong, or ""."""
    name = f"{number}.parquet"
    out = folder / name
    out.write_bytes(OLD)
    done = _run(folder, line.replace("OUT", name).split(), limit)
    code, what = done.returncode, f"{limit:,}: d2 {line}: exit code {done.returncode}"
    told = done.stderr.strip()
    if not _is_whole(out, old=code != 0):
        return code, f"{what}: the output is torn"
    if limit < FLOOR or code == 0:
        return code, ""
    if code != 5 or [one.partition(":")[0] for one in told.splitlines()] != ["error", "hint"]:
        return code, f"{what}: {told[:400]}"
    return code, ""


def _is_whole(out, *, old):
    """Return whether a file is whole: the new one, or the old one where that may be."""
    if out.read_bytes() == OLD:
        return old
    try:
        return pq.read_table(out).num_rows > 0  # written before what failed, such as the report
    except (OSError, ValueError):
        return False


def soak(count, workers=2):
    """Run so many steps; return what went wrong and the line of figures."""
    start = time.perf_counter()
    limits = np.linspace(LEAST, MOST, count).astype(int).tolist()
    with tempfile.TemporaryDirectory() as made, ThreadPoolExecutor(workers) as pool:
        folder = Path(made)
        prepare(folder)
        jobs = [
            pool.submit(step, folder, i, COMMANDS[i % len(COMMANDS)], limit)
            for i, limit in enumerate(limits)
        ]
        done = [job.result() for job in jobs]
        left = [path.name for path in folder.rglob(".*")]
    wrong = [text for _, text in done if text] + [f"left behind: {name}" for name in left]
    codes = [code for code, _ in done]
    line = (
        f"{count:,} address spaces: {len(wrong)} broken, {codes.count(0)} done, "
        f"{codes.count(5)} refused with one line, {count - codes.count(0) - codes.count(5)} ended "
        f"below {FLOOR / 1e6:.0f} MB; {time.perf_counter() - start:.0f} s"
    )
    return wrong, line


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    wrong, line = soak(parser.parse_args().count)
    print("\n".join([*wrong, line]))
    sys.exit(bool(wrong))
