"""The greedy pick against the loop "argmax, subtract, repeat"."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import greedy, undirected_edges

from d2cli.errors import InputError, ParameterError
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.stages import selection as selecting
from d2cli.stages.difficulty import orient
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.score import score_rows
from d2cli.stages.selection import Selection, Wishes, select_coreset
from d2cli.stages.ties import tie_order


@pytest.fixture(autouse=True, scope="module")
def _few_rows_weighed_at_a_time():
    """So that even small cases see several batches of weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selecting, "LEAST_BATCH", 3)
        yield


def draw(seed, n, *, groups=False):
    """A graph over points on a grid (ties, twins), and scores of one of four kinds."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (n, 2)) if seed % 2 else rng.normal(size=(n, 3))
    labels = group_by(rng.integers(0, 3, n)) if groups else None
    graph = build_graph(points.astype(np.float32), GraphParams(n_neighbors=int(rng.integers(1, 6))))
    difficulty = [
        rng.random(n),
        rng.integers(0, 3, n).astype(float),
        np.ones(n),
        rng.normal(size=n) * 10.0 ** rng.integers(-8, 8),
    ][seed % 4]
    return graph, difficulty, labels, rng


def edges_of(graph):
    return undirected_edges(graph.neighbors, graph.distances)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    gamma=st.sampled_from([0.0, 0.1, 1.0, 50.0]),
    messages=st.sampled_from(["signed", "clamped"]),
    ties=st.sampled_from(["row", "random"]),
    kernel=st.sampled_from(["gaussian", "exponential"]),
)
@settings(max_examples=200, deadline=None)
def test_picks_equal_the_loop(seed, n, gamma, messages, ties, kernel):
    graph, difficulty, _, rng = draw(seed, n)
    keep = int(rng.integers(1, n + 1))
    scores = score_rows(graph, orient(difficulty, "high"), ScoreParams())
    params = SelectParams(
        keep=keep, gamma_reverse=gamma, messages=messages, ties=ties, seed=3, kernel=kernel
    )

    selection = select_coreset(graph, scores, params)

    picks, values = greedy(
        edges_of(graph),
        scores.score,
        keep,
        gamma,
        order=tie_order(n, ties, 3),
        clamped=messages == "clamped",
        bandwidth=selection.bandwidth,
        kernel=kernel,
    )
    np.testing.assert_array_equal(selection.rows, picks)
    np.testing.assert_array_equal(selection.scores, values)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 30))
@settings(max_examples=200, deadline=None)
def test_reference_preset_equals_the_published_algorithm(seed, n):
    graph, difficulty, _, rng = draw(seed, n)
    keep = int(rng.integers(1, n + 1))
    made = ScoreParams.from_preset("reference")
    scores = score_rows(graph, orient(difficulty, "high", shift=made.shift), made)
    selection = select_coreset(graph, scores, SelectParams.from_preset("reference", keep=keep))

    # The dense path: n x n matrices, the first maximum of an array, picked rows out of the game.
    length = np.full((n, n), np.inf)
    for i, near in edges_of(graph).items():
        for j, d in near.items():
            length[i, j] = d
    linked = np.isfinite(length)
    received = np.exp(-length) * np.maximum(difficulty, 1e-7)
    x = difficulty + np.array([sum(received[i, linked[i]].tolist()) for i in range(n)])
    picks = []
    for _ in range(keep):
        pick = int(np.argmax(x))
        picks.append(pick)
        near = linked[pick]
        x[near] -= np.exp(-0.1 * length[pick, near]) * x[pick]
        x[picks] = -np.inf
    np.testing.assert_array_equal(selection.rows, picks)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 40))
@settings(max_examples=200, deadline=None)
def test_groups_include_and_exclude_equal_the_loop(seed, n):
    graph, difficulty, labels, rng = draw(seed, n, groups=True)
    scores = score_rows(graph, orient(difficulty, "high"), ScoreParams(prune_hardest=0.1))
    rows = rng.permutation(np.flatnonzero(scores.pool))
    wishes = Wishes(rows[: n // 8].astype(np.int64), rows[n // 8 : n // 4].astype(np.int64))
    params = SelectParams(
        keep=max(1, n // 3),
        gamma_reverse=0.3,
        ties="row",
        balance="uniform" if seed % 3 else "proportional",
    )
    try:
        selection = select_coreset(graph, scores, params, groups=labels, wishes=wishes)
    except ParameterError:  # more rows to be kept, or included, than there is room for
        return
    candidate = scores.pool.copy()
    candidate[wishes.exclude] = False
    picks, values = greedy(
        edges_of(graph),
        scores.score,
        params.keep,
        0.3,
        bandwidth=selection.bandwidth,
        candidate=candidate,
        included=wishes.include,
        group=labels.codes,
        budgets=selection.budgets,
    )
    np.testing.assert_array_equal(selection.rows, picks)
    np.testing.assert_array_equal(selection.scores, values)
    counted = np.bincount(labels.codes[selection.rows], minlength=labels.n_groups)
    assert tuple(counted) == selection.budgets
    assert len(selection.rows) == params.keep


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(4, 40))
@settings(max_examples=100, deadline=None)
def test_with_fixed_gammas_a_smaller_selection_is_a_prefix(seed, n):
    graph, difficulty, _, _ = draw(seed, n)
    scores = score_rows(graph, orient(difficulty, "high"), ScoreParams.from_preset("paper"))
    small = select_coreset(graph, scores, SelectParams.from_preset("paper", keep=n // 4))
    large = select_coreset(graph, scores, SelectParams.from_preset("paper", keep=n // 2))
    np.testing.assert_array_equal(small.rows, large.rows[: n // 4])
    np.testing.assert_array_equal(small.scores, large.scores[: n // 4])


def test_keeping_all_is_a_permutation(cloud):
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(graph, orient(np.arange(len(cloud)), "high"), ScoreParams())
    selection = select_coreset(graph, scores, SelectParams(rate=0.0))
    assert sorted(selection.rows) == list(range(len(cloud)))
    assert selection.kept.all()


def test_without_weights_the_hardest_are_picked_first(cloud):
    graph = build_graph(cloud, GraphParams())
    difficulty = np.random.default_rng(0).random(len(cloud))
    scores = score_rows(graph, orient(difficulty, "high"), ScoreParams(gamma_forward=1e9))
    selection = select_coreset(graph, scores, SelectParams(keep=50, gamma_reverse=1e9))
    np.testing.assert_array_equal(selection.rows, np.argsort(-difficulty)[:50])


def test_a_twin_comes_late_under_full_suppression(two_clusters):
    vectors, difficulty = two_clusters
    points = np.vstack([vectors, vectors])
    graph = build_graph(points, GraphParams(n_neighbors=5))
    scores = score_rows(graph, orient(np.tile(difficulty, 2), "high"), ScoreParams())
    selection = select_coreset(graph, scores, SelectParams(keep=10, gamma_reverse=0.0))
    assert len(set(selection.rows % 60)) == 10


def test_clamped_and_signed_part_only_after_the_first_negative_pick(cloud):
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(
        graph, orient(np.random.default_rng(0).random(len(cloud)), "high"), ScoreParams()
    )
    both = [
        select_coreset(graph, scores, SelectParams(rate=0.1, gamma_reverse=0.1, messages=messages))
        for messages in ("signed", "clamped")
    ]
    first = int((both[0].scores < 0).argmax())
    assert 0 < first < len(both[0].rows)
    np.testing.assert_array_equal(both[0].rows[: first + 1], both[1].rows[: first + 1])
    assert not np.array_equal(both[0].rows, both[1].rows)


def test_random_ties_depend_on_the_seed_and_nothing_else(cloud):
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(graph, orient(np.ones(len(cloud)), "high"), ScoreParams(gamma_forward=1e9))
    picked = [
        select_coreset(graph, scores, SelectParams(keep=20, seed=seed, gamma_reverse=1e9)).rows
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(picked[0], picked[1])
    assert not np.array_equal(picked[0], picked[2])


def test_wishes_that_contradict_are_refused(cloud):
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(
        graph, orient(np.arange(len(cloud)), "high"), ScoreParams(prune_hardest=0.1)
    )
    row = np.array([5])
    with pytest.raises(ParameterError, match="row 5 is excluded as well"):
        select_coreset(graph, scores, SelectParams(keep=9), wishes=Wishes(row, row))
    hardest = Wishes(np.array([199]), np.empty(0, np.int64))
    kept = select_coreset(graph, scores, SelectParams(keep=9), wishes=hardest).rows
    assert kept[0] == 199  # the cutoff took it out, but it was asked for
    with pytest.raises(ParameterError, match="only 180 may be"):
        select_coreset(graph, scores, SelectParams(keep=181))


def test_lengths_must_agree(cloud):
    graph = build_graph(cloud, GraphParams())
    other = build_graph(cloud[:50], GraphParams())
    scores = score_rows(other, orient(np.arange(50), "high"), ScoreParams())
    with pytest.raises(InputError, match="50 scores for 200 rows"):
        select_coreset(graph, scores, SelectParams(keep=9))


def test_progress_counts_the_picks_up_to_the_budget(cloud, monkeypatch):
    monkeypatch.setattr("d2cli.stages.selection.PICKS_A_PIECE", 8)
    monkeypatch.setattr("d2cli.stages.selection.LEAST_BATCH", 200)
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(graph, orient(np.arange(200), "high"), ScoreParams())
    seen = []

    watched = select_coreset(
        graph, scores, SelectParams(keep=30), on_progress=lambda *told: seen.append(told)
    )

    assert seen == [("selecting", done, 30) for done in (8, 16, 24, 30)]
    unwatched = select_coreset(graph, scores, SelectParams(keep=30))
    np.testing.assert_array_equal(watched.rows, unwatched.rows)
    np.testing.assert_array_equal(watched.scores, unwatched.scores)


def test_few_rows_are_weighed_anew_though_negative_picks_raise_others(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 2)).astype(np.float32)
    graph = build_graph(points, GraphParams(n_neighbors=8))
    scores = score_rows(graph, orient(rng.random(4000), "high"), ScoreParams())
    scores = replace(scores, score=scores.score - 9)
    batches = []
    weigh = selecting._weights_of
    monkeypatch.setattr(selecting, "LEAST_BATCH", 128)
    monkeypatch.setattr(
        selecting, "_weights_of", lambda task, rows: batches.append(len(rows)) or weigh(task, rows)
    )

    selection = select_coreset(graph, scores, SelectParams(keep=2000, gamma_reverse=0.1))

    assert (selection.scores < 0).sum() > 1000
    assert sum(batches) < 8 * 4000
    monkeypatch.setattr(selecting, "LEAST_BATCH", 4000)
    at_once = select_coreset(graph, scores, SelectParams(keep=2000, gamma_reverse=0.1))
    np.testing.assert_array_equal(selection.rows, at_once.rows)


def test_an_interrupt_between_two_pieces_ends_the_selection(cloud, monkeypatch):
    monkeypatch.setattr("d2cli.stages.selection.PICKS_A_PIECE", 8)
    monkeypatch.setattr("d2cli.stages.selection.LEAST_BATCH", 200)
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(graph, orient(np.arange(200), "high"), ScoreParams())
    seen = []

    def interrupt(phase, done, total):
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        select_coreset(graph, scores, SelectParams(keep=30), on_progress=interrupt)

    assert seen == [8]


def test_a_row_picked_twice_is_refused():
    with pytest.raises(ValueError, match="a row was selected twice"):
        Selection(np.array([2, 0, 2]), np.zeros(3), 4, 1.0, 1.0, None, (3,))
