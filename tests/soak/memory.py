"""``--max-memory`` and what is resident: within a tenth, or refused before work begins.

Peaks are measured in children, over NPY and Parquet, for a graph and the selection from it:
``python -m tests.soak.memory --count 1000000``.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WIDTH = 64
SHARES = (0.4, 0.8, 1.2)  # of what is needed: refused, or vectors on disk; enough
ALLOWED = 1.1
# Runs a command, then prints the most memory it had resident, in bytes.
PEAK = """
import sys
from d2cli.__main__ import main
from d2cli.pipeline.run import peak_memory
try:
    main(sys.argv[1:])
finally:
    print("peak", peak_memory(), file=sys.stderr)
"""


def prepare(folder, n_rows):
    """Write clustered vectors as NPY and Parquet, and a difficulty."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(300, WIDTH)).astype(np.float32) * 2
    vectors = rng.standard_normal((n_rows, WIDTH), dtype=np.float32)
    vectors += centers[rng.integers(300, size=n_rows)]
    np.save(folder / "e.npy", vectors)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH)
    pq.write_table(pa.table({"v": flat}), folder / "e.parquet")
    np.save(folder / "s.npy", rng.random(n_rows))


def run(folder, line):
    """Run a command in a child; return exit code, peak resident bytes and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *line.split(), "-q"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    said, _, peak = done.stderr.rpartition("peak ")
    return done.returncode, int(peak), said


def _measure(folder, line, whole, found):
    """Run a command at each setting, shares of ``whole`` bytes; put what it took into ``found``."""
    out = folder / "out.parquet"
    for share in SHARES:
        limit = int(share * whole)
        out.unlink(missing_ok=True)
        code, peak, said = run(folder, f"{line} -o out.parquet --max-memory {limit}")
        if code == 5:
            early = not out.exists() and re.search(r"step '.*--max-memory is", said)
            wrong = "" if early else f"not refused before work: {said}"
        else:
            wrong = "" if code == 0 and peak <= ALLOWED * limit else f"exit code {code} {said}"
        share_taken = 0.0 if code == 5 else peak / limit
        found.append((f"{line} within {limit:,}: peak {peak:,} {wrong}", bool(wrong), share_taken))
    if out.exists():
        out.replace(folder / "last.parquet")


def soak(count):
    """Measure commands on so many rows; return what went wrong and the line of figures."""
    start = time.perf_counter()
    found = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder, count)
        for source in ("e.npy", "e.parquet"):
            graph = f"graph {source} -k 10 -j 2 --backend cells"
            _measure(folder, graph, _planned(folder, graph), found)
        (folder / "last.parquet").replace(folder / "g.parquet")
        score = "score g.parquet --difficulty s.npy --harder high --rate 0.7"
        _measure(folder, score, run(folder, f"{score} -o out.parquet")[1], found)
        (folder / "last.parquet").replace(folder / "sc.parquet")
        select = "select sc.parquet --rate 0.7"
        _measure(folder, select, run(folder, f"{select} -o out.parquet")[1], found)
    wrong = [text for text, broken, _ in found if broken]
    shares = [share for _, _, share in found if share]
    line = (
        f"{count:,} rows x {WIDTH}, {len(found)} runs: {len(wrong)} above the limit by more than a "
        f"tenth, {len(found) - len(shares)} refused before work, {len(shares)} done with a peak of "
        f"{min(shares, default=0):.2f} to {max(shares, default=0):.2f} of the limit; "
        f"{time.perf_counter() - start:.0f} s"
    )
    return wrong, line


def _planned(folder, line):
    """Return the peak that a dry run plans, in bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "d2cli", *line.split(), "--dry-run", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)["plan"]["peak_memory_bytes"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1_000_000)
    wrong, line = soak(parser.parse_args().count)
    print("\n".join([*wrong, line]))
    sys.exit(bool(wrong))
