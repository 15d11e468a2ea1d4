"""The commands as functions on NumPy arrays, for notebooks.

They compute what the command line computes, bit for bit, but read and write no files.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.params import (
    AUTO,
    FUSION,
    PROBE,
    Auto,
    Backend,
    Direction,
    Fusion,
    GraphParams,
    Metric,
    PresetName,
    ScoreParams,
    SelectParams,
)
from d2cli.stages.difficulty import orient, uniform_difficulty
from d2cli.stages.fused import fuse, metric_for
from d2cli.stages.fusion import as_modalities, require_any, shares_of
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.groups import Groups, group_by
from d2cli.stages.held_out import score_by_probe
from d2cli.stages.score import Scores, score_rows
from d2cli.stages.selection import Selection, Wishes, select_coreset
from d2cli.stages.vectors import as_searchable, as_vectors


def graph(
    vectors: ArrayLike | Mapping[str, ArrayLike],
    *,
    weights: Mapping[str, float] | None = None,
    fusion: Fusion | None = None,
    n_neighbors: int = 10,
    metric: Metric = "l2",
    backend: Backend = "auto",
    recall: float = 0.95,
    within: ArrayLike | None = None,
    seed: int = 0,
    shrinkage: float | Auto = AUTO,
    n_threads: int | None = None,
) -> KnnGraph:
    """Find the nearest neighbours of every row.

    Parameters
    ----------
    vectors : array of numbers, shape (n, d), or mapping of str to such arrays
        Finite; not zero under "cosine", of one length under "ip", packed uint8 under "hamming".
        Several modalities become one graph; a row of NaN alone is one that lacks the modality.
    weights : mapping of str to float, optional
        Of several modalities; 1 for those left out.
    fusion : {"concat", "distance", "graphs"}, optional
        How several modalities become one graph, see `d2cli.stages.fusion`; "distance" if left out.
    n_neighbors, metric, backend, recall, seed, shrinkage
        See `d2cli.params.GraphParams`.
    within : array, shape (n,), optional
        Neighbours are searched among rows with the same label.
    n_threads : int, optional
        All processors if left out; does not change the result.

    Returns
    -------
    KnnGraph
        ``neighbors`` int32 (n, k) ascending by (distance, row), ``distances`` float32 (n, k); lists
        of the fusion "graphs" are up to as many times longer as there are modalities.

    Raises
    ------
    InputError
        If a row is not finite or not fit for the metric, or labels do not fit the rows.
    ParameterError
        If a parameter is out of range, or weights or a fusion are given for one array.
    """
    params = GraphParams(
        n_neighbors=n_neighbors,
        metric=metric,
        backend=backend,
        recall=recall,
        seed=seed,
        shrinkage=shrinkage,
    )
    if isinstance(vectors, Mapping):
        if len(vectors) > 1:
            return _fused(vectors, weights or {}, fusion, params, within, n_threads)
        if not vectors:
            raise ParameterError("vectors are of no modality, expected at least one")
        (vectors,) = vectors.values()
    if weights or fusion:
        raise ParameterError(
            "weights and fusion need several modalities", hint="pass a dict of arrays by name"
        )
    threads = n_threads or os.cpu_count() or 1
    checked, whitening = as_searchable(
        vectors, metric, shrinkage=shrinkage, seed=seed, n_threads=threads
    )
    groups = _groups(within, len(checked))
    found = build_graph(checked, params, groups=groups, n_threads=threads)
    return replace(found, whitening=whitening)


def _fused(
    vectors: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    fusion: Fusion | None,
    params: GraphParams,
    within: ArrayLike | None,
    n_threads: int | None,
) -> KnnGraph:
    """Return one graph of several modalities."""
    for name, weight in weights.items():
        if name not in vectors:
            raise ParameterError(f"weights name '{name}', which is no modality")
        if not 0 < weight < math.inf:
            raise ParameterError(f"the weight of '{name}' is {weight}, expected a number above 0")
    chosen = fusion or FUSION
    if chosen not in get_args(Fusion):
        raise ParameterError(f"fusion is '{chosen}', expected one of {', '.join(get_args(Fusion))}")
    measured, n_samples, present, rows = metric_for(params, chosen), 0, {}, {}
    for name, values in vectors.items():
        array = np.asarray(values)
        n_samples = max(n_samples, len(array)) if array.ndim == 2 else n_samples
        if (
            array.ndim == 2
            and array.dtype.kind == "f"
            and (gone := np.isnan(array).all(axis=1)).any()
        ):
            rows[name], array = np.flatnonzero(~gone).astype(np.int64), array[~gone]
        present[name] = array
    for name, values in vectors.items():
        if len(np.asarray(values)) != n_samples:
            raise InputError(
                f"{name}: has {len(np.asarray(values)):,} rows, expected {n_samples:,}"
            )
    require_any({name: rows.get(name) for name in vectors}, n_samples)
    modalities = as_modalities(
        present,
        shares_of({name: weights.get(name, 1) for name in vectors}),
        n_samples,
        measured.metric,
        rows=rows,
    )
    return fuse(
        modalities,
        chosen,
        measured,
        groups=_groups(within, n_samples),
        n_threads=n_threads or os.cpu_count() or 1,
    ).graph


def score(
    graph: KnnGraph,
    difficulty: ArrayLike | None,
    *,
    harder: Direction = "high",
    preset: PresetName = "default",
    group: ArrayLike | None = None,
    vectors: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    metric: Metric = "l2",
    n_threads: int | None = None,
    **params: Any,  # noqa: ANN401
) -> Scores:
    """Pass difficulty over a graph.

    Parameters
    ----------
    graph : KnnGraph
        Over n rows.
    difficulty : array of numbers, shape (n,), or None
        None is the uniform difficulty 1.
    harder : {"high", "low"}
        Which values are harder.
    preset : {"default", "paper", "reference"}
    group : array, shape (n,), optional
        What ``prune_hardest`` cuts within.
    vectors, labels : arrays, shape (n, d) and (n,), optional
        What ``prune_hardest="probe"`` sees and predicts; both are needed for it, and a rate.
    metric : {"l2", "cosine", ...}
        The one the graph was built with: "cosine" shows the probe unit vectors.
    n_threads : int, optional
        All processors if left out; does not change the result.
    **params
        Fields of `d2cli.params.ScoreParams`: rate, gamma_forward, kernel, bandwidth, rounds,
        prune_hardest (0 if left out: an array has no name that says whether it is a margin), ties,
        seed.

    Returns
    -------
    Scores
        ``score`` and ``difficulty`` float64 (n,), ``pool`` bool (n,).
    """
    chosen = ScoreParams.from_preset(preset, **params)
    if difficulty is None:
        turned = uniform_difficulty(graph.n_samples)
    else:
        turned = orient(difficulty, harder, shift=chosen.shift)
    if chosen.prune_hardest != PROBE or vectors is None or labels is None:
        return score_rows(graph, turned, chosen, groups=_groups(group, graph.n_samples))
    seen = as_vectors(vectors, metric, whitening=graph.whitening)
    if len(seen) != graph.n_samples:
        raise InputError(f"{len(seen):,} vectors for {graph.n_samples:,} rows of the graph")
    return score_by_probe(
        graph,
        turned,
        chosen,
        vectors=seen,
        labels=_group(labels, graph.n_samples),
        groups=_groups(group, graph.n_samples),
        n_threads=n_threads or os.cpu_count() or 1,
    )


def select(
    scores: Scores,
    graph: KnnGraph,
    *,
    preset: PresetName = "default",
    group: ArrayLike | None = None,
    include: ArrayLike = (),
    exclude: ArrayLike = (),
    previous: ArrayLike | None = None,
    **params: Any,  # noqa: ANN401
) -> Selection:
    """Keep the rows that are hard and unlike each other.

    Parameters
    ----------
    scores : Scores
    graph : KnnGraph
        The one the scores were made on.
    preset : {"default", "paper", "reference"}
    group : array, shape (n,), optional
        Each group gets a budget of its own.
    include, exclude : array of row numbers
        Rows to keep in any case, and never.
    previous : array of row numbers, optional
        An earlier selection, of which ``max_changes`` may go.
    **params
        Fields of `d2cli.params.SelectParams`: rate or keep, gamma_reverse, kernel, bandwidth,
        messages, ties, seed, balance, max_changes.

    Returns
    -------
    Selection
        ``rows`` int64 (budget,) in the order they were picked, ``scores`` float64 (budget,).
    """
    chosen = SelectParams.from_preset(preset, **params)
    wishes = Wishes(np.asarray(include, dtype=np.int64), np.asarray(exclude, dtype=np.int64))
    return select_coreset(
        graph,
        scores,
        chosen,
        groups=_groups(group, graph.n_samples),
        wishes=wishes,
        previous=None if previous is None else np.asarray(previous, dtype=np.int64),
    )


def prune(
    vectors: ArrayLike | Mapping[str, ArrayLike],
    difficulty: ArrayLike | None,
    *,
    rate: float | None = None,
    keep: int | None = None,
    harder: Direction = "high",
    preset: PresetName = "default",
    group: ArrayLike | None = None,
    within: ArrayLike | None = None,
    prune_hardest: float | Auto = 0.0,
    previous: ArrayLike | None = None,
    max_changes: int | None = None,
    n_neighbors: int = 10,
    metric: Metric = "l2",
    shrinkage: float | Auto = AUTO,
    weights: Mapping[str, float] | None = None,
    fusion: Fusion | None = None,
    n_threads: int | None = None,
) -> NDArray[np.int64]:
    """Run all three stages with their defaults.

    Parameters
    ----------
    vectors : array, shape (n, d), or mapping of str to such arrays
    difficulty : array, shape (n,), or None
    rate, keep : float or int
        Fraction removed, or rows kept; one of them.
    prune_hardest : float or "auto"
        Cutoff. The commands use "auto" where a column is called aum or margin; arrays have no name.
    harder, preset, group, within, previous, max_changes, n_neighbors, metric, shrinkage
    weights, fusion, n_threads
        As in `graph`, `score` and `select`.

    Returns
    -------
    int64 array, shape (budget,)
        Rows kept, in the order they were picked.
    """
    neighbors = graph(
        vectors,
        n_neighbors=n_neighbors,
        metric=metric,
        shrinkage=shrinkage,
        weights=weights,
        fusion=fusion,
        within=within,
        n_threads=n_threads,
    )
    budget = SelectParams(rate=rate, keep=keep)
    scores = score(
        neighbors,
        difficulty,
        harder=harder,
        preset=preset,
        group=group,
        rate=budget.rate_of(neighbors.n_samples),
        prune_hardest=prune_hardest,
    )
    return select(
        scores,
        neighbors,
        preset=preset,
        group=group,
        previous=previous,
        rate=rate,
        keep=keep,
        max_changes=max_changes,
    ).rows


def _groups(labels: ArrayLike | None, n_samples: int) -> Groups | None:
    return None if labels is None else _group(labels, n_samples)


def _group(labels: ArrayLike, n_samples: int) -> Groups:
    array = np.asarray(labels)
    if array.shape != (n_samples,):
        raise InputError(f"labels of shape {array.shape} for {n_samples:,} rows, expected one each")
    return group_by(array)
