"""Several modalities in one graph, beside loops that a reader can check, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact_neighbors

from d2cli.errors import InputError, ParameterError
from d2cli.params import GraphParams
from d2cli.stages.fused import fuse, metric_for, side_by_side
from d2cli.stages.fused_distance import build_distance_graph, candidates_needed
from d2cli.stages.fused_exact import FusedSpace, sampled_bandwidths
from d2cli.stages.fusion import (
    as_modalities,
    concatenate,
    require_any,
    shares_of,
    unit_rows,
)
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by

N, K = 60, 4
FUSIONS = ("concat", "distance", "graphs")


def write_clip(n=N, seed=0):
    """Two modalities of n rows, of other widths and scales; rows 3 and 7 are equal in both."""
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(n, 6)), 100 * rng.normal(size=(n, 3)) + 50
    image[7], text[7] = image[3], text[3]
    return {"image": image.astype(np.float32), "text": text}


@pytest.fixture
def clip():
    return write_clip()


@pytest.fixture
def gaps():
    """The rows of the fixture that have a text, and those that have an image: together all."""
    rng = np.random.default_rng(1)
    state = rng.integers(0, 4, N)  # 0: no text, 1: no image
    return {"image": np.flatnonzero(state != 1), "text": np.flatnonzero(state != 0)}


def modalities_of(vectors, weights=None, *, metric="l2", rows=None):
    n = len(next(iter(vectors.values())))
    kept = {name: v if not rows else v[rows[name]] for name, v in vectors.items()}
    shares = shares_of(weights or dict.fromkeys(vectors, 1))
    return as_modalities(kept, shares, n, metric, rows=rows)


def build(fusion, vectors, weights=None, *, metric="l2", rows=None, groups=None, **params):
    made = metric_for(GraphParams(**{"n_neighbors": K, "metric": metric, **params}), fusion)
    modalities = modalities_of(vectors, weights, metric=made.metric, rows=rows)
    return fuse(modalities, fusion, made, groups=groups)


# --- oracles --------------------------------------------------------------------------------------


def tables(vectors, rows, metric):
    """{name: distances (n, n) as float64, NaN where one of the rows lacks the modality}."""
    out = {}
    for name, all_of_it in vectors.items():
        points = np.asarray(all_of_it, dtype=np.float64)
        if metric == "cosine":
            points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
        n = len(points)
        out[name] = np.full((n, n), np.nan)
        for i in range(n):
            for j in range(n):
                if rows is None or (i in rows[name] and j in rows[name]):
                    difference = points[i].astype(np.float64) - points[j]
                    out[name][i, j] = math.sqrt(float(difference @ difference))
    return out


def median_of_nearest(table, k, codes):
    """The median finite, positive distance to the k nearest of the same group."""
    near = []
    for i, row in enumerate(table):
        others = [row[j] for j in range(len(row)) if j != i and codes[i] == codes[j]]
        near += sorted(d for d in others if not math.isnan(d))[:k]
    near = np.array(near, dtype=np.float32)
    return float(np.median(near[near > 0].astype(np.float64))) if (near > 0).any() else 1.0


def fused_table(vectors, shares, k, *, rows=None, metric="l2", codes=None):
    """Distances (n, n) by the definition of "distance", infinity without a common modality."""
    found = tables(vectors, rows, metric)
    n = len(next(iter(found.values())))
    codes = np.zeros(n) if codes is None else codes
    h = {name: median_of_nearest(found[name], k, codes) for name in found}
    out = np.full((n, n), np.inf)
    for i in range(n):
        for j in range(n):
            common = [m for m in found if not math.isnan(found[m][i, j])]
            if common and codes[i] == codes[j]:
                square = sum(shares[m] * (found[m][i, j] / h[m]) ** 2 for m in common)
                out[i, j] = math.sqrt(square / sum(shares[m] for m in common))
    return out, h


def nearest_in(table, k):
    """The k nearest of each row by (float32 distance, row), padded."""
    n = len(table)
    neighbors, distances = np.full((n, k), -1), np.full((n, k), np.inf, dtype=np.float32)
    for i in range(n):
        near = sorted((np.float32(table[i, j]), j) for j in range(n) if j != i)
        near = [pair for pair in near if np.isfinite(pair[0])][:k]
        for c, (d, j) in enumerate(near):
            neighbors[i, c], distances[i, c] = j, d
    return neighbors, distances


def united(vectors, shares, k, rows=None, codes=None):
    """{i: {j: sqrt(-ln s_ij)}} of what row i lists, by the definition of "graphs"."""
    found = tables(vectors, rows, "l2")
    n = len(next(iter(found.values())))
    codes = np.zeros(n) if codes is None else codes
    lists, h = {}, {}
    for m, table in found.items():
        table = np.where(codes[:, None] == codes, np.nan_to_num(table, nan=np.inf), np.inf)
        lists[m], lengths = nearest_in(table, k)
        lengths = lengths[np.isfinite(lengths) & (lengths > 0)]
        h[m] = float(np.median(lengths.astype(np.float64))) if len(lengths) else 1.0
    out = {i: {} for i in range(n)}
    for i in range(n):
        for j in {int(j) for m in found for j in lists[m][i] if j >= 0}:
            both = [m for m in found if not math.isnan(found[m][i, j])]
            have = [m for m in both if j in lists[m][i] or i in lists[m][j]]
            s = sum(shares[m] * math.exp(-((found[m][i, j] / h[m]) ** 2)) for m in have)
            out[i][j] = math.sqrt(max(-math.log(s / sum(shares[m] for m in both)), 0.0))
    return out, h


# --- each fusion is its definition ----------------------------------------------------------------


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("gappy", [False, True])
def test_the_fused_distance_is_the_weighted_mean_of_scaled_squares(clip, gaps, metric, gappy):
    rows = gaps if gappy else None
    found = build("distance", clip, {"image": 1, "text": 0.5}, metric=metric, rows=rows)
    table, h = fused_table(clip, {"image": 2 / 3, "text": 1 / 3}, K, rows=rows, metric=metric)
    neighbors, distances = nearest_in(table, K)
    assert found.bandwidths == pytest.approx(h, rel=1e-6)
    np.testing.assert_array_equal(found.graph.neighbors, neighbors)
    np.testing.assert_allclose(found.graph.distances, distances, rtol=1e-6)


@pytest.mark.parametrize("gappy", [False, True])
def test_the_union_weighs_an_edge_by_the_graphs_that_have_it(clip, gaps, gappy):
    rows = gaps if gappy else None
    found = build("graphs", clip, {"image": 1, "text": 3}, rows=rows)
    expected, h = united(clip, {"image": 0.25, "text": 0.75}, K, rows)
    assert found.bandwidths == pytest.approx(h, rel=1e-6)
    assert found.graph.n_neighbors == max(map(len, expected.values())) <= 2 * K
    for i, near in expected.items():
        listed = [j for j in found.graph.neighbors[i].tolist() if j >= 0]
        lengths = found.graph.distances[i, : len(listed)]
        assert set(listed) == set(near)
        np.testing.assert_allclose(lengths, [near[j] for j in listed], rtol=1e-5, atol=1e-7)
        assert sorted(zip(lengths.tolist(), listed, strict=True)) == list(
            zip(lengths.tolist(), listed, strict=True)
        )
        assert np.isinf(found.graph.distances[i, len(listed) :]).all()


def test_concatenated_rows_are_unit_rows_times_root_of_share_by_bandwidth(clip):
    modalities = modalities_of(clip, {"image": 3, "text": 1}, metric="cosine")
    joined = concatenate(modalities, {"image": 0.5, "text": 2.0})
    assert joined.dtype == np.float32
    for i in range(N):
        image, text = clip["image"][i].astype(np.float64), clip["text"][i]
        row = [
            *(image / np.linalg.norm(image) * math.sqrt(0.75) / 0.5),
            *(text / np.linalg.norm(text) * math.sqrt(0.25) / 2.0),
        ]
        np.testing.assert_allclose(joined[i], row, rtol=1e-6, atol=1e-7)


def test_the_concatenation_is_an_ordinary_graph_of_these_rows(clip):
    found = build("concat", clip)
    joined = concatenate(modalities_of(clip, metric="cosine"), found.bandwidths)
    neighbors, distances = exact_neighbors(joined, K)
    np.testing.assert_array_equal(found.graph.neighbors, neighbors)
    np.testing.assert_allclose(found.graph.distances, distances, rtol=1e-6)


@pytest.mark.parametrize("fusion", ["distance", "graphs"])
@pytest.mark.parametrize("gappy", [False, True])
def test_within_searches_inside_groups(clip, gaps, fusion, gappy):
    codes = np.random.default_rng(2).integers(0, 3, N)
    codes[[0, 1]] = 3  # a group of two
    rows = gaps if gappy else None
    found = build(fusion, clip, rows=rows, groups=group_by(codes))
    half = {"image": 0.5, "text": 0.5}
    if fusion == "distance":
        table, _ = fused_table(clip, half, K, rows=rows, codes=codes)
        np.testing.assert_array_equal(found.graph.neighbors, nearest_in(table, K)[0])
    else:
        expected, _ = united(clip, half, K, rows, codes)
        listed = [set(row[row >= 0].tolist()) for row in found.graph.neighbors]
        assert listed == [set(expected[i]) for i in range(N)]


def test_bandwidths_of_many_rows_come_from_a_seeded_sample():
    vectors = {"a": np.random.default_rng(0).normal(size=(1500, 3))}
    modalities = modalities_of(vectors)
    found = sampled_bandwidths(modalities, 5, groups=None, seed=3)["a"]
    rows = np.sort(np.random.default_rng(3).choice(1500, 1000, replace=False))
    _, distances = exact_neighbors(vectors["a"], 5)
    assert found == np.median(distances[rows].astype(np.float64))
    assert found != sampled_bandwidths(modalities, 5, groups=None, seed=4)["a"]


# --- laws -----------------------------------------------------------------------------------------


def same(one, other):
    np.testing.assert_array_equal(one.graph.neighbors, other.graph.neighbors)
    np.testing.assert_array_equal(one.graph.distances, other.graph.distances)
    assert one.bandwidths == other.bandwidths


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_concat_is_distance_by_cosine_up_to_rounding(seed, weight, k):
    vectors, weights = write_clip(40, seed), {"image": weight, "text": 1}
    joined = build("concat", vectors, weights, n_neighbors=k)
    fused = build("distance", vectors, weights, metric="cosine", n_neighbors=k)
    assert joined.bandwidths == pytest.approx(fused.bandwidths, rel=1e-6)
    np.testing.assert_allclose(joined.graph.distances, fused.graph.distances, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_common_factor_of_all_weights_changes_nothing(clip, fusion):
    once = build(fusion, clip, {"image": 0.3, "text": 0.6})
    same(once, build(fusion, clip, {"image": 1, "text": 2}))
    same(once, build(fusion, clip, {"image": "0.7", "text": "1.4"}))
    assert shares_of({"b": 0.3, "a": 0.6}) == {"a": 2 / 3, "b": 1 / 3}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_order_of_the_modalities_changes_nothing(clip, fusion):
    third = np.random.default_rng(5).normal(size=(N, 2))
    one = build(fusion, {**clip, "sound": third}, {"image": 1, "text": 2, "sound": 3})
    same(one, build(fusion, {"sound": third, **clip}, {"text": 2, "sound": 3, "image": 1}))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_scale_of_a_modality_changes_nothing(clip, fusion):
    scaled = {"image": clip["image"] * np.float32(8), "text": clip["text"] / 4}
    one, other = build(fusion, clip), build(fusion, scaled)
    np.testing.assert_array_equal(one.graph.neighbors, other.graph.neighbors)
    np.testing.assert_array_equal(one.graph.distances, other.graph.distances)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_modality_has_the_neighbors_of_its_plain_graph(clip, fusion):
    alone = build(fusion, {"text": clip["text"]}, metric="cosine")
    points = modalities_of({"text": clip["text"]}, metric="cosine").each[0].vectors
    plain = build_graph(points, GraphParams(n_neighbors=K, metric="cosine"))
    np.testing.assert_array_equal(alone.graph.neighbors, plain.neighbors)
    scaled = plain.distances / alone.bandwidths["text"]
    np.testing.assert_allclose(alone.graph.distances, scaled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", ["distance", "graphs"])
def test_a_modality_twice_is_the_modality_once(clip, fusion):
    twice = build(fusion, {"a": clip["text"], "b": clip["text"]}, {"a": 1, "b": 3})
    once = build(fusion, {"a": clip["text"]})
    np.testing.assert_array_equal(twice.graph.neighbors, once.graph.neighbors)
    np.testing.assert_allclose(twice.graph.distances, once.graph.distances, rtol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_threads_change_nothing(clip, fusion):
    made = metric_for(GraphParams(n_neighbors=K), fusion)
    modalities = modalities_of(clip, metric=made.metric)
    one, two = (fuse(modalities, fusion, made, n_threads=n) for n in (1, 3))
    same(one, two)


def test_fused_distances_are_symmetric_to_the_bit(clip, gaps):
    modalities = modalities_of(clip, rows=gaps)
    space = FusedSpace(modalities, {"image": 0.3, "text": 70.0})
    left, right = (index.ravel() for index in np.indices((N, N)))
    table = space.distances(left, right).reshape(N, N)
    np.testing.assert_array_equal(table, table.T)
    assert np.all(np.diagonal(table) == 0)


def test_equal_rows_are_neighbors_at_distance_zero_however_many(clip):
    rng = np.random.default_rng(4)
    drawn = rng.integers(0, N, 3 * N)
    copies = {name: v[drawn] for name, v in clip.items()}
    found = build("distance", copies)
    table, _ = fused_table(copies, {"image": 0.5, "text": 0.5}, K)
    neighbors, distances = nearest_in(table, K)
    np.testing.assert_array_equal(found.graph.neighbors, neighbors)
    np.testing.assert_array_equal(found.graph.distances == 0, distances == 0)
    assert found.graph.n_duplicates == 3 * N - len(np.unique(copies["text"], axis=0))


def test_an_edge_far_beyond_underflow_has_a_finite_distance():
    rng = np.random.default_rng(0)
    far = rng.normal(size=(20, 2))
    far[0] += 1e6  # exp(-d**2) underflows for all its edges
    found = build("graphs", {"a": far, "b": far[::-1].copy()})
    assert np.isfinite(found.graph.distances[found.graph.neighbors >= 0]).all()
    assert found.graph.distances[0][found.graph.neighbors[0] >= 0].max() > 1e5


# --- approximate search ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["hnsw", "cells"])
@pytest.mark.parametrize("gappy", [False, True])
def test_approximate_search_reaches_its_measured_recall(backend, gappy):
    vectors = write_clip(1200)
    there = np.random.default_rng(3).random(1200) < 0.7
    rows = {"image": np.flatnonzero(~there | (np.arange(1200) % 3 > 0)), "text": there.nonzero()[0]}
    modalities = modalities_of(vectors, rows=rows if gappy else None)
    params = GraphParams(n_neighbors=K, backend=backend, recall=0.97)
    h = sampled_bandwidths(modalities, K, groups=None, seed=0)
    found, candidates, recalls = build_distance_graph(modalities, h, params, n_threads=2)
    all_pairs = GraphParams(n_neighbors=K, backend="exact")
    exact, none, no_graphs = build_distance_graph(modalities, h, all_pairs)
    assert set(recalls) == {"image", "text"}
    assert all(recall.reached for recall in recalls.values())
    assert no_graphs == {}
    hits = [np.isin(a, b).sum() for a, b in zip(found.neighbors, exact.neighbors, strict=True)]
    assert (found.backend, none, exact.backend) == (backend, 0, "exact")
    assert K < candidates < 200
    assert found.recall.reached
    assert found.recall.sample_size == 1000
    assert sum(hits) / exact.neighbors.size > 0.95
    same_edge = found.neighbors == exact.neighbors
    np.testing.assert_array_equal(found.distances[same_edge], exact.distances[same_edge])


@pytest.mark.parametrize("gappy", [False, True])
def test_candidates_needed_are_ranks_by_the_better_modality(clip, gaps, gappy):
    rows = gaps if gappy else None
    modalities = modalities_of(clip, rows=rows)
    sample = np.array([0, 3, 7, 11, 40])
    neighbors = build("distance", clip, rows=rows).graph.neighbors[sample]
    found = candidates_needed(modalities, sample, neighbors, 20)
    by_modality = [
        nearest_in(np.nan_to_num(t, nan=np.inf), N - 1)[0]
        for t in tables(clip, rows, "l2").values()
    ]
    for s, i in enumerate(sample):
        for c, j in enumerate(neighbors[s]):
            ranks = [list(lists[i]).index(j) + 1 for lists in by_modality if j in lists[i]]
            assert found[s, c] == min([21, *ranks])


def test_approximate_groups_join_what_each_finds():
    vectors, codes = write_clip(900), np.arange(900) % 3
    modalities = modalities_of(vectors)
    params = GraphParams(n_neighbors=K, backend="hnsw")
    h = sampled_bandwidths(modalities, K, groups=None, seed=0)
    found, _, recalls = build_distance_graph(modalities, h, params, groups=group_by(codes))
    assert recalls["text"].sample_size == 900
    assert np.all(codes[found.neighbors] == codes[:, None])
    assert found.recall.reached
    assert found.recall.sample_size == 900


# --- what is refused, and rows without a modality -------------------------------------------------


def test_concat_names_the_first_row_that_lacks_a_modality(clip, gaps):
    row = int(np.setdiff1d(np.arange(N), gaps["image"])[0])
    with pytest.raises(InputError, match=f"row {row} has no image") as caught:
        build("concat", clip, rows=gaps)
    assert "--fusion distance" in caught.value.hint


def test_a_row_without_any_modality_is_refused(clip):
    rows = {"image": np.arange(1, N), "text": np.r_[1:9, 10:N]}
    with pytest.raises(InputError, match=r"row 0 has no modality at all \(1 row in all\)"):
        require_any(rows, N)
    require_any({**rows, "sound": None}, N)
    found = build("distance", clip, rows=rows).graph  # as an ablation leaves modalities out
    assert np.all(found.neighbors[0] == -1)
    assert not np.any(found.neighbors == 0)


def test_bad_vectors_name_the_modality_and_the_row_of_the_data(clip, gaps):
    clip["text"][gaps["text"][4], 1] = np.nan
    with pytest.raises(InputError, match=f"^text: row {gaps['text'][4]} holds NaN"):
        modalities_of(clip, rows=gaps)
    with pytest.raises(InputError, match=r"^text: has 9 rows, expected 60"):
        modalities_of({"image": clip["image"], "text": np.ones((9, 2))})


def test_rows_with_too_few_others_are_padded():
    vectors = {"a": np.arange(6.0)[:, None], "b": np.arange(6.0)[:, None]}
    rows = {"a": np.array([0, 1]), "b": np.array([1, 2, 3, 4, 5])}
    found = build("distance", vectors, rows=rows).graph
    assert found.neighbors[0].tolist() == [1, -1, -1, -1]
    assert np.isinf(found.distances[0, 1:]).all()
    assert 0 in found.neighbors[1]


def test_concat_measures_by_cosine_alone():
    assert metric_for(GraphParams(), "concat").metric == "cosine"
    assert metric_for(GraphParams(), "distance").metric == "l2"
    params = GraphParams(metric="ip")
    with pytest.raises(ParameterError, match="metric ip has no effect"):
        metric_for(params, "concat")


def test_maps_and_probes_see_zeros_where_a_row_lacks_a_modality(clip, gaps):
    clip["image"][5] = 0
    seen = side_by_side(modalities_of(clip, rows=gaps), GraphParams(n_neighbors=K))
    assert seen.shape == (N, 9)
    assert np.all(seen[np.setdiff1d(np.arange(N), gaps["image"]), :6] == 0)
    assert np.all(seen[5, :6] == 0)
    lengths = np.linalg.norm(seen[gaps["text"], 6:], axis=1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-5)
    unit = unit_rows(modalities_of(clip, rows=gaps)).each[1].vectors
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
