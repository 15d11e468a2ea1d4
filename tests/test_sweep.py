"""``d2 sweep`` and its parts."""

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict

import numpy as np
import pytest

from d2cli.errors import ParameterError
from d2cli.files.digests import digest_json
from d2cli.params import GraphParams
from d2cli.stages.comparison import Cell
from d2cli.stages.graph import build_graph
from d2cli.stages.sweep import (
    DEFAULT,
    Setting,
    best_of,
    describe_setting,
    grid_of,
    overlap,
    slice_graph,
    summarize_sweep,
)


def sealed(best):
    found = {"kind": "d2 sweep", "best": best}
    return json.dumps({**found, "digest": digest_json(found)})


@pytest.fixture
def train(sample_data):
    return sample_data / "clinc150.parquet"


def sweep(train, *more):
    start = ("sweep", train, "--difficulty", "aum", "--rates", "0.7,0.9", "--seeds", 2)
    return (*start, "-k", "5,10", "--gamma-reverse", "auto,0.1", *more)


def test_the_grid_has_every_combination_and_the_default_first():
    grid = grid_of({"neighbors": (5, 20), "messages": ("signed", "clamped")})
    assert grid[0] == DEFAULT
    assert len(grid) == 5
    assert Setting(neighbors=20, messages="clamped") in grid
    assert grid_of({"neighbors": (10, 5)}) == [DEFAULT, Setting(neighbors=5)]


def test_values_out_of_range_and_huge_grids_are_refused():
    with pytest.raises(ParameterError, match="gamma-reverse is -1"):
        grid_of({"gamma_reverse": (-1.0,)})
    with pytest.raises(ParameterError, match="more than 2,000"):
        grid_of({"gamma_reverse": tuple(np.arange(60.0)), "neighbors": tuple(range(1, 60))})


def test_a_slice_is_the_graph_of_fewer_neighbors(cloud):
    wide = build_graph(cloud, GraphParams(n_neighbors=12))
    narrow = build_graph(cloud, GraphParams(n_neighbors=5))
    sliced = slice_graph(wide, 5)
    np.testing.assert_array_equal(sliced.neighbors, narrow.neighbors)
    np.testing.assert_array_equal(sliced.distances, narrow.distances)


def test_overlap_is_the_jaccard_index():
    assert overlap(np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)) == 1 / 3


def test_the_best_setting_is_named_with_its_margin():
    def cell(right):
        kept = np.array([True, False])
        return Cell("d2", 0.5, 0, kept, {"linear": np.array(right, bool)}, {"covered": 1.0})

    other = Setting(neighbors=5)
    cells = {(DEFAULT, 0.5): [cell([1, 0] * 30)], (other, 0.5): [cell([1, 1] * 30)]}
    rows = summarize_sweep(cells, seed=0)
    (best,) = best_of(rows)
    assert best["setting"]["neighbors"] == 5
    assert best["accuracy"]["difference"] == 0.5
    assert best["accuracy"]["low"] > 0
    assert describe_setting(best["setting"]) == "neighbors 5"


def test_sweep_prints_a_table_and_writes_json_and_a_heat_map(train, tmp_path, d2):
    files = ("-o", tmp_path / "s.json", "--plot", tmp_path / "s.svg")
    code, out, _ = d2(*sweep(train, "--labels", "label", *files))
    assert code == 0
    assert "beside the default" in out.splitlines()[0]
    found = json.loads((tmp_path / "s.json").read_text())
    assert len(found["rows"]) == 8
    assert [row["rate"] for row in found["best"]] == [0.7, 0.9]
    assert all(row["overlap"] == 1 for row in found["rows"] if row["default"])
    assert ET.parse(tmp_path / "s.svg").getroot().tag.endswith("svg")
    _, again, err = d2(*sweep(train, "--labels", "label"))
    assert "16 of 16 cells are up to date" in err
    assert again == out


def test_without_labels_coverage_and_overlap_are_shown(train, d2):
    code, out, _ = d2(*sweep(train, "--metric", "l2,cosine", "--json"))
    found = json.loads(out)
    assert code == 0
    assert len(found["rows"]) == 16
    assert "accuracy" not in found["rows"][0]
    assert "labels would tell" in found["conclusions"][0]


def test_select_uses_the_best_setting_of_a_sweep(train, tmp_path, d2):
    d2(*sweep(train, "--labels", "label", "-o", tmp_path / "s.json"))
    found = json.loads((tmp_path / "s.json").read_text())
    for row in found["best"]:
        row["setting"] |= {"gamma_reverse": 0.3, "messages": "clamped", "rounds": 2}
    del found["digest"]
    (tmp_path / "s.json").write_text(json.dumps({**found, "digest": digest_json(found)}))
    d2("graph", train, "-o", tmp_path / "g.parquet")
    score = ("--difficulty", f"{train}::aum", "--rate", 0.9, "-o", tmp_path / "x.parquet")
    d2("score", tmp_path / "g.parquet", *score)
    args = ("select", tmp_path / "x.parquet", "--rate", 0.88, "--settings", tmp_path / "s.json")
    code, out, err = d2(*args, "--json")
    picked = json.loads(out)["parameters"]["select"]
    assert code == 0
    assert (picked["gamma_reverse"], picked["messages"]) == (0.3, "clamped")
    assert "found rounds 2 best, but the scores were made with 1" in err
    _, out, _ = d2(*args, "--json", "--gamma-reverse", 0.7)
    assert json.loads(out)["parameters"]["select"]["gamma_reverse"] == 0.7


def test_settings_that_are_no_sweep_are_refused(train, tmp_path, d2):
    (tmp_path / "s.json").write_text("{}")
    d2("graph", train, "-o", tmp_path / "g.parquet")
    score = ("--difficulty", "uniform", "-o", tmp_path / "x.parquet")
    d2("score", tmp_path / "g.parquet", *score)
    args = ("select", tmp_path / "x.parquet", "--rate", 0.9, "--settings", tmp_path / "s.json")
    code, _, err = d2(*args)
    assert code == 4
    assert "is not a sweep" in err


@pytest.mark.parametrize("way", ["missing", "folder", "slash"])
def test_settings_that_cannot_be_read_are_a_missing_input(train, tmp_path, d2, way):
    (tmp_path / "s.json").write_text("{}")
    path = {"missing": tmp_path / "none.json", "folder": tmp_path, "slash": f"{tmp_path}/s.json/"}
    args = ("prune", train, "--difficulty", "aum", "--rate", 0.9, "--settings", path[way])
    code, out, err = d2(*args)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: {path[way]}: ")
    assert code == d2("prune", tmp_path / "none.npy", "--difficulty", "aum", "--rate", 0.9)[0]


def test_prune_uses_the_best_setting_but_for_what_is_given(train, tmp_path, d2):
    def setting(rate, **knobs):
        return {"rate": rate, "setting": {**asdict(Setting()), **knobs}}

    best = [
        setting(0.5, neighbors=3),
        setting(
            0.9,
            neighbors=5,
            metric="cosine",
            gamma_forward=0.5,
            gamma_reverse=0.3,
            bandwidth=0.8,
            prune_hardest=0.1,
            messages="clamped",
            rounds=2,
        ),
    ]
    settings = tmp_path / "s.json"
    settings.write_text(sealed(best))
    start = ("prune", train, "--difficulty", "uniform", "--rate", 0.8, "--json", "-o")
    code, out, err = d2(*start, tmp_path / "a.npy", "--settings", settings, "-k", 7)
    assert code == 0, err
    graph = json.loads(out)["parameters"]["graph"]
    assert (graph["n_neighbors"], graph["metric"]) == (7, "cosine")
    knobs = ("--gamma-forward", 0.5, "--gamma-reverse", 0.3, "--bandwidth", 0.8, "--rounds", 2)
    more = ("--prune-hardest", 0.1, "--messages", "clamped", "-k", 7, "--metric", "cosine")
    code, _, err = d2(*start, tmp_path / "b.npy", *knobs, *more)
    assert code == 0, err
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_a_sweep_without_repetitions_is_refused(train, d2):
    code, _, err = d2(*sweep(train, "--labels", "label", "--seeds", 0))
    assert code == 2
    assert "seeds is 0, expected 1 to 1,000" in err


def test_settings_and_a_preset_do_not_go_together(train, tmp_path, d2):
    d2(*sweep(train, "--labels", "label", "-o", tmp_path / "s.json"))
    d2("graph", train, "-o", tmp_path / "g.parquet")
    d2("score", tmp_path / "g.parquet", "--difficulty", "uniform", "-o", tmp_path / "x.parquet")
    both = ("--rate", 0.9, "--settings", tmp_path / "s.json", "--preset", "paper")
    for start in (("select", tmp_path / "x.parquet"), ("prune", train, "--difficulty", "aum")):
        code, _, err = d2(*start, *both)
        assert code == 2
        assert "--settings and --preset are given, expected one of them" in err


def test_select_says_what_graph_and_scores_have_of_other_settings(train, tmp_path, d2):
    d2(*sweep(train, "--labels", "label", "-o", tmp_path / "s.json"))
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["default_cutoff"] == "auto"
    for row in found["best"]:
        row["setting"] |= {"neighbors": 7, "metric": "cosine", "prune_hardest": None}
    del found["digest"]
    (tmp_path / "s.json").write_text(json.dumps({**found, "digest": digest_json(found)}))
    d2("graph", train, "-o", tmp_path / "g.parquet")
    score = ("--difficulty", f"{train}::aum", "--preset", "paper", "-o", tmp_path / "x.parquet")
    d2("score", tmp_path / "g.parquet", *score)
    args = ("select", tmp_path / "x.parquet", "--rate", 0.9, "--settings", tmp_path / "s.json")
    code, _, err = d2(*args)
    assert code == 0
    assert "found neighbors 7 best, but the graph was made with 10" in err
    assert "found metric cosine best, but the graph was made with l2" in err
    assert "found prune-hardest auto best, but the scores were made with 0.0" in err
    assert "the scores were made with preset paper" in err


@pytest.mark.parametrize(
    "wrong",
    [
        {"neighbors": "10"},
        {"neighbors": True},
        {"rounds": 1.5},
        {"metric": 3},
        {"messages": "loud"},
        {"gamma_reverse": [1]},
        {"gamma_forward": "much"},
        {"bandwidth": -1.0},
        {"prune_hardest": {}},
        {"prune_hardest": "often"},
    ],
)
def test_values_that_no_setting_has_are_refused(train, tmp_path, d2, wrong):
    best = [{"rate": 0.9, "setting": {**asdict(Setting()), **wrong}}]
    (tmp_path / "s.json").write_text(sealed(best))
    start = ("prune", train, "--difficulty", "uniform", "--rate", 0.8)
    code, _, err = d2(*start, "--settings", tmp_path / "s.json")
    assert code == 4
    assert "s.json" in err
    assert "Traceback" not in err


def test_a_cutoff_above_a_rate_is_refused_before_anything_is_tried(train, d2):
    code, _, err = d2(*sweep(train, "--labels", "label", "--prune-hardest", "0,0.8"))
    assert code == 2
    assert "prune-hardest 0.8 leaves fewer rows than rate 0.7 keeps" in err


def test_rates_named_twice_count_once(train, d2):
    _, once, _ = d2(*sweep(train, "--labels", "label", "--rates", "0.9"))
    _, twice, _ = d2(*sweep(train, "--labels", "label", "--rates", "0.9,0.9"))
    assert once == twice


@pytest.mark.parametrize("change", [("0.9", "0.8"), ('"digest"', '"eigest"')])
def test_a_sweep_that_was_edited_is_refused(train, tmp_path, d2, change):
    best = [{"rate": 0.9, "setting": asdict(Setting())}]
    text = sealed(best)
    assert change[0] in text
    (tmp_path / "s.json").write_text(text.replace(*change))
    start = ("prune", train, "--difficulty", "uniform", "--rate", 0.8)

    code, _, err = d2(*start, "--settings", tmp_path / "s.json")

    assert (code, "do not match" in err) == (4, True)
