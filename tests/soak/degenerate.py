"""Data at the edges: every command gives a defined result or refuses with exit code 2 or 3.

Each case is one small data set taken through check, graph, score, select, prune, diff and export,
in this process: ``python -m tests.soak.degenerate --count 1000``.
"""

import argparse
import contextlib
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

K = 3
SIZES = (0, 1, 2, K, K + 1, 40)  # 2 is K - 1
FILLS = ("random", "equal", "zero")
DIFFICULTIES = ("constant", "huge", "tiny", "zeros", "one-huge", "integers")
BACKENDS = ("exact", "hnsw", "cells", "fast")
METHODS = (
    "random", "hardest", "easiest", "moderate", "ccs", "kcenter", "facility-location", "semdedup",
)  # fmt: skip
BUDGETS = ("none", "one", "all", "too many", "rate 0", "rate 1")
IDS = ("huge", "negative", "text")
GROUPS = ("single", "within single", "one", "within one")


@dataclass(frozen=True)
class Case:
    """One data set and how it is pruned."""

    n: int = 40
    width: int = 4
    fill: str = "random"
    difficulty: str = "random"
    ids: str = "none"
    group: str = "none"
    backend: str = "auto"
    metric: str = "l2"
    method: str = "d2"
    budget: str = "half"

    @property
    def kept(self):
        """How many rows are to be kept; -1 where that is refused."""
        half = self.n - int(np.floor(0.5 * self.n + 0.5))
        asked = {"none": 0, "one": 1, "all": self.n, "too many": self.n + 1,
                 "rate 0": self.n, "rate 1": 0}.get(self.budget, half)  # fmt: skip
        return asked if 1 <= asked <= self.n else -1

    @property
    def budget_options(self):
        keep = {"none": 0, "one": 1, "all": self.n, "too many": self.n + 1}.get(self.budget)
        rate = {"rate 0": 0, "rate 1": 1}.get(self.budget, 0.5)
        return ["--rate", str(rate)] if keep is None else ["--keep", str(keep)]


AXES = {
    "backend": BACKENDS, "method": METHODS, "difficulty": DIFFICULTIES, "budget": BUDGETS,
    "ids": IDS, "group": GROUPS, "metric": ("cosine",), "width": (1,),
}  # fmt: skip


def matrix():
    """Return every value of every axis beside every size, with one fill or several."""
    found = [Case(0, **{name: values[-1]}) for name, values in AXES.items()]
    for n in SIZES[1:]:
        for name, values in AXES.items():
            for i, value in enumerate(values):
                found.append(Case(n, **{name: value}))
                if name in ("backend", "metric", "width"):
                    found += [replace(found[-1], fill=fill) for fill in FILLS[1:]]
                elif name in ("method", "difficulty"):
                    found.append(replace(found[-1], fill=FILLS[1 + i % 2]))
    return found


def cases(count):
    """Return the matrix, and then mixtures at random."""
    found, rng = matrix(), random.Random(7)
    while len(found) < count:
        mixed = {name: rng.choice(values) for name, values in AXES.items() if rng.random() < 0.5}
        n = rng.choice([*SIZES[1:], 5, 11, 97])
        found.append(Case(n, fill=rng.choice(FILLS), **mixed))
    return found[:count]


def write(case, path):
    """Write the data of a case."""
    rng, n = np.random.default_rng([5, case.n, case.width]), case.n
    vectors = rng.normal(size=(n, case.width)).astype(np.float32)
    vectors *= case.fill == "random"
    vectors += case.fill == "equal"
    scores = {
        "constant": np.full(n, 0.1),
        "huge": rng.random(n) * 1e300,
        "tiny": rng.random(n) * 1e-320,
        "zeros": np.zeros(n),
        "one-huge": np.where(np.arange(n) == n - 1, 1e15, 1.0),
        "integers": rng.integers(-(10**15), 10**15, n),
    }.get(case.difficulty, rng.random(n))
    ids = np.random.default_rng(n).permutation(n).astype(np.int64)
    table = {
        "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), case.width),
        "s": pa.array(scores),
        "g": pa.array(np.arange(n) if "single" in case.group else np.zeros(n, dtype=np.int64)),
    }
    if case.ids == "huge":
        table["id"] = pa.array(ids + 10**15)
    if case.ids == "negative":
        table["id"] = pa.array(ids + np.iinfo(np.int64).min)
    if case.ids == "text":
        table["id"] = pa.array([f"{i} ß\n" for i in ids], pa.large_string())
    pq.write_table(pa.table(table), path)


class Broken(Exception):
    """What a case did that it must not."""


def call(*arguments, allowed=(0,)):
    """Run a command in this process; return exit code and standard output."""
    from d2cli.__main__ import main

    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    line = " ".join(map(str, arguments))
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                main([str(argument) for argument in arguments])
            code = None
        except SystemExit as stopped:
            code = stopped.code or 0
        except BaseException as error:
            raise Broken(f"d2 {line}: {traceback.format_exc().splitlines()[-1]}") from error
    out.flush()
    text, told = out.buffer.getvalue().decode(), err.getvalue()
    if code not in allowed:
        raise Broken(f"d2 {line}: exit code {code}, expected {allowed}: {told[:300]}")
    lines = [one.partition(":")[0] for one in told.splitlines()]
    told_why = lines[-2:] == ["error", "hint"] or (arguments[0] == "check" and "fail" in text)
    if code and not told_why:
        raise Broken(f"d2 {line}: not one line and a hint: {told[:300]}")
    if "Traceback" in told or "Warning" in told:
        raise Broken(f"d2 {line}: {told[:300]}")
    return code, text


def check_selection(case, path):
    """Hold a selection against what is defined of it; return its rows."""
    table = pq.read_table(path)
    rows, ranks = table["row"].to_numpy(), table["rank"].to_numpy()
    if len(rows) != case.kept:
        raise Broken(f"{len(rows)} rows kept, expected {case.kept}")
    if len(set(rows)) != len(rows) or not ((rows >= 0) & (rows < case.n)).all():
        raise Broken("rows repeat, or are none of the data")
    if sorted(ranks) != list(range(len(rows))):
        raise Broken("ranks are no order")
    for name in ("difficulty", "score", "score_at_pick"):
        values = table[name].to_numpy()
        if case.method == "kcenter" and name == "score_at_pick":
            values = values[values < np.inf]  # no path leads to an earlier pick
        if not np.isfinite(values).all():
            raise Broken(f"{name} is not finite")
    return list(rows)


def run_case(case):
    """Take a case through all commands; return "" or what is wrong, and whether it was refused."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        os.environ["D2_CACHE_DIR"] = str(there / "cache")
        try:
            return "", _run(case, there)
        except Broken as error:
            return f"{case}: {error}", False


def _run(case, there):
    data, graph, scores = there / "d.parquet", there / "g.parquet", there / "s.parquet"
    kept, again, rows = there / "k.parquet", there / "k2.parquet", there / "o.parquet"
    write(case, data)
    how = ["-k", K, "--backend", case.backend, "--metric", case.metric, "-j", 1, "-q"]
    if "within" in case.group:
        how += ["--within", "g"]
    scored = ["--difficulty", f"{data}::s", "--harder", "high", "--gamma-forward", 0.4]
    scored += ["--prune-hardest", 0]
    picked = [*case.budget_options, "--method", case.method, "--gamma-reverse", 1.5]
    picked += ["--group", f"{data}::g"] if case.group != "none" else []
    no_vectors = case.n == 0 or (case.fill == "zero" and case.metric == "cosine")
    call("check", data, "--difficulty", "s", "--harder", "high", "-k", K, "--metric", case.metric,
         allowed=(3,) if no_vectors else (0, 3))  # fmt: skip
    code, _ = call("graph", data, *how, "-o", graph, allowed=(3,) if no_vectors else (0,))
    prune = ["prune", data, *how, *scored, *picked, "--report", there / "r.json", "-o"]
    if code:
        call(*prune, again, allowed=(2, 3))
        return True
    lists = pq.read_table(graph)
    neighbors = np.array(lists["neighbors"].combine_chunks().flatten()).reshape(case.n, K)
    others = 0 if case.group == "within single" else case.n - 1
    if ((neighbors >= 0).sum(axis=1) != min(K, others)).any():
        raise Broken("a row has not as many neighbors as there are")
    call("score", graph, *scored, "-q", "-o", scores)
    # Included groups of one row or uniform shares never ask for more than there is.
    defined = (0,) if case.kept >= 1 else (2,)
    code, _ = call("select", scores, *picked, "-q", "-o", kept, allowed=defined)
    call(*prune, again, allowed=defined)
    if code:
        if kept.exists() or again.exists():
            raise Broken("refused, but something was written")
        return True
    if check_selection(case, kept) != check_selection(case, again):
        raise Broken("the stages one by one keep other rows than prune")
    json.loads((there / "r.json").read_text())
    _, text = call("diff", kept, again, "--json")
    json.loads(text)
    call("export", kept, "--source", data, "-q", "-o", rows)
    if pq.read_metadata(rows).num_rows != case.kept:
        raise Broken("exported another number of rows than were kept")
    if case.ids != "none" and pq.read_table(rows)["id"] != pq.read_table(kept)["id"]:
        raise Broken("exported other ids than were kept")
    return False


def soak(count, workers=2):
    """Run so many cases; return what went wrong and the line of figures."""
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(run_case, cases(count), chunksize=8))
    broken = [text for text, _ in done if text]
    refused = sum(refused for _, refused in done)
    line = (
        f"{len(done):,} degenerate data sets: {len(broken)} broken, {refused:,} refused with one "
        f"line, {len(done) - refused - len(broken):,} pruned; {time.perf_counter() - start:.0f} s"
    )
    return broken, line


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    broken, line = soak(parser.parse_args().count)
    print("\n".join([*broken, line]))
    sys.exit(bool(broken))
