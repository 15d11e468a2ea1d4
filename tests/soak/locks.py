"""Eight processes on one cache: the same key, different keys, one killed while it holds the lock.

python -m tests.soak.locks --count 100
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.soak import children
from tests.soak.scenarios import Stage

PROCESSES = 8
PRUNE = ("prune", "t.parquet", "--difficulty", "aum", "--rate", 0.8, "-v", "-j", 1)
BUILT = ("graph: computed", "score: computed")


def line(number, n_neighbors):
    """Return the command of a process."""
    return (*PRUNE, "-k", n_neighbors, "-o", f"k{number}.parquet")


def hold_for_ever():
    """Hold the lock of the graph and say so, but never come to an end."""
    from d2cli.pipeline import graph

    def build_graph(*arguments, **more):
        Path("held").touch()
        time.sleep(3600)

    graph.build_graph = build_graph


def together(stage, kind):
    """Run all processes at once; return what is wrong."""
    folder, wrong = stage.fresh(), []
    killed = None
    if kind == "killed":
        killed, outcome = children.start(line("", 5), folder, before=hold_for_ever)
        while not (folder / "held").exists():
            time.sleep(0.005)
    of = [5 + number if kind == "different" else 5 for number in range(PROCESSES)]
    running = [children.start(line(n, k), folder) for n, k in enumerate(of)]
    if killed is not None:
        time.sleep(0.3)  # so that some wait
        os.kill(killed, signal.SIGKILL)
        children.wait(killed, outcome)
        (folder / "held").unlink()
    done = [children.wait(pid, outcome) for pid, outcome in running]
    wrong += [f"failed: {d}" for d in done if d["code"] != 0]
    for stage_built in BUILT:
        builds = sum(stage_built in d["err"] for d in done)
        if builds != len(set(of)):
            wrong.append(f"{builds} times {stage_built}, expected {len(set(of))}")
    tree = children.tree(folder)
    for k in set(of):
        outputs = {tree.get(f"k{n}.parquet") for n, other in enumerate(of) if other == k}
        alone = stage.alone(k)
        if outputs != {alone}:
            wrong.append(f"outputs differ: {outputs}, alone {alone}")
    wrong += [f"stray: {path}" for path in tree if ".d2tmp" in path]
    shutil.rmtree(folder)
    return [f"{kind}: {message}" for message in wrong]


class _Stage(Stage):
    """Inputs, and what a process makes that has the cache for itself."""

    def __init__(self, root):
        super().__init__(root, ())
        self.made = {}

    def alone(self, k):
        if k not in self.made:
            folder = self.fresh()
            done = children.run(line(0, k), folder)
            assert done["code"] == 0, done
            self.made[k] = done["tree"]["k0.parquet"]
            shutil.rmtree(folder)
        return self.made[k]


def soak(count):
    """Run rounds of all three kinds; return the line of figures, and what was wrong."""
    children.preload()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="d2-soak-") as root:
        stage = _Stage(Path(root) / "stage")
        for _ in range(count):
            for kind in ("same", "different", "killed"):
                wrong += together(stage, kind)
    return (
        f"{count:,} rounds of {PROCESSES} processes with the same key, different keys and a killed "
        f"holder: {sum('times' in w for w in wrong)} builds too many or few, "
        f"{sum('differ:' in w for w in wrong)} unequal outputs, "
        f"{sum('hung' in w for w in wrong)} deadlocks, "
        f"{sum('failed' in w and 'hung' not in w for w in wrong)} failures, "
        f"{sum('stray' in w for w in wrong)} stray files"
    ), wrong


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    text, wrong = soak(parser.parse_args().count)
    for message in wrong:
        print(message, file=sys.stderr)
    print(text)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
