"""The graph: exact and hnsw, twins, groups, padding, metrics, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact_neighbors

from d2cli.errors import InputError, ParameterError
from d2cli.params import GraphParams
from d2cli.stages import exact, pairs
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.vectors import as_vectors


def graph_of(vectors, *, metric="l2", groups=None, n_threads=1, **params):
    return build_graph(
        as_vectors(vectors, metric),
        GraphParams(metric=metric, **params),
        groups=groups,
        n_threads=n_threads,
    )


def assert_equals_oracle(graph, vectors):
    neighbors, distances = exact_neighbors(vectors, graph.n_neighbors)
    np.testing.assert_array_equal(graph.neighbors, neighbors)
    np.testing.assert_array_equal(graph.distances, distances)


@pytest.mark.parametrize("backend", ["exact", "hnsw", "cells", "fast", "auto"])
def test_small_graph_equals_the_oracle(cloud, backend):
    assert_equals_oracle(graph_of(cloud, backend=backend, n_neighbors=5, recall=1.0), cloud)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_exact_graph_of_points_on_a_grid_equals_the_oracle(seed, n, dim, k):
    # Few different places: most rows have twins, and most distances are ties.
    points = np.random.default_rng(seed).integers(0, 3, (n, dim)).astype(np.float32)
    assert_equals_oracle(graph_of(points, backend="exact", n_neighbors=k), points)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_blocks_of_pairs_do_not_change_the_answer(seed, n, block, n_threads):
    points = np.random.default_rng(seed).normal(size=(n, 3)).round(1).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BLOCK", block)
        assert_equals_oracle(graph_of(points, n_neighbors=4, n_threads=n_threads), points)


def test_places_too_many_to_be_paired_are_searched_in_strips(cloud, monkeypatch):
    monkeypatch.setattr(exact, "MOST_CANDIDATE_BYTES", 0)
    monkeypatch.setattr(exact, "PRODUCT_ROWS", 7)
    monkeypatch.setattr(exact, "PRODUCT_COLUMNS", 11)
    assert_equals_oracle(graph_of(cloud, backend="exact", n_neighbors=5), cloud)


@pytest.mark.parametrize("backend", ["exact", "hnsw", "cells"])
def test_all_rows_equal_gives_the_lowest_other_rows(backend):
    graph = graph_of(np.ones((50, 3)), backend=backend, n_neighbors=4)
    assert graph.neighbors[0].tolist() == [1, 2, 3, 4]
    assert graph.neighbors[2].tolist() == [0, 1, 3, 4]
    assert graph.neighbors[49].tolist() == [0, 1, 2, 3]
    assert not graph.distances.any()
    assert graph.n_duplicates == 49


@pytest.mark.parametrize("backend", ["exact", "hnsw", "cells"])
def test_every_row_four_times_has_its_three_twins_first(backend, cloud):
    points = np.tile(cloud, (4, 1))
    graph = graph_of(points, backend=backend, n_neighbors=6, recall=1.0)
    assert_equals_oracle(graph, points)
    assert (graph.distances[:, :3] == 0).all()


@pytest.mark.parametrize("backend", ["exact", "hnsw", "cells"])
@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_fewer_rows_than_neighbors_are_padded(backend, n):
    points = np.random.default_rng(n).normal(size=(n, 3))
    graph = graph_of(points, backend=backend, n_neighbors=5)
    assert_equals_oracle(graph, points)
    assert ((graph.neighbors >= 0).sum(axis=1) == min(5, n - 1)).all()


@pytest.mark.parametrize("backend", ["exact", "hnsw", "cells"])
def test_groups_keep_neighbors_inside(backend, cloud):
    labels = np.random.default_rng(1).integers(0, 5, len(cloud))
    labels[:2] = 9  # a group of two
    graph = graph_of(cloud, backend=backend, groups=group_by(labels), n_neighbors=4, recall=1.0)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        neighbors, distances = exact_neighbors(cloud[rows], 4)
        expected = np.where(neighbors >= 0, rows[neighbors], -1)
        np.testing.assert_array_equal(graph.neighbors[rows], expected)
        np.testing.assert_array_equal(graph.distances[rows], distances)


def test_cosine_is_l2_between_unit_vectors(cloud):
    scale = np.random.default_rng(0).uniform(0.1, 10, (len(cloud), 1))
    unit = cloud / np.linalg.norm(cloud, axis=1, keepdims=True)
    graph = graph_of(cloud * scale, metric="cosine", backend="exact", n_neighbors=5)
    neighbors, distances = exact_neighbors(unit, 5)
    np.testing.assert_array_equal(graph.neighbors, neighbors)
    np.testing.assert_allclose(graph.distances, distances, rtol=1e-5)


def test_parallel_vectors_are_twins_under_cosine():
    graph = graph_of(np.array([[1.0, 2, 3], [3, 6, 9], [-1, 0, 0]]), metric="cosine", n_neighbors=1)
    assert graph.distances[:2].tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "<i2", "u1", "i8"])
def test_every_number_type_gives_the_same_graph(dtype):
    points = np.random.default_rng(2).integers(0, 100, (60, 5))
    graph = graph_of(np.asfortranarray(points.astype(dtype)), n_neighbors=3)
    assert_equals_oracle(graph, points)


def test_wide_numbers_are_measured_in_float64():
    points = np.array([[1e9], [1e9 + 1], [1e9 + 3], [1e9 + 7]])
    graph = graph_of(points, n_neighbors=1)
    assert graph.distances.ravel().tolist() == [1, 1, 2, 4]


@pytest.mark.parametrize(
    ("backend", "n"),
    [("exact", 9000), ("hnsw", 31_000), ("cells", 5000)],
    ids=["exact", "hnsw", "cells"],
)
def test_threads_do_not_change_a_bit(backend, n):
    points = np.random.default_rng(5).normal(size=(n, 8)).astype(np.float32)
    one = graph_of(points, backend=backend, n_threads=1)
    three = graph_of(points, backend=backend, n_threads=3)
    np.testing.assert_array_equal(one.neighbors, three.neighbors)
    np.testing.assert_array_equal(one.distances, three.distances)
    assert one.recall == three.recall


def test_hnsw_recall_is_what_a_count_over_all_rows_says():
    points = np.random.default_rng(8).normal(size=(3000, 24)).astype(np.float32)
    graph = graph_of(points, backend="hnsw", recall=0.8)
    exact = graph_of(points, backend="exact")
    counted = np.mean(
        [
            len(np.intersect1d(a, b)) / 10
            for a, b in zip(graph.neighbors, exact.neighbors, strict=True)
        ]
    )
    assert graph.recall.sample_size >= 500
    # A sample of 1,000 rows: three standard errors are about 0.01.
    assert abs(graph.recall.value - counted) < 0.02
    assert graph.recall.value >= 0.8


def test_a_higher_recall_target_raises_the_effort():
    points = np.random.default_rng(9).normal(size=(4000, 32)).astype(np.float32)
    low = graph_of(points, backend="hnsw", recall=0.1)
    high = graph_of(points, backend="hnsw", recall=0.999)
    assert high.ef_search > low.ef_search
    assert high.recall.value >= 0.999 > low.recall.value
    assert high.recall.reached


def test_far_outlier_does_not_disturb_the_others(cloud):
    points = np.vstack([cloud, np.full((1, 6), 1e30, dtype=np.float32)])
    assert_equals_oracle(graph_of(points, backend="exact", n_neighbors=3), points)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [np.nan, 1], [np.nan, np.nan]], "row 1 holds NaN (2 rows in all)"),
        ([[np.inf, 2], [0, 1]], "row 0 holds an infinite value (1 row in all)"),
        ([[1e300, 2], [0, 1]], "row 0 holds a value above 1e+37 (1 row in all)"),
        (np.empty((0, 3)), "holds no rows"),
        (np.empty((3, 0)), "holds no values"),
        ([1, 2, 3], "expected numbers of shape (rows, width)"),
        ([["a", "b"]], "expected numbers of shape (rows, width)"),
    ],
)
def test_bad_vectors_are_refused(rows, message):
    with pytest.raises(InputError) as caught:
        as_vectors(np.array(rows), "l2")
    assert message in caught.value.message


def test_zero_vectors_are_refused_under_cosine_only():
    points = np.array([[1, 0], [0, 0], [0, 0]])
    with pytest.raises(InputError, match=r"row 1 is a zero vector.*2 rows in all"):
        as_vectors(points, "cosine")
    assert as_vectors(points, "l2").shape == (3, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_neighbors": 0},
        {"recall": 1.5},
        {"recall": float("nan")},
        {"metric": "manhattan"},
        {"backend": "faiss"},
        {"seed": -1},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ParameterError):
        GraphParams(**wrong)


def test_fast_takes_cells_where_there_are_clusters_and_hnsw_elsewhere(monkeypatch):
    monkeypatch.setattr("d2cli.stages.graph.MOST_PROBES_OF_FAST", 9)  # of only 110 cells
    rng = np.random.default_rng(4)
    n = 33_000  # more than are searched exactly
    centers = 20 * rng.normal(size=(60, 8))
    clusters = (centers[rng.integers(0, 60, n)] + rng.normal(size=(n, 8))).astype(np.float32)
    found = graph_of(clusters, backend="fast", n_neighbors=5, n_threads=2)
    assert (found.backend, found.ef_search) == ("cells", 0)
    assert found.probes >= 4
    assert found.recall.reached
    noise = rng.normal(size=(n, 40)).astype(np.float32)
    found = graph_of(noise, backend="fast", n_neighbors=5, recall=0.9, n_threads=2)
    assert (found.backend, found.probes) == ("hnsw", 0)
    assert found.recall.reached


def test_cells_that_miss_the_target_say_so_in_the_recall(monkeypatch):
    monkeypatch.setattr("d2cli.stages.cells.CellSource.try_harder", lambda _: False)
    noise = np.random.default_rng(4).normal(size=(40_000, 64)).astype(np.float32)
    found = graph_of(noise, backend="cells", n_neighbors=5, recall=0.99, n_threads=2)
    assert found.backend == "cells"
    assert not found.recall.reached


def test_values_whose_distances_overflow_are_refused_also_in_wide_vectors():
    points = np.where(np.random.default_rng(5).random((60, 1024)) < 0.5, -9e36, 9e36)
    with pytest.raises(InputError, match="holds a value above"):
        as_vectors(points, "l2")
    graph = graph_of(np.clip(points, -4.5e36, 4.5e36), backend="exact", n_neighbors=3)
    assert np.isfinite(graph.distances).all()


def test_hnsw_comes_back_where_places_coincide_in_float32():
    rng = np.random.default_rng(5)
    points = np.concatenate(
        [rng.standard_normal((300, 30)), rng.standard_normal((301, 30)) * 1e16]
    )  # beside the others these are one point, and too few to be the centre
    graph = graph_of(points, backend="hnsw", n_neighbors=5)
    exact_graph = graph_of(points, backend="exact", n_neighbors=5)
    found = np.mean(
        [np.isin(a, b).mean() for a, b in zip(exact_graph.neighbors, graph.neighbors, strict=True)]
    )
    assert graph.recall.value <= found + 0.05
