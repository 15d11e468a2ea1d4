"""Streams as arrays: one window is the offline selection, and what is remembered is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import d2cli
from d2cli.errors import InputError
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.stages.gap import overlap
from d2cli.stages.radii import estimate_radius, merge_met, scale_to
from d2cli.stages.sample import Sample, lots
from d2cli.stages.score import Scores
from d2cli.stages.streaming import StreamParams, absorb, empty_coreset, steady
from d2cli.stages.vectors import as_vectors


def params_of(budget, window, *, k=10, direction="high", cut=0.0, **select):
    return StreamParams(
        graph=GraphParams(n_neighbors=k),
        score=ScoreParams(prune_hardest=cut, ties=select.get("ties", "random")),
        select=SelectParams(keep=budget, **select),
        window=window,
        direction=direction,
    )


def stream(vectors, values, params, *, include=(), n_threads=1):
    """Return the coreset after all windows; ``include`` are row numbers."""
    coreset = empty_coreset(vectors.shape[1], np.float32, params)
    for start in range(0, len(vectors), params.window):
        part = slice(start, start + params.window)
        numbers = [*coreset.rows.tolist(), *range(len(vectors))[part]]
        places = [numbers.index(row) for row in include if row in numbers]
        coreset, _ = absorb(
            coreset,
            as_vectors(vectors[part], "l2"),
            np.asarray(values[part], np.float64),
            params,
            include=np.array(places, np.int64),
            n_threads=n_threads,
        )
    return coreset


def ranked(coreset):
    return coreset.rows[np.argsort(coreset.rank)]


@pytest.fixture(scope="module")
def sentences(request):
    from conftest import SAMPLE_DATA

    vectors = np.load(SAMPLE_DATA / "embeddings.npy").astype(np.float32)
    return vectors, np.load(SAMPLE_DATA / "aum.npy").astype(np.float64)


@pytest.mark.parametrize("cut", [0.0, 0.2, "auto"])
def test_one_window_is_the_offline_selection(sentences, cut):
    vectors, aum = sentences
    offline = d2cli.prune(vectors, aum, keep=200, harder="low", prune_hardest=cut)
    for window in (2000, 9999):
        found = stream(vectors, aum, params_of(200, window, direction="low", cut=cut))
        np.testing.assert_array_equal(ranked(found), offline)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    budget=st.integers(1, 60),
    k=st.integers(1, 12),
    grid=st.booleans(),
)
def test_one_window_is_the_offline_selection_of_any_rows(seed, n, budget, k, grid):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3)).astype(np.float32)
    if grid:  # twins and ties
        vectors = np.round(vectors)
        if not np.ptp(vectors, axis=0).any():
            vectors[:, 0] = np.arange(n)
    values = rng.integers(0, 4, n).astype(float) if grid else rng.normal(size=n)
    keep = min(budget, n)
    graph = d2cli.graph(vectors, n_neighbors=k)
    scores = d2cli.score(graph, values, rate=1 - keep / n)
    offline = d2cli.select(scores, graph, keep=keep)
    found = stream(vectors, values, params_of(budget, n, k=k))
    np.testing.assert_array_equal(ranked(found), offline.rows)
    np.testing.assert_array_equal(found.score_at_pick[np.argsort(found.rank)], offline.scores)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 80),
    budget=st.integers(1, 40),
    window=st.integers(1, 40),
    cut=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_a_stream_keeps_its_budget_of_rows_that_it_saw(seed, n, budget, window, cut):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    values = rng.normal(size=n)
    found = stream(vectors, values, params_of(budget, window, k=5, cut=cut))
    assert len(found) == min(budget, n)
    assert (np.diff(found.rows) > 0).all()
    assert sorted(found.rank) == list(range(len(found)))
    np.testing.assert_array_equal(found.vectors, vectors[found.rows])
    np.testing.assert_array_equal(found.values, values[found.rows])
    assert found.n_seen == n
    assert found.admitted - found.evicted == len(found)
    assert found.peak_rows <= min(budget + window, n)
    assert np.isfinite(found.score).all()
    if budget >= n:
        np.testing.assert_array_equal(found.rows, np.arange(n))


def test_threads_change_nothing(sentences):
    vectors, aum = sentences
    params = params_of(100, 300, direction="low", cut="auto")
    one, four = (stream(vectors, aum, params, n_threads=n) for n in (1, 4))
    for name in ("rows", "rank", "near", "met", "sums", "score_at_pick"):
        np.testing.assert_array_equal(getattr(one, name), getattr(four, name))


def test_kept_rows_remember_the_nearest_of_all_rows_that_they_met(cloud):
    # An oracle: all rows from a row's own window on, and those held when it came.
    params = params_of(20, 40, k=4)
    coreset, held = empty_coreset(6, np.float32, params), {}
    for start in range(0, 200, 40):
        before = coreset.rows
        coreset, _ = absorb(coreset, cloud[start : start + 40], np.ones(40), params)
        new = range(start, start + 40)
        held = {row: met | set(new) for row, met in held.items()}
        held |= {row: set(before.tolist()) | set(new) for row in new}
        held = {row: held[row] for row in coreset.rows.tolist()}
        for at, (row, met) in enumerate(held.items()):
            others = [j for j in met if j != row]
            away = np.sqrt(((cloud[others].astype(float) - cloud[row]) ** 2).sum(axis=1))
            np.testing.assert_allclose(coreset.near[at], np.sort(away)[:4], rtol=1e-6)
            assert coreset.met[at] == len(met)


def test_forward_sums_are_means_over_windows_and_of_what_is_expected():
    difficulty, pool = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, True, False])
    gathered = np.array([2.0, 4.0, 9.0, 0.0])  # median 4 and mean 5 in the pool
    scores = Scores(difficulty, difficulty + gathered, pool, 1.0, 1.0, "high", 0.0)
    sums, windows = np.array([3.0, 0.0, 0.0, 7.0]), np.array([2, 0, 0, 5])
    found, sums, windows = steady(scores, sums, windows, np.array([0.75, 0.5, 1.0, 0.5]))
    np.testing.assert_array_equal(sums, [3.5, 1.0, 2.25, 7.0])
    np.testing.assert_array_equal(windows, [3, 1, 1, 5])
    # PRIOR is 2: half a window of the mean for the first row, one for the second, none for the
    # third, which met all; the last is not in the pool.
    expected = [1 + (4 * 3.5 + 0.5 * 5) / 3.5, 2 + (4 * 1 + 5) / 2, 3 + 9, 4]
    np.testing.assert_allclose(found.score, expected)


def test_the_radius_is_the_kth_distance_for_a_row_that_met_all():
    near = np.array([[1, 2, 4, 8], [1, 1, 1, np.inf]], np.float32)
    np.testing.assert_array_equal(estimate_radius(near, np.ones(2)), [8, np.inf])
    np.testing.assert_array_equal(scale_to(near, np.array([4, np.inf], np.float32))[0], near[0] / 2)


def test_the_radius_of_a_sample_is_that_of_all_rows_on_average():
    # 4,000 rows; a row that met a quarter estimates the distance to its 8th of all neighbours.
    rng = np.random.default_rng(0)
    points = rng.random((4000, 2))
    true, guessed, few = [], [], []
    for centre in range(200):
        away = np.sort(np.sqrt(((points - points[centre]) ** 2).sum(axis=1)))[1:]
        met = rng.permutation(away)
        true.append(away[7])
        guessed.append(np.sort(met[:1000])[:8])
        few.append(np.sort(met[:100])[:8])
    share = np.full(200, 1000 / 4000)
    assert np.mean(estimate_radius(np.float32(guessed), share)) == pytest.approx(
        np.mean(true), rel=0.1
    )
    share = np.full(200, 100 / 4000)  # less than one of the eight was met
    assert np.mean(estimate_radius(np.float32(few), share)) == pytest.approx(
        np.mean(true), rel=0.35
    )


def test_the_nearest_met_are_merged_with_new_rows_only(cloud):
    graph = d2cli.graph(cloud[:50], n_neighbors=3)
    near = np.full((10, 3), 0.5, np.float32)
    merged = merge_met(near, graph, 10)
    for i in range(10):
        new = graph.distances[i][graph.neighbors[i] >= 10]
        np.testing.assert_array_equal(merged[i], np.sort([0.5] * 3 + list(new))[:3])


def test_a_stream_is_nearer_to_the_offline_selection_than_a_random_one(sentences):
    vectors, aum = sentences
    order = np.random.default_rng(1).permutation(2000)
    offline = d2cli.prune(vectors[order], aum[order], keep=200, harder="low", prune_hardest="auto")
    found = stream(vectors[order], aum[order], params_of(200, 400, direction="low", cut="auto"))
    assert overlap(found.rows, offline) > 0.17  # a random tenth: 0.10, with deviation 0.02


def test_included_rows_stay_and_come_first_in_their_order(sentences):
    vectors, aum = sentences
    include = [1999, 3, 700]
    found = stream(vectors, aum, params_of(50, 400, direction="low"), include=include)
    assert ranked(found)[:3].tolist() == include
    assert len(found) == 50


def test_the_hardest_so_far_are_not_kept():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(3000, 4)).astype(np.float32)
    values = rng.permutation(3000).astype(float)
    found = stream(vectors, values, params_of(100, 250, cut=0.2))
    # The sample holds all 3,000, so the cut is exact: the 600 hardest.
    assert found.values.max() < 2400


def test_the_cutoff_goes_by_a_sample_where_there_are_too_many_rows(monkeypatch):
    monkeypatch.setattr("d2cli.stages.streaming.SAMPLED", 500)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(4000, 4)).astype(np.float32)
    for values in (rng.random(4000), rng.integers(0, 3, 4000).astype(float)):
        found = stream(vectors, values, params_of(100, 400, cut=0.2))
        assert len(found.sample.rows) == 500
        allowed = np.quantile(values, 0.8)  # of 500 sampled, within three deviations: 0.054
        assert found.values.max() <= max(np.quantile(values, 0.86), allowed)


def test_a_sample_does_not_depend_on_how_rows_come():
    values = np.random.default_rng(0).random(5000)
    rows = np.arange(5000)
    one = Sample.empty(300, 7).add(rows, values)
    two = Sample.empty(300, 7)
    for start in range(0, 5000, 77):
        two = two.add(rows[start : start + 77], values[start : start + 77])
    np.testing.assert_array_equal(one.rows, two.rows)
    np.testing.assert_array_equal(one.values, values[one.rows])
    least = np.sort(np.argsort(lots(rows, 7), kind="stable")[:300])
    np.testing.assert_array_equal(one.rows, least)
    assert abs(one.rows.mean() - 2500) < 4 * 5000 / np.sqrt(12 * 300)
    assert not np.array_equal(one.rows, Sample.empty(300, 8).add(rows, values).rows)


def test_difficulties_beyond_float64_are_refused():
    values = np.array([1e308, -1e308, 0.0])
    with pytest.raises(InputError, match="overflow"):
        stream(np.eye(3, dtype=np.float32), values, params_of(1, 3))
