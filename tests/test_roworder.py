"""What results say of the order of their rows."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import DamagedError
from d2cli.files import roworder
from d2cli.files.artifacts import ROW_ORDER, read_artifact, write_artifact
from d2cli.files.digests import digest_json
from d2cli.files.roworder import row_order
from d2cli.files.sources import Sources

AS_STORED = "rows as stored"
BY_PATH = "files by path, byte by byte; rows as stored in each"


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pa.table({"emb": list(rng.normal(size=(60, 3))), "aum": rng.random(60)})


@pytest.fixture
def shards(table, tmp_path):
    """60 rows in three files: 10 before 2, byte by byte."""
    for name, start, length in (("a/2", 10, 20), ("a/10", 0, 10), ("b/1", 30, 30)):
        path = tmp_path / "shards" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(start, length), path)
    return tmp_path / "shards"


LISTED = [["a/10.parquet", 10], ["a/2.parquet", 20], ["b/1.parquet", 30]]


def test_every_result_says_how_its_rows_are_ordered(shards, tmp_path, d2):
    graph, scores, keep = (tmp_path / f"{name}.parquet" for name in ("g", "s", "k"))
    for line in (
        ("graph", shards, "-o", graph),
        ("score", graph, "--difficulty", f"{shards}::aum", "-o", scores),
        ("select", scores, "--rate", 0.5, "-o", keep, "--report", tmp_path / "r.json"),
        ("report", keep, "--scores", scores, "-o", tmp_path / "again.json"),
    ):
        code, _, err = d2(*line)
        assert code == 0, err

    expected = {"rule": BY_PATH, "n_files": 3, "n_rows": 60, "files": LISTED}
    for path, kind in ((graph, "graph"), (scores, "scores"), (keep, "selection")):
        assert read_artifact(path, kind).row_order == expected
    for name in ("r.json", "again.json"):
        assert json.loads((tmp_path / name).read_bytes())["row_order"] == expected


def test_pipes_and_the_cache_keep_it(table, tmp_path, d2, shell):
    pq.write_table(table, tmp_path / "train.parquet")
    piped = shell(
        "d2 graph train.parquet -q | d2 score --difficulty train.parquet::aum -q "
        "| d2 select --rate 0.5 -q -o piped.parquet"
    )
    assert piped.returncode == 0, piped.stderr
    prune = ("prune", tmp_path / "train.parquet", "--difficulty", "aum", "--rate", 0.5, "-o")
    for name in ("one", "two"):  # made, and made from what the cache holds
        assert d2(*prune, tmp_path / f"{name}.parquet")[0] == 0

    expected = {"rule": AS_STORED, "n_files": 1, "n_rows": 60}
    for name in ("piped", "one", "two"):
        assert read_artifact(tmp_path / f"{name}.parquet", "selection").row_order == expected


def test_keys_and_digests_do_not_depend_on_it(table, shards, tmp_path, d2):
    pq.write_table(table, tmp_path / "train.parquet")
    for source, name in ((shards, "a"), (tmp_path / "train.parquet", "b")):
        assert d2("graph", source, "-o", tmp_path / f"{name}.parquet")[0] == 0

    a, b = (read_artifact(tmp_path / f"{name}.parquet", "graph") for name in "ab")

    assert a.row_order != b.row_order
    assert (a.key, a.digest, a.meta) == (b.key, b.digest, b.meta)
    code, _, err = d2("graph", shards, "-o", tmp_path / "b.parquet")
    assert (code, "up to date" in err) == (0, True)


def test_artifacts_without_it_are_read_and_used(table, tmp_path, d2):
    pq.write_table(table, tmp_path / "train.parquet")
    old = tmp_path / "g.parquet"
    assert d2("graph", tmp_path / "train.parquet", "-o", old)[0] == 0
    artifact = read_artifact(old, "graph")
    write_artifact(old, replace(artifact, row_order=None))
    assert ROW_ORDER not in pq.read_schema(old).metadata

    score = ("score", old, "--difficulty", f"{tmp_path}/train.parquet::aum", "-o")
    assert d2(*score, tmp_path / "s.parquet")[0] == 0
    select = ("select", tmp_path / "s.parquet", "--rate", 0.5, "--json")
    code, out, _ = d2(*select)
    assert (code, json.loads(out)["row_order"]) == (0, None)
    assert read_artifact(old, "graph").digest == artifact.digest


@pytest.mark.parametrize("text", [b"{", b"7", b"\xff", b"{}", None])
def test_an_order_that_was_edited_is_damage(table, tmp_path, d2, text):
    pq.write_table(table, tmp_path / "train.parquet")
    assert d2("graph", tmp_path / "train.parquet", "-o", tmp_path / "g.parquet")[0] == 0
    made = pq.read_table(tmp_path / "g.parquet")
    metadata = {**made.schema.metadata, ROW_ORDER: text}
    if text is None:
        del metadata[ROW_ORDER]
    pq.write_table(made.replace_schema_metadata(metadata), tmp_path / "g.parquet")

    with pytest.raises(DamagedError, match="metadata do not match"):
        read_artifact(tmp_path / "g.parquet", "graph")


@pytest.mark.parametrize("name", ["d2_seal", "d2_graph_path"])
def test_a_seal_or_the_place_of_a_graph_that_is_lost_or_edited_is_damage(table, tmp_path, d2, name):
    pq.write_table(table, tmp_path / "train.parquet")
    graph, scores = tmp_path / "g.parquet", tmp_path / "s.parquet"
    assert d2("graph", tmp_path / "train.parquet", "-o", graph)[0] == 0
    assert (
        d2("score", graph, "--difficulty", f"{tmp_path}/train.parquet::aum", "-o", scores)[0] == 0
    )
    made = pq.read_table(scores)
    for value in (None, "x"):
        metadata = {**made.schema.metadata, name.encode(): value}
        if value is None:
            del metadata[name.encode()]
        pq.write_table(made.replace_schema_metadata(metadata), scores)
        with pytest.raises(DamagedError, match="metadata do not match"):
            read_artifact(scores, "scores")


def test_of_very_many_files_there_is_a_digest(shards, monkeypatch):
    monkeypatch.setattr(roworder, "MOST_FILES", 2)

    found = row_order(Sources().open(str(shards)))

    assert found == {
        "rule": BY_PATH,
        "n_files": 3,
        "n_rows": 60,
        "files_digest": digest_json(LISTED),
    }


def test_a_saved_dataset_has_an_order_of_its_own(tmp_path):
    for part in range(2):
        batch = pa.record_batch({"x": [part]})
        with pa.ipc.new_stream(str(tmp_path / f"data-{part}.arrow"), batch.schema) as stream:
            stream.write_batch(batch)
    order = [{"filename": "data-1.arrow"}, {"filename": "data-0.arrow"}]
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": order}))

    found = row_order(Sources().open(str(tmp_path)))

    assert found["files"] == [["data-1.arrow", 1], ["data-0.arrow", 1]]
    assert found["rule"] == "files as their folder lists them; rows as stored in each"


def test_an_export_of_a_result_does_not_carry_it(table, tmp_path, d2):
    pq.write_table(table, tmp_path / "train.parquet")
    assert d2("graph", tmp_path / "train.parquet", "-o", tmp_path / "g.parquet")[0] == 0
    (tmp_path / "rows.txt").write_text("3\n")
    line = ("export", tmp_path / "rows.txt", "--source", tmp_path / "g.parquet", "-o")
    assert d2(*line, tmp_path / "out.parquet")[0] == 0
    assert ROW_ORDER not in (pq.read_schema(tmp_path / "out.parquet").metadata or {})
