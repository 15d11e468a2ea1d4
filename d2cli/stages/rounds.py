"""The greedy pick in rounds, on parts of the graph: the same rows, order and scores as the loop.

The loop "take the largest, subtract, repeat" decides one row at a time, each for a reason that lies
among its neighbours. In rounds, all rows that come before their open neighbours are decided at
once: part by part, without a look at other parts, which learn of it before the next round.

**Why this is exact.** Let a row be ahead of another if its score is larger, or equal and its place
in the tie order lower. As long as picked scores are not negative (or messages are clamped):

1. Messages are not negative, and rounded subtraction is monotone: ``a <= b`` implies
   ``fl(a - m) <= fl(b - m) <= b``. So a score only falls, and more messages, wherever they stand
   in the row of subtractions, never make it larger.
2. The loop picks in order: each pick is ahead of the next, by its score when picked and its place.
3. The value of an open row is its first score less the messages of those of its neighbours that
   are decided, in pick order, or an older such value. If all these come before it in the loop, then
   by 1 its value is at least its score when the loop picks it (if it does).
4. Let p be ahead of the values of all its open neighbours, and fewer than b rows of its group, of
   which b are to be picked, be ahead of it, decided ones by their scores and open ones by their
   values. Then the loop picks p, with its value as its score, before these neighbours. Suppose one
   of them is picked before p leaves the game, and let j be the first. Until then p has got messages
   from decided neighbours only, so its score is at least its value, so by 3 p is ahead of j, and
   the loop would not have picked j. So none is. Suppose that p leaves the game unpicked, since its
   group is full. Then b picks of the group were ahead of it, and so are their values: but these
   are fewer than b. So p is picked, after its decided neighbours (by 3) and before the open ones.
   Its messages then are those in its value, in the same order: the very same subtractions.
5. By 4 condition 3 holds in the next round for p and its neighbours. Two neighbours cannot both be
   decided in one round, not even by two parts that know of each other only values of before it:
   each would have to be ahead of what the other's value was then, or of more.
6. The open row that is ahead of all others satisfies 4, so no round with values up to date decides
   nothing. A group that has b decided rows is full, and its other rows are out of the game.

**Negative scores.** Clamped picks send nothing then, and the same holds. A signed one raises its
neighbours, which breaks 1; so rows below 0 stay open. What the rounds leave, once no open row is at
0 or above, is the state of the loop at its first negative pick, for the loop picks every row that
is at 0 or above before; from there the loop itself goes on. Included rows come first, whatever
their scores, and are picked by the loop as well; the scores that they leave are the first scores.

References
----------
Maharana, Yadav, Bansal. D2 Pruning. ICLR 2024. arXiv:2310.07931, section 3.2: the loop. Rounds of
local maxima: Luby. A simple parallel algorithm for the maximal independent set problem. 1986;
Blelloch, Fineman, Shun. Greedy sequential maximal independent set and matching are parallel on
average. SPAA 2012. arXiv:1202.3205.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.adjacency import Adjacency
from d2cli.stages.advance import (
    FRESH,
    NO_NEWS,
    OPEN,
    OUT,
    SETTLED,
    News,
    Situation,
    advance,
)
from d2cli.stages.executor import Executor, Handle, InProcess
from d2cli.stages.greedy import greedy_picks
from d2cli.stages.methods import Picked, Task
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.parts import cut_parts

LAST_PLACE = np.iinfo(np.int32).max

# Finishes a selection one by one: what is open, scores now, whether messages are clamped.
Finish = Callable[[Task, NDArray[np.float64], bool, Progress], Picked]


def no_record(picked: Picked) -> None:
    """Record nothing."""


@dataclass(frozen=True)
class Rounds:
    """How a selection is divided.

    Attributes
    ----------
    divide : callable
        Returns the part of each row of a graph, int (n,); does not change results.
    executor : Executor
    known : Picked
        What earlier rounds of the same selection have decided, on whatever parts.
    record : callable
        Called with what a round has decided, before it counts.
    """

    divide: Callable[[Adjacency], NDArray[np.integer]]
    executor: Executor
    known: Picked
    record: Callable[[Picked], None] = no_record

    @classmethod
    def of(cls, parts: NDArray[np.integer], executor: Executor | None = None) -> "Rounds":
        """Begin with nothing known, on given parts, int (n,)."""
        nothing = Picked(np.empty(0, np.int64), np.empty(0, np.float64))
        return cls(lambda adjacency: parts, executor or InProcess(), nothing)


class _Progress:
    """What all parts together know: a value and a state for every row, and the room of groups."""

    def __init__(
        self,
        task: Task,
        score: NDArray[np.float64],
        open_: NDArray[np.bool_],
        left: NDArray[np.int64],
        signed: bool,
    ) -> None:
        self.value = score.copy()
        self.state = np.where(open_, OPEN, OUT)
        self.news = np.zeros(len(score), dtype=np.bool_)  # of rows that changed in the last round
        self.closed = False
        self.place, self.group, self.left = task.place.astype(np.int32), task.groups.codes, left
        self.signed = signed
        rows = np.flatnonzero(open_)
        by_group = rows[np.argsort(self.group[rows], kind="stable")]
        sizes = np.bincount(self.group[rows], minlength=len(left))
        self.members = np.split(by_group, np.cumsum(sizes)[:-1])
        self._close_full(range(len(left)))

    def begin(self) -> None:
        """Let the picks of the round before be known, and nothing be news."""
        self.state[self.state == FRESH] = SETTLED
        self.news[:] = False
        self.closed = False

    def update(self, rows: NDArray[np.int64], value: NDArray[np.float64]) -> None:
        """Take over new bounds of open rows."""
        self.value[rows] = value
        self.news[rows] = True

    def count(self, picked: Picked) -> None:
        """Let decided rows count."""
        self.update(picked.rows, picked.values)
        self.state[picked.rows] = FRESH
        taken = np.bincount(self.group[picked.rows], minlength=len(self.left))
        self.left -= taken
        self._close_full(np.flatnonzero(taken).tolist())

    def _close_full(self, groups: "range | list[int]") -> None:
        for g in groups:
            if not self.left[g]:
                rows = self.members[g]
                rows = rows[self.state[rows] == OPEN]
                self.state[rows] = OUT
                self.news[rows] = self.closed = True

    def situation(self, held: "_Held", fresh_inside: bool) -> Situation:
        """Return how a part stands; it knows of its own fresh picks unless these are inside."""
        state = self.state[held.both]
        if not fresh_inside:
            ours = state[: held.n_rows]
            ours[ours == FRESH] = SETTLED
        return Situation(self.value[held.both], state, np.full(held.n_rows, -1, dtype=np.int32))

    def news_for(self, held: "_Held") -> News:
        """Return what has changed for a part in the last round, but by its own doing."""
        places = np.flatnonzero(self.news[held.around]) + held.n_rows
        if self.closed:
            ours = self.news[held.rows] & (self.state[held.rows] == OUT)
            places = np.concatenate([np.flatnonzero(ours), places])
        rows = held.both[places]
        return News(places.astype(np.int32), self.value[rows], self.state[rows])

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Return score and place of the last row of each group that is surely picked if reached."""
        least = np.full(len(self.left), 0.0 if self.signed else -np.inf)
        last = np.full(len(self.left), LAST_PLACE, dtype=np.int32)
        for g in np.flatnonzero(self.left).tolist():
            self.members[g] = rows = self.members[g][self.state[self.members[g]] == OPEN]
            behind = len(rows) - int(self.left[g])
            if behind > 0:
                values = self.value[rows]
                bound = np.partition(values, behind)[behind]
                if bound >= least[g]:
                    equal = np.sort(self.place[rows[values == bound]])
                    least[g] = bound
                    last[g] = equal[self.left[g] - np.count_nonzero(values > bound) - 1]
        return least, last


@dataclass(eq=False)
class _Held:
    """A part where tasks find it, and its task of the last round."""

    both: NDArray[np.int64]  # its rows, and those around
    n_rows: int
    part: Handle
    task: Handle = None

    @property
    def rows(self) -> NDArray[np.int64]:
        return self.both[: self.n_rows]

    @property
    def around(self) -> NDArray[np.int64]:
        return self.both[self.n_rows :]

    def begin(
        self,
        executor: Executor,
        now: _Progress,
        bounds: tuple[NDArray[np.float64], NDArray[np.int32]],
        at_first: bool,
    ) -> None:
        """Begin the next round; what the one before has left is where it was made."""

        def anew() -> tuple[Any, ...]:
            return self.part, now.situation(self, at_first), NO_NEWS, *bounds

        known = (self.part, self.task, now.news_for(self), *bounds)
        arguments = anew() if at_first else known
        self.task = executor.go_on(advance, *arguments, anew=anew)


def pick_in_rounds(
    task: Task,
    score: NDArray[np.float64],
    clamped: bool,
    rounds: Rounds,
    *,
    finish: Finish,
    on_progress: Progress = no_progress,
) -> Picked:
    """Pick as the loop "argmax, subtract, repeat" does, to the bit; see above.

    Parameters
    ----------
    task : Task
        Over n rows.
    score : float64 array, shape (n,)
        After the forward pass.
    clamped : bool
        Whether negative picks send nothing, or raise their neighbours.
    rounds : Rounds
    finish : callable
        The loop, for what is signed and below 0.
    on_progress : callable
        Called with ("selecting", rows decided, budget) after every round.

    Returns
    -------
    Picked
        In pick order.
    """
    first, score, open_ = _pick_included(task, score, clamped)
    left = np.array(task.budgets, dtype=np.int64)
    left -= np.bincount(task.groups.codes[first.rows], minlength=len(left))
    budget = len(first.rows) + int(left.sum())
    now = _Progress(task, score, open_, left, not clamped)
    parts = rounds.divide(task.graph.adjacency)
    sent = [
        _Held(np.concatenate([part.rows, part.around]), len(part.rows), rounds.executor.put(part))
        for part in cut_parts(task, score, open_, parts)
    ]
    decided = [rounds.known]
    now.count(rounds.known)
    at_first = True
    while now.left.any():
        least, last = now.bounds()
        up_to_date = not (now.state == FRESH).any()
        for held in sent:
            held.begin(rounds.executor, now, (least, last), at_first)
        results = list(rounds.executor.gather([held.task for held in sent]))
        now.begin()
        at_first = False
        picks = []
        for held, found in zip(sent, results, strict=True):
            count = len(found.decided)
            now.update(held.rows[found.changed], found.value[count:])
            picks.append(Picked(held.rows[found.decided], found.value[:count]))
        picked = _joined(picks)
        if len(picked.rows):
            rounds.record(picked)
            now.count(picked)
            decided.append(picked)
            on_progress("selecting", budget - int(now.left.sum()), budget)
        elif up_to_date:
            break
    every = _joined(decided)
    order = np.lexsort((now.place[every.rows], -every.values))
    ranked = [first, Picked(every.rows[order], every.values[order])]
    if now.left.any():  # all that is open is below 0, and messages are signed
        rest = replace(
            task,
            candidate=now.state == OPEN,
            included=np.empty(0, np.int64),
            budgets=tuple(now.left.tolist()),
        )
        done = budget - int(now.left.sum())

        def tell(phase: str, more: int, _: int) -> None:
            on_progress(phase, done + more, budget)

        ranked.append(finish(rest, now.value, clamped, tell))
    return _joined(ranked)


def _joined(parts: list[Picked]) -> Picked:
    return Picked(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _pick_included(
    task: Task, score: NDArray[np.float64], clamped: bool
) -> tuple[Picked, NDArray[np.float64], NDArray[np.bool_]]:
    """Pick the included rows; return them, the scores that they leave, and which rows are open."""
    if not len(task.included):
        return Picked(task.included, np.empty(0)), score, task.candidate
    around, picks = task.graph.adjacency, greedy_picks(task, score, clamped)
    rows = np.sort(task.included)
    picks.weigh(rows, task.weigh(around.distances[around.edges_of(rows)]))
    picks.advance(len(task.included))
    count = len(task.included)
    open_ = task.candidate.copy()
    open_[rows] = False
    left = np.empty_like(score)
    left[task.order] = picks.by_place
    return Picked(picks.rows[:count].copy(), picks.scores[:count].copy()), left, open_
