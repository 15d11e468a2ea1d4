"""Results do not depend on where vectors live."""

import numpy as np
import pytest

from d2cli.errors import InputError
from d2cli.files.digests import digest_array
from d2cli.files.scratch import DiskRoom
from d2cli.params import GraphParams
from d2cli.stages import space as spaces
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.room import IN_MEMORY
from d2cli.stages.space import build_space, distinct_rows
from d2cli.stages.vectors import as_vectors


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Nearly everything is released at once, and a few rows are compared at a time."""
    monkeypatch.setattr(spaces, "GATHERED_BYTES", 3000)
    return DiskRoom(1, lambda: tmp_path)


def rows_of(kind, n=900, d=20):
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(9, d))[rng.integers(9, size=n)] * 3 + rng.normal(size=(n, d))
    rows[rng.integers(n, size=200)] = rows[rng.integers(n, size=200)]  # twins
    rows[rng.integers(n, size=100)] = rows[4]
    return rows.astype(kind)


def same(one, other):
    np.testing.assert_array_equal(one.neighbors, other.neighbors)
    np.testing.assert_array_equal(one.distances, other.distances)
    assert one.recall == other.recall
    assert one.n_duplicates == other.n_duplicates


@pytest.mark.parametrize("backend", ["exact", "hnsw", "cells"])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_graphs_from_disk_are_those_from_memory(disk, tmp_path, kind, metric, backend):
    np.save(tmp_path / "a.npy", rows_of(kind))
    stored = np.load(tmp_path / "a.npy", mmap_mode="r")
    params = GraphParams(n_neighbors=6, metric=metric, backend=backend)
    on_disk = as_vectors(stored, metric, room=disk)
    in_memory = as_vectors(np.asarray(stored), metric)
    np.testing.assert_array_equal(on_disk, in_memory)
    same(
        build_graph(on_disk, params, room=disk, n_threads=2),
        build_graph(in_memory, params),
    )


@pytest.mark.parametrize("backend", ["hnsw", "cells"])
def test_wide_vectors_on_disk_have_the_axes_of_those_in_memory(disk, backend):
    vectors = rows_of(np.float32, d=200)
    rows = disk.rows(vectors.shape, np.float32)
    rows.append(vectors)
    params = GraphParams(n_neighbors=6, backend=backend)
    same(build_graph(rows.finish(), params, room=disk), build_graph(vectors, params))


@pytest.mark.parametrize("backend", ["exact", "cells"])
def test_groups_from_disk_are_those_from_memory(disk, backend):
    vectors = rows_of(np.float32)
    rows = disk.rows(vectors.shape, np.float32)
    rows.append(vectors)
    groups = group_by(np.arange(900) % 3)
    params = GraphParams(n_neighbors=4, backend=backend)
    same(
        build_graph(rows.finish(), params, groups=groups, room=disk),
        build_graph(vectors, params, groups=groups),
    )


def test_equal_rows_are_found_few_at_a_time(disk):
    vectors, rows = rows_of(np.float32), np.arange(900)
    for found, expected in zip(
        distinct_rows(vectors, rows, room=disk), distinct_rows(vectors, rows), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_candidates_that_are_missing_stay_missing(disk, cloud):
    queries = np.array([3, 0], dtype=np.int32)
    candidates = np.array([-1, 5, 9, 0, -1, -1], dtype=np.int32)
    indptr = np.array([0, 4, 6])
    answers = [
        build_space(cloud, np.arange(200), room=room).nearest(queries, indptr, candidates, 3)
        for room in (IN_MEMORY, disk)
    ]
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    np.testing.assert_array_equal(answers[0][1], answers[1][1])
    assert answers[1][0][1].tolist() == [-1, -1, -1]


def test_digests_do_not_depend_on_the_room(disk):
    for kind in (np.float16, np.float32):
        assert digest_array(rows_of(kind), disk) == digest_array(rows_of(kind))


def test_bad_rows_are_named_from_disk_too(disk):
    vectors = rows_of(np.float16)
    vectors[70, 3] = np.nan
    with pytest.raises(InputError, match=r"row 70 holds NaN \(1 row in all\)"):
        as_vectors(vectors, "cosine", room=disk)


def test_unit_vectors_may_take_the_place_of_vectors_nobody_needs():
    vectors = rows_of(np.float32)
    expected = as_vectors(vectors.copy(), "cosine")
    kept = as_vectors(vectors, "cosine")
    assert not np.shares_memory(kept, vectors)
    spent = as_vectors(vectors, "cosine", overwrite=True)
    assert np.shares_memory(spent, vectors)
    np.testing.assert_array_equal(spent, expected)
    frozen = rows_of(np.float32)
    frozen.flags.writeable = False
    assert not np.shares_memory(as_vectors(frozen, "cosine", overwrite=True), frozen)
