"""The forward pass against the slow sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import forward, undirected_edges

from d2cli.errors import InputError, ParameterError
from d2cli.params import GraphParams, ScoreParams
from d2cli.stages import messages
from d2cli.stages.cutoff import prune_hardest
from d2cli.stages.difficulty import orient
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.kernel import edge_weights, median_distance
from d2cli.stages.score import pass_forward, score_rows


def graph_of(vectors, k=4):
    return build_graph(np.asarray(vectors, dtype=np.float32), GraphParams(n_neighbors=k))


def edges_of(graph):
    return undirected_edges(graph.neighbors, graph.distances)


@pytest.fixture
def triangle():
    """Places 3, 4 and 5 apart."""
    return graph_of([[0, 0], [3, 0], [0, 4]], k=2)


def test_forward_matches_the_dense_formula(triangle):
    difficulty = np.array([1.0, 2.0, 4.0])
    distance = np.array([[0, 3, 4], [3, 0, 5], [4, 5, 0]])
    weights = np.exp(-0.1 * distance**2) * (distance > 0)
    params = ScoreParams(gamma_forward=0.1, bandwidth=1.0)

    scores = score_rows(triangle, orient(difficulty, "high"), params)

    np.testing.assert_allclose(scores.score, difficulty + weights @ difficulty, rtol=1e-15)
    assert (scores.n_samples, scores.gamma_forward, scores.bandwidth) == (3, 0.1, 1.0)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    gamma=st.sampled_from([0.0, 0.25, 1.0, 1e6]),
    kernel=st.sampled_from(["gaussian", "exponential"]),
    bandwidth=st.sampled_from(["auto", 1.0, 0.3]),
    rounds=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_forward_equals_the_slow_sum_bit_for_bit(seed, n, gamma, kernel, bandwidth, rounds):
    rng = np.random.default_rng(seed)
    graph = graph_of(rng.integers(0, 4, (n, 2)))
    difficulty = rng.random(n).round(1)
    params = ScoreParams(gamma_forward=gamma, kernel=kernel, bandwidth=bandwidth, rounds=rounds)
    scores = score_rows(graph, orient(difficulty, "high"), params)
    expected = difficulty
    for _ in range(rounds):
        expected = forward(
            edges_of(graph), expected, gamma, bandwidth=scores.bandwidth, kernel=kernel
        )
    np.testing.assert_array_equal(scores.score, expected)


def test_bandwidth_auto_is_the_median_of_positive_stored_distances():
    graph = graph_of([[0], [0], [1], [3], [7]], k=2)
    real = [d for d in graph.distances.ravel().tolist() if 0 < d < np.inf]
    assert median_distance(graph.distances) == np.median(real)
    assert median_distance(np.zeros((3, 2), np.float32)) == 1


def test_scores_do_not_depend_on_the_unit_of_distance(cloud):
    difficulty = orient(np.random.default_rng(0).random(len(cloud)), "high")
    one = score_rows(graph_of(cloud), difficulty, ScoreParams())
    # A power of two, so that float32 rounds the same.
    other = score_rows(graph_of(cloud * 1024), difficulty, ScoreParams())
    np.testing.assert_array_equal(one.score, other.score)


def test_padding_sends_nothing():
    graph = graph_of([[0.0], [1.0]], k=5)
    scores = score_rows(graph, orient([1, 2], "high"), ScoreParams(gamma_forward=0.0))
    assert scores.score.tolist() == [3, 3]


def test_reference_floor_counts_for_neighbors_only(triangle):
    params = ScoreParams.from_preset("reference")
    difficulty = np.array([-5.0, 0.0, 2.0])
    scores = score_rows(triangle, orient(difficulty, "high", shift=params.shift), params)
    expected = forward(edges_of(triangle), difficulty, 1.0, floor=1e-7, kernel="exponential")
    np.testing.assert_array_equal(scores.score, expected)
    assert scores.score[0] < -4.9


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(["row", "random"]))
@settings(max_examples=100, deadline=None)
def test_prune_hardest_takes_the_rounded_share_of_each_group(seed, fraction, ties):
    rng = np.random.default_rng(seed)
    groups = group_by(rng.integers(0, 4, 40))
    difficulty = rng.integers(0, 5, 40).astype(float)
    order = np.arange(40) if ties == "row" else rng.permutation(40)
    pool = prune_hardest(difficulty, fraction, groups=groups, order=order.astype(np.int32))
    place = np.argsort(order)
    for rows in groups.rows():
        cut = rows[~pool[rows]]
        assert len(cut) == int(np.floor(fraction * len(rows) + 0.5))
        ranked = sorted(rows, key=lambda i: (-difficulty[i], place[i]))
        assert sorted(cut) == sorted(ranked[: len(cut)])


def test_rows_out_of_the_pool_neither_send_nor_receive(cloud):
    graph = graph_of(cloud)
    difficulty = np.random.default_rng(1).random(len(cloud))
    params = ScoreParams(prune_hardest=0.2, gamma_forward=0.5, bandwidth=1.0)
    scores = score_rows(graph, orient(difficulty, "high"), params)
    assert (~scores.pool).sum() == 40
    assert difficulty[~scores.pool].min() > difficulty[scores.pool].max()
    expected = forward(edges_of(graph), difficulty, 0.5, pool=scores.pool)
    np.testing.assert_array_equal(scores.score, expected)
    np.testing.assert_array_equal(scores.score[~scores.pool], difficulty[~scores.pool])


def test_prune_hardest_uses_the_groups_of_the_graph(cloud):
    labels = group_by(np.arange(len(cloud)) % 2)
    graph = build_graph(cloud, GraphParams(n_neighbors=3), groups=labels)
    difficulty = np.arange(len(cloud), dtype=float) * (np.arange(len(cloud)) % 2)
    scores = score_rows(graph, orient(difficulty, "high"), ScoreParams(prune_hardest=0.1))
    assert np.bincount(labels.codes[~scores.pool]).tolist() == [10, 10]


def test_lengths_must_agree(triangle):
    with pytest.raises(InputError, match="2 difficulties for 3 rows"):
        score_rows(triangle, orient([1, 2], "high"), ScoreParams())


def test_pruning_everything_is_refused(triangle):
    with pytest.raises(ParameterError, match="leaves no row"):
        score_rows(triangle, orient([1, 2, 3], "high"), ScoreParams(prune_hardest=1.0))


def test_sums_that_overflow_are_refused(triangle):
    huge = orient([1e308, 1e308, 1e308], "high")
    with pytest.raises(InputError, match="overflow"):
        score_rows(triangle, huge, ScoreParams(gamma_forward=0.0))


@pytest.mark.parametrize(("n", "links"), [(1, 0), (3, 2)])
def test_scores_are_refused_where_all_that_rows_can_lose_would_overflow(n, links):
    graph = graph_of([[0, 0], [3, 0], [0, 4]][:n], k=2)
    params = ScoreParams(gamma_forward=1e9)  # of which no message is left
    room = np.finfo(float).max / (2 + links)

    fits = score_rows(graph, orient(np.full(n, room), "high"), params)
    assert fits.score.tolist() == [room] * n
    with pytest.raises(InputError, match="overflow"):
        score_rows(graph, orient(np.full(n, room * 1.001), "high"), params)


def test_the_largest_sum_is_held_against_overflow():
    graph, params = graph_of([[0], [1], [10]], k=1), ScoreParams(gamma_forward=0.0)
    most = np.finfo(float).max / 12.001  # the row in the middle gets 3 of it, and has 2 edges

    assert score_rows(graph, orient([most] * 3, "high"), params).score.argmax() == 1
    with pytest.raises(InputError, match="overflow"):
        score_rows(graph, orient([most * 1.001] * 3, "high"), params)


def test_difficulties_that_messages_bring_near_zero_are_held_against_overflow_too():
    graph = graph_of([[0, 0], [0.03, 0], [0, 0.04]], k=2)
    params = ScoreParams.from_preset("reference")
    most = np.finfo(float).max
    values = np.array([-most / 4 * 1.001, most / 8, most / 8])
    scored = values + np.exp(-np.array([0.07, 0.05, 0.05])) * [most / 4, most / 8, most / 8]
    assert np.abs(scored).max() < most / 4

    with pytest.raises(InputError, match="overflow"):
        score_rows(graph, orient(values, "high", shift=params.shift), params)


@given(seed=st.integers(0, 2**32 - 1), at_once=st.integers(1, 60), rounds=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_edges_weighed_in_pieces_give_the_same_scores(seed, at_once, rounds):
    rng = np.random.default_rng(seed)
    graph = graph_of(rng.integers(0, 6, (25, 2)))
    difficulty, pool = rng.random(25), rng.random(25) < 0.8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "EDGES_AT_ONCE", at_once)
        score = pass_forward(
            graph.adjacency, difficulty, weigh=np.float64, pool=pool, rounds=rounds
        )

    expected = difficulty
    for _ in range(rounds):
        sums = [
            sum((near[j] * expected[j] for j in sorted(near) if pool[i] and pool[j]), 0.0)
            for i, near in edges_of(graph).items()
        ]
        expected = expected + np.array(sums, dtype=float)
    np.testing.assert_allclose(score, expected, rtol=1e-14)
    assert not np.shares_memory(score, difficulty)


def test_one_round_is_passed_unless_told_otherwise(triangle):
    everyone = np.ones(3, dtype=bool)
    score = pass_forward(triangle.adjacency, np.ones(3), weigh=np.float64, pool=everyone)
    assert score.tolist() == [1 + 3 + 4, 1 + 3 + 5, 1 + 4 + 5]


@pytest.mark.parametrize("cut", [0.25, None])
def test_rows_that_are_not_available_are_not_there(cloud, cut):
    graph, available = graph_of(cloud), np.arange(len(cloud)) % 5 > 0
    difficulty = np.random.default_rng(2).random(len(cloud))
    params = ScoreParams(prune_hardest=cut, gamma_forward=0.5, bandwidth=1.0)
    scores = score_rows(graph, orient(difficulty, "high"), params, available=available)
    assert not scores.pool[~available].any()
    assert scores.pool.sum() == (120 if cut else 160)
    expected = forward(edges_of(graph), difficulty, 0.5, pool=scores.pool)
    np.testing.assert_array_equal(scores.score, expected)


def test_a_cutoff_by_probe_is_not_settled_here(triangle):
    with pytest.raises(ParameterError, match="probe needs vectors and labels"):
        score_rows(triangle, orient([1, 2, 3], "high"), ScoreParams(prune_hardest="probe"))


def test_weights_follow_the_kernels():
    distances = np.array([0, 1, 2, np.inf], dtype=np.float32)
    gaussian = edge_weights(distances, gamma=0.5, bandwidth=2.0, kernel="gaussian")
    np.testing.assert_allclose(gaussian, [1, np.exp(-0.125), np.exp(-0.5), 0])
    exponential = edge_weights(distances, gamma=0.5, bandwidth=2.0, kernel="exponential")
    np.testing.assert_allclose(exponential, [1, np.exp(-0.25), np.exp(-0.5), 0])


def test_prune_hardest_auto_takes_out_flipped_rows_and_says_why(cloud):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, 4))
    wrong = rng.random(3000) < 0.1
    aum = rng.normal(2, 1, 3000) - 8 * wrong
    scores = score_rows(graph_of(points), orient(aum, "low"), ScoreParams(prune_hardest="auto"))
    assert (~scores.pool[wrong]).mean() > 0.98
    assert scores.pool[~wrong].mean() > 0.98
    assert "a hump of their own" in scores.cut_reason


@pytest.mark.parametrize(("rate", "factor"), [(None, 0.8), (0.5, 0.8), (0.9, 0.81 * 1.81)])
def test_prune_hardest_auto_cuts_a_part_of_what_is_learned_wrong(cloud, rate, factor):
    rng = np.random.default_rng(1)
    aum = rng.normal(1.3, 1, 200)  # one hump; about a tenth is negative
    labels = group_by(np.arange(200) % 2)
    scores = score_rows(
        graph_of(cloud),
        orient(aum, "low"),
        ScoreParams(prune_hardest="auto", rate=rate),
        groups=labels,
    )
    share = (aum < 0).mean()
    for rows in labels.rows():
        cut = rows[~scores.pool[rows]]
        assert len(cut) == int(np.floor(share * factor * 100 + 0.5))
        assert aum[cut].max() <= aum[scores.pool & (labels.codes == labels.codes[rows[0]])].min()
    assert "one hump" in scores.cut_reason


def test_prune_hardest_auto_never_cuts_more_than_the_rate(cloud):
    aum = -np.arange(200.0) - 1
    params = ScoreParams(prune_hardest="auto", rate=0.3)
    scores = score_rows(graph_of(cloud), orient(aum, "low"), params)
    assert (~scores.pool).sum() == 60


def test_prune_hardest_auto_needs_a_margin(triangle):
    with pytest.raises(ParameterError, match="needs a margin"):
        score_rows(triangle, orient([1, 2, 3], "high"), ScoreParams(prune_hardest="auto"))


@pytest.mark.parametrize(
    ("given", "margin", "settled"),
    [
        ({"rate": 0.9}, True, "auto"),
        ({"rate": 0.9}, False, 0.0),
        ({}, True, 0.0),
        ({"rate": 0.9, "prune_hardest": 0.2}, True, 0.2),
        ({"rate": 0.9, "prune_hardest": "auto"}, False, "auto"),
    ],
)
def test_the_cutoff_of_a_margin_at_a_known_rate_is_auto(given, margin, settled):
    chosen = ScoreParams.from_preset("default", **given).for_score(margin=margin)
    assert chosen.prune_hardest == settled
    if "prune_hardest" not in given:
        paper = ScoreParams.from_preset("paper", **given)
        assert paper.for_score(margin=margin).prune_hardest == 0
