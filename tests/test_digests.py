"""Digests depend on contents, not on how they are stored."""

import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from d2cli.files.columns import ColumnRef, read_labels, read_vectors
from d2cli.files.digests import (
    canonical_json,
    digest_array,
    digest_file,
    digest_json,
    digest_labels,
    parse_json,
)
from d2cli.files.sources import Sources
from d2cli.stages.room import Room


@pytest.fixture
def grid():
    """9000 rows, more than one block, that float16 holds exactly."""
    return np.random.default_rng(11).integers(-64, 64, (9000, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "stored",
    [
        lambda grid: grid.astype(np.float16),
        lambda grid: grid.astype(np.int8),
        lambda grid: grid.astype(">f4"),
        lambda grid: grid.astype(">f2"),
        np.asfortranarray,
        lambda grid: np.repeat(grid, 2, axis=0)[::2],
        lambda grid: np.ascontiguousarray(grid[::-1])[::-1],
        lambda grid: np.hstack([grid, grid])[:, :3],
    ],
    ids=["float16", "int8", "big-endian", "big-endian 16", "fortran", "strided", "flipped", "view"],
)
def test_arrays_of_the_same_float32_numbers_have_one_digest(grid, stored):
    assert digest_array(stored(grid)) == digest_array(grid)


@pytest.mark.parametrize("dtype", [">f8", np.int32, np.int64, np.uint32])
def test_arrays_of_the_same_float64_numbers_have_one_digest(grid, dtype):
    whole = np.abs(grid)

    assert digest_array(whole.astype(dtype)) == digest_array(whole.astype(np.float64))


def test_a_mapped_file_has_the_digest_of_its_array(tmp_path, grid):
    np.save(tmp_path / "a.npy", np.asfortranarray(grid))

    assert digest_array(np.load(tmp_path / "a.npy", mmap_mode="r")) == digest_array(grid)


def test_a_float16_parquet_column_has_the_digest_of_a_float32_npy(tmp_path, grid):
    kind = pa.list_(pa.float16())
    table = pa.table({"v": pa.array(list(grid.astype(np.float16)), kind)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1000)
    np.save(tmp_path / "a.npy", grid)
    refs = [
        ColumnRef(source, source.columns[name])
        for file, name in (("t.parquet", "v"), ("a.npy", ""))
        for source in [Sources().open(str(tmp_path / file))]
    ]

    column, array = (digest_array(read_vectors(ref)) for ref in refs)

    assert column == array


@pytest.mark.parametrize(
    "change",
    [
        lambda grid: grid[::-1],
        lambda grid: grid[:-1],
        lambda grid: grid.reshape(-1, 9),
        lambda grid: grid.ravel(),
        lambda grid: grid.astype(np.float64),
        lambda grid: np.concatenate([grid[:-1], np.nextafter(grid[-1:], np.float32(99))]),
    ],
    ids=["order", "length", "shape", "dimensions", "precision", "last bit"],
)
def test_arrays_of_other_numbers_have_other_digests(grid, change):
    assert digest_array(change(grid)) != digest_array(grid)


@pytest.mark.parametrize(
    ("n", "rest", "kind"),
    [(9000, (3,), "<f4"), (1, (5,), "<f4"), (0, (3,), "<f4"), (9000, (), "<f8"), (7, (0,), "<f8")],
)
def test_a_digest_of_an_array_is_that_of_its_kind_shape_and_bytes(n, rest, kind):
    array = np.random.default_rng(n).normal(size=(n, *rest)).astype(kind)

    expected = blake3(f"{kind}{array.shape}".encode() + array.tobytes())

    assert digest_array(array) == expected.hexdigest()


def test_every_row_that_was_digested_is_given_back_to_the_room_once(grid):
    class Watched(Room):
        def __init__(self):
            self.read = []

        def have_read(self, vectors, block):
            assert vectors is grid
            assert np.shares_memory(block, grid)
            self.read.append(block.copy())

    room = Watched()

    assert digest_array(grid, room) == digest_array(grid)
    assert len(room.read) > 1
    np.testing.assert_array_equal(np.concatenate(room.read), grid)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 21) + 5])
def test_the_digest_of_a_file_is_that_of_all_its_bytes(tmp_path, size):
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "f").write_bytes(data)

    assert digest_file(tmp_path / "f") == blake3(data).hexdigest()


LABELS = {
    "strings": pa.array(["a", "", "bc", "ä→", "a"], pa.large_string()),
    "integers": pa.array([3, -1, 2**62, 0, 3]),
    "floats": pa.array([0.5, -1.0, math.inf, 0.0, 0.5]),
    "booleans": pa.array([True, False, True, True, False]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_slices_have_the_digest_of_equal_labels(labels):
    for start in range(len(labels)):
        for stop in range(start, len(labels) + 1):
            fresh = pa.array(labels[start:stop].to_pylist(), labels.type)
            assert digest_labels(labels[start:stop]) == digest_labels(fresh)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_different_slices_have_different_digests(labels):
    parts = {tuple(labels[i:j].to_pylist()): labels[i:j] for i in range(5) for j in range(i, 6)}

    assert len({digest_labels(part) for part in parts.values()}) == len(parts)


def test_labels_that_join_to_the_same_text_have_other_digests():
    splits = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"], ["abc"]]

    assert len({digest_labels(pa.array(s, pa.large_string())) for s in splits}) == len(splits)


def test_numbers_and_their_text_have_other_digests():
    numbers, text = pa.array([1, 2]), pa.array(["1", "2"], pa.large_string())

    assert digest_labels(numbers) != digest_labels(text)


@pytest.mark.parametrize(
    "stored",
    [
        pa.array(["b", "a", "b"]),
        pa.array(["b", "a", "b"], pa.large_string()),
        pa.array(["b", "a", "b"]).dictionary_encode(),
        pa.chunked_array([["b"], ["a", "b"]]),
    ],
    ids=["string", "large_string", "dictionary", "chunks"],
)
def test_labels_read_from_any_column_type_have_one_digest(tmp_path, stored):
    pq.write_table(pa.table({"c": stored}), tmp_path / "t")
    source = Sources().open(str(tmp_path / "t"))

    labels = read_labels(ColumnRef(source, source.columns["c"]))

    assert digest_labels(labels) == digest_labels(pa.array(["b", "a", "b"], pa.large_string()))


def test_canonical_json_has_one_text_for_one_value():
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_canonical_json_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": value})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff", b'{"a":' * 100_000])
def test_text_that_cannot_be_read_as_json_is_a_wrong_value(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_digest_json_ignores_the_order_of_keys_but_no_value():
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})
    assert digest_json([1, 2]) != digest_json([2, 1])


def test_digests_are_the_same_in_another_process(grid):
    code = (
        "import numpy as np, pyarrow as pa; from d2cli.files.digests import *;"
        "print(digest_array(np.arange(6.0).reshape(3, 2)),"
        "digest_labels(pa.array(['a', 'b'], pa.large_string())), digest_json({'a': [1]}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [
        digest_array(np.arange(6.0).reshape(3, 2)),
        digest_labels(pa.array(["a", "b"], pa.large_string())),
        digest_json({"a": [1]}),
    ]


@given(st.lists(st.text(max_size=4), max_size=8), st.data())
def test_a_digest_of_texts_is_that_of_their_ends_and_bytes(texts, data):
    start = data.draw(st.integers(0, len(texts)))
    values = pa.array(texts, pa.large_string()).slice(start)
    parts = [text.encode() for text in texts[start:]]
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)

    expected = blake3(f"large_string{len(parts)}".encode() + ends.tobytes() + b"".join(parts))

    assert digest_labels(values) == expected.hexdigest()
    assert digest_labels(values.cast(pa.string())) == expected.hexdigest()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8), st.data())
def test_a_digest_of_numbers_is_that_of_their_bytes(numbers, data):
    start = data.draw(st.integers(0, len(numbers)))
    held = np.array(numbers[start:], dtype=np.int64)

    expected = blake3(f"int64{len(held)}".encode() + held.tobytes())

    assert digest_labels(pa.array(numbers, pa.int64()).slice(start)) == expected.hexdigest()


def test_no_texts_without_ends_have_the_digest_of_no_texts():
    nothing = pa.py_buffer(b"")
    bare = pa.Array.from_buffers(pa.large_string(), 0, [None, nothing, nothing])

    assert digest_labels(bare) == digest_labels(pa.array([], pa.large_string()))
