"""``kill -9`` at random times in every stage and in the final write.

python -m tests.soak.kills --count 1000
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.soak import children, steps
from tests.soak.scenarios import SCENARIOS, Stage, is_stray, of_outputs


def damage(folder):
    """Return what is wrong with the entries of a cache folder."""
    from d2cli.files.entries import damage_of, list_entries

    found = (damage_of(entry) for entry in list_entries(folder / "cache"))
    return [message for message in found if message is not None]


def look(scenario, stage, folder, had_old):
    """Return what is wrong with the files that a killed run left."""
    wrong = [f"torn: {message}" for message in damage(folder)]
    now = of_outputs(scenario, children.tree(folder))
    new = of_outputs(scenario, stage.whole[scenario.name])
    old = of_outputs(scenario, stage.old[scenario.name]) if had_old else {}
    torn = [o for o in scenario.outputs if now[o] not in (new[o], old.get(o, {}))]
    return wrong + [f"torn: {output} is neither old nor new" for output in torn]


def trial(stage, figures, seed):
    """Kill one run, and run it again; return {"killed": bool, "wrong": [...]}."""
    rng = random.Random(seed)
    scenario = stage.chosen[seed % len(stage.chosen)]
    seconds, n_steps = figures[scenario.name]
    had_old = rng.random() < 0.5
    folder = stage.fresh(scenario if had_old else None, f"t{seed}-")
    by_step = rng.random() < 0.5
    if by_step:
        at = rng.randrange(n_steps)
        pid, outcome = children.start(scenario.arguments, folder, before=lambda: steps.kill_at(at))
        what = f"step {at} of {n_steps}"
    else:
        after = rng.uniform(0, 1.1 * seconds)
        pid, outcome = children.start(scenario.arguments, folder)
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)  # a zombie at worst: nobody has waited for it yet
        what = f"{after:.3f} s of {seconds:.3f}"
    killed = children.wait(pid, outcome)
    wrong = []
    if killed["signal"] not in (signal.SIGKILL, None) or killed["code"] not in (None, 0):
        wrong.append(f"ended otherwise: {killed}")
    wrong += look(scenario, stage, folder, had_old)
    again = children.run(scenario.arguments, folder)
    if again["code"] != 0:
        wrong.append(f"the next run failed: {again}")
    tree = again.get("tree", {})
    wrong += [f"stray: {path}" for path in tree if is_stray(path)]
    whole = stage.whole[scenario.name]
    if tree != whole:
        differ = {p for p in {*tree, *whole} if tree.get(p) != whole.get(p) and not is_stray(p)}
        wrong += [f"differs: {path}" for path in sorted(differ)]
    shutil.rmtree(folder, ignore_errors=True)
    note = f"{scenario.name}, {what}, {'over an older result' if had_old else 'without one'}"
    return {"killed": killed["signal"] == signal.SIGKILL, "wrong": [f"{note}: {w}" for w in wrong]}


def soak(count, seed=0, chosen=SCENARIOS):
    """Run trials; return the line of figures, and what was wrong."""
    children.preload()
    with tempfile.TemporaryDirectory(prefix="d2-soak-") as root:
        stage = Stage(Path(root) / "stage", chosen)
        figures = {}
        for scenario in stage.chosen:
            folder = stage.fresh()
            began = time.monotonic()
            done = children.run(
                scenario.arguments, folder, before=steps.count_only, after=lambda: steps.counted
            )
            figures[scenario.name] = (time.monotonic() - began, done["after"])
            shutil.rmtree(folder)
        found = children.share(count, lambda i: trial(stage, figures, seed + i))
    wrong = [line for result in found for line in result["wrong"]]
    counts = {what: sum(f": {what}" in line for line in wrong) for what in
              ("torn", "differs", "stray")}  # fmt: skip
    others = len(wrong) - sum(counts.values())
    n_killed = sum(result["killed"] for result in found)
    return (
        f"{count:,} kills, {n_killed:,} before the end: {counts['torn']} torn files, "
        f"{counts['differs']} other bytes after the next run, {counts['stray']} stray files, "
        f"{others} failed runs"
    ), wrong


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    line, wrong = soak(given.count, given.seed)
    for message in wrong:
        print(message, file=sys.stderr)
    print(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
