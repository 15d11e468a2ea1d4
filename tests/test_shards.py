"""Folders and globs of shards: which files, in what order, and the same results as one file."""

import itertools
import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.errors import InputError
from d2cli.files.artifacts import read_artifact, write_artifact
from d2cli.files.columns import ColumnRef, read_labels, read_numbers, read_vectors
from d2cli.files.digests import digest_array, digest_labels
from d2cli.files.sources import Sources
from d2cli.files.tables import BATCH_BYTES


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of a test, which is the current one, so that names are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, start=0, stop=4, **columns):
    """Write rows ``start`` to ``stop`` of an endless table."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(range(start, stop))
    table = {"id": [f"r{row}" for row in rows], "v": [[row, 1.0] for row in rows], "loss": rows}
    table["loss"] = pa.array(rows, pa.float64())
    pq.write_table(pa.table({**table, **columns}), path)


def ids_of(source):
    return pa.chunked_array(list(source.batches("id"))).to_pylist()


def refusal(text):
    with pytest.raises(InputError) as caught:
        Sources().open(text)
    return caught.value


# --- order ----------------------------------------------------------------------------------------


def test_shards_come_in_the_order_of_their_paths(here):
    for at, name in enumerate(["b.parquet", "a/z.parquet", "a-b.parquet", "B.pq", "a/b/c.parquet"]):
        write(f"d/{name}", at, at + 1)

    source = Sources().open("d")

    assert [path.as_posix() for path in source.paths] == [
        "d/B.pq",
        "d/a-b.parquet",
        "d/a/b/c.parquet",
        "d/a/z.parquet",
        "d/b.parquet",
    ]
    assert ids_of(source) == ["r3", "r2", "r4", "r1", "r0"]
    assert source.rows == [1] * 5
    assert source.n_rows == 5


@given(st.sets(st.text("aAzé9-_. /", min_size=1, max_size=8), min_size=2, max_size=5))
@settings(max_examples=30, deadline=None)
def test_the_order_is_that_of_the_bytes_of_the_paths(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("order")
    kept = []
    for at, name in enumerate(names):
        parts = [part for part in name.split("/") if part and part.strip(".")]
        if parts:
            path = folder.joinpath(*parts[:-1], parts[-1] + ".parquet")
            write(path, at, at + 1)
            if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts):
                kept.append(path)
    expected = sorted(set(kept), key=lambda path: os.fsencode(str(path)))
    if expected:
        assert Sources().open(str(folder)).paths == expected


def test_hidden_and_underscored_files_and_folders_are_left_out(here):
    write("d/a.parquet", 0, 2)
    for name in (".b.parquet", "_c.parquet", "_temporary/d.parquet", ".git/e.parquet"):
        write(f"d/{name}", 5, 7)
    Path("d/_SUCCESS").touch()
    Path("d/README.md").write_text("no data")

    assert ids_of(Sources().open("d")) == ["r0", "r1"]
    assert ids_of(Sources().open("d/*")) == ["r0", "r1"]
    assert ids_of(Sources().open("d/**/*.parquet")) == ["r0", "r1"]
    assert ids_of(Sources().open("d/_c.*")) == ["r5", "r6"]


def test_a_glob_names_some_of_the_files_and_whole_folders(here):
    write("d/x/a.parquet", 0, 1)
    write("d/x/b.parquet", 1, 2)
    write("d/y/c.parquet", 2, 3)

    assert ids_of(Sources().open("d/x/*.parquet")) == ["r0", "r1"]
    assert ids_of(Sources().open("d/[xy]")) == ["r0", "r1", "r2"]
    assert ids_of(Sources().open("d/**")) == ["r0", "r1", "r2"]
    assert ids_of(Sources().open(str(here / "d/*/[bc].parquet"))) == ["r1", "r2"]


def test_a_file_called_like_a_glob_is_the_file(here):
    write("a[1].parquet", 0, 1)
    write("a1.parquet", 1, 2)

    assert ids_of(Sources().open("a[1].parquet")) == ["r0"]
    assert ids_of(Sources().open("a?.parquet")) == ["r1"]


def test_links_are_followed_and_a_link_to_a_folder_above_ends_nowhere(here):
    write("elsewhere/a.parquet", 0, 1)
    write("d/b.parquet", 1, 2)
    Path("d/linked").symlink_to(here / "elsewhere")
    Path("d/back").symlink_to(here / "d")

    assert ids_of(Sources().open("d")) == ["r1", "r0"]


def test_every_file_read_is_known_and_none_is_overwritten(d2, here):
    for at in range(3):
        write(f"d/{at}.parquet", 20 * at, 20 * at + 20)
    sources = Sources()
    sources.open("d")
    before = Path("d/1.parquet").read_bytes()

    code, _, err = d2("graph", "d", "-o", "d/1.parquet")

    assert [path.as_posix() for path in sources.paths] == [f"d/{at}.parquet" for at in range(3)]
    assert (code, "is an input of this command" in err) == (2, True)
    assert Path("d/1.parquet").read_bytes() == before


# --- what is refused ------------------------------------------------------------------------------


def test_the_first_shard_that_differs_is_named(here):
    write("d/a.parquet")
    write("d/b.parquet")
    write("d/c.parquet", loss=pa.array([1, 2, 3, 4]))
    write("d/d.parquet", more=[1, 2, 3, 4])

    error = refusal("d")

    assert error.message == "d/c.parquet: column 'loss' is int64, but double in d/a.parquet"
    assert "glob in quotes" in error.hint


def test_a_column_more_or_less_is_named(here):
    write("m/a.parquet")
    write("m/b.parquet", extra=[1, 2, 3, 4])
    write("l/a.parquet", extra=[1, 2, 3, 4])
    write("l/b.parquet")

    assert refusal("m").message == (
        "m/b.parquet: has a column 'extra', which m/a.parquet does not have"
    )
    assert refusal("l").message == "l/b.parquet: has no column 'extra', which l/a.parquet has"


def test_shards_that_disagree_on_what_is_harder_are_refused(here):
    for name, harder in (("a", "high"), ("b", "low")):
        field = pa.field("loss", pa.float64(), metadata={"harder": harder})
        Path("d").mkdir(exist_ok=True)
        pq.write_table(pa.table([[1.0]], schema=pa.schema([field])), f"d/{name}.parquet")

    assert refusal("d").message == (
        "d/b.parquet: column 'loss' is double, harder when low, "
        "but double, harder when high in d/a.parquet"
    )


def test_columns_in_another_order_and_lists_with_other_item_names_are_the_same(here):
    Path("d").mkdir()
    for name, item, order in (("a", "item", ["v", "loss"]), ("b", "element", ["loss", "v"])):
        kind = pa.list_(pa.field(item, pa.float32()))
        table = pa.table({"v": pa.array([[1, 2]], kind), "loss": [0.5]}).select(order)
        pq.write_table(table, f"d/{name}.parquet", use_compliant_nested_type=False)

    source = Sources().open("d")

    np.testing.assert_array_equal(
        read_vectors(ColumnRef(source, source.columns["v"])), [[1, 2], [1, 2]]
    )


def test_a_shard_that_is_no_parquet_file_is_named(here):
    write("d/a.parquet")
    Path("d/b.parquet").write_bytes(b"PAR1 and no more")

    assert refusal("d").message.startswith("d/b.parquet: cannot be read: ")


def test_a_link_to_nowhere_is_a_missing_shard(here):
    write("d/a.parquet")
    Path("d/b.parquet").symlink_to("gone")

    assert refusal("d").message == "d/b.parquet: no such file"


def test_a_shard_that_changes_meanwhile_is_noticed(here):
    write("d/a.parquet", 0, 3)
    write("d/b.parquet", 3, 5)
    source = Sources().open("d")
    for stop in (4, 8):
        write("d/b.parquet", 3, stop)
        with pytest.raises(InputError, match=r"d/b\.parquet: has changed since it was opened"):
            list(source.batches("loss"))


def test_a_glob_without_a_match_says_so(d2, here):
    code, _, err = d2("graph", "d/*.parquet")
    assert (code, "error: d/*.parquet: no file matches" in err) == (3, True)

    write("a.parquet")
    code, _, err = d2("prune", "a.parquet", "--difficulty", "d/*.npy", "--rate", "0.5")
    assert code == 3
    assert "d/*.npy" in err


def test_several_kinds_of_files_are_refused(here):
    write("d/a.parquet")
    np.save("d/a.npy", np.zeros((4, 2)))

    error = refusal("d")

    assert error.message == "d: holds NPY and Parquet files"
    assert error.hint.startswith("name one kind by a glob in quotes, such as 'd/*.")


# --- the hub's layout -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "splits", "glob"),
    [
        (
            ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"],
            "test, train",
            "d/data/train-*.parquet",
        ),
        (["default/test/0000.parquet", "default/train/0000.parquet"], "test, train", "default/"),
        (["test.parquet", "train.parquet"], "test, train", "d/train*.parquet"),
        (
            ["de/train-00000-of-00001.parquet", "fr/train-00000-of-00001.parquet"],
            "de/train, fr/train",
            "d/de/train-*.parquet",
        ),
    ],
)
def test_several_splits_are_refused_with_a_glob_that_names_one(here, names, splits, glob):
    for at, name in enumerate(names):
        write(f"d/{name}", at, at + 1)

    error = refusal("d")

    shown = splits.replace(
        "test, train", "data/test, data/train" if "data/" in names[0] else splits
    )
    assert error.message == f"d: holds several splits: {shown}"
    assert glob in error.hint
    named = error.hint.split("'")[1]
    assert len(Sources().open(named).paths) == 1


def test_one_split_is_read_and_an_incomplete_one_is_refused(here):
    write("d/data/train-00000-of-00002.parquet", 0, 2)

    assert refusal("d").message == "d: holds 1 of 2 shards of data/train"

    write("d/data/train-00001-of-00002.parquet", 2, 3)
    assert ids_of(Sources().open("d")) == ["r0", "r1", "r2"]


# --- labels in the names of folders ---------------------------------------------------------------


def test_hive_folders_are_columns(here):
    write("d/year=2024/lang=a%2Fb/x.parquet", 0, 2)
    write("d/year=2025/lang=de/x.parquet", 2, 3)

    source = Sources().open("d")

    assert source.columns["year"].kind == "numbers"
    assert pa.chunked_array(list(source.batches("year"))).to_pylist() == [2024, 2024, 2025]
    lang = read_labels(ColumnRef(source, source.columns["lang"]))
    assert lang.to_pylist() == ["a/b", "a/b", "de"]
    below = Sources().open("d/*/lang=de/*.parquet")
    assert pa.chunked_array(list(below.batches("year"))).to_pylist() == [2025]


def test_a_folder_without_a_value_is_a_null_that_is_named(here):
    write("d/label=1/x.parquet", 0, 2)
    write("d/label=__HIVE_DEFAULT_PARTITION__/x.parquet", 2, 3)
    source = Sources().open("d")

    assert source.columns["label"].type == "int64"
    with pytest.raises(InputError, match=r"d::label: row 2 is null"):
        read_labels(ColumnRef(source, source.columns["label"]))


def test_folders_of_other_keys_are_refused(here):
    write("d/a=1/x.parquet")
    write("d/b=1/x.parquet")

    assert (
        refusal("d").message == "d/b=1/x.parquet: is in folders of b, d/a=1/x.parquet in those of a"
    )


def test_a_name_in_the_files_and_of_the_folders_cannot_be_used(here):
    write("d/loss=1/x.parquet")

    column = Sources().open("d").columns["loss"]

    assert (column.kind, column.type) == ("other", "in the files and in the names of their folders")


def test_hive_labels_group_a_selection(d2, here, two_clusters):
    vectors, loss = two_clusters
    for at in range(2):
        Path(f"d/label={at}").mkdir(parents=True)
        rows = slice(30 * at, 30 * at + 30)
        table = pa.table({"v": vectors[rows].tolist(), "loss": loss[rows]})
        pq.write_table(table, f"d/label={at}/x.parquet")

    code, out, err = d2(
        *("prune", "d", "--difficulty", "loss", "--rate", "0.5", "--group", "label"),
        *("--within", "label", "--balance", "uniform", "--json"),
    )

    assert code == 0, err
    groups = [(group["name"], group["rows"], group["kept"]) for group in json.loads(out)["groups"]]
    assert groups == [("0", 30, 15), ("1", 30, 15)]


# --- NPY shards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<i8", "|u1"])
def test_npy_shards_are_one_array(here, dtype):
    array = np.arange(60).reshape(20, 3).astype(dtype)
    Path("d").mkdir()
    np.save("d/a.npy", array[:7])
    np.save("d/b.npy", np.asfortranarray(array[7:]))

    source = Sources().open("d")
    ref = ColumnRef(source, source.columns[""])

    assert source.array("") is None
    assert (source.header("").n_rows, source.width("")) == (20, 3)
    assert ref.column.type == f"{np.dtype(dtype).newbyteorder('=')} (20, 3)"
    assert digest_array(read_vectors(ref)) == digest_array(array)


def test_npy_shards_of_numbers_and_texts_are_scores_and_labels(here):
    Path("aum").mkdir()
    np.save("aum/0.npy", np.arange(3.0))
    np.save("aum/1.npy", np.arange(3.0, 5.0))
    Path("names").mkdir()
    np.save("names/0.npy", np.array(["a", "b"]))
    np.save("names/1.npy", np.array(["long"]))
    scores, names = Sources().open("aum/*.npy"), Sources().open("names")

    ref = ColumnRef(scores, scores.columns[""])
    np.testing.assert_array_equal(read_numbers(ref), np.arange(5.0))
    assert [ColumnRef(source, source.columns[""]).title for source in (scores, names)] == [
        "aum",
        "names",
    ]
    assert read_labels(ColumnRef(names, names.columns[""])).to_pylist() == ["a", "b", "long"]


def test_npy_shards_of_other_widths_are_refused(here):
    Path("d").mkdir()
    np.save("d/a.npy", np.zeros((3, 2), np.float32))
    np.save("d/b.npy", np.zeros((3, 4), np.float32))

    assert refusal("d").message == "d/b.npy: is float32 (n, 4), but d/a.npy is float32 (n, 2)"


# --- the same results -----------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), max_size=4), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_digests_do_not_depend_on_where_shards_begin(tmp_path_factory, cuts, seed):
    folder = tmp_path_factory.mktemp("cuts")
    rng = np.random.default_rng(seed)
    table = pa.table(
        {
            "id": [f"r{row}" for row in range(30)],
            "v": pa.array(list(rng.normal(size=(30, 3)).astype(np.float16))),
            "loss": rng.random(30),
            "label": rng.integers(0, 3, 30),
        }
    )
    pq.write_table(table, folder / "one.parquet")
    ends = [0, *sorted(cuts), 30]
    (folder / "d").mkdir()
    for at, (start, stop) in enumerate(itertools.pairwise(ends)):
        pq.write_table(table.slice(start, stop - start), folder / f"d/{at}.parquet")

    def digests(name):
        source = Sources().open(str(folder / name))
        refs = {column: ColumnRef(source, source.columns[column]) for column in table.schema.names}
        return (
            digest_array(read_vectors(refs["v"])),
            digest_array(read_numbers(refs["loss"])),
            digest_labels(read_labels(refs["id"])),
            digest_labels(read_labels(refs["label"])),
        )

    assert digests("d") == digests("one.parquet")


def sharded(vectors, more, n_shards):
    """Write rows as one file and as shards, each as Parquet and NPY."""
    table = pa.table({"v": pa.array(list(vectors)), **more})
    pq.write_table(table, "one.parquet")
    np.save("one.npy", vectors)
    Path("shards").mkdir()
    Path("arrays").mkdir()
    for at, rows in enumerate(np.array_split(np.arange(len(vectors)), n_shards)):
        pq.write_table(table.slice(rows[0], len(rows)), f"shards/{at}.parquet")
        np.save(f"arrays/{at}.npy", vectors[rows])


def test_one_file_and_three_shards_make_the_same_graph(d2, here, cloud):
    sharded(cloud, {"id": [f"r{row}" for row in range(200)]}, 3)

    def graph(source, output, *options):
        code, _, err = d2("graph", source, "-k", "5", "-o", output, *options)
        assert code == 0, err
        # The record of the files that it was made from is all that may differ.
        write_artifact(
            Path("bare"), replace(read_artifact(output, "graph"), row_order=None, sources=None)
        )
        return Path("bare").read_bytes()

    one = graph("one.parquet", "a.parquet")

    assert graph("shards", "b.parquet") == one
    assert graph("shards/*.parquet", "c.parquet", "--max-memory", "9G") == one
    assert read_artifact("b.parquet", "graph").meta["key"]
    assert graph("arrays", "d.parquet", "--id", "none") == graph("one.npy", "e.parquet")
    orders = [read_artifact(name, "graph").row_order for name in ("b.parquet", "c.parquet")]
    assert orders[0] == orders[1]
    code, _, err = d2("graph", "shards", "-k", "5", "-o", "a.parquet")
    assert (code, "up to date" in err) == (0, True)


def test_a_run_on_folders_keeps_what_a_run_on_files_keeps(d2, here, two_clusters):
    vectors, loss = two_clusters
    ids = [f"r{row}" for row in range(60)]
    sharded(vectors, {"id": ids}, 4)
    pq.write_table(pa.table({"id": ids[::-1], "loss": loss[::-1]}), "loss.parquet")
    Path("scores").mkdir()
    for at in range(3):
        part = pa.table({"id": ids[::-1], "loss": loss[::-1]}).slice(20 * at, 20)
        pq.write_table(part, f"scores/{at}.parquet")

    def kept(source, difficulty, *options):
        code, out, err = d2(
            "prune", source, "--difficulty", difficulty, "--rate", "0.7", "-o", "-", *options
        )
        assert code == 0, err
        return out

    whole = kept("one.parquet", "loss.parquet::loss", "--force")

    assert len(whole.split()) == 18
    assert kept("shards", "scores::loss", "--force") == whole
    assert kept("shards/?.parquet", "scores/*.parquet::loss") == whole
    assert kept("shards", "scores") == whole


def test_the_plan_and_the_memory_limit_know_shards(d2, here):
    rng = np.random.default_rng(0)
    sharded(rng.normal(size=(4000, 16)).astype(np.float32), {}, 5)

    code, _, err = d2("graph", "shards", "-o", "g.parquet", "--dry-run", "--max-memory", "9G")
    assert code == 0, err
    assert not Path("g.parquet").exists()
    code, _, err = d2("graph", "arrays", "-o", "g.parquet", "--dry-run")
    assert code == 0, err


def test_vectors_of_shards_stay_on_disk_where_memory_is_short(here, tmp_path):
    from d2cli.files.scratch import DiskRoom

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 4)).astype(np.float32)
    sharded(vectors, {}, 3)
    for name, column in (("shards", "v"), ("arrays", "")):
        source = Sources().open(name)
        room = DiskRoom(1000, lambda: tmp_path)

        read = read_vectors(ColumnRef(source, source.columns[column]), room)

        np.testing.assert_array_equal(read, vectors)
        assert not read.flags.owndata


def test_few_files_are_open_at_once(here):
    Path("p").mkdir()
    Path("a").mkdir()
    Path("n").mkdir()
    for at in range(80):
        write(f"p/{at:03}.parquet", at, at + 1)
        np.save(f"n/{at:03}.npy", np.array([float(at)]))
        table = pa.table({"id": [f"r{at}"], "loss": [float(at)]})
        with pa.ipc.new_stream(f"a/{at:03}.arrow", table.schema) as sink:
            sink.write_table(table)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
    try:
        for folder in ("p", "a"):
            source = Sources().open(folder)
            assert len(read_labels(ColumnRef(source, source.columns["id"]))) == 80
            held = list(source.batches("loss"))
            assert pa.chunked_array(held).to_pylist() == list(map(float, range(80)))
        source = Sources().open("n")
        held = list(source.batches(""))
        assert pa.chunked_array(held).to_pylist() == list(map(float, range(80)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_large_shards_come_in_batches(here):
    Path("d").mkdir()
    rows = 3 * BATCH_BYTES // 4000
    np.save("d/a.npy", np.zeros((rows, 1000), np.float32))

    batches = list(Sources().open("d").batches(""))

    assert len(batches) > 2
    assert max(len(batch) for batch in batches) * 4000 <= BATCH_BYTES
    assert sum(map(len, batches)) == rows


def test_an_output_that_would_become_a_shard_is_refused(d2, here, cloud):
    sharded(cloud, {"loss": np.arange(200.0)}, 3)
    start = ("prune", "--difficulty", "loss", "--rate", "0.5", "-q")
    for source in ("shards", "shards/*.parquet"):
        code, _, err = d2(*start, source, "-o", "shards/keep.parquet")
        assert code == 2
        assert "shards/keep.parquet: would be a part of the source shards" in err
        assert not Path("shards/keep.parquet").exists()
        assert d2(*start, source, "-o", "shards/keep.txt")[0] == 0


def test_text_whose_offsets_leave_the_shard_is_refused(tmp_path):
    """Where a shard is copied out of its map, before anything has looked at its offsets."""
    (tmp_path / "d").mkdir()
    table = pa.table({"label": ["a", "bc"]})
    for number in range(2):
        with pa.ipc.new_stream(tmp_path / f"d/{number}.arrow", table.schema) as sink:
            sink.write_table(table)
    data = (tmp_path / "d/1.arrow").read_bytes()
    sound, damaged = (np.array([0, 1, end], dtype=np.int32).tobytes() for end in (3, 1000))
    assert data.count(sound) == 1
    (tmp_path / "d/1.arrow").write_bytes(data.replace(sound, damaged))
    source = Sources().open(str(tmp_path / "d"))

    with pytest.raises(InputError, match=r"1\.arrow: cannot be read"):
        read_labels(ColumnRef(source, source.columns["label"]))
