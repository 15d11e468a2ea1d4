"""Reverse message passing: pick the highest score, suppress its neighbours, repeat.

Budgets, groups and wishes are the same for every method; `d2cli.stages.methods` has the others.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.params import SelectParams
from d2cli.stages._messages import GreedyPicks
from d2cli.stages.budget import group_budgets
from d2cli.stages.changes import limit_changes, mark_earlier
from d2cli.stages.defects import count_rows
from d2cli.stages.graph import KnnGraph
from d2cli.stages.greedy import greedy_picks
from d2cli.stages.groups import Groups, one_group
from d2cli.stages.kernel import bandwidth_value, edge_weights
from d2cli.stages.methods import METHODS, Picked, Task
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.rounds import Rounds, pick_in_rounds
from d2cli.stages.score import Scores
from d2cli.stages.ties import tie_order

PICKS_A_PIECE = 1 << 14  # some hundredths of a second, between two reports of progress
# The weights of all edges would be the largest array of all, so those of the likely picks are
# computed: a 16th of the rows, or twice as many if fewer than a 64th of these were picked.
BATCHES, FEW, LEAST_BATCH = 16, 64, 1 << 14


@dataclass(frozen=True, eq=False)
class Selection:
    """Rows kept, in the order they were picked.

    Attributes
    ----------
    rows : int64 array, shape (budget,)
        Row numbers of the input, all different; position = rank.
    scores : float64 array, shape (budget,)
        Each row's score when it was picked.
    n_samples : int
        Rows of the input.
    gamma_reverse, bandwidth : float
        The numbers used.
    groups : Groups or None
        The groups that had budgets.
    budgets : tuple of int
        Of each group; the whole budget without groups.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    n_samples: int
    gamma_reverse: float
    bandwidth: float
    groups: Groups | None
    budgets: tuple[int, ...]

    def __post_init__(self) -> None:
        if np.count_nonzero(self.kept) != len(self.rows):
            raise ValueError("a row was selected twice")

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each row of the input is kept, bool (n,)."""
        mask = np.zeros(self.n_samples, dtype=np.bool_)
        mask[self.rows] = True
        return mask


@dataclass(frozen=True, eq=False)
class Wishes:
    """Rows that must be kept, in this order, and rows that must not be; int64 arrays."""

    include: NDArray[np.int64]
    exclude: NDArray[np.int64]


NO_WISHES = Wishes(np.empty(0, np.int64), np.empty(0, np.int64))


def may_be_kept(pool: NDArray[np.bool_], wishes: Wishes) -> NDArray[np.bool_]:
    """Return which rows may be picked (n,): those of the pool not excluded, and those included.

    Raises
    ------
    ParameterError
        If an included row is excluded as well.
    """
    candidate = pool.copy()
    candidate[wishes.include] = True
    candidate[wishes.exclude] = False
    lost = wishes.include[~candidate[wishes.include]]
    if len(lost):
        raise ParameterError(
            f"included row {lost[0]} is excluded as well ({count_rows(len(lost))} in all)",
            hint="take these rows off one of the lists",
        )
    return candidate


def select_coreset(
    graph: KnnGraph,
    scores: Scores,
    params: SelectParams,
    *,
    groups: Groups | None = None,
    wishes: Wishes = NO_WISHES,
    previous: NDArray[np.int64] | None = None,
    rounds: Rounds | None = None,
    on_progress: Progress = no_progress,
) -> Selection:
    """Pick rows one by one; with the method "d2" exactly as "argmax, subtract, repeat" does.

    The pick p is the row of largest score among those not picked; each unpicked neighbour j then
    gets ``x_j -= w(d_pj; gamma_reverse) * x_p``, with ``max(x_p, 0)`` if messages are clamped.
    Included rows are picked first, whatever their score, and though a cutoff took them out.
    Rows of a group whose budget is used up stop being candidates.

    With ``params.max_changes``, rows outside the previous selection stop being candidates as soon
    as one more of them would cost it more rows than that; see `d2cli.stages.changes`. The loop is
    the same otherwise, so a selection that makes no more changes anyway is the ordinary one.

    Parameters
    ----------
    graph : KnnGraph
        Over n rows; messages travel on its undirected union.
    scores : Scores
        Of the same rows.
    params : SelectParams
    groups : Groups, optional
        Each group gets a budget by ``params.balance``.
    wishes : Wishes
        Rows that must, or must not, be kept.
    previous : int64 array, optional
        Rows of an earlier selection, all different, of which ``params.max_changes`` may go. Those
        that may not be kept any more are gone, which is no change.
    rounds : Rounds, optional
        Pick in rounds on parts of the graph, the same rows in the same order; method "d2" only.
    on_progress : callable
        Called with ("selecting", picks made, budget) now and then by the method "d2"; what it
        raises ends the selection.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        If the numbers of rows differ.
    ParameterError
        If the budget does not fit the pool, the groups, the included rows or the rows that have to
        stay, or changes are limited and there is no previous selection.

    References
    ----------
    Maharana, Yadav, Bansal. D2 Pruning. ICLR 2024. arXiv:2310.07931, section 3.2.
    """
    n = scores.n_samples
    if graph.n_samples != n:
        raise InputError(f"{n:,} scores for {graph.n_samples:,} rows of the graph")
    candidate = may_be_kept(scores.pool, wishes)
    parts = groups or one_group(n)
    budgets = group_budgets(
        params.budget(n),
        names=parts.names,
        rows=parts.counts().tolist(),
        available=np.bincount(parts.codes, weights=candidate, minlength=parts.n_groups)
        .astype(int)
        .tolist(),
        included=np.bincount(parts.codes[wishes.include], minlength=parts.n_groups).tolist(),
        balance=params.balance,
    )
    bandwidth = bandwidth_value(params.bandwidth, graph.distances)
    gamma = params.gamma_reverse_value(n)
    limit = None
    if params.max_changes is not None:
        if previous is None:
            raise ParameterError(
                "max-changes is given, but no previous selection",
                hint="name the selection that may change so little with --previous",
            )
        earlier = mark_earlier(previous, candidate)
        limit = limit_changes(earlier, params.max_changes, parts, budgets, wishes.include)
    task = Task(
        graph,
        scores.difficulty,
        candidate,
        wishes.include,
        parts,
        tuple(budgets),
        tie_order(n, params.ties, params.seed),
        partial(edge_weights, gamma=gamma, bandwidth=bandwidth, kernel=params.kernel),
        np.random.default_rng(params.seed),
        limit,
    )
    clamped = params.messages == "clamped"
    if params.method == "d2" and rounds is not None:
        picked = pick_in_rounds(
            task, scores.score, clamped, rounds, finish=_pick_d2, on_progress=on_progress
        )
    elif params.method == "d2":
        picked = _pick_d2(task, scores.score, clamped, on_progress)
    else:
        picked = METHODS[params.method](task)
    return Selection(picked.rows, picked.values, n, gamma, bandwidth, groups, task.budgets)


def _pick_d2(
    task: Task, score: NDArray[np.float64], clamped: bool, on_progress: Progress
) -> Picked:
    """Pick by score with reverse messages, piece by piece."""
    picks = greedy_picks(task, score, clamped)
    budget, weighed_at = len(picks.rows), 0
    at_once = max(len(score) // BATCHES, LEAST_BATCH)
    while picks.done < budget:
        picks.advance(PICKS_A_PIECE)
        if picks.lacking < 0:
            on_progress("selecting", picks.done, budget)
            continue
        if 0 < picks.done - weighed_at < at_once // FEW:  # negative picks raise others
            at_once *= 2
        rows, weighed_at = _likely(picks, task, at_once), picks.done
        picks.weigh(rows, _weights_of(task, rows))
    return Picked(picks.rows, picks.scores)


def _weights_of(task: Task, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights of all edges of some rows, side by side."""
    around = task.graph.adjacency
    weights = np.empty(int((around.indptr[rows + 1] - around.indptr[rows]).sum()))
    filled = 0
    for start in range(0, len(rows), LEAST_BATCH):
        edges = around.edges_of(rows[start : start + LEAST_BATCH])
        weights[filled : filled + len(edges)] = task.weigh(around.distances[edges])
        filled += len(edges)
    return weights


def _likely(picks: GreedyPicks, task: Task, count: int) -> NDArray[np.int64]:
    """Return the rows that are likely to be picked next, ascending: ``lacking`` and about as many.

    Those are the included ones whose turn it is, or else the ones with the largest scores now. As
    long as messages lower scores, all that are picked until one is not among them are of these.
    """
    ahead = task.included[picks.done : picks.done + count]
    if len(ahead):
        return np.sort(ahead)
    values = picks.by_place
    places = np.flatnonzero(values > -np.inf)
    if count < len(places):
        least = np.partition(values, len(values) - count)[len(values) - count]
        more = np.flatnonzero(values > least)
        equal = np.flatnonzero(values == least)[: count - len(more)]  # in the order of ties
        places = np.concatenate([more, equal])
    return np.union1d(task.order[places].astype(np.int64), picks.lacking)
