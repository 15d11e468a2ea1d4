"""``d2 compare`` and its parts."""

import json
import time
import xml.etree.ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.params import GraphParams
from d2cli.stages.comparison import Cell, bootstrap_difference, conclude, describe, summarize_cells
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.probe import probe_linearly, standardize, vote_of_neighbors


@pytest.fixture
def blobs(tmp_path):
    """train.parquet and test.parquet: three classes that overlap a little; aum with sense."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 8)) * 2
    for name, n in (("train", 300), ("test", 150)):
        label = rng.integers(0, 3, n)
        vectors = (centers[label] + rng.normal(size=(n, 8))).astype(np.float32)
        columns = {
            "label": np.array(["a", "b", "c"])[label],
            "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 8),
            "aum": rng.normal(size=n),
            "one": np.ones(n, dtype=int),
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    return tmp_path


def compare(blobs, *more):
    start = ("compare", blobs / "train.parquet", "--difficulty", "aum", "--labels", "label")
    return (*start, "--rates", "0.5,0.8", "--seeds", 2, "--methods", "d2,hardest", *more)


def cell(method, seed, right, rate=0.5):
    kept = np.ones(5, dtype=bool)
    right = {"linear": np.array(right, dtype=bool)}
    return Cell(method, rate, seed, kept, right, {"covered": None})


def test_means_spreads_and_differences_are_those_of_the_cells():
    cells = [
        cell("random", 0, [1, 0, 0, 0]),
        cell("random", 1, [1, 1, 0, 0]),
        cell("d2", 0, [1, 1, 1, 0]),
        cell("d2", 1, [1, 1, 1, 1]),
    ]
    random, d2 = summarize_cells(cells, seed=0)
    assert random["accuracy"]["linear"] == {
        "mean": 0.375,
        "spread": pytest.approx(np.std([0.25, 0.5], ddof=1)),
    }
    assert d2["accuracy"]["linear"]["difference"] == 0.5
    assert d2["accuracy"]["linear"]["low"] <= 0.5 <= d2["accuracy"]["linear"]["high"]


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        ours = rng.random(200) < 0.7
        theirs = rng.random(200) < 0.6
        _, low, high = bootstrap_difference(ours * 1.0, theirs * 1.0, seed=trial)
        covered += low <= 0.1 <= high
    # 95 % of 60 is 57; fewer than 51 happens once in 1,000.
    assert covered >= 51


@pytest.mark.parametrize(
    ("right", "verdict", "word"),
    [([1] * 40, "better", "d2 is best"), ([0] * 40, "worse", "no method beats random")],
)
def test_the_conclusion_says_plainly_who_beats_random(right, verdict, word):
    mixed = [1, 0] * 20
    rows = summarize_cells([cell("random", 0, mixed), cell("d2", 0, right)], seed=0)
    assert rows[1]["verdict"] == verdict
    assert word in conclude(rows)[0]


def test_equal_methods_are_no_different():
    rows = summarize_cells([cell("random", 0, [1, 0, 1]), cell("d2", 0, [1, 0, 1])], seed=0)
    assert rows[1]["verdict"] == "no difference"


def test_votes_equal_the_slow_count():
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
    labels = rng.integers(0, 3, 40).astype(np.int32)
    found = vote_of_neighbors(train.astype("f4"), labels, test.astype("f4"))
    for point, answer in zip(test, found, strict=True):
        nearest = labels[np.argsort(((train - point) ** 2).sum(axis=1))[:5]].tolist()
        most = max(nearest.count(label) for label in nearest)
        assert answer == next(label for label in nearest if nearest.count(label) == most)


def test_the_probe_learns_what_is_linear_and_survives_one_class():
    rng = np.random.default_rng(2)
    train, test = standardize(*(rng.normal(size=(200, 4)).astype("f4") for _ in range(2)))
    labels = (train[:, 0] > 0).astype(np.int32)
    right = probe_linearly(train, labels, test) == (test[:, 0] > 0)
    assert right.mean() > 0.9
    assert (probe_linearly(train, np.ones(200, np.int32), test) == 1).all()


def test_figures_of_a_selection_are_counts():
    points = np.arange(10, dtype=np.float32)[:, None]
    graph = build_graph(points, GraphParams(n_neighbors=1))
    labels = group_by(np.array([0] * 5 + [1] * 5))
    kept = np.zeros(10, dtype=bool)
    kept[:3] = True
    pool = np.ones(10, dtype=bool)
    figures = describe(graph, np.arange(10.0), kept, pool, labels)
    assert figures["classes_lost"] == 1
    assert figures["class_drift"] == 0.5
    assert figures["covered"] == 1 / 7
    assert figures["radius"] == figures["distance"] == 1
    same = describe(graph, np.arange(10.0), pool, pool, labels)
    assert same["difficulty_kl"] == pytest.approx(0)


def test_compare_prints_a_table_and_writes_json_markdown_and_a_plot(blobs, d2):
    test = ("--test", blobs / "test.parquet")
    code, out, _ = d2(*compare(blobs, *test, "-o", blobs / "c.md", "--plot", blobs / "c.svg"))
    assert code == 0
    assert out.splitlines()[0].split()[:3] == ["rate", "kept", "method"]
    assert "beside random" in out
    assert (blobs / "c.md").read_text().count("| d2 |") == 2
    assert ET.parse(blobs / "c.svg").getroot().tag.endswith("svg")
    _, out, _ = d2(*compare(blobs, *test, "--json"))
    found = json.loads(out)
    assert [(row["method"], row["rate"]) for row in found["rows"]] == [
        (method, rate)
        for rate in (0.5, 0.8)
        for method in ("random", "random-cut", "d2", "hardest")
    ]
    assert all(row["kept"] == round(270 * (1 - row["rate"])) for row in found["rows"])
    assert all(0.5 < row["accuracy"]["linear"]["mean"] <= 1 for row in found["rows"])


def test_without_a_test_file_rows_are_held_out(blobs, d2):
    _, out, _ = d2(*compare(blobs, "--json"))
    found = json.loads(out)
    assert "held out" in found["test"]
    # 80 % of each class, rounded, may be selected.
    assert {row["kept"] for row in found["rows"] if row["rate"] == 0.5} == {120}


def test_finished_cells_are_not_computed_again(blobs, d2, own_cache):
    _, first, _ = d2(*compare(blobs))
    for path in list(own_cache.glob("cell-*.json"))[:3]:
        path.unlink()
    path = next(own_cache.glob("cell-*.json"))
    path.write_bytes(path.read_bytes()[:-9])
    start = time.perf_counter()
    _, second, err = d2(*compare(blobs))
    assert "12 of 16 cells are up to date" in err
    assert first == second
    assert time.perf_counter() - start < 30


def test_results_do_not_depend_on_threads(blobs, d2):
    _, one, _ = d2(*compare(blobs, "-j", 1, "--force"))
    _, two, _ = d2(*compare(blobs, "-j", 2, "--force"))
    assert one == two


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--labels", "one"], 3, ["one", "one class only"]),
        (["--rates", "0.5,x"], 2, ["rates is '0.5,x'"]),
        (["--rates", "0.999"], 2, ["rate 0.999"]),
        (["--rates", "0.99"], 2, ["rate 0.99 keeps 2 rows for 3 classes"]),
        (["--methods", "d2,best"], 2, ["method is 'best'", "facility-location"]),
        (["--seeds", 0], 2, ["seeds is 0"]),
        (["-o", "c.txt"], 2, ["c.txt", ".md"]),
        (["--test", "missing.parquet"], 3, ["missing.parquet: no such file"]),
    ],
)
def test_bad_input_is_refused(blobs, d2, monkeypatch, more, code, words):
    monkeypatch.chdir(blobs)
    found, out, err = d2(*compare(blobs, *more))
    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    for word in words:
        assert word in err


def test_a_test_file_without_the_labels_is_refused(blobs, d2):
    table = pq.read_table(blobs / "test.parquet")
    pq.write_table(table.drop_columns(["label"]), blobs / "nolabel.parquet")
    code, _, err = d2(*compare(blobs, "--test", blobs / "nolabel.parquet"))
    assert code == 3
    assert "nolabel.parquet: no column 'label'" in err


def test_rates_named_twice_count_once(blobs, d2):
    found = [
        json.loads(d2(*compare(blobs, "--rates", rates, "--json"))[1])
        for rates in ("0.5", "0.5,0.5")
    ]
    assert found[0]["rows"] == found[1]["rows"]


def test_a_cutoff_above_a_rate_is_refused(blobs, d2):
    code, _, err = d2(*compare(blobs, "--rates", "0.5,0.9", "--prune-hardest", "0.6"))
    assert code == 2
    assert "prune-hardest 0.6 leaves fewer rows than rate 0.5 keeps" in err
