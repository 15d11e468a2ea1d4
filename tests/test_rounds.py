"""A selection in rounds on parts of the graph, against the loop "argmax, subtract, repeat"."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import greedy, weight

from d2cli.errors import ParameterError
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.stages.adjacency import Adjacency
from d2cli.stages.difficulty import orient
from d2cli.stages.executor import InProcess
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.groups import Groups, group_by, one_group
from d2cli.stages.kernel import edge_weights
from d2cli.stages.methods import Picked, Task
from d2cli.stages.parts import cut_parts, even_parts
from d2cli.stages.recall import Recall
from d2cli.stages.rounds import Rounds, pick_in_rounds
from d2cli.stages.score import score_rows
from d2cli.stages.selection import Wishes, _pick_d2, select_coreset
from d2cli.stages.ties import tie_order

NOBODY = np.empty(0, np.int64)


def never(*_):
    raise AssertionError("the loop finished what the rounds should have")


def random_graph(rng, n, k):
    """Neighbours and distances at random, on a grid if they are to be equal often."""
    neighbors = np.full((n, k), -1, np.int32)
    for i in range(n):
        near = rng.choice(n, min(k, n), replace=False)
        near = near[near != i]
        neighbors[i, : len(near)] = near
    distances = rng.integers(0, 3, (n, k)) if rng.random() < 0.5 else rng.random((n, k))
    return neighbors, distances.astype(np.float32)


def graph_of(neighbors, distances):
    return KnnGraph(
        neighbors, distances, None, "exact", Recall(value=1.0, sample_size=0, target=0.0)
    )


def task_of(graph, *, budgets, gamma=1.0, order=None, candidate=None, included=NOBODY, group=None):
    n = graph.n_samples
    return Task(
        graph,
        np.zeros(n),
        np.ones(n, np.bool_) if candidate is None else candidate,
        included,
        one_group(n) if group is None else group,
        tuple(budgets),
        np.arange(n, dtype=np.int32) if order is None else order,
        partial(edge_weights, gamma=gamma, bandwidth=1.0, kernel="gaussian"),
        np.random.default_rng(0),
    )


def edges_of(graph):
    """{i: {j: distance}}, as row i has it."""
    around = graph.adjacency
    ends = [slice(*around.indptr[i : i + 2]) for i in range(graph.n_samples)]
    return {
        i: dict(zip(around.indices[mine].tolist(), around.distances[mine], strict=True))
        for i, mine in enumerate(ends)
    }


def loop(task, score, gamma, clamped):
    return greedy(
        edges_of(task.graph),
        score,
        sum(task.budgets),
        gamma,
        order=task.order,
        clamped=clamped,
        candidate=task.candidate,
        included=task.included,
        group=task.groups.codes,
        budgets=task.budgets,
    )


def check_equal(picked, expected):
    rows, values = expected
    np.testing.assert_array_equal(picked.rows, rows)
    np.testing.assert_array_equal(picked.values, values)
    np.testing.assert_array_equal(np.signbit(picked.values), np.signbit(values))


SCORES = {
    "smooth": lambda rng, n: np.sort(rng.random(n)) * 5 + 1,
    "any": lambda rng, n: rng.normal(size=n) * 10.0 ** rng.integers(-8, 8),
    "few": lambda rng, n: rng.integers(-2, 4, n).astype(float),
    "equal": lambda rng, n: np.ones(n),
    "nothing": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, -0.0),
    "negative": lambda rng, n: -rng.random(n),
}


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.one_of(st.integers(1, 40), st.integers(41, 120)),
    k=st.integers(1, 6),
    kind=st.sampled_from(sorted(SCORES)),
    gamma=st.sampled_from([0.0, 0.1, 1.0, 50.0, 1e9]),
    clamped=st.booleans(),
    n_parts=st.sampled_from([1, 2, 3, 7, 120]),
    n_groups=st.sampled_from([1, 1, 2, 5]),
    amount=st.sampled_from([0.0, 0.1, 0.5, 1.0, "one"]),
)
@settings(max_examples=200, deadline=None)
def test_rounds_equal_the_loop(seed, n, k, kind, gamma, clamped, n_parts, n_groups, amount):
    rng = np.random.default_rng(seed)
    graph = graph_of(*random_graph(rng, n, k))  # the two ends of an edge may differ in its length
    score = SCORES[kind](rng, n)
    candidate = rng.random(n) < rng.choice([0.6, 1.0])
    codes = np.unique(rng.integers(0, n_groups, n), return_inverse=True)[1].astype(np.int32)
    group = Groups(codes, tuple(map(str, range(codes.max() + 1))))
    room = np.bincount(codes, weights=candidate, minlength=group.n_groups).astype(int)
    budgets = np.minimum(1, room) if amount == "one" else (room * amount).astype(int)
    included = np.array(
        [
            row
            for g in range(group.n_groups)
            for row in rng.permutation(np.flatnonzero(candidate & (codes == g)))[: budgets[g] // 3]
        ],
        dtype=np.int64,
    )
    task = task_of(
        graph,
        budgets=budgets.tolist(),
        gamma=gamma,
        order=rng.permutation(n).astype(np.int32),
        candidate=candidate,
        included=rng.permutation(included),
        group=group,
    )

    picked = pick_in_rounds(
        task,
        score,
        clamped,
        Rounds.of(rng.integers(0, n_parts, n)),
        finish=never if clamped else _pick_d2,
    )

    check_equal(picked, loop(task, score, gamma, clamped))


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 60),
    messages=st.sampled_from(["signed", "clamped"]),
    ties=st.sampled_from(["row", "random"]),
    balance=st.sampled_from(["proportional", "uniform"]),
    preset=st.sampled_from(["default", "paper", "reference"]),
    rate=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    grouped=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_selection_in_rounds_equals_the_one_at_a_time(
    seed, n, messages, ties, balance, preset, rate, grouped
):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (n, 2)) if seed % 2 else rng.normal(size=(n, 3))  # twins, and none
    graph = build_graph(points.astype(np.float32), GraphParams(n_neighbors=int(rng.integers(1, 6))))
    made = ScoreParams.from_preset(preset, rate=rate, prune_hardest=rng.choice([0.0, 0.2]))
    difficulty = orient(rng.normal(size=n), "high", shift=made.shift)
    scores = score_rows(graph, difficulty, made)
    rows = rng.permutation(n)
    wishes = Wishes(rows[: n // 10].astype(np.int64), rows[n // 10 : n // 5].astype(np.int64))
    params = SelectParams.from_preset(
        preset, rate=rate, messages=messages, ties=ties, balance=balance
    )
    groups = group_by(rng.integers(0, 3, n)) if grouped else None

    def select(**more):
        return select_coreset(graph, scores, params, groups=groups, wishes=wishes, **more)

    try:
        one_by_one = select()
    except ParameterError:  # more rows to be kept, or included, than there is room for
        return
    for n_parts in (1, 2, 3, 7):
        selection = select(rounds=Rounds.of(rng.integers(0, n_parts, n)))
        np.testing.assert_array_equal(selection.rows, one_by_one.rows)
        np.testing.assert_array_equal(selection.scores, one_by_one.scores)
        assert selection.budgets == one_by_one.budgets


def star(n):
    """Row 0 is everybody's neighbour."""
    neighbors = np.zeros((n, 1), np.int32)
    neighbors[0] = 1
    return graph_of(neighbors, np.linspace(0, 2, n, dtype=np.float32)[:, None])


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("n_parts", [1, 4])
def test_a_hub_is_scored_as_in_the_loop(clamped, n_parts):
    n = 300
    rng = np.random.default_rng(n_parts)
    score = rng.random(n)
    score[0] = 30.0
    task = task_of(star(n), budgets=[n], gamma=0.3)
    picked = pick_in_rounds(
        task, score, clamped, Rounds.of(rng.integers(0, n_parts, n)), finish=_pick_d2
    )
    check_equal(picked, loop(task, score, 0.3, clamped))


def test_the_loop_above_is_the_formula():
    """Three rows in a line, by hand: 5 sends 5 w to the middle one, which is then last."""
    graph = graph_of(np.array([[1], [2], [1]], np.int32), np.ones((3, 1), np.float32))
    w = weight(1.0, 0.5)
    picked = pick_in_rounds(
        task_of(graph, budgets=[3], gamma=0.5),
        np.array([5.0, 6.0, 4.0]),
        True,
        Rounds.of(np.array([0, 1, 2])),
        finish=never,
    )
    assert picked.rows.tolist() == [1, 0, 2]
    assert picked.values.tolist() == [6.0, 5.0 - w * 6.0, 4.0 - w * 6.0]


def path(n):
    """A line of rows."""
    neighbors = np.stack([np.arange(n) - 1, np.arange(n) + 1], axis=1).astype(np.int32)
    neighbors[-1, 1] = -1
    return graph_of(neighbors, np.ones((n, 2), np.float32))


def count_rounds(task, score, parts):
    """Return the rows that each round decides, and the picks."""
    decided = []
    rounds = replace(Rounds.of(parts), record=lambda picked: decided.append(len(picked.rows)))
    return decided, pick_in_rounds(task, score, True, rounds, finish=never)


def test_a_part_goes_on_by_itself_until_another_one_could_matter():
    n = 100
    score = np.arange(n, 0, -1).astype(float)  # each row waits for the one before
    task = task_of(path(n), budgets=[n], gamma=5.0)
    alone, one = count_rounds(task, score, np.zeros(n, int))
    halves, two = count_rounds(task, score, even_parts(n, 2))
    apart, many = count_rounds(task, score, np.arange(n))
    assert alone == [100]
    assert halves == [50, 50]
    assert apart == [1] * n
    for picked in (one, two, many):
        check_equal(picked, loop(task, score, 5.0, True))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(20, 80), share=st.sampled_from([0.1, 0.3]))
@settings(max_examples=100, deadline=None)
def test_no_row_beyond_the_budget_is_decided(seed, n, share):
    rng = np.random.default_rng(seed)
    task = task_of(graph_of(*random_graph(rng, n, 4)), budgets=[int(n * share)])
    score = rng.random(n)
    decided, picked = count_rounds(task, score, rng.integers(0, 3, n))
    assert sum(decided) == int(n * share)
    check_equal(picked, loop(task, score, 1.0, True))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(5, 80), clamped=st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_is_known_is_not_decided_again_on_whatever_parts(seed, n, clamped):
    rng = np.random.default_rng(seed)
    group = group_by(rng.integers(0, 3, n))
    budgets = [int(rows * 0.6) for rows in group.counts()]
    task = task_of(graph_of(*random_graph(rng, n, 4)), budgets=budgets, gamma=0.2, group=group)
    score = rng.normal(size=n) + 1
    records = []
    rounds = replace(Rounds.of(rng.integers(0, 4, n)), record=records.append)
    whole = pick_in_rounds(task, score, clamped, rounds, finish=_pick_d2)

    until = int(rng.integers(0, len(records) + 1))
    known = Picked(
        np.concatenate([NOBODY, *(picked.rows for picked in records[:until])]),
        np.concatenate([np.empty(0), *(picked.values for picked in records[:until])]),
    )
    again = []
    later = replace(Rounds.of(rng.integers(0, 3, n)), known=known, record=again.append)
    resumed = pick_in_rounds(task, score, clamped, later, finish=_pick_d2)

    check_equal(resumed, (whole.rows, whole.values))
    for picked in again:
        assert not np.isin(picked.rows, known.rows).any()


class Forgetful(InProcess):
    """What a task leaves is lost now and then."""

    def __init__(self, rng):
        self.rng, self.lost = rng, 0

    def go_on(self, function, *arguments, anew):
        if self.rng.random() < 0.4:
            arguments = anew()
            self.lost += 1
        return super().go_on(function, *arguments, anew=anew)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 90),
    clamped=st.booleans(),
    resumed=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_part_that_is_lost_goes_on_from_what_the_others_know(seed, n, clamped, resumed):
    rng = np.random.default_rng(seed)
    group = group_by(rng.integers(0, 3, n))
    budgets = [int(rows * 0.7) for rows in group.counts()]
    task = task_of(graph_of(*random_graph(rng, n, 4)), budgets=budgets, gamma=0.2, group=group)
    score = rng.normal(size=n) + 1
    expected = loop(task, score, 0.2, clamped)
    known = Rounds.of(np.zeros(n, int)).known
    if resumed:
        records = []
        first = replace(Rounds.of(rng.integers(0, 4, n)), record=records.append)
        pick_in_rounds(task, score, clamped, first, finish=_pick_d2)
        known = records[0] if records else known
    rounds = replace(Rounds.of(rng.integers(0, 5, n), Forgetful(rng)), known=known)
    check_equal(pick_in_rounds(task, score, clamped, rounds, finish=_pick_d2), expected)


def test_what_is_recorded_counts_only_afterwards():
    task = task_of(path(9), budgets=[9])

    def fail(picked):
        raise OSError("no room")

    rounds = replace(Rounds.of(np.zeros(9, int)), record=fail)
    with pytest.raises(OSError, match="no room"):
        pick_in_rounds(task, np.ones(9), True, rounds, finish=never)


def test_parts_hold_their_rows_and_what_is_around_them():
    n = 50
    rng = np.random.default_rng(5)
    graph = graph_of(*random_graph(rng, n, 3))
    open_ = rng.random(n) < 0.8
    parts = rng.integers(0, 4, n)
    edges = edges_of(graph)
    task = task_of(graph, budgets=[n], gamma=0.7)
    seen = []
    for part in cut_parts(task, np.arange(n, dtype=float), open_, parts):
        both = np.concatenate([part.rows, part.around])
        assert len(set(parts[part.rows])) == 1
        assert not np.isin(part.around, part.rows).any()
        seen += part.rows.tolist()
        for place, row in enumerate(part.rows.tolist()):
            mine = slice(part.indptr[place], part.indptr[place + 1])
            near = both[part.indices[mine]].tolist()
            assert near == [j for j in sorted(edges[row]) if open_[j]]
            sent = [weight(edges[j][row], 0.7) for j in near]  # as the sender has it
            np.testing.assert_array_equal(part.weights[mine], sent)
    assert sorted(seen) == np.flatnonzero(open_).tolist()


def test_even_parts_are_consecutive_and_even():
    assert even_parts(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert even_parts(3, 3).tolist() == [0, 1, 2]
    for wrong in (0, 4):
        with pytest.raises(ParameterError, match="expected 1 to 3, the number of rows"):
            even_parts(3, wrong)


def test_tasks_change_nothing_that_they_are_given():
    """As arrays from a cluster are read-only."""

    class ReadOnly(InProcess):
        def go_on(self, function, *arguments, anew):
            for value in arguments:
                value = getattr(value, "left", value)
                for array in [value] if isinstance(value, np.ndarray) else vars(value).values():
                    array.flags.writeable = False
            return super().go_on(function, *arguments, anew=anew)

    rng = np.random.default_rng(2)
    task = task_of(graph_of(*random_graph(rng, 60, 4)), budgets=[40])
    score = rng.random(60)
    rounds = Rounds.of(rng.integers(0, 3, 60), ReadOnly())
    check_equal(
        pick_in_rounds(task, score, True, rounds, finish=never), loop(task, score, 1.0, True)
    )


def test_the_order_of_ties_is_that_of_the_loop():
    n = 80
    graph = graph_of(*random_graph(np.random.default_rng(1), n, 3))
    task = task_of(graph, budgets=[50], order=tie_order(n, "random", 4))
    for parts in (np.zeros(n, int), even_parts(n, 7)):
        picked = pick_in_rounds(task, np.ones(n), True, Rounds.of(parts), finish=never)
        check_equal(picked, loop(task, np.ones(n), 1.0, True))


def test_an_adjacency_without_edges_takes_one_round():
    graph = graph_of(np.full((6, 1), -1, np.int32), np.full((6, 1), np.inf, np.float32))
    assert isinstance(graph.adjacency, Adjacency)
    decided, picked = count_rounds(task_of(graph, budgets=[4]), np.arange(6.0), even_parts(6, 3))
    assert decided == [4]
    assert picked.rows.tolist() == [5, 4, 3, 2]
