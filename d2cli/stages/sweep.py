"""Settings side by side: the probe's figure where there are labels, coverage and overlap anyway."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from d2cli.errors import ParameterError
from d2cli.params import AUTO, Auto, GraphParams, Messages, Metric, Probe, ScoreParams, SelectParams
from d2cli.stages.comparison import Cell, bootstrap_difference
from d2cli.stages.graph import KnnGraph

MOST_SETTINGS = 2000


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of the grid; the defaults are those of the commands."""

    neighbors: int = GraphParams().n_neighbors
    metric: Metric = "l2"
    gamma_forward: float | Auto = AUTO
    gamma_reverse: float | Auto = AUTO
    bandwidth: float | Auto = AUTO
    prune_hardest: float | Auto | Probe | None = None
    messages: Messages = "signed"
    rounds: int = 1

    def __post_init__(self) -> None:
        GraphParams(n_neighbors=self.neighbors, metric=self.metric)
        ScoreParams(
            gamma_forward=self.gamma_forward,
            bandwidth=self.bandwidth,
            rounds=self.rounds,
            prune_hardest=self.prune_hardest,
        )
        SelectParams(rate=0.5, gamma_reverse=self.gamma_reverse, messages=self.messages)


DEFAULT = Setting()
KNOBS = tuple(knob.name for knob in fields(Setting))


def grid_of(values: dict[str, tuple[Any, ...]]) -> list[Setting]:
    """Return every combination of the given values; the default setting is always the first.

    Parameters
    ----------
    values : dict
        For each knob of `Setting` the values to try; knobs left out keep their default.

    Raises
    ------
    ParameterError
        If a value is out of range, or there are more than 2,000 combinations.
    """
    axes = [values.get(knob) or (getattr(DEFAULT, knob),) for knob in KNOBS]
    if np.prod([len(axis) for axis in axes]) > MOST_SETTINGS:
        raise ParameterError(
            f"the grid has more than {MOST_SETTINGS:,} settings", hint="try fewer values at once"
        )
    grid = [Setting(**dict(zip(KNOBS, point, strict=True))) for point in itertools.product(*axes)]
    return list(dict.fromkeys([DEFAULT, *grid]))


def slice_graph(graph: KnnGraph, n_neighbors: int) -> KnnGraph:
    """Return the graph of the nearest ``n_neighbors`` of a graph with at least as many.

    Lists are ordered by (distance, row), so this is the graph that a search for fewer finds (up to
    what hnsw misses).
    """
    return KnnGraph(
        np.ascontiguousarray(graph.neighbors[:, :n_neighbors]),
        np.ascontiguousarray(graph.distances[:, :n_neighbors]),
        graph.groups,
        graph.backend,
        graph.recall,
        graph.ef_search,
        graph.n_duplicates,
        graph.probes,
        graph.whitening,
    )


def overlap(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """Return the Jaccard index of two selections, bool (n,) each."""
    return float((ours & theirs).sum() / max((ours | theirs).sum(), 1))


def summarize_sweep(
    cells: dict[tuple[Setting, float], list[Cell]], *, seed: int
) -> list[dict[str, Any]]:
    """Return one row per (setting, rate), beside the default setting at the same rate.

    Parameters
    ----------
    cells : dict
        The seeds of each setting and rate, in the same order everywhere.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        ``setting``, ``rate``, ``kept``, ``overlap`` with the default (Jaccard, mean over seeds),
        ``figures``; with labels ``accuracy`` (``mean``, ``spread``, and beside the default
        ``difference``, ``low``, ``high``).
    """
    rows = []
    for (setting, rate), group in cells.items():
        usual = cells[DEFAULT, rate]
        row: dict[str, Any] = {
            "setting": asdict(setting),
            "default": setting == DEFAULT,
            "rate": rate,
            **row_beside(group, usual, seed=seed),
        }
        rows.append(row)
    return rows


def row_beside(group: Sequence[Cell], usual: Sequence[Cell], *, seed: int) -> dict[str, Any]:
    """Return the figures of cells of one kind beside those of another, seed by seed.

    Returns
    -------
    dict
        ``kept``, ``overlap``, ``figures`` and, with labels, ``accuracy``, see `summarize_sweep`.
    """
    pairs = list(zip(group, usual, strict=True))
    row: dict[str, Any] = {
        "kept": int(group[0].kept.sum()),
        "overlap": float(np.mean([overlap(a.kept, b.kept) for a, b in pairs])),
        "figures": {
            name: group[0].figures[name] if len(group) == 1 else _mean(group, name)
            for name in group[0].figures
        },
    }
    if group[0].right:
        right = [np.array([cell.right["linear"] for cell in part]) for part in (group, usual)]
        means = right[0].mean(axis=1)
        middle, low, high = bootstrap_difference(
            right[0].mean(axis=0), right[1].mean(axis=0), seed=seed
        )
        row["accuracy"] = {
            "mean": float(means.mean()),
            "spread": float(means.std(ddof=1)) if len(means) > 1 else 0.0,
            "difference": middle,
            "low": low,
            "high": high,
        }
    return row


def _mean(group: Sequence[Cell], name: str) -> float | None:
    known = [value for cell in group if (value := cell.figures[name]) is not None]
    return float(np.mean(known)) if known else None


def best_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each rate the row of the best setting.

    With labels the highest accuracy, else the least mean distance of dropped rows to a kept one
    among the settings of the default's metric; of equally good ones the first.
    """
    best = []
    for rate in dict.fromkeys(row["rate"] for row in rows):
        at = [row for row in rows if row["rate"] == rate]
        if "accuracy" in at[0]:
            best.append(max(at, key=lambda row: float(row["accuracy"]["mean"])))
        else:
            known = [
                row
                for row in at
                if row["figures"]["distance"] is not None
                and row["setting"]["metric"] == DEFAULT.metric
                and row["setting"]["neighbors"] == DEFAULT.neighbors
            ]
            closest = min(known, key=lambda row: float(row["figures"]["distance"]), default=at[0])
            best.append(closest)
    return best


def describe_setting(setting: dict[str, Any]) -> str:
    """Return what differs from the default, "the default" if nothing does."""
    changed = [
        f"{knob.replace('_', '-')} {value}"
        for knob, value in setting.items()
        if value != getattr(DEFAULT, knob)
    ]
    return ", ".join(changed) or "the default"


def conclude_sweep(rows: list[dict[str, Any]]) -> list[str]:
    """Return one sentence per rate that names the best setting and what its margin is worth."""
    out = []
    for row in best_of(rows):
        name = describe_setting(row["setting"])
        if "accuracy" not in row:
            out.append(
                f"rate {row['rate']:g}: widest coverage with {name} (overlap with the default "
                f"{row['overlap']:.2f}); labels would tell if it trains better"
            )
        elif row["default"]:
            out.append(f"rate {row['rate']:g}: no setting is better than the default")
        else:
            found = row["accuracy"]
            noise = "" if found["low"] > 0 else ", within noise"
            out.append(
                f"rate {row['rate']:g}: best with {name}, {100 * found['difference']:+.1f} points"
                f" beside the default ({100 * found['low']:+.1f} to {100 * found['high']:+.1f}"
                f"{noise})"
            )
    return out
