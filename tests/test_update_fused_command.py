"""``d2 update`` of graphs of several embeddings, from real files."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_update_command import assert_refused, assert_same, columns_of, made

from d2cli.files.artifacts import read_artifact, seal, write_artifact
from d2cli.params import GraphParams
from d2cli.stages.fused import fuse
from d2cli.stages.fusion import as_modalities

N, OLD = 200, 150


def lists(rows):
    return pa.array([None if row is None else row.tolist() for row in rows], pa.list_(pa.float32()))


def save(path, rows, image, text, gone, **columns):
    texts = [None if skip else row for row, skip in zip(text[rows], gone[rows], strict=True)]
    table = {
        "id": [f"r{i}" for i in np.arange(N)[rows]],
        "label": np.arange(N)[rows] % 3,
        "image": lists(image[rows]),
        "text": lists(texts),
        "whole": lists(text[rows]),
        **columns,
    }
    pq.write_table(pa.table(table), path)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """old.parquet (rows 0 ... 149), new.parquet, all.parquet; some rows have no text."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(N, 6)).round(1).astype(np.float32)
    text = (40 * rng.normal(size=(N, 4))).astype(np.float32)
    gone = rng.random(N) < 0.2
    image[170], text[170], gone[170] = image[3], text[3], gone[3]
    for name, rows in (("old", slice(OLD)), ("new", slice(OLD, N)), ("all", slice(N))):
        save(f"{name}.parquet", rows, image, text, gone)
        np.save(f"{name}.npy", text[rows])
    return {"image": image, "text": text, "gone": gone}


BOTH = ("-e", "image:2", "-e", "text", "--backend", "exact")
UPDATE = ("update", "g.parquet", "--add", "new.parquet", "-o", "g2.parquet")


@pytest.mark.parametrize("within", [(), ("--within", "label")])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_a_union_of_graphs_is_that_built_anew(data, d2, metric, within):
    more = (*BOTH, "--fusion", "graphs", "--metric", metric, *within)
    made(d2, "graph", "old.parquet", *more, "-o", "g.parquet")
    made(d2, *UPDATE)
    made(d2, "graph", "all.parquet", *more, "-o", "h.parquet")
    assert pq.read_table("g2.parquet").equals(pq.read_table("h.parquet"))
    found, built = (read_artifact(f"{name}.parquet", "graph").meta for name in ("g2", "h"))
    assert found["parameters"] == built["parameters"]
    assert built["inputs"].items() <= found["inputs"].items()
    assert {**found["results"], "update": 0} == {**built["results"], "update": 0}


@pytest.mark.parametrize("fusion", ["distance", "concat"])
def test_bandwidths_stay_unless_the_graph_built_anew_is_asked_for(data, d2, fusion):
    text = "text" if fusion == "distance" else "text=whole"
    more = ("-e", "image:2", "-e", text, "--backend", "exact", "--fusion", fusion)
    made(d2, "graph", "old.parquet", *more, "-o", "g.parquet")
    _, err = made(d2, *UPDATE)
    assert "again" not in err
    before, after = (read_artifact(f"{name}.parquet", "graph") for name in ("g", "g2"))
    scales = before.meta["results"]["bandwidths"]
    assert after.meta["results"]["bandwidths"] == scales
    assert after.meta["results"]["lacking"] == (
        {"text": int(data["gone"].sum())} if fusion == "distance" else {}
    )
    # All rows by these bandwidths, without any update.
    there = np.flatnonzero(~data["gone"]) if fusion == "distance" else np.arange(N)
    metric = before.meta["parameters"]["metric"]
    every = as_modalities(
        {"image": data["image"], "text": data["text"][there]},
        before.meta["parameters"]["weights"],
        N,
        metric,
        rows={"text": there if fusion == "distance" else None},
    )
    params = GraphParams(backend="exact", metric=metric)
    expected = fuse(every, fusion, params, bandwidths=scales).graph
    found = columns_of("g2.parquet")
    np.testing.assert_array_equal(found[0], expected.neighbors)
    np.testing.assert_array_equal(found[1], expected.distances)

    _, err = made(d2, *UPDATE[:-1], "g3.parquet", "--backend", "exact")
    assert "all rows are searched again" in err
    made(d2, "graph", "all.parquet", *more, "-o", "h.parquet")
    assert pq.read_table("g3.parquet").equals(pq.read_table("h.parquet"))
    assert "up to date" not in made(d2, *UPDATE, "--backend", "exact")[1]  # another key
    assert "up to date" in made(d2, *UPDATE, "--backend", "exact")[1]


@pytest.mark.parametrize("fusion", ["distance", "graphs"])
def test_rows_leave_and_updates_follow_one_another(data, d2, tmp_path, fusion):
    made(d2, "graph", "old.parquet", *BOTH, "--fusion", fusion, "-o", "g.parquet")
    (tmp_path / "gone.txt").write_text("r3\nr9\nr149\n")
    made(d2, *UPDATE, "--retire", "gone.txt")
    (tmp_path / "more.txt").write_text("r0\nr170\n")
    made(d2, "update", "g2.parquet", "--retire", "more.txt", "-o", "g3.parquet")
    kept = np.delete(np.arange(N), [0, 3, 9, 149, 170])
    save("now.parquet", kept, **data)
    made(d2, "graph", "now.parquet", *BOTH, "--fusion", fusion, "-o", "h.parquet")
    meta, built = (read_artifact(f"{name}.parquet", "graph").meta for name in ("g3", "h"))
    assert {k: v for k, v in meta["inputs"].items() if k in built["inputs"]} == built["inputs"]
    assert pq.read_table("g3.parquet")["id"].to_pylist() == [f"r{i}" for i in kept]
    if fusion == "graphs":
        assert_same("g3.parquet", "h.parquet")


def test_modalities_of_other_files_and_names(data, d2, tmp_path):
    (tmp_path / "there").mkdir()
    given = ("-e", "image", "-e", "words=old.npy", "--fusion", "graphs")
    made(d2, "graph", "old.parquet", *given, "-o", "g.parquet")
    line = ("update", "g.parquet", "--add", "new.parquet", "-e", "words=new.npy")
    made(d2, *line, "-o", "g2.parquet")
    both = ("-e", "image", "-e", "words=all.npy", "--fusion", "graphs")
    made(d2, "graph", "all.parquet", *both, "-o", "h.parquet")
    assert_same("g2.parquet", "h.parquet")
    sources = read_artifact("g2.parquet", "graph").sources
    assert [one["columns"]["vectors of words"] for one in sources] == [
        ["old.npy", ""],
        ["new.npy", ""],
    ]
    # Again, from both.
    (tmp_path / "gone.txt").write_text("r1\nr180\n")
    made(d2, "update", "g2.parquet", "--retire", "gone.txt", "-o", "g3.parquet")
    assert read_artifact("g3.parquet", "graph").table.num_rows == N - 2
    # Moved together; then the one source under another name.
    for name in ("g.parquet", "old.parquet", "old.npy"):
        (tmp_path / name).rename(tmp_path / "there" / name)
    moved = ("update", "there/g.parquet", *line[2:], "-o", "g4.parquet")
    made(d2, *moved)
    assert_same("g4.parquet", "g2.parquet")
    (tmp_path / "there" / "old.parquet").rename(tmp_path / "elsewhere.parquet")
    assert_refused(d2(*moved, "--force"), 3, "old.parquet", "--source")
    made(d2, *moved, "--force", "--source", "elsewhere.parquet")
    assert_same("g4.parquet", "g2.parquet")
    assert_refused(d2(*moved, "--force", "--source", "new.parquet"), 3, "new.parquet has 50")


def test_pipes_and_what_follows(data, d2, shell):
    done = shell(
        "d2 graph old.parquet -e image:2 -e text --fusion graphs -q"
        " | d2 update --add new.parquet --source old.parquet -e image -e text=text -q > g3.arrow"
    )
    assert done.returncode == 0, done.stderr
    made(d2, "graph", "all.parquet", *BOTH, "--fusion", "graphs", "-o", "h.parquet")
    assert_same("g3.arrow", "h.parquet")
    made(d2, "graph", "old.parquet", *BOTH, "-o", "g.parquet")
    made(d2, *UPDATE)
    np.save("aum.npy", np.random.default_rng(0).random(N))
    made(d2, "score", "g2.parquet", "--difficulty", "aum.npy", "-o", "s.parquet")
    made(d2, "select", "s.parquet", "--rate", 0.5, "-o", "keep.parquet", "--report", "r.json")
    assert "up to date" in made(d2, *UPDATE)[1]


def test_threads_and_a_dry_run(data, d2):
    made(d2, "graph", "old.parquet", *BOTH, "-o", "g.parquet")
    out, _ = made(d2, *UPDATE, "--dry-run")
    assert "150 rows, distance of image x 6 float32, text x 4 float32, 50 added" in out
    assert "graph: miss (50 rows added, 0 retired); 200 rows" in out
    made(d2, *UPDATE, "-j", 1)
    before = read_artifact("g2.parquet", "graph").digest
    made(d2, *UPDATE, "-j", 3, "--force")
    assert read_artifact("g2.parquet", "graph").digest == before
    assert "graph: hit" in made(d2, *UPDATE, "--dry-run")[0]
    assert_refused(d2(*UPDATE, "--force", "--max-memory", "1M"), 5, "work on a graph of 150 rows")
    meta = json.loads(made(d2, *UPDATE, "--force", "--json")[0])
    assert meta["results"]["update"] == {
        "added": 50,
        "retired": 0,
        "dtypes": {"image": "float32", "text": "float32"},
    }


def test_approximate_graphs_reach_their_recall(data, d2):
    rng = np.random.default_rng(1)
    image, text = rng.normal(size=(1300, 8)), rng.normal(size=(1300, 4))
    for name, rows in (("old", slice(1200)), ("new", slice(1200, 1300))):
        np.savez(f"{name}.npz", image=image[rows], text=text[rows])
    for fusion in ("distance", "graphs", "concat"):
        given = ("-e", "image", "-e", "text", "--fusion", fusion, "--backend", "cells")
        made(d2, "graph", "old.npz", *given, "-o", "g.parquet")
        made(d2, "update", "g.parquet", "--add", "new.npz", "-o", "g2.parquet")
        meta = read_artifact("g2.parquet", "graph").meta
        assert meta["results"]["recall"]["value"] >= 0.94, fusion
        assert meta["results"]["recall"]["sample_size"] == 1000
        _, err = made(d2, "update", "g.parquet", "--add", "new.npz", "--backend", "exact",
                      "-o", "g3.parquet")  # fmt: skip
        assert "is approximate, so all rows are searched again" in err
        assert read_artifact("g3.parquet", "graph").meta["results"]["backend"] == "exact"


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("-e", "sound=text"), 3, ("'sound'", "g.parquet is of image, text", "NAME=COLREF")),
        (("-e", "image=text", "-e", "text=image"), 3, ("width 4", "have 6")),
        (("-e", "text=label"), 3, ("new.parquet::label",)),
        (("-e", "text=text:2"), 2, ("has a weight", "g.parquet")),
        (("-e", "text", "-e", "text=whole"), 2, ("called 'text'",)),
        (("-e", "text=wide.npy"), 3, ("wide.npy", "float64", "float32")),
        (("-e", "text=nan.npy"), 3, ("new.parquet: text: row 7 holds NaN",)),
        (("--metric", "cosine"), 3, ("metric is cosine", "l2")),
        (("-k", "3"), 2, ("neighbors is 3",)),
        (("--retire", "unknown.txt"), 3, ("'nobody'",)),
        (("--source", "new.parquet"), 4, ("does not hold the vectors",)),
    ],
)
def test_what_does_not_go_with_the_graph_is_refused(data, d2, tmp_path, more, code, words):
    made(d2, "graph", "old.parquet", *BOTH, "-o", "g.parquet")
    np.save("wide.npy", data["text"][OLD:].astype(np.float64))
    bad = data["text"][OLD:].copy()
    bad[7, 2] = np.nan
    np.save("nan.npy", bad)
    (tmp_path / "unknown.txt").write_text("nobody\n")
    assert_refused(d2(*UPDATE, *more), code, *words)
    assert not (tmp_path / "g2.parquet").exists()


def test_other_modalities_than_the_graphs_are_refused(data, d2, tmp_path):
    made(d2, "graph", "old.parquet", *BOTH, "-o", "g.parquet")
    table = pq.read_table("new.parquet")
    pq.write_table(table.drop_columns(["text"]), "less.parquet")
    line = ("update", "g.parquet", "--add", "less.parquet", "-o", "g2.parquet")
    assert_refused(d2(*line), 3, "less.parquet: has no 'text'", "-e text=COLREF")
    ids = pa.array(["r3", *table["id"].to_pylist()[1:]])
    pq.write_table(table.set_column(0, "id", ids), "ids.parquet")
    assert_refused(d2("update", "g.parquet", "--add", "ids.parquet", "-o", "g2.parquet"), 3, "'r3'")
    # A graph of one embedding takes one, with or without a name.
    made(d2, "graph", "old.parquet", "-e", "z=image", "-o", "one.parquet")
    line = ("update", "one.parquet", "--add", "new.parquet", "-o", "g2.parquet")
    assert_refused(
        d2(*line, "-e", "image", "-e", "text"), 3, "2 embeddings", "one.parquet is of one"
    )
    assert not (tmp_path / "g2.parquet").exists()
    made(d2, *line, "-e", "z=image")
    made(d2, *line, "-o", "g3.parquet")
    assert_same("g2.parquet", "g3.parquet")


def test_concat_takes_no_rows_with_gaps(data, d2, tmp_path):
    given = ("-e", "image", "-e", "text=whole", "--fusion", "concat")
    made(d2, "graph", "old.parquet", *given, "-o", "g.parquet")
    line = (*UPDATE, "-e", "text=text")
    assert_refused(d2(*line), 3, "new.parquet: row", "has no text", "concat needs every")
    assert not (tmp_path / "g2.parquet").exists()


def test_a_graph_without_bandwidths_is_no_graph(data, d2, tmp_path):
    made(d2, "graph", "old.parquet", *BOTH, "-o", "g.parquet")
    graph = read_artifact("g.parquet", "graph")
    for scales in (
        None,
        {},
        {"image": 1.0},
        {"image": 0.0, "text": 1.0},
        {"image": "x", "text": 1},
    ):
        meta = {name: graph.meta[name] for name in ("key", "parameters", "inputs")}
        results = {**graph.meta["results"], "bandwidths": scales}
        sealed = seal("graph", graph.table, **meta, results=results)
        write_artifact(tmp_path / "bad.parquet", replace(sealed, sources=graph.sources))
        line = ("update", "bad.parquet", *UPDATE[2:])
        for command in (line, (*line, "--dry-run")):
            assert_refused(d2(*command), 4, "bad.parquet: is no graph of d2")
    assert not (tmp_path / "g2.parquet").exists()
