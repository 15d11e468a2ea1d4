"""What score and select move and hold on a cluster, predicted and measured.

``python -m tests.bench.cluster_cost --folder FOLDER``, from the root. The constants of the model
are measured in this process on graphs of two smaller sizes; the rows to check run as tasks of Ray,
once whole and once in parts, and have to write the same bytes. ``--paper`` prints what the model
says of sizes that are not run.
"""

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from d2cli.files.artifacts import read_artifact
from d2cli.files.stages import graph_of, scores_of
from d2cli.params import SelectParams
from d2cli.quantities import size_text
from d2cli.stages.executor import InProcess
from d2cli.stages.graph import KnnGraph
from d2cli.stages.graph_cut import divide, edges_across
from d2cli.stages.messages import EDGES_AT_ONCE
from d2cli.stages.parts import even_parts
from d2cli.stages.rounds import Rounds
from d2cli.stages.score import Scores
from d2cli.stages.selection import select_coreset

from .cluster_graph import BESIDE
from .cluster_graph import Constants as GraphConstants
from .cluster_graph import predict as predict_partitions
from .cluster_runs import RATE, SCORE, K, d2, make, make_idle

PAPER = (12_800_000, 1_280_000_000, 12_800_000_000)


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
    handed = (32 + 12 * c.edges + 20 * c.beside + 4 * c.across) * n  # to the tasks, once
    return {
        "score, sent": (8 + 8 * c.edges + 9 * (1 + c.around)) * n,
        "score, received": 8 * n,
        "score, kept": 8 * n,
        # The sums, and the weights of a piece and of the one before.
        "score, memory a worker": 8 * part + 16 * min(EDGES_AT_ONCE, c.edges * part),
        "select, sent": handed + (13 + 9 * c.beside + 13 * c.news) * n,
        "select, received": 12 * (picks + c.changed * n),
        "select, kept": 16 * picks,
        "select, rounds": c.rounds,
        "select, memory a worker": 13 * seen + (14 + 32 * (1 - RATE)) * part,
        "select, memory of the driver": (8 * K + 8 * c.edges) * n  # as stored, and undirected
        + (4 + 32 / n_parts) * c.edges * n  # the other ends' distances; a part being cut
        + handed  # what it has put into the object store, which it maps
        + 100 * n,  # scores, orders, values and states
        "select, object store": handed + 2 * (13 + 9 * c.beside) * n,
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
              "-o", "s.parquet", "--force", "--json")  # fmt: skip
    before = json.loads(idle.output)["stages"][0]["peak_memory_bytes"]
    found |= {
        "score, memory a worker": many.worker - idle.worker,
        "select, rounds": stage["rounds"],
        "select, memory a worker": parted.worker - idle.worker,
        "select, memory of the driver": stage["peak_memory_bytes"] - before,
    }
    steps = {step["step"]: step["seconds"] for step in stage["steps"]}
    text = (
        f"score {one} whole, {many} as tasks; select {whole} whole, {parted} as tasks "
        f"(stage {alone['seconds']:.1f} and {stage['seconds']:.1f} s: "
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items())
        + f"); {100 * stage['edges_across']:.1f} % of edges across; "
        + ("the same bytes" if same else "OTHER BYTES")
    )
    return found, text


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
    parser.add_argument("--dim", type=int, default=768, help="of vectors, for --paper")
    for name, usual in (("visits", 16.0), ("asked", 2.0), ("layout", 216.0), ("held", 3000.0)):
        about = "constant of cluster_graph, for --paper"
        parser.add_argument(f"--{name}", type=float, default=usual, help=about)
    parser.add_argument("--part-rows", type=int, default=1_000_000, help="of a part, for --paper")
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
        paper(*found, given)
        return
    model = predict(extrapolate(*found, (small, large), given.rows), given.rows, given.partitions)
    measured, text = measure(make(given.folder, given.rows, given.graph), given.partitions)
    print(f"\n| {given.rows:,} rows | predicted | measured | ratio |\n|---|--:|--:|--:|")
    for name, value in measured.items():
        print(f"| {name} | {model[name]:.4g} | {value:.4g} | {model[name] / value:.2f} |")
    print(f"\n{text}")
    if "OTHER" in text:
        raise SystemExit(1)


def paper(small: Constants, large: Constants, given: argparse.Namespace) -> None:
    """Print the model with constants as they are, but for rounds, on parts of a size."""
    sizes = tuple(map(int, given.sizes.split(",")))
    columns = []
    for n in PAPER:
        n_parts = math.ceil(n / given.part_rows)
        rounds = extrapolate(small, large, sizes, n).rounds
        about = {"partitions": n_parts, **predict_graph(n, n_parts, given)}
        columns.append({**about, **predict(replace(large, rounds=rounds), n, n_parts)})
    print(f"\n| | {' | '.join(f'{n:,} rows' for n in PAPER)} |\n|---|" + "--:|" * len(PAPER))
    for name in columns[0]:
        bare = name.endswith(("rounds", "partitions"))
        texts = (f"{c[name]:,.0f}" if bare else size_text(c[name]) for c in columns)
        print(f"| {name} | {' | '.join(texts)} |")


def predict_graph(n: int, n_parts: int, given: argparse.Namespace) -> dict[str, float]:
    """Return what a graph in partitions moves and holds, from constants of `cluster_graph`."""
    beside = {"layout": given.layout, "beside": BESIDE, "answered": 12 * K / 2, "merged": 1.0}
    used = {"visits": min(given.visits, n_parts - 1), "asked": given.asked, "held": given.held}
    found = predict_partitions(
        GraphConstants(**beside, **used, fixed=0, micros=0), n, n_parts, given.dim
    )
    return {f"graph, {name}": value for name, value in found.items() if "CPU" not in name}


if __name__ == "__main__":
    main()
