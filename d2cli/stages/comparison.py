"""Methods beside random at equal budgets: means, spreads, and what is noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups
from d2cli.stages.report import cover, histogram

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Cell:
    """One method at one rate with one seed.

    Attributes
    ----------
    method : str
    rate : float
    seed : int
    kept : bool array, shape (n,)
        Rows selected.
    right : dict of str to bool array, shape (t,)
        For "linear" and "knn": which test rows are predicted right; empty without labels.
    figures : dict of str to float
        Figures that need no labels, and the class drift.
    """

    method: str
    rate: float
    seed: int
    kept: NDArray[np.bool_]
    right: dict[str, NDArray[np.bool_]]
    figures: dict[str, float | None]


def describe(
    graph: KnnGraph,
    difficulty: NDArray[np.float64],
    kept: NDArray[np.bool_],
    pool: NDArray[np.bool_],
    labels: Groups | None,
) -> dict[str, float | None]:
    """Return the figures of a selection from a pool of rows that need no model.

    ``covered`` and ``distance``: share of dropped rows of the pool with a kept neighbour, and their
    mean distance to it; ``radius``: the largest such distance; ``difficulty_kl``: Kullback-Leibler
    divergence of the difficulty histogram of kept rows from that of the pool, in nats;
    with labels ``class_drift``: total variation between their class shares, 0 to 1, and
    ``classes_lost``.
    """
    nearest = graph.adjacency.nearest(kept)[pool & ~kept]
    reached = nearest[np.isfinite(nearest)]
    counts = histogram(difficulty[pool], kept[pool])
    before, after = np.array(counts["all"], float), np.array(counts["kept"], float)
    p, q = after / after.sum(), before / before.sum()
    figures = {
        "covered": float(len(reached) / len(nearest)) if len(nearest) else None,
        "distance": float(np.mean(reached, dtype=np.float64)) if len(reached) else None,
        "radius": float(reached.max()) if len(reached) else None,
        "kept_distance": cover(graph, kept).kept_distance,
        "difficulty_kl": float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))),
    }
    if labels is not None:
        counts_of = [
            np.bincount(labels.codes[rows], minlength=labels.n_groups) for rows in (pool, kept)
        ]
        shares = [found / found.sum() for found in counts_of]
        figures["class_drift"] = float(np.abs(shares[0] - shares[1]).sum() / 2)
        figures["classes_lost"] = float(np.sum((counts_of[0] > 0) & (counts_of[1] == 0)))
    return figures


def bootstrap_difference(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], *, seed: int
) -> tuple[float, float, float]:
    """Return the mean paired difference and its 95 % bootstrap interval over test rows.

    Parameters
    ----------
    ours, theirs : float64 arrays, shape (t,)
        Share of seeds that predict each test row right.
    seed : int
        Of the 1,000 resamples.
    """
    difference = ours - theirs
    rng = np.random.default_rng(seed)
    means = [
        difference[rng.integers(0, len(difference), len(difference))].mean()
        for _ in range(RESAMPLES)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(difference.mean()), float(low), float(high)


def summarize_cells(cells: list[Cell], *, seed: int) -> list[dict[str, Any]]:
    """Average over seeds and compare with random at the same rate.

    Parameters
    ----------
    cells : list of Cell
        All seeds of every (method, rate), random among the methods; test rows of one seed are the
        same for all methods.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        One per (method, rate) in order of appearance. ``accuracy[probe]`` has ``mean``, ``spread``
        (standard deviation over seeds); beside random ``difference``, ``low`` and ``high``.
        ``verdict`` is "better", "worse" or "no difference" by the interval of the linear probe.
    """
    rows: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.method, cell.rate), []).append(cell)
    out = []
    for (method, rate), group in rows.items():
        accuracy = {}
        for probe in group[0].right:
            values = [float(cell.right[probe].mean()) for cell in group]
            accuracy[probe] = {"mean": float(np.mean(values)), "spread": _spread(values)}
            if method != "random":
                pair = [_by_row(part, probe) for part in (group, rows["random", rate])]
                middle, low, high = bootstrap_difference(*pair, seed=seed)
                accuracy[probe] |= {"difference": middle, "low": low, "high": high}
        figures = {
            name: _known_mean([cell.figures[name] for cell in group]) for name in group[0].figures
        }
        row: dict[str, Any] = {"method": method, "rate": rate, "kept": int(group[0].kept.sum())}
        row |= {"accuracy": accuracy, "figures": figures}
        if method != "random":
            row["verdict"] = _verdict(accuracy["linear"])
        out.append(row)
    return out


def _by_row(group: list[Cell], probe: str) -> NDArray[np.float64]:
    """Return each test row's share of right predictions over the seeds.

    With a hold-out a seed, position i stands for one row of each: pairs stay pairs.
    """
    shares: NDArray[np.float64] = np.mean(
        [cell.right[probe] for cell in group], axis=0, dtype=np.float64
    )
    return shares


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _known_mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _verdict(accuracy: dict[str, float]) -> str:
    if accuracy["low"] > 0:
        return "better"
    return "worse" if accuracy["high"] < 0 else "no difference"


def conclude(rows: list[dict[str, Any]]) -> list[str]:
    """Return one plain sentence per rate: which method beats random, or that none does."""
    sentences = []
    for rate in dict.fromkeys(row["rate"] for row in rows):
        at = [row for row in rows if row["rate"] == rate and row["method"] != "random"]
        better = [row for row in at if row["verdict"] == "better"]
        if not better:
            sentences.append(f"rate {rate:g}: no method beats random")
            continue
        best = max(better, key=lambda row: float(row["accuracy"]["linear"]["mean"]))
        found = best["accuracy"]["linear"]
        worse = [row["method"] for row in at if row["verdict"] == "worse"]
        sentences.append(
            f"rate {rate:g}: {best['method']} is best, {100 * found['difference']:+.1f} points "
            f"beside random ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
            + (f"; below random: {', '.join(worse)}" if worse else "")
        )
    return sentences
