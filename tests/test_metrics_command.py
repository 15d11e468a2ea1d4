"""Metrics on the command line: real files of each kind, all that follows a graph, refusals."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import d2cli
from d2cli.files.artifacts import read_artifact
from d2cli.files.stages import graph_of

N = 400


@pytest.fixture(scope="module")
def real(sample_data_of_module):
    """The first vectors of the sample data that are of many intents, with what belongs to them."""
    table = pq.read_table(sample_data_of_module / "clinc150.parquet")
    return table.take(pa.array(np.arange(0, 2000, 2000 // N)))


@pytest.fixture(scope="module")
def sample_data_of_module():
    from conftest import SAMPLE_DATA

    return SAMPLE_DATA


@pytest.fixture
def vectors(real):
    return np.stack(real["embedding"].to_numpy()).astype(np.float32)


@pytest.fixture
def codes(vectors):
    return np.packbits(vectors > 0, axis=1)


@pytest.fixture
def files(real, vectors, codes, tmp_path, monkeypatch):
    """train.parquet, and its signs as codes.parquet and codes.npy; the working folder."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(real, "train.parquet")
    plain = real.drop_columns(["embedding"])
    flat = pa.array(codes.ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, codes.shape[1])
    pq.write_table(plain.append_column("code", lists), "codes.parquet", row_group_size=150)
    np.save("codes.npy", codes)
    return tmp_path


def source_of(metric):
    return "codes.parquet" if metric == "hamming" else "train.parquet"


def stored(path):
    artifact = read_artifact(str(path), "graph")
    return artifact, graph_of(artifact)


METRICS = ["ip", "l1", "mahalanobis", "hamming"]


@pytest.mark.parametrize("metric", METRICS)
def test_graphs_are_those_of_the_functions_and_are_up_to_date_again(
    files, d2, vectors, codes, metric
):
    code, _, err = d2("graph", source_of(metric), "--metric", metric, "-k", 7, "-o", "g.parquet")
    assert code == 0
    assert f"400 rows x 384, 7 neighbors by {metric}, exact" in err
    artifact, graph = stored("g.parquet")
    given = codes if metric == "hamming" else vectors
    expected = d2cli.graph(given, metric=metric, n_neighbors=7)
    np.testing.assert_array_equal(graph.neighbors, expected.neighbors)
    np.testing.assert_array_equal(graph.distances, expected.distances)
    whitened = metric == "mahalanobis"
    assert ("shrinkage" in artifact.meta["parameters"]) == whitened
    assert ("whitened by the covariance of 400 rows, shrinkage" in err) == whitened
    code, _, err = d2("graph", source_of(metric), "--metric", metric, "-k", 7, "-o", "g.parquet")
    assert "graph: up to date" in err


def test_codes_are_read_from_files_of_each_kind(files, d2, codes):
    lists = pa.table({"code": pa.array(codes.tolist(), pa.list_(pa.uint8()))})
    pq.write_table(lists, "lists.parquet")
    with pa.ipc.new_file("codes.arrow", lists.schema) as file:
        file.write_table(lists)
    np.savez("codes.npz", code=codes)
    np.save("turned.npy", np.asfortranarray(codes))
    found = []
    names = ("codes.parquet", "codes.npy", "lists.parquet", "codes.arrow", "codes.npz")
    for i, name in enumerate((*names, "turned.npy")):
        assert d2("graph", name, "--metric", "hamming", "-o", f"{i}.parquet")[0] == 0
        found.append(stored(f"{i}.parquet"))
    for artifact, graph in found[1:]:
        np.testing.assert_array_equal(graph.neighbors, found[0][1].neighbors)
        assert artifact.meta["inputs"]["vectors"] == found[0][0].meta["inputs"]["vectors"]
    by_number = d2("graph", "codes.parquet", "-o", "l2.parquet")
    assert by_number[0] == 0  # uint8 are numbers under l2, as before
    bytes_apart = np.linalg.norm(codes[0].astype(float) - codes.astype(float), axis=1)
    np.testing.assert_allclose(stored("l2.parquet")[1].distances[0, 0], np.sort(bytes_apart)[1])


@pytest.mark.parametrize("metric", METRICS)
def test_all_that_follows_a_graph_works_with_each_metric(files, d2, metric):
    source = source_of(metric)
    scored = ("--difficulty", "aum", "--rate", 0.5)
    given = (*scored, "--metric", metric, "--group", "label")
    code, _, err = d2("prune", source, *given, "-o", "keep.parquet", "--report", "r.html")
    assert (code, "keeping 200 of 400 rows" in err) == (0, True)
    page = (files / "r.html").read_text()
    assert ("whitened by the covariance" in page) == (metric == "mahalanobis")
    assert "Map of kept and dropped rows" in page
    first = pq.read_table("keep.parquet")["row"].to_pylist()
    # The same in single stages, the graph through a pipe of bytes that holds the whitening.
    assert d2("graph", source, "--metric", metric, "-o", "g.parquet")[0] == 0
    colref = f"{source}::aum"
    assert d2("score", "g.parquet", "--difficulty", colref, "--rate", 0.5,
              "--group", f"{source}::label", "-o", "s.parquet")[0] == 0  # fmt: skip
    assert d2("select", "s.parquet", "--rate", 0.5, "--group", f"{source}::label",
              "-o", "again.parquet")[0] == 0  # fmt: skip
    assert pq.read_table("again.parquet")["row"].to_pylist() == first
    where = ("--scores", "s.parquet", "--graph", "g.parquet", "--source", source)
    code, out, _ = d2("explain", "again.parquet", str(first[0]), "--rows", *where)
    assert (code, "kept, rank" in out) == (0, True)
    assert d2("report", "again.parquet", *where, "-o", "again.html")[0] == 0
    assert "Map of kept and dropped rows" in (files / "again.html").read_text()
    code, out, _ = d2("check", source, "--metric", metric, *scored, "--labels", "label", "--json")
    assert code == 0
    assert json.loads(out)["metric"] == metric
    code, out, _ = d2("prune", source, *given, "--dry-run")
    assert code == 0
    assert f"by {metric}, exact" in out
    assert "hit if the vectors are the same" in out


@pytest.mark.parametrize("metric", ["l1", "mahalanobis", "hamming"])
def test_probes_and_methods_see_what_the_metric_compares(files, d2, metric):
    source = source_of(metric)
    given = ("--difficulty", "aum", "--labels", "label", "--metric", metric)
    code, _, err = d2("prune", source, *given, "--rate", 0.5, "--prune-hardest", "probe")
    assert (code, "prune-hardest" in err) == (0, True)
    code, out, _ = d2("compare", source, *given, "--rates", 0.5, "--methods", "d2,semdedup,kcenter",
                      "--seeds", 1, "--json")  # fmt: skip
    assert code == 0
    rows = {row["method"]: row["accuracy"]["linear"]["mean"] for row in json.loads(out)["rows"]}
    assert {"random", "d2", "semdedup", "kcenter"} <= set(rows)
    assert min(rows.values()) > 0.5  # of 20 intents


def test_a_sweep_tells_which_metric_selects_best(files, d2):
    given = ("--difficulty", "aum", "--rates", 0.5, "--seeds", 1)
    metrics = "l2,cosine,ip,l1,mahalanobis"
    code, out, err = d2("sweep", "train.parquet", *given, "--labels", "label", "--metric", metrics,
                        "-o", "s.json", "--json")  # fmt: skip
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["setting"]["metric"] for row in rows] == metrics.split(",")
    means = [row["accuracy"]["mean"] for row in rows]
    assert json.loads(out)["best"][0]["accuracy"]["mean"] == max(means)
    # Unit vectors: by l2, cosine and ip the same rows are kept, and judged by the same points.
    assert [row["overlap"] for row in rows[:3]] == [1, 1, 1]
    assert means[0] == means[1] == means[2]
    code, out, _ = d2("sweep", "codes.parquet", *given, "--labels", "label",
                      "--metric", "l2,hamming", "--json")  # fmt: skip
    assert code == 0
    assert [row["setting"]["metric"] for row in json.loads(out)["rows"]] == ["l2", "hamming"]


def test_probes_of_a_sweep_see_the_same_points_whatever_the_metric(files, d2, vectors, real):
    # All but the direction is noise of the length: unit vectors would be far easier to predict.
    lengths = np.exp(2 * np.random.default_rng(0).normal(size=(N, 1)))
    long = (vectors * lengths).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(long.ravel()), long.shape[1])
    at = real.schema.get_field_index("embedding")
    pq.write_table(real.set_column(at, "embedding", column), "long.parquet")
    # Nothing is removed, so that all settings keep the same rows.
    code, out, _ = d2("sweep", "long.parquet", "--difficulty", "aum", "--labels", "label",
                      "--rates", 0, "--seeds", 1, "--metric", "l2,cosine", "--prune-hardest", 0,
                      "--json")  # fmt: skip
    assert code == 0
    one, other = (row["accuracy"]["mean"] for row in json.loads(out)["rows"][-2:])
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "code", "told", "hint"),
    [
        (["train.parquet", "--metric", "hamming"], 3, "train.parquet::embedding: is float32",
         "np.packbits"),
        (["long.npy", "--metric", "ip"], 3, "long.npy: rows 1 and 3 have lengths 0.5", "cosine"),
        (["train.parquet", "--metric", "l1", "--backend", "hnsw"], 2, "does not serve metric l1",
         "leave out --backend"),
        (["train.parquet", "--shrinkage", "0.1"], 2, "only used by metric mahalanobis",
         "leave out"),
        (["train.parquet", "--metric", "mahalanobis", "--shrinkage", "x"], 2, "shrinkage is 'x'",
         ""),
        (["train.parquet", "--metric", "mahalanobis", "--shrinkage", "2"], 2, "expected 0 to 1",
         ""),
        (["train.parquet", "--metric", "mahalanobis", "--shrinkage", "0"], 3,
         "train.parquet::embedding: has a covariance that cannot be inverted", "--shrinkage auto"),
        (["same.npy", "--metric", "mahalanobis"], 3, "no two rows that differ", "--metric l2"),
    ],
)  # fmt: skip
def test_what_a_metric_cannot_do_is_one_line_and_a_hint(files, d2, arguments, code, told, hint):
    np.save("long.npy", np.diag([1, 0.5, 1, 2, 1]))
    np.save("same.npy", np.ones((5, 3)))
    found, _, err = d2("graph", *arguments, "-o", "g.parquet")
    assert found == code
    assert err.splitlines()[-2].startswith("error: ")
    assert told in err.splitlines()[-2]
    assert err.splitlines()[-1].startswith("hint: ")
    assert hint in err.splitlines()[-1]
    assert not (files / "g.parquet").exists()
    if code == 3 and "--shrinkage" not in arguments:  # what prune refuses, check has seen
        assert d2("check", *arguments)[0] == 3


def test_a_backend_that_does_not_serve_one_metric_of_a_sweep_is_refused_at_once(files, d2):
    code, _, err = d2("sweep", "train.parquet", "--difficulty", "aum", "--metric", "l2,l1",
                      "--backend", "cells")  # fmt: skip
    assert code == 2
    assert "backend cells does not serve metric l1" in err


def test_files_and_the_environment_set_metric_and_shrinkage(files, d2, monkeypatch):
    (files / "d2.toml").write_text('metric = "mahalanobis"\nshrinkage = "0.25"\n')
    code, out, _ = d2("graph", "train.parquet", "-o", "g.parquet", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["parameters"]["shrinkage"] == 0.25
    assert found["results"]["whitening"] == {"shrinkage": 0.25, "sample_size": 400}
    monkeypatch.setenv("D2_GRAPH_SHRINKAGE", "0.5")
    code, out, _ = d2("graph", "train.parquet", "-o", "g.parquet", "--json")
    assert json.loads(out)["parameters"]["shrinkage"] == 0.5


def test_codes_that_a_graph_was_made_from_are_not_overwritten(files, d2):
    assert d2("graph", "codes.npy", "--metric", "hamming", "-o", "g.parquet")[0] == 0
    np.save("aum.npy", np.arange(N))
    before = (files / "codes.parquet").read_bytes()
    code, _, err = d2("score", "g.parquet", "--difficulty", "aum.npy", "-o", "codes.parquet")
    assert (code, "would be destroyed" in err) == (2, True)
    assert (files / "codes.parquet").read_bytes() == before


@pytest.mark.parametrize("metric", METRICS)
def test_threads_and_a_limit_of_memory_change_no_byte(files, d2, metric):
    source = source_of(metric)
    assert d2("graph", source, "--metric", metric, "-j", 1, "-o", "1.parquet")[0] == 0
    assert d2("graph", source, "--metric", metric, "-j", 3, "-o", "3.parquet")[0] == 0
    assert (files / "1.parquet").read_bytes() == (files / "3.parquet").read_bytes()


def test_test_rows_are_seen_as_the_metric_sees_the_others(files, d2, real):
    table = pq.read_table("codes.parquet")
    pq.write_table(table.slice(0, 100), "test.parquet")
    given = ("--difficulty", "aum", "--labels", "label", "--rates", 0.5, "--seeds", 1)
    methods = ("--methods", "d2", "--metric", "hamming")
    code, _, err = d2("compare", "codes.parquet", *given, *methods, "--test", "test.parquet")
    assert code == 0, err
    as_numbers = table.column("code").combine_chunks().cast(pa.list_(pa.int16(), 48))
    at = table.schema.get_field_index("code")
    pq.write_table(table.set_column(at, "code", as_numbers), "test.parquet")
    code, _, err = d2("compare", "codes.parquet", *given, *methods, "--test", "test.parquet")
    assert (code, "test.parquet::code: is float32; hamming compares" in err) == (3, True)
    # Lengths of test rows are no matter: they are not in the graph.
    vectors = np.stack(real["embedding"].to_numpy()).astype(np.float32)
    vectors *= np.arange(1, N + 1, dtype=np.float32)[:, None]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    at = real.schema.get_field_index("embedding")
    pq.write_table(real.set_column(at, "embedding", column), "test.parquet")
    code, _, err = d2("compare", "train.parquet", *given, "--methods", "d2", "--metric", "ip",
                      "--test", "test.parquet")  # fmt: skip
    assert code == 0, err
    code, _, err = d2("compare", "test.parquet", *given, "--methods", "d2", "--metric", "ip")
    assert (code, "have lengths" in err) == (3, True)
