"""Graphs of vectors at any scale: offsets, tiny differences, rows far off."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import exact_neighbors

from d2cli.errors import InputError
from d2cli.params import GraphParams
from d2cli.stages.bounds import bound_norms
from d2cli.stages.exact import ExactIndex
from d2cli.stages.graph import build_graph
from d2cli.stages.space import build_space
from d2cli.stages.vectors import as_vectors

POWERS = st.integers(-45, 38)


@given(
    seed=st.integers(0, 2**32 - 1),
    scales=st.lists(POWERS, min_size=1, max_size=3),
    offsets=st.lists(st.none() | POWERS, max_size=2),
    wide=st.booleans(),
    k=st.integers(1, 8),
)
@example(seed=0, scales=[-41], offsets=[-29], wide=True, k=5)
@example(seed=1, scales=[-40], offsets=[0], wide=False, k=3)
@example(seed=2, scales=[-40, -43], offsets=[30], wide=True, k=4)
@example(seed=0, scales=[-45], offsets=[-29], wide=True, k=5)
@example(seed=3, scales=[-60], offsets=[0], wide=True, k=4)
@settings(max_examples=100, deadline=None)
def test_exact_graphs_equal_the_oracle_at_every_scale(seed, scales, offsets, wide, k):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, len(scales))) * 10.0 ** np.array(scales)
    constant = np.array([0.0 if power is None else 10.0**power for power in offsets])
    vectors = np.concatenate([vectors, np.tile(constant, (40, 1))], axis=1)
    with np.errstate(over="ignore"):
        vectors = vectors if wide else vectors.astype(np.float32)
    params = GraphParams(n_neighbors=k, backend="exact")
    with np.errstate(all="ignore"):
        largest = np.abs(vectors).max()
        apart = (vectors - vectors.mean(axis=0, dtype=np.float64))[:, : len(scales)]
    if largest > 1e37 or largest < 1e-30 or np.abs(apart).max() < 2.0**-136:
        with pytest.raises(InputError, match=r"holds a|holds no value|no two rows differ"):
            build_graph(as_vectors(vectors, "l2"), params)
        return
    graph = build_graph(as_vectors(vectors, "l2"), params)
    neighbors, distances = exact_neighbors(vectors, k)
    np.testing.assert_array_equal(graph.neighbors, neighbors)
    np.testing.assert_array_equal(graph.distances, distances)


def test_blocks_of_queries_know_of_equal_distances_too():
    """The search of a sample takes another way than that of all places."""
    rng = np.random.default_rng(4)
    vectors = np.stack([rng.normal(size=300) * 1e-44, np.ones(300)], axis=1)
    rows = np.arange(300)
    found, _ = ExactIndex(build_space(vectors, rows)).search(rows[:50].astype(np.int32), 4)
    np.testing.assert_array_equal(found, exact_neighbors(vectors, 4)[0][:50])


def test_rows_that_hardly_differ_are_refused_and_found_by_checks(d2, tmp_path):
    rng = np.random.default_rng(8)
    vectors = np.stack([rng.normal(size=50) * 1e-44, np.ones(50)], axis=1)
    np.save(tmp_path / "e.npy", vectors)
    code, _, err = d2("graph", tmp_path / "e.npy", "-o", tmp_path / "g.parquet")
    assert code == 3
    assert "e.npy" in err
    assert "no two rows differ by more than about 1e-41" in err
    assert not (tmp_path / "g.parquet").exists()
    code, out, _ = d2("check", tmp_path / "e.npy")
    assert code == 3
    assert "no two rows differ" in out
    np.save(tmp_path / "e.npy", np.ones((50, 2)))  # repeated rows are no such defect
    assert d2("graph", tmp_path / "e.npy", "-o", tmp_path / "g.parquet")[0] == 0


def test_ordinary_bounds_are_as_narrow_as_ever():
    points = np.random.default_rng(5).normal(size=(50, 8)).astype(np.float32)
    space = build_space(points, np.arange(50))
    assert space.rounding < 2.0**-250
    for one, other in zip(
        bound_norms(points).limits, bound_norms(points, rounding=space.rounding).limits, strict=True
    ):
        np.testing.assert_array_equal(one, other)


def clusters(n, dim, *, far, n_far, seed=0):
    """Twenty clusters, and ``n_far`` rows about ``far`` times as far away as they are."""
    rng = np.random.default_rng(seed)
    centers = 5 * rng.normal(size=(20, dim))
    vectors = centers[rng.integers(0, 20, n)] + rng.normal(size=(n, dim))
    rows = rng.choice(n, n_far, replace=False)
    vectors[rows] = 5 * far * rng.normal(size=(n_far, dim))
    return vectors.astype(np.float32)


def recall_of(graph, vectors, k):
    exact = build_graph(vectors, GraphParams(n_neighbors=k, backend="exact"))
    return float((graph.distances <= exact.distances[:, -1:]).mean())


@pytest.mark.parametrize(
    ("dim", "n_far", "far"),
    [(16, 1, 1e6), (16, 60, 1e3), (16, 60, 1e6), (160, 1, 1e4), (160, 60, 1e3), (160, 60, 1e6)],
)
def test_cells_reach_their_recall_beside_rows_far_off(dim, n_far, far):
    vectors = clusters(4000, dim, far=far, n_far=n_far)
    graph = build_graph(vectors, GraphParams(n_neighbors=8, backend="cells"), n_threads=2)
    assert graph.backend == "cells"
    assert graph.recall.reached
    assert graph.recall.sample_size == 1000
    assert recall_of(graph, vectors, 8) > 0.94  # what was measured is so


def test_cells_reach_their_recall_where_axes_hide_the_neighbors():
    vectors = clusters(4000, 160, far=1, n_far=1)
    one, three = (
        build_graph(vectors, GraphParams(n_neighbors=8, backend="cells"), n_threads=n)
        for n in (1, 3)
    )
    assert one.recall.reached
    assert recall_of(one, vectors, 8) > 0.94
    np.testing.assert_array_equal(one.neighbors, three.neighbors)


def test_cells_reach_their_recall_in_clusters_far_apart():
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(3000, 12)).astype(np.float32)
    vectors[1500:, 0] += 3e5
    graph = build_graph(vectors, GraphParams(n_neighbors=8, backend="cells"), n_threads=2)
    assert graph.recall.reached
    assert recall_of(graph, vectors, 8) > 0.94


def test_a_constant_column_takes_no_digits_from_the_others():
    vectors = np.random.default_rng(9).normal(size=(300, 3))
    vectors[:, 1] = 1e30 / 3  # whose mean is rounded
    space = build_space(vectors, np.arange(300))
    assert (space.block(slice(0, 300))[:, 1] == 0).all()
    assert space.scale > 0.1


def test_the_center_stays_the_mean_of_ordinary_rows_and_leaves_it_for_rows_far_off():
    rng = np.random.default_rng(7)
    vectors = rng.gamma(1, 1, size=(2000, 5))
    space = build_space(vectors, np.arange(2000))
    np.testing.assert_allclose(space.center, vectors.mean(axis=0), rtol=1e-12)
    vectors[7] = 1e6
    space = build_space(vectors, np.arange(2000))
    assert np.abs(space.center).max() < 3
