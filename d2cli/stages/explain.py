"""Why a row was kept or dropped: the messages that it got, replayed one by one.

Every number is computed as the stages compute it, in the same order, so that the sums are the
stored scores to the last bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from d2cli.params import Kernel
from d2cli.stages.explanation import Contest, Explanation, Message, Near, Placing, Suppression
from d2cli.stages.graph import KnnGraph
from d2cli.stages.kernel import edge_weights
from d2cli.stages.score import Scores, pass_forward
from d2cli.stages.selection import Selection

NEAREST = 3  # kept rows that are named


@dataclass(frozen=True, eq=False)
class Past:
    """What happened: the results of all stages and how they were made.

    Attributes
    ----------
    graph : KnnGraph
    scores : Scores
    selection : Selection
        Over the same n rows. Its ``groups`` are None where there are none, and where the labels
        of dropped rows are not known.
    method : str
        All but "d2" send no messages.
    score_kernel, kernel : {"gaussian", "exponential"}
        Of the forward and of the reverse messages.
    rounds : int
        Of the forward pass.
    neighbor_floor : float or None
        See `d2cli.stages.score.pass_forward`.
    clamped : bool
        Whether picks with a negative score sent nothing.
    n_included : int or None
        Included rows have the first ranks; None where their number is not known.
    excluded : bool array, shape (n,), or None
        None where the rows are not known.
    limited : bool
        Whether only so many rows of an earlier selection were allowed to go.
    """

    graph: KnnGraph
    scores: Scores
    selection: Selection
    method: str
    score_kernel: Kernel
    kernel: Kernel
    rounds: int
    neighbor_floor: float | None
    clamped: bool
    n_included: int | None
    excluded: NDArray[np.bool_] | None
    limited: bool = False

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """The rank of every row, (n,); -1 for dropped rows."""
        rank = np.full(self.selection.n_samples, -1, dtype=np.int64)
        rank[self.selection.rows] = np.arange(len(self.selection.rows))
        return rank

    @cached_property
    def before_last_round(self) -> NDArray[np.float64]:
        """The score of every row before the last round of the forward pass, (n,)."""
        if self.rounds <= 1:
            return self.scores.difficulty
        scores = self.scores
        return pass_forward(
            self.graph.adjacency,
            scores.difficulty,
            weigh=partial(
                edge_weights,
                gamma=scores.gamma_forward,
                bandwidth=scores.bandwidth,
                kernel=self.score_kernel,
            ),
            pool=scores.pool,
            rounds=self.rounds - 1,
            neighbor_floor=self.neighbor_floor,
        )

    @property
    def groups_unknown(self) -> bool:
        """Whether there were budgets of groups, and it is not known who was in which."""
        return self.selection.groups is None and len(self.selection.budgets) > 1


def explain_rows(past: Past, rows: Iterable[int]) -> list[Explanation]:
    """Explain some rows, each by itself; of the others only neighbours are looked at.

    Parameters
    ----------
    past : Past
    rows : iterable of int

    Returns
    -------
    list of Explanation, one a row, in the same order
    """
    return [_explain(past, row) for row in rows]


def _explain(past: Past, row: int) -> Explanation:
    scores, selection = past.scores, past.selection
    rank = int(past.rank[row])
    kept = rank >= 0
    forward, own, total = _forward(past, row)
    reverse = tuple(_replay(past, row, rank if kept else len(selection.rows)))
    final = reverse[-1].score_after if reverse else float(scores.score[row])
    included = None if past.n_included is None else kept and rank < past.n_included
    excluded = _excluded(past, row, kept, reverse)
    contest = None
    if not kept and past.method == "d2" and scores.pool[row] and not excluded:
        contest = _contest(past, row, reverse)
    passed_over = False
    if contest is not None and past.limited and past.n_included is not None:
        passed_over = _stood_above(past, row, reverse)
    group = None if selection.groups is None else int(selection.groups.codes[row])
    return Explanation(
        row=row,
        rank=rank if kept else None,
        in_pool=bool(scores.pool[row]),
        included=included if kept else False,
        excluded=excluded,
        difficulty=_placing(scores.difficulty[row], scores.difficulty),
        score=_placing(scores.score[row], scores.score[scores.pool]),
        own=own,
        forward=forward,
        forward_sum=total,
        reverse=reverse,
        final_score=final,
        picked_for=float(selection.scores[rank]) if kept else None,
        contest=contest,
        passed_over=passed_over,
        group=group,
        nearest=_nearest(past, row),
    )


def _placing(value: float, among: NDArray[np.float64]) -> Placing:
    above, below = np.count_nonzero(among > value), np.count_nonzero(among < value)
    return Placing(float(value), int(above), int(below), len(among))


def _around(past: Past, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return neighbours, ascending, and distances of a row."""
    adjacency = past.graph.adjacency
    place = slice(adjacency.indptr[row], adjacency.indptr[row + 1])
    return adjacency.indices[place], adjacency.distances[place]


def _forward(past: Past, row: int) -> tuple[tuple[Message, ...], float, float]:
    """Return the messages of the last round, what the row had before it, and their sum."""
    scores = past.scores
    if past.rounds == 0 or not scores.pool[row]:
        return (), float(scores.score[row]), 0.0
    neighbors, distances = _around(past, row)
    weights = edge_weights(
        distances,
        gamma=scores.gamma_forward,
        bandwidth=scores.bandwidth,
        kernel=past.score_kernel,
    )
    before = past.before_last_round
    sent = before[neighbors]
    if past.neighbor_floor is not None:
        sent = np.maximum(sent, past.neighbor_floor)
    messages, total = [], 0.0
    for j, d, w, s in zip(
        neighbors.tolist(), distances.tolist(), weights.tolist(), sent.tolist(), strict=True
    ):
        if scores.pool[j]:
            total += w * s
            messages.append(Message(j, d, w, s, w * s))
    return tuple(messages), float(before[row]), total


def _replay(past: Past, row: int, before: int) -> Iterator[Suppression]:
    """Yield what picks of ranks below ``before`` took off a row's score, in their order."""
    if past.method != "d2":
        return
    neighbors, distances = _around(past, row)
    selection, ranks = past.selection, past.rank[neighbors]
    weights = edge_weights(
        distances, gamma=selection.gamma_reverse, bandwidth=selection.bandwidth, kernel=past.kernel
    )
    score = float(past.scores.score[row])
    for at in np.argsort(ranks, kind="stable"):
        rank = int(ranks[at])
        if not 0 <= rank < before:
            continue
        sent = float(selection.scores[rank])
        if past.clamped and sent < 0:
            continue
        weight = float(weights[at])
        amount = weight * sent
        score -= amount
        yield Suppression(
            int(neighbors[at]), float(distances[at]), weight, sent, amount, rank, score
        )


def _excluded(past: Past, row: int, kept: bool, reverse: tuple[Suppression, ...]) -> bool | None:
    """Return whether a row was excluded by the user, by the list or else by what was picked.

    Where the list is not known, a row that stood above a pick must have been on it. One that never
    did may have been.
    """
    if kept:
        return False
    if past.excluded is not None:
        return bool(past.excluded[row])
    if past.method != "d2" or past.n_included is None or not past.scores.pool[row]:
        return None
    if past.limited:
        return None  # it may have been passed over as a newcomer
    return True if _stood_above(past, row, reverse) else None


def _stood_above(past: Past, row: int, reverse: tuple[Suppression, ...]) -> bool:
    """Return whether a dropped row had more than a pick while its group had room."""
    last = _last_pick_of_group(past, row)
    if last is None:
        return False
    # The score that the row had at every pick of a rank below: it changes at each suppression.
    score = np.full(last + 1, past.scores.score[row])
    for message in reverse:
        score[message.rank + 1 :] = message.score_after
    picks = past.selection.scores[: last + 1]
    return bool((score > picks)[past.n_included :].any())


def _last_pick_of_group(past: Past, row: int) -> int | None:
    """Return the rank of the last pick of a row's group; None if there is none, or not known."""
    selection = past.selection
    if past.groups_unknown or not len(selection.rows):
        return None
    if selection.groups is None:
        return len(selection.rows) - 1
    codes = selection.groups.codes
    ranks = np.flatnonzero(codes[selection.rows] == codes[row])
    return int(ranks[-1]) if len(ranks) else None


def _contest(past: Past, row: int, reverse: tuple[Suppression, ...]) -> Contest | None:
    last = _last_pick_of_group(past, row)
    if last is None:
        return None
    score = float(past.scores.score[row])
    for message in reverse:
        if message.rank < last:
            score = message.score_after
    selection = past.selection
    included = None if past.n_included is None else last < past.n_included
    return Contest(last, int(selection.rows[last]), float(selection.scores[last]), score, included)


def _nearest(past: Past, row: int) -> tuple[Near, ...]:
    neighbors, distances = _around(past, row)
    ranks = past.rank[neighbors]
    # Neighbours ascend and the sort is stable: of equals the lowest row comes first.
    order = [at for at in np.argsort(distances, kind="stable") if ranks[at] >= 0]
    return tuple(
        Near(int(neighbors[at]), float(distances[at]), int(ranks[at])) for at in order[:NEAREST]
    )
