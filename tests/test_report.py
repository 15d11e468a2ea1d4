"""Figures of the report against counts over a dense matrix."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import undirected_edges

from d2cli.files.reports import escape, to_markdown
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.stages.baseline import random_selection
from d2cli.stages.difficulty import orient
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.report import QUANTILES, Way, cover, histogram, summarize, weigh, weight_warnings
from d2cli.stages.score import score_rows
from d2cli.stages.selection import select_coreset


@pytest.fixture
def picked(cloud):
    rng = np.random.default_rng(0)
    labels = group_by(rng.choice(["a", "b", "c"], len(cloud), p=[0.6, 0.3, 0.1]))
    graph = build_graph(cloud, GraphParams(n_neighbors=4))
    scores = score_rows(graph, orient(rng.random(len(cloud)), "low"), ScoreParams(rate=0.8))
    selection = select_coreset(graph, scores, SelectParams(rate=0.8), groups=labels)
    return graph, scores, selection


def summary_of(graph, scores, selection):
    return summarize(
        graph,
        scores,
        selection,
        candidate=scores.pool,
        n_included=0,
        n_excluded=0,
        kernel="gaussian",
        score_kernel="gaussian",
        seed=0,
    )


def slow_cover(graph, kept):
    edges = undirected_edges(graph.neighbors, graph.distances)
    nearest = [
        min([d for j, d in near.items() if kept[j]], default=None) for near in edges.values()
    ]
    out = []
    for rows in (np.flatnonzero(~kept), np.flatnonzero(kept)):
        found = [nearest[i] for i in rows if nearest[i] is not None]
        out += [len(found) / len(rows) if len(rows) else None, np.mean(found) if found else None]
    return out


def test_coverage_equals_the_slow_count(picked):
    graph, _, selection = picked
    fast = list(vars(cover(graph, selection.kept)).values())
    np.testing.assert_allclose(fast, slow_cover(graph, selection.kept), rtol=1e-6)


def test_coverage_of_everything_has_no_dropped_rows(picked):
    graph = picked[0]
    figures = cover(graph, np.ones(200, dtype=bool))
    assert figures.dropped_covered is None
    assert figures.dropped_distance is None
    assert figures.kept_touching == 1


def test_random_figures_are_the_mean_of_three_seeded_selections(picked):
    graph, scores, selection = picked
    drawn = [
        random_selection(scores.pool, selection.groups, selection.budgets, seed=seed)
        for seed in range(3)
    ]
    for kept in drawn:
        counts = np.bincount(selection.groups.codes[kept])
        assert tuple(counts) == selection.budgets
    expected = np.mean([slow_cover(graph, kept) for kept in drawn], axis=0)
    figures = summary_of(*picked)["random"]["coverage"]
    np.testing.assert_allclose(list(figures.values()), expected, rtol=1e-6)


def test_group_counts_before_and_after(picked):
    _, _, selection = picked
    for g, row in enumerate(summary_of(*picked)["groups"]):
        members = selection.groups.codes == g
        assert row["rows"] == members.sum()
        assert row["kept"] == (members & selection.kept).sum() == selection.budgets[g]
        assert row["share"] == members.mean()


def test_histogram_counts_every_row_once():
    values = np.array([0.0, 0.1, 0.5, 1.0, 1.0])
    kept = np.array([True, False, True, False, True])
    counts = histogram(values, kept)
    assert sum(counts["all"]) == 5
    assert counts["all"][0] == 1
    assert counts["all"][-1] == 2
    np.testing.assert_array_equal(
        counts["all"], np.histogram(values, bins=np.array(counts["edges"]))[0]
    )
    assert (np.add(counts["kept"], counts["dropped"]) == counts["all"]).all()


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e300])
def test_histogram_of_one_value_is_finite(value):
    counts = histogram(np.full(4, value), np.array([True, False, False, False]))
    assert sum(counts["all"]) == 4
    assert np.isfinite(counts["edges"]).all()
    assert np.all(np.diff(counts["edges"]) > 0)


def test_negative_picks_are_counted(cloud):
    graph = build_graph(cloud, GraphParams())
    scores = score_rows(graph, orient(np.arange(200), "high"), ScoreParams())
    selection = select_coreset(graph, scores, SelectParams(rate=0.1, gamma_reverse=0.1))
    picks = summary_of(graph, scores, selection)["picks"]
    assert picks["negative_share"] == np.mean(selection.scores < 0) > 0
    assert selection.scores[picks["first_negative_rank"]] < 0
    assert (selection.scores[: picks["first_negative_rank"]] >= 0).all()


def test_weights_that_are_all_zero_or_one_are_warned_about(cloud):
    graph = build_graph(cloud * 1000, GraphParams())
    scores = score_rows(graph, orient(np.arange(200), "high"), ScoreParams.from_preset("paper"))
    selection = select_coreset(graph, scores, SelectParams.from_preset("paper", rate=0.5))
    warnings = summary_of(graph, scores, selection)["warnings"]
    assert len(warnings) == 2
    assert "of the forward weights are nearly 0" in warnings[0]
    assert "--bandwidth auto" in warnings[1]
    fine = {"near_0": 0.5, "near_1": 0.0}
    assert weight_warnings({"forward": fine, "reverse": fine}) == []


@given(
    st.lists(st.floats(0, 4, width=32), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.3, 50.0]),
    st.sampled_from(["gaussian", "exponential"]),
)
def test_weights_are_described_as_numpy_describes_them_all(distances, gamma, kernel):
    way = Way(gamma=gamma, bandwidth=0.7, kernel=kernel)
    other = Way(gamma=1.0, bandwidth=2.0, kernel="gaussian")
    distances = np.array(distances, np.float32)

    found = weigh(distances, {"forward": way, "reverse": other})["forward"]

    weights = way.weights(distances)
    quantiles = list(found["quantiles"].values())
    expected = [weights.mean(), *np.quantile(weights, QUANTILES)]
    np.testing.assert_allclose(quantiles, expected, rtol=1e-14, atol=1e-300)
    assert (found["near_0"], found["near_1"]) == ((weights < 0.01).mean(), (weights > 0.99).mean())


def test_without_edges_there_are_no_quantiles():
    way = Way(gamma=2.0, bandwidth=1.0, kernel="gaussian")
    assert weigh(np.empty(0, np.float32), {"forward": way}) == {
        "forward": {"gamma": 2.0, "quantiles": None, "near_0": 0.0, "near_1": 0.0}
    }


def test_a_summary_is_plain_json(picked):
    assert json.loads(json.dumps(summary_of(*picked), allow_nan=False))["rows"]["kept"] == 40


def test_markdown_escapes_text_from_the_data(picked):
    assert escape("<b>*x*|`[a](b)`") == r"&lt;b&gt;\*x\*\|\`\[a\](b)\`"
    report = {
        **summary_of(*picked),
        "key": "k",
        "digest": "d",
        "versions": {},
        "stages": [],
        "parameters": {"graph": {}, "select": {"method": "d2"}},
    }
    report["difficulty"]["name"] = "<script>|x"
    report["groups"][0]["name"] = "a|b<i>"
    text = to_markdown(report)
    assert "<script>" not in text
    assert r"a\|b&lt;i&gt;" in text
    assert "Kept 40 of 200 rows (pruning rate 0.80)" in text
