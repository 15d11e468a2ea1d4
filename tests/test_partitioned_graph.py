"""Graphs in partitions, in this process: the neighbours of an undivided search."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact_neighbors

from d2cli.errors import ResourceError
from d2cli.files.artifacts import peek, read_artifact
from d2cli.files.parts import Parts
from d2cli.files.pieces import counts_of, keep_piece, read_piece
from d2cli.files.stages import graph_of
from d2cli.pipeline import partition_store, partition_tasks
from d2cli.pipeline import partitioned as pipeline
from d2cli.stages import partition_search
from d2cli.stages.executor import InProcess
from d2cli.stages.lists import unpack
from d2cli.stages.partition_exact import search_exactly
from d2cli.stages.partition_queries import add_answers, answer_queries
from d2cli.stages.partition_recall import Sample, look_in_partition, needed_probes
from d2cli.stages.partition_search import (
    Order,
    candidates_for,
    find_cells,
    join_cells,
    one_cell,
    search_cells,
)
from d2cli.stages.places import find_places, spread_lists
from d2cli.stages.projection import principal_axes
from d2cli.stages.recall import share_found
from d2cli.stages.space import build_space
from d2cli.stages.vector_partitions import divide

SIZES = (1, 2, 3, 7)
K = 5


def clustered(n, d, *, seed=0, clusters=30):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(clusters, d)) * 4
    return (centers[rng.integers(clusters, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


@pytest.fixture(params=["read", "asked"])
def sharing(request, monkeypatch):
    """All other partitions are read, or all of them are asked."""
    monkeypatch.setattr(partition_search, "READ_SHARE", 1 << 30 if request.param == "read" else 0)
    return request.param


class InMemory:
    """Partitions as they would be read from a store."""

    def __init__(self, vectors, n_partitions, *, seed=0, cells=True):
        everything = np.arange(len(vectors), dtype=np.int64)
        space = build_space(vectors, everything)
        axes = principal_axes(space, seed=seed)
        self.division = divide(space, axes, n_partitions, seed=seed)
        self.coordinates = self.division.coordinates
        self.narrowed = axes is not None
        parts = self.division.assign(vectors)
        self.there, self.orders, self.shown, self.n_queries = {}, {}, {}, 0
        for number in np.unique(parts).tolist():
            rows = everything[parts == number]
            there = find_places(rows, vectors[rows])
            points = self.coordinates.points(there.vectors)
            if cells:
                found = self.division.cells(there.vectors, number)
                order = find_cells(points, *found, seed=seed, smaller=False)
            else:
                order = one_cell(there.n_places, points.shape[1])
            self.there[number], self.orders[number], self.shown[number] = there, order, points
        self.numbers = list(self.there)
        orders = [self.orders.get(number) for number in range(n_partitions)]
        self.cells = join_cells(orders, self.coordinates.width)

    def places(self, number):
        return self.there[number]

    def order(self, number):
        return self.orders[number].places

    def points(self, number):
        return self.shown[number]

    def sample(self, vectors, rows):
        return Sample(rows, vectors[rows], self.coordinates.points(vectors[rows]))

    def nearest(self, sample, k):
        found = None
        for number in self.numbers:
            points = self.points(number) if self.narrowed else None
            one = look_in_partition(sample, self.places(number), self.orders[number], points, k)
            one.cells[one.cells >= 0] += self.cells.first[number].astype(np.int32)
            found = one if found is None else found.merge(one)
        return found

    def search(self, number, k, *, probes, narrowed):
        """Return the lists of a partition, with the answers of those that it asks."""
        found = search_cells(number, self, self.cells, k, probes=probes, narrowed=narrowed)
        queries, own, lists = found.queries, self.places(number), found.lists.copy()
        assert number not in queries.partitions
        self.n_queries += len(queries.places)
        for other in np.unique(queries.partitions).tolist():
            here = queries.partitions == other
            vectors = own.vectors[queries.places[here]]
            first, end = self.cells.first[other : other + 2]
            who, answers = answer_queries(
                self.places(other),
                self.order(other),
                self.points(other),
                self.cells.starts[first : end + 1] - self.cells.starts[first],
                (vectors, self.coordinates.points(vectors)),
                queries.cells[here],
                queries.limits[here],
                k,
                wanted=candidates_for(k, narrowed=narrowed),
            )
            one_row = np.arange(own.n_places + 1)
            add_answers(one_row, lists, queries.places[here][who].astype(np.int64), answers)
        return lists

    def graph(self, n, k, probes=None):
        """Return neighbours and distances; searched exactly without a number of cells."""
        neighbors = np.empty((n, k), dtype=np.int32)
        distances = np.empty((n, k), dtype=np.float32)
        for number in self.numbers:
            if probes is None:
                lists = search_exactly(number, self, self.numbers, k)
            else:
                how = {"probes": probes, "narrowed": self.narrowed}
                lists = self.search(number, k, **how)
            rows, lists = spread_lists(self.places(number), lists)
            neighbors[rows], distances[rows] = unpack(lists)
        return neighbors, distances


@given(st.data(), st.integers(1, 40), st.integers(1, 3), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_exact_search_in_any_partitions_is_brute_force(data, n, d, k):
    # Few different values: many equal rows, and many equal distances.
    values = data.draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    vectors = np.array(values, dtype=np.float32).reshape(n, d)
    reader = InMemory(vectors, data.draw(st.integers(1, n)), cells=False)
    neighbors, distances = reader.graph(n, k)
    expected = exact_neighbors(vectors, k)
    np.testing.assert_array_equal(neighbors, expected[0])
    np.testing.assert_array_equal(distances, expected[1])


@pytest.mark.parametrize("n_partitions", SIZES)
@pytest.mark.usefixtures("sharing")
def test_all_cells_of_all_partitions_are_brute_force(n_partitions):
    vectors = clustered(700, 4)
    vectors[100:130] = vectors[650]  # equal rows
    reader = InMemory(vectors, n_partitions)
    neighbors, distances = reader.graph(700, K, probes=reader.cells.n_cells)
    expected = exact_neighbors(vectors, K)
    np.testing.assert_array_equal(neighbors, expected[0])
    np.testing.assert_array_equal(distances, expected[1])


@given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_a_partition_depends_on_the_row_alone(seed, batch, n_partitions):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-3, 4, size=(400, 5)).astype(np.float32)  # many ties
    space = build_space(vectors, np.arange(400, dtype=np.int64))
    division = divide(space, None, n_partitions, seed=seed)
    whole = division.assign(vectors)
    blocks = [division.assign(vectors[i : i + batch]) for i in range(0, 400, batch)]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    _, inverse = np.unique(vectors, axis=0, return_inverse=True)
    for twins in range(inverse.max() + 1):
        assert len(set(whole[inverse.ravel() == twins])) == 1
    # The nearest centroid by float64 sums, the first of those as near in float32.
    points = division.coordinates.points(vectors).astype(np.float64)
    apart = np.sqrt(((points[:, None] - division.centroids.astype(np.float64)) ** 2).sum(axis=2))
    nearest = apart.astype(np.float32).argmin(axis=1)
    np.testing.assert_array_equal(whole, division.partitions[nearest])


def test_on_axes_a_partition_depends_on_the_row_alone():
    rng = np.random.default_rng(4)
    mixing = rng.normal(size=(10, 160))
    vectors = (rng.normal(size=(900, 10)) @ mixing).astype(np.float32)
    vectors[500:600] = vectors[:100]
    space = build_space(vectors, np.arange(900, dtype=np.int64))
    axes = principal_axes(space, seed=0)
    assert axes is not None
    division = divide(space, axes, 4, seed=0)
    whole = division.assign(vectors)
    np.testing.assert_array_equal(whole[500:600], whole[:100])
    np.testing.assert_array_equal(division.assign(vectors[333:777]), whole[333:777])


def test_partitions_are_of_about_one_size():
    division = InMemory(clustered(12_000, 6, clusters=200), 7)
    sizes = [there.n_places for there in division.there.values()]
    assert len(sizes) == 7
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.parametrize(("d", "narrowed"), [(6, False), (160, True)])
def test_the_cells_needed_are_known_before_the_search(d, narrowed):
    rng = np.random.default_rng(5)
    vectors = clustered(3000, 6, seed=5, clusters=60)
    if narrowed:
        vectors = (vectors @ rng.normal(size=(6, d))).astype(np.float32)
    reader = InMemory(vectors, 4)
    assert reader.narrowed == narrowed
    sample = reader.sample(vectors, np.sort(rng.choice(3000, 400, replace=False)))
    nearest = reader.nearest(sample, K)
    shares = {}
    for target in (0.8, 0.95, 1.0):
        probes = needed_probes(sample, nearest, reader.cells, target)
        _, distances = reader.graph(3000, K, probes=probes)
        shares[probes] = share_found(distances[sample.rows], nearest.distances)
        assert shares[probes] >= target
        if probes > 1:
            _, distances = reader.graph(3000, K, probes=probes - 1)
            assert share_found(distances[sample.rows], nearest.distances) < target + 0.002
    assert len(shares) > 1


def test_a_sample_finds_its_exact_neighbors():
    vectors = clustered(600, 5, seed=2)
    vectors[40:60] = vectors[7]
    reader = InMemory(vectors, 3)
    sample = reader.sample(vectors, np.arange(600, dtype=np.int64))
    nearest = reader.nearest(sample, K)
    neighbors, distances = exact_neighbors(vectors, K)
    np.testing.assert_array_equal(unpack(nearest.lists)[0], neighbors)
    np.testing.assert_array_equal(nearest.distances, distances)
    cell_of = np.empty(600, dtype=np.int64)
    for number in reader.numbers:
        there, order = reader.places(number), reader.orders[number]
        sizes = np.diff(order.starts)
        cells = np.repeat(np.arange(len(sizes)), sizes) + reader.cells.first[number]
        by_place = np.empty(there.n_places, dtype=np.int64)
        by_place[order.places] = cells
        cell_of[there.members] = np.repeat(by_place, there.counts)
    known = nearest.cells >= 0
    np.testing.assert_array_equal(nearest.cells[known], cell_of[neighbors[known]])
    twins = (vectors[neighbors] == vectors[:, None]).all(axis=2)
    np.testing.assert_array_equal(~known, twins)


def test_smaller_cells_hold_all_points():
    points = clustered(2000, 4)
    whole = points.copy()
    order = find_cells(points, np.zeros(2000, np.int32), points[:1].copy(), seed=0, smaller=True)
    assert isinstance(order, Order)
    assert len(order.centers) == 2000 // 300
    np.testing.assert_array_equal(points, whole[order.places])
    np.testing.assert_array_equal(np.sort(order.places), np.arange(2000))


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with clustered vectors, some of them equal, and ids."""
    folder = tmp_path_factory.mktemp("data")
    vectors = clustered(3000, 8, clusters=40)
    vectors[2000:2050] = vectors[:50]
    np.save(folder / "v.npy", vectors)
    np.save(folder / "unit.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
    ids = pa.array([f"id-{i}" for i in range(3000)])
    pq.write_table(pa.table({"id": ids, "emb": lists}), folder / "v.parquet", row_group_size=700)
    return folder


def built(d2, tmp_path, source, *more, name="g.parquet"):
    code, _, err = d2("graph", source, "-k", K, *more, "-o", tmp_path / name)
    assert code == 0, err
    return read_artifact(tmp_path / name, "graph")


@pytest.mark.parametrize(
    ("n_partitions", "metric"),
    [(1, "l2"), (2, "cosine"), (3, "mahalanobis"), (7, "l2"), (3, "ip")],
)
def test_exact_graphs_do_not_depend_on_partitions(data, tmp_path, d2, n_partitions, metric):
    source = data / ("unit.npy" if metric == "ip" else "v.npy")
    plain = built(d2, tmp_path, source, "--metric", metric)
    more = ("--metric", metric, "--partitions", n_partitions)
    parted = built(d2, tmp_path, source, *more)
    assert parted.table.equals(plain.table)
    assert parted.key != plain.key
    assert parted.meta["parameters"] == {**plain.meta["parameters"], "partitions": n_partitions}
    assert parted.meta["results"]["duplicates"] == 50
    assert parted.meta["results"]["backend"] == "exact"


@pytest.mark.parametrize("n_partitions", [1, 7])
@pytest.mark.usefixtures("sharing")
def test_recall_reaches_its_target(data, tmp_path, d2, n_partitions):
    exact = graph_of(built(d2, tmp_path, data / "v.npy", "--backend", "exact"))
    for target in (0.6, 0.97):
        how = ("--backend", "cells", "--partitions", n_partitions, "--recall", target)
        made = built(d2, tmp_path, data / "v.npy", *how)
        found = share_found(graph_of(made).distances, exact.distances)
        results = made.meta["results"]
        assert results["recall"]["value"] >= target
        assert found == pytest.approx(results["recall"]["value"], abs=0.03)
        assert 1 <= results["partitions_searched"]["mean"] <= n_partitions


def test_batches_and_formats_do_not_matter(data, tmp_path, d2, monkeypatch):
    how = ("--backend", "cells", "--partitions", 3)
    one = built(d2, tmp_path, data / "v.npy", *how)
    table = built(d2, tmp_path, data / "v.parquet", *how)
    monkeypatch.setattr(pipeline, "PIECE_BYTES", 8 * 4 * 257)
    pieces = built(d2, tmp_path, data / "v.npy", *how, "--force")
    assert one.digest == pieces.digest
    assert table.meta["inputs"]["vectors"] == one.meta["inputs"]["vectors"]
    assert table.table.drop(["id"]).equals(one.table)


def test_what_an_interrupted_run_has_kept_is_found(data, tmp_path, d2, monkeypatch):
    store = tmp_path / "store"
    how = ("--backend", "cells", "--partitions", 4, "--store", store, "-v")
    expected = built(d2, tmp_path, data / "v.npy", *how, name="expected.parquet")
    begun, original = [], InProcess.submit

    def mined(self, function, *arguments):
        begun.append(function.__name__)
        if len(begun) == 8:  # of a piece, 4 indexed, 4 asked, 4 searched
            raise ResourceError("lost")
        return original(self, function, *arguments)

    monkeypatch.setattr(InProcess, "submit", mined)
    code, _, _ = d2("graph", data / "v.npy", "-k", K, *how, "-o", tmp_path / "g.parquet")
    assert code == 5
    assert not (tmp_path / "g.parquet").exists()
    damaged = sorted(store.glob("part-*.parquet"))[3]
    damaged.write_bytes(damaged.read_bytes()[:-300])
    monkeypatch.setattr(InProcess, "submit", original)
    code, _, err = d2("graph", data / "v.npy", "-k", K, *how, "-o", tmp_path / "g.parquet")
    assert code == 0, err
    assert "; making it again" in err
    assert read_artifact(tmp_path / "g.parquet", "graph").digest == expected.digest
    assert not list(store.iterdir())
    assert any(f"{13 - 7 + more} tasks (local) for 4 partitions" in err for more in (0, 1))


def test_a_run_that_asks_goes_on_wherever_it_was_lost(data, tmp_path, d2, monkeypatch):
    store = tmp_path / "store"
    how = ("--backend", "cells", "--partitions", 4, "--store", store, "-v", "--recall", 0.999)
    line = ("graph", data / "v.npy", "-k", K, *how, "-o", tmp_path / "g.parquet")
    read = built(d2, tmp_path, data / "v.npy", *how, name="read.parquet")
    monkeypatch.setattr(partition_search, "READ_SHARE", 0)
    expected = built(d2, tmp_path, data / "v.npy", *how, "--force", name="expected.parquet")
    pair = graph_of(read).distances, graph_of(expected).distances
    assert share_found(pair[1], pair[0]) > 0.97  # at least as near, but for rounding
    monkeypatch.setattr(partition_tasks, "CHUNK_BYTES", 10_000)
    begun, original, rng = [], InProcess.submit, np.random.default_rng(0)

    def mined(self, function, *arguments):
        begun.append(function.__name__)
        if len(begun) == at:
            raise ResourceError("lost")
        return original(self, function, *arguments)

    at = 100
    monkeypatch.setattr(InProcess, "submit", mined)
    built(d2, tmp_path, data / "v.npy", *how, "--force", name="expected.parquet")
    tasks = begun.copy()
    kinds = "divide_rows", "index_partition", "ask_partition", "search_partition"
    assert list(dict.fromkeys(tasks)) == [*kinds, "answer_partition", "merge_partition"]
    for at in range(2, len(tasks) + 1, 3):
        begun.clear()
        monkeypatch.setattr(InProcess, "submit", mined)
        code, _, _ = d2(*line)
        assert (code, begun) == (5, tasks[:at])
        assert not (tmp_path / "g.parquet").exists()
        chosen = sorted(store.glob("part-*.parquet"))[rng.integers(at)]
        chosen.write_bytes(chosen.read_bytes()[:-300])
        monkeypatch.setattr(InProcess, "submit", original)
        code, _, err = d2(*line)
        assert code == 0, err
        assert read_artifact(tmp_path / "g.parquet", "graph").digest == expected.digest
        assert not list(store.iterdir())
        (tmp_path / "g.parquet").unlink()


def test_prune_takes_all_stages_through_partitions(data, tmp_path, d2):
    np.save(tmp_path / "s.npy", np.random.default_rng(1).random(3000))
    line = ("prune", data / "v.npy", "--difficulty", tmp_path / "s.npy", "--harder", "high")
    line = (*line, "--rate", 0.9, "--cache-dir", tmp_path / "cache")
    assert d2(*line, "-o", tmp_path / "plain.parquet")[0] == 0
    report = tmp_path / "report.json"
    parts = ("--partitions", 3, "--report", report)
    code, _, err = d2(*line, *parts, "-o", tmp_path / "parts.parquet")
    assert code == 0, err
    # The graph of so few rows is exact, and so is the selection.
    plain, parted = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("plain", "parts"))
    assert parted.equals(plain)
    stages = json.loads(report.read_text())["stages"]
    assert [(one["stage"], one["partitions"]) for one in stages] == [
        ("graph", 3),
        ("score", 3),
        ("select", 3),
    ]
    assert not list((tmp_path / "cache").glob("part-*"))
    code, _, err = d2(*line, *parts, "-o", tmp_path / "parts.parquet")
    assert "up to date" in err


def test_an_update_goes_on_from_partitions(data, tmp_path, d2):
    how = ("--backend", "cells", "--partitions", 3)
    built(d2, tmp_path, data / "v.npy", *how)
    np.save(tmp_path / "more.npy", clustered(20, 8, seed=9))
    line = ("update", tmp_path / "g.parquet", "--add", tmp_path / "more.npy")
    code, _, err = d2(*line, "-o", tmp_path / "u.parquet")
    assert code == 0, err
    updated = read_artifact(tmp_path / "u.parquet", "graph")
    assert updated.table.num_rows == 3020
    assert "partitions" not in updated.meta["parameters"]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--partitions", 3001), 2, "partitions is 3,001, expected 1 to 3,000"),
        (("--partitions", 0), 2, "partitions is 0, expected at least 1"),
        (("--partitions", 2, "--backend", "hnsw"), 2, "backend hnsw does not go with partitions"),
        (("--partitions", 2, "--metric", "l1"), 2, "metric l1 does not go with partitions"),
        (("--partitions", 2, "--dry-run"), 2, "--dry-run does not plan a graph in partitions"),
        (("--store", "here"), 2, "--store is only used where a stage runs in parts"),
        (("--partitions", 2, "--store", "v.npy"), 2, "v.npy: cannot be a store"),
        (("--address", "auto"), 2, "--address is only used by --engine ray"),
        (("--engine", "ray", "--address", "127.0.0.1:9"), 5, "no Ray cluster answers"),
    ],
)
def test_bad_use_is_one_clear_line(data, tmp_path, d2, monkeypatch, more, code, message):
    monkeypatch.chdir(data)
    found, out, err = d2("graph", "v.npy", *more, "-o", tmp_path / "g.parquet")
    assert found == code, err
    assert message in err
    assert len(err.splitlines()) == 2
    assert not out
    assert not (tmp_path / "g.parquet").exists()


def test_groups_and_several_embeddings_are_refused(data, tmp_path, d2):
    np.save(tmp_path / "label.npy", np.arange(3000) % 3)
    both = ("-e", f"a={data / 'v.npy'}", "-e", f"b={data / 'v.npy'}")
    for more in (("--within", tmp_path / "label.npy"), both):
        line = ("graph", data / "v.npy", *more, "--partitions", 2, "-o", tmp_path / "g.parquet")
        code, _, err = d2(*line)
        assert code == 2
        assert "is not searched in partitions" in err


def test_without_ray_the_extra_is_named(data, tmp_path, d2, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    line = ("graph", data / "v.npy", "--engine", "ray", "-o", tmp_path / "g.parquet")
    code, _, err = d2(*line)
    assert code == 2
    assert "pip install 'd2cli[ray]'" in err


def test_bad_rows_are_named_as_without_partitions(tmp_path, d2):
    vectors = clustered(100, 3)
    vectors[60:62] = np.nan
    np.save(tmp_path / "bad.npy", vectors)
    lines = []
    for more in ((), ("--partitions", 3)):
        code, _, err = d2("graph", tmp_path / "bad.npy", *more, "-o", tmp_path / "g.parquet")
        assert code == 3
        lines.append(err)
    assert lines[0] == lines[1]


def test_what_its_steps_took_is_told(tmp_path, d2):
    np.save(tmp_path / "v.npy", clustered(3000, 4))
    line = ("graph", tmp_path / "v.npy", "--backend", "cells", "--partitions", 3)
    code, out, err = d2(*line, "-o", tmp_path / "g.parquet", "--json")
    assert code == 0, err
    (stage,) = json.loads(out)["stages"]
    steps = {step["step"]: step for step in stage["steps"]}
    tasks = ["dividing", "indexing", "measuring recall", "searching"]
    assert [name for name, step in steps.items() if step["tasks"]] == tasks
    rows = 3000 * (8 + 4 * 4)  # numbers and vectors
    assert rows <= steps["dividing"]["bytes_kept"] < 1.01 * rows
    assert steps["dividing"]["bytes_read"] == 0
    assert steps["indexing"]["bytes_read"] == rows  # each row once
    assert steps["searching"]["bytes_kept"] == 3000 * (8 + 8 + 8 * 10)
    assert steps["collect"]["bytes_read"] > steps["searching"]["bytes_kept"]
    assert "  graph   measuring recall" in err
    code, out, err = d2(*line, "-o", tmp_path / "g.parquet", "--json")
    assert "stages" not in json.loads(out)  # up to date
    assert "measuring" not in err


@pytest.mark.parametrize("d", [4, 160])  # as they are, and on axes
def test_partitions_that_do_not_fit_are_read_again(tmp_path, d2, monkeypatch, d):
    np.save(tmp_path / "v.npy", clustered(3000, d, clusters=6))
    line = ("graph", tmp_path / "v.npy", "--backend", "cells", "--partitions", 3, "--json")
    made, read = [], []
    for held in (partition_store.HELD_BYTES, 0):
        monkeypatch.setattr(partition_store, "HELD_BYTES", held)
        code, out, err = d2(*line, "-o", tmp_path / f"{held}.parquet", "--force")
        assert code == 0, err
        made.append((tmp_path / f"{held}.parquet").read_bytes())
        steps = {step["step"]: step for step in json.loads(out)["stages"][0]["steps"]}
        read.append(sum(steps[name]["bytes_read"] for name in ("measuring recall", "searching")))
    assert made[0] == made[1]
    whole = steps["dividing"]["bytes_kept"] + steps["indexing"]["bytes_kept"]
    assert read[0] < 1.1 * whole < read[1]
    # Each partition for the sample, and at most all of them, and vectors twice, by each of three.
    assert read[1] < 1.1 * (1 + 3 * 2) * whole


@given(st.integers(0, 12), st.integers(1, 4), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_pieces_give_each_partition_its_rows(tmp_path_factory, n, n_partitions, seed):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(n_partitions, size=n).astype(np.int32)
    columns = {"row": np.arange(n), "vector": rng.random((n, 3)).astype(np.float32)}
    parts = Parts(tmp_path_factory.mktemp("pieces"), "a" * 64)
    keep_piece(parts, columns, numbers, n_partitions, stage="piece")
    counts = np.bincount(numbers, minlength=n_partitions)
    np.testing.assert_array_equal(counts_of(parts, stage="piece"), counts)
    for number in range(n_partitions):
        found = read_piece(parts, number, stage="piece")
        for name, values in columns.items():
            np.testing.assert_array_equal(found[name], values[numbers == number], strict=True)
    assert parts.find(stage="piece") is not None


def named(store, stage):
    """Return the parts of a stage, by name."""
    return [
        one for one in sorted(store.glob("part-*")) if peek(one)["parameters"]["stage"] == stage
    ]


def swap(store, stage):
    one, other = named(store, stage)[:2]
    one.rename(store / "aside")
    other.rename(one)
    (store / "aside").rename(other)


def copy(store, stage):
    one, other = named(store, stage)[:2]
    other.write_bytes(one.read_bytes())


def mend_a_digit(store, stage):
    """Another partition is said to have been asked, in as many bytes."""
    for one in named(store, stage):
        data = one.read_bytes()
        at = data.find(b'"asked":[[') + len(b'"asked":[[')
        if data[at : at + 1].isdigit():
            one.write_bytes(
                data[:at] + (b"2" if data[at : at + 1] != b"2" else b"3") + data[at + 1 :]
            )
            return
    raise AssertionError("nobody has asked")


@pytest.mark.parametrize(
    ("before", "stage", "harm"),
    [
        ("index_partition", "piece", swap),
        ("index_partition", "piece", copy),
        ("ask_partition", "cells", copy),
        ("answer_partition", "queries", swap),
        ("answer_partition", "queries", copy),
        ("answer_partition", "lists", swap),
        ("collect", "lists", mend_a_digit),
        ("merge_partition", "answers", swap),
        ("merge_partition", "lists", copy),
    ],
)
def test_parts_of_another_name_are_none(data, tmp_path, d2, monkeypatch, before, stage, harm):
    monkeypatch.setattr(partition_search, "READ_SHARE", 0)
    monkeypatch.setattr(pipeline, "PIECE_BYTES", 8 * 4 * 1000)
    store, output = tmp_path / "store", tmp_path / "g.parquet"
    how = ("--backend", "cells", "--partitions", 4, "--recall", 0.999)
    expected = built(d2, tmp_path, data / "v.npy", *how, name="expected.parquet")
    original, searched, harmed = InProcess.submit, [], []

    def submit(self, function, *arguments):
        if function.__name__ == before and not harmed:
            harmed.append(harm(store, stage))
        done = original(self, function, *arguments)
        searched.append(function.__name__)
        if before == "collect" and searched.count("search_partition") == 4 and not harmed:
            harmed.append(harm(store, stage))
        return done

    monkeypatch.setattr(InProcess, "submit", submit)
    monkeypatch.setattr(partition_store, "HELD_BYTES", 0)  # parts are read again, not held
    line = ("graph", data / "v.npy", "-k", K, *how, "--store", store, "-o", output)
    code, _, err = d2(*line)
    assert harmed
    if code:
        assert code == 5
        assert "a part of the result is not there any more, or is damaged" in err
        assert not output.exists()
        code, _, err = d2(*line)
    assert code == 0, err
    assert read_artifact(output, "graph").digest == expected.digest
