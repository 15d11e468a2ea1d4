"""The cache folder: finished stages by key."""

import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.files.artifacts import seal, write_artifact
from d2cli.files.cache import cache_folder, entry_path, find, locked

NOTHING = (None, None)


@pytest.fixture
def entry(tmp_path):
    """A graph with the key "abc"."""
    pairs = pa.array([[1], [0]], pa.list_(pa.int32(), 1))
    table = pa.table({"neighbors": pairs, "distances": pairs.cast(pa.list_(pa.float32(), 1))})
    artifact = seal("graph", table, key="abc", parameters={}, inputs={}, results={})
    write_artifact(tmp_path / "g.parquet", artifact)
    return tmp_path / "g.parquet"


def test_an_entry_with_the_key_is_found(entry):
    artifact, damage = find(entry, "graph", "abc")

    assert artifact.key == "abc"
    assert artifact.name == str(entry)
    assert damage is None


def test_an_absent_entry_is_not_found(tmp_path):
    assert find(tmp_path / "none.parquet", "graph", "abc") == NOTHING
    assert find(tmp_path / "none" / "none.parquet", "graph", "abc") == NOTHING


@pytest.mark.parametrize("key", ["abd", "", "ab", "abcd"])
def test_an_entry_with_another_key_is_not_found(entry, key):
    assert find(entry, "graph", key) == NOTHING


def test_an_entry_of_another_kind_is_not_found(entry):
    assert find(entry, "scores", "abc") == NOTHING


def test_a_folder_is_not_found(tmp_path):
    assert find(tmp_path, "graph", "abc") == NOTHING


def test_another_programs_file_is_not_found_and_not_damaged(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    (tmp_path / "t.txt").write_text("hello")
    (tmp_path / "empty").touch()

    for name in ("t.parquet", "t.txt", "empty"):
        assert find(tmp_path / name, "graph", "abc") == NOTHING


def test_a_truncated_entry_is_damaged(entry):
    entry.write_bytes(entry.read_bytes()[:-20])

    artifact, damage = find(entry, "graph", "abc")

    assert artifact is None
    assert damage.startswith(f"{entry}: is damaged")


def test_an_entry_with_a_changed_number_is_damaged(entry):
    data = entry.read_bytes()
    at = data.index(b"\x01\x00\x00\x00\x00\x00\x00\x00")
    entry.write_bytes(data[:at] + b"\x00" + data[at + 1 :])

    artifact, damage = find(entry, "graph", "abc")

    assert artifact is None
    assert damage.startswith(f"{entry}: is damaged")


def test_the_folder_given_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("D2_CACHE_DIR", "from-environment")

    assert cache_folder(Path("given")) == Path("given")
    assert cache_folder(None) == Path("from-environment")


@pytest.mark.parametrize("value", [None, ""])
def test_without_both_the_folder_is_the_users(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("D2_CACHE_DIR", raising=False)
    else:
        monkeypatch.setenv("D2_CACHE_DIR", value)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")

    folder = cache_folder(None)

    assert folder.is_absolute()
    assert "d2cli" in folder.parts


def test_entries_differ_by_kind_and_key():
    folder, key = Path("cache"), "0123456789abcdef" * 4

    paths = {
        entry_path(folder, "graph", key),
        entry_path(folder, "scores", key),
        entry_path(folder, "graph", "f" + key[1:]),
    }

    assert len(paths) == 3
    assert {path.parent for path in paths} == {folder}


def test_one_entry_is_built_by_one_at_a_time(tmp_path):
    done = []

    def build():
        with locked(tmp_path / "entry", lambda: None):
            done.append("second")

    with locked(tmp_path / "entry", lambda: None):
        other = threading.Thread(target=build)
        other.start()
        time.sleep(0.1)
        done.append("first")
    other.join()

    assert done == ["first", "second"]


def test_different_entries_are_built_at_once(tmp_path):
    done = []

    def build():
        with locked(tmp_path / "two", lambda: None):
            done.append("two")

    with locked(tmp_path / "one", lambda: None):
        other = threading.Thread(target=build)
        other.start()
        other.join(timeout=10)
        assert done == ["two"]
