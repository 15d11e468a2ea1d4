"""Stages through files: what is computed again, what is up to date, what is refused."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def files(tmp_path):
    """emb.npy, aum.npy and a chain of stages over 150 rows, in a folder of its own."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "emb.npy", rng.normal(size=(150, 8)).astype(np.float32))
    np.save(tmp_path / "aum.npy", rng.normal(size=150))
    return tmp_path


@pytest.fixture
def chain(files, d2):
    """g.parquet, s.parquet and keep.parquet made from them."""
    assert d2("graph", files / "emb.npy", "-o", files / "g.parquet")[0] == 0
    score = ("--difficulty", files / "aum.npy", "--rate", 0.8, "-o", files / "s.parquet")
    assert d2("score", files / "g.parquet", *score)[0] == 0
    assert d2("select", files / "s.parquet", "--rate", 0.8, "-o", files / "keep.parquet")[0] == 0
    return files


def prune(files, *more):
    start = ("prune", files / "emb.npy", "--difficulty", files / "aum.npy", "--rate", 0.8)
    return (*start, *more)


def stages_done(err):
    """{stage: whether it was up to date} as the notes say."""
    return {s: f"{s}: up to date" in err for s in ("graph", "score", "select")}


def test_stages_through_files_equal_prune(chain, d2):
    code, out, _ = d2(*prune(chain))
    kept = pq.read_table(chain / "keep.parquet")
    assert code == 0
    assert [int(line) for line in out.split()] == kept["row"].to_pylist()


def test_bytes_do_not_depend_on_threads_folder_or_time(chain, d2, tmp_path):
    other = tmp_path / "a [b] c"
    other.mkdir()
    for name in ("emb.npy", "aum.npy"):
        shutil.copy(chain / name, other / f"x{name}")
    d2("graph", other / "xemb.npy", "-j", 2, "-o", other / "g2.parquet")
    d2(
        *("score", other / "g2.parquet", "--difficulty", other / "xaum.npy", "--harder", "low"),
        *("--rate", 0.8, "--prune-hardest", "auto", "-o", other / "s2.parquet"),  # as for aum
    )
    d2("select", other / "s2.parquet", "--rate", 0.8, "-o", other / "k2.parquet")
    # A graph records where its vectors are; all else is the same, and so are all bytes beside a
    # source of the same name.
    one, two = (pq.read_table(path) for path in (other / "g2.parquet", chain / "g.parquet"))
    assert one.equals(two)
    assert one.schema.metadata[b"d2"] == two.schema.metadata[b"d2"]
    shutil.copy(chain / "emb.npy", other / "emb.npy")
    d2("graph", other / "emb.npy", "-j", 2, "-o", other / "g3.parquet")
    assert (other / "g3.parquet").read_bytes() == (chain / "g.parquet").read_bytes()
    assert (other / "k2.parquet").read_bytes() == (chain / "keep.parquet").read_bytes()


def test_a_second_run_does_nothing_and_says_so(chain, d2):
    before = {path: path.stat().st_mtime_ns for path in chain.glob("*.parquet")}
    _, _, graph = d2("graph", chain / "emb.npy", "-o", chain / "g.parquet")
    _, _, score = d2(
        *("score", chain / "g.parquet", "--difficulty", chain / "aum.npy"),
        *("--rate", 0.8, "-o", chain / "s.parquet"),
    )
    _, _, select = d2("select", chain / "s.parquet", "--rate", 0.8, "-o", chain / "keep.parquet")
    assert "graph: up to date" in graph
    assert "score: up to date" in score
    assert "select: up to date" in select
    assert "keeping 30 of 150 rows (pruning rate 0.80)" in select
    assert before == {path: path.stat().st_mtime_ns for path in chain.glob("*.parquet")}


def test_force_computes_again_and_gives_the_same_bytes(chain, d2):
    before = (chain / "g.parquet").read_bytes()
    _, _, err = d2("graph", chain / "emb.npy", "-o", chain / "g.parquet", "--force")
    assert "up to date" not in err
    assert (chain / "g.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ((), set()),
        (("--rate", 0.7), {"score", "select"}),
        (("--gamma-reverse", 2), {"select"}),
        (("--prune-hardest", 0.1), {"score", "select"}),
        (("--neighbors", 4), {"graph", "score", "select"}),
        (("-j", 1), set()),
    ],
)
def test_prune_runs_only_the_stages_that_a_change_concerns(files, d2, change, redone):
    d2(*prune(files, "-o", files / "k.npy"))
    code, _, err = d2(*prune(files, "-o", files / "k.npy", *change))
    assert code == 0
    assert stages_done(err) == {s: s not in redone for s in ("graph", "score", "select")}


def test_other_contents_under_the_same_name_are_seen(files, d2):
    d2(*prune(files, "-o", files / "k.npy"))
    np.save(files / "aum.npy", np.random.default_rng(5).normal(size=150))
    _, _, err = d2(*prune(files, "-o", files / "k.npy"))
    assert stages_done(err) == {"graph": True, "score": False, "select": False}


def test_a_list_that_would_not_change_is_not_written_again(files, d2):
    d2(*prune(files, "-o", files / "k.txt"))
    before = (files / "k.txt").stat().st_mtime_ns
    d2(*prune(files, "-o", files / "k.txt"))
    assert (files / "k.txt").stat().st_mtime_ns == before
    (files / "k.txt").write_text("something else\n")
    d2(*prune(files, "-o", files / "k.txt"))
    assert len((files / "k.txt").read_text().split()) == 30


def test_a_missing_or_foreign_report_is_written(files, d2):
    d2(*prune(files, "-o", files / "k.npy", "--report", files / "r.json"))
    first = json.loads((files / "r.json").read_text())
    assert [stage["status"] for stage in first["stages"]] == ["computed"] * 3
    (files / "r.json").unlink()
    d2(*prune(files, "-o", files / "k.npy", "--report", files / "r.json"))
    again = json.loads((files / "r.json").read_text())
    assert [stage["status"] for stage in again["stages"]] == ["up to date"] * 3
    for report in (first, again):
        del report["stages"], report["seal"]
    assert json.dumps(first) == json.dumps(again)  # in the same order, too
    d2(*prune(files, "--gamma-reverse", 3, "-o", files / "k.npy", "--report", files / "r.json"))
    assert json.loads((files / "r.json").read_text())["key"] != again["key"]


def test_a_damaged_cache_entry_is_a_miss_with_a_warning(files, d2, own_cache):
    _, first, _ = d2(*prune(files))
    for path in own_cache.glob("graph-*.parquet"):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    code, second, err = d2(*prune(files))
    assert code == 0
    assert "damaged" in err
    assert first == second


def test_a_cache_folder_that_cannot_be_written_is_no_obstacle(files, d2, monkeypatch):
    (files / "file").write_text("")
    monkeypatch.setenv("D2_CACHE_DIR", str(files / "file" / "x"))
    code, out, err = d2(*prune(files, "--cache-dir", files / "file"))
    assert code == 2
    assert "cannot be a cache folder" in err
    assert out == ""


def test_scores_find_their_graph_after_both_moved(chain, d2):
    (chain / "new").mkdir()
    for name in ("g.parquet", "s.parquet"):
        (chain / name).rename(chain / "new" / name)
    code, _, _ = d2("select", chain / "new/s.parquet", "--rate", 0.8, "-o", chain / "k.npy")
    assert code == 0


def test_a_graph_that_has_gone_is_named_with_a_way_out(chain, d2):
    (chain / "g.parquet").rename(chain / "other.parquet")
    code, _, err = d2("select", chain / "s.parquet", "--rate", 0.8)
    assert code == 4
    assert "g.parquet is not there any more" in err
    assert "--graph" in err
    code, _, _ = d2(
        "select", chain / "s.parquet", "--rate", 0.8, "--graph", chain / "other.parquet"
    )
    assert code == 0


def test_a_graph_of_other_data_is_refused_naming_both(chain, d2):
    d2("graph", chain / "emb.npy", "-k", 3, "-o", chain / "g3.parquet")
    code, out, err = d2(
        "select", chain / "s.parquet", "--rate", 0.8, "--graph", chain / "g3.parquet"
    )
    assert code == 4
    assert "g3.parquet: is not the graph that" in err
    assert "s.parquet was made from" in err
    assert out == ""


def test_scores_made_through_a_pipe_carry_their_graph(chain, d2, shell):
    line = "d2 graph emb.npy | d2 score --difficulty aum.npy --rate 0.8 -o p.parquet"
    assert shell(line, cwd=chain).returncode == 0
    _, out, _ = d2("select", chain / "p.parquet", "--rate", 0.8)
    kept = pq.read_table(chain / "keep.parquet")["row"].to_pylist()
    assert [int(line) for line in out.split()] == kept


def test_select_takes_kernel_bandwidth_and_preset_from_the_scores(chain, d2):
    d2(
        *("score", chain / "g.parquet", "--difficulty", chain / "aum.npy", "--preset", "reference"),
        *("--bandwidth", 2, "-o", chain / "s.parquet"),
    )
    d2("select", chain / "s.parquet", "--rate", 0.8, "-o", chain / "k.parquet")
    meta = json.loads(pq.read_schema(chain / "k.parquet").metadata[b"d2"])["parameters"]
    assert (meta["preset"], meta["kernel"], meta["bandwidth"]) == ("reference", "exponential", 2)
    assert (meta["ties"], meta["gamma_reverse"]) == ("row", 0.1)
    d2(
        *("select", chain / "s.parquet", "--rate", 0.8, "--preset", "paper"),
        *("--kernel", "exponential", "-o", chain / "k.parquet"),
    )
    meta = json.loads(pq.read_schema(chain / "k.parquet").metadata[b"d2"])["parameters"]
    assert (meta["preset"], meta["kernel"], meta["bandwidth"]) == ("paper", "exponential", 1)


def test_select_says_when_the_scores_are_for_another_rate(chain, d2):
    _, _, other = d2("select", chain / "s.parquet", "--rate", 0.75, "-o", chain / "k.npy")
    assert "note: the scores were made for rate 0.8" in other
    assert "`d2 score --rate 0.75` would use 0.7778" in other
    _, _, same = d2("select", chain / "s.parquet", "--rate", 0.8, "-o", chain / "k.npy")
    assert "note:" not in same


def test_under_preset_paper_a_higher_rate_is_a_prefix_by_rank(files, d2):
    kept = []
    for rate in (0.9, 0.5):
        d2(
            *("prune", files / "emb.npy", "--difficulty", files / "aum.npy", "--rate", rate),
            *("--preset", "paper", "-o", files / "k.parquet"),
        )
        kept.append(pq.read_table(files / "k.parquet").sort_by("rank")["row"].to_pylist())
    assert kept[0] == kept[1][:15]


def test_nothing_stray_is_left_after_a_kill_and_the_next_run(chain, d2):
    stray = chain / ".g.parquet.0123456789ab.d2tmp"
    stray.write_bytes(b"half a file")
    d2("graph", chain / "emb.npy", "-k", 3, "-o", chain / "g3.parquet")
    assert not stray.exists()
    assert list(chain.glob(".*.d2tmp")) == []
