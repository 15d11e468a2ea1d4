"""Metrics beside l2 and cosine: slow answers, laws, and what each of them refuses."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import d2cli
from d2cli.errors import InputError, ParameterError
from d2cli.files.artifacts import read_artifact, seal, write_artifact
from d2cli.files.scratch import DiskRoom
from d2cli.files.stages import graph_of, graph_results, graph_table
from d2cli.params import GraphParams
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.vectors import as_codes, as_searchable, as_vectors, unpack_codes
from d2cli.stages.whitening import Whitening, fit_whitening

BACKENDS = ["exact", "hnsw", "cells"]


def built(vectors, metric, *, groups=None, n_threads=1, shrinkage="auto", room=None, **params):
    more = {} if room is None else {"room": room}
    points, whitening = as_searchable(
        vectors, metric, shrinkage=shrinkage, n_threads=n_threads, **more
    )
    made = GraphParams(metric=metric, shrinkage=shrinkage, **params)
    graph = build_graph(points, made, groups=groups, n_threads=n_threads, **more)
    return replace(graph, whitening=whitening)


def l1(a, b):
    return np.abs(a.astype(np.float64) - b.astype(np.float64)).sum()


def bits(a, b):
    return sum((int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True))


def by_pairs(vectors, distance, k):
    """Every distance by itself, rounded to float32; neighbours by (distance, row)."""
    n = len(vectors)
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    for i in range(n):
        away = [(np.float32(distance(vectors[i], vectors[j])), j) for j in range(n) if j != i]
        for c, (d, j) in enumerate(sorted(away)[:k]):
            neighbors[i, c], distances[i, c] = j, d
    return neighbors, distances


def assert_same(graph, expected):
    np.testing.assert_array_equal(graph.neighbors, expected[0])
    np.testing.assert_array_equal(graph.distances, expected[1])


def random_codes(seed, n, width, kinds=256):
    return np.random.default_rng(seed).integers(0, kinds, (n, width)).astype(np.uint8)


# --- l1 -------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.sampled_from([1, 3, 8, 31, 33, 70]),
    st.integers(1, 6),
    st.sampled_from(["f4", "f8", "f2", "i4", "u1"]),
)
@settings(max_examples=60, deadline=None)
def test_l1_of_points_on_a_grid_is_that_of_all_pairs(seed, n, dim, k, dtype):
    # Few values: sums are exact, rows have twins, and most distances are ties.
    points = np.random.default_rng(seed).integers(0, 3, (n, dim)).astype(dtype)
    assert_same(built(points, "l1", n_neighbors=k), by_pairs(points, l1, k))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [5, 64, 100])
def test_l1_of_any_points_is_that_of_all_pairs(dtype, dim):
    points = np.random.default_rng(dim).normal(size=(300, dim)).astype(dtype)
    found = built(points, "l1", n_neighbors=7)
    neighbors, distances = by_pairs(points, l1, 7)
    np.testing.assert_array_equal(found.neighbors, neighbors)
    # Another order of the float64 sums may round to the next float32.
    np.testing.assert_allclose(found.distances, distances, rtol=2e-7)


def test_l1_distances_that_float32_sums_cannot_tell_apart_are_told_apart():
    # Beside a large common difference float32 loses the small ones, which decide.
    base = np.zeros((6, 200), dtype=np.float32)
    base[1:, 0] = 1e7
    base[1:, 1:] = np.arange(5, 0, -1)[:, None] * np.float32(0.01)
    found = built(base, "l1", n_neighbors=5, backend="exact")
    assert found.neighbors[0].tolist() == [5, 4, 3, 2, 1]
    assert_same(found, by_pairs(base, l1, 5))


def test_l1_neighbors_stay_in_their_groups_and_threads_and_disk_change_nothing(cloud, tmp_path):
    points = np.tile(cloud, (3, 1))  # with twins
    labels = np.random.default_rng(1).integers(0, 4, len(points))
    one = built(points, "l1", groups=group_by(labels), n_neighbors=4)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        neighbors, distances = by_pairs(points[rows], l1, 4)
        np.testing.assert_array_equal(one.neighbors[rows], rows[neighbors])
        np.testing.assert_allclose(one.distances[rows], distances, rtol=2e-7)
    three = built(points, "l1", groups=group_by(labels), n_neighbors=4, n_threads=3)
    assert_same(three, (one.neighbors, one.distances))
    np.save(tmp_path / "x.npy", points)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    room = DiskRoom(1 << 20, lambda: tmp_path)
    on_disk = built(mapped, "l1", groups=group_by(labels), n_neighbors=4, room=room)
    assert_same(on_disk, (one.neighbors, one.distances))


def test_l1_distances_are_the_same_in_both_directions():
    points = np.random.default_rng(3).normal(size=(60, 37)).astype(np.float32)
    found = built(points, "l1", n_neighbors=59)
    away = np.zeros((60, 60), dtype=np.float32)
    np.put_along_axis(away, found.neighbors, found.distances, axis=1)
    np.testing.assert_array_equal(away, away.T)


@pytest.mark.parametrize("backend", ["hnsw", "cells", "fast"])
def test_l1_is_searched_exactly_only(backend):
    with pytest.raises(ParameterError, match=f"backend {backend} does not serve metric l1"):
        GraphParams(metric="l1", backend=backend)
    assert built(np.zeros((3, 2)), "l1", n_neighbors=1).backend == "exact"


def test_values_whose_l1_overflows_are_refused_earlier_than_under_l2():
    points = np.full((2, 1000), 2e35)
    points[1] *= -1
    assert as_vectors(points, "l2") is points
    with pytest.raises(InputError, match=r"holds a value above 1.5e\+35"):
        as_vectors(points, "l1")
    found = built(points / 2, "l1", n_neighbors=1)
    np.testing.assert_allclose(found.distances, 2e38, rtol=1e-6)


# --- ip -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_ip_of_rows_of_one_length_is_l2_and_the_largest_product_first(cloud, backend):
    unit = (3 * cloud / np.linalg.norm(cloud, axis=1, keepdims=True)).astype(np.float32)
    found = built(unit, "ip", backend=backend, n_neighbors=5, recall=1.0)
    assert_same(found, (lambda g: (g.neighbors, g.distances))(built(unit, "l2", n_neighbors=5)))
    products = unit.astype(np.float64) @ unit.T
    np.fill_diagonal(products, -np.inf)
    np.testing.assert_array_equal(found.neighbors, np.argsort(-products, axis=1)[:, :5])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_lengths_that_are_alike_but_for_rounding_are_taken(dtype):
    points = np.random.default_rng(0).normal(size=(5000, 64))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    as_vectors(points.astype(dtype), "ip")
    as_vectors(points.astype(dtype).astype(np.float64), "ip")  # as tables widen them


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32])
def test_lengths_that_differ_are_refused_with_both_rows(dtype):
    points = np.full((9000, 2), 1000, dtype=dtype)
    points[70], points[8000] = 900, 1100
    told = "rows 70 and 8000 have lengths 1272.79 and 1555.63; by inner product a long row"
    with pytest.raises(InputError, match=told) as caught:
        as_vectors(points, "ip")
    assert "--metric cosine" in caught.value.hint


# --- hamming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("width", "kinds"), [(1, 256), (8, 3), (21, 256)])
def test_hamming_counts_the_bits_that_differ(backend, width, kinds):
    codes = random_codes(width, 150, width, kinds)
    found = built(codes, "hamming", backend=backend, n_neighbors=6, recall=1.0)
    neighbors, distances = by_pairs(codes, bits, 6)
    np.testing.assert_array_equal(found.distances, distances)  # whole numbers
    if backend == "exact":  # of rows at one distance others may return another
        np.testing.assert_array_equal(found.neighbors, neighbors)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_hamming_is_the_squared_l2_and_the_l1_of_bits(seed, n, width):
    codes = random_codes(seed, n, width, kinds=4)
    unpacked = as_vectors(codes, "hamming")
    np.testing.assert_array_equal(unpacked, np.unpackbits(codes, axis=1))
    found = built(codes, "hamming", n_neighbors=3)
    by_l2, by_l1 = (built(unpacked, metric, n_neighbors=3) for metric in ("l2", "l1"))
    assert_same(by_l1, (found.neighbors, found.distances))
    np.testing.assert_array_equal(by_l2.neighbors, found.neighbors)
    np.testing.assert_array_equal(np.rint(np.square(by_l2.distances, dtype=float)), found.distances)


def test_codes_that_are_no_packed_bits_are_refused():
    for dtype in (np.float32, np.int8, np.int64):
        with pytest.raises(InputError, match=f"is {np.dtype(dtype)}; hamming compares") as caught:
            as_codes(np.ones((3, 2), dtype=dtype))
        assert "np.packbits" in caught.value.hint
    codes = np.asfortranarray(random_codes(1, 5000, 3))
    np.testing.assert_array_equal(as_codes(codes), codes)
    rows = np.array([4999, 0])
    np.testing.assert_array_equal(unpack_codes(codes, rows), np.unpackbits(codes[rows], axis=1))


def test_hamming_groups_threads_and_disk_change_nothing(tmp_path):
    codes = random_codes(2, 900, 6, kinds=16)
    labels = np.arange(900) % 3
    np.save(tmp_path / "c.npy", codes)
    mapped = np.load(tmp_path / "c.npy", mmap_mode="r")
    for backend in ("exact", "hnsw"):
        how = {"groups": group_by(labels), "backend": backend, "n_neighbors": 5}
        one = built(codes, "hamming", **how)
        assert (labels[one.neighbors] == labels[:, None]).all()
        assert_same(built(codes, "hamming", n_threads=3, **how), (one.neighbors, one.distances))
        room = DiskRoom(1 << 20, lambda: tmp_path)
        on_disk = built(mapped, "hamming", room=room, **how)
        assert_same(on_disk, (one.neighbors, one.distances))


# --- mahalanobis ----------------------------------------------------------------------------------


def correlated(n=400, dim=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 100 * rng.normal(size=dim)


def shrunken_covariance(points, shrinkage):
    """The covariance by its definition; the shrinkage of Ledoit and Wolf row by row."""
    away = points - points.mean(axis=0)
    n, dim = away.shape
    plain = sum(np.outer(x, x) for x in away) / n
    target = np.trace(plain) / dim * np.eye(dim)
    if shrinkage == "auto":
        noise = sum(((np.outer(x, x) - plain) ** 2).sum() for x in away) / n**2
        shrinkage = min(noise, ((plain - target) ** 2).sum()) / ((plain - target) ** 2).sum()
    return (1 - shrinkage) * plain + shrinkage * target, shrinkage


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shrinkage", ["auto", 0, 0.3, 1])
def test_mahalanobis_is_the_form_of_the_inverse_covariance(backend, shrinkage):
    points = correlated()
    covariance, used = shrunken_covariance(points, shrinkage)
    inverse = np.linalg.inv(covariance)
    found = built(
        points, "mahalanobis", shrinkage=shrinkage, backend=backend, n_neighbors=5, recall=1.0
    )
    assert found.whitening.shrinkage == pytest.approx(used, rel=1e-9)
    apart = points[:, None] - points
    away = np.sqrt(np.einsum("ijx,xy,ijy->ij", apart, inverse, apart))
    np.fill_diagonal(away, np.inf)
    np.testing.assert_array_equal(found.neighbors, np.argsort(away, axis=1)[:, :5])
    np.testing.assert_allclose(found.distances, np.sort(away, axis=1)[:, :5], rtol=2e-6)


def test_the_shrinkage_is_that_of_scikit_learn():
    covariance = pytest.importorskip("sklearn.covariance")
    for n, dim in ((500, 6), (30, 40)):
        points = correlated(n, dim, seed=n)
        expected, shrinkage = covariance.ledoit_wolf(points)
        found = fit_whitening(points)
        assert found.shrinkage == pytest.approx(shrinkage, rel=1e-6)
        precision = found.factor.T @ found.factor
        np.testing.assert_allclose(precision @ expected, np.eye(dim), atol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_without_shrinkage_no_invertible_map_of_the_data_changes_neighbors(seed):
    rng = np.random.default_rng(seed)
    points = correlated(120, 5, seed)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    mapped = points @ (turn * np.exp(rng.uniform(-1, 1, 5))) + rng.normal(size=5)
    one, other = (built(x, "mahalanobis", shrinkage=0, n_neighbors=1) for x in (points, mapped))
    np.testing.assert_allclose(one.distances, other.distances, rtol=1e-4)


def test_with_full_shrinkage_it_is_l2_but_for_a_constant():
    points = correlated()
    one, l2 = built(points, "mahalanobis", shrinkage=1), built(points, "l2")
    np.testing.assert_array_equal(one.neighbors, l2.neighbors)
    level = np.sqrt(points.var(axis=0).mean())
    np.testing.assert_allclose(one.distances * level, l2.distances, rtol=1e-5)


def test_fewer_rows_than_axes_and_constant_axes_need_shrinkage():
    few = correlated(8, 20)
    constant = correlated()
    constant[:, 3] = 0.1
    combined = correlated()
    combined[:, 3] = combined[:, 1] - 2 * combined[:, 2]
    for points in (few, constant, combined):
        with pytest.raises(InputError, match="cannot be inverted with shrinkage 0: an axis is"):
            fit_whitening(points, shrinkage=0)
        assert fit_whitening(points).shrinkage > 0
        found = built(points, "mahalanobis", n_neighbors=3)
        assert np.isfinite(found.distances).all()
        assert (found.distances > 0).all()


def test_axes_of_very_different_scales_are_no_reason_to_refuse():
    points = correlated() * 10.0 ** np.arange(-18, 18, 3)
    found = built(points, "mahalanobis", shrinkage=0, n_neighbors=5)
    plain = built(correlated(), "mahalanobis", shrinkage=0, n_neighbors=5)
    np.testing.assert_array_equal(found.neighbors, plain.neighbors)


def test_rows_that_do_not_differ_have_no_covariance():
    with pytest.raises(InputError, match="no two rows that differ"):
        fit_whitening(np.ones((5, 3)))
    with pytest.raises(ParameterError, match="at most 2,048 axes, these have 2,049"):
        fit_whitening(np.ones((5, 2049)))


def test_rows_too_far_from_those_sampled_are_refused():
    fitted = Whitening(np.zeros(2), 1e10 * np.eye(2), 0.0, 9)
    points = np.zeros((6000, 2), dtype=np.float32)
    points[5000] = 1e30
    with pytest.raises(InputError, match="row 5000 is too far from the others once whitened"):
        as_vectors(points, "mahalanobis", whitening=fitted)


def test_defects_of_rows_come_before_the_fit():
    points = correlated()
    points[7, 2] = np.nan
    with pytest.raises(InputError, match="row 7 holds NaN"):
        as_searchable(points, "mahalanobis")


def test_twins_stay_twins_wherever_they_stand_and_inputs_stay_as_they_are():
    points = correlated(101).astype(np.float32)
    both = np.concatenate([points, points[::-1]])
    before = both.copy()
    found = built(both, "mahalanobis", n_neighbors=2)
    np.testing.assert_array_equal(both, before)
    np.testing.assert_array_equal(found.neighbors[:, 0], np.arange(202)[::-1])
    assert not found.distances[:, 0].any()
    assert found.n_duplicates == 101


def test_whitened_rows_depend_on_nothing_beside_them(tmp_path):
    points = correlated(9000, 7).astype(np.float32)
    fitted = fit_whitening(points)
    one = as_vectors(points, "mahalanobis", whitening=fitted)
    expected = (points - fitted.mean) @ fitted.factor.T
    np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        one, as_vectors(points, "mahalanobis", whitening=fitted, n_threads=3)
    )
    some = as_vectors(points[5:12], "mahalanobis", whitening=fitted)  # as for new rows
    np.testing.assert_array_equal(some, one[5:12])
    np.save(tmp_path / "x.npy", points)
    room = DiskRoom(1 << 16, lambda: tmp_path)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    on_disk, same = as_searchable(mapped, "mahalanobis", room=room)
    np.testing.assert_array_equal(on_disk, one)
    np.testing.assert_array_equal(same.factor, fitted.factor)
    spent = as_vectors(points, "mahalanobis", whitening=fitted, overwrite=True)
    np.testing.assert_array_equal(spent, on_disk)
    assert np.shares_memory(spent, points)


def test_the_sample_of_many_rows_follows_the_seed(monkeypatch):
    monkeypatch.setattr("d2cli.stages.whitening.SAMPLE_ROWS", 100)
    points = correlated()
    one, same, other = (fit_whitening(points, seed=seed) for seed in (1, 1, 2))
    assert one.sample_size == 100
    np.testing.assert_array_equal(one.factor, same.factor)
    assert not np.array_equal(one.factor, other.factor)


def test_a_graph_file_holds_the_whitening_to_the_bit(tmp_path):
    found = built(correlated(), "mahalanobis")
    artifact = seal(
        "graph", graph_table(found, None, None), key="k", parameters={}, inputs={},
        results={**graph_results(found), "dim": 12},
    )  # fmt: skip
    write_artifact(tmp_path / "g.parquet", artifact)
    read = graph_of(read_artifact(str(tmp_path / "g.parquet"), "graph")).whitening
    np.testing.assert_array_equal(read.factor, found.whitening.factor)
    np.testing.assert_array_equal(read.mean, found.whitening.mean)
    assert (read.shrinkage, read.sample_size) == (found.whitening.shrinkage, 400)


# --- parameters and functions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"shrinkage": 0.1}, "shrinkage is only used by metric mahalanobis, not by l2"),
        ({"metric": "mahalanobis", "shrinkage": -1}, "shrinkage is -1"),
        ({"metric": "mahalanobis", "shrinkage": 1.5}, "shrinkage is 1.5, expected 0 to 1 or auto"),
        ({"metric": "mahalanobis", "shrinkage": float("nan")}, "shrinkage is nan"),
        ({"metric": "manhattan"}, "expected one of l2, cosine, ip, l1, mahalanobis, hamming"),
    ],
)
def test_wrong_parameters_are_refused(wrong, told):
    with pytest.raises(ParameterError, match=re.escape(told)):
        GraphParams(**wrong)


def test_the_shrinkage_counts_for_mahalanobis_alone():
    assert "shrinkage" not in GraphParams().recorded()
    assert GraphParams(metric="mahalanobis", shrinkage=0.5).recorded()["shrinkage"] == 0.5


def test_functions_take_all_metrics(cloud):
    unit = cloud / np.linalg.norm(cloud, axis=1, keepdims=True)
    for metric, vectors in (
        ("ip", unit), ("l1", cloud), ("mahalanobis", cloud), ("hamming", random_codes(1, 200, 4)),
    ):  # fmt: skip
        graph = d2cli.graph(vectors, metric=metric, n_neighbors=5)
        expected = built(vectors, metric, n_neighbors=5)
        assert_same(graph, (expected.neighbors, expected.distances))
        kept = d2cli.prune(vectors, None, rate=0.5, metric=metric)
        assert len(np.unique(kept)) == 100
    one, other = (d2cli.graph(cloud, metric="mahalanobis", shrinkage=s) for s in (0.0, 1.0))
    assert not np.array_equal(one.distances, other.distances)
