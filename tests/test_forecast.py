"""A dry run's forecast beside what the run then does."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """200 rows with vectors, a score and a label, in a folder of their own."""
    rng = np.random.default_rng(11)
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", rng.normal(size=(200, 6)).astype(np.float32))
    np.save("other.npy", rng.normal(size=(200, 6)).astype(np.float32))
    table = {"aum": rng.normal(size=200), "label": rng.integers(0, 4, 200)}
    pq.write_table(pa.table(table), "d.parquet")
    return tmp_path


V = "hit if the vectors are the same"
G, S = "hit if the graph is the same", "hit if the scores are the same"
M = "miss"


def stages(d2, *args):
    """Run ``d2 prune``; return what it says of each stage."""
    rate = () if "--keep" in args else ("--rate", 0.5)
    code, out, err = d2("prune", *args, "--difficulty", "d.parquet::aum", *rate, "-q", "--json")
    assert code == 0, err
    return {stage["stage"]: stage["status"] for stage in json.loads(out)["stages"]}


def assert_kept(foretold, done):
    """Assert that what was a hit was found, whatever the condition, and a miss computed."""
    status = {"hit": "up to date", "miss": "computed"}
    assert {stage: status[said.split()[0]] for stage, said in foretold.items()} == done


# What was run before, what is then dropped, what is asked, and what is to be said of the stages.
CASES = {
    "nothing": (None, (), (), (M, M, M)),
    "everything": ((), (), (), (V, V, V)),
    "another graph": ((), (), ("-k", "4"), (M, M, M)),
    "other scores": ((), (), ("--rounds", "2"), (V, M, M)),
    "another cutoff": ((), (), ("--prune-hardest", "0.2"), (V, M, M)),
    "another difficulty": ((), (), ("--harder", "high"), (V, M, M)),
    "another selection": ((), (), ("--messages", "clamped"), (V, V, M)),
    "groups": ((), (), ("--group", "d.parquet::label"), (V, M, M)),
    "another rate": ((), (), ("--keep", "20"), (V, M, M)),
    "same options, told": ((), (), ("-k", "10", "--rounds", "1"), (V, V, V)),
    "no graph": ((), ("graph",), (), (M, G, G)),
    "no scores": ((), ("scores",), (), (V, M, S)),
    "no selection": ((), ("selection",), (), (V, V, M)),
    "selection alone": ((), ("graph", "scores"), (), (M, M, S)),
    "scores alone": ((), ("graph", "selection"), (), (M, G, M)),
    "graph alone": ((), ("scores", "selection"), (), (V, M, M)),
    "no graph, other scores": ((), ("graph",), ("--rounds", "2"), (M, M, M)),
    "no graph, another selection": ((), ("graph",), ("--messages", "clamped"), (M, G, M)),
    "all dropped": ((), ("graph", "scores", "selection"), (), (M, M, M)),
    "forced": ((), (), ("--force",), (M, M, M)),
    "forced, nothing there": (None, (), ("--force",), (M, M, M)),
}


@pytest.mark.parametrize("place", ["cache", "file"])
@pytest.mark.parametrize("case", CASES)
def test_the_run_does_what_the_dry_run_says(here, d2, own_cache, case, place):
    before, dropped, asked, said = CASES[case]
    output = ("v.npy", "-o", "k.parquet" if place == "file" else "k.npy")
    if before is not None:
        assert set(stages(d2, *output, *before).values()) == {"computed"}
    for kind in dropped:
        in_file = place == "file" and kind == "selection"
        (path,) = [here / "k.parquet"] if in_file else own_cache.glob(f"{kind}-*.parquet")
        path.unlink()
    foretold = stages(d2, *output, *asked, "--dry-run")
    assert tuple(foretold[stage] for stage in ("graph", "score", "select")) == said
    assert_kept(foretold, stages(d2, *output, *asked))


def test_a_forecast_is_of_the_vectors_that_are_there(here, d2):
    stages(d2, "v.npy", "-o", "k.npy")
    foretold = stages(d2, "other.npy", "-o", "k.npy", "--dry-run")
    assert set(foretold.values()) == {V}  # the same number of rows, and no ids
    assert set(stages(d2, "other.npy", "-o", "k.npy").values()) == {"computed"}
    # Scores of one of the two graphs are changed: each run finds its own.
    stages(d2, "v.npy", "-o", "k.npy", "--rounds", 2)
    stages(d2, "other.npy", "-o", "k.npy", "--rounds", 3)
    for source, rounds in (("v.npy", 2), ("other.npy", 3)):
        args = (source, "-o", "k.npy", "--rounds", rounds)
        assert_kept(stages(d2, *args, "--dry-run"), stages(d2, *args))


def test_what_a_probe_decided_is_found_again(here, d2, monkeypatch):
    pytest.importorskip("sklearn")
    args = ("v.npy", "-o", "k.npy", "--prune-hardest", "probe", "--labels", "d.parquet::label")
    assert set(stages(d2, *args).values()) == {"computed"}
    foretold = stages(d2, *args, "--dry-run")
    assert set(foretold.values()) == {V}
    assert_kept(foretold, stages(d2, *args))
    foretold = stages(d2, *args, "--gamma-reverse", 1, "--dry-run")  # which the probe tries, too
    assert tuple(foretold.values()) == (V, M, M)
    assert_kept(foretold, stages(d2, *args, "--gamma-reverse", 1))


def test_a_cache_that_cannot_be_used_has_no_hits(here, d2, own_cache, monkeypatch):
    stages(d2, "v.npy", "-o", "k.npy")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, how: path != own_cache and may(path, how))
    foretold = stages(d2, "v.npy", "-o", "k.npy", "--dry-run")
    assert set(foretold.values()) == {M}
    assert_kept(foretold, stages(d2, "v.npy", "-o", "k.npy"))


def test_a_forced_graph_is_a_miss(here, d2):
    args = ("graph", "v.npy", "-o", "g.parquet")
    d2(*args)
    assert f"graph: {V} (g.parquet)" in d2(*args, "--dry-run")[1]
    assert "graph: miss (--force computes it again)" in d2(*args, "--dry-run", "--force")[1]
