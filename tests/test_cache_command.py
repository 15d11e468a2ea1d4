"""``d2 cache``: what is there, whether it is whole, and what may go."""

import contextlib
import fcntl
import json
import os
import time
from itertools import product

import numpy as np
import pytest

from d2cli.errors import ParameterError
from d2cli.files.cache import entry_path, locked
from d2cli.files.cells import cell_path, write_cell
from d2cli.files.entries import list_entries
from d2cli.quantities import age_text, parse_duration
from d2cli.stages.comparison import Cell

DAY = 86_400


@pytest.fixture
def cache(tmp_path, d2, own_cache):
    """A cache with a graph, scores, a selection and a cell, used 4, 3, 2 and 1 days ago."""
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).normal(size=(150, 4)))
    np.save(tmp_path / "aum.npy", np.random.default_rng(1).normal(size=150))
    start = ("prune", tmp_path / "emb.npy", "--difficulty", tmp_path / "aum.npy", "--rate", 0.8)
    assert d2(*start, "-o", tmp_path / "keep.npy")[0] == 0
    bits = np.ones(7, dtype=bool)
    write_cell(cell_path(own_cache, "ab" * 32), Cell("random", 0.5, 1, bits, {"knn": bits}, {}))
    for days, pattern in enumerate(("cell-*.json", "selection-*t", "scores-*t", "graph-*t"), 1):
        (found,) = own_cache.glob(pattern)
        os.utime(found, (time.time() - days * DAY - 60,) * 2)
    for lock in own_cache.glob("*.lock"):
        lock.unlink()
    return own_cache


def kinds(folder):
    return [entry.kind for entry in list_entries(folder)]


def run(d2, *arguments):
    code, out, err = d2("cache", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_all_entries_are_listed(d2, cache, tmp_path):
    found = run(d2, "ls")
    rows = [(e["kind"], e["rows"]) for e in found["entries"]]
    assert rows == [("graph", 150), ("scores", 150), ("selection", 30), ("cell", 7)]
    sizes = [path.stat().st_size for path in cache.iterdir()]
    assert found["total"] == {"entries": 4, "size_bytes": sum(sizes)}
    for entry in found["entries"]:
        assert entry["key"] in entry["file"]
        assert entry["size_bytes"] == (cache / entry["file"]).stat().st_size
    days = [entry["unused_seconds"] // DAY for entry in found["entries"]]
    assert days == [4, 3, 2, 1]
    out = d2("cache", "ls")[1]
    assert "d2, rate 0.8" in out
    assert "10 neighbors by l2" in out
    assert f"4 entries, {sum(sizes) / 1000:.0f} kB in {cache}" in out.splitlines()[-1]


def test_an_empty_or_absent_folder_has_no_entries(d2, tmp_path):
    for name in (".", "none"):
        folder = tmp_path / name
        assert run(d2, "ls", "--cache-dir", folder)["entries"] == []
        assert d2("cache", "verify", "--cache-dir", folder)[0] == 0
        assert d2("cache", "clear", "--cache-dir", folder)[0] == 0
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    assert d2("cache", "ls", "--cache-dir", tmp_path / "file")[0] == 2


def test_looking_is_no_use_and_a_hit_is_one(d2, cache, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    d2("cache", "ls")
    d2("cache", "verify")
    assert [e["unused_seconds"] // DAY for e in run(d2, "ls")["entries"]] == [4, 3, 2, 1]
    start = ("prune", tmp_path / "emb.npy", "--difficulty", tmp_path / "aum.npy", "--rate", 0.8)
    assert "graph: up to date" in d2(*start, "-o", tmp_path / "keep.npy")[2]
    ages = {e["kind"]: e["unused_seconds"] for e in run(d2, "ls")["entries"]}
    assert max(ages["graph"], ages["scores"], ages["selection"]) < 100
    assert ages["cell"] > DAY
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_whole_entries_are_verified(d2, cache):
    code, out, err = d2("cache", "verify")
    assert (code, err) == (0, "")
    assert "all whole" in out


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        *product(["graph-*", "scores-*", "selection-*", "cell-*"], ["flip", "cut", "empty"]),
        ("graph-*", "rename"),
    ],
)
def test_damaged_entries_are_named(d2, cache, pattern, how):
    (path,) = cache.glob(pattern)
    data = bytearray(path.read_bytes())
    if how == "flip":
        at = data.index(b"random") if pattern == "cell-*" else 100  # among the rows
        data[at] ^= 1
        path.write_bytes(data)
    elif how == "rename":
        other = path.with_name(path.name.replace(path.name[-20:-8], "0123456789ab"))
        path = path.rename(other)
    else:
        path.write_bytes(data[:-9] if how == "cut" else b"")
    code, out, err = d2("cache", "verify")
    assert code == 4
    assert path.name in out
    assert path.name in err
    assert "1 of 4 entries cannot be used" in err
    code, out, err = d2("cache", "verify", "--json")
    assert (code, json.loads(out)["damaged"]) == (4, 1)


def test_without_a_limit_all_entries_go(d2, cache):
    found = run(d2, "clear")
    assert found["removed"]["entries"] == 4
    assert list(cache.iterdir()) == []


def test_old_entries_go(d2, cache):
    found = run(d2, "clear", "--older-than", "2.5d")
    assert kinds(cache) == ["selection", "cell"]
    assert (found["removed"]["entries"], found["left"]["entries"]) == (2, 2)


def test_entries_go_down_to_a_size_those_longest_unused_first(d2, cache):
    sizes = [entry.size for entry in list_entries(cache)]
    run(d2, "clear", "--max-size", str(sum(sizes)))
    assert len(kinds(cache)) == 4
    run(d2, "clear", "--max-size", str(sum(sizes) - 1))
    assert kinds(cache) == ["scores", "selection", "cell"]
    run(d2, "clear", "--max-size", str(sizes[3]), "--older-than", "100d")
    assert kinds(cache) == ["cell"]


def test_a_dry_run_removes_nothing_and_says_what_it_would(d2, cache):
    before = sorted(cache.iterdir())
    code, out, _ = d2("cache", "clear", "--dry-run", "--older-than", "2.5d")
    assert code == 0
    assert "graph-" in out
    assert "cell-" not in out
    assert "would remove 2 entries" in out
    assert sorted(cache.iterdir()) == before


@pytest.mark.parametrize("dry", [True, False])
def test_what_a_running_process_makes_stays(d2, cache, dry):
    (graph,) = cache.glob("graph-*")
    writing = cache / f".{'0a' * 8}.d2tmp"
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(graph, lambda: None))
        file = stack.enter_context(writing.open("wb"))
        fcntl.flock(file, fcntl.LOCK_EX)
        found = run(d2, "clear", *(["--dry-run"] if dry else []))
        assert graph.exists()
        assert writing.exists()
    assert found["left"] == {
        "entries": 2,
        "size_bytes": graph.stat().st_size,
        "in_use": 2,
    }
    assert len(kinds(cache)) == (5 if dry else 2)


def test_what_killed_runs_left_behind_goes_in_any_case(d2, cache):
    (cache / f".{'0a' * 8}.d2tmp").write_bytes(b"x" * 10)
    entry_path(cache, "graph", "ab" * 32).with_suffix(".parquet.lock").touch()
    assert kinds(cache).count("leftover") == 2
    assert "leftover" in d2("cache", "ls")[1]
    found = run(d2, "clear", "--older-than", "900d")
    assert found["removed"] == {"entries": 2, "size_bytes": 10}
    assert kinds(cache) == ["graph", "scores", "selection", "cell"]


def test_files_of_others_are_never_touched(d2, cache, tmp_path):
    key = "c" * 40
    names = [
        "notes.txt",
        "graph.parquet",
        f"graph-{key}.parquet.bak",
        f"graph-{key[:-1]}.parquet",
        f"GRAPH-{key}.parquet",
        f"difficulty-{key}.csv",
        f"cell-{key}.json.lock",
        ".hidden.d2tmp",
        "x.lock",
    ]
    for name in names:
        (cache / name).write_text("mine")
    (cache / f"scores-{key}.parquet").mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (cache / f"selection-{key}.parquet").symlink_to(tmp_path / "elsewhere")
    assert d2("cache", "verify")[0] == 0
    run(d2, "clear")
    names += [f"scores-{key}.parquet", f"selection-{key}.parquet"]
    assert sorted(path.name for path in cache.iterdir()) == sorted(names)
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_run_after_clearing_makes_everything_again(d2, cache, tmp_path):
    before = (tmp_path / "keep.npy").read_bytes()
    d2("cache", "clear", "-q")
    start = ("prune", tmp_path / "emb.npy", "--difficulty", tmp_path / "aum.npy", "--rate", 0.8)
    _, _, err = d2(*start, "-o", tmp_path / "keep.npy")
    assert "up to date" not in err
    assert (tmp_path / "keep.npy").read_bytes() == before


def test_names_from_the_data_are_harmless(d2, tmp_path, own_cache):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    name = "a\x1b[31m\x9bu\u202em"
    table = pa.table({"e": list(rng.normal(size=(50, 3))), name: rng.normal(size=50)})
    pq.write_table(table, tmp_path / "t.parquet")
    start = ("prune", tmp_path / "t.parquet", "--difficulty", name, "--harder", "high")
    assert d2(*start, "--rate", 0.5, "-q", "-o", tmp_path / "k.parquet")[0] == 0
    for option in ((), ("--json",)):
        out = d2("cache", "ls", *option)[1]
        assert "[31m" in out
        assert all(c.isprintable() or c == "\n" for c in out)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        ("12h", 43_200),
        ("30d", 30 * DAY),
        ("2w", 14 * DAY),
        (" .5 D", 43_200),
    ],
)
def test_durations_are_read(text, seconds):
    assert parse_duration("older-than", text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1e3d", "1d2h", "٣d", "9" * 20 + "d"])
def test_what_is_no_duration_is_refused(d2, text):
    with pytest.raises(ParameterError, match="older-than"):
        parse_duration("older-than", text)
    assert d2("cache", "clear", f"--older-than={text}")[0] == 2


def test_a_limit_that_cannot_be_read_removes_nothing(d2, cache):
    for option in ("--max-size=0", "--max-size=many", "--older-than=soon"):
        assert d2("cache", "clear", option)[0] == 2
    assert len(kinds(cache)) == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (40 * DAY + 1, "40 d")],
)
def test_ages_are_rounded_down(seconds, text):
    assert age_text(seconds) == text
