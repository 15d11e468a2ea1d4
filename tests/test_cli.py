"""The command line as a user meets it: exit codes, stdout, stderr."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def table(tmp_path):
    """train.parquet with ids, labels, embeddings and scores of 90 rows."""
    return write_train(tmp_path / "train.parquet")


def write_train(path):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(90, 5)).astype(np.float32)
    columns = {
        "id": [f"row-{i}" for i in range(90)],
        "label": rng.choice(["cat", "dog", "owl"], 90),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 5),
        "aum": rng.normal(size=90),
        "quality": rng.random(90),
    }
    pq.write_table(pa.table(columns), path, row_group_size=20)
    return path


def assert_refused(result, code, *words):
    """One error line, one hint, no traceback, nothing on stdout."""
    found, out, err = result
    lines = err.strip().splitlines()
    assert found == code, err
    assert out == ""
    assert lines[0].startswith("error: ")
    assert len(lines) == 2, err
    assert lines[1].startswith("hint: ")
    for word in words:
        assert word in err


# --- success --------------------------------------------------------------------------------------


def test_ids_go_to_stdout_and_everything_else_to_stderr(table, d2):
    code, out, err = d2("prune", table, "--difficulty", "aum", "--rate", 0.9)
    assert code == 0
    assert len(out.splitlines()) == 9
    assert all(line.startswith("row-") for line in out.splitlines())
    assert err.splitlines()[0] == "keeping 9 of 90 rows (pruning rate 0.90)"
    assert "difficulty: aum, harder when low" in err
    assert "random" in err


def test_quiet_prints_nothing_but_errors(table, d2):
    args = ("prune", table, "--difficulty", "aum", "-q")
    assert d2(*args, "--rate", 0.9)[2] == ""
    assert_refused(d2(*args, "--rate", 9), 2)


def test_every_output_format_holds_the_same_rows(table, tmp_path, d2):
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.9)
    for suffix in ("parquet", "npy", "txt", "csv", "jsonl"):
        assert d2(*args, "-o", tmp_path / f"k.{suffix}")[0] == 0
    kept = pq.read_table(tmp_path / "k.parquet")
    rows, ids = kept["row"].to_pylist(), kept["id"].to_pylist()
    assert rows == sorted(rows)
    loaded = np.load(tmp_path / "k.npy")
    assert (loaded.dtype, loaded.tolist()) == (np.int64, rows)
    assert (tmp_path / "k.txt").read_text().split() == ids
    records = [json.loads(line) for line in (tmp_path / "k.jsonl").read_text().splitlines()]
    assert records == kept.to_pylist()
    assert len((tmp_path / "k.csv").read_text().splitlines()) == 10


def test_order_rank_lists_rows_as_they_were_picked(table, tmp_path, d2):
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.9)
    d2(*args, "-o", tmp_path / "k.parquet")
    d2(*args, "-o", tmp_path / "k.npy", "--order", "rank")
    by_rank = pq.read_table(tmp_path / "k.parquet").sort_by("rank")["row"].to_pylist()
    assert np.load(tmp_path / "k.npy").tolist() == by_rank
    assert_refused(d2(*args, "-o", tmp_path / "k.parquet", "--order", "rank"), 2, "sorted by row")


def test_json_goes_to_stdout_alone(table, tmp_path, d2):
    code, out, _ = d2("prune", table, "--difficulty", "aum", "--rate", 0.9, "--json")
    assert code == 0
    assert json.loads(out)["rows"]["kept"] == 9
    code, out, _ = d2("graph", table, "-o", tmp_path / "g.parquet", "--json")
    assert json.loads(out)["kind"] == "graph"
    assert_refused(d2("graph", table, "--json"), 2, "-o")


def test_group_and_within_keep_every_class(table, tmp_path, d2):
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.8, "-o", tmp_path / "k.parquet")
    d2(*args, "--within", "label", "--group", "label", "--balance", "uniform")
    kept = pq.read_table(tmp_path / "k.parquet")
    assert set(kept.column_names) >= {"row", "id", "rank", "group"}
    counts = {v["values"]: v["counts"] for v in kept["group"].value_counts().to_pylist()}
    assert counts == {"cat": 6, "dog": 6, "owl": 6}


def test_include_and_exclude_take_ids(table, tmp_path, d2):
    (tmp_path / "in.txt").write_text("row-50\nrow-3\n")
    (tmp_path / "out.txt").write_text("row-4\n")
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.5, "-o", tmp_path / "k.parquet")
    code, _, _ = d2(*args, "--include", tmp_path / "in.txt", "--exclude", tmp_path / "out.txt")
    kept = pq.read_table(tmp_path / "k.parquet").sort_by("rank")["id"].to_pylist()
    assert code == 0
    assert kept[:2] == ["row-50", "row-3"]
    assert "row-4" not in kept


def test_difficulty_of_another_file_is_joined_by_id(table, tmp_path, d2):
    source = pq.read_table(table)
    shuffled = source.select(["id", "aum"]).take(np.random.default_rng(0).permutation(90))
    pq.write_table(shuffled, tmp_path / "scores.parquet")
    args = ("--rate", 0.8, "--harder", "low")
    _, own, _ = d2("prune", table, "--difficulty", "aum", *args)
    _, joined, _ = d2("prune", table, "--difficulty", tmp_path / "scores.parquet", *args)
    assert own == joined


def test_a_path_with_brackets_and_spaces_is_printed_as_it_is(tmp_path, d2):
    path = tmp_path / "[train] [bold] a.npy"
    np.save(path, np.full((3, 2), np.nan))
    assert_refused(d2("graph", path, "-o", tmp_path / "g.parquet"), 3, str(path), "row 0 holds NaN")


def test_uniform_difficulty_needs_no_direction(table, d2):
    code, out, err = d2("prune", table, "--difficulty", "uniform", "--rate", 0.8)
    assert code == 0
    assert len(out.split()) == 18
    assert "difficulty: uniform" in err


@pytest.mark.parametrize("preset", ["default", "paper", "reference"])
def test_presets_run(table, d2, preset):
    args = ("--preset", preset, "--messages", "clamped", "--ties", "row", "--rounds", 2)
    code, out, _ = d2("prune", table, "--difficulty", "aum", "--rate", 0.5, *args)
    assert code == 0
    assert len(out.split()) == 45


def test_a_missed_recall_target_is_said(tmp_path, d2, monkeypatch):
    from d2cli.stages import hnsw

    monkeypatch.setattr(hnsw, "LAST_EFFORT", 24)
    np.save(tmp_path / "e.npy", np.random.default_rng(0).normal(size=(3000, 60)))
    args = ("--backend", "hnsw", "--recall", 0.999, "-o", tmp_path / "g.parquet")
    code, _, err = d2("graph", tmp_path / "e.npy", *args)
    assert code == 0
    assert "warning: recall@10 is 0." in err
    assert "the target 0.999 was not reached; hnsw looked at 24 candidates a row" in err
    assert "below the target 0.999" in err
    cells = ("--backend", "cells", "--recall", 1, "-o", tmp_path / "c.parquet")
    monkeypatch.setattr("d2cli.stages.cells.CellSource.try_harder", lambda _: False)
    code, _, err = d2("graph", tmp_path / "e.npy", *cells)
    assert code == 0
    assert "4 cells a row were searched; --backend fast goes on with hnsw" in err


def test_too_few_rows_for_k_neighbors_is_a_warning(tmp_path, d2):
    np.save(tmp_path / "e.npy", np.ones((3, 2)))
    code, _, err = d2("graph", tmp_path / "e.npy", "-o", tmp_path / "g.parquet")
    assert code == 0
    assert "warning: 3 of 3 rows have fewer than 10 other rows" in err


def test_prune_hardest_auto_says_what_it_cut(tmp_path, d2):
    rng = np.random.default_rng(0)
    wrong = rng.random(2000) < 0.1
    np.save(tmp_path / "e.npy", rng.normal(size=(2000, 4)))
    np.save(tmp_path / "aum.npy", rng.normal(4, 1, 2000) - 8 * wrong)
    args = ("--difficulty", tmp_path / "aum.npy", "--rate", 0.5, "--prune-hardest", "auto")
    code, out, err = d2("prune", tmp_path / "e.npy", *args)
    assert code == 0
    assert wrong[[int(row) for row in out.split()]].mean() < 0.01
    assert "prune-hardest: " in err
    assert "a hump of their own" in err
    np.save(tmp_path / "loss.npy", np.arange(2000.0))
    result = d2("prune", tmp_path / "e.npy", "--difficulty", tmp_path / "loss.npy", *args[2:])
    assert_refused(result, 2, "needs a margin")


# --- pipes ----------------------------------------------------------------------------------------


def test_a_pipe_of_three_equals_prune(table, shell):
    pipe = shell(
        "d2 graph train.parquet | d2 score --difficulty train.parquet::aum --rate 0.9 "
        "| d2 select --rate 0.9"
    )
    whole = shell("d2 prune train.parquet --difficulty aum --rate 0.9")
    assert pipe.returncode == 0
    assert pipe.stdout == whole.stdout
    assert "note:" not in pipe.stderr


def test_source_may_come_from_standard_input(table, shell):
    piped = shell("d2 prune --difficulty aum --rate 0.9 < train.parquet".replace("<", "- <"))
    named = shell("d2 prune train.parquet --difficulty aum --rate 0.9")
    assert piped.returncode == 0
    assert piped.stdout == named.stdout


def test_head_ends_a_pipe_quietly(table, shell):
    done = shell("set -o pipefail; d2 prune train.parquet --difficulty aum --rate 0 -q | head -1")
    assert done.returncode == 0
    assert done.stdout == "row-0\n"
    assert done.stderr == ""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with all that commands write."""
    from d2cli.__main__ import main

    folder = tmp_path_factory.mktemp("results")
    write_train(folder / "train.parquet")
    data = f"{folder}/train.parquet"
    for line in (
        f"graph {data} -o {folder}/graph.parquet",
        f"score {folder}/graph.parquet --difficulty {data}::aum -o {folder}/scores.parquet",
        f"select {folder}/scores.parquet --rate 0.5 -o {folder}/keep.parquet",
        f"select {folder}/scores.parquet --rate 0.9 -o {folder}/other.parquet",
        f"prune {data} --difficulty aum --rate 0.5 -o {folder}/any.npy --cache-dir {folder}/c",
    ):
        with pytest.raises(SystemExit) as caught:
            main([*line.split(), "-q"])
        assert caught.value.code == 0
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "check --help",
        "graph train.parquet -q",
        "graph train.parquet -q -o /dev/stdout",
        "graph train.parquet -q --json -o g.parquet",
        "graph train.parquet --dry-run",
        "difficulty --from-graph graph.parquet -q",
        "score graph.parquet --difficulty train.parquet::aum -q",
        "select scores.parquet --rate 0.5 -q -o -",
        "select scores.parquet --rate 0.5 -q -o /dev/stdout",
        "select scores.parquet --rate 0.5 -q --json",
        "prune train.parquet --difficulty aum --rate 0.5 -q",
        "prune train.parquet --difficulty aum --rate 0.5 --dry-run --json",
        "export keep.parquet --source train.parquet -q -o - --format jsonl",
        "export keep.parquet --source train.parquet -q -o - --format ids",
        "export keep.parquet --source train.parquet -q -o - --format rows",
        "export keep.parquet --source train.parquet -q -o /dev/stdout --format jsonl",
        "export keep.parquet --source train.parquet -q -o out.npy --json",
        "explain keep.parquet row-1 --scores scores.parquet --graph graph.parquet",
        "explain keep.parquet row-1 --scores scores.parquet --graph graph.parquet --json",
        "diff keep.parquet other.parquet",
        "diff keep.parquet other.parquet --json",
        "check train.parquet --difficulty aum -q",
        "check train.parquet --difficulty aum -q --json",
        "report keep.parquet --scores scores.parquet --graph graph.parquet -q",
        "report keep.parquet --scores scores.parquet --graph graph.parquet -q --json",
        "sweep train.parquet --difficulty aum --rates 0.5 -q",
        "compare train.parquet --difficulty aum --labels label --rates 0.5 --seeds 1 -q --json",
        "cache ls --cache-dir c",
        "cache ls --cache-dir c --json",
        "cache verify --cache-dir c",
        "cache clear --dry-run --cache-dir c",
    ],
)
def test_a_reader_that_leaves_is_no_error(results, shell, line):
    done = shell(f"set -o pipefail; d2 {line} | true", cwd=results)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_command_does_after_its_reader_left_is_done(results, shell):
    gate = "d2 diff keep.parquet other.parquet --max-change 0.1"
    done = shell(f"set -o pipefail; {gate} | true", cwd=results)
    assert done.returncode == 6
    assert "--max-change 0.1" in done.stderr

    select = "d2 select scores.parquet --rate 0.7 -q --report late.json"
    for output in ("", " -o /dev/stdout"):
        done = shell(f"set -o pipefail; {select}{output} | true", cwd=results)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads((results / "late.json").read_bytes())["rows"]["kept"] == 27
        (results / "late.json").unlink()


def test_an_export_ends_when_its_reader_leaves(tmp_path, shell):
    rows = 200_000
    save_table(tmp_path / "long.parquet", x=np.arange(rows))
    np.save(tmp_path / "all.npy", np.arange(rows))
    export = "d2 export all.npy --source long.parquet --format jsonl -o -"
    done = shell(f"set -o pipefail; {export} | head -1")
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"x": 0}\n', "")


def test_a_failure_upstream_is_an_error_downstream(table, shell):
    done = shell("d2 graph missing.npy | d2 score --difficulty aum.npy -o s.parquet")
    assert done.returncode == 3
    assert "standard input is empty" in done.stderr


def test_piped_output_has_no_ansi_codes(table, shell):
    forced = {"FORCE_COLOR": "1", "GITHUB_ACTIONS": "true", "CLICOLOR_FORCE": "1"}
    done = shell(
        "d2 prune train.parquet --difficulty aum --rate 0.9; d2 --help; d2 graph --nope", env=forced
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert "error: no such option: --nope" in done.stderr


def test_a_full_device_is_exit_5(table, shell):
    for unbuffered in ("", "1"):
        line = f"PYTHONUNBUFFERED={unbuffered} d2 prune train.parquet --difficulty aum --rate 0.5"
        done = shell(f"{line} > /dev/full")
        assert done.returncode == 5
        assert "standard output: cannot be written" in done.stderr
    assert shell("PYTHONUNBUFFERED= d2 --help > /dev/full").returncode == 5


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--rate", 0.5], 2, ["missing option '--difficulty'"]),
        (["--difficulty", "aum"], 2, ["exactly one of rate and keep"]),
        (["--difficulty", "aum", "--rate", 0.5, "--keep", 3], 2, ["exactly one"]),
        (["--difficulty", "aum", "--rate", 90], 2, ["--rate 0.9"]),
        (["--difficulty", "aum", "--rate", "nan"], 2, ["expected 0 to 1"]),
        (["--difficulty", "aum", "--keep", 91], 2, ["there are 90 rows"]),
        (["--difficulty", "aum", "--rate", 1], 2, ["keeps none"]),
        (["--difficulty", "quality", "--rate", 0.5], 2, ["'quality'", "--harder"]),
        (["--difficulty", "nope", "--rate", 0.5], 3, ["no column 'nope'", "aum (double)"]),
        (["--difficulty", "label", "--rate", 0.5], 3, ["train.parquet::label", "string"]),
        (["--difficulty", "aum", "--rate", 0.5, "-e", "aum"], 3, ["aum", "lists of numbers"]),
        (["--difficulty", "aum", "--rate", 0.5, "-e", "a", "-e", "b"], 3, ["no column 'a'"]),
        (["--difficulty", "aum", "--rate", 0.5, "-k", 0], 2, ["neighbors is 0"]),
        (["--difficulty", "aum", "--rate", 0.5, "--gamma-reverse", "x"], 2, ["'x'", "auto"]),
        (["--difficulty", "aum", "--rate", 0.5, "--gamma-reverse", -1], 2, ["gamma-reverse is -1"]),
        (["--difficulty", "aum", "--rate", 0.5, "--bandwidth", 0], 2, ["bandwidth is 0"]),
        (["--difficulty", "aum", "--rate", 0.5, "--metric", "l3"], 2, ["--metric", "cosine"]),
        (["--difficulty", "aum", "--rate", 0.5, "--prune-hardest", 0.9], 2, ["only 9 may be"]),
        (["--difficulty", "aum", "--rate", 0.5, "-o", "k.pdf"], 2, ["k.pdf", ".jsonl"]),
        (["--difficulty", "aum", "--rate", 0.5, "--report", "r.pdf"], 2, ["r.pdf", ".md"]),
        (["--difficulty", "aum", "--rate", 0.5, "-o", "none/k.npy"], 2, ["there is no folder"]),
        (["--difficulty", "aum", "--rate", 0.5, "--order", "up"], 2, ["order is 'up'"]),
    ],
)
def test_wrong_parameters_are_one_line_and_a_hint(table, d2, monkeypatch, arguments, code, words):
    monkeypatch.chdir(table.parent)
    assert_refused(d2("prune", "train.parquet", *arguments), code, *words)


def bad_vectors(defect):
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
    if defect == "null row":
        rows[2] = None
    if defect == "null item":
        rows[2] = [1.0, None]
    if defect == "ragged":
        rows[2] = [1.0]
    if defect == "NaN":
        rows[2] = [1.0, np.nan]
    if defect == "infinite":
        rows[2] = [np.inf, 1.0]
    if defect == "zero vector":
        rows[2] = [0.0, 0.0]
    return pa.array(rows, pa.list_(pa.float32()))


@pytest.mark.parametrize(
    "defect", ["null row", "null item", "ragged", "NaN", "infinite", "zero vector"]
)
def test_bad_vectors_name_file_column_row_and_count(tmp_path, d2, defect):
    pq.write_table(pa.table({"[emb]": bad_vectors(defect)}), tmp_path / "x.parquet")
    out = tmp_path / "g.parquet"
    out.write_bytes(b"old")
    result = d2("graph", tmp_path / "x.parquet", "--metric", "cosine", "-o", out)
    assert_refused(result, 3, "x.parquet::[emb]", "row 2", "1 row in all", "hint:")
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, None, 2.0, None], ["aum", "row 1 is null", "2 rows"]),
        ([1.0, 2.0, np.nan, 1.0], ["aum", "row 2 is NaN", "1 row in all"]),
        ([1.0, 2.0, np.inf, 1.0], ["aum", "row 2 is infinite"]),
    ],
)
def test_bad_difficulty_names_file_column_row_and_count(tmp_path, d2, values, words):
    table = pa.table({"e": bad_vectors(""), "aum": values})
    pq.write_table(table, tmp_path / "x.parquet")
    result = d2("prune", tmp_path / "x.parquet", "--difficulty", "aum", "--rate", 0.5)
    assert_refused(result, 3, "x.parquet", *words)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", "b", "a", "a"], ["row 2 repeats the id 'a'", "2 rows in all"]),
        (["a", None, "c", "d"], ["row 1 is null"]),
    ],
)
def test_bad_ids_are_refused(tmp_path, d2, ids, words):
    pq.write_table(pa.table({"id": ids, "e": bad_vectors("")}), tmp_path / "x.parquet")
    out = ("-o", tmp_path / "g.parquet")
    assert_refused(d2("graph", tmp_path / "x.parquet", *out), 3, "x.parquet::id", *words)
    assert d2("graph", tmp_path / "x.parquet", *out, "--id", "none")[0] == 0


def test_several_candidates_are_listed(tmp_path, d2):
    pq.write_table(pa.table({"a": bad_vectors(""), "b": bad_vectors("")}), tmp_path / "x.parquet")
    result = d2("graph", tmp_path / "x.parquet", "-o", tmp_path / "g.parquet")
    assert_refused(result, 3, "2 columns could be the embedding", "a (", "b (", "--embedding")


def test_lengths_that_differ_are_refused(table, tmp_path, d2):
    np.save(tmp_path / "s.npy", np.ones(89))
    args = ("--difficulty", tmp_path / "s.npy", "--harder", "high", "--rate", 0.5)
    assert_refused(d2("prune", table, *args), 3, "s.npy: has 89 rows", "has 90")


@pytest.mark.parametrize("name", ["missing.parquet", "empty.parquet", "text.parquet", "."])
def test_sources_that_are_none_are_refused(tmp_path, d2, name):
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "text.parquet").write_text("a,b\n1,2\n")
    args = ("--difficulty", "uniform", "--rate", 0.5)
    assert_refused(d2("prune", tmp_path / name, *args), 3, name if name != "." else str(tmp_path))


def test_a_pickle_in_an_npy_file_is_refused(tmp_path, d2):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert_refused(d2("graph", tmp_path / "x.npy", "-o", tmp_path / "g.parquet"), 3, "x.npy")


@pytest.mark.parametrize("way", ["same", "dot", "symlink", "hardlink"])
def test_an_output_that_is_an_input_is_refused(table, tmp_path, d2, way):
    before = table.read_bytes()
    place = {
        "same": table,
        "dot": tmp_path / "." / "train.parquet",
        "symlink": tmp_path / "link.parquet",
        "hardlink": tmp_path / "hard.parquet",
    }[way]
    if way == "symlink":
        place.symlink_to(table)
    if way == "hardlink":
        place.hardlink_to(table)
    for args in (
        ("graph", table, "-o", place),
        ("prune", table, "--difficulty", "aum", "--rate", 0.5, "-o", place),
    ):
        assert_refused(d2(*args), 2, "is an input of this command")
    assert table.read_bytes() == before


def test_the_graph_behind_the_scores_is_an_input_too(table, tmp_path, d2):
    d2("graph", table, "-o", tmp_path / "g.parquet")
    args = ("--difficulty", f"{table}::aum", "-o", tmp_path / "s.parquet")
    d2("score", tmp_path / "g.parquet", *args)
    result = d2("select", tmp_path / "s.parquet", "--rate", 0.5, "-o", tmp_path / "g.parquet")
    assert_refused(result, 2, "is an input")


def test_the_sources_behind_artifacts_are_not_destroyed(tmp_path, d2):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "e.npy", rng.normal(size=(30, 3)))
    np.save(tmp_path / "aum.npy", rng.normal(size=30))
    vectors = pa.FixedSizeListArray.from_arrays(np.load(tmp_path / "e.npy").ravel(), 3)
    gaps = [None, *range(29)]  # a column that no stage could read must not end the search
    pq.write_table(pa.table({"x": gaps, "e": vectors}), tmp_path / "train.parquet")
    d2("graph", tmp_path / "e.npy", "-o", tmp_path / "g.parquet")
    score = ("score", tmp_path / "g.parquet", "--difficulty", tmp_path / "aum.npy", "-o")
    assert_refused(d2(*score, tmp_path / "train.parquet"), 2, "would be destroyed")
    d2(*score, tmp_path / "s.parquet")
    for name in ("e.npy", "aum.npy", "train.parquet"):
        before = (tmp_path / name).read_bytes()
        code, _, err = d2("select", tmp_path / "s.parquet", "--rate", 0.5, "-o", tmp_path / name)
        assert code == 2
        assert f"{name}: holds data that" in err
        assert (tmp_path / name).read_bytes() == before
    np.save(tmp_path / "other.npy", np.ones((30, 3)))
    args = ("--rate", 0.5, "-o", tmp_path / "other.npy")
    assert d2("select", tmp_path / "s.parquet", *args)[0] == 0


def test_report_and_rows_may_not_be_one_file(table, tmp_path, d2):
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.5)
    (tmp_path / "r.json").write_text("{}")
    (tmp_path / "k.txt").symlink_to(tmp_path / "r.json")
    result = d2(*args, "-o", tmp_path / "k.txt", "--report", tmp_path / "r.json")
    assert_refused(result, 2, "r.json")


def test_artifacts_of_the_wrong_kind_are_exit_4(table, tmp_path, d2):
    d2("graph", table, "-o", tmp_path / "g.parquet")
    assert_refused(d2("select", tmp_path / "g.parquet", "--rate", 0.5), 4, "is a graph file")
    assert_refused(d2("select", table, "--rate", 0.5), 4, "is not written by d2")
    args = ("--difficulty", "uniform", "-o", tmp_path / "s.parquet")
    assert_refused(d2("score", tmp_path / "missing.parquet", *args), 3, "no such file")


def test_a_damaged_artifact_is_exit_4(table, tmp_path, d2):
    graph = tmp_path / "g.parquet"
    d2("graph", table, "-o", graph)
    whole = graph.read_bytes()
    args = ("--difficulty", "uniform", "-o", tmp_path / "s.parquet")
    for damaged in (whole[:-50], whole[:200], whole[: len(whole) // 2] + b"\0" * 9, whole + b"x"):
        graph.write_bytes(damaged)
        assert_refused(d2("score", graph, *args), 4, "g.parquet")


def save_table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("ids", [[b"a", b"b", b"c", b"d"], [[1], [2], [3], [4]]])
def test_an_id_column_that_cannot_be_one_is_not_left_out_silently(tmp_path, d2, ids):
    path = save_table(tmp_path / "x.parquet", id=ids, e=bad_vectors(""))
    args = ("graph", path, "-e", "e", "-o", tmp_path / "g.parquet")
    assert_refused(d2(*args), 3, "x.parquet::id", "--id none")
    assert d2(*args, "--id", "none")[0] == 0


def test_two_id_columns_are_refused_everywhere(tmp_path, d2):
    vectors = bad_vectors("")
    table = pa.table([["a", "b", "c", "d"], ["d", "c", "b", "a"], vectors], names=["id", "id", "e"])
    pq.write_table(table, tmp_path / "x.parquet")
    args = ("-o", tmp_path / "g.parquet")
    assert_refused(d2("graph", tmp_path / "x.parquet", *args), 3, "several columns of this name")
    good = save_table(tmp_path / "y.parquet", id=["a", "b", "c", "d"], e=vectors)
    prune = ("prune", good, "--difficulty", "uniform", "--rate", 0.5)
    result = d2(*prune, "--include", tmp_path / "x.parquet")
    assert_refused(result, 3, "several columns of this name")


@pytest.mark.parametrize("kind", ["array", "list"])
def test_vectors_of_width_zero_are_refused(tmp_path, d2, kind):
    path = tmp_path / ("w.npy" if kind == "array" else "w.parquet")
    if kind == "array":
        np.save(path, np.empty((3, 0), np.float32))
    else:
        save_table(path, e=pa.array([[], [], []], pa.list_(pa.float32())))
    assert_refused(d2("graph", path, "-o", tmp_path / "g.parquet"), 3, path.name, "width 0")


def test_a_damaged_archive_is_exit_3(tmp_path, d2):
    np.savez_compressed(tmp_path / "x.npz", e=np.random.default_rng(0).normal(size=(50, 4)))
    whole = (tmp_path / "x.npz").read_bytes()
    for at in range(0, len(whole), 7):
        data = bytearray(whole)
        data[at] ^= 0xFF
        (tmp_path / "x.npz").write_bytes(data)
        code, _, err = d2("graph", tmp_path / "x.npz", "-o", tmp_path / "g.parquet")
        assert code in (0, 3), (at, err)
        assert "Traceback" not in err


def test_a_damaged_npy_header_is_exit_3(tmp_path, d2):
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    whole = (tmp_path / "x.npy").read_bytes()
    for at in range(128):
        data = bytearray(whole)
        data[at] ^= 0x20
        (tmp_path / "x.npy").write_bytes(data)
        code, _, err = d2("graph", tmp_path / "x.npy", "-o", tmp_path / "g.parquet")
        assert code in (0, 3), (at, err)


def test_names_that_are_too_long_are_refused(table, d2):
    args = ("prune", table, "--rate", 0.5)
    assert_refused(d2(*args, "--difficulty", "x" * 300), 3, "no column")
    long = ("--difficulty", "aum", "-o", table.parent / f"{'x' * 300}.npy")
    assert_refused(d2(*args, *long), 2, "cannot be a file name")


def test_a_name_as_long_as_the_system_takes_is_written(table, d2):
    path = table.parent / f"{'文' * 80}.npy"
    assert d2("prune", table, "--difficulty", "aum", "--rate", 0.5, "-o", path)[0] == 0
    assert path.exists()


def test_written_ids_are_read_back_as_they_are(tmp_path, d2):
    ids = ["a\u2028b", "a\x0bc", "c d", " e"]
    path = save_table(tmp_path / "x.parquet", id=ids, e=bad_vectors(""))
    args = ("prune", path, "--difficulty", "uniform", "--keep", 4)
    assert d2(*args, "-o", tmp_path / "k.txt")[0] == 0
    code, out, _ = d2(*args, "--include", tmp_path / "k.txt", "--order", "rank")
    assert code == 0
    assert out.removesuffix("\n").split("\n") == ids


def test_ids_that_would_be_lost_in_lines_are_refused(tmp_path, d2):
    for bad in ("", "a\nb"):
        path = save_table(tmp_path / "x.parquet", id=["a", bad, "c", "d"], e=bad_vectors(""))
        args = ("prune", path, "--difficulty", "uniform", "--keep", 4, "-k", 2)
        assert_refused(d2(*args, "-o", tmp_path / "k.txt"), 3, repr(bad))


def test_groups_of_big_endian_numbers_are_read(tmp_path, d2):
    np.save(tmp_path / "e.npy", np.arange(8.0).reshape(4, 2))
    np.save(tmp_path / "label.npy", np.array([0, 1, 0, 1], ">i8"))
    args = ("--within", tmp_path / "label.npy", "-o", tmp_path / "g.parquet")
    assert d2("graph", tmp_path / "e.npy", *args)[0] == 0


def test_a_mask_is_not_taken_for_row_numbers(tmp_path, d2):
    np.save(tmp_path / "e.npy", np.arange(8.0).reshape(4, 2))
    np.save(tmp_path / "mask.npy", np.array([True, False]))
    args = ("--difficulty", "uniform", "--rate", 0.5, "--include", tmp_path / "mask.npy")
    assert_refused(d2("prune", tmp_path / "e.npy", *args), 3, "mask.npy: is bool")


def test_a_file_on_standard_input_is_an_input_too(tmp_path, shell):
    np.save(tmp_path / "e.npy", np.random.default_rng(0).normal(size=(20, 3)))
    np.save(tmp_path / "aum.npy", np.arange(20.0))
    before = (tmp_path / "e.npy").read_bytes()
    (tmp_path / "in.parquet").write_bytes(before)
    done = shell("d2 graph -o in.parquet < in.parquet")
    assert done.returncode == 2
    assert (tmp_path / "in.parquet").read_bytes() == before
    line = "d2 prune e.npy --difficulty - --harder high --rate 0.5 -o aum.npy < aum.npy"
    assert shell(line).returncode == 2
    assert np.load(tmp_path / "aum.npy").shape == (20,)


def test_keep_implies_the_rate_that_gammas_follow(table, tmp_path, d2):
    args = ("prune", table, "--difficulty", "aum", "--json")
    by_keep = json.loads(d2(*args, "--keep", 9)[1])
    by_rate = json.loads(d2(*args, "--rate", 0.9)[1])
    assert by_keep["weights"]["forward"]["gamma"] == pytest.approx(1 / 0.9**2 - 1)
    assert by_keep["coverage"] == by_rate["coverage"]


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_a_pipe_with_a_name_is_written_to_directly(table, tmp_path, d2, option):
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(fifo.read_bytes)
        more = ("-o", tmp_path / "k.npy") if option == "--report" else ()
        code, _, err = d2("prune", table, "--difficulty", "aum", "--rate", 0.5, option, fifo, *more)
        if code:  # let the reader go
            fifo.write_bytes(b"")
        text = read.result(timeout=20)
    assert code == 0, err
    assert fifo.is_fifo()
    assert len(text.split()) == 45 if option == "-o" else json.loads(text)["rows"]["kept"] == 45


def test_the_null_device_takes_rows_and_stays(table, d2):
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.5, "-o", "/dev/null")
    assert d2(*args)[0] == 0
    assert Path("/dev/null").is_char_device()


def test_rows_and_artifacts_go_to_dev_stdout(table, shell):
    graph = "d2 graph train.parquet -o /dev/stdout | cat > g.parquet"
    select = "d2 select s.parquet --rate 0.9 -q -o /dev/stdout | cat"
    done = shell(f"{graph}; d2 score g.parquet --difficulty uniform -o s.parquet && {select}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 9


def test_closed_streams_are_no_obstacle(table, tmp_path, shell):
    prune = "d2 prune train.parquet --difficulty aum --rate 0.5 -o"
    done = shell(f"{prune} a.npy >&-; echo $?; {prune} b.npy 2>&-; echo $?; d2 --help >&-; echo $?")
    assert done.stdout.split() == ["0", "0", "0"], done.stderr
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.parametrize(
    "extreme",
    [
        ("--bandwidth", 1e-300, "--gamma-reverse", 0),
        ("--bandwidth", 1e-300, "--gamma-forward", 0),
        ("--gamma-forward", 1e308),
        ("--bandwidth", 1e308),
    ],
)
def test_extreme_parameters_are_computed_not_warned_about(table, d2, extreme):
    code, out, err = d2("prune", table, "--difficulty", "aum", "--rate", 0.5, *extreme)
    assert code == 0
    assert len(set(out.split())) == 45
    assert "Warning" not in err


def test_text_that_is_not_utf8_names_the_row(tmp_path, d2):
    raw = pa.array([b"a", b"b", b"\xff", b"d"], pa.binary())
    ids = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    path = save_table(tmp_path / "x.parquet", id=ids, e=bad_vectors(""))
    args = ("prune", path, "--difficulty", "uniform", "--rate", 0.5)
    assert_refused(d2(*args), 3, "x.parquet::id: row 2 is not valid UTF-8 (1 row in all)")


def test_hnsw_of_equal_rows_has_full_recall(tmp_path, d2):
    np.save(tmp_path / "e.npy", np.ones((50, 4)))
    args = ("graph", tmp_path / "e.npy", "--backend", "hnsw", "-o", tmp_path / "g.parquet")
    code, _, err = d2(*args)
    assert code == 0
    assert "warning" not in err


def test_an_unknown_id_column_is_refused_by_score(table, tmp_path, d2):
    d2("graph", table, "-o", tmp_path / "g.parquet")
    args = ("--difficulty", f"{table}::aum", "-o", tmp_path / "s.parquet", "--id", "nosuch")
    assert_refused(d2("score", tmp_path / "g.parquet", *args), 3, "no column 'nosuch'")


def test_scores_of_a_graph_from_a_substitution_carry_it(table, shell):
    line = "d2 score <(d2 graph train.parquet -q) --difficulty train.parquet::aum -o s.parquet"
    assert shell(line).returncode == 0
    assert shell("d2 select s.parquet --rate 0.5").returncode == 0


@pytest.mark.parametrize("suffix", ["parquet", "npy", "txt", "csv", "jsonl"])
def test_every_output_can_be_included(table, tmp_path, d2, suffix):
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.9)
    d2(*args, "-o", tmp_path / f"k.{suffix}")
    _, kept, _ = d2(*args)
    code, out, _ = d2(*args, "--include", tmp_path / f"k.{suffix}", "--order", "rank")
    assert code == 0
    assert out == kept


def test_a_list_may_come_from_a_pipe(table, shell):
    prune = "d2 prune train.parquet --difficulty aum --keep 2 -q --order rank"
    done = shell(f"{prune} --include <(echo row-7); echo row-8 | {prune} --include -")
    assert done.stdout.split()[0::2] == ["row-7", "row-8"]


def test_no_arguments_show_the_help(d2):
    code, out, _ = d2()
    assert code == 0
    assert out.startswith("Usage: d2")


def test_a_graph_is_no_embedding(table, tmp_path, d2):
    d2("graph", table, "-o", tmp_path / "g.parquet")
    result = d2("graph", tmp_path / "g.parquet", "-o", tmp_path / "h.parquet")
    assert_refused(result, 3, "neighbor lists of a d2 graph")


def test_a_cut_report_is_written_again(table, tmp_path, d2):
    args = ("prune", table, "--difficulty", "aum", "--rate", 0.9, "-o", tmp_path / "k.npy")
    for name in ("r.json", "r.md"):
        d2(*args, "--report", tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-20])
        d2(*args, "--report", tmp_path / name)
        assert len((tmp_path / name).read_bytes()) > len(whole) - 20


def test_vectors_too_small_for_float32_distances_are_refused(tmp_path, d2):
    np.save(tmp_path / "e.npy", np.random.default_rng(0).normal(size=(9, 2)) * 1e-200)
    result = d2("graph", tmp_path / "e.npy", "-o", tmp_path / "g.parquet")
    assert_refused(result, 3, "e.npy: holds no value above 1e-30", "multiply")


def test_artifacts_are_read_without_an_abort_at_exit(table, shell):
    # Threads of the file reader must not outlive Python: many short runs at once show it.
    many = "seq 20 | xargs -P8 -I{} sh -c 'd2 graph train.parquet -q -o g.parquet; echo $?'"
    shell("d2 graph train.parquet -q -o g.parquet")
    done = shell(many, timeout=240)
    assert done.stdout.split() == ["0"] * 20, done.stderr


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_the_old_file_and_no_other(tmp_path, sent, code):
    np.save(tmp_path / "e.npy", np.random.default_rng(0).normal(size=(200_000, 64)))
    out = tmp_path / "g.parquet"
    out.write_bytes(b"old")
    scripts = Path(sys.executable).parent
    process = subprocess.Popen(
        [scripts / "d2", "graph", "e.npy", "--backend", "exact", "-o", out],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    time.sleep(1.5)
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.npy", "g.parquet"]


def test_version(d2):
    from d2cli import __version__

    assert d2("--version") == (0, f"d2 {__version__}\n", "")


def test_both_names_and_the_module_are_the_same_program(shell):
    done = shell(f"d2 --version; d2cli --version; '{sys.executable}' -m d2cli --version")
    assert done.stdout.split("\n")[:3] == [done.stdout.split("\n")[0]] * 3


@pytest.mark.parametrize("command", ["graph", "score", "select", "prune", "update"])
def test_every_option_has_a_help_text_and_examples_come_first(d2, command):
    code, out, _ = d2(command, "--help")
    assert code == 0
    assert out.index(f"  d2 {command} ") < out.index("Options:")


def test_a_column_called_aum_is_cut_unless_told_otherwise(table, d2):
    start = ("prune", table, "--rate", 0.5, "--difficulty")
    for more in (("aum",), ("aum", "--prune-hardest", "auto", "--force")):
        assert "prune-hardest: " in d2(*start, *more)[2]
    for more in (
        ("aum", "--prune-hardest", 0),
        ("aum", "--preset", "paper"),
        ("aum", "--harder", "high"),
        ("quality", "--harder", "low"),
        ("uniform",),
    ):
        code, _, err = d2(*start, *more)
        assert code == 0
        assert "prune-hardest" not in err


def test_included_rows_are_kept_though_the_cutoff_took_them_out(table, tmp_path, d2):
    aum = pq.read_table(table)["aum"].to_numpy()
    row = int(aum.argmin())
    (tmp_path / "i.txt").write_text(f"row-{row}\n")
    start = ("prune", table, "--difficulty", "aum", "--rate", 0.9, "--prune-hardest", 0.2)
    _, without, _ = d2(*start)
    code, out, _ = d2(*start, "--include", tmp_path / "i.txt", "--order", "rank")
    assert code == 0
    assert f"row-{row}" not in without.split()
    assert out.split()[0] == f"row-{row}"
