"""CSV, TSV and JSON lines as sources of scores, labels and ids."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.errors import InputError
from d2cli.files import text
from d2cli.files.columns import ColumnRef, read_labels, read_numbers, read_vectors
from d2cli.files.sources import Sources


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def open_text(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Sources().open(name)


def values(source, column):
    return pa.chunked_array(list(source.batches(column))).to_pylist()


def refusal(name, content, column=None):
    def read():
        source = open_text(name, content)
        return column and read_labels(ColumnRef(source, source.columns[column]))

    with pytest.raises(InputError) as caught:
        read()
    return caught.value.message


# --- CSV ------------------------------------------------------------------------------------------


def test_a_column_has_the_type_that_fits_all_its_values(here):
    source = open_text(
        "t.csv",
        "id,label,loss,flag,name,when,none\n"
        "7,1,0.5,true,x,2020-01-01,\n"
        '08,2,1,False,"y, z",2020-01-02,\n'
        "9, 3,1e-3,TRUE,3,x,NA\n",
    )

    assert {name: column.type for name, column in source.columns.items()} == {
        "id": "large_string",
        "label": "int64",
        "loss": "double",
        "flag": "bool",
        "name": "large_string",
        "when": "large_string",
        "none": "null",
    }
    assert source.n_rows == 3
    assert values(source, "id") == ["7", "08", "9"]
    assert values(source, "label") == [1, 2, 3]
    assert values(source, "loss") == [0.5, 1.0, 0.001]
    assert values(source, "flag") == [True, False, True]
    assert values(source, "name") == ["x", "y, z", "3"]


def test_the_last_row_can_decide_the_type(here, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    lines = "".join(f"{row}\n" for row in range(500))

    assert open_text("a.csv", "n\n" + lines).columns["n"].type == "int64"
    assert open_text("b.csv", "n\n" + lines + "0.5\n").columns["n"].type == "double"
    late = open_text("c.csv", "n\n" + lines + "x\n")
    assert late.columns["n"].type == "large_string"
    assert values(late, "n") == [*map(str, range(500)), "x"]


def test_tabs_separate_where_the_ending_says_so(here):
    source = open_text("t.tsv", "uid\ttext, and more\na\tb, c\n")

    assert values(source, "text, and more") == ["b, c"]


def test_windows_lines_byte_order_marks_and_cells_of_several_lines_are_read(here):
    source = open_text("t.csv", '\ufeffid,text\r\na,"one\r\ntwo"\r\nb,x\r\n')

    assert values(source, "id") == ["a", "b"]
    assert values(source, "text") == ["one\r\ntwo", "x"]


def test_missing_values_are_named_by_row(here):
    assert refusal("a.csv", "id,loss\na,1\nb,\nc,NA\n", "loss") == (
        "a.csv::loss: row 1 is null (2 rows in all)"
    )
    assert refusal("b.csv", "id,label\na,x\nb,\n", "label").startswith(
        "b.csv::label: row 1 is null"
    )
    assert values(open_text("c.csv", "id,label\na,NA\nb,x\n"), "label") == ["NA", "x"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_an_empty_line_of_a_lone_column_is_a_row_without_a_value(here, end, ending):
    lines = ["", "loss", "0.5", "", "2", ""]
    source = open_text(f"a{ending}", end.join(lines) + end)
    assert source.n_rows == 4
    assert values(source, "loss") == [0.5, None, 2.0, None]
    assert refusal(f"b{ending}", end.join(lines), "loss") == (
        f"b{ending}::loss: row 1 is null (1 row in all)"  # the last line has no end, so it is none
    )
    assert refusal(f"c{ending}", end.join(["label", "x", "", "y"]), "label").startswith(
        f"c{ending}::label: row 1 is null"
    )
    assert open_text(f"d{ending}", f"id{end}{end}").n_rows == 1
    assert open_text(f"e{ending}", f"id{end}").n_rows == 0
    assert open_text(f"f{ending}", f"id{end}1{end}").n_rows == 1


def test_an_empty_line_beside_rows_of_several_columns_is_none(here):
    source = open_text("t.csv", "\nid,loss\na,1\n\nb,2\n\n")
    assert source.n_rows == 2
    assert values(source, "loss") == [1, 2]


def test_a_lone_column_with_empty_lines_reads_the_same_in_small_blocks(here, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    expected = [None if row % 7 == 3 or 200 < row < 300 else row for row in range(500)]
    lines = "".join(f"{'' if row is None else row}\n" for row in expected)
    source = open_text("t.csv", "n\n" + lines)
    assert source.n_rows == 500
    assert source.columns["n"].type == "int64"
    assert values(source, "n") == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.integers(-9, 9), min_size=1, max_size=30))
def test_a_lone_column_comes_back_as_pyarrow_writes_it(tmp_path_factory, column):
    path = tmp_path_factory.mktemp("lone") / "t.csv"
    pa_csv.write_csv(pa.table({"n": pa.array(column, pa.int64())}), path)
    source = Sources().open(str(path))
    assert source.n_rows == len(column)
    assert values(source, "n") == column


def test_a_row_too_wide_for_a_lone_column_is_named_by_its_line(here):
    content = '\n\nn\n1\n\n"2\n"\n\n3,4\n5\n'
    assert refusal("t.csv", content) == "t.csv: line 9: expected 1 columns, got 2: 3,4"


def test_a_row_of_another_length_is_named_by_its_line(here):
    content = 'id,text\n\na,"two\nlines"\nb,x\nc\n'

    assert refusal("t.csv", content) == "t.csv: line 6: expected 2 columns, got 1: c"


@pytest.mark.parametrize("content", ["0.5\n0.7\n", "1,2\n3,4\n", "-1e-3\n"])
def test_a_table_without_names_is_refused(here, content):
    assert "expected the names of the columns" in refusal("t.csv", content)


def test_names_that_stand_twice_or_are_missing(here):
    source = open_text("t.csv", ",a,a,b\n0,1,2,3\n")

    assert source.columns["a"].type == "several columns of this name"
    assert list(source.columns) == ["a", "b"]
    assert values(source, "b") == [3]


def test_text_that_is_not_utf8_is_refused(here):
    assert "t.csv" in refusal("t.csv", b"id,label\na,\xff\n", "label")


@pytest.mark.parametrize("content", ["id,loss\n", "id,loss"])
def test_a_header_alone_is_no_rows(here, content):
    source = open_text("t.csv", content)

    assert (source.n_rows, list(source.columns)) == (0, ["id", "loss"])


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(40, 200),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, rows, block):
    import csv

    folder = tmp_path_factory.mktemp("text")
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(
            file, quoting=csv.QUOTE_STRINGS if hasattr(csv, "QUOTE_STRINGS") else 1
        ).writerows([("id", "n", "x"), *rows])
    with (folder / "t.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"id": key, "n": n, "x": x}, ensure_ascii=n % 2 == 0) + "\n"
            for key, n, x in rows
        )
    before, text.BLOCK_BYTES = text.BLOCK_BYTES, block * 20
    try:
        for name in ("t.csv", "t.jsonl"):
            source = Sources().open(str(folder / name))
            assert source.n_rows == len(rows)
            assert values(source, "id") == [key for key, _, _ in rows]
            assert values(source, "n") == [n for _, n, _ in rows]
            assert values(source, "x") == [x for _, _, x in rows]
    finally:
        text.BLOCK_BYTES = before


# --- JSON lines -----------------------------------------------------------------------------------


def test_json_lines_keep_their_types(here, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_BYTES", 40)
    lines = [
        {"id": 1, "x": 1, "v": [1, 2], "when": "2020-01-01"},
        {"id": 2, "x": 0.5, "v": [1.5, 2], "when": "2020-01-02"},
        {"id": 3, "v": [0, 0], "when": "soon", "late": True},
    ]
    content = "\n\n".join(map(json.dumps, lines))

    source = open_text("t.jsonl", content)

    assert {name: column.type for name, column in source.columns.items()} == {
        "id": "int64",
        "x": "double",
        "v": "list<item: double>",
        "when": "string",
        "late": "bool",
    }
    assert values(source, "x") == [1.0, 0.5, None]
    assert values(source, "when") == ["2020-01-01", "2020-01-02", "soon"]
    assert (source.width("v"), source.header("v").n_rows) == (2, 3)
    np.testing.assert_array_equal(
        read_vectors(ColumnRef(source, source.columns["v"])), [[1, 2], [1.5, 2], [0, 0]]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n\n{"a": "x"}\n', "t.jsonl: line 3: column(/a) changed from number to string"),
        ('{"a": 1}\n{"a": \n', "t.jsonl: line 2: Expecting value"),
        ('{"a": 1}\n[1]\n', "t.jsonl: line 2: is no JSON object"),
        ('{"a": 1} {"a": 2}\n', "t.jsonl: has 2 values in 1 lines"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "t.jsonl: line 2: is not UTF-8"),
    ],
)
def test_a_bad_line_is_named(here, content, message):
    assert refusal("t.jsonl", content) == message


def test_a_type_that_changes_in_a_later_block_is_named(here, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_BYTES", 8)

    found = refusal("t.jsonl", '{"a": 1}\n{"a": 2}\n{"a": "x"}\n')

    assert found.startswith("t.jsonl: from line 3 on a column has another type: ")


# --- end to end -----------------------------------------------------------------------------------


@pytest.fixture
def rows(here, two_clusters):
    vectors, loss = two_clusters
    ids = [f"r{row}" for row in range(60)]
    pq.write_table(pa.table({"id": ids, "v": pa.array(list(vectors)), "loss": loss}), "t.parquet")
    order = np.random.default_rng(0).permutation(60)
    Path("x.csv").write_text(
        "id,loss,label\n"
        + "".join(f"{ids[row]},{float(loss[row])!r},{row // 30}\n" for row in order)
    )
    with Path("x.jsonl").open("w") as file:
        for row in order:
            file.write(json.dumps({"id": ids[row], "loss": loss[row], "label": int(row // 30)}))
            file.write("\n")
    return ids


def prune(d2, difficulty, *options):
    code, out, err = d2(
        "prune", "t.parquet", "--difficulty", difficulty, "--rate", "0.6", "-o", "-", *options
    )
    assert code == 0, err
    return out


def test_scores_and_labels_come_from_text(d2, rows):
    whole = prune(d2, "loss", "--force")

    for name in ("x.csv", "x.jsonl"):
        assert prune(d2, f"{name}::loss", "--force") == whole
    balanced = prune(d2, "x.csv::loss", "--group", "x.jsonl::label", "--balance", "uniform")
    assert sum(int(line[1:]) < 30 for line in balanced.split()) == 12


def test_class_numbers_come_from_csv(d2, rows):
    np.save("log.npy", np.random.default_rng(0).normal(size=(3, 60, 2)))

    code, _, err = d2("difficulty", "log.npy", "--labels", "x.csv::label", "-o", "d.parquet")

    assert code == 0, err
    assert pq.read_table("d.parquet").num_rows == 60


def test_text_through_a_named_pipe_is_read_by_its_ending(here):
    import os
    import threading

    os.mkfifo("p.csv")
    writer = threading.Thread(target=Path("p.csv").write_bytes, args=(b"id,loss\na,1.5\n",))
    writer.start()

    source = Sources().open("p.csv")

    writer.join()
    np.testing.assert_array_equal(read_numbers(ColumnRef(source, source.columns["loss"])), [1.5])


def test_a_list_of_rows_may_be_a_source_of_labels_too(here):
    Path("l.csv").write_text("label\n3\n1\n")
    sources = Sources()

    assert list(sources.open("l.csv", as_list=True).columns) == [""]
    assert list(sources.open("l.csv").columns) == ["label"]


def test_whole_numbers_as_ids_in_a_csv_join_ids_that_are_numbers(tmp_path, d2, cloud):
    ids = np.arange(100, 100 + len(cloud))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(cloud.ravel()), cloud.shape[1])
    pq.write_table(pa.table({"id": ids, "embedding": vectors}), tmp_path / "t.parquet")
    lines = [f"{i},{i % 7}" for i in ids[::-1]]
    (tmp_path / "s.csv").write_text("\n".join(["id,loss", *lines]) + "\n")
    start = ("prune", tmp_path / "t.parquet", "--rate", 0.5, "--difficulty")
    code, _, err = d2(*start, f"{tmp_path / 's.csv'}::loss", "-o", tmp_path / "a.npy")
    assert code == 0, err
    np.save(tmp_path / "loss.npy", ids % 7)
    d2(*start, tmp_path / "loss.npy", "--harder", "high", "-o", tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    (tmp_path / "s.csv").write_text("id,loss\n100,1\n0100,2\n")
    code, _, err = d2(*start, f"{tmp_path / 's.csv'}::loss")
    assert code == 3
    assert "repeats the id" in err


@pytest.mark.parametrize("level", [b"[", b'{"a": '])
def test_json_that_is_nested_too_deeply_is_refused(tmp_path, level):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"v": 1}\n{"v": ' + level * 100_000 + b"\n")

    with pytest.raises(InputError, match="line 2: is nested too deeply"):
        Sources().open(str(path))


def test_a_field_of_csv_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a" * (1 << 20) + b"\n1\n")

    with pytest.raises(InputError, match="field larger than"):
        Sources().open(str(path))
