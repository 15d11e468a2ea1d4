"""``--engine``, ``--partitions`` and ``--store`` without a cluster; `test_cluster` has one."""

import json
import sys

import numpy as np
import pyarrow.fs as pafs
import pytest
import test_remote

from d2cli.cli.parser import app
from d2cli.files.artifacts import read_artifact
from d2cli.files.parts import Parts
from d2cli.stages.methods import Picked
from d2cli.stages.rounds import Rounds

s3_server, s3 = test_remote.s3_server, test_remote.s3  # the double, and what leads to it


@pytest.fixture
def made(tmp_path, d2):
    """A folder with a graph and scores of 300 rows in three groups."""
    rng = np.random.default_rng(5)
    np.save(tmp_path / "v.npy", rng.normal(size=(300, 4)).astype(np.float32))
    np.save(tmp_path / "aum.npy", rng.random(300))
    np.save(tmp_path / "group.npy", rng.integers(0, 3, 300))
    (tmp_path / "in.txt").write_text("7\n250\n")
    (tmp_path / "out.txt").write_text("11\n12\n")
    graph, scores = tmp_path / "g.parquet", tmp_path / "s.parquet"
    assert d2("graph", tmp_path / "v.npy", "-k", 5, "-o", graph)[0] == 0
    aum = ("--difficulty", tmp_path / "aum.npy", "--harder", "low")
    assert d2("score", graph, *aum, "--rate", 0.5, "-o", scores)[0] == 0
    return tmp_path


def parts_in(folder):
    return sorted(folder.glob("part-*.parquet"))


AUM = ("--harder", "low", "--rate", 0.5, "--rounds", 3, "--prune-hardest", 0.1)


@pytest.mark.parametrize("preset", ["default", "reference"])
def test_partitions_do_not_change_a_byte_of_scores(made, own_cache, d2, preset):
    written = []
    more = (*AUM, "--difficulty", made / "aum.npy", "--preset", preset)
    for n_parts in (None, 1, 2, 3, 7, 300):
        output = made / f"scores-{n_parts}.parquet"
        parted = () if n_parts is None else ("--partitions", n_parts)
        code, _, err = d2("score", made / "g.parquet", *more, *parted, "-o", output, "-v")
        assert code == 0, err
        if n_parts:
            assert f"{3 * n_parts} tasks (local) for {n_parts} partitions, 0 B moved" in err
        written.append(output.read_bytes())
    assert len(set(written)) == 1
    assert not parts_in(own_cache)


def test_a_lost_scoring_goes_on_with_the_parts_that_are_missing(made, own_cache, d2, monkeypatch):
    output = made / "x.parquet"
    line = ("score", made / "g.parquet", *AUM, "--difficulty", made / "aum.npy", "-o", output)
    keep, kept = Parts.keep, []

    def keep_or_end(self, columns, **which):
        if len(kept) == 7:
            raise Lost
        kept.append(keep(self, columns, **which))

    monkeypatch.setattr(Parts, "keep", keep_or_end)
    with pytest.raises(Lost):
        app([*map(str, line), "--partitions", "5"])
    assert len(parts_in(own_cache)) == 7
    assert not output.exists()

    monkeypatch.setattr(Parts, "keep", keep)
    code, _, err = d2(*line, "--partitions", 5, "-v")
    assert code == 0, err
    assert "8 tasks (local) for 5 partitions" in err  # of three passes over five parts
    assert not parts_in(own_cache)
    one = made / "one.parquet"
    assert d2(*line[:-1], one)[0] == 0
    assert one.read_bytes() == output.read_bytes()


def test_sums_on_other_partitions_are_removed_too(made, own_cache, d2, monkeypatch):
    output = made / "x.parquet"
    line = ("score", made / "g.parquet", *AUM, "--difficulty", made / "aum.npy", "-o", output)
    keep, kept = Parts.keep, []

    def keep_or_end(self, columns, **which):
        if len(kept) == 4:
            raise Lost
        kept.append(keep(self, columns, **which))

    monkeypatch.setattr(Parts, "keep", keep_or_end)
    with pytest.raises(Lost):
        app([*map(str, line), "--partitions", "5"])
    monkeypatch.setattr(Parts, "keep", keep)
    other = own_cache / f"part-{'0' * 40}.parquet"
    other.write_bytes(b"of another result")
    assert len(parts_in(own_cache)) == 5
    assert d2(*line, "--partitions", 3)[0] == 0
    assert parts_in(own_cache) == [other]


def test_a_probe_is_not_scored_in_parts(made, d2):
    more = ("--labels", made / "group.npy", "--embedding", made / "v.npy", *AUM)
    line = ("score", made / "g.parquet", "--difficulty", made / "aum.npy", *more)
    code, _, err = d2(*line, "--prune-hardest", "probe", "--partitions", 2)
    assert code == 2
    assert "--prune-hardest probe does not run in parts" in err
    code, _, err = d2(*line[:4], *AUM, "--partitions", 301)
    assert code == 2
    assert "partitions is 301" in err


class Lost(Exception):
    """The process ends here."""


@pytest.fixture
def lose(monkeypatch):
    """End the run after so many rounds are kept; with None, never."""
    record = Rounds.__init__

    def after(count):
        def begin(self, parts, executor, known, keep=None):
            made = []

            def keep_or_end(picked: Picked):
                if len(made) == count:
                    raise Lost
                made.append(keep(picked))

            record(self, parts, executor, known, keep_or_end)

        monkeypatch.setattr(Rounds, "__init__", begin if count is not None else record)

    return after


def test_partitions_do_not_change_a_byte(made, d2):
    more = ("--group", made / "group.npy", "--include", made / "in.txt")
    more += ("--exclude", made / "out.txt", "--rate", 0.5)
    written = []
    for n_parts in (None, 1, 2, 3, 7, 300):
        output = made / f"keep-{n_parts}.parquet"
        parted = () if n_parts is None else ("--partitions", n_parts)
        code, _, err = d2("select", made / "s.parquet", *more, *parted, "-o", output)
        assert code == 0, err
        written.append(output.read_bytes())
    assert len(set(written)) == 1


COUNTED = ("tasks", "bytes_sent", "bytes_received", "bytes_kept", "bytes_read", "retries")


def test_reports_have_a_table_of_the_steps(made, d2):
    line = ("select", made / "s.parquet", "--rate", 0.5, "-o", made / "keep.parquet", "--force")
    for name in ("r.json", "r.md", "r.html"):
        code, _, err = d2(*line, "--partitions", 3, "--report", made / name)
        assert code == 0, err
    (stage,) = json.loads((made / "r.json").read_text())["stages"]
    steps = {step["step"]: step for step in stage["steps"]}
    assert list(steps) == ["divide", "hand out", "tasks", "keep"]
    assert steps["tasks"]["tasks"] == stage["tasks"] == 3 * (stage["tasks"] // 3)
    assert steps["keep"]["bytes_kept"] == 16 * 150  # row and score of every pick, whatever rounds
    for name in COUNTED:
        assert stage.get(name, 0) in (0, sum(step[name] for step in stage["steps"]))
    assert 0 <= sum(step["seconds"] for step in stage["steps"]) <= stage["seconds"] + 0.01
    assert 0 < stage["edges_across"] < 0.5

    rows = [row for row in (made / "r.md").read_text().splitlines() if row.startswith("| select ")]
    assert [row.split(" | ")[1] for row in rows] == [*steps, "in all"]
    assert rows[-1].split(" | ")[6] == "2.4 kB"
    html = (made / "r.html").read_text()
    assert "Stages in parts (select: local, 3 partitions" in html
    assert html.count('<tr><th scope="row">select</th>') == 5
    err = err.splitlines()
    assert err[1].startswith("select: local, 3 partitions, ")
    assert err[2].split() == [
        "stage",
        "step",
        "seconds",
        "tasks",
        "sent",
        "received",
        "kept",
        "read",
        "retries",
    ]
    assert [text.split()[1] for text in err[3:7]] == ["divide", "hand", "tasks", "keep"]

    code, _, err = d2(*line, "--report", made / "r.md")
    assert code == 0
    assert "| select |" not in (made / "r.md").read_text()
    assert "partitions" not in err


def test_scores_print_the_table_too(made, d2):
    more = (*AUM, "--difficulty", made / "aum.npy", "-o", made / "again.parquet")
    line = ("score", made / "g.parquet", *more, "--partitions", 4, "--force")
    code, out, err = d2(*line, "--json")
    assert code == 0, err
    (stage,) = json.loads(out)["stages"]
    steps = {step["step"]: step for step in stage["steps"]}
    assert steps["tasks"]["tasks"] == 12
    assert steps["keep"]["bytes_kept"] == 3 * 300 * 8  # the sums of three passes
    assert "  score   tasks" in err
    code, out, _ = d2("score", made / "g.parquet", *more, "--force", "--json")
    assert "stages" not in json.loads(out)


def test_the_report_names_the_engine_and_its_tasks(made, own_cache, d2):
    output, report = made / "keep.parquet", made / "report.json"
    line = ("select", made / "s.parquet", "--rate", 0.5, "-o", output, "--report", report)
    assert d2(*line)[0] == 0
    (stage,) = json.loads(report.read_text())["stages"]
    assert (stage["engine"], stage["tasks"]) == ("local", 1)

    assert d2(*line, "--partitions", 3, "--force")[0] == 0
    (stage,) = json.loads(report.read_text())["stages"]
    assert stage["engine"] == "local"
    assert stage["partitions"] == 3
    assert stage["rounds"] > 1
    assert stage["tasks"] % 3 == 0
    assert stage["tasks"] >= 3 * stage["rounds"]
    assert stage["rounds_found"] == stage["retries"] == stage["bytes_moved"] == 0
    assert not parts_in(own_cache)

    report.unlink()
    assert d2(*line, "--partitions", 3)[0] == 0
    (stage,) = json.loads(report.read_text())["stages"]
    assert (stage["status"], stage["tasks"]) == ("up to date", 0)


@pytest.mark.parametrize("where", ["cache", "store"])
def test_a_lost_run_goes_on_after_its_last_round(made, own_cache, d2, lose, where):
    store = made / "deep" / "store"
    given = ("--store", store) if where == "store" else ()
    folder = store if where == "store" else own_cache
    line = ("select", made / "s.parquet", "--rate", 0.5, *given)
    assert d2("select", made / "s.parquet", "--rate", 0.5, "-o", made / "one.parquet")[0] == 0

    lose(2)
    with pytest.raises(Lost):
        app([str(a) for a in (*line, "--partitions", 3, "-o", made / "x.parquet")])
    assert len(parts_in(folder)) == 2
    assert not (made / "x.parquet").exists()
    rows = sum(read_artifact(part, "part").table.num_rows for part in parts_in(folder))

    lose(None)
    report = made / "r.json"
    more = ("--partitions", 4, "-o", made / "x.parquet", "--report", report)
    code, _, err = d2(*line, *more)
    assert code == 0, err
    assert f"going on after 2 rounds, {rows} rows" in err
    (stage,) = json.loads(report.read_text())["stages"]
    assert stage["rounds_found"] == 2
    assert (made / "x.parquet").read_bytes() == (made / "one.parquet").read_bytes()
    assert not parts_in(folder)


def test_rounds_of_another_division_are_not_mixed_in(made, own_cache, d2, lose):
    """The second round of one run must not follow the first of another."""
    line = ["select", str(made / "s.parquet"), "--rate", "0.5", "-o", str(made / "x.parquet")]
    for n_parts, rounds in ((2, 3), (7, 1)):
        lose(rounds)
        with pytest.raises(Lost):
            app([*line, "--partitions", str(n_parts), "--force"])
    kept = len(parts_in(own_cache))
    lose(None)
    code, _, err = d2(*line, "--partitions", 2)
    assert code == 0, err
    assert "going on after 1 rounds" in err
    assert not parts_in(own_cache)  # those of seven partitions neither
    assert kept == 3  # the first of both has one name, the others follow the one that is gone
    one = made / "one.parquet"
    assert d2("select", made / "s.parquet", "--rate", 0.5, "-o", one)[0] == 0
    assert one.read_bytes() == (made / "x.parquet").read_bytes()


def test_a_bucket_is_a_store(made, d2, lose, s3):
    address = "s3://bucket/deep/parts"
    line = ("--partitions", 3, "--store", address)
    more = (*AUM, "--difficulty", made / "aum.npy")
    score = ("score", made / "g.parquet", *more, "--force")
    assert d2(*score, "-o", made / "one.parquet")[0] == 0
    assert d2(*score[:-1], *line, "-o", made / "x.parquet")[0] == 0
    assert (made / "one.parquet").read_bytes() == (made / "x.parquet").read_bytes()
    puts = [path for method, path, *_ in s3.requests if method == "PUT"]
    assert sum("deep/parts/part-" in path for path in puts) >= 9  # three parts of three passes

    line = ("select", made / "s.parquet", "--rate", 0.5, *line)
    assert d2("select", made / "s.parquet", "--rate", 0.5, "-o", made / "one.parquet")[0] == 0
    lose(2)
    with pytest.raises(Lost):
        app([*map(str, line), "-o", str(made / "keep.parquet")])
    found = s3.files.get_file_info(pafs.FileSelector("bucket/deep/parts"))
    assert len([info for info in found if info.base_name.startswith("part-")]) == 2
    lose(None)
    code, _, err = d2(*line, "-o", made / "keep.parquet")
    assert code == 0, err
    assert "going on after 2 rounds" in err
    assert (made / "keep.parquet").read_bytes() == (made / "one.parquet").read_bytes()
    found = s3.files.get_file_info(pafs.FileSelector("bucket/deep/parts", allow_not_found=True))
    assert not [info for info in found if info.base_name.startswith("part-")]


def test_a_bucket_that_is_not_there_or_closed_is_one_line(made, d2, s3):
    line = ("select", made / "s.parquet", "--rate", 0.5, "--partitions", 2)
    code, out, err = d2(*line, "--store", "s3://nowhere/parts", "-o", made / "x.parquet")
    assert (code, out) == (5, "")
    assert "s3://nowhere/parts/part-" in err
    assert len(err.splitlines()) == 2
    s3.fault = lambda method, path, query: method in ("PUT", "POST")
    code, out, err = d2(*line, "--store", "s3://bucket/parts", "-o", made / "x.parquet")
    assert (code, out) == (5, "")
    assert "s3://bucket/parts/part-" in err
    assert len(err.splitlines()) == 2
    assert not (made / "x.parquet").exists()


def test_a_damaged_part_is_made_again_with_a_warning(made, own_cache, d2, lose):
    line = ["select", str(made / "s.parquet"), "--rate", "0.5", "-o", str(made / "x.parquet")]
    lose(1)
    with pytest.raises(Lost):
        app([*line, "--partitions", "2"])
    (part,) = parts_in(own_cache)
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)

    lose(None)
    code, _, err = d2(*line, "--partitions", 2)
    assert code == 0, err
    assert "making it again" in err
    assert "going on" not in err


def test_parts_that_were_left_are_listed_verified_and_cleared(made, own_cache, d2, lose):
    lose(1)
    with pytest.raises(Lost):
        app(["select", str(made / "s.parquet"), "--rate", "0.5", "--partitions", "2"])
    (part,) = parts_in(own_cache)
    code, out, err = d2("cache", "ls", "--json")
    assert code == 0, err
    (entry,) = (e for e in json.loads(out)["entries"] if e["kind"] == "part")
    assert entry["file"] == part.name
    assert entry["what"].startswith("of ")
    assert d2("cache", "ls")[0] == d2("cache", "verify")[0] == d2("cache", "clear")[0] == 0
    assert not part.exists()


def test_force_finds_nothing(made, d2, lose):
    line = ["select", str(made / "s.parquet"), "--rate", "0.5", "-o", str(made / "x.parquet")]
    lose(1)
    with pytest.raises(Lost):
        app([*line, "--partitions", "2"])
    lose(None)
    code, _, err = d2(*line, "--partitions", 2, "--force")
    assert code == 0
    assert "going on" not in err


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--engine", "spark"), 2, "spark"),
        (("--partitions", 0), 2, "partitions is 0, expected at least 1"),
        (("--partitions", 301), 2, "partitions is 301, expected 1 to 300, the number of rows"),
        (("--address", "auto"), 2, "--address is only used by --engine ray"),
        (("--store", "there"), 2, "--store is only used where a stage runs in parts"),
        (("--partitions", 2, "--method", "random"), 2, "--method random does not run in parts"),
        (("--partitions", 2, "--store", "s.parquet"), 2, "s.parquet: cannot be a store"),
        (("--engine", "ray", "--address", "there"), 2, "address is 'there', expected auto"),
        (("--engine", "ray", "--address", "localhost:1"), 5, "no Ray cluster answers"),
    ],
)
def test_bad_use_is_one_line_and_a_hint(made, d2, monkeypatch, more, code, words):
    monkeypatch.chdir(made)
    found, out, err = d2("select", "s.parquet", "--rate", 0.5, "-o", "x.parquet", *more)
    assert found == code, err
    assert words in err
    assert len(err.splitlines()) == 2
    assert err.splitlines()[1].startswith("hint: ")
    assert not out
    assert not (made / "x.parquet").exists()


def test_without_grpc_an_address_of_clients_says_what_it_needs(made, d2, monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    line = ("select", made / "s.parquet", "--rate", 0.5, "--engine", "ray")
    code, _, err = d2(*line, "--address", "ray://localhost:1")
    assert code == 2
    assert "ray://localhost:1: needs Ray's client" in err
    assert "pip install 'ray[client]'" in err


def test_without_ray_the_extra_is_named(made, d2, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = d2("select", made / "s.parquet", "--rate", 0.5, "--engine", "ray")
    assert code == 2
    assert "--engine ray needs Ray" in err
    assert "pip install 'd2cli[ray]'" in err


def test_a_store_that_cannot_be_written_to_is_exit_5(made, d2, monkeypatch):
    def full(*_, **__):
        from d2cli.errors import ResourceError

        raise ResourceError("there: cannot be written: No space left on device")

    monkeypatch.setattr("d2cli.files.parts.write_artifact", full)
    code, _, err = d2("select", made / "s.parquet", "--rate", 0.5, "--partitions", 2)
    assert code == 5
    assert "No space left" in err
