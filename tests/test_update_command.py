"""``d2 update`` as a user runs it: files in, a sealed graph out, bad input refused."""

import base64
import json
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.files.artifacts import read_artifact, seal, write_artifact
from d2cli.files.origins import origins_of
from d2cli.files.scratch import DiskRoom
from d2cli.files.stages import graph_of, lists
from d2cli.params import GraphParams
from d2cli.pipeline.changes import Changes
from d2cli.pipeline.graph import run_graph
from d2cli.pipeline.run import Run
from d2cli.pipeline.update import run_update
from d2cli.stages.graph import build_graph
from d2cli.stages.room import IN_MEMORY
from d2cli.stages.vectors import as_vectors


def save(path, vectors, **columns):
    embedding = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1]
    )
    pq.write_table(pa.table({**columns, "emb": embedding, "other": embedding}), path)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """old.parquet (rows 0 ... 149), new.parquet (150 ... 199) and all of them as all.parquet."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(200, 6)).round(1).astype(np.float32)
    vectors[160:165] = vectors[3]  # old and new twins
    ids = [f"row-{i}" for i in range(200)]
    labels = rng.integers(0, 3, 200)
    labels[190:] = 7  # a new group
    for name, part in (("old", slice(0, 150)), ("new", slice(150, 200)), ("all", slice(0, 200))):
        save(f"{name}.parquet", vectors[part], id=ids[part], label=labels[part])
        np.save(f"{name}.npy", vectors[part])
    return tmp_path


def columns_of(path):
    graph = graph_of(read_artifact(str(path), "graph"))
    return graph.neighbors, graph.distances


def assert_same(path, other):
    for one, two in zip(columns_of(path), columns_of(other), strict=True):
        np.testing.assert_array_equal(one, two)


def made(d2, *line):
    code, out, err = d2(*line)
    assert code == 0, err
    return out, err


def assert_refused(result, code, *words):
    found, out, err = result
    assert (found, out) == (code, ""), err
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 2
    for word in words:
        assert word in err, err


GRAPH = ("graph", "old.parquet", "-e", "emb", "--backend", "exact", "-o", "g.parquet")
UPDATE = ("update", "g.parquet", "--add", "new.parquet", "-o", "g2.parquet")


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("within", [(), ("--within", "label")])
def test_an_update_is_the_graph_built_anew(home, d2, metric, within):
    more = ("--metric", metric, *within)
    made(d2, *GRAPH, *more)
    made(d2, *UPDATE)
    made(d2, "graph", "all.parquet", "-e", "emb", "--backend", "exact", "-o", "h.parquet", *more)
    one, two = (pq.read_table(path) for path in ("g2.parquet", "h.parquet"))
    assert one.equals(two)
    found, built = (read_artifact(f"{name}.parquet", "graph").meta for name in ("g2", "h"))
    assert found["parameters"] == built["parameters"]
    assert built["inputs"].items() <= found["inputs"].items()
    assert {**found["results"], "update": 0} == {**built["results"], "update": 0}


def test_updates_follow_one_another_and_rows_leave(home, d2):
    made(d2, *GRAPH)
    (home / "gone.txt").write_text("row-3\nrow-7\nrow-140\n")
    save("one.parquet", np.ones((1, 6), np.float32), id=["z"], label=[1])
    made(d2, *UPDATE, "--retire", "gone.txt")
    (home / "more.txt").write_text("row-0\nrow-155\n")
    last = ("update", "g2.parquet", "--add", "one.parquet", "--retire", "more.txt")
    made(d2, *last, "-o", "g3.parquet")
    vectors = np.load("all.npy")
    gone = [0, 3, 7, 140, 155]
    kept = np.delete(np.arange(200), gone)
    np.save("now.npy", np.concatenate([vectors[kept], np.ones((1, 6), np.float32)]))
    made(d2, "graph", "now.npy", "--backend", "exact", "-o", "h.parquet")
    assert_same("g3.parquet", "h.parquet")
    ids = pq.read_table("g3.parquet")["id"].to_pylist()
    assert ids == [*(f"row-{i}" for i in kept), "z"]
    graph = read_artifact("g3.parquet", "graph")
    assert [one["source"] for one in graph.sources] == ["old.parquet", "new.parquet", "one.parquet"]


def test_rows_are_only_retired(home, d2):
    made(d2, "graph", "old.npy", "--backend", "exact", "-o", "g.parquet")
    np.save("gone.npy", np.array([5, 1]))
    made(d2, "update", "g.parquet", "--retire", "gone.npy", "-o", "g2.parquet")
    np.save("now.npy", np.delete(np.load("old.npy"), [1, 5], axis=0))
    made(d2, "graph", "now.npy", "--backend", "exact", "-o", "h.parquet")
    assert_same("g2.parquet", "h.parquet")


def test_an_id_may_be_retired_and_added_at_once(home, d2):
    made(d2, *GRAPH)
    save("again.parquet", np.full((1, 6), 9, np.float32), id=["row-3"])
    line = ("update", "g.parquet", "--add", "again.parquet", "-o", "g2.parquet")
    assert_refused(d2(*line), 3, "row 0 has the id 'row-3'", "--retire")
    (home / "gone.txt").write_text("row-3\n")
    made(d2, *line, "--retire", "gone.txt")
    assert pq.read_table("g2.parquet")["id"].to_pylist()[-1] == "row-3"


def test_what_is_up_to_date_is_left_alone(home, d2):
    made(d2, *GRAPH)
    made(d2, *UPDATE)
    before = (home / "g2.parquet").stat().st_mtime_ns
    assert "up to date" in made(d2, *UPDATE)[1]
    assert (home / "g2.parquet").stat().st_mtime_ns == before
    made(d2, *UPDATE, "--force")
    assert (home / "g2.parquet").stat().st_mtime_ns > before
    (home / "gone.txt").write_text("row-3\n")
    assert "up to date" not in made(d2, *UPDATE, "--retire", "gone.txt")[1]


def test_threads_do_not_change_the_bytes(home, d2):
    made(d2, *GRAPH)
    made(d2, *UPDATE, "-j", 1)
    before = (home / "g2.parquet").read_bytes()
    made(d2, *UPDATE, "-j", 3, "--force")
    assert (home / "g2.parquet").read_bytes() == before


def test_a_graph_moves_with_its_sources_or_is_told_of_them(home, d2):
    made(d2, *GRAPH)
    made(d2, *UPDATE)
    (home / "there").mkdir()
    for name in ("g.parquet", "old.parquet"):
        (home / name).rename(home / "there" / name)
    line = ("update", "there/g.parquet", "--add", "new.parquet", "-o", "g3.parquet")
    made(d2, *line)
    assert_same("g3.parquet", "g2.parquet")
    (home / "there" / "old.parquet").rename(home / "elsewhere.parquet")
    assert_refused(d2(*line, "--force"), 3, "old.parquet", "--source")
    made(d2, *line, "--force", "--source", "elsewhere.parquet")
    made(d2, *line, "--force", "--source", "old.npy")
    assert_same("g3.parquet", "g2.parquet")
    sources = read_artifact("g3.parquet", "graph").sources
    assert [one["source"] for one in sources] == ["old.npy", "new.parquet"]


def test_pipes(home, shell, d2):
    made(d2, *GRAPH)
    made(d2, *UPDATE)
    done = shell(
        "d2 graph old.parquet -e emb --backend exact -q"
        " | d2 update --add new.parquet -e emb --source old.parquet -q | cat > g3.arrow"
    )
    assert done.returncode == 0, done.stderr
    assert_same("g3.arrow", "g2.parquet")


def test_what_follows_takes_an_updated_graph(home, d2):
    made(d2, *GRAPH)
    made(d2, *UPDATE)
    np.save("aum.npy", np.random.default_rng(0).random(200))
    made(d2, "score", "g2.parquet", "--difficulty", "aum.npy", "-o", "s.parquet")
    made(d2, "select", "s.parquet", "--rate", 0.5, "-o", "keep.parquet", "--report", "r.json")
    made(d2, "select", "s.parquet", "--rate", 0.6, "-o", "less.parquet")
    made(d2, "diff", "keep.parquet", "less.parquet")
    row = pq.read_table("keep.parquet")["id"].to_pylist()[0]
    where = ("--scores", "s.parquet", "--graph", "g2.parquet")
    made(d2, "explain", "keep.parquet", row, *where)
    _, err = made(d2, "report", "keep.parquet", *where, "--embedding", "all.npy", "-o", "r.html")
    assert "does not hold the vectors" not in err


def test_the_result_as_json(home, d2):
    made(d2, *GRAPH)
    out, _ = made(d2, *UPDATE, "--json")
    meta = json.loads(out)
    assert meta["results"]["update"] == {"added": 50, "retired": 0, "dtype": "float32"}
    assert set(meta["inputs"]) >= {"vectors", "id", "graph", "added_vectors", "added_id", "retired"}


APPROXIMATE = ("graph", "old.npy", "--backend", "cells", "-o", "g.parquet")
ADD = ("update", "g.parquet", "--add", "new.npy", "-o", "g2.parquet")


@pytest.fixture
def larger(home):
    vectors = np.random.default_rng(1).normal(size=(1500, 8)).astype(np.float32)
    np.save("old.npy", vectors[:1400])
    np.save("new.npy", vectors[1400:])
    np.save("all.npy", vectors)
    return home


@pytest.mark.parametrize("how", [("--metric", "cosine"), ("--backend", "hnsw"), ()])
def test_an_update_does_not_depend_on_the_cache(larger, d2, own_cache, how):
    made(d2, *APPROXIMATE, *how)
    assert "note" not in made(d2, *ADD)[1]
    made(d2, "update", "g2.parquet", "--add", "old.npy", "-o", "g3.parquet")
    made(d2, "prune", "old.npy", "--difficulty", "uniform", "--rate", 0.5, "-o", "k.npy", *how)
    first = [(larger / name).read_bytes() for name in ("g.parquet", "g2.parquet", "g3.parquet")]
    held = sorted(own_cache.rglob("*.parquet"))
    assert held  # of d2 prune
    for path in held:  # damaged
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    def again(*more):
        made(d2, *APPROXIMATE, *how, "--force", *more)
        made(d2, *ADD, "--force", *more)
        line = ("update", "g2.parquet", "--add", "old.npy", "-o", "g3.parquet", "--force")
        made(d2, *line, *more)
        names = ("g.parquet", "g2.parquet", "g3.parquet")
        return [(larger / name).read_bytes() for name in names]

    assert again() == first
    made(d2, "cache", "clear")
    assert not list(own_cache.rglob("*.parquet"))
    assert again("--cache-dir", larger / "nowhere" / "else") == first
    assert not (larger / "nowhere").exists()


def test_a_graph_of_before_cells_were_kept_is_updated(larger, d2):
    made(d2, *APPROXIMATE)
    graph = read_artifact("g.parquet", "graph")
    meta = {name: graph.meta[name] for name in ("key", "parameters", "inputs", "results")}
    sealed = seal("graph", graph.table.drop_columns(["index"]), **meta)
    write_artifact(larger / "old.parquet", replace(sealed, sources=graph.sources))
    line = ("update", "old.parquet", *ADD[2:])
    assert "old.parquet has no cells; they are made, which takes longer" in made(d2, *line)[1]
    assert "index" in pq.read_table("g2.parquet").column_names


def test_what_is_kept_goes_through_a_pipe(larger, d2, shell):
    made(d2, *APPROXIMATE)
    made(d2, *ADD)
    done = shell(
        "d2 graph old.npy --backend cells -q | d2 update --add new.npy --source old.npy > g3.arrow"
    )
    assert done.returncode == 0, done.stderr
    assert "no cells" not in done.stderr
    one, two = (read_artifact(name, "graph") for name in ("g2.parquet", "g3.arrow"))
    assert one.digest == two.digest


def test_a_damaged_index_is_damage(larger, d2):
    made(d2, *APPROXIMATE)
    graph = read_artifact("g.parquet", "graph")
    index = np.array(graph.table["index"].to_pylist(), np.int32)
    start = (larger / "g.parquet").read_bytes().index(index.tobytes()[:64])
    for at in (0, 20, index.nbytes // 2):
        data = bytearray((larger / "g.parquet").read_bytes())
        data[start + at] ^= 1
        (larger / "bad.parquet").write_bytes(data)
        assert_refused(d2("update", "bad.parquet", *ADD[2:]), 4, "bad.parquet: is damaged")
    sealed = seal(
        "graph",
        graph.table.set_column(
            graph.table.column_names.index("index"), "index", lists(np.full_like(index, 7))
        ),
        **{name: graph.meta[name] for name in ("key", "parameters", "inputs", "results")},
    )
    write_artifact(larger / "bad.parquet", replace(sealed, sources=graph.sources))
    assert_refused(d2("update", "bad.parquet", *ADD[2:]), 4, "is no graph of d2: its index")
    assert not (larger / "g2.parquet").exists()


def test_an_approximate_graph_becomes_exact_by_a_search_of_all_rows(larger, d2):
    made(d2, *APPROXIMATE)
    assert "all rows are searched again" in made(d2, *ADD, "--backend", "exact")[1]
    made(d2, "graph", "all.npy", "--backend", "exact", "-o", "h.parquet")
    assert_same("g2.parquet", "h.parquet")


def test_an_exact_graph_goes_on_in_cells_with_a_target(larger, d2):
    made(d2, "graph", "old.npy", "-o", "g.parquet")
    made(d2, *ADD, "--backend", "cells", "--recall", 0.9)
    meta = read_artifact("g2.parquet", "graph").meta
    assert meta["results"]["backend"] == "cells+exact"
    assert meta["parameters"]["recall"] == meta["results"]["recall"]["target"] == 0.9
    assert meta["results"]["recall"]["value"] >= 0.9


def test_a_dry_run_tells_the_plan_and_writes_nothing(home, d2):
    made(d2, *GRAPH)
    out, _ = made(d2, *UPDATE, "--dry-run")
    assert "150 rows x 6, 50 added, 0 retired, 10 neighbors, exact" in out
    assert "graph: miss (50 rows added, 0 retired); 200 rows" in out
    assert not (home / "g2.parquet").exists()
    made(d2, *UPDATE)
    assert "graph: hit (g2.parquet)" in made(d2, *UPDATE, "--dry-run")[0]
    planned = json.loads(made(d2, *UPDATE, "--dry-run", "--json", "--force")[0])
    assert planned["stages"][0]["status"] == "miss"
    assert planned["plan"]["peak_memory_bytes"] > 1e6


def test_a_limit_that_is_too_small_is_refused(home, d2):
    made(d2, *GRAPH)
    assert_refused(d2(*UPDATE, "--max-memory", "1M"), 5, "1")
    made(d2, *UPDATE, "--max-memory", "3G", "-v")


@pytest.mark.parametrize("backend", ["exact", "cells"])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_vectors_on_disk_give_the_same_columns(larger, backend, metric):
    def update(room, name):
        run = Run(room=room, force=True, n_threads=2)
        changes = Changes(add="new.npy", retire="gone.npy")
        run_update(run, "g.parquet", changes, output=name)

    np.save("gone.npy", np.arange(0, 60, 7))
    params = GraphParams(backend=backend, metric=metric)
    run_graph(Run(), "old.npy", params, output="g.parquet")
    update(DiskRoom(1 << 16, lambda: larger), "a.parquet")
    update(IN_MEMORY, "b.parquet")
    assert_same("a.parquet", "b.parquet")


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--metric", "cosine"), 3, ("metric is cosine", "l2")),
        (("-k", "11"), 2, ("neighbors is 11", "10")),
        (("--within", "label"), 2, ("without groups",)),
        (("--source", "old.parquet", "--source", "new.parquet"), 2, ("2 times", "1 sources")),
        (("--source", "all.parquet"), 4, ("all.parquet::emb", "does not hold the vectors")),
        (("--source", "moved.npy"), 4, ("moved.npy", "does not hold the vectors")),
        (("--source", "missing.npy"), 3, ("missing.npy", "no such file")),
        (("--retire", "unknown.txt"), 3, ("'nobody'", "no id of g.parquet")),
        (("--retire", "everyone.txt"), 3, ("all 150 rows",)),
        (("--id", "none"), 3, ("g.parquet: has ids, but new.parquet has none",)),
        (("--id", "label"), 3, ("label",)),
        (("--backend", "hnsw"), 2, ("hnsw",)),
        (("--recall", "2"), 2, ("recall is 2",)),
        (("-e", "emb", "-e", "other"), 3, ("2 embeddings", "g.parquet is of one")),
    ],
)
def test_options_that_do_not_go_with_the_graph_are_refused(home, d2, more, code, words):
    made(d2, *GRAPH)
    (home / "unknown.txt").write_text("nobody\n")
    (home / "everyone.txt").write_text("".join(f"row-{i}\n" for i in range(150)))
    np.save("moved.npy", np.load("old.npy") + 1)
    assert_refused(d2(*UPDATE, *more), code, *words)
    assert not (home / "g2.parquet").exists()


@pytest.mark.parametrize(
    ("columns", "vectors", "words"),
    [
        ({"id": ["a", "a"]}, np.ones((2, 6), np.float32), ("repeats the id 'a'",)),
        ({"id": ["row-3", "b"]}, np.ones((2, 6), np.float32), ("row 0 has the id 'row-3'",)),
        ({"id": [1, 2]}, np.ones((2, 6), np.float32), ("ids are int64",)),
        ({}, np.ones((2, 6), np.float32), ("has ids, but", "--id")),
        ({"id": ["a", "b"]}, np.ones((2, 5), np.float32), ("width 5", "have 6")),
        ({"id": ["a", "b"]}, np.full((2, 6), np.nan, np.float32), ("row 0 holds NaN",)),
        ({"id": ["a", "b"]}, np.ones((2, 6), np.float64), ("float64", "float32")),
    ],
)
def test_rows_that_do_not_go_with_the_graph_are_refused(home, d2, columns, vectors, words):
    made(d2, *GRAPH)
    save("bad.parquet", vectors, **columns)
    line = ("update", "g.parquet", "--add", "bad.parquet", "-o", "g2.parquet")
    assert_refused(d2(*line), 3, "bad.parquet", *words)
    assert not (home / "g2.parquet").exists()


def test_nothing_to_do_no_groups_and_damage_are_refused(home, d2):
    made(d2, *GRAPH, "--within", "label")
    assert_refused(d2("update", "g.parquet", "-o", "g2.parquet"), 2, "--add", "--retire")
    line = ("update", "g.parquet", "--add", "new.npy", "--id", "none", "-o", "g2.parquet")
    assert_refused(d2(*line), 3, "new.npy", "--within")
    assert_refused(d2(*UPDATE[:-1], "old.parquet"), 2, "old.parquet", "is an input")
    assert_refused(d2(*UPDATE[:-1], "g.parquet"), 2, "g.parquet", "is an input")
    data = bytearray((home / "g.parquet").read_bytes())
    data[len(data) // 3] ^= 1
    (home / "g.parquet").write_bytes(data)
    assert_refused(d2(*UPDATE), 4, "g.parquet")
    assert not (home / "g2.parquet").exists()


def test_a_graph_without_sources_asks_for_them(home, d2, shell):
    shell("d2 graph old.parquet -e emb -q | cat > g.arrow")
    line = ("update", "g.arrow", "--add", "new.parquet", "-e", "emb", "-o", "g2.parquet")
    assert_refused(d2(*line), 4, "does not say where its vectors are", "--source")
    made(d2, *line, "--source", "old.parquet")
    made(d2, *GRAPH)
    made(d2, *UPDATE[:-1], "g3.parquet")
    assert_same("g3.parquet", "g2.parquet")


def test_a_whitened_graph_keeps_its_whitening(home, d2):
    made(d2, *GRAPH, "--metric", "mahalanobis")
    made(d2, *UPDATE)
    old, new = (graph_of(read_artifact(path, "graph")) for path in ("g.parquet", "g2.parquet"))
    np.testing.assert_array_equal(new.whitening.factor, old.whitening.factor)
    white = as_vectors(np.load("all.npy"), "mahalanobis", whitening=old.whitening)
    expected = build_graph(white, GraphParams(metric="mahalanobis", backend="exact"))
    np.testing.assert_array_equal(new.neighbors, expected.neighbors)
    np.testing.assert_array_equal(new.distances, expected.distances)


@pytest.fixture
def codes(tmp_path, monkeypatch):
    """old, new and both together: uint8, as NPY files and as tables."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 256, (90, 4)).astype(np.uint8)
    values[70:75] = values[3]
    for name, part in (("old", slice(0, 70)), ("new", slice(70, 90)), ("all", slice(0, 90))):
        np.save(f"{name}.npy", values[part])
        save(f"{name}.parquet", values[part], id=np.arange(90)[part])
    return tmp_path


@pytest.mark.parametrize("metric", ["l1", "hamming"])
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_graphs_by_a_scan_are_those_built_anew(codes, d2, metric, kind):
    more = ("--metric", metric, *(("-e", "emb") if kind == "parquet" else ()))
    made(d2, "graph", f"old.{kind}", *more, "-o", "g.parquet")
    gone = [3, 8, 41]
    (codes / "gone.txt").write_text("".join(f"{i}\n" for i in gone))
    line = ("update", "g.parquet", "--add", f"new.{kind}", "--retire", "gone.txt")
    made(d2, *line, "-o", "g2.parquet")
    np.save("now.npy", np.delete(np.load("all.npy"), gone, axis=0))
    made(d2, "graph", "now.npy", "--metric", metric, "-o", "h.parquet")
    assert_same("g2.parquet", "h.parquet")
    found, built = (read_artifact(f"{name}.parquet", "graph").meta for name in ("g2", "h"))
    assert found["inputs"]["vectors"] == built["inputs"]["vectors"]
    assert {**found["results"], "update": 0} == {**built["results"], "update": 0}
    out, _ = made(d2, *line, "-o", "g4.parquet", "--dry-run")
    assert f"70 rows x {32 if metric == 'hamming' else 4}, 20 added, 3 retired" in out


def test_what_does_not_go_with_a_graph_by_a_scan_is_refused(codes, d2):
    made(d2, "graph", "old.npy", "--metric", "hamming", "-o", "g.parquet")
    line = ("update", "g.parquet", "-o", "g2.parquet", "--add")
    np.save("wide.npy", np.ones((2, 5), np.uint8))
    np.save("float.npy", np.ones((2, 4), np.float32))
    assert_refused(d2(*line, "wide.npy"), 3, "wide.npy", "width 5", "have 4")
    assert_refused(d2(*line, "float.npy"), 3, "float.npy", "is float32", "packbits")
    made(d2, "graph", "old.npy", "--metric", "l1", "-o", "g.parquet")
    assert_refused(d2(*line, "new.npy", "--backend", "cells"), 2, "does not serve metric l1")
    assert_refused(d2(*line, "new.npy", "--metric", "l2"), 3, "metric is l2")
    assert not (codes / "g2.parquet").exists()


def test_codes_of_an_approximate_graph_are_updated(codes, d2):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (900, 8)).astype(np.uint8)
    np.save("old.npy", values[:850])
    np.save("new.npy", values[850:])
    made(d2, "graph", "old.npy", "--metric", "hamming", "--backend", "cells", "-o", "g.parquet")
    made(d2, "update", "g.parquet", "--add", "new.npy", "-o", "g2.parquet")
    exact = build_graph(values, GraphParams(metric="hamming", backend="exact"))
    found, away = columns_of("g2.parquet")
    assert (away == exact.distances).mean() > 0.95
    assert read_artifact("g2.parquet", "graph").meta["results"]["dim"] == 64
    assert ((away == np.rint(away)) & (away <= 64)).all()
    assert (found >= 0).all()


def test_added_rows_of_another_length_are_named(tmp_path, monkeypatch, d2):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save("old.npy", rows[:50].astype(np.float32))
    np.save("new.npy", (3 * rows[50:]).astype(np.float32))
    made(d2, "graph", "old.npy", "--metric", "ip", "-o", "g.parquet")
    line = ("update", "g.parquet", "--add", "new.npy", "-o", "g2.parquet")
    words = ("error: new.npy: together with the rows of g.parquet", "lengths 1 and 3")
    assert_refused(d2(*line), 3, *words)


def test_a_record_of_rows_that_makes_no_sense_is_none(home, d2):
    made(d2, *GRAPH)
    (home / "gone.txt").write_text("row-3\nrow-149\n")
    made(d2, "update", "g.parquet", "--retire", "gone.txt", "-o", "fewer.parquet")
    graph = read_artifact("fewer.parquet", "graph")
    (record,) = graph.sources
    (origin,) = origins_of(graph)
    np.testing.assert_array_equal(np.flatnonzero(~origin.kept), [3, 149])

    def packed(data):
        return base64.b64encode(zlib.compress(data, 9)).decode()

    for change in (
        {"kept": packed(b"\0" * 100_000_000)},  # 100 kB
        {"kept": packed(b"\0" * 18)},
        {"kept": packed(b"\0" * 20)},
        {"kept": "@" + record["kept"]},
        {"kept": record["kept"][:-8]},
        {"n_rows": 1 << 40},
        {"n_rows": 1 << 70},
        {"n_rows": 140},
        {"n_rows": -150},
        {"n_rows": -150, "kept": None},
    ):
        other = replace(graph, sources=[{**record, **change}])
        tracemalloc.start()
        assert origins_of(other) is None, change
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


def test_a_sealed_graph_that_makes_no_sense_is_refused(home, d2):
    made(d2, *GRAPH, "--metric", "mahalanobis")
    graph = read_artifact("g.parquet", "graph")
    whitening = graph.meta["results"]["whitening"]
    values = np.frombuffer(base64.b64decode(whitening["map"]), "<f8").copy()
    values[7] = np.nan
    nan = base64.b64encode(values.tobytes()).decode()
    score = ("score", "bad.parquet", "--difficulty", "aum.npy", "--harder", "low")
    np.save("aum.npy", np.arange(150.0))
    for results in (
        {"whitening": {**whitening, "map": whitening["map"][:40]}},
        {"whitening": {**whitening, "map": "@@"}},
        {"whitening": {**whitening, "map": nan}},
        {"whitening": {**whitening, "map": None}},
        {"whitening": {**whitening, "shrinkage": "x"}},
        {"whitening": {**whitening, "shrinkage": 2.0}},
        {"whitening": {}},
        {"whitening": None},
        {"dim": 60_000},
        {"dim": None},
        {"recall": None},
    ):
        changed = [{**graph.meta["results"], **results}]
        changed.append({k: v for k, v in graph.meta["results"].items() if k not in results})
        for one in changed:
            meta = {name: graph.meta[name] for name in ("key", "parameters", "inputs")}
            sealed = seal("graph", graph.table, **meta, results=one)
            write_artifact(home / "bad.parquet", replace(sealed, sources=graph.sources))
            line = ("update", "bad.parquet", *UPDATE[2:])
            for command in (line, (*line, "--dry-run"), score):
                assert_refused(d2(*command), 4, "bad.parquet: is no graph of d2: ")
    assert not (home / "g2.parquet").exists()


def test_a_recall_that_is_missed_names_what_update_takes(larger, d2):
    made(d2, *APPROXIMATE, "--recall", 1)
    graph = read_artifact("g.parquet", "graph")
    meta = {name: graph.meta[name] for name in ("key", "parameters", "inputs", "results")}
    worse = graph_of(graph).neighbors.copy(), graph_of(graph).distances + 1
    table = graph.table
    for name, values in zip(("neighbors", "distances"), worse, strict=True):
        table = table.set_column(table.column_names.index(name), name, lists(values))
    write_artifact(larger / "bad.parquet", replace(seal("graph", table, **meta),
                                                   sources=graph.sources))  # fmt: skip
    _, err = made(d2, "update", "bad.parquet", *ADD[2:])
    assert "the target 1 was not reached" in err
    assert "--backend exact searches all again" in err
    assert "fast" not in err
