"""Picking: d2 beside an argmax loop, a lazy heap, and the floor that sorting is."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import d2cli
from d2cli.stages.graph import KnnGraph
from d2cli.stages.kernel import edge_weights
from d2cli.stages.score import Scores

from .data import generate
from .tables import Entry, Table
from .timing import Clock, Run, adding_to, clock, interleave, say

BASE_ROWS, BASE_DIM = 100_000, 32
RATE = 0.7
OWN = "d2 select"


@dataclass(frozen=True, eq=False)
class Problem:
    """Scores on a graph, and the numbers that its edge weights are made with."""

    graph: KnnGraph
    scores: Scores
    budget: int
    gamma: float
    bandwidth: float

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the reverse messages, computed anew, one an edge of ``graph.adjacency``."""
        return edge_weights(
            self.graph.adjacency.distances,
            gamma=self.gamma,
            bandwidth=self.bandwidth,
            kernel="gaussian",
        )

    @property
    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
        """Compressed rows (indptr, indices, weights)."""
        adjacency = self.graph.adjacency
        return adjacency.indptr, adjacency.indices, self.weights


Method = Callable[[Problem, int], NDArray[Any]]  # the problem and how many picks, to the picks


def compare_selections(rows: int, *, loop_picks: int, repeats: int) -> Table:
    """Pick 30 % of some rows with every method, and hold the orders against each other."""
    problem = make_problem(rows)
    every = problem.budget
    few = min(loop_picks, every)
    methods: dict[str, tuple[Method, int]] = {
        OWN: (pick_by_d2, every),
        "NumPy argmax loop": (pick_by_argmax, few),
        "Python heapq": (pick_by_heap, every),
        "edge weights alone": (lambda problem, _: problem.weights, 0),
        "argsort of the scores": (lambda problem, _: np.argsort(problem.scores.score), 0),
    }
    results: dict[str, NDArray[Any]] = {}

    def run(name: str) -> Run:
        results[name], figures = _timed(*methods[name], problem)
        return figures

    runs = interleave({name: partial(run, name) for name in methods}, repeats)
    entries = []
    for name, (_, picks) in methods.items():
        same = (
            {"same_picks": float(np.mean(results[name] == results[OWN][:picks]))} if picks else {}
        )
        note = f"scaled from the first {picks:,} picks" if 0 < picks < every else ""
        entries.append(Entry(name, note, [{**figures, **same} for figures in runs[name]]))
    edges = len(problem.graph.adjacency.indices)
    return Table(
        f"Selection of {every:,} of {problem.graph.n_samples:,} rows",
        f"Ten neighbours, {edges / problem.graph.n_samples:.1f} edges a row, one thread, medians "
        f"of {repeats} interleaved repeats. All start from the same scores and distances and count "
        "the edge weights. Same picks: the share of ranks, of those that ran, at which d2 picks "
        "the same row.",
        ["seconds", "cpu_seconds", "same_picks"],
        [("seconds", OWN)],
        entries,
    )


def _timed(method: Method, picks: int, problem: Problem) -> tuple[NDArray[Any], Run]:
    """Run a method; what it does behind the weights is scaled to the whole budget."""
    with clock() as whole:
        result = method(problem, picks)
    ahead, scale = Clock(), 1.0
    if 0 < picks < problem.budget:
        scale = problem.budget / picks
        with adding_to(ahead):
            assert len(problem.weights)
    return result, {
        name: getattr(ahead, name) + (getattr(whole, name) - getattr(ahead, name)) * scale
        for name in ("seconds", "cpu_seconds")
    }


def make_problem(rows: int) -> Problem:
    """Make relabelled copies of one graph until there are ``rows`` nodes, and pass messages.

    The copies' numbers are mixed at random, so that neighbours are far from each other in memory.
    """
    base = min(rows, BASE_ROWS)
    copies = -(-rows // base)
    say(f"selection: graph of {base:,} rows, {copies} times")
    graph = d2cli.graph(generate("clustered", base, BASE_DIM), n_threads=1)
    if copies > 1:
        graph = _copied(graph, copies)
    rng = np.random.default_rng(1)
    scores = d2cli.score(graph, rng.random(graph.n_samples), rate=RATE)
    chosen = d2cli.select(scores, graph, rate=RATE)  # computes the adjacency as well
    return Problem(graph, scores, len(chosen.rows), chosen.gamma_reverse, chosen.bandwidth)


def _copied(graph: KnnGraph, copies: int) -> KnnGraph:
    n = graph.n_samples
    numbers = np.random.default_rng(0).permutation(copies * n).astype(np.int32)
    neighbors = np.empty((copies * n, graph.n_neighbors), dtype=np.int32)
    distances = np.empty(neighbors.shape, dtype=np.float32)
    for start in range(0, copies * n, n):
        own = numbers[start : start + n]
        neighbors[own], distances[own] = own[graph.neighbors], graph.distances
    return replace(graph, neighbors=neighbors, distances=distances)


def pick_by_d2(problem: Problem, picks: int) -> NDArray[np.int64]:
    """Run the stage; ties go to the lower row, as they do in the loops."""
    return d2cli.select(problem.scores, problem.graph, rate=RATE, ties="row").rows


def pick_by_argmax(problem: Problem, picks: int) -> NDArray[np.int64]:
    """Take the first largest score, subtract from its neighbours, repeat."""
    indptr, indices, weights = problem.edges
    x = problem.scores.score.copy()
    out = np.empty(picks, dtype=np.int64)
    for rank in range(picks):
        pick = int(np.argmax(x))
        value = x[pick]
        edges = slice(indptr[pick], indptr[pick + 1])
        x[indices[edges]] -= weights[edges] * value
        x[pick] = -np.inf  # stays there, whatever is subtracted
        out[rank] = pick
    return out


def pick_by_heap(problem: Problem, picks: int) -> NDArray[np.int64]:
    """Do the same with a lazy heap of (-score, row).

    A row whose score fell is put back when it comes up; one whose score rose, because a pick was
    negative, is pushed again at once.
    """
    indptr, indices, weights = problem.edges
    starts, x = indptr.tolist(), problem.scores.score.tolist()
    heap = [(-value, row) for row, value in enumerate(x)]
    heapq.heapify(heap)
    picked, out = bytearray(len(x)), []
    while len(out) < picks:
        negative, row = heapq.heappop(heap)
        if picked[row]:
            continue
        value = x[row]
        if value != -negative:
            heapq.heappush(heap, (-value, row))
            continue
        picked[row] = 1
        out.append(row)
        start, stop = starts[row], starts[row + 1]
        near = indices[start:stop].tolist()
        for other, weight in zip(near, weights[start:stop].tolist(), strict=True):
            if not picked[other]:
                x[other] -= weight * value
                if value < 0:
                    heapq.heappush(heap, (-x[other], other))
    return np.array(out)
