"""``--previous``, ``--max-changes`` and ``--keep +N`` on files that grow."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import d2cli


def write(path, ids, rng_seed=7):
    """Rows whose vector, difficulty and label belong to their number, in the order given."""
    rng = np.random.default_rng(rng_seed)
    vectors, el2n = rng.normal(size=(400, 5)).astype(np.float32), rng.random(400)
    label = rng.choice(["x", "y"], 400, p=[0.7, 0.3])
    ids = np.asarray(ids)
    columns = {
        "id": [f"row {i}" for i in ids],
        "embedding": list(vectors[ids]),
        "el2n": el2n[ids],
        "label": label[ids],
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def files(tmp_path, d2, monkeypatch):
    """old.parquet, its selection, and new.parquet: 20 rows less, 120 more, in another order."""
    monkeypatch.chdir(tmp_path)
    write("old.parquet", np.arange(200))
    write("new.parquet", np.random.default_rng(1).permutation(np.arange(20, 320)))
    assert prune(d2, "old.parquet", "--keep", 60, "-o", "before.parquet")[0] == 0
    return tmp_path


def prune(d2, source, *more):
    return d2("prune", source, "--difficulty", "el2n", "-k", 6, *more)


def ids_in(path):
    return set(pq.read_table(path)["id"].to_pylist())


def report_of(d2, *more, source="new.parquet"):
    code, out, err = prune(d2, source, *more, "--json", "-o", "keep.parquet")
    assert code == 0, err
    return json.loads(out)


def test_counts_and_figures_are_those_of_the_files(files, d2):
    here = ids_in("new.parquet")
    before = ids_in("before.parquet")
    plain = report_of(d2, "--keep", 80)
    assert "previous" not in plain
    free = ids_in("keep.parquet")

    report = report_of(d2, "--keep", 80, "--previous", "before.parquet", "--max-changes", 5)
    kept, told = ids_in("keep.parquet"), report["previous"]

    assert 0 < len(before - here) == told["gone"]
    assert told["rows"] == 60
    assert told["max_changes"] == 5
    assert told["kept"] == len(kept & before)
    assert told["changes"] == len((before & here) - kept) == 5
    assert told["newcomers"] == len(kept - before)
    again = told["reselection"]
    assert again["kept"] == len(free & before)
    assert again["changes"] == len((before & here) - free) > 5
    assert again["newcomers"] == len(free - before)
    assert again["gone"] == told["gone"]
    assert again["common"] == len(free & kept)
    assert again["coverage"] == plain["coverage"] != report["coverage"]
    assert again["difficulty"] == plain["difficulty"]["kept"] != report["difficulty"]["kept"]


def test_rows_that_are_no_candidates_any_more_are_gone(files, d2):
    stay = sorted(ids_in("before.parquet") & ids_in("new.parquet"))
    (files / "not.txt").write_text("\n".join(stay[:7]))
    more = ("--keep", 80, "--previous", "before.parquet", "--max-changes", 0)
    report = report_of(d2, *more, "--exclude", "not.txt")
    assert report["previous"]["gone"] == 60 - len(stay) + 7
    assert report["previous"]["kept"] == len(stay) - 7
    assert ids_in("keep.parquet") >= set(stay[7:])
    cut = report_of(d2, *more, "--prune-hardest", 0.2)["previous"]
    assert cut["gone"] > 60 - len(stay)
    assert cut["kept"] + cut["gone"] == 60


def test_without_a_limit_the_rows_are_the_same_and_only_the_report_compares(files, d2):
    report_of(d2, "--keep", 80)
    rows = pq.read_table("keep.parquet")
    report = report_of(d2, "--keep", 80, "--previous", "before.parquet")
    assert pq.read_table("keep.parquet").equals(rows)
    told = report["previous"]
    assert told["max_changes"] is None
    assert {name: told[name] for name in ("kept", "changes", "gone", "newcomers")} == {
        name: told["reselection"][name] for name in ("kept", "changes", "gone", "newcomers")
    }
    assert told["reselection"]["common"] == 80


def test_every_report_and_standard_error_tell_it(files, d2):
    more = ("--keep", 80, "--previous", "before.parquet", "--max-changes", 5)
    told = report_of(d2, *more)["previous"]
    line = (
        f"previous: {told['kept']} of 60 rows kept, 5 changes (at most 5), "
        f"{told['newcomers']} newcomers; {told['gone']} gone"
    )
    other = f"full re-selection: {told['reselection']['kept']} of 60 rows kept"
    for name in ("r.md", "r.html"):
        code, _, err = prune(d2, "new.parquet", *more, "-o", "k.npy", "--report", name, "--force")
        assert code == 0
        assert f"  {line}\n" in err
        assert f"  {other}" in err
        assert "random re-selected\n" in err
        text = (files / name).read_text()
        assert "Beside the previous selection" in text
        assert line in text
        assert other in text
    _, _, err = prune(d2, "new.parquet", *more[:4], "-o", "k.npy")
    assert "  previous: " in err
    assert "re-selected" not in err
    assert "re-selection" not in err


def test_prune_and_select_give_the_same_bytes_and_find_them_again(files, d2):
    limit = ("--previous", "before.parquet", "--max-changes", 5)
    for line in (
        ("graph", "new.parquet", "-k", 6, "-o", "g.parquet"),
        ("score", "g.parquet", "--difficulty", "new.parquet::el2n", "--rate", 0.75,
         "-o", "s.parquet"),
        ("select", "s.parquet", "--rate", 0.75, *limit, "-o", "k.parquet"),
    ):  # fmt: skip
        code, _, err = d2(*line)
        assert code == 0, err
    assert prune(d2, "new.parquet", "--rate", 0.75, *limit, "-o", "p.parquet")[0] == 0
    assert (files / "k.parquet").read_bytes() == (files / "p.parquet").read_bytes()
    select = ("select", "s.parquet", "--rate", 0.75)
    assert "select: up to date" in d2(*select, *limit, "-o", "k.parquet")[2]
    meta = json.loads(pq.read_metadata("k.parquet").metadata[b"d2"])
    before = json.loads(pq.read_metadata("before.parquet").metadata[b"d2"])
    assert meta["inputs"]["previous"] == before["digest"]
    assert meta["parameters"]["max_changes"] == 5
    for other in ((*limit[:3], 6), limit[:2], ("--previous", "k.parquet", *limit[2:])):
        assert "up to date" not in d2(*select, *other, "-o", "other.parquet")[2]
        assert "up to date" not in d2(*select, *other, "-o", "other.npy")[2]
        assert "select: up to date" in d2(*select, *other, "-o", "again.npy")[2]


def test_a_dry_run_knows_what_a_run_finds(files, d2):
    def foretold(*more):
        code, out, err = prune(d2, "new.parquet", "--keep", 80, *more, "-o", "k.npy", "--dry-run")
        assert code == 0, err
        return out.splitlines()[-1]

    limit = ("--previous", "before.parquet", "--max-changes", 5)
    assert prune(d2, "new.parquet", "--keep", 80, *limit, "-o", "k.npy")[0] == 0
    assert foretold(*limit).startswith("select: hit")
    assert foretold(*limit[:3], 6).startswith("select: miss (max-changes 5 -> 6)")
    assert "previous left out" in foretold()


def test_without_ids_rows_are_found_by_number(files, d2):
    for name, rows in (("a", 200), ("b", 260), ("c", 199)):
        np.save(f"{name}.npy", np.random.default_rng(3).normal(size=(rows, 4)).astype(np.float32))
    more = ("--difficulty", "uniform", "-k", 5)
    assert d2("prune", "a.npy", *more, "--keep", 40, "-o", "a.parquet")[0] == 0
    limit = ("--previous", "a.parquet", "--max-changes", 3)
    code, out, err = d2("prune", "b.npy", *more, "--keep", 60, *limit, "-o", "-", "-q")
    assert code == 0, err
    before = set(pq.read_table("a.parquet")["row"].to_pylist())
    assert len(before - set(map(int, out.split()))) <= 3
    code, _, err = d2("prune", "c.npy", *more, "--keep", 60, *limit)
    assert code == 4
    assert "was made from 200 rows, but c.npy has 199, and there are no ids" in err
    # Ids on one side only, or left out by the user, are no ids to find rows by.
    assert prune(d2, "new.parquet", "--keep", 80, *limit, "-o", "k.npy")[0] == 0
    limit = ("--previous", "before.parquet", "--max-changes", 0, "--id", "none")
    assert prune(d2, "new.parquet", "--keep", 80, *limit, "-o", "k.npy")[0] == 0
    kept = set(np.load("k.npy").tolist())
    assert kept >= set(pq.read_table("before.parquet")["row"].to_pylist())


def test_what_is_no_earlier_selection_of_these_data_is_refused(files, d2):
    def refused(previous, *more):
        code, out, err = prune(d2, "new.parquet", "--keep", 80, "--previous", previous, *more)
        assert out == ""
        assert err.count("\n") == 2
        assert "\nhint: " in err
        return code, err

    (files / "list.txt").write_text("row 30\n")
    pq.write_table(pa.table({"id": ["row 30"]}), "list.parquet")
    data = bytearray((files / "before.parquet").read_bytes())
    data[len(data) // 3] ^= 1
    (files / "damaged.parquet").write_bytes(data)
    assert d2("graph", "old.parquet", "-o", "g.parquet")[0] == 0
    write("other.parquet", np.arange(330, 400))
    assert prune(d2, "other.parquet", "--keep", 9, "-o", "others.parquet")[0] == 0
    table = pq.read_table("other.parquet")
    pq.write_table(table.set_column(0, "id", pa.array(range(70))), "numbered.parquet")
    assert prune(d2, "numbered.parquet", "--keep", 9, "-o", "numbers.parquet")[0] == 0
    for name, code, said in (
        ("missing.parquet", 3, "missing.parquet"),
        ("list.txt", 4, "list.txt"),
        ("list.parquet", 4, "is not written by d2, expected a selection file"),
        ("damaged.parquet", 4, "damaged"),
        ("g.parquet", 4, "is a graph file, expected a selection file"),
        ("others.parquet", 4, "none of its 9 ids is one of new.parquet"),
        ("numbers.parquet", 4, "ids are int64, those of new.parquet are large_string"),
    ):
        found, err = refused(name)
        assert (found, said in err) == (code, True), err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--keep", 80, "--max-changes", 5), "--max-changes 5 needs the selection"),
        (("--keep", 80, "--previous", "before.parquet", "--max-changes", -1), "max-changes is -1"),
        (("--keep", 80, "--previous", "before.parquet", "--max-changes", "x"), "max-changes"),
        (
            ("--keep", 80, "--previous", "before.parquet", "--max-changes", 5, "--method", "ccs"),
            "max-changes does not go with the method ccs",
        ),
        (("--keep", 80, "--previous", "before.parquet", "-o", "before.parquet"), "is an input"),
        (("--keep", 80, "--previous", "before.parquet", "--report", "before.parquet"), "report"),
        (("--keep", "+5"), "beside those of --include, which is not given"),
        (("--keep", "+0", "--include", "before.parquet"), "keep is 0"),
        (("--keep", "+x", "--include", "before.parquet"), "keep is '+x', expected"),
        (("--keep", "5.5"), "keep is '5.5', expected"),
        (("--keep", "-5"), "keep is -5, expected"),
        (("--keep", "+5", "--rate", 0.5, "--include", "before.parquet"), "exactly one of rate"),
        (("--keep", "+241", "--include", "kept.txt"), "keep is 301, but there are 300 rows"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(files, d2, more, said):
    stay = sorted(ids_in("new.parquet"))[:60]
    (files / "kept.txt").write_text("\n".join(stay))
    before = (files / "before.parquet").read_bytes()
    code, out, err = prune(d2, "new.parquet", *more)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert (files / "before.parquet").read_bytes() == before


@pytest.mark.parametrize("grouped", [False, True])
def test_too_few_changes_are_refused_with_the_least_that_do(files, d2, grouped):
    more = ("--keep", 40, "--previous", "before.parquet")
    more += ("--group", "label", "--balance", "uniform") if grouped else ()
    code, _, err = prune(d2, "new.parquet", *more, "--max-changes", 2)
    assert code == 2
    assert ("the budgets of the groups leave" if grouped else "the budget leaves") in err
    least = int(err.partition("hint: --max-changes ")[2].split()[0])
    assert prune(d2, "new.parquet", *more, "--max-changes", least - 1)[0] == 2
    told = report_of(d2, *more, "--max-changes", least)["previous"]
    assert told["changes"] == least


def test_the_report_again_needs_the_previous_selection(files, d2):
    told = report_of(d2, "--keep", 80, "--previous", "before.parquet", "--max-changes", 5)
    code, out, err = d2("report", "keep.parquet", "--previous", "before.parquet", "--json")
    assert code == 0, err
    again = json.loads(out)
    for report in (told, again):
        del report["stages"]
        report.pop("seal", None)
    assert again == told
    code, _, err = d2("report", "keep.parquet")
    assert code == 4
    assert "was made with --previous, which is not known here" in err
    code, _, err = d2("report", "keep.parquet", "--previous", "keep.parquet")
    assert code == 4
    assert "is not the previous selection that keep.parquet was made with" in err
    report_of(d2, "--keep", 80)
    code, _, err = d2("report", "keep.parquet", "--previous", "before.parquet")
    assert code == 4
    assert "leave out --previous" in err


def test_explain_tells_newcomers_that_there_was_no_place(files, d2):
    prune(d2, "new.parquet", "--keep", 80, "-o", "free.parquet")
    report_of(d2, "--keep", 80, "--previous", "before.parquet", "--max-changes", 1)
    before, kept = ids_in("before.parquet"), ids_in("keep.parquet")
    late = sorted(ids_in("free.parquet") - kept - before)
    assert late
    code, out, err = d2("explain", "keep.parquet", *late, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert all(row["passed_over"] for row in rows if row["last_pick"]["score_then"]
               > row["last_pick"]["score_at_pick"])  # fmt: skip
    assert any(row["passed_over"] for row in rows)
    _, out, _ = d2("explain", "keep.parquet", next(r["id"] for r in rows if r["passed_over"]))
    assert "--max-changes left no place for one more newcomer." in " ".join(out.split())
    here = sorted((before & ids_in("new.parquet")) - kept)
    assert here
    code, out, _ = d2("explain", "keep.parquet", *here, "--json")
    assert not any(row["passed_over"] for row in json.loads(out)["rows"])


def test_a_file_may_set_the_options_and_the_line_overrides_them(files, d2):
    (files / "d2.toml").write_text(
        'previous = "before.parquet"\n[prune]\nmax-changes = 5\nkeep = "+20"\n'
    )
    (files / "in.txt").write_text("\n".join(sorted(ids_in("new.parquet"))[:60]))
    code, _, err = prune(
        d2, "new.parquet", "--include", "in.txt", "--max-changes", 50, "-o", "k.npy"
    )
    assert code == 0, err
    told = [line for line in err.splitlines() if line.startswith("note: d2.toml sets")]
    assert {"--previous before.parquet", "--keep +20"} <= set(
        told[0].removeprefix("note: d2.toml sets ").split(", ")
    )
    assert "changes (at most 50)" in err
    assert len(np.load("k.npy")) == 80
    code, _, err = prune(d2, "new.parquet", "--rate", 0.5, "--max-changes", 60, "-o", "k.npy")
    assert code == 0, err  # the line's rate overrides the file's keep
    assert len(np.load("k.npy")) == 150


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "txt", "npy"])
def test_more_rows_beside_any_list_of_labelled_ones(files, d2, suffix):
    more = ("--keep", 30, "-o", f"labelled.{suffix}", "--order",
            "row" if suffix == "parquet" else "rank")  # fmt: skip
    assert prune(d2, "old.parquet", *more)[0] == 0
    include = ("--include", f"labelled.{suffix}", "--order", "rank", "-o")
    write("grown.parquet", np.arange(320))
    code, _, err = prune(d2, "grown.parquet", "--keep", "+25", *include, "more.npy")
    assert code == 0, err
    rows = np.load("more.npy")
    assert len(rows) == 55
    assert prune(d2, "grown.parquet", "--keep", 55, *include, "all.npy")[0] == 0
    np.testing.assert_array_equal(rows, np.load("all.npy"))
    assert prune(d2, "old.parquet", "--keep", 30, "-o", "l.parquet")[0] == 0
    labelled = pq.read_table("l.parquet")
    if suffix != "parquet":
        labelled = labelled.sort_by("rank")
    assert rows[:30].tolist() == labelled["row"].to_pylist()  # which act on the rest first


def test_functions_take_the_same(files, d2):
    old, new = (pq.read_table(f"{name}.parquet") for name in ("old", "new"))
    place = {name: row for row, name in enumerate(new["id"].to_pylist())}
    before = [place[name] for name in ids_in("before.parquet") if name in place]
    assert old.num_rows == 200
    report_of(d2, "--keep", 80, "--previous", "before.parquet", "--max-changes", 5)
    kept = pq.read_table("keep.parquet").sort_by("rank")
    vectors, el2n = np.array(new["embedding"].to_pylist(), np.float32), new["el2n"].to_numpy()
    rows = d2cli.prune(vectors, el2n, keep=80, n_neighbors=6, previous=before, max_changes=5)
    np.testing.assert_array_equal(rows, kept["row"].to_numpy())
    graph = d2cli.graph(vectors, n_neighbors=6)
    scores = d2cli.score(graph, el2n, rate=1 - 80 / 300)
    selection = d2cli.select(scores, graph, keep=80, previous=before, max_changes=5)
    np.testing.assert_array_equal(rows, selection.rows)
    with pytest.raises(d2cli.ParameterError, match="no previous selection"):
        d2cli.select(scores, graph, keep=80, max_changes=5)
