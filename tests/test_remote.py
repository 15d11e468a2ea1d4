"""Remote files, against a real S3 server and a real HTTP server on loopback."""

import functools
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
import warnings

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from test_publish import Interrupted

from d2cli.errors import D2Error, InputError, ParameterError, ResourceError
from d2cli.files import filesystems
from d2cli.files.addresses import follow_address, redact, relative_address
from d2cli.files.artifacts import read_artifact
from d2cli.files.destinations import check_output
from d2cli.files.publish import write_atomically, write_bytes
from d2cli.files.remote import Remote, as_place
from d2cli.files.sources import Sources

SECRET = "tops3cret/key+x"


class S3:
    """A server of the S3 protocol: its requests, and the answers it is told to give instead."""

    def __init__(self):
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *arguments):
                pass

        self._answer = DomainDispatcherApplication(create_backend_app)
        self.requests, self.sent, self.fault = [], 0, None
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query = environ.get("QUERY_STRING", "")
        self.requests.append((method, path, query, environ.get("HTTP_RANGE")))
        if self.fault is not None and self.fault(method, path, query):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"]
        answer = [b"".join(self._answer(environ, start_response))]
        self.sent += len(answer[0])
        return answer

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session")
def s3_server():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = S3()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The server with an empty bucket called "bucket", and the environment that leads to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    files = pafs.S3FileSystem(
        endpoint_override=s3_server.url.removeprefix("http://"),
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )
    files.create_dir("bucket")
    files.delete_dir_contents("bucket")
    s3_server.files, s3_server.fault, s3_server.sent = files, None, 0
    s3_server.requests.clear()
    yield s3_server
    s3_server.fault = None


@pytest.fixture
def vectors():
    return np.random.default_rng(5).normal(size=(300, 8)).astype(np.float32)


@pytest.fixture
def train(vectors, tmp_path):
    """A Parquet file of ids, vectors and scores."""
    path = tmp_path / "train.parquet"
    table = {
        "id": [f"r{row}" for row in range(300)],
        "emb": list(vectors),
        "aum": np.random.default_rng(6).random(300),
    }
    pq.write_table(pa.table(table), path)
    return path


def put(s3, name, data):
    with s3.files.open_output_stream(f"bucket/{name}") as stream:
        stream.write(data)


def get(s3, name):
    with s3.files.open_input_stream(f"bucket/{name}") as stream:
        return stream.read()


def names(s3):
    found = s3.files.get_file_info(pafs.FileSelector("bucket", recursive=True))
    return sorted(info.path.removeprefix("bucket/") for info in found)


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


# --- reading --------------------------------------------------------------------------------------


def test_one_column_of_parquet_is_read_and_not_the_others(s3):
    rng = np.random.default_rng(1)
    table = pa.table({"wide": rng.random(500_000), "emb": list(rng.random((1000, 4))) * 500})
    out = io.BytesIO()
    pq.write_table(table, out, compression="none", use_dictionary=False)
    put(s3, "train.parquet", out.getvalue())
    s3.sent = 0

    source = Sources().open("s3://bucket/train.parquet")
    read = pa.concat_arrays(source.batches("wide"))

    assert read.equals(table.column("wide").combine_chunks())
    assert s3.sent < len(out.getvalue()) / 2
    assert all(span for method, _, _, span in s3.requests[-3:] if method == "GET")


@pytest.mark.parametrize("kind", ["npy", "npz", "arrow", "csv"])
def test_other_kinds_come_whole_and_leave_no_file_behind(s3, vectors, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out = io.BytesIO()
    if kind == "npy":
        np.save(out, vectors)
    elif kind == "npz":
        np.savez(out, emb=vectors)
    elif kind == "arrow":
        batch = pa.record_batch({"emb": list(vectors)})
        with pa.ipc.new_file(out, batch.schema) as file:
            file.write(batch)
    else:
        out.write(b"id,x\n" + b"".join(b"%d,%d\n" % (row, row * 2) for row in range(300)))
    put(s3, f"data.{kind}", out.getvalue())

    source = Sources().open(f"s3://bucket/data.{kind}")

    assert source.name == f"s3://bucket/data.{kind}"
    column = {"npy": "", "csv": "x"}.get(kind, "emb")
    values = source.array(column)
    if values is None:
        values = np.array(pa.concat_arrays(source.batches(column)).to_pylist())
    np.testing.assert_array_equal(values, np.arange(300) * 2 if kind == "csv" else vectors)
    del source, values
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_remote_npy_is_mapped(s3, vectors):
    put(s3, "emb.npy", npy(vectors))

    source = Sources().open("s3://bucket/emb.npy")

    assert source.header("").mapped
    np.testing.assert_array_equal(source.array(""), vectors)


@pytest.mark.parametrize("address", ["s3://bucket/parts/", "s3://bucket/parts/*.parquet"])
def test_a_folder_or_glob_of_parquet_is_one_source(s3, address):
    for part in (2, 0, 1):
        out = io.BytesIO()
        pq.write_table(pa.table({"x": [part * 2, part * 2 + 1]}), out)
        put(s3, f"parts/{part}.parquet", out.getvalue())
    put(s3, "parts/_SUCCESS", b"")

    source = Sources().open(address)

    assert source.n_rows == 6
    assert pa.concat_arrays(source.batches("x")).to_pylist() == [0, 1, 2, 3, 4, 5]


def test_a_name_comes_before_a_pattern(s3):
    for name, value in (("a[1].parquet", 1.0), ("a1.parquet", 2.0)):
        out = pa.BufferOutputStream()
        pq.write_table(pa.table({"aum": [value]}), out)
        put(s3, name, out.getvalue())

    def first(address):
        return next(Sources().open(address).batches("aum"))[0].as_py()

    assert first("s3://bucket/a[1].parquet") == 1.0
    s3.files.delete_file("bucket/a[1].parquet")
    assert first("s3://bucket/a[1].parquet") == 2.0


def parquet(**columns):
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), out)
    return out.getvalue().to_pybytes()


def rows_of(source, column):
    return pa.concat_arrays(source.batches(column)).to_pylist()


ODD = ["a#1", "b?x=2", "c%20d", "e f", "g%2Fh", "i+j&k", "l::m", "n@o:p", "ä", "q[1]*"]


def test_listed_names_are_not_taken_for_addresses(s3, d2):
    for at, name in enumerate(sorted(ODD, key=str.encode)):
        put(s3, f"odd/{name}.parquet", parquet(x=[at]))

    source = Sources().open("s3://bucket/odd/")

    assert rows_of(source, "x") == list(range(len(ODD)))
    assert [file.name for file in source.paths] == sorted(f"{name}.parquet" for name in ODD)
    put(s3, "odd/b?x=2.parquet", b"PAR1 and no more")
    code, _, err = d2("check", "s3://bucket/odd/*.parquet", "--difficulty", "x")
    assert (code, "s3://bucket/odd/b%3Fx=2.parquet: cannot be read" in err) == (3, True), err


def test_listed_names_on_fsspec_are_not_taken_for_addresses(memory):
    for at, name in enumerate(sorted(ODD, key=str.encode)):
        memory.pipe(f"/odd/{name}.parquet", parquet(x=[at]))

    assert rows_of(Sources().open("memory://odd/"), "x") == list(range(len(ODD)))


def test_an_address_with_an_empty_part_is_refused_before_any_work(s3, train, d2, own_cache):
    for address in ("s3://bucket//x.npy", "s3://bucket/a//x.npy", "gs://bucket//x.npy"):
        line = ("prune", train, "-e", "emb", "--difficulty", "aum", "--rate", "0.5", "-o", address)
        code, _, err = d2(*line)
        assert (code, f"{address}: has an empty part between two slashes" in err) == (2, True), err
        assert d2("graph", address)[0] == 2
    assert d2("graph", "s3://bucket//parts/*.parquet")[0] == 2
    assert not list(own_cache.iterdir())
    assert names(s3) == []


TREE = [
    f"{folder}{name}"
    for folder in ("", "a/", "b1/", "a/c/", "_d/", ".e/", "a/_f/", "a/c/g.parquet/")
    for name in ("x.parquet", "y1.parquet", "_z.parquet", ".w.parquet", "v.txt")
]
PATTERNS = [
    "", "*", "*.parquet", "a/", "a/*", "*/x.parquet", "*/*.parquet", "**/*.parquet", "**",
    "a/**", "a/**/x.parquet", "**/c/*", "[ab]*", "[ab]*/x*", "_d/*", "_*/*.parquet", "*/_f/*",
    ".e/*.parquet", "a/*/g.parquet/x.parquet", "x.parq*/**", "a/c/*", "**/[xy]*.parquet",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_remote_listing_is_that_of_a_local_folder(memory, tmp_path, pattern):
    for at, name in enumerate(TREE):
        data = parquet(x=[at])
        memory.pipe(f"/tree/{name}", data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    def found(place):
        try:
            return rows_of(Sources().open(f"{place}/{pattern}"), "x")
        except InputError:
            return None

    assert found("memory://tree") == found(tmp_path)
    assert pattern == "x.parq*/**" or found(tmp_path)


def test_folders_of_labels_are_columns(s3):
    for split, part, value in (("1", "a b", 3), ("1", "c", 4), ("0", "c", 5)):
        name = part.replace(" ", "%20")
        put(s3, f"data/fold={split}/kind={name}/x.parquet", parquet(x=[value, value]))

    for address in ("s3://bucket/data/", "s3://bucket/data/fold=*/**/*.parquet"):
        source = Sources().open(address)
        assert rows_of(source, "x") == [5, 5, 3, 3, 4, 4]
        assert rows_of(source, "fold") == [0, 0, 1, 1, 1, 1]
        assert rows_of(source, "kind") == ["c", "c", "a b", "a b", "c", "c"]


def test_folders_of_arrays_and_arrow_are_read_shard_by_shard(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for part in range(3):
        put(s3, f"npy/{part}.npy", npy(np.full((2, 3), part, np.float32)))
        out, batch = io.BytesIO(), pa.record_batch({"x": [part, part]})
        with pa.ipc.new_file(out, batch.schema) as file:
            file.write(batch)
        put(s3, f"arrow/{part}.arrow", out.getvalue())
    seen = []
    for address, column in (("s3://bucket/npy/", ""), ("s3://bucket/arrow/*.arrow", "x")):
        source = Sources().open(address)
        assert (source.n_rows, list(tmp_path.iterdir())) == (6, [])
        seen += [len(list(tmp_path.iterdir())) for _ in source.batches(column)]
        assert list(tmp_path.iterdir()) == []
    assert set(seen) == {1}
    assert rows_of(source, "x") == [0, 0, 1, 1, 2, 2]


def test_datacomp_metadata_is_read_from_s3_by_ranges(s3):
    for part in range(2):
        put(s3, f"meta/{part}.parquet", parquet(uid=[f"{part}a", f"{part}b"]))
        out = io.BytesIO()
        np.savez(out, emb=np.full((2, 4), part, np.float16), ballast=np.zeros((2, 2_000_000)))
        put(s3, f"meta/{part}.npz", out.getvalue())
    s3.sent = 0

    for address in ("s3://bucket/meta/", "s3://bucket/meta/*.parquet"):
        source = Sources().open(address)
        assert rows_of(source, "emb") == [[0] * 4] * 2 + [[1] * 4] * 2
        assert rows_of(source, "uid") == ["0a", "0b", "1a", "1b"]
    assert s3.sent < 32_000_000 / 2


def test_a_saved_dataset_is_read_from_s3(s3, tmp_path):
    for part in range(2):
        out, batch = io.BytesIO(), pa.record_batch({"x": [part]})
        with pa.ipc.new_stream(out, batch.schema) as stream:
            stream.write_batch(batch)
        put(s3, f"saved/data-{part}.arrow", out.getvalue())
    order = [{"filename": "data-1.arrow"}, {"filename": "data-0.arrow"}]
    put(s3, "saved/state.json", json.dumps({"_data_files": order}).encode())

    assert rows_of(Sources().open("s3://bucket/saved/"), "x") == [1, 0]


def test_several_splits_and_kinds_in_a_remote_folder_are_refused(s3, d2):
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        put(s3, f"hub/data/{name}.parquet", parquet(x=[1.0]))
    code, _, err = d2("check", "s3://bucket/hub/", "--difficulty", "x")
    assert (code, "s3://bucket/hub/: holds several splits: data/test, data/train" in err) == (
        3,
        True,
    )
    assert "'s3://bucket/hub/data/train-*.parquet'" in err
    assert Sources().open("s3://bucket/hub/data/train-*.parquet").n_rows == 1

    put(s3, "hub/data/x.npy", npy(np.zeros(3)))
    code, _, err = d2("check", "s3://bucket/hub/data/", "--difficulty", "x")
    assert (code, "holds NPY and Parquet files" in err) == (3, True)
    assert "'s3://bucket/hub/data/*.parquet'" in err
    code, _, err = d2("check", "s3://bucket/none/", "--difficulty", "x")
    assert (code, "s3://bucket/none/: no such file or bucket" in err) == (3, True)


def test_a_glob_lists_only_the_folders_that_it_leads_to(s3):
    put(s3, "a1/x.parquet", parquet(x=[1]))
    put(s3, "b/deep/x.parquet", parquet(x=[2]))
    s3.requests.clear()

    assert rows_of(Sources().open("s3://bucket/a*/*.parquet"), "x") == [1]

    listed = [query for _, _, query, _ in s3.requests if "list-type=2" in query]
    assert listed
    assert not any("prefix=b" in query for query in listed)
    assert all("delimiter" in query for query in listed)


def test_an_output_that_would_be_a_part_of_a_remote_folder_is_refused(s3, train, d2):
    put(s3, "parts/0.parquet", train.read_bytes())
    for source in ("s3://bucket/parts/", "s3://bucket/parts/*.parquet", "s3://bucket/p*/**"):
        line = ("graph", source, "-e", "emb", "-q", "-o")
        code, _, err = d2(*line, "s3://bucket/parts/graph.parquet")
        assert (code, "would be a part of the source" in err) == (2, True), err
        assert d2(*line, "s3://bucket/graphs/graph.parquet")[0] == 0


def test_an_export_of_nested_remote_shards_keeps_their_names(s3, d2, tmp_path):
    for kind in "ab":
        put(s3, f"data/kind={kind}/x.parquet", parquet(x=[ord(kind), 0]))
    (tmp_path / "rows.txt").write_text("0\n2\n")
    export = ("export", tmp_path / "rows.txt", "--source", "s3://bucket/data/", "-o")

    assert d2(*export, tmp_path / "out")[0] == 0
    assert d2(*export, tmp_path / "one.parquet")[0] == 0

    for kind in "ab":
        table = pq.ParquetFile(tmp_path / "out" / f"kind={kind}" / "x.parquet").read()
        assert table.to_pydict() == {"x": [ord(kind)]}
    one = pq.read_table(tmp_path / "one.parquet").to_pydict()
    assert one == {"x": [97, 98], "kind": ["a", "b"]}


def test_what_a_killed_run_has_copied_is_swept(s3, vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    put(s3, "emb.npy", npy(vectors))
    code = "import os; from d2cli.files.sources import Sources\n"
    code += "kept = Sources().open('s3://bucket/emb.npy'); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    alive = Sources().open("s3://bucket/emb.npy")
    assert (killed.returncode, len(list(tmp_path.iterdir()))) == (-9, 2)

    write_bytes(tmp_path / "out", b"any")

    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(alive.array(""), vectors)


# --- whole runs -----------------------------------------------------------------------------------


def test_a_run_on_s3_writes_what_a_local_run_writes(s3, train, d2, tmp_path):
    put(s3, "in/train.parquet", train.read_bytes())
    here, there = tmp_path / "out", "s3://bucket/out"
    here.mkdir()
    for place, source in ((here, train), (there, "s3://bucket/in/train.parquet")):
        for line in (
            f"graph {source} -e emb -k 5 -o {place}/graph.parquet",
            f"score {place}/graph.parquet --difficulty {source}::aum -o {place}/scores.parquet",
            f"select {place}/scores.parquet --rate 0.5 -o {place}/keep.parquet",
            f"select {place}/scores.parquet --rate 0.5 -o {place}/keep.txt "
            f"--report {place}/report.json",
        ):
            code, _, err = d2(*line.split())
            assert code == 0, err

    for path in here.iterdir():
        data = get(s3, f"out/{path.name}")
        if path.name == "report.json":
            assert json.loads(data)["digest"] == json.loads(path.read_bytes())["digest"]
        elif path.name == "graph.parquet":  # which records the way to its source
            there_, here_ = (pq.read_table(io.BytesIO(one)) for one in (data, path.read_bytes()))
            assert there_.equals(here_)
            assert there_.schema.metadata[b"d2"] == here_.schema.metadata[b"d2"]
        else:
            assert data == path.read_bytes(), path.name
    written = [name for name in names(s3) if name.startswith("out/")]
    assert written == sorted(f"out/{path.name}" for path in here.iterdir())


def test_what_is_up_to_date_on_s3_is_not_sent_again(s3, train, d2):
    put(s3, "train.parquet", train.read_bytes())
    line = ("prune", "s3://bucket/train.parquet", "--difficulty", "aum", "--rate", "0.5")
    for suffix in ("parquet", "npy"):
        more = ("-o", f"s3://bucket/keep.{suffix}", "--report", f"s3://bucket/{suffix}.md")
        assert d2(*line, *more)[0] == 0
        s3.requests.clear()

        code, _, err = d2(*line, *more)

        assert (code, "select: up to date" in err) == (0, True), err
        assert {method for method, *_ in s3.requests} == {"GET", "HEAD"}


def test_scores_elsewhere_take_their_graph_along(s3, train, d2, tmp_path):
    assert d2("graph", train, "-e", "emb", "-o", "s3://bucket/graph.parquet")[0] == 0
    assert d2("graph", train, "-e", "emb", "-o", tmp_path / "graph.parquet")[0] == 0
    for graph, scores in (("s3://bucket", tmp_path), (tmp_path, "s3://bucket")):
        out = f"{scores}/scores.parquet"
        line = ("score", f"{graph}/graph.parquet", "--difficulty", f"{train}::aum", "-o", out)
        assert d2(*line)[0] == 0

        assert read_artifact(out, "scores").graph is not None
        assert d2("select", out, "--rate", "0.5", "-o", tmp_path / "keep.npy")[0] == 0
        assert "score: up to date" in d2(*line)[2]


def test_a_graph_that_left_its_place_is_asked_for(s3, train, d2):
    graph, scores = "s3://bucket/a/graph.parquet", "s3://bucket/b/scores.parquet"
    assert d2("graph", train, "-e", "emb", "-o", graph)[0] == 0
    assert d2("score", graph, "--difficulty", f"{train}::aum", "-o", scores)[0] == 0
    s3.files.move("bucket/a/graph.parquet", "bucket/c.parquet")

    code, _, err = d2("select", scores, "--rate", "0.5")

    assert code == 4
    assert "its graph s3://bucket/a/graph.parquet is not there any more" in err
    assert "--graph" in err
    assert d2("select", scores, "--rate", "0.5", "--graph", "s3://bucket/c.parquet")[0] == 0


STUDIES = {
    "compare": "--labels label --rates 0.7 --methods d2 --seeds 1",
    "sweep": "--rates 0.7 -k 5,10",
}


@pytest.mark.parametrize("command", STUDIES)
def test_studies_write_to_s3_what_they_write_here(s3, sample_data, d2, tmp_path, command):
    base = (command, sample_data / "clinc150.parquet", "--difficulty", "aum", "-q")
    for place in (tmp_path, "s3://bucket/out"):
        for suffix in ("json", "md"):
            more = ("-o", f"{place}/study.{suffix}", "--plot", f"{place}/study.svg")
            code, _, err = d2(*base, *STUDIES[command].split(), *more)
            assert code == 0, err

    written = [name for name in names(s3) if name != "out"]
    assert written == ["out/study.json", "out/study.md", "out/study.svg"]
    for name in written:
        assert get(s3, name) == (tmp_path / name.removeprefix("out/")).read_bytes()


@pytest.mark.parametrize("command", STUDIES)
def test_a_study_that_cannot_be_written_is_refused_before_any_work(
    s3, sample_data, d2, own_cache, command
):
    base = (command, sample_data / "clinc150.parquet", "--difficulty", "aum", "-q")
    for output, what in (
        ("s3://nowhere/x.md", "there is no such bucket"),
        ("https://127.0.0.1/x.md", "such addresses are only read"),
        ("s3://bucket/x.txt", "cannot be written as '.txt'"),
    ):
        code, _, err = d2(*base, *STUDIES[command].split(), "-o", output)
        assert (code, what in err) == (2, True), err
    assert not list(own_cache.rglob("*"))


def test_a_study_whose_upload_fails_leaves_the_old_object_and_goes_on_later(s3, sample_data, d2):
    put(s3, "study.json", b"old")
    line = ("sweep", sample_data / "clinc150.parquet", "--difficulty", "aum", "-q")
    line = (*line, *STUDIES["sweep"].split(), "-o", "s3://bucket/study.json")
    s3.fault = lambda method, path, query: method == "PUT"

    code, _, err = d2(*line)

    assert (code, "cannot be written: no permission" in err) == (5, True)
    s3.fault = None
    assert get(s3, "study.json") == b"old"
    assert d2(*line)[0] == 0
    assert json.loads(get(s3, "study.json"))["kind"] == "d2 sweep"
    settings = ("--rate", "0.7", "--difficulty", "aum", "--settings", "s3://bucket/study.json")
    assert d2("prune", sample_data / "clinc150.parquet", *settings)[0] == 0
    missing = (*settings[:-1], "s3://bucket/none.json")
    code, _, err = d2("prune", sample_data / "clinc150.parquet", *missing)
    assert (code, "s3://bucket/none.json: no such file" in err) == (3, True)


def test_logs_labels_and_lists_may_be_remote(s3, d2):
    rng = np.random.default_rng(4)
    put(s3, "log.npy", npy(rng.random((3, 50, 4))))
    put(s3, "labels.npy", npy(rng.integers(0, 4, 50)))
    put(s3, "emb.npy", npy(rng.random((50, 3))))
    put(s3, "include.txt", b"7\n31\n")
    columns = "s3://bucket/difficulty.parquet"

    code, _, err = d2("difficulty", "s3://bucket/log.npy", "--labels", "s3://bucket/labels.npy",
                      "--values", "logits", "-o", columns)  # fmt: skip
    assert code == 0, err
    code, out, err = d2("prune", "s3://bucket/emb.npy", "--difficulty", f"{columns}::aum",
                        "--keep", "5", "--include", "s3://bucket/include.txt")  # fmt: skip

    assert code == 0, err
    assert len(out.split()) == 5
    assert {"7", "31"} <= set(out.split())


def test_a_damaged_remote_artifact_is_refused(s3, train, d2):
    assert d2("graph", train, "-e", "emb", "-o", "s3://bucket/graph.parquet")[0] == 0
    data = bytearray(get(s3, "graph.parquet"))
    data[len(data) // 2] ^= 1
    put(s3, "graph.parquet", bytes(data))

    code, _, err = d2("score", "s3://bucket/graph.parquet", "--difficulty", f"{train}::aum")

    assert (code, "s3://bucket/graph.parquet: is damaged" in err) == (4, True)


# --- what goes wrong ------------------------------------------------------------------------------


def refused(call, *arguments):
    """Return kind and message of an error, which come soon and hold no credentials."""
    start = time.monotonic()
    with pytest.raises(D2Error) as caught:
        call(*arguments)
    assert time.monotonic() - start < 30
    text = caught.value.message + caught.value.hint
    assert SECRET not in text
    assert "AKIATESTING" not in text
    assert "\n" not in text
    return type(caught.value), caught.value.message


def test_a_missing_key_or_bucket_is_named(s3):
    for address in ("s3://bucket/none.parquet", "s3://nowhere/none.parquet"):
        found = refused(Sources().open, address)
        assert found == (InputError, f"{address}: no such file or bucket")


def test_a_missing_permission_is_named(s3, vectors):
    put(s3, "emb.npy", npy(vectors))
    s3.fault = lambda method, path, query: True

    kind, message = refused(Sources().open, "s3://bucket/emb.npy")

    assert (kind, message) == (InputError, "s3://bucket/emb.npy: cannot be read: no permission")
    kind, message = refused(write_bytes, Remote("s3://bucket/emb.npy"), b"new")
    assert (kind, message) == (
        ResourceError,
        "s3://bucket/emb.npy: cannot be written: no permission",
    )


def test_a_closed_port_is_told_soon(s3, d2, train, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")

    kind, message = refused(Sources().open, "s3://bucket/emb.npy")
    assert kind is InputError
    assert message == "s3://bucket/emb.npy: cannot be read: cannot connect to its server"
    code, _, err = d2("graph", train, "-e", "emb", "-o", "s3://bucket/graph.parquet")
    assert code == 5
    assert "s3://bucket/graph.parquet: cannot be written: cannot connect" in err


def test_a_connection_that_is_lost_on_the_way_is_told(s3, train):
    put(s3, "train.parquet", train.read_bytes())
    source = Sources().open("s3://bucket/train.parquet")
    s3.fault = lambda method, path, query: method == "GET"

    kind, message = refused(list, source.batches("emb"))

    assert kind is InputError
    assert message.startswith("s3://bucket/train.parquet: cannot be read: ")


@pytest.mark.parametrize("size", [1000, 25_000_000])
def test_a_failed_upload_leaves_the_old_object(s3, size):
    put(s3, "out", b"old")
    part = "partNumber=2&" if size > 10_000_000 else ""
    s3.fault = lambda method, path, query: method == "PUT" and part in query

    found = refused(write_atomically, Remote("s3://bucket/out"), lambda f: f.write(bytes(size)))

    s3.fault = None
    assert found == (ResourceError, "s3://bucket/out: cannot be written: no permission")
    assert get(s3, "out") == b"old"
    assert names(s3) == ["out"]


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt, MemoryError])
def test_a_writer_that_fails_leaves_the_old_object(s3, error):
    put(s3, "out", b"old")

    def write(file):
        file.write(bytes(20_000_000))
        raise error

    with pytest.raises(error):
        write_atomically(Remote("s3://bucket/out"), write)

    assert get(s3, "out") == b"old"


def test_a_large_output_arrives_whole(s3):
    data = np.random.default_rng(2).bytes(12_000_000)

    assert write_bytes(Remote("s3://bucket/out"), data)
    assert get(s3, "out") == data
    assert not write_bytes(Remote("s3://bucket/out"), data)
    assert write_bytes(Remote("s3://bucket/out"), b"")
    assert get(s3, "out") == b""


def test_outputs_that_cannot_be_are_refused_before_any_work(s3):
    for address, what in (
        ("s3://nowhere/x.parquet", "there is no such bucket"),
        ("s3://bucket/folder/", "is a folder"),
        ("https://127.0.0.1/x.parquet", "such addresses are only read"),
        (f"s3://AKIATESTING:{SECRET}@bucket/x", "an address holds neither credentials nor options"),
        ("s3://bucket/x?endpoint_override=h", "such addresses are only read"),
        ("nosuch://bucket/x", "is no kind of address"),
    ):
        kind, message = refused(check_output, as_place(address), [])
        assert kind is ParameterError
        assert what in message
    inputs = [Remote("s3://bucket/x.npy")]
    assert "is an input" in refused(check_output, Remote("s3://bucket/x.npy"), inputs)[1]
    check_output(Remote("s3://bucket/new/x.npy"), inputs)


def test_azure_without_credentials_is_an_error_and_no_crash(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    # As on a machine that is none of Azure's and has no network.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    kind, message = refused(Sources().open, "abfs://container@account.dfs.core.windows.net/x.npy")

    assert kind is InputError
    assert message.endswith("/x.npy: cannot be read: no permission")
    assert "names no storage account" in refused(Sources().open, "abfs://container/x.npy")[1]


# --- fsspec ---------------------------------------------------------------------------------------


class Ranges(http.server.BaseHTTPRequestHandler):
    """Serves one file by ranges; the path says how, the query is a signature."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        code = self.path.split("?")[0].strip("/").split(".")[0]
        data, status = self.server.data, 200
        if code.isdigit():
            data, status = b"", int(code)
        headers = {"Accept-Ranges": "bytes"}
        span = self.headers.get("Range")
        self.server.spans.append(span)
        if span and status == 200:
            first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    server.data, server.spans = b"", []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_parquet_is_read_over_http(web, train, d2):
    web.data = train.read_bytes()
    address = f"{web.url}/train.parquet?signature={SECRET}"

    code, out, err = d2("prune", address, "-e", "emb", "--difficulty", "aum", "--rate", "0.9", "-q")

    assert code == 0, err
    assert out == d2("prune", train, "-e", "emb", "--difficulty", "aum", "--rate", "0.9", "-q")[1]
    assert any(web.spans)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("404", "no such file or bucket"),
        ("403", "cannot be read: no permission"),
        ("500", "cannot be read: its server has failed"),
    ],
)
def test_http_refusals_are_told_without_the_query(web, d2, path, what):
    code, _, err = d2("graph", f"{web.url}/{path}.npy?signature={SECRET}")

    assert code == 3
    assert err.startswith(f"error: {web.url}/{path}.npy: {what}\n")
    assert SECRET not in err


def test_an_http_server_that_is_away_is_told():
    kind, message = refused(Sources().open, f"http://user:s3cret@127.0.0.1:9/x.npy?token={SECRET}")

    assert kind is InputError
    assert message == "http://127.0.0.1:9/x.npy: cannot be read: cannot connect to its server"


def test_a_server_without_ranges_is_read_all_the_same(tmp_path, train):
    class Plain(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *arguments):
            """Say nothing when a reader leaves in the middle."""

    vectors = np.random.default_rng(1).random((200_000, 4))
    pq.write_table(pa.table({"emb": list(vectors)}), tmp_path / "large.parquet")
    answer = functools.partial(Plain, directory=tmp_path)
    with Quiet(("127.0.0.1", 0), answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = Sources().open(f"http://127.0.0.1:{server.server_port}/large.parquet")
        read = np.array(pa.concat_arrays(source.batches("emb")).to_pylist())
        server.shutdown()

    np.testing.assert_array_equal(read, vectors)


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_any_protocol_of_fsspec_is_read_and_written(memory, train, d2):
    memory.pipe("/d/train.parquet", train.read_bytes())
    for line in (
        "graph memory://d/train.parquet -e emb -o memory://d/graph.parquet",
        "score memory://d/graph.parquet --difficulty memory://d/train.parquet::aum "
        "-o memory://d/s.parquet",
        "select memory://d/s.parquet --rate 0.5 -o memory://d/keep.npy",
        "select memory://d/s.parquet --rate 0.5 -o memory://d/keep.npy",
    ):
        code, _, err = d2(*line.split())
        assert code == 0, err

    assert "up to date" in err
    kept = np.load(io.BytesIO(memory.cat("/d/keep.npy")))
    assert len(kept) == 150
    assert sorted(path.rsplit("/", 1)[-1] for path in memory.ls("/d", detail=False)) == [
        "graph.parquet",
        "keep.npy",
        "s.parquet",
        "train.parquet",
    ]


def test_a_failed_move_leaves_the_old_file(memory, monkeypatch):
    memory.pipe("/d/out", b"old")

    def fail(*arguments, **options):
        raise OSError("no")

    monkeypatch.setattr(type(memory), "mv", fail)

    found = refused(write_bytes, Remote("memory://d/out"), b"new")

    assert found == (ResourceError, "memory://d/out: cannot be written: no")
    assert memory.cat("/d/out") == b"old"
    assert memory.ls("/d", detail=False) == ["/d/out"]


def test_a_missing_package_is_named(monkeypatch):
    filesystems._fsspec.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)

    with pytest.raises(ParameterError) as caught:
        Sources().open("ftp://host/x.npy")

    assert "package that is not installed" in caught.value.message
    assert caught.value.hint == "pip install 'd2cli[remote]'"


def test_a_run_over_fsspec_ends_in_peace(web, train, tmp_path):
    web.data = train.read_bytes()
    line = ["graph", f"{web.url}/train.parquet", "-e", "emb", "-o", "graph.parquet", "-q"]

    done = subprocess.run(
        [sys.executable, "-m", "d2cli", *line], cwd=tmp_path, capture_output=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, b"")


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a b.parquet", "s3://bucket/a b.parquet"),
        (f"s3://AKIA:{SECRET}@bucket/x: no", "s3://bucket/x: no"),
        (f"https://token@host/x.npy?sig={SECRET}", "https://host/x.npy"),
        (f"https://host:80/x.parquet?sig={SECRET}::aum", "https://host:80/x.parquet::aum"),
        (f"two: http://h/x?a={SECRET}: and http://h/y#z.", "two: http://h/x: and http://h/y"),
        ("abfs://container@account.dfs.core.windows.net/x", None),
        ("hf://datasets/a/b@refs/convert/parquet/x.parquet", None),
        ("C://x?y", None),
        ("is it there?", None),
    ],
)
def test_credentials_and_queries_are_not_shown(text, shown):
    assert redact(text) == (text if shown is None else shown)
    assert redact(redact(text)) == redact(text)


def test_relative_addresses_lead_back():
    graph, scores = "s3://bucket/a/graph.parquet", "s3://bucket/b/c/scores.parquet"

    way = relative_address(graph, scores)

    assert way == "../../a/graph.parquet"
    assert follow_address(scores, way) == graph
    assert follow_address(scores, "../../../../../x") == "s3://bucket/x"
    assert relative_address(graph, "s3://other/scores.parquet") is None
