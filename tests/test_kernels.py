"""The compiled loops against plain Python and NumPy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact_neighbors, undirected_edges

from d2cli.stages import _messages, _neighbors


def random_graph(rng, n, k):
    """Neighbours without self and repeats, some lists padded, symmetric distances."""
    length = np.round(rng.random((n, n)).astype(np.float32), 1)
    length = np.maximum(length, length.T)
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    for i in range(n):
        others = np.setdiff1d(np.arange(n), [i])
        count = min(int(rng.integers(0, k + 1)), len(others))
        chosen = rng.choice(others, count, replace=False)
        chosen = chosen[np.lexsort((chosen, length[i, chosen]))]
        neighbors[i, :count], distances[i, :count] = chosen, length[i, chosen]
    return neighbors, distances


def test_distance_of_three_and_four_is_five():
    points = np.array([[0, 0], [3, 4]], dtype=np.float32)
    rows = np.arange(2)
    one = np.array([0], dtype=np.int32)
    neighbors, distances = _neighbors.nearest_of(
        points, rows, one, np.array([0, 1]), np.array([1], dtype=np.int32), 1
    )
    assert neighbors.tolist() == [[1]]
    assert distances.tolist() == [[5.0]]


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 40), st.booleans())
@settings(max_examples=100, deadline=None)
def test_nearest_of_everything_is_the_exact_answer(seed, n, dim, wide):
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, (n, dim)).astype(np.float64 if wide else np.float32)
    everything = np.tile(np.arange(n, dtype=np.int32), n)
    neighbors, distances = _neighbors.nearest_of(
        points,
        np.arange(n),
        np.arange(n, dtype=np.int32),
        np.arange(n + 1) * n,
        everything,
        5,
    )
    expected = exact_neighbors(points, 5)
    np.testing.assert_array_equal(neighbors, expected[0])
    np.testing.assert_array_equal(distances, expected[1])


@given(st.integers(0, 2**32 - 1), st.integers(1, 140), st.integers(1, 40), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_scanning_columns_is_scanning_the_transposed_matrix(seed, n, n_queries, k):
    rng = np.random.default_rng(seed)
    products = rng.normal(size=(n, n_queries)).round(1).astype(np.float32)
    lower = rng.random(n).astype(np.float32)
    margin, own = np.full(n_queries, 0.1, np.float32), np.arange(n_queries, dtype=np.int32)
    found = []
    for transposed in (False, True):
        block = _neighbors.CandidateBlock(margin, k)
        scan = block.scan_transposed if transposed else block.scan
        matrix = products if transposed else np.ascontiguousarray(products.T)
        scan(matrix, lower, lower + np.float32(0.05), own, 3)
        indptr, columns = block.finish()
        found.append([sorted(part.tolist()) for part in np.split(columns, indptr[1:-1])])
    assert found[0] == found[1]
    upper = lower + np.float32(0.05)
    for q, columns in enumerate(found[0]):
        others = [j for j in range(n) if 3 + j != q]
        limit = sorted(upper[j] - 2 * products[j, q] for j in others)[:k]
        inside = [
            3 + j
            for j in others
            if len(limit) < k or lower[j] - 2 * products[j, q] <= limit[-1] + margin[q]
        ]
        assert columns == inside


def test_distances_are_symmetric_to_the_last_bit():
    points = np.random.default_rng(0).normal(size=(40, 37)).astype(np.float32)
    n = len(points)
    _, near = _neighbors.nearest_of(
        points,
        np.arange(n),
        np.arange(n, dtype=np.int32),
        np.arange(n + 1) * n,
        np.tile(np.arange(n, dtype=np.int32), n),
        n,
    )
    neighbors, _ = exact_neighbors(points, n - 1)
    table = np.zeros((n, n), dtype=np.float32)
    for i in range(n):
        table[i, neighbors[i]] = near[i, : n - 1]
    np.testing.assert_array_equal(table, table.T)


def first_twins(points, rows):
    return _neighbors.first_twins(points, rows, _neighbors.row_keys(points, rows))


def test_equal_hashes_do_not_make_twins():
    points = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    same = np.zeros(3, dtype=np.uint64)
    assert _neighbors.first_twins(points, np.arange(3), same).tolist() == [0, 1, 0]


@given(st.integers(1, 9), st.booleans())
def test_every_number_changes_the_hash(dim, wide):
    points = np.zeros((dim + 1, dim), dtype=np.float64 if wide else np.float32)
    np.fill_diagonal(points, 1)
    assert len(np.unique(_neighbors.row_keys(points, np.arange(dim + 1)))) == dim + 1


def test_first_twins_are_the_lowest_equal_rows():
    points = np.array([[1, 2], [0.0, 1], [1, 2], [-0.0, 1], [3, 3]], dtype=np.float32)
    assert first_twins(points, np.arange(5)).tolist() == [0, 1, 0, 1, 4]
    assert first_twins(points, np.array([2, 3, 4, 0])).tolist() == [0, 1, 2, 0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_first_twins_equal_a_dictionary(seed, n):
    points = np.random.default_rng(seed).integers(0, 2, (n, 3)).astype(np.float64)
    first = {}
    expected = [first.setdefault(tuple(point), i) for i, point in enumerate(points.tolist())]
    assert first_twins(points, np.arange(n)).tolist() == expected


@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_undirected_union_equals_a_dictionary(seed, n, k):
    neighbors, distances = random_graph(np.random.default_rng(seed), n, k)
    indptr, indices, lengths = _messages.undirected_union(neighbors, distances)
    edges = undirected_edges(neighbors, distances)
    for i in range(n):
        row = slice(indptr[i], indptr[i + 1])
        assert indices[row].tolist() == sorted(edges[i])
        assert lengths[row].tolist() == [edges[i][j] for j in sorted(edges[i])]


def test_sum_messages_adds_in_order():
    indptr = np.array([0, 2, 2, 5])
    indices = np.array([1, 2, 0, 1, 2], dtype=np.int32)
    weights = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    values = np.array([1.0, 10.0, 100.0])
    sums = _messages.sum_messages(indptr, indices, weights, values)
    assert sums.tolist() == [0.1 * 10 + 0.2 * 100, 0.0, (0.3 * 1 + 0.4 * 10) + 0.5 * 100]


def test_nearest_marked_is_infinite_without_a_marked_neighbor():
    indptr = np.array([0, 2, 3, 3])
    indices = np.array([1, 2, 0], dtype=np.int32)
    lengths = np.array([0.5, 0.25, 2.0], dtype=np.float32)
    marked = np.array([0, 1, 1], dtype=np.uint8)
    found = _messages.nearest_marked(indptr, indices, lengths, marked)
    assert found.tolist() == [0.25, np.inf, np.inf]


def test_candidates_hold_the_true_nearest_under_a_common_offset():
    # Cancellation: the points are 1e4 away from the origin and 1e-2 from each other.
    from d2cli.stages.exact import ExactIndex
    from d2cli.stages.space import build_space

    rng = np.random.default_rng(1)
    points = (1e4 + 1e-2 * rng.normal(size=(300, 20))).astype(np.float32)
    points = np.unique(points, axis=0)
    rows = np.arange(len(points))
    found = ExactIndex(build_space(points, rows)).search(rows.astype(np.int32), 7)
    np.testing.assert_array_equal(found[0], exact_neighbors(points, 7)[0])


def smallest(values, numbers, k):
    """The k numbers of least value, by (value, number), -1 where there are fewer."""
    pairs = sorted((v, c) for v, c in zip(values.tolist(), numbers.tolist(), strict=True) if c >= 0)
    return ([number for _, number in pairs] + [-1] * k)[:k]


@given(st.integers(0, 2**32 - 1), st.integers(1, 150), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_smallest_columns_equal_a_sort(seed, n_columns, k):
    rng = np.random.default_rng(seed)
    products = rng.integers(-5, 6, (4, n_columns)).astype(np.float32)
    norms = rng.integers(0, 9, n_columns).astype(np.float32)
    found = _neighbors.smallest_columns(products, norms, k)
    columns = np.arange(n_columns)
    assert found.tolist() == [smallest(norms - 2 * row, columns, k) for row in products]


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_keep_nearest_equals_a_sort(seed, m, k):
    rng = np.random.default_rng(seed)
    numbers = np.array([rng.permutation(2 * m)[:m] for _ in range(3)], dtype=np.int32)
    numbers[rng.random(numbers.shape) < 0.2] = -1
    values = rng.integers(0, 9, (3, m)).astype(np.float32)
    own = rng.integers(0, 2 * m, 3).astype(np.int32)
    found = _neighbors.keep_nearest(numbers, values, own, k)
    for row, number, value, self in zip(found, numbers, values, own, strict=True):
        assert row.tolist() == smallest(value[number != self], number[number != self], k)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_nearest_so_far_forgets_nothing(seed, k):
    rng = np.random.default_rng(seed)
    points = rng.integers(-3, 4, (5, 3)).astype(np.float32)
    targets = rng.integers(-3, 4, (90, 3)).astype(np.float32)
    own = rng.integers(0, 90, 5).astype(np.int32)
    norms = np.einsum("ij,ij->i", targets, targets)
    best = _neighbors.NearestSoFar(5, k)
    for start, stop in ((0, 7), (7, 80), (80, 90)):  # every slot but the last sees every part
        slots = np.arange(5 if start else 4, dtype=np.int32)
        part = targets[start:stop]
        best.merge(points[slots] @ part.T, norms[start:stop], slots, own, start)
    for slot, row in enumerate(best.finish().tolist()):
        seen = np.arange(0 if slot < 4 else 7, 90)
        seen = seen[seen != own[slot]]
        values = norms[seen] - 2 * (targets[seen] @ points[slot])
        assert row == smallest(values, seen, k)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_refined_neighbors_are_the_nearest_of_all_that_is_asked(seed, n, k, breadth):
    rng = np.random.default_rng(seed)
    points = rng.integers(-3, 4, (n, 2)).astype(np.float32)
    neighbors = np.full((n, k), -1, dtype=np.int32)
    for i in range(n):
        others = rng.permutation(np.setdiff1d(np.arange(n), [i]))[: rng.integers(0, k + 1)]
        away = ((points[others] - points[i]) ** 2).sum(axis=1)
        neighbors[i, : len(others)] = others[np.lexsort((others, away))]
    breadth = min(breadth, k)
    found = _neighbors.refine_neighbors(points, neighbors, 0, n, breadth)
    for i in range(n):
        asked = set(neighbors[i].tolist())
        for near in neighbors[i, :breadth]:
            if near < 0:
                break
            asked |= set(neighbors[near, :breadth].tolist())
        known = np.array(sorted(asked - {-1, i}), dtype=np.int64)
        away = ((points[known] - points[i]) ** 2).sum(axis=1)
        assert found[i].tolist() == smallest(away, known, k)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 8),
    st.sampled_from(["u1", "f4", "f8"]),
)
@settings(max_examples=100, deadline=None)
def test_scanned_places_are_the_nearest_of_all(seed, n, dim, k, dtype):
    points = np.random.default_rng(seed).integers(0, 4, (n, dim)).astype(dtype)
    own = np.arange(n, dtype=np.int32)
    nearest = _neighbors.ScannedSoFar(n, k)
    for start in range(0, n, 33):  # in parts, the last one shorter
        _neighbors.scan_places(nearest, points, points[start : start + 33], own, start)
    neighbors, distances = nearest.finish()
    if dtype == "u1":
        away = np.unpackbits(points[:, None] ^ points, axis=2).sum(axis=2, dtype=float)
    else:
        away = np.abs(points[:, None] - points).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    order = np.argsort(away, axis=1, kind="stable")[:, :k]
    sorted_ = np.take_along_axis(away, order, axis=1)
    expected = np.full((n, k), -1), np.full((n, k), np.inf)
    expected[0][:, : order.shape[1]] = np.where(np.isfinite(sorted_), order, -1)
    expected[1][:, : order.shape[1]] = sorted_
    np.testing.assert_array_equal(neighbors, expected[0])
    np.testing.assert_array_equal(distances, expected[1])


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 6), st.booleans())
@settings(max_examples=50, deadline=None)
def test_whitened_rows_are_sums_by_ascending_axis(seed, n, dim, wide):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, dim)).astype(np.float64 if wide else np.float32)
    mean, upper = rng.normal(size=dim), np.triu(rng.normal(size=(dim, dim)))
    expected = np.zeros((n, dim))
    for r in range(n):
        for i in range(dim):
            for j in range(i + 1):
                expected[r, i] += (np.float64(points[r, j]) - mean[j]) * upper[j, i]
    found = _neighbors.whiten_rows(points, mean, upper)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_first_twins_of_codes_equal_a_dictionary(seed, n, dim):
    codes = np.random.default_rng(seed).integers(0, 3, (n, dim)).astype(np.uint8)
    rows = np.arange(n, dtype=np.int64)
    lowest = {}
    expected = [lowest.setdefault(code.tobytes(), i) for i, code in enumerate(codes)]
    found = _neighbors.first_twins(codes, rows, _neighbors.row_keys(codes, rows))
    assert found.tolist() == expected
