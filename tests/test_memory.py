"""--max-memory, --dry-run and --verbose as a user meets them."""

import json
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_cli import assert_refused

# Runs a command, then prints the most memory it had resident, in bytes.
PEAK = """
import sys
from d2cli.__main__ import main
from d2cli.pipeline.run import peak_memory
try:
    main(sys.argv[1:])
finally:
    print("peak", peak_memory())
"""


@pytest.fixture
def vectors():
    rng = np.random.default_rng(2)
    clusters = rng.normal(size=(60, 128)) * 2
    rows = clusters[rng.integers(60, size=60_000)] + rng.normal(size=(60_000, 128))
    return rows.astype(np.float16)


@pytest.fixture
def sample(tmp_path, sample_data):
    np.save(tmp_path / "half.npy", np.load(sample_data / "embeddings.npy").astype(np.float16))
    return tmp_path / "half.npy"


def files_of(folder):
    return sorted(path.name for path in folder.rglob("*"))


# --- less memory than the vectors need ------------------------------------------------------------


def test_graphs_are_the_same_and_memory_stays_below_the_limit(tmp_path, shell, vectors):
    np.save(tmp_path / "half.npy", vectors)
    flat = pa.array(vectors.astype(np.float32).ravel())
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(flat, 128)})
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "peak.py").write_text(PEAK)
    options = "-j 1 --backend cells -k 5"
    for source in ("half.npy", "t.parquet"):
        command = f"{sys.executable} peak.py graph {source} {options}"
        free = shell(f"{command} -o free.parquet")
        assert free.returncode == 0, free.stderr
        planned = shell(f"{command} --dry-run --json").stdout.rpartition("peak")[0]
        limit = json.loads(planned)["plan"]["peak_memory_bytes"] - 10_000_000
        tight = shell(
            f"{command} -o tight.parquet --max-memory {limit} -v",
            env={"TMPDIR": str(tmp_path / "scratch")},
        )
        assert tight.returncode == 0, tight.stderr
        assert "vectors stay on disk" in tight.stderr
        assert "warning" not in tight.stderr
        assert int(tight.stdout.split()[-1]) <= limit
        assert (tmp_path / "free.parquet").read_bytes() == (tmp_path / "tight.parquet").read_bytes()
        (tmp_path / "tight.parquet").unlink()
    assert files_of(tmp_path / "scratch") == []


def test_selections_of_all_stages_are_the_same(sample, sample_data, tmp_path, d2, monkeypatch):
    args = ("prune", sample, "--difficulty", sample_data / "aum.npy", "--harder", "low")
    args = (*args, "--rate", 0.9, "-j", 1, "--metric", "cosine")
    assert d2(*args, "-o", tmp_path / "free.npy")[0] == 0
    force_to_disk(monkeypatch)
    again = d2(*args, "-o", tmp_path / "tight.npy", "--max-memory", "9G", "-v")
    assert "graph: up to date" in again[2]  # the key does not depend on it
    code, _, err = d2(*args, "-o", tmp_path / "tight.npy", "--max-memory", "9G", "-v", "--force")
    assert code == 0, err
    assert "graph: computed" in err
    assert (tmp_path / "free.npy").read_bytes() == (tmp_path / "tight.npy").read_bytes()


def force_to_disk(monkeypatch):
    """Take every limit for one that leaves no memory for vectors."""
    from dataclasses import replace

    from d2cli.pipeline import planning

    monkeypatch.setattr(planning, "with_limit", lambda plan, _: replace(plan, resident=1000))


def test_matching_by_id_on_disk_changes_nothing(tmp_path, d2, cloud, monkeypatch):
    order = np.random.default_rng(1).permutation(200)
    pq.write_table(pa.table({"id": np.arange(200), "x": np.zeros(200)}), tmp_path / "home.parquet")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(cloud[order].ravel()), 6)
    pq.write_table(pa.table({"id": order, "v": lists}), tmp_path / "v.parquet")
    args = ("graph", tmp_path / "home.parquet", "-e", tmp_path / "v.parquet", "-j", 1)
    assert d2(*args, "-o", tmp_path / "free.parquet")[0] == 0
    force_to_disk(monkeypatch)
    assert d2(*args, "-o", tmp_path / "tight.parquet", "--max-memory", "9G")[0] == 0
    assert (tmp_path / "free.parquet").read_bytes() == (tmp_path / "tight.parquet").read_bytes()


def test_a_limit_below_what_is_needed_is_refused_before_any_work(sample, tmp_path, d2):
    result = d2("graph", sample, "-o", tmp_path / "g.parquet", "--max-memory", "20M")
    assert_refused(result, 5, "half.npy: about", "--max-memory is 20 MB", "raise --max-memory")
    assert not (tmp_path / "g.parquet").exists()


def test_a_bad_size_is_refused(sample, tmp_path, d2):
    for command in (("graph",), ("prune", "--difficulty", "uniform", "--rate", "0.5")):
        result = d2(*command, sample, "-o", tmp_path / "g.parquet", "--max-memory", "4X")
        assert_refused(result, 2, "max-memory is '4X', expected a size")


def test_a_full_disk_names_the_folder(sample, tmp_path, d2, monkeypatch):
    force_to_disk(monkeypatch)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    args = ("graph", sample, "-o", tmp_path / "g.parquet", "--max-memory", "9G")
    assert_refused(d2(*args), 5, str(tmp_path / "none"), "TMPDIR")
    assert not (tmp_path / "g.parquet").exists()


def test_a_disk_that_fills_up_names_the_folder_and_leaves_nothing(tmp_path, shell, vectors):
    np.save(tmp_path / "half.npy", vectors)
    (tmp_path / "scratch").mkdir()
    command = "d2 graph half.npy -o g.parquet -j 1 --backend cells -k 5"
    planned = json.loads(shell(f"{command} --dry-run --json").stdout)["plan"]
    limit = planned["peak_memory_bytes"] - 2_000_000
    done = shell(
        f"ulimit -f 8000; {command} --max-memory {limit}",
        env={"TMPDIR": str(tmp_path / "scratch")},
    )
    assert done.returncode == 5, done.stderr
    assert (
        f"{tmp_path / 'scratch'}: the vectors cannot be kept there: File too large" in done.stderr
    )
    assert files_of(tmp_path / "scratch") == []
    assert not (tmp_path / "g.parquet").exists()


# --- plans ----------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_plan_and_writes_nothing(sample, tmp_path, d2, own_cache):
    before = files_of(tmp_path), files_of(own_cache)
    code, out, err = d2("graph", sample, "-o", tmp_path / "g.parquet", "--dry-run", "-j", 2)
    assert (code, err) == (0, "")
    first, *_, last = out.splitlines()
    assert first == (
        "plan: 2,000 rows x 384, float16 memory-mapped, 10 neighbors by l2, exact, 2 threads "
        "(estimates)"
    )
    assert re.search(r"^  exact search +[\d.]+ [MG]B  under 1 s$", out, flags=re.MULTILINE)
    assert re.search(r"^  peak, in all +[\d.]+ [MG]B  ", out, flags=re.MULTILINE)
    assert last.startswith(f"graph: miss (nothing like it in {tmp_path / 'g.parquet'}); 2,000 rows")
    assert (files_of(tmp_path), files_of(own_cache)) == before


def test_a_dry_run_says_what_is_there_already(sample, sample_data, tmp_path, d2):
    graph = ("graph", sample, "-o", tmp_path / "g.parquet")
    d2(*graph)
    assert "graph: hit if the vectors are the same" in d2(*graph, "--dry-run")[1]
    assert "graph: miss (neighbors 10 -> 4)" in d2(*graph, "--dry-run", "-k", 4)[1]
    (tmp_path / "g.parquet").write_bytes(b"something else")
    assert "graph: miss (nothing like it in" in d2(*graph, "--dry-run")[1]
    prune = ("prune", sample, "--difficulty", sample_data / "aum.npy", "--harder", "low")
    prune = (*prune, "--rate", 0.9, "-q")
    assert standing(d2(*prune, "--dry-run")) == {"graph": "miss", "score": "miss", "select": "miss"}
    d2(*prune)
    there = dict.fromkeys(("graph", "score", "select"), "hit if the vectors are the same")
    assert standing(d2(*prune, "--dry-run")) == there
    for change, reason in (
        (("-k", 4), "graph: miss (neighbors 10 -> 4)"),
        (("--rounds", 2), "score: miss (rounds 1 -> 2)"),
        (("--messages", "clamped"), "select: miss (messages signed -> clamped)"),
    ):
        out = d2(*prune, "--dry-run", *change)[1]
        assert reason in out
        d2(*prune, *change)
        assert standing(d2(*prune, "--dry-run", *change)) == there
    exclude = tmp_path / "not.npy"
    np.save(exclude, np.array([3]))
    out = d2(*prune, "--dry-run", "--exclude", exclude)[1]
    assert "select: miss (exclude added)" in out
    stages = json.loads(d2(*prune, "--dry-run", "--json")[1])["stages"]
    assert [stage["n_rows"] for stage in stages] == [2000, 2000, 200]


def standing(result):
    lines = (line for line in result[1].splitlines() if re.match("(graph|score|select): ", line))
    return {line.partition(":")[0]: line.split(": ", 1)[1].partition(" (")[0] for line in lines}


def test_a_dry_run_reads_no_vectors(tmp_path, d2):
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (200_000_000, 1024)}
        np.lib.format.write_array_header_2_0(file, header)
        file.truncate(file.tell() + 200_000_000 * 1024 * 2)
    code, out, _ = d2("graph", tmp_path / "huge.npy", "--dry-run", "--json", "--max-memory", "9T")
    assert code == 0
    plan = json.loads(out)["plan"]
    assert plan["peak_memory_bytes"] > 200_000_000 * 1024 * 4
    assert plan["resident_vector_bytes"] is None
    result = d2("graph", tmp_path / "huge.npy", "--dry-run")
    assert_refused(
        result, 5, "huge.npy: about", "(step '", "what the", "has left is", "--max-memory"
    )


@pytest.mark.parametrize("kind", ["list", "fixed", "tensor"])
def test_the_width_of_table_columns_is_known_beforehand(tmp_path, d2, cloud, kind):
    column = pa.FixedSizeListArray.from_arrays(pa.array(cloud.ravel()), 6)
    if kind == "list":
        column = column.cast(pa.list_(pa.float32()))
    if kind == "tensor":
        column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [6]), column)
    table = pa.table({"a.b": column})
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as file:
        file.write_table(table)
    for source in ("t.parquet", "t.arrow"):
        out = d2("graph", tmp_path / source, "--dry-run")[1]
        assert "200 rows x 6, float32 in a table" in out


def test_a_dry_run_refuses_what_the_run_would_refuse(sample, tmp_path, d2):
    args = ("prune", sample, "--dry-run", "--rate", 0.5)
    assert_refused(d2(*args, "--difficulty", "nothing"), 3)
    assert_refused(d2("graph", sample, "--dry-run", "-o", tmp_path / "g.txt"), 2)
    assert_refused(d2("graph", sample, "--dry-run", "--max-memory", "20M"), 5)


def test_verbose_runs_tell_the_plan_and_what_stages_took(sample, sample_data, tmp_path, d2):
    took = r"{}: {} in \d+\.\d s, peak memory so far \d+ MB|{}: {} in \d+\.\d s, .* GB"
    graph, scores = tmp_path / "g.parquet", tmp_path / "s.parquet"
    err = d2("graph", sample, "-o", graph, "-v")[2]
    assert err.startswith("plan: 2,000 rows x 384")
    assert re.search(took.format(*["graph", "computed"] * 2), err)
    err = d2("graph", sample, "-o", graph, "-v")[2]
    assert re.search(took.format(*["graph", "up to date"] * 2), err)
    difficulty = ("--difficulty", sample_data / "aum.npy", "--harder", "low")
    err = d2("score", graph, *difficulty, "-o", scores, "-v")[2]
    assert re.search(took.format(*["score", "computed"] * 2), err)
    err = d2("select", scores, "--rate", 0.5, "-o", tmp_path / "k.npy", "-v")[2]
    assert re.search(took.format(*["select", "computed"] * 2), err)
    assert d2("graph", sample, "-o", graph, "-v", "-q")[2] == ""
