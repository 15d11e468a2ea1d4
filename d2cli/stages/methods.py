"""Selection methods beside D2, under the same budgets, groups and cutoffs.

All run on what D2 runs on, difficulty and the nearest-neighbour graph, so that they compare like
with like and need no n x n matrix. Where the published method works on vectors, the graph stands in
for them, and the function says how.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.params import Method
from d2cli.stages._messages import cover_greedily, drop_near_duplicates, farthest_first
from d2cli.stages.changes import ChangeLimit
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups

STRATA = 50  # of ccs


@dataclass(frozen=True, eq=False)
class Task:
    """What a method has to pick, and from what.

    Attributes
    ----------
    graph : KnnGraph
        Over n rows.
    difficulty : float64 array, shape (n,)
        Higher is harder.
    candidate : bool array, shape (n,)
        Rows that may be picked, included ones among them.
    included : int64 array
        Rows that are picked first, in this order.
    groups : Groups
        Over the n rows.
    budgets : tuple of int
        Rows to pick of each group.
    order : int32 array, shape (n,)
        The rows in the order in which equals are taken.
    weigh : callable
        Returns the similarity, 0 to 1, of edges from their distances, float32 (e,).
    rng : Generator
        Of methods that draw rows.
    limit : ChangeLimit or None
        What rows outside an earlier selection have to keep to; only of methods that
        `d2cli.params.LIMITABLE` lists.
    """

    graph: KnnGraph
    difficulty: NDArray[np.float64]
    candidate: NDArray[np.bool_]
    included: NDArray[np.int64]
    groups: Groups
    budgets: tuple[int, ...]
    order: NDArray[np.int32]
    weigh: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    rng: np.random.Generator
    limit: ChangeLimit | None = None

    @property
    def place(self) -> NDArray[np.int64]:
        """Where each row stands in the tie order, (n,)."""
        place = np.empty(len(self.order), dtype=np.int64)
        place[self.order] = np.arange(len(self.order))
        return place


@dataclass(frozen=True, eq=False)
class Picked:
    """Rows in the order they were picked, and what each was picked for; (budget,) each."""

    rows: NDArray[np.int64]
    values: NDArray[np.float64]


def _in_order(task: Task, ranked: NDArray[np.int64], values: NDArray[np.float64]) -> Picked:
    """Take included rows, then rows as ``ranked``, while there is room for them."""
    left = np.array(task.budgets)
    places = None if task.limit is None else task.limit.places()
    chosen: list[int] = []
    taken = np.zeros(len(task.candidate), dtype=np.bool_)
    for row in [*task.included.tolist(), *ranked[task.candidate[ranked]].tolist()]:
        group = task.groups.codes[row]
        if left[group] > 0 and not taken[row] and (places is None or places.take(row, group)):
            taken[row] = True
            left[group] -= 1
            chosen.append(row)
    rows = np.array(chosen, dtype=np.int64)
    return Picked(rows, values[rows])


def _each_group(task: Task, pick: Callable[[NDArray[np.int64], int, int], Picked]) -> Picked:
    """Pick in every group by itself; ranks run through the groups in step with their budgets.

    ``pick(rows, group, budget)`` gets the rows of a group and returns ``budget`` of them.
    """
    parts, turns = [], []
    for group, rows in enumerate(task.groups.rows()):
        budget = task.budgets[group]
        if budget:
            part = pick(rows, group, budget)
            parts.append(part)
            turns.append(np.arange(budget) / budget)
    merged = np.argsort(np.concatenate(turns), kind="stable")
    rows = np.concatenate([part.rows for part in parts])[merged]
    values = np.concatenate([part.values for part in parts])[merged]
    # Included rows are first in their groups already; they have the first ranks of all.
    first = {row: i for i, row in enumerate(task.included.tolist())}
    ahead = np.argsort([first.get(row, len(first)) for row in rows.tolist()], kind="stable")
    return Picked(rows[ahead], values[ahead])


def pick_random(task: Task) -> Picked:
    """Draw rows without replacement."""
    drawn = task.rng.permutation(len(task.candidate))
    return _in_order(task, drawn, task.difficulty)


def pick_hardest(task: Task) -> Picked:
    """Take the rows of highest difficulty (Paul, Ganguli, Dziugaite 2021, arXiv:2107.07075)."""
    return _in_order(task, np.lexsort((task.place, -task.difficulty)), task.difficulty)


def pick_easiest(task: Task) -> Picked:
    """Take the rows of lowest difficulty (for little data: Sorscher 2022, arXiv:2206.14486)."""
    return _in_order(task, np.lexsort((task.place, task.difficulty)), task.difficulty)


def pick_moderate(task: Task) -> Picked:
    """Take the rows whose difficulty is nearest the median of their group.

    As published (Xia 2023, Moderate Coreset, ICLR) the score is the distance to the class centre,
    which ``d2 difficulty --embedding`` computes; any other difficulty can take its place.
    """
    away = np.empty(len(task.difficulty))
    for rows in task.groups.rows():
        pool = rows[task.candidate[rows]]
        median = np.median(task.difficulty[pool]) if len(pool) else 0.0
        away[rows] = np.abs(task.difficulty[rows] - median)
    return _in_order(task, np.lexsort((task.place, away)), task.difficulty)


def pick_ccs(task: Task) -> Picked:
    """Draw evenly from strata of difficulty (Zheng 2023, CCS, arXiv:2210.15809).

    50 strata of equal width; from the smallest to the largest each gives an equal share of what is
    left of the budget, or all it has. The published cutoff is ``prune_hardest``.
    """

    def pick(rows: NDArray[np.int64], group: int, budget: int) -> Picked:
        included = task.included[task.groups.codes[task.included] == group]
        pool = np.setdiff1d(rows[task.candidate[rows]], included)
        scores = task.difficulty[pool]
        low, high = (float(scores.min()), float(scores.max())) if len(pool) else (0.0, 0.0)
        width = (high - low) / STRATA or 1.0
        stratum = np.minimum((scores - low) // width, STRATA - 1).astype(np.int64)
        sizes = np.bincount(stratum, minlength=STRATA)
        left, chosen = budget - len(included), [included]
        by_size = [s for s in np.argsort(sizes, kind="stable") if sizes[s]]
        for position, s in enumerate(by_size):
            share = min(left // (len(by_size) - position), int(sizes[s]))
            chosen.append(task.rng.permutation(pool[stratum == s])[:share])
            left -= share
        ranked = np.concatenate(chosen)
        drawn = task.rng.permutation(ranked[len(included) :])
        kept = np.concatenate([included, drawn]).astype(np.int64)
        return Picked(kept, task.difficulty[kept])

    return _each_group(task, pick)


def pick_kcenter(task: Task) -> Picked:
    """Take the row farthest from all picks, repeat (Sener, Savarese 2018, arXiv:1708.00489).

    Distances are lengths of shortest paths in the graph, so that a pick costs its surroundings and
    not n distances; parts of the graph that no path joins are infinitely far apart. The first row
    is the first in the tie order.
    """
    around = task.graph.adjacency

    def pick(rows: NDArray[np.int64], group: int, budget: int) -> Picked:
        candidate = np.zeros(len(task.candidate), dtype=np.uint8)
        candidate[rows] = task.candidate[rows]
        included = task.included[task.groups.codes[task.included] == group]
        edges = (around.indptr, around.indices, around.distances)
        return Picked(*farthest_first(*edges, task.order, candidate, included, budget))

    return _each_group(task, pick)


def pick_facility_location(task: Task) -> Picked:
    """Maximise ``sum_i max_p w_ip`` greedily over the picks p (Mirzasoleiman 2020 use it too).

    Similarities are the edge weights, as in sparse facility location: a row is 1 to itself and 0 to
    all but its neighbours.
    """
    around = task.graph.adjacency

    def pick(rows: NDArray[np.int64], group: int, budget: int) -> Picked:
        demand = np.zeros(len(task.candidate), dtype=np.uint8)
        demand[rows] = task.candidate[rows]
        included = task.included[task.groups.codes[task.included] == group]
        edges = (around.indptr, around.indices, task.weigh(around.distances))
        return Picked(*cover_greedily(*edges, task.order, demand, demand, included, budget))

    return _each_group(task, pick)


def pick_semdedup(task: Task) -> Picked:
    """Drop near-duplicates by distance down to the budget (after Abbas 2023, arXiv:2303.09540).

    Edges are taken by ascending distance; of two rows that are both still there the easier goes. If
    the edges do not suffice, rows go at random. Published: by cosine within k-means clusters and a
    fixed threshold, here the threshold is what the budget implies.
    """
    around, n = task.graph.adjacency, len(task.candidate)
    left = np.repeat(np.arange(n, dtype=np.int32), np.diff(around.indptr))
    once = left < around.indices
    pairs = np.stack([left[once], around.indices[once]])
    rank = np.empty(n, dtype=np.int64)  # 0 is the hardest, of equals the first in the tie order
    rank[np.lexsort((task.place, -task.difficulty))] = np.arange(n)
    pairs = np.take_along_axis(pairs, np.argsort(-rank[pairs], axis=0, kind="stable"), axis=0)
    nearest_first = np.lexsort((rank[pairs[1]], rank[pairs[0]], around.distances[once]))
    easier, harder = np.ascontiguousarray(pairs[:, nearest_first])
    alive = task.candidate.astype(np.uint8)
    fixed = np.zeros(n, dtype=np.uint8)
    fixed[task.included] = 1
    counts = np.bincount(task.groups.codes, weights=alive, minlength=task.groups.n_groups)
    surplus = counts.astype(np.int64) - np.array(task.budgets)
    drop_near_duplicates(easier, harder, fixed, alive, task.groups.codes, surplus)
    for row in task.rng.permutation(np.flatnonzero(alive & ~fixed.astype(np.bool_))):
        if surplus[task.groups.codes[row]] > 0:
            alive[row] = 0
            surplus[task.groups.codes[row]] -= 1
    ranked = np.argsort(rank, kind="stable")
    return _in_order(task, ranked[alive[ranked].astype(np.bool_)], task.difficulty)


METHODS: dict[Method, Callable[[Task], Picked]] = {
    "random": pick_random,
    "hardest": pick_hardest,
    "easiest": pick_easiest,
    "moderate": pick_moderate,
    "ccs": pick_ccs,
    "kcenter": pick_kcenter,
    "facility-location": pick_facility_location,
    "semdedup": pick_semdedup,
}
