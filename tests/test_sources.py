"""Files as sources: opened by their first bytes, columns listed without reading them."""

import os
import threading
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import InputError
from d2cli.files.column import Column, list_columns
from d2cli.files.columns import ColumnRef, read_labels
from d2cli.files.sources import Sources


def write_ipc(path, table, make):
    with make(path, table.schema) as sink:
        sink.write_table(table)
    return path


@pytest.fixture
def table():
    return pa.table({"id": ["a", "b"], "v": [[1.0, 2.0], [3.0, 4.0]], "loss": [0.5, 0.25]})


@pytest.fixture
def parquet(tmp_path, table):
    pq.write_table(table, tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def write_as(kind, path, table):
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "file":
        write_ipc(path, table, pa.ipc.new_file)
    else:
        write_ipc(path, table, pa.ipc.new_stream)
    return path


# --- what is listed -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_a_table_lists_its_columns_and_rows(tmp_path, table, kind):
    source = Sources().open(str(write_as(kind, tmp_path / "t", table)))

    assert source.n_rows == 2
    kinds = {name: column.kind for name, column in source.columns.items()}
    assert kinds == {"id": "labels", "v": "vectors", "loss": "numbers"}


@pytest.mark.parametrize("name", ["t.csv", "t.npy", "t", "t.parquet.bak"])
def test_the_first_bytes_decide_not_the_name(tmp_path, table, name):
    path = write_as("parquet", tmp_path / name, table)

    assert Sources().open(str(path)).columns["loss"] == Column("loss", "numbers", "double")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([[1.0]], pa.list_(pa.float16())), "vectors"),
        (pa.array([[1.0]], pa.large_list(pa.float32())), "vectors"),
        (pa.array([[1.0]], pa.list_(pa.float64(), 1)), "vectors"),
        (pa.array([[1]], pa.list_(pa.int8())), "vectors"),
        (pa.array([["a"]], pa.list_(pa.string())), "other"),
        (pa.array([[[1.0]]], pa.list_(pa.list_(pa.float32()))), "other"),
        (pa.array([1], pa.uint8()), "numbers"),
        (pa.array([1.0], pa.float16()), "numbers"),
        (pa.array(["a"], pa.large_string()), "labels"),
        (pa.array([True]), "labels"),
        (pa.array(["a"]).dictionary_encode(), "labels"),
        (pa.array([b"a"]), "other"),
        (pa.array([{"a": 1}]), "other"),
    ],
    ids=str,
)
def test_a_columns_type_decides_what_it_can_be(tmp_path, values, kind):
    path = write_as("file", tmp_path / "t", pa.table({"c": values}))

    column = Sources().open(str(path)).columns["c"]

    assert column == Column("c", kind, str(values.type))


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_columns_of_one_name_cannot_be_anything(tmp_path, kind):
    twice = pa.table([pa.array([1.0]), pa.array([2.0]), pa.array([3.0])], names=["a", "a", "b"])

    source = Sources().open(str(write_as(kind, tmp_path / "t", twice)))

    assert source.columns["a"] == Column("a", "other", "several columns of this name")
    assert source.columns["b"].kind == "numbers"


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((2, 3), np.float16), "vectors"),
        (np.zeros((2, 3), np.uint8), "vectors"),
        (np.zeros(2), "numbers"),
        (np.array([True, False]), "labels"),
        (np.array(["a", "bc"]), "labels"),
        (np.zeros((2, 2, 2)), "other"),
        (np.array(1.0), "other"),
        (np.zeros((2, 2), np.complex64), "other"),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else value,
)
def test_an_arrays_type_and_shape_decide_what_it_can_be(tmp_path, array, kind):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", member=array)

    alone = Sources().open(str(tmp_path / "a.npy")).columns
    member = Sources().open(str(tmp_path / "a.npz")).columns

    text = f"{array.dtype} {array.shape}"
    assert alone == {"": Column("", kind, text)}
    assert member == {"member": Column("member", kind, text)}


def test_list_columns_names_every_column_with_its_type(parquet):
    listed = list_columns(Sources().open(str(parquet)))

    assert listed == "id (string), v (list<element: double>), loss (double)"


def test_a_lone_array_is_listed_by_its_type(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))

    assert list_columns(Sources().open(str(tmp_path / "a.npy"))) == "float32 (2, 3)"


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_batches_hold_the_column_in_row_order(tmp_path, kind):
    values = pa.chunked_array([[3, 1], [], [2], [5, 4]], pa.int64())
    path = write_as(kind, tmp_path / "t", pa.table({"x": values, "y": values}))

    batches = Sources().open(str(path)).batches("x")

    assert pa.chunked_array(list(batches)).to_pylist() == [3, 1, 2, 5, 4]


def test_tables_are_not_arrays(parquet):
    assert Sources().open(str(parquet)).array("loss") is None


def test_npy_stays_on_disk_until_it_is_used(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(3, 2))

    array = Sources().open(str(tmp_path / "a.npy")).array("")

    assert isinstance(array, np.memmap)


def test_a_file_is_opened_once(parquet):
    sources = Sources()

    assert sources.open(str(parquet)) is sources.open(str(parquet))
    assert sources.paths == [parquet]


def test_a_named_pipe_is_read_to_its_end(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4.0))
    data, pipe = (tmp_path / "a.npy").read_bytes(), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()

    source = Sources().open(str(pipe))

    writer.join()
    np.testing.assert_array_equal(source.array(""), np.arange(4.0))


def test_a_path_with_spaces_and_other_alphabets_is_opened(tmp_path, table):
    path = write_as("parquet", tmp_path / "häärd ☃ 文.parquet", table)

    assert Sources().open(str(path)).n_rows == 2


def test_a_path_that_is_no_unicode_is_opened(tmp_path):
    path = tmp_path / os.fsdecode(b"odd\xff.npy")
    np.save(path, np.arange(4.0))

    np.testing.assert_array_equal(Sources().open(str(path)).array(""), np.arange(4.0))


# --- what is refused ------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        Sources().open(str(tmp_path / "none.parquet"))

    assert caught.value.message == f"{tmp_path / 'none.parquet'}: no such file"


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no shards there, expected \.parquet, \.npy or \.arrow"):
        Sources().open(str(tmp_path))


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "e.parquet").touch()

    with pytest.raises(InputError, match=r"e\.parquet: is empty, expected Parquet, Arrow"):
        Sources().open(str(tmp_path / "e.parquet"))


@pytest.mark.parametrize("text", ["id,loss\na,1\n", '{"id": "a"}\n', "x", "\n"])
def test_text_without_a_known_ending_is_refused_with_what_to_do(tmp_path, text):
    (tmp_path / "t.dat").write_text(text)

    with pytest.raises(InputError) as caught:
        Sources().open(str(tmp_path / "t.dat"))

    assert caught.value.message == (
        f"{tmp_path / 't.dat'}: is none of Parquet, Arrow, NPY, NPZ, safetensors, CSV or JSON lines"
    )
    assert caught.value.hint.startswith("text is read by its ending: .csv")


@pytest.mark.parametrize("start", [b"PAR1", b"ARROW1", b"\x93NUMPY", b"PK", b"\xff\xff\xff\xff"])
def test_a_file_that_only_starts_well_is_refused(tmp_path, start):
    (tmp_path / "t").write_bytes(start + b"and then something else")

    with pytest.raises(InputError, match=r"t: cannot be read: "):
        Sources().open(str(tmp_path / "t"))


@pytest.mark.parametrize("kind", ["parquet", "file"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_table_is_refused(tmp_path, table, kind, share):
    path = write_as(kind, tmp_path / "t", table)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(InputError, match=r"t: (cannot be read|is none of)"):
        Sources().open(str(path))


def test_a_stream_cut_inside_a_batch_is_refused(tmp_path, table):
    path = write_as("stream", tmp_path / "t", table)
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(InputError, match="t: cannot be read: "):
        Sources().open(str(path))


@pytest.mark.parametrize("kept", [7, 40, 127, 130, 150, 175])
def test_a_truncated_npy_is_refused(tmp_path, kept):
    np.save(tmp_path / "a.npy", np.arange(6.0))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:kept])

    with pytest.raises(InputError, match=r"a\.npy: (cannot be read|is cut short): "):
        Sources().open(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_npz_is_refused(tmp_path, share):
    np.savez(tmp_path / "a.npz", a=np.arange(6.0), b=np.arange(3))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: int(len(data) * share)])

    with pytest.raises(InputError, match=r"a\.npz: cannot be read: "):
        Sources().open(str(tmp_path / "a.npz"))


class Trap:
    """Makes a folder when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_pickled_npy_is_refused_and_runs_no_code(tmp_path):
    sprung = tmp_path / "sprung"
    np.save(tmp_path / "a.npy", np.array([Trap(str(sprung))], object), allow_pickle=True)

    with pytest.raises(InputError, match=r"a\.npy: (cannot be read|is cut short): "):
        Sources().open(str(tmp_path / "a.npy"))
    assert not sprung.exists()


def test_a_pickled_npz_member_runs_no_code(tmp_path):
    sprung = tmp_path / "sprung"
    np.savez(tmp_path / "a.npz", bad=np.array([Trap(str(sprung))], object), good=np.arange(3))
    source = Sources().open(str(tmp_path / "a.npz"))

    assert source.columns["bad"].kind == "other"
    np.testing.assert_array_equal(source.array("good"), np.arange(3))
    with pytest.raises(InputError, match=r"a\.npz: cannot be read: "):
        source.array("bad")
    assert not sprung.exists()


def test_a_page_changed_on_disk_is_noticed_where_the_writer_left_checksums(tmp_path):
    loss = np.arange(100.0)
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"loss": loss}),
        path,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    data = path.read_bytes()
    at = data.index(loss[10:20].tobytes())
    path.write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    source = Sources().open(str(path))

    with pytest.raises(InputError, match=r"t\.parquet: cannot be read: "):
        list(source.batches("loss"))


def test_a_slash_after_the_name_of_a_file_is_no_way_to_it(tmp_path, monkeypatch, d2, cloud):
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", cloud)
    np.save("s.npy", cloud[:, 0])
    np.save("y.npy", np.arange(20) % 3)
    np.save("log.npy", np.zeros((2, 20, 3)))
    (tmp_path / "ids.txt").write_text("3\n")
    score = ("--difficulty", "s.npy", "--harder", "high")
    assert d2("graph", "v.npy", "-o", "g.parquet")[0] == 0
    assert d2("score", "g.parquet", *score, "-o", "x.parquet")[0] == 0
    assert d2("select", "x.parquet", "--rate", 0.5, "-o", "k.parquet")[0] == 0
    missing = d2("graph", "none/", "-o", "n.parquet")
    assert missing[0] == 3
    for line in (
        ("graph", "v.npy/", "-o", "n.parquet"),
        ("graph", "v.npy/.", "-o", "n.parquet"),
        ("score", "g.parquet/", *score, "-o", "n.parquet"),
        ("score", "g.parquet", "--difficulty", "s.npy/", "--harder", "high", "-o", "n.parquet"),
        ("select", "x.parquet/", "--rate", 0.5),
        ("select", "x.parquet", "--rate", 0.5, "--graph", "g.parquet/"),
        ("select", "x.parquet", "--rate", 0.5, "--exclude", "ids.txt/"),
        ("difficulty", "log.npy/", "--labels", "y.npy"),
        ("export", "k.parquet/", "--source", "v.npy", "-o", "n.npy"),
        ("export", "k.parquet", "--source", "v.npy/", "-o", "n.npy"),
        ("diff", "k.parquet/", "k.parquet"),
        ("report", "k.parquet/"),
        ("check", "v.npy/"),
    ):
        code, out, err = d2(*line)
        assert (code, out) == (3, ""), (line, err)
        assert err.startswith("error: ")
        assert "/: " in err or "/.: " in err, err
        assert not (tmp_path / "n.parquet").exists()
    for name in ("n.parquet/", "g.parquet/"):
        code, _, err = d2("graph", "v.npy", "-o", name)
        assert (code, err.splitlines()[0]) == (2, f"error: {name}: is a folder")


def test_arrays_of_python_2_are_read_without_a_warning(d2, tmp_path):
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "new.npy", vectors)
    old = (tmp_path / "new.npy").read_bytes().replace(b"(3, 2), }  ", b"(3L, 2L), }")
    (tmp_path / "old.npy").write_bytes(old)
    with zipfile.ZipFile(tmp_path / "old.npz", "w") as archive:
        archive.writestr("v.npy", old)

    for name in ("old.npy", "old.npz"):
        code, _, err = d2("graph", tmp_path / name, "-k", "1", "-o", tmp_path / "graph.parquet")
        assert (code, "arning" in err) == (0, False), err


def test_text_whose_offsets_are_damaged_is_refused(tmp_path):
    """Offsets that go backwards: bytes of a negative length were asked for."""
    offsets = pa.py_buffer(np.array([0, 3, 1, 3], dtype=np.int32))
    text = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abc")])
    table = pa.table({"label": text})
    with pa.ipc.new_stream(tmp_path / "t.arrow", table.schema) as sink:
        sink.write_table(table)
    source = Sources().open(str(tmp_path / "t.arrow"))

    with pytest.raises(InputError, match="cannot be read"):
        read_labels(ColumnRef(source, source.columns["label"]))


def test_lists_whose_offsets_are_damaged_have_no_width(tmp_path):
    offsets = pa.py_buffer(np.array([5, 3, 4, 6], dtype=np.int32))
    lists = pa.Array.from_buffers(
        pa.list_(pa.float32()), 3, [None, offsets], children=[pa.array(np.zeros(6, np.float32))]
    )
    table = pa.table({"emb": lists})
    with pa.ipc.new_stream(tmp_path / "t.arrow", table.schema) as sink:
        sink.write_table(table)
    source = Sources().open(str(tmp_path / "t.arrow"))

    with pytest.raises(InputError, match="cannot be read"):
        source.width("emb")
