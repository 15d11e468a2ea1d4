"""``d2 export`` as a user meets it: what is written, what is told, what is refused."""

import io
import json
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2cli.files.artifacts import seal, write_artifact
from d2cli.files.digests import digest_json

N = 90


def select(path, rows, n_rows=N, ids=None, graph="no graph"):
    """Write a selection that keeps some rows, picked in this order."""
    rows = np.asarray(rows, dtype=np.int64)
    by_row = np.argsort(rows)
    columns = {"row": pa.array(rows[by_row])}
    if ids is not None:
        columns["id"] = pa.array([ids[row] for row in rows[by_row]], pa.large_string())
    columns["rank"] = pa.array(by_row)
    artifact = seal(
        "selection",
        pa.table(columns),
        key=digest_json(rows.tolist()),
        parameters={},
        inputs={"graph": graph},
        results={"n_samples": n_rows},
    )
    write_artifact(Path(path), artifact)
    return Path(path)


def columns_of():
    """Columns of many types."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(N, 3)).astype(np.float32)
    text = [None if i % 7 == 3 else f"text <b>{i}</b> \x1b[1m" for i in range(N)]
    return {
        "id": pa.array([f"row-{i}" for i in range(N)]),
        "text": pa.array(text),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 3),
        "tags": pa.array([[str(i)] * (i % 3) for i in range(N)]),
        "seen": pa.array([{"n": i, "at": i / 4} for i in range(N)]),
        "kind": pa.array([["x", "y", "z"][i % 3] for i in range(N)]).dictionary_encode(),
        "half": pa.array(np.arange(N), pa.float16()),
        "day": pa.array(range(N), pa.timestamp("ns")),
    }


def table_of(start=0, stop=N):
    table = pa.table(columns_of()).slice(start, stop - start)
    fields = [field.with_metadata({"unit": f"of {field.name}"}) for field in table.schema]
    return table.cast(pa.schema(fields, {"owner": "us", "d2": "{}"}))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(folder):
    """train.parquet, in row groups of 20."""
    pq.write_table(table_of(), "train.parquet", row_group_size=20, compression="gzip")
    return table_of()


@pytest.fixture
def shards(folder):
    """A folder with shards of 30, 0, 40 and 20 rows."""
    (folder / "shards" / "more").mkdir(parents=True)
    places = [("a", 0, 30), ("b", 30, 30), ("c", 30, 70), ("more/d", 70, 90)]
    for name, start, stop in places:
        pq.write_table(table_of(start, stop), f"shards/{name}.parquet", row_group_size=11)
    return "shards"


ROWS = [70, 3, 88, 29, 30, 4, 69]
IDS = [f"row-{i}" for i in range(N)]


@pytest.fixture
def keep(folder):
    """Seven rows, in the order they were picked."""
    return select("keep.parquet", ROWS, ids=IDS)


def lines_of(path):
    return Path(path).read_text(encoding="utf-8").splitlines()


def rows_of(table):
    return table.column("id").to_pylist()


def named(rows):
    return [f"row-{row}" for row in rows]


def assert_done(result, text=None):
    code, out, err = result
    assert code == 0, err
    assert out == ""
    if text is not None:
        assert err == text + "\n"


def assert_refused(result, code, message):
    found, out, err = result
    assert (found, out) == (code, ""), err
    first, second = err.splitlines()
    assert first == f"error: {message}"
    assert second.startswith("hint: ")


# --- Parquet --------------------------------------------------------------------------------------


def test_parquet_holds_the_kept_rows_as_they_are(table, keep, d2):
    result = d2("export", keep, "--source", "train.parquet", "-o", "out.parquet")

    assert_done(result, "exported 7 kept of 90 rows to out.parquet (parquet)")
    found = pq.read_table("out.parquet")
    assert found.equals(table.take(sorted(ROWS)))


def test_parquet_keeps_schema_metadata_and_storage_but_no_seal_of_ours(table, keep, d2):
    assert_done(d2("export", keep, "--source", "train.parquet", "-o", "out.parquet"))

    found, expected = pq.read_schema("out.parquet"), pq.read_schema("train.parquet")
    assert found.equals(expected.with_metadata({"owner": "us"}), check_metadata=True)
    assert found.field("id").metadata[b"unit"] == b"of id"
    stored = pq.read_metadata("out.parquet").row_group(0)
    source = pq.read_metadata("train.parquet").row_group(0)
    for i in range(stored.num_columns):
        assert stored.column(i).compression == "GZIP"
        assert stored.column(i).has_dictionary_page == source.column(i).has_dictionary_page


def test_row_groups_are_at_most_as_long_as_the_source_has_them(table, folder, d2):
    keep = select(folder / "keep.parquet", np.arange(70))

    assert_done(d2("export", keep, "--source", "train.parquet", "-o", "out.parquet"))

    stored = pq.read_metadata("out.parquet")
    assert [stored.row_group(i).num_rows for i in range(stored.num_row_groups)] == [20, 20, 20, 10]


def test_row_groups_are_full_however_few_rows_of_the_source_are_kept(table, folder, d2):
    keep = select("keep.parquet", [row for row in range(90) if row % 3])

    assert_done(d2("export", keep, "--source", "train.parquet", "-o", "out.parquet"))

    stored = pq.read_metadata("out.parquet")
    assert [stored.row_group(i).num_rows for i in range(stored.num_row_groups)] == [20, 20, 20]


def test_row_groups_without_a_kept_row_are_not_read(table, folder, d2):
    """A flipped byte there does not matter, and one elsewhere is told."""
    keep = select(folder / "keep.parquet", [1, 2, 85])
    data = bytearray((folder / "train.parquet").read_bytes())
    for group, code in ((2, 0), (0, 3)):
        meta = pq.read_metadata("train.parquet").row_group(group).column(2)
        broken = bytearray(data)
        broken[meta.data_page_offset + meta.total_compressed_size // 2] ^= 0xFF
        (folder / "broken.parquet").write_bytes(broken)

        found, _, err = d2("export", keep, "--source", "broken.parquet", "-o", "out.parquet")
        assert found == code, err


def test_a_folder_has_the_shards_of_the_source_that_keep_rows(shards, keep, folder, d2):
    result = d2("export", keep, "--source", shards, "-o", "out")

    assert_done(result, "exported 7 kept of 90 rows to out (parquet, 3 files)")
    expected = {"a.parquet": [3, 4, 29], "c.parquet": [30, 69], "more/d.parquet": [70, 88]}
    found = {
        path.relative_to(folder / "out").as_posix(): rows_of(pq.read_table(path))
        for path in (folder / "out").rglob("*.parquet")
    }
    assert found == {name: named(rows) for name, rows in expected.items()}


def test_a_glob_is_a_source_and_one_file_an_output_of_shards(shards, keep, d2):
    select("some.parquet", [0, 30, 69], 70, IDS)
    assert_done(d2("export", "some.parquet", "--source", "shards/*.parquet", "-o", "out.parquet"))
    assert rows_of(pq.read_table("out.parquet")) == named([0, 30, 69])

    assert_done(d2("export", keep, "--source", shards, "-o", "all.parquet"))
    assert pq.read_table("all.parquet").equals(table_of().take(sorted(ROWS)))


def test_labels_in_the_names_of_folders_are_columns_of_one_file_and_names_of_several(folder, d2):
    for label, start in (("1", 0), ("2", 5)):
        path = folder / "parts" / f"label={label}"
        path.mkdir(parents=True)
        pq.write_table(pa.table({"x": range(start, start + 5)}), path / "p.parquet")
    keep = select("keep.parquet", [1, 4, 7], 10)

    assert_done(d2("export", keep, "--source", "parts", "-o", "one.parquet"))
    assert_done(d2("export", keep, "--source", "parts", "-o", "many/"))

    expected = [{"x": 1, "label": 1}, {"x": 4, "label": 1}, {"x": 7, "label": 2}]
    assert pq.read_table("one.parquet").to_pylist() == expected
    assert pq.ParquetFile("many/label=2/p.parquet").read().to_pylist() == [{"x": 7}]


def test_columns_may_stand_in_another_order_in_another_shard(folder, d2):
    (folder / "s").mkdir()
    pq.write_table(pa.table({"x": [0, 1], "t": ["a", "b"]}), "s/0.parquet")
    pq.write_table(pa.table({"t": ["c", "d"], "x": [2, 3]}), "s/1.parquet")
    keep = select("keep.parquet", [1, 2], 4)

    assert_done(d2("export", keep, "--source", "s", "-o", "out.parquet"))

    assert pq.read_table("out.parquet").to_pylist() == [{"x": 1, "t": "b"}, {"x": 2, "t": "c"}]


# --- Arrow, JSON lines ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_is_a_source(table, keep, kind, d2):
    table = table.replace_schema_metadata({"owner": "us"})
    make = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}[kind]
    with make("train.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=25)

    assert_done(d2("export", keep, "--source", "train.arrow", "-o", "out.parquet"))

    found = pq.read_table("out.parquet")
    assert found.equals(table.take(sorted(ROWS)))
    assert found.schema.metadata == {b"owner": b"us"}
    assert found.field("tags").metadata[b"unit"] == b"of tags"
    assert pq.read_metadata("out.parquet").row_group(0).column(0).compression == "ZSTD"


def test_jsonl_has_one_object_a_row(table, keep, d2):
    assert_done(d2("export", keep, "--source", "train.parquet", "-o", "out.jsonl"))

    found = [json.loads(line) for line in lines_of("out.jsonl")]
    expected = table.drop_columns(["day"]).take(sorted(ROWS)).to_pylist()
    assert [{k: v for k, v in row.items() if k != "day"} for row in found] == expected
    assert found[0]["day"] == "1970-01-01 00:00:00.000000003"


def test_what_json_does_not_have_becomes_null_or_text(folder, d2):
    columns = {
        "x": [float("nan"), 1.5],
        "v": [[float("inf"), 2.0], [0.0]],
        "b": [b"\xff\x00", b""],
        "t": pa.array([1, 2], pa.time32("s")),
        "n": pa.array([2**63 - 1, None], pa.int64()),
    }
    pq.write_table(pa.table(columns), "t.parquet")
    select("keep.parquet", [0, 1], 2)

    code, out, _ = d2(
        "export", "keep.parquet", "--source", "t.parquet", "-o", "-", "--format", "jsonl"
    )

    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"x": None, "v": [None, 2.0], "b": "/wA=", "t": "00:00:01.000", "n": 2**63 - 1},
        {"x": 1.5, "v": [0.0], "b": "", "t": "00:00:02.000", "n": None},
    ]


def test_columns_of_one_name_cannot_be_json(folder, d2):
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), "t.parquet")
    select("keep.parquet", [0], 1)

    result = d2("export", "keep.parquet", "--source", "t.parquet", "-o", "out.jsonl")

    message = "t.parquet: has several columns called 'x', which JSON lines cannot have"
    assert_refused(result, 3, message)
    assert not Path("out.jsonl").exists()


# --- lists ----------------------------------------------------------------------------------------


def test_rows_mask_and_ids(table, keep, d2):
    for output, format_ in (("r.npy", None), ("m.npy", "mask"), ("i.txt", None), ("i.csv", None)):
        more = ("--format", format_) if format_ else ()
        assert_done(d2("export", keep, "--source", "train.parquet", "-o", output, *more))

    rows, mask = np.load("r.npy"), np.load("m.npy")
    assert rows.dtype == np.int64
    assert rows.tolist() == sorted(ROWS)
    assert mask.dtype == np.bool_
    assert mask.shape == (N,)
    assert np.flatnonzero(mask).tolist() == sorted(ROWS)
    assert lines_of("i.txt") == named(sorted(ROWS))
    expected = ['"id"', *(f'"{name}"' for name in named(sorted(ROWS)))]
    assert lines_of("i.csv") == expected


def test_every_order_by_rank_is_that_of_the_picks(table, keep, d2):
    base = ("export", keep, "--source", "train.parquet", "--order", "rank", "-o")
    for output in ("o.parquet", "o.jsonl", "o.npy", "o.txt", "o.csv"):
        assert_done(d2(*base, output))
    assert_done(d2(*base, "o", "--format", "datasets"))

    assert pq.read_table("o.parquet").equals(table.take(ROWS))
    names = [json.loads(line)["id"] for line in lines_of("o.jsonl")]
    assert names == named(ROWS)
    assert np.load("o.npy").tolist() == ROWS
    assert lines_of("o.txt") == named(ROWS)
    with pa.memory_map("o/data-00000-of-00001.arrow") as file:
        assert rows_of(pa.ipc.open_stream(file).read_all()) == named(ROWS)


def test_kept_rows_of_an_array(folder, d2):
    array = np.asfortranarray(np.random.default_rng(1).normal(size=(N, 4)).astype(">f2"))
    np.save("v.npy", array)
    keep = select("keep.parquet", ROWS)

    assert_done(d2("export", keep, "--source", "v.npy", "-o", "out.npy", "--format", "array"))
    found = np.load("out.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array[sorted(ROWS)])

    assert_done(
        d2("export", keep, "--source", "v.npy", "-o", "out.npy", "--format", "array",
           "--order", "rank")
    )  # fmt: skip
    np.testing.assert_array_equal(np.load("out.npy"), array[ROWS])


def test_standard_output_gets_lines(table, keep, d2):
    code, out, err = d2("export", keep, "--source", "train.parquet", "-o", "-", "--format", "ids")

    assert code == 0
    assert out.splitlines() == named(sorted(ROWS))
    assert err == "exported 7 kept of 90 rows to standard output (ids)\n"


def test_ids_of_a_source_without_any_come_from_the_selection_or_another_file(folder, d2):
    np.save("v.npy", np.zeros((N, 2)))
    keep = select("keep.parquet", ROWS, ids=IDS)
    pq.write_table(pa.table({"id": IDS}), "names.parquet")

    code, _, err = d2("export", keep, "--source", "v.npy", "-o", "out.txt")
    assert code == 0
    assert err.splitlines()[0] == (
        "note: v.npy has no ids to be held against those of keep.parquet; "
        "rows are matched by number"
    )
    assert lines_of("out.txt") == named(sorted(ROWS))
    result = d2("export", keep, "--source", "v.npy", "-o", "rest.txt", "--dropped", "-q")
    assert_refused(result, 3, "v.npy: has no ids")

    result = d2("export", keep, "--source", "v.npy", "-o", "rest.txt", "--dropped", "--id",
                "names.parquet")  # fmt: skip
    assert_done(result, "exported 83 dropped of 90 rows to rest.txt (ids)")


def test_lists_of_a_source_that_has_no_whole_rows(folder, d2):
    (folder / "t.csv").write_text("id,x\na,1\nb,2\nc,3\n")
    select("keep.parquet", [2, 0], 3, ids=["a", "b", "c"])
    base = ("export", "keep.parquet", "--source", "t.csv", "-o")

    assert_done(d2(*base, "out.txt", "--order", "rank"))
    assert lines_of("out.txt") == ["c", "a"]
    assert_done(d2(*base, "out.npy", "--dropped"))
    assert np.load("out.npy").tolist() == [1]
    assert "note: ids.csv will hold ids" in d2(*base, "ids.csv")[2]
    assert "will hold" not in d2(*base, "ids.csv", "--format", "ids")[2]


TEXTS = {
    "t.csv": 'id,,x,note,y,flag,none\n01,0,1,"a, b",1.5,true,\n02,1,,NA,nan,false,\n'
    '03,2,3,"two\nlines",-2,true,\n',
    "t.tsv": "id\t\tx\tnote\ty\tflag\tnone\n01\t0\t1\ta, b\t1.5\ttrue\t\n"
    '02\t1\t\tNA\tnan\tfalse\t\n03\t2\t3\t"two\nlines"\t-2\ttrue\t\n',
    "t.jsonl": '{"id": "01", "x": 1, "note": "a, b", "y": 1.5, "flag": true, "none": null}\n\n'
    '{"id": "02", "note": "NA", "flag": false}\n'
    '{"id": "03", "x": 3, "note": "two\\nlines", "y": -2, "flag": true}\n',
}
ROWS_OF_TEXT = [
    {"id": "01", "x": 1, "note": "a, b", "y": 1.5, "flag": True, "none": None},
    {"id": "02", "x": None, "note": "NA", "y": None, "flag": False, "none": None},
    {"id": "03", "x": 3, "note": "two\nlines", "y": -2.0, "flag": True, "none": None},
]


@pytest.mark.parametrize("source", TEXTS)
def test_rows_of_text_are_whole_rows_with_their_types(folder, d2, source):
    (folder / source).write_text(TEXTS[source])
    select("keep.parquet", [2, 0], 3, ids=["01", "02", "03"])
    base = ("export", "keep.parquet", "--source", source, "-o")
    expected = [ROWS_OF_TEXT[0], ROWS_OF_TEXT[2]]

    assert_done(d2(*base, "out.parquet"))
    assert pq.read_table("out.parquet").to_pylist() == expected
    assert_done(d2(*base, "out.jsonl", "--order", "rank"))
    assert [json.loads(line) for line in lines_of("out.jsonl")] == expected[::-1]
    assert_done(d2(*base, "rest.parquet", "--dropped"))
    assert pq.read_table("rest.parquet").to_pylist() == [ROWS_OF_TEXT[1]]
    assert_done(d2(*base, "out/"))
    assert pq.read_table("out/t.parquet").to_pylist() == expected
    assert_done(d2(*base, "saved/", "--format", "datasets"))


def test_long_text_is_exported_in_blocks(folder, d2, monkeypatch):
    monkeypatch.setattr("d2cli.files.text.BLOCK_BYTES", 1 << 12)
    n = 5000
    lines = [f"{row},text {row},{row / 4}" for row in range(n)]
    (folder / "long.csv").write_text("\n".join(["row,text,y", *lines]) + "\n")
    kept = [7, 8, 1234, 4999]
    (folder / "rows.txt").write_text("".join(f"{row}\n" for row in kept))

    line = ("export", "rows.txt", "--source", "long.csv", "--id", "none", "-o", "out.parquet")
    assert_done(d2(*line))

    expected = [{"row": row, "text": f"text {row}", "y": row / 4} for row in kept]
    assert pq.read_table("out.parquet").to_pylist() == expected


def test_text_with_two_columns_of_one_name_is_refused(folder, d2):
    (folder / "t.csv").write_text("x,y,x\n1,2,3\n")
    (folder / "rows.txt").write_text("0\n")
    line = ("export", "rows.txt", "--source", "t.csv", "-o", "out.parquet")
    said = "t.csv: has several columns called 'x', so its rows cannot be handed on whole"
    assert_refused(d2(*line), 3, said)
    assert_done(d2(*line[:-1], "out.npy"))


# --- what a selection may be ----------------------------------------------------------------------


def test_lists_of_rows_and_ids_are_selections(table, folder, d2):
    np.save("l.npy", np.array(ROWS))
    (folder / "l.txt").write_text("".join(f"{name}\n" for name in named(ROWS)))
    pq.write_table(pa.table({"id": named(ROWS)}), "l.parquet")
    for name in ("l.npy", "l.txt", "l.parquet"):
        assert_done(d2("export", name, "--source", "train.parquet", "-o", "out.parquet"))
        assert rows_of(pq.read_table("out.parquet")) == named(sorted(ROWS))
        base = ("export", name, "--source", "train.parquet")
        assert_done(d2(*base, "-o", "out.txt", "--order", "rank"))
        assert lines_of("out.txt") == named(ROWS)


def test_a_selection_of_d2_is_exported(two_clusters, folder, d2):
    vectors, scores = two_clusters
    columns = {"uid": [f"{i:032x}" for i in range(60)], "s": scores}
    columns["v"] = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4)
    pq.write_table(pa.table(columns), "t.parquet")
    prune = ("prune", "t.parquet", "--difficulty", "s", "--harder", "high", "--rate", "0.8")
    assert d2(*prune, "-o", "keep.parquet")[0] == 0
    assert d2(*prune, "-o", "keep.npy")[0] == 0

    assert_done(d2("export", "keep.parquet", "--source", "t.parquet", "-o", "out.npy"))
    assert np.load("out.npy").tolist() == np.load("keep.npy").tolist()

    code, out, _ = d2(
        "export", "keep.parquet", "--source", "t.parquet", "-o", "w.npy", "--format", "weights",
        "--json", "-q",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    assert found["rows"] == {"total": 60, "exported": 12}
    weights = np.load("w.npy")
    assert weights.shape == (60,)
    assert np.flatnonzero(weights).tolist() == np.load("keep.npy").tolist()
    assert found["weights"]["sum"] == pytest.approx(60)
    assert weights.sum() == pytest.approx(60)


def test_a_list_may_come_through_a_pipe(table, d2, monkeypatch):
    lines = io.BytesIO("".join(f"{name}\n" for name in named(ROWS)).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines))

    assert_done(d2("export", "--source", "train.parquet", "-o", "out.parquet", "--order", "rank"))

    assert pq.read_table("out.parquet").equals(table.take(ROWS))


def test_remote_files_are_sources_selections_and_outputs(table, keep, d2):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("train.parquet", "keep.parquet"):
        memory.pipe(f"/far/{name}", Path(name).read_bytes())

    result = d2("export", "memory://far/keep.parquet", "--source", "memory://far/train.parquet",
                "-o", "memory://far/out.parquet")  # fmt: skip

    assert_done(result, "exported 7 kept of 90 rows to memory://far/out.parquet (parquet)")
    found = pq.read_table(io.BytesIO(memory.cat("/far/out.parquet")))
    assert found.equals(table.take(sorted(ROWS)))
    result = d2("export", keep, "--source", "train.parquet", "-o", "memory://far/out")
    assert_refused(result, 2, "memory://far/out: folders are written to this machine only")


# --- laws -----------------------------------------------------------------------------------------


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.sets(st.integers(0, N - 1), min_size=1), source=st.sampled_from(["one", "many"]))
def test_kept_and_dropped_together_are_the_source(table, shards, d2, rows, source):
    keep = select("law.parquet", sorted(rows), ids=IDS)
    place = {"one": "train.parquet", "many": shards}[source]
    kept, dropped = sorted(rows), sorted(set(range(N)) - rows)
    back = np.argsort([*kept, *dropped])

    for dropping, expected in (((), kept), (("--dropped",), dropped)):
        name = "dropped" if dropping else "kept"
        base = ("export", keep, "--source", place, "-q", *dropping, "-o")
        for output, format_ in (
            (f"{name}.parquet", "parquet"), (f"{name}-shards", "parquet"),
            (f"{name}.jsonl", "jsonl"), (f"{name}-ds", "datasets"), (f"{name}.txt", "ids"),
            (f"{name}.npy", "rows"), (f"{name}-mask.npy", "mask"),
        ):  # fmt: skip
            assert_done(d2(*base, output, "--format", format_))
        ids = lines_of(f"{name}.txt")
        assert ids == named(expected)
        assert np.load(f"{name}.npy").tolist() == expected
        assert np.flatnonzero(np.load(f"{name}-mask.npy")).tolist() == expected

    tables = [pq.read_table(f"{name}.parquet") for name in ("kept", "dropped")]
    assert pa.concat_tables(tables, promote_options="permissive").take(back).equals(table)
    lines = [json.loads(x) for n in ("kept", "dropped") for x in lines_of(f"{n}.jsonl")]
    assert [lines[i]["id"] for i in back] == IDS
    assert [lines[i]["seen"] for i in back] == table.column("seen").to_pylist()
    sharded = [rows_of(pq.ParquetDataset(f"{n}-shards").read()) for n in ("kept", "dropped")]
    assert sharded == [named(kept), named(dropped)]
    for name, expected in (("kept", kept), ("dropped", dropped)):
        state = json.loads(Path(f"{name}-ds/state.json").read_bytes())
        parts = []
        for entry in state["_data_files"]:
            with pa.memory_map(f"{name}-ds/{entry['filename']}") as file:
                parts.append(pa.ipc.open_stream(file).read_all())
        assert rows_of(pa.concat_tables(parts)) == named(expected)


def test_the_same_export_has_the_same_bytes(table, keep, folder, d2):
    outputs = [("o.parquet", "parquet"), ("o.jsonl", "jsonl"), ("o", "datasets"), ("s", "parquet")]

    def export():
        for output, format_ in outputs:
            assert_done(
                d2("export", keep, "--source", "train.parquet", "-o", output, "--format", format_)
            )
        places = [folder / output for output, _ in outputs]
        files = [f for p in places for f in ([p] if p.is_file() else sorted(p.iterdir()))]
        return {file: file.read_bytes() for file in files}

    assert export() == export()


# --- refusals -------------------------------------------------------------------------------------


def test_a_selection_of_other_data_is_refused(table, folder, d2):
    other = select("other.parquet", [3], 91)
    result = d2("export", other, "--source", "train.parquet", "-o", "out.parquet")
    assert_refused(result, 4, "other.parquet: was made from 91 rows, but train.parquet has 90")

    moved = select("moved.parquet", [3, 5], ids=[*IDS[:5], "else <b>", *IDS[6:]])
    result = d2("export", moved, "--source", "train.parquet", "-o", "out.parquet")
    assert_refused(
        result,
        4,
        "train.parquet::id: row 5 has the id 'row-5', but moved.parquet has 'else <b>' there",
    )
    assert sorted(p.name for p in folder.iterdir()) == [
        "moved.parquet", "other.parquet", "train.parquet",
    ]  # fmt: skip
    assert d2("export", moved, "--source", "train.parquet", "--id", "none", "-o", "x.npy")[0] == 0


def test_ids_of_another_type_are_refused(folder, keep, d2):
    pq.write_table(pa.table({"id": range(N)}), "t.parquet")

    result = d2("export", keep, "--source", "t.parquet", "-o", "out.parquet")

    assert_refused(result, 4, "t.parquet::id: ids are int64, in keep.parquet large_string")


def test_damaged_and_foreign_artifacts_are_refused(table, keep, folder, d2):
    data = bytearray(keep.read_bytes())
    data[pq.read_metadata(keep).row_group(0).column(0).data_page_offset + 40] ^= 0x40
    (folder / "flipped.parquet").write_bytes(data)
    (folder / "short.parquet").write_bytes(keep.read_bytes()[:-20])
    write_artifact(
        folder / "scores.parquet",
        seal("scores", pa.table({"score": [1.0]}), key="k", parameters={}, inputs={}, results={}),
    )
    for name in ("flipped", "short", "scores"):
        code, _, err = d2(
            "export", f"{name}.parquet", "--source", "train.parquet", "-o", "out.parquet"
        )
        assert code == 4, err
        assert err.startswith(f"error: {name}.parquet: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "x.zip"), "x.zip: nothing is exported as '.zip'"),
        (("-o", "x.npy", "--format", "zip"), "format is 'zip', expected one of parquet, jsonl, "
         "datasets, ids, rows, mask, array, datacomp, weights"),
        (("-o", "x.txt", "--format", "mask"), "x.txt: mask cannot be written as '.txt'"),
        (("-o", "x", "--format", "mask"), "x: mask cannot be written as 'a folder'"),
        (("-o", "x.arrow", "--format", "datasets"),
         "x.arrow: datasets cannot be written as '.arrow'"),
        (("-o", "-"), "what goes to standard output or a device needs a --format of lines"),
        (("-o", "-", "--format", "parquet"), "parquet cannot go to standard output or a device"),
        (("-o", "x.npy", "--order", "best"), "order is 'best', expected one of row, rank"),
        (("-o", "x.npy", "--order", "rank", "--dropped"),
         "--order rank does not go with --dropped: only kept rows have a rank"),
        (("-o", "x", "--order", "rank"),
         "--order rank does not go here: a folder of Parquet files is sorted as the source"),
        (("-o", "x.npy", "--order", "rank", "--format", "mask"),
         "--order rank does not go here: a mask has a value for every row"),
        (("-o", "x.npy", "--format", "weights", "--dropped"),
         "--dropped does not go with weights: dropped rows have none"),
        (("-o", "x.npy", "--graph", "g.parquet"), "--graph does not go with rows"),
        (("-o", "x.npy", "--format", "weights"),
         "weights need the graph, which is not in the cache"),
        (("-o", "-", "--format", "ids", "--json"), "--json needs standard output"),
        (("-o", "nowhere/x.npy"), "nowhere/x.npy: there is no folder {cwd}/nowhere"),
        (("-o", "nowhere/x/"), "nowhere/x: there is no folder {cwd}/nowhere"),
        (("-o", "train.parquet"),
         "train.parquet: is an input of this command and would be destroyed"),
        (("-o", "keep.parquet"),
         "keep.parquet: is an input of this command and would be destroyed"),
        (("-o", "."), ".: holds or lies in an input of this command"),
        (("-o", "train.parquet/"), "train.parquet: holds or lies in an input of this command"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(table, keep, folder, d2, arguments, message):
    result = d2("export", "keep.parquet", "--source", "train.parquet", *arguments)

    assert_refused(result, 2, message.format(cwd=folder))
    assert sorted(p.name for p in folder.iterdir()) == ["keep.parquet", "train.parquet"]


def test_nothing_becomes_a_part_of_the_source(shards, keep, folder, d2):
    result = d2("export", keep, "--source", shards, "-o", "shards/kept.parquet")
    message = "shards/kept.parquet: would be a part of the source shards"
    assert_refused(result, 2, message)
    result = d2("export", keep, "--source", shards, "-o", "shards/kept")
    assert_refused(result, 2, "shards/kept: holds or lies in an input of this command")
    select("some.parquet", [3], 70)
    base = ("export", "some.parquet", "--source", "shards/*.parquet", "-o")
    assert_refused(
        d2(*base, "shards/kept.parquet"),
        2,
        "shards/kept.parquet: would be a part of the source shards/*.parquet",
    )


def test_what_is_no_table_or_no_array_is_told(table, keep, folder, d2):
    np.save("v.npy", np.zeros((N, 2)))
    result = d2("export", keep, "--source", "v.npy", "-o", "out.parquet", "-q")
    assert_refused(result, 3, "v.npy: is no table, so its rows cannot be handed on whole")
    np.savez("v.npz", emb=np.zeros((N, 2)))
    result = d2("export", keep, "--source", "v.npz", "-o", "out.parquet", "-q")
    assert_refused(result, 3, "v.npz: is no table, so its rows cannot be handed on whole")
    assert "rows.npy picks those of other arrays" in result[2]
    result = d2("export", keep, "--source", "train.parquet", "-o", "o.npy", "--format", "array")
    assert_refused(result, 3, "train.parquet: is no NPY file with rows")
    assert_refused(
        d2("export", keep, "--source", "-", "-o", "o.npy"), 2,
        "the source cannot be standard input",
    )  # fmt: skip
    assert_refused(
        d2("export", keep, "--source", "none.parquet", "-o", "o.npy"), 3,
        "none.parquet: no such file",
    )  # fmt: skip


def test_a_source_that_breaks_off_leaves_the_old_export(table, keep, folder, d2):
    base = ("export", keep, "--source", "train.parquet", "-o")
    assert_done(d2(*base, "out.parquet"))
    assert_done(d2(*base, "out"))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "out" in str(p)}
    data = bytearray((folder / "train.parquet").read_bytes())
    meta = pq.read_metadata("train.parquet").row_group(4).column(2)
    data[meta.data_page_offset + meta.total_compressed_size // 2] ^= 0xFF
    (folder / "train.parquet").write_bytes(data)

    for output in ("out.parquet", "out"):
        code, _, err = d2(*base, output)
        assert code == 3
        assert err.startswith("error: train.parquet: cannot be read: ")
    assert {p: p.read_bytes() for p in before} == before
    assert sorted(p.name for p in folder.iterdir()) == [
        "keep.parquet", "out", "out.parquet", "train.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("output", "more"),
    [
        ("out.parquet", ()),
        ("out.jsonl", ()),
        ("out", ()),
        ("out", ("--format", "datasets")),
        ("out.parquet", ("--order", "rank")),
        ("out.npy", ("--format", "mask")),
    ],
)
def test_a_full_disk_is_told_and_leaves_nothing(table, keep, folder, d2, output, more):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (210, hard))
    try:
        code, _, err = d2("export", keep, "--source", "train.parquet", "-o", output, *more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert code == 5, err
    assert err.count("\n") == 2
    assert sorted(p.name for p in folder.iterdir()) == ["keep.parquet", "train.parquet"]
