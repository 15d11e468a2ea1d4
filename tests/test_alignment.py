"""Rows of one file matched with rows of another."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import InputError
from d2cli.files.alignment import Rows, identify
from d2cli.files.colref import resolve
from d2cli.files.columns import read_numbers
from d2cli.files.inputs import read_difficulty, read_embedding, read_group
from d2cli.files.sources import Sources

SIZE = 12


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, columns):
    pq.write_table(pa.table(columns), name, row_group_size=5)


def embed(source, *, id_=None, embedding=None):
    sources = Sources()
    return sources, read_embedding(sources, source, embedding=embedding, id_=id_, within=None)


def difficulty_of(text, *, id_=None):
    """Read the difficulty for ``emb.parquet``."""
    sources, data = embed("emb.parquet", id_=id_)
    return read_difficulty(sources, text, data.rows, "high").values


def refusal(text, *, id_=None):
    with pytest.raises(InputError) as caught:
        difficulty_of(text, id_=id_)
    return caught.value


def names(numbers):
    return [f"row-{number}" for number in numbers]


@pytest.fixture
def embeddings(folder):
    """12 rows with the ids row-0 ... row-11."""
    vectors = np.random.default_rng(1).normal(size=(SIZE, 2))
    write("emb.parquet", {"id": names(range(SIZE)), "v": list(vectors)})
    return vectors


# --- by id ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary("int8", "string")])
def test_columns_of_another_order_are_joined_by_id(embeddings, kind):
    order = np.random.default_rng(2).permutation(SIZE)
    write("loss.parquet", {"id": pa.array(names(order)).cast(kind), "loss": order * 10.0})

    values = difficulty_of("loss.parquet::loss")

    manual = dict(zip(names(order), order * 10.0, strict=True))
    assert values.tolist() == [manual[name] for name in names(range(SIZE))]


def test_integer_ids_of_different_width_are_joined(folder):
    order = np.random.default_rng(3).permutation(SIZE)
    write("emb.parquet", {"id": pa.array(range(SIZE), pa.uint8()), "v": [[1.0]] * SIZE})
    write("loss.parquet", {"uid": pa.array(order, pa.int64()), "loss": order * 10.0})

    assert difficulty_of("loss.parquet::loss").tolist() == [10.0 * i for i in range(SIZE)]


def test_rows_that_the_source_lacks_are_left_out(embeddings):
    order = np.random.default_rng(4).permutation(SIZE + 5)
    write("loss.parquet", {"id": names(order), "loss": order * 10.0})

    assert difficulty_of("loss.parquet").tolist() == [10.0 * i for i in range(SIZE)]


def test_labels_are_joined_by_id(embeddings):
    order = np.random.default_rng(5).permutation(SIZE)
    write("cls.parquet", {"id": names(order), "cls": [f"c{i % 3}" for i in order]})
    sources, data = embed("emb.parquet")

    labels = read_group(sources, "cls.parquet::cls", data.rows)

    assert labels.values.to_pylist() == [f"c{i % 3}" for i in range(SIZE)]


def test_an_embedding_of_another_file_is_joined_by_id(embeddings):
    order = np.random.default_rng(6).permutation(SIZE)
    write("meta.parquet", {"id": names(order), "loss": order * 1.0})

    _, data = embed("meta.parquet", embedding="emb.parquet::v")

    np.testing.assert_array_equal(data.vectors, embeddings[order])


def test_the_named_id_column_is_used_on_both_sides(folder):
    write("emb.parquet", {"id": [0, 0, 0], "key": ["a", "b", "c"], "v": [[1.0]] * 3})
    write("loss.parquet", {"id": [0, 0, 0], "key": ["c", "a", "b"], "loss": [3.0, 1.0, 2.0]})

    assert difficulty_of("loss.parquet::loss", id_="key").tolist() == [1.0, 2.0, 3.0]


def test_ids_of_another_file_identify_the_rows_of_the_source(folder):
    np.save("emb.npy", np.ones((3, 2)))
    write("ids.parquet", {"key": ["a", "b", "c"]})

    _, data = embed("emb.npy", id_="ids.parquet::key")

    assert data.rows.ids.to_pylist() == ["a", "b", "c"]


def test_npz_members_are_joined_by_the_member_id(embeddings):
    order = np.random.default_rng(7).permutation(SIZE)
    np.savez("loss.npz", id=np.array(names(order)), loss=order * 10.0)

    assert difficulty_of("loss.npz::loss").tolist() == [10.0 * i for i in range(SIZE)]


# --- ids that do not match ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary("int8", "string")])
def test_ids_in_the_same_order_need_no_matching(embeddings, kind):
    write("loss.parquet", {"id": pa.array(names(range(SIZE))).cast(kind), "loss": np.arange(SIZE)})
    sources, data = embed("emb.parquet")
    ref = resolve("loss.parquet::loss", "difficulty", sources, None)
    assert data.rows.rows_of(ref, SIZE) is None
    assert difficulty_of("loss.parquet::loss").tolist() == list(range(SIZE))


def test_missing_ids_are_refused_with_the_first_and_the_count(embeddings):
    present = [i for i in range(SIZE) if i not in (4, 9)]
    write("loss.parquet", {"id": names(present), "loss": [1.0] * len(present)})

    error = refusal("loss.parquet::loss")

    assert error.message == (
        "loss.parquet::id: row 4 of emb.parquet has the id 'row-4', which is missing here "
        "(2 rows in all)"
    )


def test_repeated_ids_of_the_other_file_are_refused(embeddings):
    write("loss.parquet", {"id": names([*range(SIZE), 3, 5]), "loss": [1.0] * (SIZE + 2)})

    assert refusal("loss.parquet::loss").message == (
        f"loss.parquet::id: row {SIZE} repeats the id 'row-3' (2 rows in all)"
    )


def test_null_ids_of_the_other_file_are_refused(embeddings):
    write("loss.parquet", {"id": [*names(range(SIZE)), None], "loss": [1.0] * (SIZE + 1)})

    assert refusal("loss.parquet::loss").message == (
        f"loss.parquet::id: row {SIZE} is null (1 row in all)"
    )


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["a", "b", "a"], "emb.parquet::id: row 2 repeats the id 'a' (1 row in all)"),
        (["a", None, None], "emb.parquet::id: row 1 is null (2 rows in all)"),
        (
            [1.0, 2.0, 3.0],
            "emb.parquet::id: ids are double, expected strings or integers",
        ),
    ],
)
def test_ids_of_the_source_that_identify_nothing_are_refused(folder, ids, expected):
    write("emb.parquet", {"id": ids, "v": [[1.0]] * 3})

    with pytest.raises(InputError) as caught:
        embed("emb.parquet")

    assert caught.value.message == expected


def test_ids_of_another_type_are_refused_and_not_converted(folder):
    write("emb.parquet", {"id": [1, 2], "v": [[1.0]] * 2})
    write("loss.parquet", {"id": ["1", "2"], "loss": [1.0, 2.0]})

    error = refusal("loss.parquet::loss")

    assert error.message == (
        "loss.parquet::id: ids are large_string, those of emb.parquet are int64"
    )
    assert "--id none" in error.hint


def test_ids_for_another_number_of_rows_are_refused(folder):
    np.save("emb.npy", np.ones((3, 2)))
    write("ids.parquet", {"key": ["a", "b"]})

    with pytest.raises(InputError, match=r"^ids\.parquet::key: has 2 ids for 3 rows$"):
        embed("emb.npy", id_="ids.parquet::key")


# --- by row ---------------------------------------------------------------------------------------


def test_without_ids_on_one_side_rows_are_matched_by_number(embeddings):
    np.save("loss.npy", np.arange(SIZE) * 10.0)
    write("loss.parquet", {"loss": np.arange(SIZE) * 10.0})

    for text in ("loss.npy", "loss.parquet"):
        assert difficulty_of(text).tolist() == [10.0 * i for i in range(SIZE)]


def test_id_none_matches_by_number_in_spite_of_ids(embeddings):
    write("loss.parquet", {"id": names(reversed(range(SIZE))), "loss": np.arange(SIZE) * 1.0})

    by_number = difficulty_of("loss.parquet::loss", id_="none")
    by_id = difficulty_of("loss.parquet::loss")

    assert by_number.tolist() == by_id.tolist()[::-1] == [1.0 * i for i in range(SIZE)]


def test_id_none_keeps_no_ids(embeddings):
    _, data = embed("emb.parquet", id_="none")

    assert data.rows.ids is None
    assert "id" not in data.digests


@pytest.mark.parametrize("length", [0, 1, SIZE - 1, SIZE + 1])
def test_rows_matched_by_number_need_equal_lengths(embeddings, length):
    np.save("loss.npy", np.zeros(length))

    error = refusal("loss.npy")

    assert error.message == f"loss.npy: has {length} rows, but emb.parquet has {SIZE}"
    assert error.hint == "files are matched by row unless both have an id column"


def test_columns_of_the_source_need_no_matching(folder):
    write("emb.parquet", {"id": ["b", "a"], "v": [[1.0]] * 2, "loss": [1.0, 2.0]})
    sources = Sources()
    home = sources.open("emb.parquet")
    ref = resolve("loss", "difficulty", sources, home)

    rows = identify(home, None, 2, None)

    assert rows.rows_of(ref, len(read_numbers(ref))) is None


# --- looking up ids -------------------------------------------------------------------------------


def test_lookup_finds_rows_in_the_order_asked_for():
    rows = Rows("data", 3, pa.array(["a", "b", "c"], pa.large_string()), None)

    assert rows.lookup(pa.array(["c", "a", "c"]), "list").tolist() == [2, 0, 2]


def test_lookup_turns_text_into_integer_ids():
    rows = Rows("data", 3, pa.array([7, 8, 9]), None)

    assert rows.lookup(pa.array(["9", "7"]), "list").tolist() == [2, 0]


@pytest.mark.parametrize("wanted", [["7", "x"], ["7", "1.5"], ["7", ""]])
def test_lookup_refuses_text_that_is_no_integer_id(wanted):
    rows = Rows("data", 3, pa.array([7, 8, 9]), None)

    with pytest.raises(InputError, match=r"^list: "):
        rows.lookup(pa.array(wanted), "list")


def test_lookup_refuses_unknown_ids_with_the_first_and_the_count():
    rows = Rows("data", 3, pa.array(["a", "b", "c"], pa.large_string()), None)

    with pytest.raises(InputError) as caught:
        rows.lookup(pa.array(["a", "x", "b", "y"]), "list")

    assert caught.value.message == ("list: entry 1 is 'x', which is no id of data (2 such in all)")
