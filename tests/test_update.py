"""Updated graphs: added, adopted, repaired; held against graphs built anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.params import GraphParams
from d2cli.stages import adoption
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.lists import merge, pack, spread, unpack
from d2cli.stages.update import update_graph
from d2cli.stages.vectors import as_vectors

EXACT = GraphParams(n_neighbors=4, backend="exact")


def rebuilt_and_updated(points, n_old, survivors, params, *, labels=None, n_threads=1):
    """Return the graph of survivors and added rows built anew, and updated from the old one."""
    now = np.concatenate([points[:n_old][survivors], points[n_old:]])
    groups = [None, None]
    if labels is not None:
        after = np.concatenate([labels[:n_old][survivors], labels[n_old:]])
        groups = [group_by(labels[:n_old]), group_by(after)]
    vectors = as_vectors(now, params.metric)
    old = build_graph(as_vectors(points[:n_old], params.metric), params, groups=groups[0])
    rebuilt = build_graph(vectors, params, groups=groups[1])
    updated = update_graph(
        old, vectors, survivors, params, groups=groups[1], n_threads=n_threads
    ).graph
    return rebuilt, updated


def assert_same(updated, rebuilt):
    np.testing.assert_array_equal(updated.neighbors, rebuilt.neighbors)
    np.testing.assert_array_equal(updated.distances, rebuilt.distances)
    assert updated.n_duplicates == rebuilt.n_duplicates


def some_survivors(rng, n, share):
    survivors = np.flatnonzero(rng.random(n) < share)
    return survivors if len(survivors) else np.array([int(rng.integers(n))])


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(0, 30),
    st.integers(1, 3),
    st.integers(1, 12),
    st.sampled_from([0.2, 0.8, 1.0]),
    st.sampled_from([2, 5, 1000]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_an_exact_update_equals_a_graph_built_anew(seed, n, m, dim, k, share, values, grouped):
    # Few different places make twins and ties; many make none.
    rng = np.random.default_rng(seed)
    points = rng.integers(0, values, (n + m, dim)).astype(np.float32)
    labels = rng.integers(0, 3, n + m) if grouped else None
    params = GraphParams(n_neighbors=k, backend="exact")
    rebuilt, updated = rebuilt_and_updated(
        points, n, some_survivors(rng, n, share), params, labels=labels
    )
    assert_same(updated, rebuilt)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_adoption_is_lost_to_rounding(metric, scale, dtype):
    rng = np.random.default_rng(1)
    points = (rng.normal(size=(900, 24)).round(1) * scale + 3 * scale).astype(dtype)
    params = GraphParams(n_neighbors=5, backend="exact", metric=metric)
    assert_same(*rebuilt_and_updated(points, 800, np.arange(0, 800, 2), params)[::-1])


def test_blocks_and_threads_do_not_change_an_update(monkeypatch, cloud):
    rebuilt, updated = rebuilt_and_updated(cloud, 180, np.arange(7, 180), EXACT)
    monkeypatch.setattr(adoption, "BLOCK", 7)
    monkeypatch.setattr(adoption, "COLUMNS", 3)
    _, again = rebuilt_and_updated(cloud, 180, np.arange(7, 180), EXACT, n_threads=3)
    assert_same(again, updated)
    assert_same(updated, rebuilt)


def test_only_what_is_near_a_change_changes(two_clusters):
    vectors, _ = two_clusters
    survivors = np.arange(1, 59)  # row 0 of the one cluster goes, the last of the other is added
    rebuilt, updated = rebuilt_and_updated(vectors, 59, survivors, EXACT)
    assert_same(updated, rebuilt)
    old = build_graph(vectors[:59], EXACT)
    stayed = (old.neighbors[1:] != 0).all(axis=1) & (updated.neighbors[:58] != 58).all(axis=1)
    assert stayed.sum() > 40
    np.testing.assert_array_equal(updated.neighbors[:58][stayed], old.neighbors[1:][stayed] - 1)


def test_lists_survive_packing(cloud):
    graph = build_graph(cloud[:3], GraphParams(n_neighbors=4))
    again = unpack(pack(graph.neighbors, graph.distances))
    np.testing.assert_array_equal(again[0], graph.neighbors)
    np.testing.assert_array_equal(again[1], graph.distances)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_merging_takes_the_nearest_by_distance_and_row(seed, k, c):
    rng = np.random.default_rng(seed)
    distance_of = rng.integers(0, 4, 20).astype(np.float32)

    def some(width):
        rows = np.array([rng.choice(20, width, replace=False) for _ in range(3)], np.int32)
        return rows.reshape(3, width)

    one, other = some(k), some(c)
    merged, lengths = unpack(merge(*(pack(rows, distance_of[rows]) for rows in (one, other))))
    for i in range(3):
        both = {(distance_of[row], row) for row in (*one[i], *other[i])}
        expected = sorted(both)[:k]
        assert list(zip(lengths[i], merged[i], strict=True)) == expected


def test_members_of_a_place_get_each_other_and_the_members_of_near_places():
    # Places 0 (rows 0, 3, 4) and 1 (rows 1, 2); place 1 is 2.5 away.
    indptr, members = np.array([0, 3, 5]), np.array([0, 3, 4, 1, 2], np.int32)
    found = np.array([[1]], np.int32), np.array([[2.5]], np.float32)
    rows, lists = spread(np.array([0], np.int32), *found, indptr, members, 3)
    assert rows.tolist() == [0, 3, 4]
    assert unpack(lists)[0].tolist() == [[3, 4, 1], [0, 4, 1], [0, 3, 1]]
    assert unpack(lists)[1].tolist() == [[0, 0, 2.5]] * 3
    _, lists = spread(np.array([0], np.int32), *found, indptr, members, 3, own=False)
    assert unpack(lists)[0].tolist() == [[1, 2, -1]] * 3
