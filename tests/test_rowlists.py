"""Lists of rows that the user names."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import InputError
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import seal, write_artifact
from d2cli.files.outputs import to_bytes
from d2cli.files.rowlists import read_rows
from d2cli.files.sources import Sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def numbered():
    """Five rows without ids."""
    return Rows("data", 5, None, None)


@pytest.fixture
def named():
    """Five rows with the ids a ... e."""
    return Rows("data", 5, pa.array(list("abcde"), pa.large_string()), None)


def refusal(text, rows):
    with pytest.raises(InputError) as caught:
        read_rows(text, rows, Sources())
    return caught.value.message


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["l.txt", "l.TXT", "l.csv", "l"])
def test_text_lines_are_ids_in_file_order(folder, named, name):
    (folder / name).write_text("d\na\nc\n")

    assert read_rows(name, named, Sources()).tolist() == [3, 0, 2]


@pytest.mark.parametrize("text", ["3\n0\n2\n", "3\n0\n2", "3\r\n0\r\n2\r\n", "\n3\n\n0\n2\n\n"])
def test_text_lines_are_row_numbers_where_there_are_no_ids(folder, numbered, text):
    (folder / "l.txt").write_bytes(text.encode())

    assert read_rows("l.txt", numbered, Sources()).tolist() == [3, 0, 2]


def test_text_lines_are_integer_ids_where_the_ids_are_integers(folder):
    rows = Rows("data", 3, pa.array([30, 10, 20]), None)
    (folder / "l.txt").write_text("20\n30\n")

    assert read_rows("l.txt", rows, Sources()).tolist() == [2, 0]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_npy_holds_row_numbers_even_where_there_are_ids(folder, named, numbered, dtype):
    np.save("l.npy", np.array([3, 0, 2], dtype))

    for rows in (named, numbered):
        found = read_rows("l.npy", rows, Sources())
        assert found.dtype == np.int64
        assert found.tolist() == [3, 0, 2]


@pytest.mark.parametrize("name", ["id", "uid"])
def test_tables_are_read_by_their_id_column(folder, named, name):
    pq.write_table(pa.table({"row": [1, 1], name: ["d", "a"]}), "l.parquet")

    assert read_rows("l.parquet", named, Sources()).tolist() == [3, 0]


def test_tables_are_read_by_their_row_column_where_there_are_no_ids(folder, numbered):
    pq.write_table(pa.table({"row": [3, 0], "id": ["d", "a"]}), "l.parquet")

    assert read_rows("l.parquet", numbered, Sources()).tolist() == [3, 0]


def test_a_column_of_a_table_is_named_by_file_and_column(folder, named, numbered):
    pq.write_table(pa.table({"x.y": ["d", "a"], "n": [2, 1], "id": ["b", "c"]}), "l.parquet")

    assert read_rows("l.parquet::x.y", named, Sources()).tolist() == [3, 0]
    assert read_rows("l.parquet::n", numbered, Sources()).tolist() == [2, 1]


def test_an_npz_member_is_named_by_file_and_member(folder, numbered):
    np.savez("l.npz", keep=np.array([3, 0]))

    assert read_rows("l.npz::keep", numbered, Sources()).tolist() == [3, 0]


def test_an_empty_list_names_no_rows(folder, numbered, named):
    (folder / "l.txt").touch()
    np.save("l.npy", np.array([], np.int64))

    for rows in (numbered, named):
        for name in ("l.txt", "l.npy"):
            assert read_rows(name, rows, Sources()).tolist() == []


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".parquet"])
def test_a_selection_is_a_list_of_its_rows(folder, named, suffix):
    table = pa.table({"row": [0, 3], "id": pa.array(["a", "d"], pa.large_string()), "rank": [1, 0]})
    selection = seal("selection", table, key="k", parameters={}, inputs={}, results={})
    path = folder / f"keep{suffix}"
    if suffix == ".parquet":
        write_artifact(path, selection)
    else:
        path.write_bytes(to_bytes(selection, suffix, "row"))

    assert read_rows(path.name, named, Sources()).tolist() == [0, 3]


def test_the_file_counts_as_read(folder, numbered):
    (folder / "l.txt").write_text("1\n")
    np.save("l.npy", np.array([1]))
    sources = Sources()

    read_rows("l.txt", numbered, sources)
    read_rows("l.npy", numbered, sources)

    assert [path.name for path in sources.paths] == ["l.txt", "l.npy"]


# --- refusals -------------------------------------------------------------------------------------


def test_unknown_ids_are_refused_with_the_first_and_the_count(folder, named):
    (folder / "l.txt").write_text("a\nx\nb\ny\n")

    assert refusal("l.txt", named) == (
        "l.txt: entry 1 is 'x', which is no id of data (2 such in all)"
    )


@pytest.mark.parametrize("row", [-1, 5, 2**40])
def test_rows_out_of_range_are_refused(folder, numbered, row):
    np.save("l.npy", np.array([1, row]))
    (folder / "l.txt").write_text(f"1\n{row}\n")

    for name in ("l.npy", "l.txt"):
        assert refusal(name, numbered) == (
            f"{name}: entry 1 is row {row}, expected 0 to 4 (1 such in all)"
        )


def test_a_row_named_twice_is_refused(folder, numbered, named):
    np.save("l.npy", np.array([1, 2, 1, 2, 1]))
    (folder / "l.txt").write_text("a\nb\nb\n")

    assert refusal("l.npy", numbered) == (
        "l.npy: entry 2 names a row for the second time (3 such in all)"
    )
    assert refusal("l.txt", named) == (
        "l.txt: entry 2 names a row for the second time (1 such in all)"
    )


@pytest.mark.parametrize("line", ["a", "1.5", "1,2", "0x1", "99999999999999999999"])
def test_text_that_is_no_row_number_is_refused(folder, numbered, line):
    (folder / "l.txt").write_text(f"1\n{line}\n")

    assert refusal("l.txt", numbered) == (
        f"l.txt: entry 1 is {line!r}, expected a row number, because the data have no ids"
    )


@pytest.mark.parametrize(
    "array", [np.array([0.5]), np.array([np.nan]), np.zeros((2, 2)), np.array(["a"])], ids=str
)
def test_arrays_that_hold_no_row_numbers_are_refused(folder, numbered, array):
    np.save("l.npy", array)

    assert refusal("l.npy", numbered).startswith("l.npy: ")


def test_null_ids_are_refused(folder, named):
    pq.write_table(pa.table({"id": ["a", None]}), "l.parquet")

    assert refusal("l.parquet", named) == "l.parquet::id: row 1 is null (1 row in all)"


def test_a_table_without_the_column_lists_what_it_has(folder, named, numbered):
    pq.write_table(pa.table({"x": [1], "y": [2]}), "l.parquet")

    assert refusal("l.parquet", named) == "l.parquet: no column 'id' or 'uid'; it has x, y"
    assert refusal("l.parquet", numbered) == "l.parquet: no column 'row'; it has x, y"
    assert refusal("l.parquet::z", named) == "l.parquet::z: no column 'z'; it has x, y"


@pytest.mark.parametrize("text", ["none.txt", "none.npy", "none", "none.parquet::id"])
def test_a_missing_file_is_told(folder, numbered, text):
    assert refusal(text, numbered) == f"{text.partition('::')[0]}: no such file"


def test_text_that_is_not_utf8_is_refused(folder, named):
    (folder / "l.txt").write_bytes(b"a\n\xff\xfe\n")

    assert refusal("l.txt", named).startswith("l.txt: cannot be read: ")


def test_a_folder_is_refused(folder, numbered):
    (folder / "d").mkdir()

    assert refusal("d", numbered) == ("d: no shards there, expected .parquet, .npy or .arrow files")


@pytest.mark.parametrize("option", ["--include", "--exclude"])
def test_a_list_without_a_name_is_refused(d2, tmp_path, cloud, option):
    np.save(tmp_path / "v.npy", cloud)
    line = ("prune", tmp_path / "v.npy", "--difficulty", "uniform", "--rate", "0.5")
    code, _, err = d2(*line, "-o", tmp_path / "keep.npy", option, "")
    assert (code, err.splitlines()[0]) == (3, "error: a file's name is empty")
    assert not (tmp_path / "keep.npy").exists()
