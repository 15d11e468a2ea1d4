"""Why rows were kept or dropped: replayed against the real loop, and told."""

import json

import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from d2cli.errors import ParameterError
from d2cli.params import ScoreParams, SelectParams
from d2cli.stages.difficulty import orient
from d2cli.stages.explain import Past, explain_rows
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import group_by
from d2cli.stages.recall import Recall
from d2cli.stages.score import score_rows
from d2cli.stages.selection import Wishes, select_coreset

NOBODY = np.empty(0, np.int64)


def make_past(seed, n=40, *, rounds=1, groups=False, wishes=False, cut=0.0, known=True, **select):
    """A selection over random rows, some of them twins, and all that is known of it."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3))
    vectors[: n // 8] = vectors[n // 8 : 2 * (n // 8)]
    neighbors, distances = oracles.exact_neighbors(vectors, 4)
    neighbors[-1], distances[-1] = -1, np.inf
    graph = KnnGraph(
        neighbors, distances, None, "exact", Recall(value=1.0, sample_size=0, target=0.95)
    )
    labels = group_by(rng.integers(0, 3, n)) if groups else None
    preset = select.pop("score_preset", "paper")
    how = ScoreParams.from_preset(preset, rounds=rounds, prune_hardest=cut)
    scores = score_rows(graph, orient(rng.random(n) * 3 - 1, "high", shift=how.shift), how)
    named = rng.permutation(n)[:7] if wishes else NOBODY
    asked = Wishes(named[:3], named[3:])
    params = SelectParams(keep=n // 3, gamma_reverse=0.3, **select)
    selection = select_coreset(graph, scores, params, groups=labels, wishes=asked)
    excluded = np.isin(np.arange(n), asked.exclude)
    past = Past(
        graph=graph,
        scores=scores,
        selection=selection,
        method=params.method,
        score_kernel=how.kernel,
        kernel=params.kernel,
        rounds=rounds,
        neighbor_floor=how.neighbor_floor,
        clamped=params.messages == "clamped",
        n_included=len(asked.include),
        excluded=excluded if known else None,
    )
    return past, excluded


def trace(past):
    """Every subtraction of the plain loop, by row: [(pick, score after)], and all final scores."""
    edges = oracles.undirected_edges(past.graph.neighbors, past.graph.distances)
    how = {"bandwidth": past.selection.bandwidth, "kernel": past.kernel}
    x, picked, seen = past.scores.score.copy(), set(), {row: [] for row in edges}
    for pick in past.selection.rows.tolist():
        picked.add(pick)
        sent = max(x[pick], 0.0) if past.clamped else x[pick]
        for j, d in edges[pick].items():
            if j not in picked and not (past.clamped and x[pick] < 0):
                x[j] -= oracles.weight(d, past.selection.gamma_reverse, **how) * sent
                seen[j].append((pick, x[j]))
    return seen, x


@given(
    seed=st.integers(0, 2**32 - 1),
    rounds=st.sampled_from([0, 1, 1, 3]),
    groups=st.booleans(),
    wishes=st.booleans(),
    cut=st.sampled_from([0.0, 0.2]),
    messages=st.sampled_from(["signed", "clamped"]),
    preset=st.sampled_from(["paper", "reference"]),
)
@settings(max_examples=60, deadline=None)
def test_the_replay_is_the_loop_bit_by_bit(seed, rounds, groups, wishes, cut, messages, preset):
    try:
        past, excluded = make_past(
            *(seed,), rounds=rounds, groups=groups, wishes=wishes, cut=cut, messages=messages,
            score_preset=preset, kernel="exponential" if preset == "reference" else "gaussian",
        )  # fmt: skip
    except ParameterError:  # more included rows than a group's budget
        reject()
    seen, final = trace(past)
    scores, selection = past.scores, past.selection

    for one in explain_rows(past, range(scores.n_samples)):
        row = one.row
        assert one.own + one.forward_sum == scores.score[row] == one.score.value
        amounts = [message.amount for message in one.forward]
        assert one.forward_sum == sum(amounts, 0.0)
        assert [m.weight * m.sent for m in one.forward] == amounts
        assert [(m.sender, m.score_after) for m in one.reverse] == seen[row]
        assert one.final_score == final[row]
        assert one.excluded == (excluded[row] and not one.kept)
        if one.kept:
            assert selection.rows[one.rank] == row
            assert one.final_score == selection.scores[one.rank] == one.picked_for
            assert one.included == (one.rank < (3 if wishes else 0))
        elif one.contest and not one.contest.included:
            assert one.contest.score_then <= one.contest.score_at_pick
            codes = selection.groups.codes if groups else np.zeros(scores.n_samples, int)
            assert codes[one.contest.row] == codes[row]
            assert not (codes[selection.rows[one.contest.rank + 1 :]] == codes[row]).any()
        assert (one.contest is not None) <= (one.in_pool and not one.kept and not one.excluded)


def test_forward_messages_are_those_of_the_formula():
    past, _ = make_past(1, cut=0.2)
    edges = oracles.undirected_edges(past.graph.neighbors, past.graph.distances)
    scores = past.scores
    for one in explain_rows(past, range(40)):
        expected = [
            (j, oracles.weight(d, 1.0) * scores.difficulty[j])
            for j, d in sorted(edges[one.row].items())
            if scores.pool[one.row] and scores.pool[j]
        ]
        assert [(m.sender, m.amount) for m in one.forward] == expected


def test_several_rounds_are_explained_by_the_last():
    before, after = make_past(5, rounds=2)[0].scores.score, make_past(5, rounds=3)[0]
    for one in explain_rows(after, range(40)):
        assert one.own == before[one.row]
        assert all(m.sent == before[m.sender] for m in one.forward)


@pytest.mark.parametrize("groups", [False, True])
def test_an_unknown_list_of_excluded_rows_is_read_off_the_picks(groups):
    surely = 0
    for seed in range(20):
        past, excluded = make_past(seed, wishes=True, groups=groups, known=False)
        for one in explain_rows(past, range(40)):
            if one.excluded:
                surely += 1
                assert excluded[one.row]
            elif one.kept:
                assert one.excluded is False
            else:
                assert one.excluded is None  # it may have been, and nobody can know
    assert surely > 10


def test_places_and_the_nearest_kept_rows():
    past, _ = make_past(2)
    difficulty, kept = past.scores.difficulty, past.selection.kept
    edges = oracles.undirected_edges(past.graph.neighbors, past.graph.distances)
    for one in explain_rows(past, range(40)):
        harder = sum(difficulty > difficulty[one.row])
        assert one.difficulty.rank == harder + 1
        assert one.difficulty.share_below == sum(difficulty < difficulty[one.row]) / 40
        near = sorted((d, j) for j, d in edges[one.row].items() if kept[j])[:3]
        assert [(n.distance, n.row) for n in one.nearest] == near


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    """train.parquet: 300 rows with ids, labels and texts, one of which no terminal should see."""
    rng = np.random.default_rng(0)
    n = 300
    table = pa.table(
        {
            "id": [f"r{i:03}" for i in range(n - 1)] + ["\x1b[31m<b>[red]"],
            "label": rng.integers(0, 3, n),
            "emb": list(rng.normal(size=(n, 6)).astype(np.float32)),
            "aum": rng.normal(size=n),
            "text": [f"text {i}" for i in range(n - 1)] + ["\x1b]0;owned\x07\x9b1m \u202egnp"],
        }
    )
    pq.write_table(table, tmp_path / "train.parquet")
    return tmp_path


def prune(d2, data, *more, output="keep.parquet"):
    start = ("prune", data / "train.parquet", "--difficulty", "aum", "--rate", 0.8)
    code, _, err = d2(*start, "-o", data / output, "-q", *more)
    assert code == 0, err
    return data / output


def explain(d2, *arguments):
    code, out, err = d2("explain", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_command_agrees_with_the_selection(d2, data):
    keep = prune(d2, data)
    table = pq.read_table(keep).to_pylist()
    rows = explain(d2, keep, "--rows", *range(300))["rows"]
    kept = {row["row"]: row for row in table}
    assert [row["row"] for row in rows] == list(range(300))
    assert {row["row"] for row in rows if row["fate"] == "kept"} == set(kept)
    for row in rows:
        assert row["forward"]["own"] + row["forward"]["sum"] == row["score"]["value"]
        if row["fate"] == "kept":
            of = kept[row["row"]]
            assert row["final_score"] == of["score_at_pick"]
            assert (row["id"], row["rank"], row["score"]["value"]) == (
                of["id"],
                of["rank"],
                of["score"],
            )
        elif row["fate"] == "dropped":
            assert row["last_pick"]["score_at_pick"] >= row["last_pick"]["score_then"]


def test_ids_are_looked_up_even_of_dropped_rows(d2, data):
    keep = prune(d2, data)
    found = explain(d2, keep, "r007", "r001", "r007")["rows"]
    assert [(row["id"], row["row"]) for row in found] == [("r007", 7), ("r001", 1)]


def test_integers_are_ids_where_ids_are_integers(d2, data):
    table = pq.read_table(data / "train.parquet")
    table = table.set_column(0, "id", pa.array(range(1000, 1300)))
    pq.write_table(table, data / "train.parquet")
    keep = prune(d2, data)
    assert explain(d2, keep, 1007)["rows"][0]["row"] == 7
    assert explain(d2, keep, "--rows", 7)["rows"][0]["id"] == 1007
    for wrong in ("7", "x", "99999999999999999999"):
        code, _, err = d2("explain", keep, wrong)
        assert (code, "no row has the id" in err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("r999",), "no row has the id 'r999'"),
        (("r001", "nope", "none"), "no row has the id 'nope' (2 such in all)"),
        (("--rows", "300"), "no row '300', expected a number from 0 to 299"),
        (("--rows", "r001"), "no row 'r001'"),
    ],
)
def test_unknown_rows_are_named(d2, data, arguments, text):
    code, out, err = d2("explain", prune(d2, data), *arguments)
    assert (code, out) == (3, "")
    assert text in err


def test_without_ids_row_numbers_are_meant(d2, data):
    table = pq.read_table(data / "train.parquet").drop_columns(["id"])
    pq.write_table(table, data / "train.parquet")
    assert explain(d2, prune(d2, data), 7)["rows"][0]["row"] == 7


def test_groups_are_found_where_they_can_be(d2, data):
    train = data / "train.parquet"
    keep = prune(d2, data, "--group", "label")
    rows = explain(d2, keep, "--rows", *range(300))["rows"]
    dropped = next(row for row in rows if row["fate"] == "dropped")
    assert dropped["group"] is dropped["last_pick"] is None
    assert "--group" in dropped["why"]
    assert next(row for row in rows if row["fate"] == "kept")["group"]["rows"] is None

    labels = pq.read_table(train)["label"].to_pylist()
    for option in (("--group", f"{train}::label"), ("--source", train)):
        for row in explain(d2, keep, "--rows", *range(300), *option)["rows"]:
            label = labels[row["row"]]
            assert row["group"]["name"] == str(label)
            assert row["group"]["rows"] == labels.count(label)
            if row["fate"] == "dropped":
                assert labels[row["last_pick"]["row"]] == label

    within = prune(d2, data, "--group", "label", "--within", "label", output="within.parquet")
    assert explain(d2, within, "--rows", 0)["rows"][0]["group"]["name"] == str(labels[0])


def test_what_is_not_what_the_selection_was_made_with_is_refused(d2, data):
    train = data / "train.parquet"
    (data / "list.txt").write_text("r001\n")
    keep = prune(d2, data)
    for option, said in (
        (("--group", f"{train}::label"), "is not the group that"),
        (("--exclude", data / "list.txt"), "is not what"),
    ):
        code, _, err = d2("explain", keep, "r001", *option)
        assert (code, said in err, "leave out" in err) == (4, True, True)


def test_included_and_excluded_rows_are_told(d2, data):
    lists = {"in.txt": "r010\nr020\n", "out.txt": "r030\nr040\n"}
    for name, text in lists.items():
        (data / name).write_text(text)
    keep = prune(d2, data, "--include", data / "in.txt", "--exclude", data / "out.txt")
    row, other = explain(d2, keep, "r020", "r030", "--exclude", data / "out.txt")["rows"]
    assert (row["fate"], row["rank"], row["included"]) == ("kept", 1, True)
    assert (other["fate"], other["excluded"]) == ("excluded", True)
    assert explain(d2, keep, "r030")["rows"][0]["excluded"] in (True, None)
    out = d2("explain", keep, "r020", "r030", "--exclude", data / "out.txt")[1]
    assert "--include named it" in out
    assert "--exclude took it out" in out


def test_rows_that_a_cutoff_took_out_are_told_why(d2, data):
    keep = prune(d2, data, "--prune-hardest", 0.1)
    rows = explain(d2, keep, "--rows", *range(300))["rows"]
    cut = [row for row in rows if row["fate"] == "cut off"]
    assert len(cut) == 30
    assert all(not row["forward"]["messages"] and row["last_pick"] is None for row in cut)
    assert "--prune-hardest took it out" in d2("explain", keep, cut[0]["id"])[1]


def test_other_methods_say_what_can_be_said(d2, data):
    keep = prune(d2, data, "--method", "kcenter")
    found = explain(d2, keep, "--rows", *range(300))
    assert "forward" not in found
    kept = [row for row in found["rows"] if row["fate"] == "kept"]
    assert {row["rank"] for row in kept} == set(range(60))
    assert next(row for row in kept if row["rank"] == 0)["picked_for"] is None  # infinitely far
    out = d2("explain", keep, "--rows", *range(20))[1]
    assert "The method kcenter did not pick it" in out
    assert "forward" not in out


def test_scores_and_graph_are_found_by_name_and_verified(d2, data):
    train, keep = data / "train.parquet", data / "keep.parquet"
    graph, scores = data / "graph.parquet", data / "scores.parquet"
    d2("graph", train, "-o", graph)
    d2("score", graph, "--difficulty", f"{train}::aum", "--rate", 0.8, "-o", scores)
    d2("select", scores, "--rate", 0.8, "-o", keep)
    code, _, err = d2("explain", keep, "r001")
    assert code == 4
    assert "--scores" in err
    assert explain(d2, keep, "r001", "--scores", scores)["rows"][0]["row"] == 1

    graph.rename(data / "moved.parquet")
    code, _, err = d2("explain", keep, "r001", "--scores", scores)
    assert (code, "--graph" in err) == (4, True)
    named = ("--scores", scores, "--graph", data / "moved.parquet")
    assert explain(d2, keep, "r001", *named)["rows"][0]["row"] == 1

    d2("score", data / "moved.parquet", "--difficulty", f"{train}::aum", "-o", data / "s2.parquet")
    code, _, err = d2("explain", keep, "r001", "--scores", data / "s2.parquet")
    assert (code, "are not the scores that" in err) == (4, True)
    data_ = bytearray(scores.read_bytes())
    data_[len(data_) // 3] ^= 1
    scores.write_bytes(data_)
    code, _, err = d2("explain", keep, "r001", *named)
    assert (code, "damaged" in err) == (4, True)


def test_the_cache_that_is_named_is_looked_at(d2, data, monkeypatch):
    keep = prune(d2, data, "--cache-dir", data / "cache")
    assert d2("explain", keep, "r001")[0] == 4
    assert explain(d2, keep, "r001", "--cache-dir", data / "cache")["rows"][0]["row"] == 1


def test_text_is_plain_and_narrow(d2, data):
    keep, train = prune(d2, data), data / "train.parquet"
    code, out, err = d2("explain", keep, "--rows", *range(300), "--source", train, "--show", "text")
    assert (code, err) == (0, "")
    assert "text 7" in out
    assert max(len(line) for line in out.splitlines()) <= 100
    assert all(c.isprintable() or c == "\n" for c in out)
    out = d2("explain", keep, "--rows", 299, "--source", train, "--show", "text", "--json")[1]
    assert all(c.isprintable() or c == "\n" for c in out)
    row = json.loads(out)["rows"][0]
    assert row["id"] == "\x1b[31m<b>[red]"
    assert row["text"].startswith("\x1b]0;owned\x07\x9b1m")


def test_a_list_of_rows_explains_nothing(d2, data):
    keep = prune(d2, data, output="keep.npy")
    code, _, err = d2("explain", keep, "r001")
    assert (code, "expected a selection file" in err) == (4, True)
