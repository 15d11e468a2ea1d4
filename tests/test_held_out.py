"""``--prune-hardest probe``: a cutoff chosen on rows held out."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import d2cli
from d2cli.errors import InputError, ParameterError
from d2cli.params import ScoreParams
from d2cli.stages import held_out
from d2cli.stages.difficulty import orient
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.held_out import (
    CUTS,
    Cutoff,
    SettledTrials,
    Tried,
    score_by_probe,
    settle_cutoff,
    smallest_as_good,
)
from d2cli.stages.trials import Trials
from d2cli.stages.vectors import as_vectors


def noisy(share, n=300, seed=0):
    """Three classes that overlap; flipped labels have the lowest margins. Vectors, labels, aum."""
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 3, n)
    vectors = (3 * np.eye(8)[clean] + rng.normal(size=(n, 8))).astype(np.float32)
    flipped = rng.random(n) < share
    labels = np.where(flipped, (clean + 1) % 3, clean)
    aum = np.where(flipped, rng.uniform(-2, -1, n), rng.uniform(-0.5, 2, n))
    return vectors, labels, aum, flipped


def trials_of(vectors, labels, aum, **more):
    graph = build_graph(vectors, d2cli.params.GraphParams(), groups=None, n_threads=1)
    return Trials(
        graph,
        orient(aum, "low"),
        as_vectors(vectors, "l2"),
        group_by(labels),
        None,
        None,
        ScoreParams(),
        {},
        "default",
        **more,
    )


def tried(cut, removed, n_right, n=100):
    return Tried(cut, removed, np.arange(n) < n_right)


def test_the_smallest_cut_within_a_standard_error_of_the_best_wins():
    # 9 of 100 behind: mean 0.09, standard error 0.029; 2 behind and 1 ahead: 0.01 and 0.017.
    near = tried(0.1, 0.1, 88)
    near.right[99] = True
    chosen = smallest_as_good([tried(0.0, 0, 81), near, tried(0.2, 0.2, 90)])
    assert chosen.prune_hardest == 0.1
    assert "90.0 % right with 20 %" in chosen.reason
    assert "81.0 % right with 0 %" in chosen.reason


def test_nothing_is_cut_where_nothing_is_gained():
    assert smallest_as_good([tried(0.0, 0, 90), tried(0.1, 0.1, 90)]).prune_hardest == 0
    assert smallest_as_good([tried(0.0, 0, 91), tried(0.1, 0.1, 90)]).prune_hardest == 0
    # 3 of 100 ahead are 1.7 standard errors
    assert smallest_as_good([tried(0.0, 0, 90), tried(0.1, 0.1, 93)]).prune_hardest == 0


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_flipped_labels_are_found_and_clean_ones_left_alone(rate):
    vectors, labels, aum, _ = noisy(0.25)
    cut = settle_cutoff(trials_of(vectors, labels, -np.abs(aum - 2)), rate)
    assert cut.prune_hardest != 0
    vectors, labels, aum, _ = noisy(0.0)
    assert settle_cutoff(trials_of(vectors, labels, aum), rate).prune_hardest == 0


def test_threads_do_not_change_the_choice():
    vectors, labels, aum, _ = noisy(0.2)
    trials = trials_of(vectors, labels, aum)
    assert settle_cutoff(trials, 0.6) == settle_cutoff(trials, 0.6, n_threads=3)


def test_rows_that_are_not_available_neither_train_nor_test():
    vectors, labels, aum, _ = noisy(0.2)
    available = np.arange(300) < 200
    broken = labels.copy()
    broken[~available] = 2 - broken[~available]
    ours = settle_cutoff(trials_of(vectors, labels, aum, available=available), 0.5)
    # the classes keep their numbers, so only rows that are not available differ
    assert ours == settle_cutoff(trials_of(vectors, broken, aum, available=available), 0.5)


def test_cuts_that_leave_too_few_rows_are_not_tried():
    vectors, labels, aum, _ = noisy(0.4)
    cut = settle_cutoff(trials_of(vectors, labels, aum), 0.1)
    assert cut.prune_hardest in (*[c for c in CUTS if c < 0.1], "auto")
    scores = d2cli.score(
        d2cli.graph(vectors),
        aum,
        harder="low",
        rate=0.1,
        prune_hardest="probe",
        vectors=vectors,
        labels=labels,
    )
    assert scores.pool.sum() >= 270


def test_scores_say_why_and_are_those_of_the_chosen_fraction():
    vectors, labels, aum, flipped = noisy(0.25)
    graph = d2cli.graph(vectors)
    given = {"harder": "low", "rate": 0.7}
    scores = d2cli.score(graph, aum, prune_hardest="probe", vectors=vectors, labels=labels, **given)
    assert "cut: of the rows held out" in scores.cut_reason
    assert (~scores.pool & flipped).sum() > 0.9 * (~scores.pool).sum() > 0
    for cut in (*CUTS, "auto"):
        other = d2cli.score(graph, aum, prune_hardest=cut, **given)
        if np.array_equal(other.pool, scores.pool):
            assert np.array_equal(other.score, scores.score)
            return
    pytest.fail("no cutoff has this pool")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rate": None}, "needs a rate"), ({"labels": np.zeros(300)}, "at least two classes")],
)
def test_what_a_probe_needs(change, message):
    vectors, labels, aum, _ = noisy(0.1)
    given = {"harder": "low", "rate": 0.5, "labels": labels, "vectors": vectors, **change}
    with pytest.raises(ParameterError, match=message):
        d2cli.score(d2cli.graph(vectors), aum, prune_hardest="probe", **given)
    with pytest.raises(ParameterError, match="needs vectors and labels"):
        d2cli.score(d2cli.graph(vectors), aum, prune_hardest="probe", harder="low", rate=0.5)


@pytest.fixture
def files(tmp_path):
    vectors, labels, aum, _ = noisy(0.25)
    columns = {
        "label": labels,
        "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 8),
        "aum": aum,
    }
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    return tmp_path


def test_stages_one_by_one_and_prune_agree(files, d2):
    train, keep = files / "train.parquet", files / "a.npy"
    probe = ("--prune-hardest", "probe", "--labels", f"{train}::label")
    code, _, err = d2("prune", train, "--difficulty", "aum", "--rate", 0.7, *probe, "-o", keep)
    assert code == 0, err
    assert "prune-hardest: " in err
    d2("graph", train, "-o", files / "g.parquet")
    scoring = ("score", files / "g.parquet", "--difficulty", f"{train}::aum", "--rate", 0.7)
    code, _, err = d2(*scoring, *probe, "-e", train, "-o", files / "s.parquet")
    assert code == 0, err
    assert "cut: of the rows held out" in err
    d2("select", files / "s.parquet", "--rate", 0.7, "-o", files / "b.npy")
    assert np.array_equal(np.load(keep), np.load(files / "b.npy"))
    code, _, err = d2(*scoring, *probe, "-e", train, "-o", files / "s.parquet")
    assert "up to date" in err


def test_compare_and_sweep_take_probe(files, d2):
    train = files / "train.parquet"
    start = (train, "--difficulty", "aum", "--labels", "label", "--rates", 0.7, "--seeds", 2)
    code, out, err = d2("compare", *start, "--methods", "d2", "--prune-hardest", "probe")
    assert code == 0, err
    assert "d2" in out
    code, out, err = d2("sweep", *start, "--prune-hardest", "0,probe,auto")
    assert code == 0, err
    assert "prune-hardest probe" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--prune-hardest", "probe"], "add --labels"),
        (["--labels", "label"], "only used by --prune-hardest probe"),
        (["--prune-hardest", "often"], "expected a number, auto or probe"),
    ],
)
def test_wrong_use_is_refused(files, d2, options, says):
    train = files / "train.parquet"
    code, _, err = d2("prune", train, "--difficulty", "aum", "--rate", 0.7, *options)
    assert code == 2
    assert says in err


def test_score_needs_vectors_and_rate(files, d2):
    train = files / "train.parquet"
    d2("graph", train, "-o", files / "g.parquet")
    start = ("score", files / "g.parquet", "--difficulty", f"{train}::aum")
    probe = ("--prune-hardest", "probe", "--labels", f"{train}::label")
    code, _, err = d2(*start, "--rate", 0.5, *probe, "-o", files / "s.parquet")
    assert code == 2
    assert "--embedding" in err
    code, _, err = d2(*start, *probe, "-e", train, "-o", files / "s.parquet")
    assert code == 2
    assert "needs a rate" in err


def test_vectors_and_labels_do_not_start_a_probe_that_was_not_asked_for():
    vectors, labels, aum, _ = noisy(0.1)
    given = {"harder": "low", "rate": 0.5, "vectors": vectors, "labels": labels}
    scores = d2cli.score(d2cli.graph(vectors), aum, prune_hardest=0.3, **given)
    assert scores.pool.sum() == 210
    assert scores.cut_reason == ""


def test_classes_of_one_row_are_refused():
    vectors, _, aum, _ = noisy(0.1)
    given = {"harder": "low", "rate": 0.5, "vectors": vectors, "labels": np.arange(300)}
    with pytest.raises(ParameterError, match="no class with two rows"):
        d2cli.score(d2cli.graph(vectors), aum, prune_hardest="probe", **given)


def test_the_probe_tries_what_prune_will_do(files, d2):
    start = ("prune", files / "train.parquet", "--difficulty", "aum", "--rate", 0.7, "--json")
    probe = ("--prune-hardest", "probe", "--labels", "label", "-o", files / "k.parquet")
    _, out, _ = d2(*start, *probe)
    usual = json.loads(out)
    code, out, err = d2(*start, *probe, "--gamma-reverse", "auto", "--balance", "proportional")
    assert code == 0, err
    assert json.loads(out)["parameters"]["score"] == usual["parameters"]["score"]
    assert "tried" not in usual["parameters"]["score"]
    code, out, err = d2(*start, *probe, "--gamma-reverse", 0.01, "--messages", "clamped")
    assert code == 0, err
    tried = json.loads(out)["parameters"]["score"]["tried"]
    assert tried == {"gamma_reverse": 0.01, "messages": "clamped"}


def test_trials_use_what_is_given_for_the_selections():
    vectors, labels, aum, _ = noisy(0.25)
    graph = build_graph(vectors, d2cli.params.GraphParams(), groups=None, n_threads=1)
    args = (graph, orient(aum, "low"), ScoreParams(rate=0.8, prune_hardest="probe"))
    more = {"vectors": as_vectors(vectors, "l2"), "labels": group_by(labels)}
    reasons = {
        score_by_probe(*args, **more, select_given=given).cut_reason
        for given in (None, {"gamma_reverse": 0.0}, {"gamma_reverse": 1e9})
    }
    assert len(reasons) == 3  # other selections, other figures


def test_a_cutoff_that_takes_every_row_is_not_tried():
    vectors, labels, aum, _ = noisy(0.25)
    given = {"harder": "low", "rate": 0.7, "vectors": vectors, "labels": labels}
    rows = np.arange(300)  # half of a group of one row rounds to the whole of it
    scores = d2cli.score(d2cli.graph(vectors), aum, prune_hardest="probe", group=rows, **given)
    assert scores.pool.all()


def test_a_budget_of_one_row_can_be_tried(files, d2):
    start = ("prune", files / "train.parquet", "--difficulty", "aum", "--keep", 1)
    code, out, err = d2(*start, "--prune-hardest", "probe", "--labels", "label")
    assert code == 0, err
    assert len(out.split()) == 1


def test_bad_vectors_are_blamed_on_their_own_file(files, d2):
    train = files / "train.parquet"
    d2("graph", train, "-o", files / "g.parquet")
    broken = np.ones((300, 8), dtype=np.float32)
    broken[7, 3] = np.nan
    np.save(files / "v.npy", broken)
    scoring = ("score", files / "g.parquet", "--difficulty", f"{train}::aum", "--rate", 0.7)
    probe = ("--prune-hardest", "probe", "--labels", f"{train}::label", "-e", files / "v.npy")
    code, _, err = d2(*scoring, *probe, "-o", files / "s.parquet")
    assert code == 3
    assert "v.npy" in err
    assert "row 7 holds NaN" in err


def test_an_embedding_that_nothing_uses_is_refused(files, d2):
    train = files / "train.parquet"
    d2("graph", train, "-o", files / "g.parquet")
    start = ("score", files / "g.parquet", "--difficulty", f"{train}::aum", "--rate", 0.7)
    code, _, err = d2(*start, "-e", train, "-o", files / "s.parquet")
    assert code == 2
    assert "--embedding is only used by --prune-hardest probe" in err


def test_one_class_is_refused_by_the_name_of_its_column(files, d2):
    train = files / "train.parquet"
    table = pq.read_table(train)
    pq.write_table(table.append_column("one", pa.array(["x"] * 300)), train)
    start = ("prune", train, "--difficulty", "aum", "--rate", 0.7, "--prune-hardest", "probe")
    code, _, err = d2(*start, "--labels", "one")
    assert code == 3
    assert "::one: has one class only ('x'), expected at least two" in err


@pytest.mark.parametrize(
    "change",
    [
        {"vectors": np.ones((299, 8))},
        {"labels": np.arange(299) % 2},
        {"labels": np.zeros((300, 2))},
        {"group": np.arange(299) % 2},
    ],
)
def test_arrays_of_other_lengths_are_refused(change):
    vectors, labels, aum, _ = noisy(0.1)
    given = {"harder": "low", "rate": 0.5, "labels": labels, "vectors": vectors, **change}
    with pytest.raises(InputError, match="for 300 rows"):
        d2cli.score(d2cli.graph(vectors), aum, prune_hardest="probe", **given)


def test_under_cosine_the_probe_sees_unit_vectors(files, d2):
    vectors, labels, aum, _ = noisy(0.25)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (300, 1)).astype(np.float32)
    graph = d2cli.graph(vectors * lengths, metric="cosine")
    given = {"harder": "low", "rate": 0.7, "labels": labels, "prune_hardest": "probe"}
    ours = d2cli.score(graph, aum, vectors=vectors * lengths, metric="cosine", **given)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert ours.cut_reason == d2cli.score(graph, aum, vectors=unit, **given).cut_reason


def test_a_probe_says_nothing_of_fits_that_stop_early(files, shell):
    many = np.arange(300) % 200  # classes of one or two rows
    table = pq.read_table(files / "train.parquet").append_column("many", pa.array(many))
    pq.write_table(table, files / "train.parquet")
    line = "d2 prune train.parquet --difficulty aum --rate 0.5 --prune-hardest probe -q -j 2"
    done = shell(f"{line} --labels many -o keep.npy", cwd=files)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_a_cutoff_is_settled_once_a_rate_and_seed(monkeypatch):
    vectors, labels, aum, _ = noisy(0.25)
    trials = trials_of(vectors, labels, aum)
    probed = replace(trials, score_params=ScoreParams(prune_hardest="probe"))
    asked = []

    def settle(inside, rate, *, seed):
        asked.append((rate, seed))
        return Cutoff(0.1, "")

    monkeypatch.setattr(held_out, "settle_cutoff", settle)
    settled = SettledTrials(probed)
    for method in ("d2", "random", "hardest"):
        for seed in (0, 1):
            settled.run(method, 0.5, seed)
    assert asked == [(0.5, 0), (0.5, 1)]
