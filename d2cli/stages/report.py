"""What a selection keeps, beside what random selections of the same size keep."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.params import Kernel
from d2cli.stages.baseline import random_selection
from d2cli.stages.gallery import nearest_kept, pick_examples
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups, one_group
from d2cli.stages.kernel import edge_weights
from d2cli.stages.score import Scores
from d2cli.stages.selection import Selection

REPORT_VERSION = 1
RANDOM_SELECTIONS = 3
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
HISTOGRAM_BINS = 20
NEARLY_ALL = 0.95
CURVE_POINTS = 200
EDGES_AT_ONCE = 1 << 20  # weighed


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How kept rows lie in the graph; distances are in the metric's unit.

    ``dropped_covered`` is the share of dropped rows with a kept neighbour, ``dropped_distance``
    their mean distance to the nearest one; ``kept_touching`` the share of kept rows with a kept
    neighbour, ``kept_distance`` their mean distance to the nearest one (small = redundant). None
    where there is no such row.
    """

    dropped_covered: float | None
    dropped_distance: float | None
    kept_touching: float | None
    kept_distance: float | None


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values, dtype=np.float64)) if len(values) else None


def cover(graph: KnnGraph, kept: NDArray[np.bool_]) -> Coverage:
    """Measure how a selection covers the graph; ``kept`` is bool (n,)."""
    nearest = graph.adjacency.nearest(kept)
    reached = np.isfinite(nearest)
    return Coverage(
        dropped_covered=_mean(reached[~kept]),
        dropped_distance=_mean(nearest[~kept & reached]),
        kept_touching=_mean(reached[kept]),
        kept_distance=_mean(nearest[kept & reached]),
    )


def spread(values: NDArray[np.float64]) -> dict[str, float] | None:
    """Return mean and quantiles, named "mean", "q0" ... "q100"; None for no values."""
    if not len(values):
        return None
    return {"mean": float(np.mean(values)), **_named(np.quantile(values, QUANTILES))}


def _named(quantiles: NDArray[np.float64]) -> dict[str, float]:
    return {f"q{100 * q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}


def histogram(values: NDArray[np.float64], kept: NDArray[np.bool_]) -> dict[str, list[float]]:
    """Count all, kept and dropped rows in equal bins over the range of all values."""
    low, high = float(values.min()), float(values.max())
    if not high - low > abs(high) * 1e-12:  # one value, or too close for bins of their own
        low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, HISTOGRAM_BINS - 1)
    of_all = np.bincount(places, minlength=HISTOGRAM_BINS)
    of_kept = np.bincount(places[kept], minlength=HISTOGRAM_BINS)
    return {
        "edges": edges.tolist(),
        "all": of_all.tolist(),
        "kept": of_kept.tolist(),
        "dropped": (of_all - of_kept).tolist(),
    }


@dataclass(frozen=True, kw_only=True)
class Way:
    """The kernel of the messages of one way; see `d2cli.stages.kernel.edge_weights`."""

    gamma: float
    bandwidth: float
    kernel: Kernel

    def weights(self, distances: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the weights of some distances."""
        return edge_weights(
            distances, gamma=self.gamma, bandwidth=self.bandwidth, kernel=self.kernel
        )


def describe_whitening(graph: KnnGraph) -> dict[str, Any]:
    """Return what a graph's vectors were whitened by, under "whitening"; empty if they were not."""
    fitted = graph.whitening
    if fitted is None:
        return {}
    return {"whitening": {"shrinkage": fitted.shrinkage, "sample_size": fitted.sample_size}}


def _stored_distances(graph: KnnGraph) -> NDArray[np.float32]:
    """Return the distances of all stored edges, (e,); they themselves where no list is padded."""
    real = graph.neighbors[:, -1] >= 0  # padding is at the end
    return graph.distances.reshape(-1) if real.all() else graph.distances[graph.neighbors >= 0]


def weigh(distances: NDArray[np.float32], ways: dict[str, Way]) -> dict[str, dict[str, Any]]:
    """Describe the weights that each way gives to the stored edges.

    Parameters
    ----------
    distances : float32 array, shape (e,)
    ways : dict

    Returns
    -------
    dict
        For each way its gamma, mean and quantiles of the weights (None without edges), and the
        shares of weights below 0.01 and above 0.99.
    """
    last = len(distances) - 1
    if last < 0:
        nothing = {"quantiles": None, "near_0": 0.0, "near_1": 0.0}
        return {name: {"gamma": way.gamma, **nothing} for name, way in ways.items()}
    # Weights fall with distance, so both ways have their quantiles at the same few edges, and the
    # order of all edges, which costs more than all the rest, is looked at once.
    places = last * np.array(QUANTILES)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, last)
    ends = last - np.stack([below, above])
    nearest_first = np.partition(distances, np.unique(ends))[ends]
    described = {}
    for name, way in ways.items():
        low, high = way.weights(nearest_first)
        quantiles = low + (high - low) * (places - below)
        # The sum, and how many are near 0 and near 1, piece by piece.
        parts = [
            (weights.sum(), np.count_nonzero(weights < 0.01), np.count_nonzero(weights > 0.99))
            for start in range(0, len(distances), EDGES_AT_ONCE)
            for weights in [way.weights(distances[start : start + EDGES_AT_ONCE])]
        ]
        total, near_0, near_1 = (
            math.fsum(part) / len(distances) for part in zip(*parts, strict=True)
        )
        described[name] = {
            "gamma": way.gamma,
            "quantiles": {"mean": total, **_named(quantiles)},
            "near_0": near_0,
            "near_1": near_1,
        }
    return described


def weight_warnings(weights: dict[str, dict[str, Any]]) -> list[str]:
    """Return one sentence for each direction whose weights are (nearly) all 0 or all 1."""
    effect = {
        ("forward", "near_0"): "scores are hardly more than difficulty",
        ("forward", "near_1"): "distance plays no part in the scores",
        ("reverse", "near_0"): "picks hardly suppress their neighbours",
        ("reverse", "near_1"): "distance plays no part in suppression",
    }
    return [
        f"{100 * weights[way][side]:.0f} % of the {way} weights are nearly {side[-1]}: "
        f"{meaning}; try --bandwidth auto or another --gamma-{way}"
        for (way, side), meaning in effect.items()
        if weights[way][side] >= NEARLY_ALL
    ]


def count_groups(groups: Groups, kept: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return rows and shares of each group before and after."""
    before = groups.counts()
    after = np.bincount(groups.codes[kept], minlength=groups.n_groups)
    return [
        {
            "name": name,
            "rows": int(rows),
            "share": float(rows / before.sum()),
            "kept": int(stay),
            "kept_share": float(stay / max(after.sum(), 1)),
        }
        for name, rows, stay in zip(groups.names, before, after, strict=True)
    ]


def pick_curve(scores: NDArray[np.float64]) -> dict[str, list[Any]]:
    """Return the scores of about 200 picks, evenly spread over the ranks.

    Parameters
    ----------
    scores : float64 array, shape (budget,)
        Of each pick, by rank.

    Returns
    -------
    dict
        "ranks", ascending, with the first, the last and the first negative one, and the one before
        it; "scores", None where one is not finite.
    """
    ranks = np.linspace(0, len(scores) - 1, min(CURVE_POINTS, len(scores))).round().astype(int)
    negative = scores < 0
    if negative.any():
        turn = int(negative.argmax())
        ranks = np.unique(np.append(ranks, [max(turn - 1, 0), turn]))
    shown = [float(score) if np.isfinite(score) else None for score in scores[ranks]]
    return {"ranks": ranks.tolist(), "scores": shown}


def describe_examples(
    graph: KnnGraph, scores: Scores, selection: Selection
) -> dict[str, list[dict[str, Any]]]:
    """Describe the rows of the gallery; see `d2cli.stages.gallery.Gallery`.

    Returns
    -------
    dict
        For each kind a list of "row", "rank" (None where dropped), "difficulty", "in_pool" and
        "nearest_kept": "row" and "distance", None without a kept neighbour.
    """
    kept, adjacency = selection.kept, graph.adjacency

    def describe(row: int) -> dict[str, Any]:
        near = nearest_kept(adjacency, kept, row)
        rank = int((selection.rows == row).argmax()) if kept[row] else None
        return {
            "row": row,
            "rank": rank,
            "difficulty": float(scores.difficulty[row]),
            "in_pool": bool(scores.pool[row]),
            "nearest_kept": None if near is None else {"row": near[0], "distance": near[1]},
        }

    gallery = pick_examples(adjacency, scores.difficulty, kept)
    return {
        kind: [describe(int(row)) for row in getattr(gallery, kind)]
        for kind in ("hardest_kept", "hardest_dropped", "most_redundant")
    }


def compare_with_random(
    graph: KnnGraph,
    scores: Scores,
    selection: Selection,
    candidate: NDArray[np.bool_],
    *,
    seed: int,
) -> dict[str, Any]:
    """Average the figures of three random selections of the same size and group budgets."""
    groups = selection.groups or one_group(selection.n_samples)
    drawn = [
        random_selection(candidate, groups, selection.budgets, seed=seed + i)
        for i in range(RANDOM_SELECTIONS)
    ]
    covers = [vars(cover(graph, kept)) for kept in drawn]
    spreads = [spread(scores.difficulty[kept]) or {} for kept in drawn]
    return {
        "selections": RANDOM_SELECTIONS,
        "seed": seed,
        "coverage": _average(covers),
        "difficulty": _average(spreads),
    }


def _average(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    known = {key: [row[key] for row in rows if row[key] is not None] for key in rows[0]}
    return {key: float(np.mean(values)) if values else None for key, values in known.items()}


def summarize(
    graph: KnnGraph,
    scores: Scores,
    selection: Selection,
    *,
    candidate: NDArray[np.bool_],
    n_included: int,
    n_excluded: int,
    kernel: Kernel,
    score_kernel: Kernel,
    seed: int,
) -> dict[str, Any]:
    """Compute every figure of the report that comes from arrays.

    Parameters
    ----------
    graph : KnnGraph
    scores : Scores
    selection : Selection
        Over the same n rows.
    candidate : bool array, shape (n,)
        Rows that might have been kept; random selections draw from them as well.
    n_included, n_excluded : int
        Rows named by the user.
    kernel, score_kernel : {"gaussian", "exponential"}
        Of the reverse and of the forward messages.
    seed : int
        Of the random selections.

    Returns
    -------
    dict
        Plain numbers, strings, lists and dicts, ready for JSON; the README lists the fields.
    """
    kept = selection.kept
    n, budget = selection.n_samples, len(selection.rows)
    negative = selection.scores < 0
    weights = weigh(
        _stored_distances(graph),
        {
            "forward": Way(
                gamma=scores.gamma_forward, bandwidth=scores.bandwidth, kernel=score_kernel
            ),
            "reverse": Way(
                gamma=selection.gamma_reverse, bandwidth=selection.bandwidth, kernel=kernel
            ),
        },
    )
    groups = selection.groups or graph.groups
    return {
        "rows": {
            "total": n,
            "pool": int(scores.pool.sum()),
            "cut_reason": scores.cut_reason,
            "included": n_included,
            "excluded": n_excluded,
            "kept": budget,
            "dropped": n - budget,
            "rate": 1 - budget / n,
        },
        "groups": count_groups(groups, kept) if groups else [],
        "difficulty": {
            "direction": scores.direction,
            "shift": scores.shift,
            "all": spread(scores.difficulty),
            "kept": spread(scores.difficulty[kept]),
            "dropped": spread(scores.difficulty[~kept]),
            "histogram": histogram(scores.difficulty, kept),
        },
        "weights": {**weights, "bandwidth": selection.bandwidth},
        "picks": {
            "negative_share": float(negative.mean()),
            "first_negative_rank": int(negative.argmax()) if negative.any() else None,
            "curve": pick_curve(selection.scores),
        },
        "coverage": vars(cover(graph, kept)),
        "random": compare_with_random(graph, scores, selection, candidate, seed=seed),
        "graph": {
            "neighbors": graph.n_neighbors,
            "backend": graph.backend,
            "recall": vars(graph.recall),
            "ef_search": graph.ef_search,
            "probes": graph.probes,
            "duplicates": graph.n_duplicates,
            "groups": graph.groups.n_groups if graph.groups else None,
            **describe_whitening(graph),
        },
        "warnings": weight_warnings(weights),
        "examples": describe_examples(graph, scores, selection),
    }
