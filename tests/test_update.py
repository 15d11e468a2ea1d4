"""Updated graphs: added, adopted, repaired; held against graphs built anew."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from bench.data import generate
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.errors import ArtifactError
from d2cli.files.artifacts import read_artifact, seal, write_artifact
from d2cli.files.graph_index import index_column, kept_of
from d2cli.files.stages import graph_results, graph_table, lists, matrix
from d2cli.params import GraphParams
from d2cli.stages import adoption, scan
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.lists import merge, pack, spread, unpack
from d2cli.stages.recall import Recall, share_found
from d2cli.stages.space import build_space, distinct_rows
from d2cli.stages.update import update_graph
from d2cli.stages.vectors import as_searchable

EXACT = GraphParams(n_neighbors=4, backend="exact")


def rebuilt_and_updated(points, n_old, survivors, params, *, labels=None, n_threads=1):
    """Return the graph of survivors and added rows built anew, and updated from the old one."""
    now = np.concatenate([points[:n_old][survivors], points[n_old:]])
    groups = [None, None]
    if labels is not None:
        after = np.concatenate([labels[:n_old][survivors], labels[n_old:]])
        groups = [group_by(labels[:n_old]), group_by(after)]
    vectors, _ = as_searchable(now, params.metric)
    before, _ = as_searchable(points[:n_old], params.metric)
    old = build_graph(before, params, groups=groups[0])
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


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 50),
    st.integers(0, 25),
    st.integers(1, 12),
    st.sampled_from([0.2, 0.8, 1.0]),
    st.sampled_from([2, 256]),
    st.booleans(),
    st.sampled_from([("l1", "f4"), ("l1", "f8"), ("l1", "u1"), ("hamming", "u1")]),
)
@settings(max_examples=100, deadline=None)
def test_an_update_by_a_scan_equals_a_graph_built_anew(seed, n, m, k, share, values, grouped, how):
    rng, (metric, dtype) = np.random.default_rng(seed), how
    points = rng.integers(0, values, (n + m, 3)).astype(dtype)
    labels = rng.integers(0, 3, n + m) if grouped else None
    params = GraphParams(n_neighbors=k, backend="exact", metric=metric)
    survivors = some_survivors(rng, n, share)
    rebuilt, updated = rebuilt_and_updated(points, n, survivors, params, labels=labels)
    assert_same(updated, rebuilt)


@pytest.mark.parametrize("metric", ["l1", "hamming"])
def test_blocks_and_threads_do_not_change_an_update_by_a_scan(monkeypatch, metric):
    points = np.random.default_rng(3).integers(0, 256, (400, 5)).astype(np.uint8)
    params = GraphParams(n_neighbors=4, backend="exact", metric=metric)
    rebuilt, updated = rebuilt_and_updated(points, 370, np.arange(7, 370), params)
    monkeypatch.setattr(scan, "QUERY_BLOCK", 7)
    monkeypatch.setattr(scan, "TARGET_BLOCK", 3)
    _, again = rebuilt_and_updated(points, 370, np.arange(7, 370), params, n_threads=3)
    assert_same(again, updated)
    assert_same(updated, rebuilt)


def test_a_scan_among_some_places_leaves_the_query_out():
    codes = np.random.default_rng(0).integers(0, 256, (30, 2)).astype(np.uint8)
    places, _, _ = distinct_rows(codes, np.arange(30))
    space = build_space(codes, places, measure="hamming")
    among = np.array([1, 4, 9, 20], np.int32)
    everyone = np.arange(len(places), dtype=np.int32)
    found, away = scan.ScanIndex(space).search(everyone, 4, among=among)
    bits = np.unpackbits(codes[places], axis=1).astype(np.int64)
    for i in everyone:
        expected = sorted((np.abs(bits[i] - bits[j]).sum(), j) for j in among if j != i)
        real = found[i] >= 0
        assert list(zip(away[i][real], found[i][real], strict=True)) == expected
    none, lengths = scan.ScanIndex(space).search(everyone, 2, among=among[:0])
    assert (none == -1).all()
    assert np.isinf(lengths).all()


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


# --- in cells -------------------------------------------------------------------------------------

CELLS = GraphParams(n_neighbors=6, backend="cells", recall=0.9)


def built(points, params, groups=None):
    """Return a graph, and what is kept of it by the name of the group."""
    kept = {}

    def keep(rows, cells):
        kept["" if groups is None else groups.names[groups.codes[rows[0]]]] = cells

    return build_graph(points, params, groups=groups, keep=keep), kept


def true_recall(graph, points, groups=None):
    exact = GraphParams(n_neighbors=graph.n_neighbors, backend="exact")
    return share_found(graph.distances, build_graph(points, exact, groups=groups).distances)


@pytest.fixture(scope="module")
def clustered():
    return generate("clustered", 9000, 24)


@pytest.mark.parametrize("backend", ["cells", "hnsw"])
def test_ten_additions_do_not_wear_out_the_recall(clustered, backend):
    # hnsw goes far beyond its target, and so has to do what follows.
    at, params = 3000, replace(CELLS, backend=backend)
    graph, kept = built(clustered[:at], params)
    for _ in range(10):
        now = at + at // 20
        updated = update_graph(graph, clustered[:now], np.arange(at), params, kept=kept)
        graph, kept, at = updated.graph, updated.kept, now
    rebuilt = build_graph(clustered[:at], params)
    recall = true_recall(graph, clustered[:at])
    assert recall >= true_recall(rebuilt, clustered[:at]) - 0.005
    assert abs(graph.recall.value - recall) < 0.02  # of 1,000 rows, ten neighbours each
    assert graph.recall.sample_size == 1000


def test_the_recall_of_an_update_is_measured_on_exact_neighbors(clustered):
    survivors = np.flatnonzero(np.arange(6000) % 9)
    graph, kept = built(clustered[:6000], CELLS)
    now = np.concatenate([clustered[:6000][survivors], clustered[6000:6400]])
    updated = update_graph(graph, now, survivors, CELLS, kept=kept)
    sample, exact = updated.kept[""].sample, unpack(updated.kept[""].exact)
    truth = build_graph(now, GraphParams(n_neighbors=6, backend="exact"))
    np.testing.assert_array_equal(exact[0], truth.neighbors[sample])
    np.testing.assert_array_equal(exact[1], truth.distances[sample])
    assert len(np.unique(sample)) == 1000
    assert 40 < (sample >= len(survivors)).sum() < 110  # 400 of 5,733 are added
    found = updated.graph.distances[sample]
    assert updated.graph.recall.value == share_found(found, truth.distances[sample])


@pytest.mark.parametrize("backend", ["cells", "hnsw"])
def test_a_row_that_is_added_finds_its_twins_and_they_find_it(clustered, backend):
    params = GraphParams(n_neighbors=4, backend=backend)
    points = np.concatenate([clustered[:3000], clustered[:40], clustered[:40]])
    graph, kept = built(points[:3040], params)
    updated = update_graph(graph, points, np.arange(3040), params, kept=kept).graph
    for i in range(40):
        twins = [i, 3000 + i, 3040 + i]
        for one in twins:
            assert updated.neighbors[one, :2].tolist() == [j for j in twins if j != one]
            assert updated.distances[one, :2].tolist() == [0, 0]
    assert updated.n_duplicates == 80
    assert updated.backend == ("cells" if backend == "cells" else "cells+hnsw")


def test_distances_are_true_and_lists_in_order(clustered):
    graph, kept = built(clustered[:4000], CELLS)
    updated = update_graph(graph, clustered[:4300], np.arange(4000), CELLS, kept=kept).graph
    near = clustered[updated.neighbors].astype(np.float64)
    lengths = np.sqrt(((near - clustered[:4300, None]) ** 2).sum(axis=2))
    np.testing.assert_allclose(updated.distances, lengths, rtol=1e-6)
    keys = pack(updated.neighbors, updated.distances)
    assert (keys[:, 1:] > keys[:, :-1]).all()
    assert (updated.neighbors != np.arange(4300)[:, None]).all()


def test_groups_are_searched_in_their_own_cells_and_new_ones_appear(clustered):
    points = clustered[:4200]
    labels = np.repeat([0, 1, 0, 2], [1500, 1500, 600, 600])  # 2 is new
    old, after = group_by(labels[:3000]), group_by(labels)
    graph, kept = built(points[:3000], CELLS, old)
    assert set(kept) == {"0", "1"}
    updated = update_graph(graph, points, np.arange(3000), CELLS, groups=after, kept=kept)
    assert set(updated.kept) == {"0", "1", "2"}
    assert (after.codes[updated.graph.neighbors] == after.codes[:, None]).all()
    np.testing.assert_array_equal(updated.graph.neighbors[1500:3000], graph.neighbors[1500:3000])
    assert true_recall(updated.graph, points, after) > 0.9


def test_threads_and_what_was_kept_decide_nothing_but_the_cells(clustered):
    graph, kept = built(clustered[:4000], CELLS)
    points, survivors = clustered[100:4200], np.arange(100, 4000)
    one = update_graph(graph, points, survivors, CELLS, kept=kept)
    two = update_graph(graph, points, survivors, CELLS, kept=kept, n_threads=3)
    np.testing.assert_array_equal(one.graph.neighbors, two.graph.neighbors)
    assert one.graph.recall == two.graph.recall
    np.testing.assert_array_equal(one.kept[""].exact, two.kept[""].exact)
    without = update_graph(graph, points, survivors, CELLS)
    assert without.graph.recall.value > 0.9


def test_rows_far_beyond_all_others_make_cells_anew(clustered):
    points = clustered[:3000].copy()
    points[2990:] *= np.float32(1e30)
    graph, kept = built(points[:2990], CELLS)
    updated = update_graph(graph, points, np.arange(2990), CELLS, kept=kept)
    assert updated.kept[""].scale < kept[""].scale
    assert true_recall(updated.graph, points) > 0.9


def test_an_approximate_graph_does_not_become_exact(cloud):
    graph = build_graph(cloud, CELLS)
    with pytest.raises(ValueError, match="does not become exact"):
        update_graph(graph, cloud, np.arange(200), EXACT)


def test_an_exact_graph_may_go_on_in_cells(clustered):
    graph = build_graph(clustered[:3000], EXACT)
    params = GraphParams(n_neighbors=4, backend="cells", recall=0.9)
    updated = update_graph(graph, clustered[:3300], np.arange(3000), params)
    assert updated.graph.backend == "cells+exact"
    assert true_recall(updated.graph, clustered[:3300]) > 0.95


def test_codes_are_updated_in_cells_as_their_bits_are():
    rng = np.random.default_rng(2)
    middles = rng.integers(0, 256, (40, 12))
    codes = middles[rng.integers(0, 40, 3300)] ^ (1 << rng.integers(0, 12, (3300, 12)))
    codes = codes.astype(np.uint8)
    codes[3290:] = codes[:10]  # twins
    params = GraphParams(n_neighbors=5, backend="cells", metric="hamming", recall=0.9)
    graph, kept = built(codes[:3000], params)
    survivors = np.arange(20, 3000)
    now = np.concatenate([codes[20:3000], codes[3000:]])
    updated = update_graph(graph, now, survivors, params, kept=kept).graph
    exact = build_graph(now, replace(params, backend="exact"))
    recall = share_found(updated.distances, exact.distances)
    assert recall > 0.9
    assert abs(updated.recall.value - recall) < 0.03
    assert updated.backend == "cells"
    assert updated.n_duplicates == exact.n_duplicates
    bits = np.unpackbits(now, axis=1)
    for i in rng.choice(len(now), 50, replace=False):
        away = (bits[updated.neighbors[i]] != bits[i]).sum(axis=1)
        np.testing.assert_array_equal(updated.distances[i], away)


# --- what is kept ---------------------------------------------------------------------------------


def graph_file(kept, n, **results):
    """Return a graph of n rows without neighbours, with what is kept of it."""
    graph = KnnGraph(
        np.full((n, 1), -1, np.int32),
        np.full((n, 1), np.inf, np.float32),
        None,
        "cells",
        Recall(value=1.0, sample_size=n, target=1.0),
    )
    table = graph_table(graph, None, None, index_column(kept, n))
    meta = {"key": "0" * 64, "parameters": {}, "inputs": {}}
    return seal("graph", table, **meta, results={**graph_results(graph), **results})


def test_what_is_kept_is_read_again(tmp_path, clustered):
    groups = group_by(np.arange(3000) % 2)
    _, kept = built(clustered[:3000], CELLS, groups)
    wide = replace(kept["0"], axes=np.ones((24, 24), np.float32))
    kept |= {"wide": wide}
    write_artifact(tmp_path / "g.parquet", graph_file(kept, 3001))
    found = kept_of(read_artifact(str(tmp_path / "g.parquet"), "graph"))
    assert set(found) == {"0", "1", "wide"}
    for name, one in found.items():
        for field in fields(one):
            before, after = getattr(kept[name], field.name), getattr(one, field.name)
            np.testing.assert_array_equal(after, before)
            if isinstance(before, np.ndarray):
                assert after.dtype == before.dtype
    assert kept_of(graph_file({}, 5)) == {}
    assert "index" not in graph_file({}, 5).table.column_names


def test_what_is_kept_takes_few_bytes(clustered):
    _, kept = built(clustered, CELLS)
    column = index_column(kept, len(clustered))
    # Centres, a sample with six neighbours of 8 bytes each, and 2 bytes a row.
    assert column.nbytes < 4 * 30 * 24 + 1000 * (4 + 6 * 8) + 2 * 9000 + 4 * 9000 + 2000


def test_an_index_that_makes_no_sense_is_refused(clustered):
    _, kept = built(clustered[:1200], CELLS)
    whole, one = graph_file(kept, 1200), kept[""]
    data = matrix(whole.table, "index").ravel().tobytes()
    size = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:size])

    def with_head(changed):
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + data[size:]

    group = head["groups"][0]
    bad = [
        b"\xff" * 4800,
        data[: size + 100],
        with_head([]),
        with_head({**head, "version": 2}),
        with_head({**head, "groups": [{**group, "sample": 10**9}]}),
        with_head({**head, "groups": [{**group, "sample": -5}]}),
        with_head({**head, "groups": [{**group, "effort": -1}]}),
        with_head({**head, "groups": [{**group, "scale": 0}]}),
        with_head({**head, "groups": [{**group, "center": 7}]}),
        with_head({**head, "groups": [{**group, "cells": None}]}),
    ]
    odd = [
        {"": replace(one, cells=one.cells + len(one.centers))},
        {"": replace(one, sample=one.sample - 1200)},
    ]
    bad += [matrix(graph_file(kept, 1200).table, "index").tobytes() for kept in odd]
    for data_now in bad:
        width = -(-len(data_now) // 4800)
        column = np.frombuffer(data_now.ljust(4800 * width, b"\0"), np.int32)
        table = whole.table.set_column(
            whole.table.column_names.index("index"), "index", lists(column.reshape(1200, width))
        )
        with pytest.raises(ArtifactError, match="is no graph of d2: its index"):
            kept_of(replace(whole, table=table))


def test_what_is_kept_of_other_rows_is_not_used(clustered):
    graph, kept = built(clustered[:1200], CELLS)
    one = kept[""]
    strange = (
        replace(one, cells=one.cells[:-1]),
        replace(one, exact=one.exact[:, :-1]),
        replace(one, center=one.center[:-1]),
    )
    expected = update_graph(graph, clustered[:1250], np.arange(1200), CELLS).graph
    for other in strange:
        more = {"kept": {"": other}}
        found = update_graph(graph, clustered[:1250], np.arange(1200), CELLS, **more).graph
        assert_same(found, expected)
