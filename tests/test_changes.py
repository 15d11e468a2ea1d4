"""Selections that may change an earlier one only so much, against loops that try every row."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import fewest_changes, greedy, undirected_edges

from d2cli.errors import InputError, ParameterError
from d2cli.params import LIMITABLE, GraphParams, ScoreParams, SelectParams
from d2cli.stages import selection as selecting
from d2cli.stages.changes import limit_changes
from d2cli.stages.difficulty import orient
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import Groups, group_by, one_group
from d2cli.stages.score import score_rows
from d2cli.stages.selection import NO_WISHES, Wishes, select_coreset
from d2cli.stages.ties import tie_order

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def _few_rows_weighed_at_a_time():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selecting, "LEAST_BATCH", 3)
        yield


def draw(seed, n):
    """A graph with ties and twins, scores of either sign, groups, and rows selected before."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (n, 2)) if seed % 2 else rng.normal(size=(n, 3))
    graph = build_graph(points.astype(np.float32), GraphParams(n_neighbors=int(rng.integers(1, 6))))
    difficulty = rng.integers(0, 3, n).astype(float) if seed % 3 else rng.normal(size=n)
    scores = score_rows(
        graph, orient(difficulty, "high"), ScoreParams(prune_hardest=0.1 * (seed % 2))
    )
    labels = group_by(rng.integers(0, 3, n))
    previous = rng.permutation(n)[: rng.integers(0, n)].astype(np.int64)
    return graph, scores, labels, previous, rng


def changes_of(selection, previous, candidate):
    kept = set(selection.rows.tolist())
    return sum(candidate[row] and row not in kept for row in previous.tolist())


@given(
    seed=seeds,
    n=st.integers(3, 30),
    messages=st.sampled_from(["signed", "clamped"]),
    ties=st.sampled_from(["row", "random"]),
    balance=st.sampled_from([None, "proportional", "uniform"]),
    gamma=st.sampled_from([0.0, 0.3, 50.0]),
)
@settings(max_examples=100, deadline=None)
def test_picks_equal_the_loop_that_asks_of_every_row_what_it_would_cost(
    seed, n, messages, ties, balance, gamma
):
    graph, scores, labels, previous, rng = draw(seed, n)
    keep = int(rng.integers(1, n // 2 + 2))
    named = rng.permutation(n).astype(np.int64)
    wishes = Wishes(named[: keep // 4], named[keep // 4 : keep // 4 + n // 8])
    groups = None if balance is None else labels
    params = SelectParams(
        keep=keep,
        gamma_reverse=gamma,
        messages=messages,
        ties=ties,
        seed=3,
        balance=balance or "proportional",
        max_changes=int(rng.integers(0, n // 2)),
    )
    candidate = selecting.may_be_kept(scores.pool, wishes)
    earlier = np.isin(np.arange(n), previous) & candidate
    try:
        selection = select_coreset(
            graph, scores, params, groups=groups, wishes=wishes, previous=previous
        )
    except ParameterError as error:
        if "max-changes" not in str(error):  # the budgets themselves do not work out
            return
        least = int(error.hint.split()[1])
        assert least > params.max_changes
        again = SelectParams(**{**vars(params), "max_changes": least})
        selection = select_coreset(
            graph, scores, again, groups=groups, wishes=wishes, previous=previous
        )
        assert changes_of(selection, previous, candidate) == least  # so none less would do
        return

    picks, values = greedy(
        undirected_edges(graph.neighbors, graph.distances),
        scores.score,
        keep,
        gamma,
        order=tie_order(n, ties, 3),
        clamped=messages == "clamped",
        candidate=candidate,
        included=wishes.include,
        group=labels.codes if groups else np.zeros(n, int),
        budgets=selection.budgets,
        bandwidth=selection.bandwidth,
        earlier=earlier,
        max_changes=params.max_changes,
    )
    np.testing.assert_array_equal(selection.rows, picks)
    np.testing.assert_array_equal(selection.scores, values)
    assert changes_of(selection, previous, candidate) <= params.max_changes
    assert len(selection.rows) == keep


@given(seed=seeds, n=st.integers(3, 60), grouped=st.booleans(), method=st.sampled_from(LIMITABLE))
@settings(max_examples=150, deadline=None)
def test_it_is_the_ordinary_selection_just_when_that_changes_so_little(seed, n, grouped, method):
    graph, scores, labels, previous, rng = draw(seed, n)
    groups = labels if grouped else None
    keep = int(rng.integers(1, int(scores.pool.sum()) + 1))
    ordinary = select_coreset(graph, scores, SelectParams(keep=keep, method=method), groups=groups)
    made = changes_of(ordinary, previous, scores.pool)
    for most in (made, made + 1, n, max(made - 1, 0)):
        params = SelectParams(keep=keep, method=method, max_changes=most)
        try:
            limited = select_coreset(graph, scores, params, groups=groups, previous=previous)
        except ParameterError:
            assert most < made
            continue
        assert changes_of(limited, previous, scores.pool) <= most
        assert limited.budgets == ordinary.budgets
        if most >= made:
            np.testing.assert_array_equal(limited.rows, ordinary.rows)
            np.testing.assert_array_equal(limited.scores, ordinary.scores)
        else:
            assert not np.array_equal(limited.kept, ordinary.kept)


@given(seed=seeds, n=st.integers(3, 60))
@settings(max_examples=100, deadline=None)
def test_without_changes_and_at_the_same_budget_the_rows_are_the_same(seed, n):
    graph, scores, _, _, rng = draw(seed, n)
    pool = np.flatnonzero(scores.pool).astype(np.int64)
    previous = rng.permutation(pool)[: max(1, len(pool) // 2)]
    params = SelectParams(keep=len(previous), max_changes=0)
    selection = select_coreset(graph, scores, params, previous=previous)
    assert set(selection.rows.tolist()) == set(previous.tolist())


@pytest.mark.parametrize("method", [m for m in LIMITABLE if m != "d2"])
@given(seed=seeds, n=st.integers(4, 30))
@settings(max_examples=30, deadline=None)
def test_other_methods_take_rows_in_their_order_while_they_can_be_afforded(method, seed, n):
    graph, scores, labels, previous, rng = draw(seed, n)
    keep = int(rng.integers(1, int(scores.pool.sum()) + 1))
    all_ = SelectParams(keep=int(scores.pool.sum()), method=method)
    ranked = select_coreset(graph, scores, all_, groups=labels).rows
    params = SelectParams(keep=keep, method=method, max_changes=n // 3)
    try:
        selection = select_coreset(graph, scores, params, groups=labels, previous=previous)
    except ParameterError:
        return
    earlier = np.isin(np.arange(n), previous) & scores.pool
    left, picks = dict(enumerate(selection.budgets)), []
    for row in ranked.tolist():
        cost = fewest_changes(earlier, labels.codes, left, [*picks, row])
        if left[labels.codes[row]] and cost <= n // 3:
            picks.append(row)
            left[labels.codes[row]] -= 1
    assert selection.rows.tolist() == picks


@given(
    budgets=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    of_p=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    most=st.integers(0, 6),
)
@settings(max_examples=100, deadline=None)
def test_places_are_those_of_all_ways_to_fill_the_budgets(budgets, of_p, most):
    """Enumerate how many newcomers each group could get; rows never run out."""
    codes = np.repeat(np.arange(len(budgets)), 8).astype(np.int32)
    groups = Groups(codes, tuple("abc"[: len(budgets)]))
    at = np.tile(np.arange(8), len(budgets))
    earlier = at < np.array(of_p)[codes]
    allowed = {
        counts
        for counts in itertools.product(*(range(b + 1) for b in budgets))
        if all(b - c <= p for b, c, p in zip(budgets, counts, of_p, strict=False))
        and sum(p - (b - c) for b, c, p in zip(budgets, counts, of_p, strict=False)) <= most
    }
    nobody = np.empty(0, np.int64)
    if not allowed:
        with pytest.raises(ParameterError, match="needed"):
            limit_changes(earlier, most, groups, budgets, nobody)
        return
    limit = limit_changes(earlier, most, groups, budgets, nobody)
    for counts in itertools.product(*(range(b + 1) for b in budgets)):
        beyond = sum(max(0, c - f) for c, f in zip(counts, limit.free, strict=True))
        enough = all(b - c <= p for b, c, p in zip(budgets, counts, of_p, strict=False))
        assert (enough and beyond <= limit.spare) == (counts in allowed)


def test_what_cannot_be_is_refused_with_the_least_that_can(cloud):
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(graph, orient(np.arange(200), "high"), ScoreParams())
    previous = np.arange(30)

    def select(keep, most, groups=None, wishes=NO_WISHES):
        params = SelectParams(keep=keep, max_changes=most)
        return select_coreset(
            graph, scores, params, groups=groups, wishes=wishes, previous=previous
        )

    with pytest.raises(ParameterError, match=r"room for 20 of 30 rows .* 10 changes are needed"):
        select(20, 9)
    assert changes_of(select(20, 10), previous, scores.pool) == 10
    halves = group_by(np.arange(200) // 100)
    with pytest.raises(ParameterError, match="the budgets of the groups leave room for 15 of 30"):
        select(30, 14, halves)
    assert changes_of(select(30, 15, halves), previous, scores.pool) == 15
    asked = Wishes(np.array([5, 100, 101]), np.array([6]))
    with pytest.raises(
        ParameterError, match=r"27 of 29 rows .* beside 2 included .* 2 changes are"
    ):
        select(29, 1, wishes=asked)
    kept = select(29, 2, wishes=asked).kept
    assert (~kept[previous]).sum() == 2 + 1  # and row 6, which is gone


def test_a_limit_needs_a_previous_selection_of_these_rows(cloud):
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(graph, orient(np.arange(200), "high"), ScoreParams())
    with pytest.raises(ParameterError, match="no previous selection"):
        select_coreset(graph, scores, SelectParams(keep=9, max_changes=3))
    for row in (-1, 200):
        with pytest.raises(InputError, match=f"row {row} of the previous selection is not one of"):
            select_coreset(
                graph, scores, SelectParams(keep=9, max_changes=3), previous=np.array([3, row])
            )


def test_methods_that_do_not_rank_rows_take_no_limit():
    with pytest.raises(ParameterError, match="max-changes does not go with the method kcenter"):
        SelectParams(keep=9, method="kcenter", max_changes=3)
    with pytest.raises(ParameterError, match="max-changes is -1"):
        SelectParams(keep=9, max_changes=-1)


def test_with_far_more_newcomers_than_places_the_picks_equal_the_loop(monkeypatch):
    """Most of the best scores are out of the game, while their weights are asked for."""
    monkeypatch.setattr(selecting, "LEAST_BATCH", 20)
    rng = np.random.default_rng(5)
    graph = build_graph(rng.normal(size=(180, 3)).astype(np.float32), GraphParams(n_neighbors=6))
    scores = score_rows(graph, orient(rng.random(180), "high"), ScoreParams())
    previous = np.argsort(scores.score)[:60].astype(np.int64)  # the lowest scores of all
    params = SelectParams(keep=66, gamma_reverse=0.3, ties="row", max_changes=15)

    selection = select_coreset(graph, scores, params, previous=previous)

    picks, values = greedy(
        undirected_edges(graph.neighbors, graph.distances),
        scores.score,
        66,
        0.3,
        bandwidth=selection.bandwidth,
        candidate=np.ones(180, bool),
        group=one_group(180).codes,
        earlier=np.isin(np.arange(180), previous),
        max_changes=15,
    )
    np.testing.assert_array_equal(selection.rows, picks)
    np.testing.assert_array_equal(selection.scores, values)
    assert np.isin(selection.rows, previous).sum() == 45
