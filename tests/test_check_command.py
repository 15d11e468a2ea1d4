"""``d2 check``: the report, its JSON and the exit codes."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import InputError
from d2cli.files import memory
from d2cli.files.colref import resolve
from d2cli.files.flawed import read_flawed_numbers, read_flawed_vectors
from d2cli.files.sources import Sources
from d2cli.pipeline import planning
from d2cli.pipeline.check import run_check
from d2cli.pipeline.findings import CheckParams
from d2cli.pipeline.run import Run

HOSTILE = "a\x1b[31mb\u202e<b>[red]\nfail"
N = 400

# Names of all checks, in the order of the report.
ALL = [
    "ids", "nulls", "widths", "nan", "infinities", "magnitudes", "zero-vectors", "rate", "classes",
    "exact-duplicates", "constant-axes", "effective-rank", "norm-spread", "difficulty-values",
    "direction", "difficulty-ties", "margins", "near-duplicates", "contrast", "hubness",
    "label-agreement", "difficulty-on-edges", "memory-and-time",
]  # fmt: skip


@pytest.fixture(autouse=True)
def known_speed(monkeypatch):
    """Plans do not measure the machine."""
    monkeypatch.setattr(planning, "measure_speed", lambda: 5e10)


@pytest.fixture
def columns():
    """Four classes apart in 12 axes; a margin that depends on the class, and ids."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, N)
    vectors = rng.normal(size=(4, 12))[label] * 3 + rng.normal(size=(N, 12))
    return {
        "id": [f"row-{i}" for i in range(N)],
        "label": np.array(["ant", "bee", "cat", "dog"])[label],
        "embedding": vectors.astype(np.float32),
        "aum": 4.0 + label + rng.normal(size=N),
    }


def write(path, columns, name="data.parquet"):
    """Write a table; vectors are lists, so that rows may be None or of any width."""
    table = {
        key: pa.array(
            [None if row is None else list(row) for row in values], pa.list_(pa.float32())
        )
        if key == "embedding"
        else pa.array(values)
        for key, values in columns.items()
    }
    pq.write_table(pa.table(table), path / name)
    return path / name


@pytest.fixture
def good(tmp_path, columns):
    return write(tmp_path, columns)


@pytest.fixture
def bad(tmp_path, columns):
    """Every defect at once."""
    rows = [row.tolist() for row in columns["embedding"]]
    rows[3], rows[7] = None, rows[7][:5]
    rows[9][2], rows[11][0], rows[12][1] = None, float("nan"), float("inf")
    rows[13], rows[15] = [0.0] * 12, [1e38] * 12
    aum = columns["aum"].tolist()
    aum[5], aum[6] = None, float("nan")
    ids = [*columns["id"][:-1], "row-1"]
    return write(tmp_path, {**columns, "id": ids, "embedding": rows, "aum": aum}, "bad.parquet")


def full(path, *more):
    return ("check", path, "--difficulty", "aum", "--labels", "label", "--rate", "0.5", *more)


def found(d2, *arguments):
    _, out, _ = d2(*arguments, "--json")
    return json.loads(out)


def by_name(report):
    return {check["name"]: check for check in report["checks"]}


def test_good_data_pass_every_check(good, d2):
    code, out, err = d2(*full(good))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == "23 pass, 0 warn, 0 fail"
    assert [line.split()[1] for line in lines if line.startswith("pass")] == ALL
    assert all(len(line) <= 80 for line in lines)


def test_all_defects_are_reported_at_once_with_their_rows(bad, d2):
    code, out, _ = d2(*full(bad, "--metric", "cosine", "--json"))
    assert code == 3
    report = json.loads(out)
    checks = by_name(report)
    rows = {
        name: checks[name]["figures"]["first_rows"]
        for name in ("nulls", "widths", "nan", "infinities", "magnitudes", "zero-vectors")
    }
    assert rows == {
        "nulls": [3, 9], "widths": [7], "nan": [11], "infinities": [12], "magnitudes": [15],
        "zero-vectors": [13],
    }  # fmt: skip
    failed = {check["name"] for check in report["checks"] if check["verdict"] == "fail"}
    assert failed == {*rows, "ids", "difficulty-values"}
    assert "repeats the id 'row-1'" in checks["ids"]["found"]
    assert checks["difficulty-values"]["found"] == "null in 1 row (5); NaN in 1 row (6)"
    # What is sound is checked all the same.
    assert checks["label-agreement"]["verdict"] == "pass"
    assert {one["name"] for one in report["left_out"]} == {
        "difficulty-ties", "margins", "difficulty-on-edges",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "metric"),
    [(3, "l2"), (7, "l2"), (9, "l2"), (11, "l2"), (12, "l2"), (15, "l2"), (13, "l2"),
     (13, "cosine"), (0, "cosine")],
)  # fmt: skip
def test_what_fails_is_what_prune_refuses(bad, d2, row, metric):
    """Of the first 40 rows, all sound but one, which has one defect or none."""
    table = pq.read_table(bad)
    rows = table["embedding"].to_pylist()
    column = pa.array(
        [rows[row if i == row else 100 + i] for i in range(40)], pa.list_(pa.float32())
    )
    path = bad.with_name("one.parquet")
    pq.write_table(pa.table({"embedding": column, "aum": np.arange(40.0)}), path)
    checked, _, _ = d2("check", path, "--metric", metric)
    pruned, _, _ = d2("prune", path, "--difficulty", "aum", "--rate", 0.5, "--metric", metric)
    assert checked == pruned == (0 if (row, metric) in [(13, "l2"), (0, "cosine")] else 3)


def test_strict_turns_warnings_into_exit_3(tmp_path, columns, d2):
    columns["aum"] = np.round(columns["aum"] / 3)
    path = write(tmp_path, columns)
    code, out, _ = d2(*full(path))
    assert code == 0
    assert "warn  difficulty-ties" in out
    assert d2(*full(path, "--strict"))[0] == 3


def test_strict_passes_what_passes(good, d2):
    assert d2(*full(good, "--strict"))[0] == 0


def test_json_is_the_whole_report(good, d2):
    code, out, err = d2(*full(good, "--json"))
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["kind"] == "d2 check"
    assert (report["n_rows"], report["width"], report["dtype"]) == (N, 12, "float32")
    assert report["counts"] == {"pass": 23, "warn": 0, "fail": 0}
    assert report["verdict"] == "pass"
    assert [check["name"] for check in report["checks"]] == ALL
    for check in report["checks"]:
        assert set(check) == {"name", "verdict", "found", "advice", "figures"}
        assert "\n" not in check["found"]


def test_without_labels_and_difficulty_their_checks_are_named_as_left_out(good, d2):
    code, out, _ = d2("check", good)
    assert code == 0
    lines = out.splitlines()
    left_out = [line.split(maxsplit=2)[1:] for line in lines if line.startswith("-")]
    assert ["label-agreement", "needs --labels"] in left_out
    assert ["difficulty-on-edges", "needs --difficulty"] in left_out
    assert len(left_out) == 7
    assert d2("check", good, "--difficulty", "uniform")[0] == 0


def test_random_vectors_with_random_labels_mean_nothing(tmp_path, d2):
    rng = np.random.default_rng(1)
    junk = {
        "emb": rng.normal(size=(1500, 64)), "label": rng.integers(0, 5, 1500),
        "aum": rng.normal(3, size=1500),
    }  # fmt: skip
    np.savez(tmp_path / "junk.npz", **junk)
    report = found(d2, *full(tmp_path / "junk.npz", "-e", "emb"))
    warned = {check["name"] for check in report["checks"] if check["verdict"] == "warn"}
    assert warned == {"hubness", "label-agreement", "difficulty-on-edges"}


def test_difficulty_of_other_rows_is_told_from_the_real_one(tmp_path, columns, d2):
    for seed in range(2):
        mixed = np.random.default_rng(seed).permutation(columns["aum"])
        path = write(tmp_path, {**columns, "aum": mixed}, f"mixed-{seed}.parquet")
        checks = by_name(found(d2, *full(path)))
        assert checks["difficulty-on-edges"]["verdict"] == "warn"
        assert checks["label-agreement"]["verdict"] == "pass"


def test_the_sample_data_pass(sample_data, d2):
    path = sample_data / "clinc150.parquet"
    code, out, _ = d2(*full(path, "--strict"))
    assert code == 0, out


def test_an_unknown_direction_fails_until_it_is_given(tmp_path, columns, d2):
    columns["quality"] = columns.pop("aum")
    path = write(tmp_path, columns)
    start = ("check", path, "--difficulty", "quality")
    code, out, _ = d2(*start)
    assert code == 3
    assert "fail  direction" in out
    assert "--harder high or --harder low" in " ".join(out.split())
    assert d2(*start, "--harder", "low")[0] == 0


def test_the_direction_in_the_metadata_counts(tmp_path, columns, d2):
    field = pa.field("q", pa.float64(), metadata={"harder": "low"})
    other = pa.table([pa.array(columns["id"]), pa.array(columns["aum"])],
                     schema=pa.schema([pa.field("id", pa.string()), field]))  # fmt: skip
    pq.write_table(other, tmp_path / "q.parquet")
    del columns["aum"]
    report = found(d2, "check", write(tmp_path, columns), "--difficulty", tmp_path / "q.parquet")
    assert by_name(report)["direction"]["found"] == "'q' is harder when low, by its metadata"


def test_columns_of_other_files_are_joined_by_id(tmp_path, columns, d2):
    """Embedding, labels and difficulty in three files, each in an order of its own."""
    rng = np.random.default_rng(2)
    home = write(tmp_path, {"id": columns["id"]}, "home.parquet")
    for name in ("embedding", "label", "aum"):
        order = rng.permutation(N)
        part = {"id": [columns["id"][i] for i in order], name: columns[name][order]}
        write(tmp_path, part, f"{name}.parquet")
    report = found(
        d2, "check", home, "-e", tmp_path / "embedding.parquet",
        "--difficulty", tmp_path / "aum.parquet", "--labels", f"{tmp_path}/label.parquet::label",
    )  # fmt: skip
    together = found(d2, *full(write(tmp_path, columns)))
    apart, whole = by_name(report), by_name(together)
    for name in ("label-agreement", "difficulty-on-edges"):
        assert apart[name]["verdict"] == "pass"
        # Another sample of rows, the same data.
        assert apart[name]["figures"]["value"] == pytest.approx(
            whole[name]["figures"]["value"], abs=0.1
        )


def test_rows_of_another_file_that_source_does_not_have_are_not_looked_at(tmp_path, columns, d2):
    home = write(tmp_path, {"id": columns["id"][:300]}, "home.parquet")
    rows = columns["embedding"].copy()
    rows[350] = np.nan
    other = write(tmp_path, {"id": columns["id"], "embedding": rows}, "other.parquet")
    assert d2("check", home, "-e", other)[0] == 0
    assert d2("check", other)[0] == 3


@pytest.mark.parametrize(
    ("more", "name", "word"),
    [
        (["--difficulty", "nope"], "difficulty-values", "no column 'nope'"),
        (["--labels", "nope"], "classes", "no column 'nope'"),
        (["--id", "label"], "ids", "repeats the id"),
        (["--rate", "1"], "rate", "keeps none"),
    ],
)
def test_what_cannot_be_read_fails_its_check_and_the_rest_goes_on(good, d2, more, name, word):
    code, out, _ = d2("check", good, *more, "--json")
    assert code == 3
    checks = by_name(json.loads(out))
    assert checks[name]["verdict"] == "fail"
    assert word in checks[name]["found"]
    assert checks["hubness"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.parquet"], 3, "missing.parquet: no such file"),
        (["data.parquet", "-e", "aum"], 3, "expected lists of numbers"),
        (["data.parquet", "-k", "5,x"], 2, "neighbors is '5,x'"),
        (["data.parquet", "-k", "0"], 2, "neighbors is 0"),
        (["data.parquet", "--rate", "90"], 2, "--rate 0.9"),
        (["data.parquet", "--metric", "l3"], 2, "'l3'"),
        (["data.parquet", "--seed", "-1"], 2, "seed is -1"),
        (["data.parquet", "--max-memory", "lots"], 2, "max-memory is 'lots'"),
    ],
)
def test_bad_usage_is_one_line_and_a_hint(good, d2, monkeypatch, arguments, code, words):
    monkeypatch.chdir(good.parent)
    result, out, err = d2("check", *arguments)
    assert (result, out) == (code, "")
    assert words in err
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]


def test_hostile_names_are_escaped_in_text_and_json(tmp_path, columns, d2):
    columns["label"] = np.where(columns["label"] == "ant", HOSTILE, HOSTILE + "2")
    columns["label"][0] = HOSTILE + "x" * 300
    columns[HOSTILE] = columns.pop("aum")
    path = write(tmp_path, columns, "da\x1b[2Jta.parquet")
    for more in ([], ["--json"]):
        code, out, _ = d2("check", path, "--difficulty", HOSTILE, "--labels", "label",
                          "--rate", 0.9, *more)  # fmt: skip
        assert code == 3  # the direction is not known
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert not any(line.startswith("fail ") and "direction" not in line
                       for line in out.splitlines())  # fmt: skip
        assert all(len(line) <= 80 for line in out.splitlines()) or more
    assert HOSTILE in by_name(json.loads(out))["direction"]["found"]


def test_the_report_is_the_same_whatever_the_threads_and_the_memory(tmp_path, columns, d2):
    np.save(tmp_path / "e.npy", columns["embedding"])
    path = write(tmp_path, columns)

    def without_plan(*more):
        report = found(d2, *full(path, *more))
        return [check for check in report["checks"] if check["name"] != "memory-and-time"]

    one = without_plan("-j", 1)
    assert without_plan("-j", 2) == one
    assert without_plan("--max-memory", "1M") == one  # vectors in a scratch file
    stored = found(d2, "check", tmp_path / "e.npy")
    unlike = ("ids", "exact-duplicates", "memory-and-time")  # ids and labels count in them
    shared = [check for check in stored["checks"] if check["name"] not in unlike]
    names = {check["name"] for check in shared}
    assert shared == [check for check in one if check["name"] in names]


def test_another_seed_looks_at_other_rows(tmp_path, d2):
    vectors = np.random.default_rng(3).normal(size=(1500, 4)).astype(np.float32)
    np.save(tmp_path / "e.npy", vectors)
    figures = [
        by_name(found(d2, "check", tmp_path / "e.npy", "--seed", seed))["contrast"]["figures"]
        for seed in (0, 0, 1)
    ]
    assert figures[0] == figures[1] != figures[2]


def test_too_little_memory_for_the_real_run_fails(good, d2):
    code, out, _ = d2("check", good, "--max-memory", "1M", "--json")
    assert code == 3
    check = by_name(json.loads(out))["memory-and-time"]
    assert check["verdict"] == "fail"
    assert "--max-memory" in check["advice"]


def test_every_k_has_its_plan_and_one_too_large_warns(good, d2):
    report = found(d2, "check", good, "-k", "3,399")
    assert report["neighbors"] == 3
    plans = by_name(report)["memory-and-time"]
    assert plans["verdict"] == "pass"
    assert [plan["k"] for plan in plans["figures"]["plans"]] == [3, 399]
    report = found(d2, "check", good, "-k", "5,10,400")
    assert report["neighbors"] == 10
    check = by_name(report)["memory-and-time"]
    assert check["verdict"] == "warn"
    assert "padded" in check["advice"]


def test_more_neighbors_are_planned_with_more_memory(tmp_path):
    np.save(tmp_path / "e.npy", np.random.default_rng(4).normal(size=(3000, 2)))
    report = run_check(Run(), str(tmp_path / "e.npy"), CheckParams(neighbors=(10, 2000)))
    few, many = (
        plan["peak_memory_bytes"] for plan in by_name(report)["memory-and-time"]["figures"]["plans"]
    )
    assert many - few > 3000 * 2000 * 8  # the lists alone


def test_less_free_memory_than_the_plan_needs_warns(good, monkeypatch):
    limit = memory.Limit(10**9, "what the machine has left")
    monkeypatch.setattr(planning, "with_limit", lambda plan, _: replace(plan, resident=1000))
    with memory.within(limit):
        report = run_check(Run(), str(good), CheckParams())
    check = by_name(report)["memory-and-time"]
    assert check["verdict"] == "warn"
    assert "--max-memory" in check["advice"]
    json.dumps(report, allow_nan=False)


def test_few_different_rows_have_no_neighborhoods(tmp_path, d2):
    np.save(tmp_path / "e.npy", np.ones((50, 3), dtype=np.float32))
    code, out, _ = d2("check", tmp_path / "e.npy")
    assert code == 0
    assert "needs 20 different rows, there are 1" in " ".join(out.split())


def test_no_sound_row_at_all_is_a_failed_check(tmp_path, d2):
    np.save(tmp_path / "e.npy", np.full((5, 3), np.nan, dtype=np.float32))
    code, out, err = d2("check", tmp_path / "e.npy")
    assert (code, err) == (3, "")
    assert "NaN in 5 rows (0, 1, 2, ...)" in out
    np.save(tmp_path / "e.npy", np.full((5, 3), 1e-40))
    code, out, _ = d2("check", tmp_path / "e.npy")
    assert code == 3
    assert "fail  magnitudes" in out


def test_quiet_keeps_the_report_and_standard_input_is_a_source(tmp_path, columns, shell):
    np.save(tmp_path / "e.npy", columns["embedding"])
    done = shell("d2 check -q < e.npy | tail -1")
    assert done.stdout == "15 pass, 0 warn, 0 fail\n"
    assert done.stderr == ""


# Columns with bad rows


def flawed(path, kind, rows):
    pq.write_table(pa.table({"e": pa.array(rows, kind)}), path, row_group_size=2)
    return resolve("e", "embedding", sources := Sources(), sources.open(str(path)))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16()),
        pa.list_(pa.int8()), pa.list_(pa.float32(), 2), pa.list_(pa.float16(), 2),
    ],
    ids=str,
)  # fmt: skip
def test_sound_rows_stay_and_others_become_ones(tmp_path, kind):
    rows = [None, None, [1, 2], None, [3, None], [5, 6], [7, 8]]
    if not pa.types.is_fixed_size_list(kind):
        rows[6] = [7]
    read = read_flawed_vectors(flawed(tmp_path / "e.parquet", kind, rows))
    assert np.flatnonzero(read.null).tolist() == [0, 1, 3]
    assert np.flatnonzero(read.gap).tolist() == [4]
    assert np.flatnonzero(read.ragged).tolist() == ([] if len(rows[6]) == 2 else [6])
    expected = [row if row and len(row) == 2 and None not in row else [1, 1] for row in rows]
    assert read.vectors.tolist() == expected


def test_the_width_is_that_of_most_rows_even_if_the_first_is_odd(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"e": [[1.0], [1.0, 2.0], [3.0, 4.0]]}), path)
    ref = resolve("e", "embedding", sources := Sources(), sources.open(str(path)))
    read = read_flawed_vectors(ref)
    assert read.ragged.tolist() == [True, False, False]
    assert read.vectors.shape == (3, 2)


@pytest.mark.parametrize("rows", [[], [None, None], [[]], [[None, None]]])
def test_no_vector_at_all_is_refused(tmp_path, rows):
    with pytest.raises(InputError, match="holds no"):
        read_flawed_vectors(flawed(tmp_path / "e.parquet", pa.list_(pa.float32()), rows))


@pytest.mark.parametrize("kind", [pa.float32(), pa.float16(), pa.int32()], ids=str)
def test_numbers_with_nulls_are_read_as_nan(tmp_path, kind):
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"s": pa.array([1, None, 3], kind)}), path)
    ref = resolve("s", "difficulty", sources := Sources(), sources.open(str(path)))
    values, null = read_flawed_numbers(ref)
    np.testing.assert_array_equal(values, [1, np.nan, 3])
    assert null.tolist() == [False, True, False]
