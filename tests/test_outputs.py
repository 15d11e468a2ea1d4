"""Selections as files for other tools."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pytest

from d2cli.errors import InputError, ParameterError
from d2cli.files.artifacts import seal
from d2cli.files.outputs import REPORT_SUFFIXES, SELECTION_SUFFIXES, check_suffix, to_bytes

ROWS, RANKS = [1, 4, 7, 9], [2, 0, 3, 1]
BY_RANK = [4, 9, 1, 7]


def select(**columns):
    """Return rows 1, 4, 7, 9, picked in the order 4, 9, 1, 7."""
    table = {
        "row": pa.array(ROWS),
        **columns,
        "rank": pa.array(RANKS),
        "difficulty": [0.1, 2.0, 1 / 3, 1e-300],
    }
    return seal("selection", pa.table(table), key="k", parameters={}, inputs={}, results={})


def strings(*values):
    return pa.array(values, pa.large_string())


def lines(data):
    return data.decode().splitlines()


@pytest.fixture
def named():
    return select(id=strings("a", 'b"', "c,c", "ä→"))


@pytest.mark.parametrize(("order", "expected"), [("row", ROWS), ("rank", BY_RANK)])
def test_npy_holds_int64_rows_in_the_order_asked_for(named, order, expected):
    rows = np.load(io.BytesIO(to_bytes(named, ".npy", order)))

    assert rows.dtype == np.int64
    assert rows.tolist() == expected


@pytest.mark.parametrize(
    ("order", "expected"), [("row", 'a\nb"\nc,c\nä→\n'), ("rank", 'b"\nä→\na\nc,c\n')]
)
def test_txt_holds_one_id_a_line(named, order, expected):
    assert to_bytes(named, ".txt", order).decode() == expected


@pytest.mark.parametrize(("order", "expected"), [("row", ROWS), ("rank", BY_RANK)])
def test_txt_holds_row_numbers_where_there_are_no_ids(order, expected):
    assert lines(to_bytes(select(), ".txt", order)) == [str(row) for row in expected]


def test_txt_holds_integer_ids():
    selection = select(id=pa.array([10, -2, 30, 4]))

    assert lines(to_bytes(selection, ".txt", "row")) == ["10", "-2", "30", "4"]


@pytest.mark.parametrize("bad", ["b\nb", "b\rb", "\n", "b\r\n"])
def test_txt_refuses_ids_with_line_breaks(bad):
    with pytest.raises(InputError, match="holds a line break") as caught:
        to_bytes(select(id=strings("a", bad, "c", "d")), ".txt", "row")

    assert repr(bad) in caught.value.message
    assert caught.value.hint == "write .parquet, .csv or .jsonl instead"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_ids_with_line_breaks_stay_whole_in_csv_and_jsonl(suffix):
    ids = ["a", "b\nb", 'c"\r\n,', ""]
    text = to_bytes(select(id=strings(*ids)), suffix, "row").decode()

    if suffix == ".csv":
        read = list(csv.DictReader(io.StringIO(text, newline="")))
    else:
        read = [json.loads(line) for line in text.split("\n")[:-1]]

    assert [row["id"] for row in read] == ids


@pytest.mark.parametrize(("order", "expected"), [("row", ROWS), ("rank", BY_RANK)])
def test_csv_holds_all_columns_under_a_header(named, order, expected):
    text = to_bytes(named, ".csv", order).decode()

    read = list(csv.DictReader(io.StringIO(text, newline="")))

    assert list(read[0]) == ["row", "id", "rank", "difficulty"]
    assert [int(row["row"]) for row in read] == expected
    difficulty = dict(zip(ROWS, [0.1, 2.0, 1 / 3, 1e-300], strict=True))
    assert [float(row["difficulty"]) for row in read] == [difficulty[row] for row in expected]


@pytest.mark.parametrize("order", ["row", "rank"])
def test_jsonl_holds_one_object_a_row(named, order):
    read = [json.loads(line) for line in to_bytes(named, ".jsonl", order).decode().splitlines()]

    expected = named.table.to_pylist()
    assert read == (expected if order == "row" else sorted(expected, key=lambda row: row["rank"]))


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".csv", ".jsonl"])
def test_the_same_selection_gives_the_same_bytes(named, suffix):
    again = select(id=strings("a", 'b"', "c,c", "ä→"))

    assert to_bytes(named, suffix, "rank") == to_bytes(again, suffix, "rank")


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_an_empty_selection_is_an_empty_text(suffix):
    table = pa.table({"row": pa.array([], pa.int64()), "rank": pa.array([], pa.int64())})
    empty = seal("selection", table, key="k", parameters={}, inputs={}, results={})

    assert to_bytes(empty, suffix, "row") == b""
    assert np.load(io.BytesIO(to_bytes(empty, ".npy", "rank"))).shape == (0,)


# --- endings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.npy", "a.txt", "a.csv", "a.jsonl", "a.b.NPY", "a b.Txt"]
)
def test_known_endings_are_accepted(tmp_path, name):
    check_suffix(tmp_path / name, SELECTION_SUFFIXES, "a selection")


@pytest.mark.parametrize(
    ("name", "told"), [("a.xlsx", ".xlsx"), ("a", "a"), (".npy", ".npy"), ("a.npy.gz", ".gz")]
)
@pytest.mark.parametrize("exists", [False, True])
def test_other_endings_are_refused_with_those_that_can_be_written(tmp_path, name, told, exists):
    if exists:
        (tmp_path / name).touch()

    with pytest.raises(ParameterError) as caught:
        check_suffix(tmp_path / name, SELECTION_SUFFIXES, "a selection")

    path = tmp_path / name
    assert caught.value.message == f"{path}: a selection cannot be written as '{told}'"
    assert caught.value.hint == "end the name in .parquet, .npy, .txt, .csv, .jsonl"


def test_a_report_is_not_written_as_a_table(tmp_path):
    check_suffix(tmp_path / "r.md", REPORT_SUFFIXES, "a report")

    with pytest.raises(ParameterError, match=r"a report cannot be written as '\.csv'"):
        check_suffix(tmp_path / "r.csv", REPORT_SUFFIXES, "a report")
