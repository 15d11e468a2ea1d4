"""Commands of every stage over small files, each with what it reads and writes."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.soak import children

N_ROWS, DIM = 900, 16
AUM = ("--difficulty", "t.parquet::aum")
STUDY = ("--difficulty", "aum", "--labels", "label", "--rates", "0.5", "--seeds", 1)


@dataclass(frozen=True)
class Scenario:
    """A command, what it writes besides the cache, and the command that wrote an older result."""

    name: str
    arguments: tuple
    outputs: tuple
    older: tuple


def _two(name, outputs, first, *rest, older):
    return Scenario(name, (first, *rest), outputs, (first, *older))


PRUNE = ("t.parquet", "--difficulty", "aum", "-o", "k.parquet", "--report", "r.md", "--rate")
SELECT = ("s.parquet", "-o", "k.npy", "--report", "r.json", "--rate")
EXPORT = ("keep.parquet", "--source", "t.parquet")
OTHER = ("other.parquet", "--source", "t.parquet")

SCENARIOS = (
    _two("graph, exact", ("g2.parquet",), "graph", "t.parquet", "-o", "g2.parquet",
         older=("t.parquet", "-o", "g2.parquet", "-k", 3)),
    _two("graph, hnsw", ("g2.parquet",), "graph", "t.parquet", "-o", "g2.parquet", "--backend",
         "hnsw", older=("t.parquet", "-o", "g2.parquet", "-k", 3)),
    _two("graph on disk", ("g2.parquet",), "graph", "e.npy", "-o", "g2.parquet", "--max-memory",
         "500M", "--metric", "cosine", older=("e.npy", "-o", "g2.parquet", "-k", 3)),
    _two("difficulty", ("d.parquet",), "difficulty", "--from-graph", "g.parquet", "--labels",
         "t.parquet::label", "-o", "d.parquet",
         older=("--from-graph", "g.parquet", "-o", "d.parquet")),
    _two("score", ("s2.parquet",), "score", "g.parquet", *AUM, "-o", "s2.parquet",
         older=("g.parquet", *AUM, "--rate", 0.9, "-o", "s2.parquet")),
    _two("select", ("k.npy", "r.json"), "select", *SELECT, 0.7, older=(*SELECT, 0.9)),
    _two("prune", ("k.parquet", "r.md"), "prune", *PRUNE, 0.7, older=(*PRUNE, 0.9)),
    _two("export, parquet", ("out.parquet",), "export", *EXPORT, "-o", "out.parquet",
         older=(*OTHER, "-o", "out.parquet")),
    _two("export, folder", ("out",), "export", *EXPORT, "-o", "out/", older=(*OTHER, "-o", "out/")),
    _two("export, datasets", ("out",), "export", *EXPORT, "-o", "out", "--format", "datasets",
         older=(*OTHER, "-o", "out", "--format", "datasets")),
    _two("export, by rank", ("out.jsonl",), "export", *EXPORT, "-o", "out.jsonl", "--order", "rank",
         older=(*OTHER, "-o", "out.jsonl")),
    _two("compare", ("c.md", "c.svg"), "compare", "t.parquet", *STUDY, "--methods", "d2,hardest",
         "-o", "c.md", "--plot", "c.svg",
         older=("t.parquet", *STUDY, "--methods", "d2", "-o", "c.md", "--plot", "c.svg")),
    _two("sweep", ("w.json",), "sweep", "t.parquet", *STUDY, "-k", "5,10", "-o", "w.json",
         older=("t.parquet", *STUDY, "-k", "5", "-o", "w.json")),
    _two("report", ("r.html",), "report", "keep.parquet", "--scores", "s.parquet", "-o", "r.html",
         "--source", "t.parquet", "--show", "text",
         older=("keep.parquet", "--scores", "s.parquet", "-o", "r.html")),
)  # fmt: skip


class Stage:
    """Folders with the inputs of all scenarios, and what every scenario makes undisturbed."""

    def __init__(self, root: Path, chosen=SCENARIOS) -> None:
        self.root, self.inputs, self.chosen = root, root / "inputs", chosen
        self.inputs.mkdir(parents=True)
        _write_inputs(self.inputs)
        self._numbers = iter(range(1 << 60))
        self.whole, self.old = {}, {}
        for scenario in self.chosen:
            for results, arguments in (
                (self.old, scenario.older), (self.whole, scenario.arguments),
            ):  # fmt: skip
                folder = self.fresh()
                done = children.run(arguments, folder)
                assert done["code"] == 0, (scenario, done)
                results[scenario.name] = done["tree"]
                if results is self.old:
                    folder.rename(self.kept(scenario))
                else:
                    shutil.rmtree(folder)

    def kept(self, scenario) -> Path:
        """Return the folder where the older result lies."""
        return self.root / f"old {scenario.name}"

    def fresh(self, scenario=None, name="") -> Path:
        """Return a new folder with the inputs, and the older outputs of a scenario."""
        folder = self.root / f"{name}{os.getpid()}-{next(self._numbers)}"
        shutil.copytree(self.inputs, folder)
        for output in scenario.outputs if scenario else ():
            kept = self.kept(scenario) / output
            (shutil.copytree if kept.is_dir() else shutil.copy)(kept, folder / output)
        return folder


def of_outputs(scenario, tree):
    """Return what a tree holds of each output: {output: {path: digest}}."""
    return {
        output: {p: d for p, d in tree.items() if p == output or p.startswith(output + "/")}
        for output in scenario.outputs
    }


def is_stray(path):
    """Return whether a file is one that should not outlive its run."""
    return ".d2tmp" in path or ".old" in path


def _write_inputs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, N_ROWS)
    vectors = (rng.normal(size=(N_ROWS, DIM)) + 2 * label[:, None]).astype(np.float32)
    np.save(folder / "e.npy", vectors)
    table = pa.table(
        {
            "id": [f"r{i}" for i in range(N_ROWS)],
            "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIM),
            "aum": 2 + rng.normal(size=N_ROWS),
            "label": label,
            "text": [f"text of row {i}" for i in range(N_ROWS)],
        }
    )
    pq.write_table(table, folder / "t.parquet", row_group_size=200)
    for line in (
        ("graph", "t.parquet", "-o", "g.parquet"),
        ("score", "g.parquet", *AUM, "-o", "s.parquet", "--rate", 0.7),
        ("select", "s.parquet", "--rate", 0.7, "-o", "keep.parquet"),
        ("select", "s.parquet", "--rate", 0.9, "-o", "other.parquet"),
    ):
        done = children.run(line, folder)
        assert done["code"] == 0, done
    shutil.rmtree(folder / "cache", ignore_errors=True)
