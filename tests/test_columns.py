"""Columns to arrays: the vectors that were written, every bad row counted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import InputError
from d2cli.files.columns import (
    ColumnRef,
    check_unique,
    group_labels,
    read_labels,
    read_numbers,
    read_vectors,
)
from d2cli.files.inputs import read_embedding
from d2cli.files.sources import Sources
from d2cli.stages.vectors import as_vectors

LISTS = {"list": pa.list_, "large_list": pa.large_list, "fixed": lambda kind: pa.list_(kind, 3)}
FLOATS = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}


def write(path, table, kind="parquet", **options):
    if kind == "parquet":
        pq.write_table(table, path, **options)
        return path
    make = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}[kind]
    with make(path, table.schema) as sink:
        sink.write_table(table)
    return path


def column(path, name=""):
    source = Sources().open(str(path))
    return ColumnRef(source, source.columns[name])


def message_of(read, ref):
    with pytest.raises(InputError) as caught:
        read(ref)
    return caught.value.message


@pytest.fixture
def grid():
    """10 rows of 3 numbers that float16 holds exactly."""
    return np.random.default_rng(7).integers(-512, 512, (10, 3)) / 8


# --- vectors from tables --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize("value", FLOATS)
@pytest.mark.parametrize("lists", LISTS)
def test_vectors_equal_the_array_that_was_written(tmp_path, grid, lists, value, kind):
    rows = list(grid.astype(value))
    table = pa.table({"v": pa.array(rows, LISTS[lists](FLOATS[value]))})

    vectors = read_vectors(column(write(tmp_path / "t", table, kind), "v"))

    assert vectors.dtype == (np.float64 if value == "float64" else np.float32)
    np.testing.assert_array_equal(vectors, grid)


@pytest.mark.parametrize("lists", LISTS)
def test_vectors_come_in_order_from_many_row_groups(tmp_path, grid, lists):
    table = pa.table({"v": pa.array(list(grid), LISTS[lists](pa.float64()))})

    path = write(tmp_path / "t", table, row_group_size=3)

    assert pq.ParquetFile(path).num_row_groups == 4
    np.testing.assert_array_equal(read_vectors(column(path, "v")), grid)


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("lists", LISTS)
def test_vectors_come_in_order_from_sliced_chunks(tmp_path, grid, lists, kind):
    whole = pa.array(list(grid), LISTS[lists](pa.float64()))
    chunks = pa.chunked_array([whole[4:9], whole[0:0], whole[9:], whole[2:4]])

    path = write(tmp_path / "t", pa.table({"v": chunks}), kind)

    expected = grid[[4, 5, 6, 7, 8, 9, 2, 3]]
    np.testing.assert_array_equal(read_vectors(column(path, "v")), expected)


def test_vectors_larger_than_one_batch_are_complete(tmp_path):
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(1100, 4096)).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(wide.ravel()), 4096)
    path = write(tmp_path / "t", pa.table({"v": flat}), row_group_size=300, use_dictionary=False)
    ref = column(path, "v")

    assert len(list(ref.source.batches("v"))) > 1
    np.testing.assert_array_equal(read_vectors(ref), wide)


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_tensors_are_read_as_flat_vectors(tmp_path, kind):
    numbers = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(numbers)

    path = write(tmp_path / "t", pa.table({"v": tensors}), kind)

    np.testing.assert_array_equal(read_vectors(column(path, "v")), numbers.reshape(4, 6))


def test_lists_of_integers_are_read_as_numbers(tmp_path):
    table = pa.table({"v": pa.array([[1, -2], [3, 4]], pa.list_(pa.int8()))})

    vectors = read_vectors(column(write(tmp_path / "t", table), "v"))

    np.testing.assert_array_equal(vectors, [[1, -2], [3, 4]])


@pytest.mark.parametrize(
    "name", ["a.b", "a[0]", "a.list.element", "a b", "ä→文", "a::b", "a'\"", "list", "element"]
)
@pytest.mark.parametrize("kind", ["parquet", "stream"])
def test_any_column_name_is_read(tmp_path, grid, name, kind):
    other = pa.array(list(-grid))
    table = pa.table({"a": other, name: pa.array(list(grid)), "b": other, "loss": grid[:, 0]})

    ref = column(write(tmp_path / "t", table, kind), name)

    np.testing.assert_array_equal(read_vectors(ref), grid)


def test_a_name_with_a_dot_is_no_path_into_a_struct(tmp_path):
    table = pa.table({"s": [{"x": 1.0}, {"x": 2.0}], "s.x": [7.0, 8.0]})

    numbers = read_numbers(column(write(tmp_path / "t", table), "s.x"))

    np.testing.assert_array_equal(numbers, [7.0, 8.0])


# --- vectors from arrays --------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "i1", "u1", "<i4", ">i4", "<i8", "<u8"]
)
def test_arrays_are_searched_as_what_was_written(tmp_path, dtype, order):
    numbers = np.random.default_rng(5).integers(0, 100, (6, 4))
    stored = np.asarray(numbers, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", stored)
    np.savez(tmp_path / "a.npz", v=stored, w=-numbers)
    np.savez_compressed(tmp_path / "c.npz", v=stored)

    for file, name in (("a.npy", ""), ("a.npz", "v"), ("c.npz", "v")):
        vectors = as_vectors(read_vectors(column(tmp_path / file, name)), "l2")
        np.testing.assert_array_equal(vectors, numbers)
        assert vectors.flags.c_contiguous


def test_every_npz_member_is_read_by_its_name(tmp_path):
    first, second = np.arange(6.0).reshape(3, 2), np.arange(3)
    np.savez(tmp_path / "a.npz", first, **{"inner.v": first + 1, "loss": second})

    np.testing.assert_array_equal(read_vectors(column(tmp_path / "a.npz", "arr_0")), first)
    np.testing.assert_array_equal(read_vectors(column(tmp_path / "a.npz", "inner.v")), first + 1)
    np.testing.assert_array_equal(read_numbers(column(tmp_path / "a.npz", "loss")), second)


# --- vectors that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize("lists", LISTS)
def test_null_rows_are_refused(tmp_path, lists, kind):
    rows = [[1, 2, 3], None, [4, 5, 6], None]
    table = pa.table({"v": pa.array(rows, LISTS[lists](pa.float32()))})

    ref = column(write(tmp_path / "t", table, kind), "v")

    assert message_of(read_vectors, ref) == f"{tmp_path / 't'}::v: row 1 is null (2 rows in all)"


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize("lists", LISTS)
def test_null_items_are_refused(tmp_path, lists, kind):
    rows = [[1, 2, 3], [1, 2, 3], [4, None, None], [None, 1, 1]]
    table = pa.table({"v": pa.array(rows, LISTS[lists](pa.float32()))})

    message = message_of(read_vectors, column(write(tmp_path / "t", table, kind), "v"))

    assert message == f"{tmp_path / 't'}::v: row 2 holds a null value (2 rows in all)"


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_null_items_beside_null_rows_do_not_hide_them(tmp_path, kind):
    rows = [[1, 2], [None, 2], None]
    table = pa.table({"v": pa.array(rows, pa.list_(pa.float32()))})

    message = message_of(read_vectors, column(write(tmp_path / "t", table, kind), "v"))

    assert message.endswith("::v: row 2 is null (1 row in all)")


@pytest.mark.parametrize("lists", [pa.list_, pa.large_list])
def test_ragged_rows_are_refused_with_both_widths(tmp_path, lists):
    rows = [[1, 2, 3]] * 5 + [[1, 2]] + [[1, 2, 3]] * 5 + [[]]
    table = pa.table({"v": pa.array(rows, lists(pa.float64()))})

    path = write(tmp_path / "t", table, row_group_size=4)

    assert message_of(read_vectors, column(path, "v")) == (
        f"{path}::v: row 5 has 2 values, expected 3 (2 rows in all)"
    )


def test_defects_are_counted_over_chunks_and_slices(tmp_path):
    whole = pa.array([None, [1.0], [2.0, 3.0], None, [4.0], None])
    chunks = pa.chunked_array([whole[1:2], whole[4:5], whole[3:6], whole[0:2]])

    message = message_of(
        read_vectors, column(write(tmp_path / "t", pa.table({"v": chunks}), "file"), "v")
    )

    assert message.endswith("::v: row 2 is null (3 rows in all)")


def test_a_first_chunk_of_nulls_sets_no_width(tmp_path):
    chunks = pa.chunked_array([[None], [[1.0, 2.0]]], pa.list_(pa.float64()))
    path = write(tmp_path / "t", pa.table({"v": chunks}), "file")

    assert message_of(read_vectors, column(path, "v")).endswith("row 0 is null (1 row in all)")


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize("lists", LISTS)
def test_a_table_without_rows_is_refused(tmp_path, lists, kind):
    table = pa.table({"v": pa.array([], LISTS[lists](pa.float32()))})

    message = message_of(read_vectors, column(write(tmp_path / "t", table, kind), "v"))

    assert message == f"{tmp_path / 't'}::v: holds no rows"


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (np.nan, "holds NaN"),
        (np.inf, "holds an infinite value"),
        (-np.inf, "holds an infinite value"),
        (1e38, "holds a value above 1e+37"),
    ],
)
def test_unusable_numbers_are_refused_by_row(tmp_path, grid, bad, what):
    grid[4, 1] = grid[8, 0] = bad
    np.save(tmp_path / "a.npy", grid)
    read = read_embedding(Sources(), str(tmp_path / "a.npy"), embedding=None, id_=None, within=None)

    message = message_of(lambda vectors: as_vectors(vectors, "l2"), read.vectors)

    assert message == f"row 4 {what} (2 rows in all)"
    assert read.where == str(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (3, 0)])
def test_arrays_without_numbers_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.empty(shape, np.float32))
    vectors = read_vectors(column(tmp_path / "a.npy"))

    message = message_of(lambda given: as_vectors(given, "l2"), vectors)

    assert message.startswith("holds no " + ("rows" if not shape[0] else "values"))


def test_lists_of_width_0_are_refused(tmp_path):
    table = pa.table({"v": pa.array([[], []], pa.list_(pa.float32()))})
    vectors = read_vectors(column(write(tmp_path / "t", table), "v"))

    with pytest.raises(InputError, match="holds no values: the vectors have width 0"):
        as_vectors(vectors, "l2")


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize(
    "value", [pa.float16(), pa.float32(), pa.float64(), pa.uint8(), pa.int64()]
)
def test_numbers_come_in_their_own_type(tmp_path, value, kind):
    chunks = pa.chunked_array([[3, 1], [2]], value)

    numbers = read_numbers(column(write(tmp_path / "t", pa.table({"x": chunks}), kind), "x"))

    assert numbers.dtype == value.to_pandas_dtype()
    np.testing.assert_array_equal(numbers, [3, 1, 2])


def test_numbers_come_from_arrays_of_any_byte_order(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1.5, -2.0], ">f8"))

    np.testing.assert_array_equal(read_numbers(column(tmp_path / "a.npy")), [1.5, -2.0])


def test_null_numbers_are_refused(tmp_path):
    path = write(tmp_path / "t", pa.table({"x": [1.0, 2.0, None, None, 5.0]}), row_group_size=2)

    assert message_of(read_numbers, column(path, "x")) == (
        f"{path}::x: row 2 is null (2 rows in all)"
    )


# --- labels and ids -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (pa.array(["b", "a", "b"]), pa.large_string()),
        (pa.array(["b", "a", "b"], pa.large_string()), pa.large_string()),
        (pa.array(["b", "a", "b"]).dictionary_encode(), pa.large_string()),
        (pa.array([5, -1, 5], pa.int8()), pa.int64()),
        (pa.array([5, 1, 5], pa.uint64()), pa.int64()),
        (pa.array([5, 1, 5]).dictionary_encode(), pa.int64()),
        (pa.array([True, False, True]), pa.bool_()),
        (pa.array([0.5, 1.5, 0.5], pa.float32()), pa.float64()),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else str(value),
)
def test_labels_of_every_type_keep_their_values(tmp_path, stored, expected, kind):
    path = write(tmp_path / "t", pa.table({"label": stored}), kind)

    labels = read_labels(column(path, "label"))

    assert labels.type == expected
    assert labels.to_pylist() == stored.to_pylist()


def test_labels_come_from_dictionaries_that_differ_between_row_groups(tmp_path):
    names = ["x", "y", "y", "z", "x", "z"]
    path = tmp_path / "t"
    with pq.ParquetWriter(path, pa.schema({"c": pa.dictionary(pa.int32(), pa.string())})) as out:
        for start in (0, 2, 4):
            part = pa.array(names[start : start + 2]).dictionary_encode()
            out.write_table(pa.table({"c": part}))

    assert read_labels(column(path, "c")).to_pylist() == names


@pytest.mark.parametrize(
    "array", [np.array([3, 1], np.uint8), np.array(["bc", "a"]), np.array([True, False])], ids=str
)
def test_labels_come_from_arrays(tmp_path, array):
    np.save(tmp_path / "a.npy", array)

    assert read_labels(column(tmp_path / "a.npy")).to_pylist() == array.tolist()


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["a", None, "b", None]),
        pa.array(["a", None, "b", None]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1]), pa.array(["a", None])),
        pa.array([1, None, 2, None]),
        pa.array([True, None, True, None]),
    ],
    ids=["strings", "dictionary", "dictionary that holds the null", "integers", "booleans"],
)
def test_null_labels_are_refused(tmp_path, labels):
    ref = column(write(tmp_path / "t", pa.table({"c": labels}), "file"), "c")

    assert message_of(read_labels, ref) == f"{tmp_path / 't'}::c: row 1 is null (2 rows in all)"


def test_labels_that_are_nan_are_refused(tmp_path):
    path = write(tmp_path / "t", pa.table({"c": [1.0, 2.0, np.nan]}))

    assert message_of(read_labels, column(path, "c")) == f"{path}::c: row 2 is NaN (1 row in all)"


def test_labels_of_another_type_are_refused(tmp_path):
    path = write(tmp_path / "t", pa.table({"c": [b"a"]}))

    assert message_of(read_labels, column(path, "c")).startswith(f"{path}::c: is binary, expected")


def test_an_id_too_large_for_int64_is_refused(tmp_path):
    path = write(tmp_path / "t", pa.table({"c": pa.array([2**63], pa.uint64())}))

    assert message_of(read_labels, column(path, "c")).startswith(f"{path}::c: ")


def test_repeated_ids_are_refused_with_the_first_repetition():
    ids = pa.array(["a", "b", "c", "b", "a", "b"])

    with pytest.raises(InputError) as caught:
        check_unique(ids, "t::id")

    assert caught.value.message == "t::id: row 3 repeats the id 'b' (3 rows in all)"


def test_different_ids_are_unique():
    check_unique(pa.array(["a", "A", "a ", ""]), "t::id")


def test_groups_ascend_by_value():
    groups = group_labels(pa.array([10, 9, 10, -1]))

    assert groups.names == ("-1", "9", "10")
    assert groups.codes.tolist() == [2, 1, 2, 0]


def test_groups_of_strings_ascend_by_text():
    groups = group_labels(pa.array(["b", "10", "9", "b"], pa.large_string()))

    assert groups.names == ("10", "9", "b")
    assert groups.codes.tolist() == [2, 0, 1, 2]


def test_a_column_is_called_by_file_and_name(tmp_path):
    np.savez(tmp_path / "train.tar.npz", v=np.zeros((2, 2)))
    np.save(tmp_path / "aum.v2.npy", np.zeros(2))

    member, alone = column(tmp_path / "train.tar.npz", "v"), column(tmp_path / "aum.v2.npy")

    assert (member.where, member.title) == (f"{tmp_path / 'train.tar.npz'}::v", "v")
    assert (alone.where, alone.title) == (str(tmp_path / "aum.v2.npy"), "aum")
