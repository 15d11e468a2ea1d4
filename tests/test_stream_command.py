"""``d2 stream``: windows, pipes, growing folders, checkpoints, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.files.artifacts import read_artifact

BUDGET = ("--budget", 40, "--window", 100)
AUM = ("--difficulty", "aum")


@pytest.fixture(scope="module")
def table():
    """650 rows of 8 numbers with ids and margins, in five classes."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(5, 8)) * 3
    vectors = (centres[rng.integers(0, 5, 650)] + rng.normal(size=(650, 8))).astype(np.float32)
    return pa.table(
        {
            "id": [f"r{i:03}" for i in range(650)],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8),
            "aum": rng.normal(size=650).astype(np.float32),
        }
    )


@pytest.fixture
def here(tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    pq.write_table(table, "all.parquet")
    return tmp_path


def write_stream(path, table, sizes):
    """Write an Arrow stream in batches of these sizes, over and over."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        start = at = 0
        while start < table.num_rows:
            out.write_table(table.slice(start, sizes[at % len(sizes)]))
            start, at = start + sizes[at % len(sizes)], at + 1


def write_shards(folder, table, sizes):
    folder.mkdir()
    start = 0
    for at, size in enumerate(sizes):
        pq.write_table(table.slice(start, size), folder / f"part-{at:03}.parquet")
        start += size
    assert start == table.num_rows


def ids_by_rank(path):
    kept = pq.read_table(path)
    return np.array(kept["id"].to_pylist())[np.argsort(kept["rank"].to_numpy())].tolist()


# --- the selection --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", [(), ("--metric", "cosine"), ("--preset", "reference"), ("--prune-hardest", 0.2)]
)
def test_one_window_is_what_prune_selects(here, d2, more):
    assert d2("prune", "all.parquet", *AUM, "--keep", 40, *more, "-o", "off.parquet")[0] == 0
    code, _, err = d2(
        "stream", "all.parquet", *AUM, "--budget", 40, "--window", 650, *more, "-o", "on.parquet"
    )
    assert code == 0, err
    assert ids_by_rank("on.parquet") == ids_by_rank("off.parquet")
    for name in ("row", "difficulty", "score", "score_at_pick"):
        one, two = (pq.read_table(f"{file}.parquet")[name] for file in ("on", "off"))
        assert one.equals(two), name


def test_a_budget_of_all_rows_keeps_all(here, d2):
    code, out, _ = d2("stream", "all.parquet", *AUM, "--budget", 700, "--window", 90)
    assert code == 0
    assert out.split() == [f"r{i:03}" for i in range(650)]


def test_the_bytes_do_not_depend_on_batches_files_or_threads(here, d2, shell, table):
    options = "--difficulty aum --budget 40 --window 100"
    write_shards(here / "shards", table, (1, 299, 100, 250))
    for name, sizes in (("a", (650,)), ("b", (100,)), ("c", (7, 1, 150))):
        write_stream(here / f"{name}.arrows", table, sizes)
    with pa.OSFile("file.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table, max_chunksize=130)
    assert d2("stream", "all.parquet", *AUM, *BUDGET, "-o", "one.parquet")[0] == 0
    expected = (here / "one.parquet").read_bytes()
    state = (here / "one.checkpoint.parquet").read_bytes()
    for line in (
        f"d2 stream shards {options} -j 2 -o two.parquet",
        f"d2 stream shards --watch 0.1 {options} -o two.parquet",
        f"d2 stream file.arrow {options} -o two.parquet",
        f"cat a.arrows | d2 stream {options} -o two.parquet",
        f"cat b.arrows | d2 stream {options} -o two.parquet -j 1",
        f"cat c.arrows | d2 stream - {options} -o two.parquet",
        f"cat file.arrow | d2 stream - {options} -o two.parquet",
        f"d2 stream <(cat c.arrows) {options} -o two.parquet",
    ):
        done = shell(f"rm -f two.*; {line}", cwd=here)
        assert done.returncode == 0, done.stderr
        assert (here / "two.parquet").read_bytes() == expected, line
        assert (here / "two.checkpoint.parquet").read_bytes() == state, line


def test_columns_of_other_files_are_read_side_by_side(here, d2, table):
    np.save("e.npy", np.array(table["embedding"].combine_chunks().flatten()).reshape(650, 8))
    np.save("aum.npy", table["aum"].to_numpy())
    pq.write_table(table.select(["id", "aum"]), "scores.parquet", row_group_size=77)
    pq.write_table(table.select(["id", "embedding"]), "vectors.parquet", row_group_size=50)
    _, expected, _ = d2("stream", "all.parquet", *AUM, *BUDGET, "--id", "none")
    assert d2("stream", "e.npy", "--difficulty", "aum.npy", *BUDGET)[1] == expected
    _, by_id, _ = d2("stream", "all.parquet", *AUM, *BUDGET)
    both = d2("stream", "vectors.parquet", "--difficulty", "scores.parquet::aum", *BUDGET)
    assert both[:2] == (0, by_id)
    pq.write_table(table.select(["id", "aum"]).take(np.arange(650)[::-1]), "turned.parquet")
    code, _, err = d2("stream", "vectors.parquet", "--difficulty", "turned.parquet::aum", *BUDGET)
    assert code == 3
    assert "row 0 has the id 'r649', in the stream 'r000'" in err
    np.save("short.npy", table["aum"].to_numpy()[:600])
    np.save("long.npy", np.zeros(651))
    for name in ("short", "long"):
        code, _, err = d2(
            "stream", "e.npy", "--difficulty", f"{name}.npy", "--harder", "high", *BUDGET
        )
        assert code == 3
        assert "rows" in err


def test_outputs_are_those_of_select(here, d2, table):
    for name in ("o.parquet", "o.npy", "o.txt", "o.csv", "o.jsonl"):
        assert d2("stream", "all.parquet", *AUM, *BUDGET, "-o", name, "-q") == (0, "", "")
    kept = pq.read_table("o.parquet")
    assert kept.column_names == ["row", "id", "rank", "difficulty", "score", "score_at_pick"]
    rows = kept["row"].to_numpy()
    np.testing.assert_array_equal(np.load("o.npy"), rows)
    assert (here / "o.txt").read_text().split() == [f"r{row:03}" for row in rows]
    assert len((here / "o.csv").read_text().splitlines()) == 41
    assert json.loads((here / "o.jsonl").read_text().splitlines()[0])["id"] == f"r{rows[0]:03}"
    _, out, _ = d2("stream", "all.parquet", *AUM, *BUDGET, "--order", "rank")
    assert out.split() == ids_by_rank("o.parquet")
    assert d2("export", "o.parquet", "--source", "all.parquet", "-o", "kept.parquet")[0] == 0
    assert pq.read_table("kept.parquet").equals(table.take(rows))
    assert d2("diff", "o.parquet", "o.txt")[0] == 0


def test_commands_on_scores_and_graphs_say_that_a_stream_has_none(here, d2):
    d2("stream", "all.parquet", *AUM, *BUDGET, "-o", "o.parquet")
    for command in (("explain", "o.parquet", "r001"), ("report", "o.parquet")):
        code, _, err = d2(*command)
        assert code == 4
        assert "was selected from a stream" in err
    d2("prune", "all.parquet", *AUM, "--keep", 40, "-o", "p.parquet")
    assert d2("diff", "o.parquet", "p.parquet")[0] == 0
    weights = ("-o", "w.npy", "--format", "weights")
    assert d2("export", "o.parquet", "--source", "all.parquet", *weights)[0] == 2


def test_every_option_of_the_method_counts(here, d2):
    _, plain, _ = d2("stream", "all.parquet", *AUM, *BUDGET)
    for more in (
        ("--window", 101),
        ("--budget", 41),
        ("-k", 3),
        ("--metric", "cosine"),
        ("--gamma-forward", 3),
        ("--gamma-reverse", 0.1),
        ("--kernel", "exponential"),
        ("--bandwidth", 0.5),
        ("--preset", "paper"),
        ("--prune-hardest", 0.5),
        ("--harder", "high"),
    ):
        code, out, err = d2("stream", "all.parquet", *AUM, *BUDGET, *more)
        assert code == 0, err
        assert out != plain, more
    same = ("--ties", "row", "--messages", "signed", "--threads", 2, "--max-memory", "2G")
    assert d2("stream", "all.parquet", *AUM, *BUDGET, *same)[1] == plain


def test_ties_and_seed_decide_among_equals(here, d2):
    uniform = ("stream", "all.parquet", "--difficulty", "uniform", "-k", 1, "--gamma-forward", 99)
    found = {
        d2(*uniform, *BUDGET, *more)[1]
        for more in (("--ties", "row"), ("--seed", 1), ("--seed", 2))
    }
    assert len(found) == 3


MEASURED = """
import sys
from pathlib import Path
from d2cli.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_memory_does_not_grow_with_the_stream(here, kind):
    peaks = []
    for n in (32_000, 96_000):  # 128 numbers a row: 16 and 49 MB
        vectors = np.random.default_rng(0).normal(size=(n, 128)).astype(np.float32)
        if kind == "npy":
            np.save("x.npy", vectors)
        else:
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 128)
            pq.write_table(pa.table({"embedding": lists}), "x.parquet", row_group_size=4000)
        line = ["stream", f"x.{kind}", "--difficulty", "uniform", "--budget", "50"]
        line += ["--window", "4000", "-k", "3", "-q", "-j", "1", "-o", f"{n}.npy"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *line], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1000)
    assert peaks[1] - peaks[0] < 15, peaks


def test_more_rows_than_memory_holds_are_refused_first(here, shell, table):
    write_stream(here / "x.arrows", table, (100,))
    done = shell(
        "cat x.arrows | d2 stream --difficulty aum --budget 9000000 --max-memory 1G", cwd=here
    )
    assert done.returncode == 5
    assert "hold 27,000,000 rows of budget and window" in done.stderr
    assert "a smaller --budget or --window" in done.stderr


# --- rows to keep ---------------------------------------------------------------------------------


def test_included_rows_are_kept_and_come_first(here, d2):
    (here / "list.txt").write_text("r640\nr005\n")
    d2("stream", "all.parquet", *AUM, *BUDGET, "--include", "list.txt", "-o", "o.parquet")
    assert ids_by_rank("o.parquet")[:2] == ["r640", "r005"]
    (here / "rows.txt").write_text("640\n5\n")
    _, out, _ = d2(
        *("stream", "all.parquet", *AUM, *BUDGET, "--id", "none", "--order", "rank"),
        *("--include", "rows.txt"),
    )
    assert out.split()[:2] == ["640", "5"]


@pytest.mark.parametrize(
    ("entries", "budget", "code", "text"),
    [
        ("r001 r002 r003", 2, 2, "3 rows are included, but the budget is 2"),
        ("r001 r001", 40, 3, "entry 1 names a row for the second time"),
        ("r001 nobody", 40, 3, "entry 1 is 'nobody', which never came (1 such in all)"),
    ],
)
def test_lists_that_cannot_be_kept_are_refused(here, d2, entries, budget, code, text):
    (here / "list.txt").write_text("\n".join(entries.split()))
    found = d2(
        *("stream", "all.parquet", *AUM, "--budget", budget, "--include", "list.txt"),
        *("-o", "o.parquet"),
    )
    assert found[0] == code
    assert text in found[2]
    assert not (here / "o.parquet").exists()


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_run_goes_on_where_rows_were_added(here, d2, table):
    assert d2("stream", "all.parquet", *AUM, *BUDGET, "-o", "whole.parquet")[0] == 0
    write_shards(here / "shards", table.slice(0, 270), (150, 120))
    code, _, err = d2("stream", "shards", *AUM, *BUDGET, "-o", "o.parquet")
    assert (code, "taken in before" in err) == (0, False)
    pq.write_table(table.slice(270), here / "shards" / "part-100.parquet")
    code, _, err = d2("stream", "shards", *AUM, *BUDGET, "-o", "o.parquet")
    assert code == 0
    assert "200 rows were taken in before" in err
    for name in (".parquet", ".checkpoint.parquet"):
        assert (here / f"o{name}").read_bytes() == (here / f"whole{name}").read_bytes()


def test_the_checkpoint_is_where_it_is_told_and_without_a_file_there_is_none(here, d2):
    d2("stream", "all.parquet", *AUM, *BUDGET, "-o", "o.parquet", "--checkpoint", "c.parquet")
    assert not (here / "o.checkpoint.parquet").exists()
    found = read_artifact("c.parquet", "checkpoint")
    assert found.table.num_rows == 40
    assert found.meta["results"]["n_seen"] == 600  # the last full window
    before = set(here.iterdir())
    assert d2("stream", "all.parquet", *AUM, *BUDGET)[0] == 0
    assert set(here.iterdir()) == before


def test_a_checkpoint_of_another_run_is_refused_and_left_alone(here, d2, table):
    first = ("stream", "all.parquet", *AUM, *BUDGET, "-o", "o.parquet")
    assert d2(*first)[0] == 0
    kept = {path: path.read_bytes() for path in here.iterdir()}
    other = table.set_column(2, "aum", pa.array(np.zeros(650, np.float32)))
    pq.write_table(other, "other.parquet")
    pq.write_table(table.slice(0, 300), "half.parquet")
    for line, text in (
        ((*first, "--window", 50), "window 100, here 50"),
        ((*first, "--budget", 41), "budget 40, here 41"),
        ((*first, "-k", 7), "graph n_neighbors 10, here 7"),
        (("stream", "other.parquet", *first[2:]), "are not those that it has taken in"),
        (("stream", "half.parquet", *first[2:]), "the stream ends before"),
    ):
        code, _, err = d2(*line)
        assert code == 4
        assert text in err
        assert "--force" in err
    for path, data in kept.items():
        assert path.read_bytes() == data
    assert d2("stream", "other.parquet", *first[2:], "--force")[0] == 0
    assert (here / "o.parquet").read_bytes() != kept[here / "o.parquet"]


def test_damaged_and_foreign_checkpoints_are_refused(here, d2):
    line = ("stream", "all.parquet", *AUM, *BUDGET, "-o", "o.parquet")
    assert d2(*line)[0] == 0
    whole = (here / "o.checkpoint.parquet").read_bytes()
    for damaged in (
        whole[:-100],
        whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:],
        whole[:-400] + bytes([whole[-400] ^ 1]) + whole[-399:],
        (here / "o.parquet").read_bytes(),
    ):
        (here / "o.checkpoint.parquet").write_bytes(damaged)
        code, _, err = d2(*line)
        assert code == 4, err
        assert "hint: name another --checkpoint, or start anew with --force" in err
        assert (here / "o.checkpoint.parquet").read_bytes() == damaged
    assert d2(*line, "--force")[0] == 0
    assert (here / "o.checkpoint.parquet").read_bytes() == whole


CHILD = """
import os, sys
from d2cli import __main__
from d2cli.files import publish
from d2cli.pipeline import stream

at, where = int(sys.argv[1]), sys.argv[2]
count = 0
write = stream.write_artifact

def killed(place, artifact):
    global count
    count += 1
    if count == at and where == "before":
        os.kill(os.getpid(), 9)
    if count == at and where == "within":
        publish.os.fsync = lambda handle: os.kill(os.getpid(), 9)
    write(place, artifact)
    if count == at:
        os.kill(os.getpid(), 9)

stream.write_artifact = killed
__main__.main(sys.argv[3:])
"""


@pytest.mark.parametrize(
    ("at", "where", "resumed"), [(1, "before", 0), (2, "within", 100), (5, "after", 500)]
)
@pytest.mark.parametrize("piped", [True, False])
def test_a_killed_run_and_another_give_the_bytes_of_one(here, d2, table, at, where, resumed, piped):
    write_stream(here / "x.arrows", table, (90,))
    source = "-" if piped else "all.parquet"
    line = ["stream", source, "--difficulty", "aum", "--budget", "40", "--window", "100"]
    with (here / "x.arrows").open("rb") as given:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(at), where, *line, "-o", "o.parquet", "-q"],
            stdin=given,
            check=False,
            timeout=60,
        )
    assert done.returncode == -signal.SIGKILL
    assert not (here / "o.parquet").exists()
    with (here / "x.arrows").open("rb") as given:
        again = subprocess.run(
            [sys.executable, "-m", "d2cli", *line, "-o", "o.parquet"],
            stdin=given,
            check=False,
            timeout=60,
            capture_output=True,
            text=True,
        )
    assert again.returncode == 0, again.stderr
    assert (f"{resumed:,} rows were taken in before" in again.stderr) == (resumed > 0)
    assert d2("stream", "all.parquet", *AUM, *BUDGET, "-o", "whole.parquet")[0] == 0
    for name in (".parquet", ".checkpoint.parquet"):
        assert (here / f"o{name}").read_bytes() == (here / f"whole{name}").read_bytes()
    assert not list(here.glob(".*.d2tmp"))


# --- growing folders ------------------------------------------------------------------------------


def test_watching_takes_shards_as_they_come_until_the_mark(here, d2, table):
    assert d2("stream", "all.parquet", *AUM, *BUDGET, "-o", "whole.parquet")[0] == 0
    (here / "in").mkdir()

    def put(number, start, stop):
        pq.write_table(table.slice(start, stop - start), "in/.half")
        (here / "in/.half").rename(here / f"in/part-{number}.parquet")

    put(0, 0, 130)

    def grow():
        for number, (start, stop) in enumerate(((130, 260), (260, 390), (390, 650)), start=1):
            time.sleep(0.2)
            put(number, start, stop)
        (here / "in" / "_DONE").touch()

    writer = threading.Thread(target=grow)
    writer.start()
    code, _, err = d2("stream", "in", "--watch", 30, *AUM, *BUDGET, "-o", "o.parquet")
    writer.join()
    assert code == 0, err
    assert (here / "o.parquet").read_bytes() == (here / "whole.parquet").read_bytes()


def test_watching_ends_when_nothing_comes(here, d2, table):
    write_shards(here / "in", table, (650,))
    began = time.monotonic()
    assert d2("stream", "in", "--watch", 0.3, *AUM, *BUDGET)[0] == 0
    assert 0.3 <= time.monotonic() - began < 20
    (here / "empty").mkdir()
    code, _, err = d2("stream", "empty", "--watch", 0, *AUM, *BUDGET)
    assert code == 3
    assert "holds no rows" in err


def test_a_shard_that_comes_late_is_refused_and_the_checkpoint_kept(here, d2, table):
    write_shards(here / "in", table.slice(0, 250), (250,))
    shutil.move("in/part-000.parquet", "in/part-5.parquet")

    def grow():
        while not (here / "o.checkpoint.parquet").exists():
            time.sleep(0.02)
        pq.write_table(table.slice(250), "in/.half")
        (here / "in/.half").rename(here / "in/part-4.parquet")

    writer = threading.Thread(target=grow)
    writer.start()
    code, _, err = d2("stream", "in", "--watch", 20, *AUM, *BUDGET, "-o", "o.parquet")
    writer.join()
    assert code == 3
    assert "belongs before that of in/part-5.parquet" in err
    assert read_artifact("o.checkpoint.parquet", "checkpoint").meta["results"]["n_seen"] == 200


def test_folders_of_npz_shards_are_watched_too(here, d2, table):
    (here / "in").mkdir()
    vectors = np.array(table["embedding"].combine_chunks().flatten()).reshape(650, 8)
    for at, part in enumerate((slice(0, 300), slice(300, 650))):
        np.savez(f"in/{at}.npz", emb=vectors[part], aum=table["aum"].to_numpy()[part])
    _, expected, _ = d2("stream", "all.parquet", *AUM, *BUDGET, "--id", "none")
    assert d2("stream", "in", "--watch", 0, *AUM, *BUDGET)[:2] == (0, expected)


@pytest.mark.parametrize(
    ("number", "watched"), [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGINT, False)]
)
def test_a_waiting_stream_ends_by_a_signal_and_can_go_on(here, table, number, watched):
    write_shards(here / "in", table, (650,))
    write_stream(here / "x.arrows", table.slice(0, 350), (50,))
    source = ["in", "--watch", "600"] if watched else ["-"]
    line = [sys.executable, "-m", "d2cli", "stream", *source, "--difficulty", "aum"]
    line += ["--budget", "40", "--window", "100", "-o", "o.parquet", "-q"]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    if not watched:
        process.stdin.write((here / "x.arrows").read_bytes()[:-8])  # without the end of the stream
        process.stdin.flush()
    deadline = time.monotonic() + 60
    while not (here / "o.checkpoint.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number, err
    assert b"Traceback" not in err
    assert read_artifact("o.checkpoint.parquet", "checkpoint").table.num_rows == 40


# --- bad input ------------------------------------------------------------------------------------


def broken(table, **columns):
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def bad_vectors(table, row, value):
    values = np.array(table["embedding"].combine_chunks().flatten()).reshape(-1, 8).copy()
    values[row, 2] = value
    return broken(table, embedding=pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 8))


def test_bad_rows_are_named_by_batch_and_row(here, d2, shell, table):
    numbers = table["aum"].to_numpy().copy()
    numbers[333] = np.nan
    twice = table["id"].to_pylist()
    twice[120] = "r110"
    for made, where, what in (
        (bad_vectors(table, 333, np.nan), "::embedding: row 33", "holds NaN (1 row in all)"),
        (bad_vectors(table, 333, np.inf), "::embedding: row 33", "holds an infinite value"),
        (broken(table, aum=pa.array(numbers)), "::aum: row 33", "is NaN (1 row in all)"),
        (broken(table, aum=pa.array(numbers, from_pandas=True)), "::aum: row 33", "is null"),
    ):
        write_stream(here / "x.arrows", made, (100,))
        done = shell("cat x.arrows | d2 stream --difficulty aum --budget 40", cwd=here)
        assert done.returncode == 3, done.stderr
        assert f"standard input, batch 3{where} {what}" in done.stderr
        pq.write_table(made, "x.parquet")
        code, _, err = d2("stream", "x.parquet", *AUM, *BUDGET)
        assert code == 3
        assert f"x.parquet{where[:-2]}333 {what}" in err
        assert err.count("\n") == 2
    write_stream(here / "x.arrows", broken(table, id=pa.array(twice)), (100,))
    done = shell("cat x.arrows | d2 stream --difficulty aum --budget 40 --window 150", cwd=here)
    assert done.returncode == 3
    assert "repeats the id 'r110'" in done.stderr


def test_batches_and_shards_have_to_be_alike(here, d2, table):
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(100 * 9, np.float32)), 9)
    double = table["embedding"].combine_chunks().cast(pa.list_(pa.float64(), 8))
    for made, text in (
        (broken(table.slice(0, 100), embedding=wide), "vectors of width 9, but of 8 before"),
        (broken(table, embedding=double), "measured as float64, but as float32 before"),
        (broken(table, id=pa.array(range(650))), "ids are int64, but large_string before"),
        (table.drop_columns("id"), "ids are missing, but large_string before"),
        (table.drop_columns("aum"), "no column 'aum'"),
        (table.drop_columns("embedding"), "no column could be the embedding"),
    ):
        shutil.rmtree("in", ignore_errors=True)
        write_shards(here / "in", table, (650,))
        pq.write_table(made, "in/part-9.parquet")
        code, _, err = d2("stream", "in", "--watch", 0, *AUM, *BUDGET)
        assert code == 3, err
        assert "in/part-9.parquet" in err
        assert text in err


def test_what_is_no_stream_is_refused(here, shell, table):
    write_stream(here / "x.arrows", table, (100,))
    np.save("e.npy", np.ones((5, 2)))
    for line, code, text in (
        ("cat e.npy | d2 stream --difficulty uniform --budget 2", 3, "is no Arrow stream"),
        ("cat all.parquet | d2 stream --difficulty aum --budget 2", 3, "is no Arrow stream"),
        ("true | d2 stream --difficulty aum --budget 2", 3, "standard input is empty"),
        (
            "head -c 20000 x.arrows | d2 stream --difficulty aum --budget 2",
            3,
            "standard input: cannot be read",
        ),
        ("d2 stream nowhere.parquet --difficulty aum --budget 2", 3, "no such file"),
        ("cat x.arrows | d2 stream --difficulty all.parquet::aum --budget 2", 2, "another file"),
        ("cat x.arrows | d2 stream --watch 1 --difficulty aum --budget 2", 2, "is a pipe"),
        ("d2 stream all.parquet --watch 1 --difficulty aum --budget 2", 2, "is no folder here"),
        ("d2 stream all.parquet --difficulty aum --budget 0", 2, "'--budget': 0"),
        ("d2 stream all.parquet --difficulty aum --budget 2 --window 0", 2, "window"),
        ("d2 stream all.parquet --difficulty aum --budget 2 --prune-hardest probe", 2, "probe"),
        ("d2 stream all.parquet --difficulty aum --budget 2 -o all.parquet", 2, "is an input"),
        (
            "d2 stream all.parquet --difficulty aum --budget 2 --checkpoint all.parquet",
            2,
            "is an input",
        ),
        (
            "d2 stream all.parquet --difficulty aum --budget 2 --checkpoint c.npy",
            2,
            "a checkpoint cannot be written",
        ),
        ("d2 stream all.parquet --difficulty aum --budget 2 --report r.html", 2, "r.html"),
        (
            "d2 stream all.parquet --difficulty aum --budget 2 --against a --offline b",
            2,
            "expected one of them",
        ),
        ("cat x.arrows | d2 stream --difficulty aum --budget 2 --include -", 2, "standard input"),
    ):
        done = shell(line, cwd=here)
        assert done.returncode == code, (line, done.stderr)
        assert text in done.stderr, line
        assert done.stderr.count("\n") == 2, done.stderr
        assert done.stdout == ""


# --- reports --------------------------------------------------------------------------------------


def test_the_report_counts_and_compares(here, d2):
    d2("prune", "all.parquet", *AUM, "--keep", 40, "-o", "off.parquet")
    line = ("stream", "all.parquet", *AUM, *BUDGET, "-o", "o.parquet")
    code, _, err = d2(*line, "--offline", "all.parquet", "--report", "r.json")
    assert code == 0
    report = json.loads((here / "r.json").read_text())
    counts = report["stream"]
    assert report["rows"] == {"seen": 650, "kept": 40, "rate": 1 - 40 / 650, "included": 0}
    assert (counts["windows"], counts["window"], counts["peak_rows"]) == (7, 100, 140)
    assert counts["admitted"] - counts["evicted"] == 40
    ours, theirs = (pq.read_table(f"{name}.parquet") for name in ("o", "off"))
    both = set(ours["row"].to_pylist()) & set(theirs["row"].to_pylist())
    gap = report["gap"]
    assert gap["overlap"] == len(both) / 40
    assert gap["difficulty_mean"]["offline"] == pytest.approx(
        np.mean(theirs["difficulty"].to_numpy())
    )
    _, pruned, _ = d2("prune", "all.parquet", *AUM, "--keep", 40, "-o", "p.parquet", "--json", "-q")
    assert gap["coverage"]["offline"] == json.loads(pruned)["coverage"]
    assert f"{100 * gap['overlap']:.1f} %" in err
    code, out, _ = d2(*line, "--against", "off.parquet", "--json")
    found = json.loads(out)
    assert found["gap"]["overlap"] == gap["overlap"]
    assert found["gap"]["coverage"] is None
    assert {**found, "gap": 0, "seal": 0} == {**report, "gap": 0, "seal": 0}
    assert d2(*line, "--report", "r.md")[0] == 0
    assert f"| admitted | {counts['admitted']:,} |" in (here / "r.md").read_text()


def test_a_selection_of_other_rows_is_no_measure(here, d2, table):
    pq.write_table(table.slice(0, 600), "less.parquet")
    names = [f"x{i}" for i in range(650)]
    pq.write_table(broken(table, id=pa.array(names)), "named.parquet")
    line = ("stream", "all.parquet", *AUM, *BUDGET)
    for name in ("less", "named"):
        d2("prune", f"{name}.parquet", *AUM, "--keep", 40, "-o", f"{name}-kept.parquet")
        assert d2(*line, "--against", f"{name}-kept.parquet")[0] == 4
        assert d2(*line, "--offline", f"{name}.parquet")[0] == 4
    assert d2(*line, "--against", "nowhere.parquet")[0] == 3


def test_a_selection_to_be_held_against_is_not_replaced(here, d2):
    d2("prune", "all.parquet", *AUM, "--keep", 40, "-o", "offline.parquet")
    before = (here / "offline.parquet").read_bytes()
    line = ("stream", "all.parquet", *AUM, *BUDGET, "--against", "offline.parquet")
    for more in (
        ("-o", "offline.parquet", "--force"),
        ("-o", "k.parquet", "--checkpoint", "offline.parquet"),
    ):
        code, _, err = d2(*line, *more)
        assert (code, "is an input" in err) == (2, True), err
    assert (here / "offline.parquet").read_bytes() == before


def test_a_checkpoint_is_a_regular_file(here, d2):
    line = ("stream", "all.parquet", *AUM, *BUDGET, "-o", "k.parquet", "--checkpoint", "c.parquet")
    os.mkfifo("c.parquet")
    code, _, err = d2(*line)
    assert (code, "no regular file" in err) == (2, True), err


def test_an_embedding_may_have_a_name_and_a_budget_is_at_least_one(here, d2, shell):
    line = ("stream", "all.parquet", *AUM, *BUDGET, "-o")
    assert d2(*line, "one.parquet", "-e", "embedding")[0] == 0
    assert d2(*line, "two.parquet", "-e", "m=embedding", "--offline", "all.parquet")[0] == 0
    one, two = (read_artifact(f"{name}.parquet", "selection") for name in ("one", "two"))
    assert one.table.equals(two.table)
    code, out, err = d2("stream", "all.parquet", *AUM, "--budget", 0)
    assert (code, out) == (2, "")
    assert "'--budget': 0" in err
    assert "keep" not in err
