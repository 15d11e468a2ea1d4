"""COLREF: what the user calls a column, found."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import InputError
from d2cli.files.colref import id_column, only_column, resolve
from d2cli.files.columns import read_numbers
from d2cli.files.sources import Sources

VECTORS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def home(folder):
    """The command's SOURCE: ids, vectors, a loss and a label."""
    pq.write_table(
        pa.table({"id": [1, 2], "v": VECTORS, "loss": [0.1, 0.2], "label": ["a", "b"]}),
        folder / "home.parquet",
    )
    return Sources().open("home.parquet")


def refusal(text, role, home=None):
    with pytest.raises(InputError) as caught:
        resolve(text, role, Sources(), home)
    return caught.value


def choice(path, columns, role):
    pq.write_table(pa.table(columns), path)
    return only_column(Sources().open(str(path)), role)


# --- the three forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "name"), [("embedding", "v"), ("difficulty", "loss"), ("label", "label"), ("id", "id")]
)
def test_a_column_of_the_source_is_found_by_its_name(home, role, name):
    ref = resolve(name, role, Sources(), home)

    assert ref.source is home
    assert ref.column.name == name


def test_a_file_with_one_array_is_found_by_its_path(home, folder):
    np.save(folder / "aum.npy", np.array([3.0, 4.0]))

    ref = resolve("aum.npy", "difficulty", Sources(), home)

    assert ref.where == "aum.npy"
    np.testing.assert_array_equal(read_numbers(ref), [3.0, 4.0])


def test_a_file_with_one_possible_column_is_found_by_its_path(home, folder):
    pq.write_table(pa.table({"id": [1, 2], "aum": [3.0, 4.0]}), folder / "x.parquet")

    assert resolve("x.parquet", "difficulty", Sources(), home).where == "x.parquet::aum"


@pytest.mark.parametrize("name", ["a.b", "a::b", "a[0]", "::", " "])
def test_a_column_of_another_file_is_found_by_file_and_name(home, folder, name):
    pq.write_table(pa.table({name: [3.0, 4.0], "z": [5.0, 6.0]}), folder / "x.parquet")

    ref = resolve(f"x.parquet::{name}", "difficulty", Sources(), home)

    assert ref.column.name == name
    np.testing.assert_array_equal(read_numbers(ref), [3.0, 4.0])


def test_an_npz_member_is_found_by_file_and_name(home, folder):
    np.savez(folder / "x.npz", a=np.zeros(2), b=np.ones(2))

    ref = resolve("x.npz::b", "difficulty", Sources(), home)

    np.testing.assert_array_equal(read_numbers(ref), [1.0, 1.0])


def test_a_path_that_holds_the_separator_is_a_file(folder):
    np.save(folder / "a::b.npy", np.ones(2))

    assert resolve("a::b.npy", "difficulty", Sources(), None).where == "a::b.npy"


def test_a_name_that_is_column_and_file_is_the_column(home, folder):
    with (folder / "loss").open("wb") as file:
        np.save(file, np.array([8.0, 9.0]))

    column = resolve("loss", "difficulty", Sources(), home)
    file = resolve("./loss", "difficulty", Sources(), home)

    np.testing.assert_array_equal(read_numbers(column), [0.1, 0.2])
    np.testing.assert_array_equal(read_numbers(file), [8.0, 9.0])


def test_a_file_named_twice_is_opened_once(home, folder):
    np.savez(folder / "x.npz", a=np.zeros(2), b=np.ones(2))
    sources = Sources()

    first = resolve("x.npz::a", "difficulty", sources, home)
    second = resolve("x.npz::b", "difficulty", sources, home)

    assert first.source is second.source


# --- refusals -------------------------------------------------------------------------------------


def test_an_unknown_column_lists_the_columns_of_the_source(home):
    error = refusal("los", "difficulty", home)

    assert error.message == (
        "home.parquet: no column 'los', and no file of that name; it has "
        "id (int64), v (list<element: double>), loss (double), label (string)"
    )
    assert "FILE::NAME" in error.hint


def test_an_unknown_column_of_another_file_lists_its_columns(home, folder):
    np.savez(folder / "x.npz", a=np.zeros(2))

    error = refusal("x.npz::b", "difficulty", home)

    assert error.message == "x.npz: no column 'b'; it has a (float64 (2,))"


def test_a_missing_file_before_the_separator_is_named(home):
    assert refusal("none.npz::b", "difficulty", home).message == "none.npz: no such file"


@pytest.mark.parametrize("array_at_home", [False, True])
def test_without_columns_an_unknown_name_can_only_be_a_file(folder, array_at_home):
    np.save(folder / "emb.npy", np.zeros((2, 2)))
    home = Sources().open("emb.npy") if array_at_home else None

    assert refusal("loss", "difficulty", home).message == "loss: no such file"


@pytest.mark.parametrize(
    ("name", "role", "expected"),
    [
        ("loss", "embedding", "is double, expected lists of numbers"),
        ("v", "difficulty", "is list<element: double>, expected one number a row"),
        ("label", "difficulty", "is string, expected one number a row"),
        ("v", "label", "is list<element: double>, expected one string or number a row"),
        ("v", "id", "is list<element: double>, expected one string or integer a row"),
    ],
)
def test_a_column_of_another_type_is_refused(home, name, role, expected):
    assert refusal(name, role, home).message.startswith(f"home.parquet::{name}: {expected}")


def test_a_name_that_stands_twice_is_refused(folder):
    twice = pa.table([pa.array([1.0]), pa.array([2.0])], names=["loss", "loss"])
    pq.write_table(twice, folder / "t.parquet")

    error = refusal("t.parquet::loss", "difficulty")

    assert error.message.startswith("t.parquet::loss: is several columns of this name, expected")


def test_an_array_of_the_wrong_shape_is_refused_by_its_type(folder):
    np.save(folder / "a.npy", np.zeros((2, 2, 2), np.float32))

    error = refusal("a.npy", "embedding")

    assert error.message.startswith("a.npy: no column could be the embedding")
    assert error.message.endswith("it has float32 (2, 2, 2)")


# --- finding the one possible column --------------------------------------------------------------


def test_the_only_vectors_are_the_embedding(home):
    assert only_column(home, "embedding").column.name == "v"


def test_ids_are_no_difficulty_where_there_is_another_column(tmp_path):
    columns = {"id": [1, 2], "uid": [3, 4], "x": [0.5, 1.0]}

    assert choice(tmp_path / "t", columns, "difficulty").column.name == "x"


def test_lists_of_integers_are_the_embedding_only_where_nothing_else_is(tmp_path):
    tokens = [[1, 2], [3, 4]]

    both = choice(tmp_path / "a", {"tokens": tokens, "v": VECTORS}, "embedding")
    alone = choice(tmp_path / "b", {"tokens": tokens}, "embedding")

    assert (both.column.name, alone.column.name) == ("v", "tokens")


def test_several_possible_columns_are_listed_with_how_to_choose(tmp_path):
    with pytest.raises(InputError) as caught:
        choice(tmp_path / "t", {"image": VECTORS, "n": [1, 2], "text": VECTORS}, "embedding")

    path = tmp_path / "t"
    assert caught.value.message == (
        f"{path}: 2 columns could be the embedding: "
        "image (list<element: double>), text (list<element: double>)"
    )
    assert caught.value.hint == f"choose one with --embedding {path}::image"


def test_no_possible_column_lists_what_is_there(tmp_path):
    with pytest.raises(InputError) as caught:
        choice(tmp_path / "t", {"id": [1, 2], "label": ["a", "b"]}, "embedding")

    assert caught.value.message == (
        f"{tmp_path / 't'}: no column could be the embedding, expected lists of numbers, or an "
        "array of shape (rows, width); it has id (int64), label (string)"
    )


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "given", "found"),
    [
        (["x", "id", "uid"], None, "id"),
        (["uid", "id"], None, "id"),
        (["x", "uid"], None, "uid"),
        (["x", "id"], "x", "x"),
        (["y", "id"], "x", "id"),
        (["x", "ID", "Uid"], None, None),
    ],
)
def test_the_id_column_is_the_one_given_else_id_else_uid(folder, names, given, found):
    pq.write_table(pa.table({name: [1, 2] for name in names}), folder / "t.parquet")

    ref = id_column(Sources().open("t.parquet"), given)

    assert (ref.column.name if ref else None) == found
