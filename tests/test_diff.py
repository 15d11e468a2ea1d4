"""Two selections side by side: counted, ranked, and judged."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d2cli.stages.diff import compare_groups, count_inversions, kendall_tau, match


def slow_tau(x, y):
    """Tau-b over all pairs."""
    n = len(x)
    pairs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i in range(n) for j in range(i)]
    in_x, in_y = sum(a != 0 for a, _ in pairs), sum(b != 0 for _, b in pairs)
    return None if not in_x or not in_y else sum(a * b for a, b in pairs) / np.sqrt(in_x * in_y)


@given(
    st.integers(0, 25).flatmap(
        lambda n: st.tuples(*[arrays(np.int64, n, elements=st.integers(-4, 9))] * 2)
    )
)
@settings(max_examples=150, deadline=None)
def test_tau_is_that_of_all_pairs(ranks):
    expected = slow_tau(*ranks)
    assert kendall_tau(*ranks) == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_tau_of_long_orders():
    order = np.random.default_rng(0).permutation(200_000)
    assert kendall_tau(order, order) == 1
    assert kendall_tau(order, -order) == -1
    assert abs(kendall_tau(order, np.arange(200_000))) < 0.01


@given(st.lists(st.integers(0, 40), max_size=30))
@settings(max_examples=100, deadline=None)
def test_inversions_are_pairs_in_the_wrong_order(values):
    wrong = sum(values[i] > v for j, v in enumerate(values) for i in range(j))
    assert count_inversions(np.array(values, np.int64)) == wrong


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.randoms())
@settings(max_examples=100, deadline=None)
def test_rows_are_matched_as_sets_are(a, b, random):
    of_a, of_b = list(a), list(b)
    random.shuffle(of_a)
    random.shuffle(of_b)
    of_a, of_b = np.array(of_a, np.int64), np.array(of_b, np.int64)
    found = match(of_a, of_b)
    assert of_a[found.common_a].tolist() == of_b[found.common_b].tolist()
    assert set(of_a[found.common_a]) == a & b
    assert set(of_a[found.lost]) == a - b
    assert set(of_b[found.gained]) == b - a
    assert found.jaccard == (len(a & b) / len(a | b) if a | b else 1)
    assert found.change == max(len(a - b), len(b - a)) / max(len(a), 1)


def test_groups_are_counted_before_and_after():
    found = match(np.array([1, 2, 3, 4]), np.array([3, 4, 5]))
    groups = compare_groups(found, np.array(["x", "x", "x", "y"]), np.array(["x", "y", "z"]))
    assert groups == [
        {"name": "x", "a": 3, "b": 1, "lost": 2, "gained": 0, "loss": pytest.approx(2 / 3)},
        {"name": "y", "a": 1, "b": 1, "lost": 0, "gained": 0, "loss": 0.0},
        {"name": "z", "a": 0, "b": 1, "lost": 0, "gained": 1, "loss": 0.0},
    ]


# --- the command ----------------------------------------------------------------------------------


def make(path, n, *, ids=True, names=("cat", "dog", "<b>|\x1b[31m")):
    """A source of n rows, of which the first 200 are always the same."""
    rng = np.random.default_rng(0)
    emb, aum, label = rng.normal(size=(400, 5)), rng.normal(size=400), rng.integers(0, 3, 400)
    columns = {
        "id": [f"r{i:03}" for i in range(n)],
        "label": [names[code] for code in label[:n]],
        "emb": list(emb[:n].astype(np.float32)),
        "aum": aum[:n],
    }
    pq.write_table(pa.table({k: v for k, v in columns.items() if ids or k != "id"}), path)
    return path


@pytest.fixture
def keep(tmp_path, d2):
    """Select from a source with some options, under some name."""

    def run(source, name, *options):
        place = tmp_path / name
        start = ("prune", source, "--difficulty", "aum", "--rate", 0.8, "-o", place, "-q")
        code, _, err = d2(*start, *options)
        assert code == 0, err
        return place

    return run


def diff(d2, *arguments):
    code, out, err = d2("diff", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_selection_does_not_differ_from_itself(d2, tmp_path, keep):
    a = keep(make(tmp_path / "t.parquet", 200), "a.parquet", "--group", "label")
    found = diff(d2, a, a, "--max-change", 0, "--max-group-loss", 0)
    assert found["overlap"] == {"both": 40, "only_a": 0, "only_b": 0, "jaccard": 1.0, "change": 0.0}
    assert found["kendall_tau"] == 1
    assert found["changes"] == {"parameters": [], "inputs": [], "versions": []}
    assert found["difficulty"]["lost"] is None
    assert [gate["passed"] for gate in found["gates"]] == [True, True]


def test_figures_are_those_of_the_two_tables(d2, tmp_path, keep):
    source = make(tmp_path / "t.parquet", 200)
    a = keep(source, "a.parquet", "--group", "label")
    b = keep(source, "b.parquet", "--group", "label", "--gamma-reverse", 0.01, "-k", 5)
    found = diff(d2, a, b)
    rows = [{row["id"]: row for row in pq.read_table(path).to_pylist()} for path in (a, b)]
    lost, gained = rows[0].keys() - rows[1].keys(), rows[1].keys() - rows[0].keys()
    assert found["matched_by"] == "id"
    assert lost
    assert (found["overlap"]["only_a"], found["overlap"]["only_b"]) == (len(lost), len(gained))
    for name, of, ids in (("lost", rows[0], lost), ("gained", rows[1], gained)):
        assert found["difficulty"][name]["mean"] == pytest.approx(
            np.mean([of[i]["difficulty"] for i in ids])
        )
        assert found["examples"][name] == sorted(ids, key=lambda i: of[i]["rank"])[:10]
    both = sorted(rows[0].keys() & rows[1].keys())
    ranks = [[of[i]["rank"] for i in both] for of in rows]
    assert found["kendall_tau"] == pytest.approx(slow_tau(*map(np.array, ranks)))
    for group in found["groups"]:
        assert group["lost"] == sum(rows[0][i]["group"] == group["name"] for i in lost)
    changed = {(c["stage"], c["name"]): (c["a"], c["b"]) for c in found["changes"]["parameters"]}
    assert changed == {
        ("select", "gamma_reverse"): ("auto", 0.01),
        ("graph", "n_neighbors"): (10, 5),
    }
    assert found["changes"]["inputs"] == []


def test_changed_inputs_are_named(d2, tmp_path, keep):
    a = keep(make(tmp_path / "t.parquet", 200), "a.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    changed = table["aum"].to_numpy() + np.eye(1, 200, 7)[0]
    pq.write_table(table.set_column(3, "aum", pa.array(changed)), tmp_path / "t.parquet")
    b = keep(tmp_path / "t.parquet", "b.parquet")
    assert diff(d2, a, b)["changes"]["inputs"] == [
        {"stage": "score", "name": "difficulty", "how": "changed"}
    ]
    unknown = diff(d2, a, b, "--cache-dir", tmp_path / "none")["changes"]["inputs"]
    assert unknown == [{"stage": "select", "name": "scores", "how": "changed"}]
    assert "score: difficulty changed" in d2("diff", a, b)[1]


def test_data_of_different_sizes_are_matched_by_id(d2, tmp_path, keep):
    a = keep(make(tmp_path / "t.parquet", 200), "a.parquet")
    b = keep(make(tmp_path / "u.parquet", 400), "b.parquet")
    found = diff(d2, a, b)
    ids = [set(pq.read_table(path)["id"].to_pylist()) for path in (a, b)]
    assert found["overlap"]["both"] == len(ids[0] & ids[1])
    assert found["overlap"]["change"] == len(ids[1] - ids[0]) / 40

    for name, n in (("t", 200), ("u", 400)):
        make(tmp_path / f"{name}.parquet", n, ids=False)
    a, b = keep(tmp_path / "t.parquet", "a.parquet"), keep(tmp_path / "u.parquet", "b.parquet")
    code, _, err = d2("diff", a, b)
    assert (code, "was made from 400 rows" in err, "--rows" in err) == (3, True, True)
    assert diff(d2, a, b, "--rows")["matched_by"] == "row"


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("suffix", ["npy", "txt", "csv", "jsonl"])
def test_lists_are_compared_with_the_selection_they_are_of(d2, tmp_path, keep, ids, suffix):
    source = make(tmp_path / "t.parquet", 200, ids=ids)
    a, b = keep(source, "a.parquet"), keep(source, f"b.{suffix}")
    for pair in ((a, b), (b, a), (b, b)):
        found = diff(d2, *pair)
        assert found["overlap"]["both"] == 40
        assert found["overlap"]["change"] == 0
    by = "id" if ids and suffix != "npy" else "row"
    assert diff(d2, a, b)["matched_by"] == by
    assert (diff(d2, a, b)["kendall_tau"] == 1) == (suffix in ("csv", "jsonl"))


def test_lists_that_cannot_be_matched_are_refused(d2, tmp_path):
    np.save(tmp_path / "rows.npy", np.array([1, 2]))
    (tmp_path / "ids.txt").write_text("a\nb\n")
    (tmp_path / "twice.txt").write_text("a\na\n")
    (tmp_path / "other.csv").write_text("name,x\na,1\n")
    for pair, text in (
        (("rows.npy", "ids.txt"), "holds ids"),
        (("ids.txt", "twice.txt"), "repeats the id 'a'"),
        (("ids.txt", "none.txt"), "no such file"),
    ):
        code, out, err = d2("diff", *(tmp_path / name for name in pair))
        assert (code, out, text in err) == (3, "", True), err


def test_gates_fail_with_code_6_and_say_by_how_much(d2, tmp_path, keep):
    source = make(tmp_path / "t.parquet", 200)
    a = keep(source, "a.parquet", "--group", "label")
    b = keep(source, "b.parquet", "--rate", 0.9)
    lost = diff(d2, a, b)["overlap"]["only_a"]

    code, out, err = d2("diff", a, b, "--max-change", 0.05)
    assert code == 6
    assert "Jaccard" in out
    first, *rest = err.splitlines()
    assert first == (
        f"error: change {lost / 40:.4g} is above --max-change 0.05: of 40 rows {lost} are lost, "
        f"{20 - 40 + lost} gained"
    )
    assert len(rest) == 1
    assert d2("diff", a, b, "--max-change", lost / 40)[0] == 0

    code, out, err = d2("diff", a, b, "--max-group-loss", 0.1)
    assert (code, "--group" in err) == (2, True)
    labels = ("--group", f"{source}::label")
    code, out, err = d2("diff", a, b, *labels, "--max-group-loss", 0.1, "--max-change", 0, "--json")
    assert code == 6
    found = json.loads(out)
    worst = max(found["groups"], key=lambda group: group["loss"])
    assert worst["loss"] == max(worst["a"] - worst["b"], 0) / worst["a"]
    assert "--max-change 0" in err
    assert f"group loss {worst['loss']:.4g} is above --max-group-loss 0.1" in err
    assert len(err.splitlines()) == 2
    assert [gate["passed"] for gate in found["gates"]] == [False, False]


@pytest.mark.parametrize("limit", ["-0.1", "1.5"])
def test_a_limit_is_a_share(d2, tmp_path, keep, limit):
    a = keep(make(tmp_path / "t.parquet", 200), "a.parquet")
    assert d2("diff", a, a, "--max-change", limit)[0] == 2


def test_groups_of_a_file_are_matched_by_id_and_by_row(d2, tmp_path, keep):
    source = make(tmp_path / "t.parquet", 200)
    a, b = keep(source, "a.parquet"), keep(source, "b.parquet", "--gamma-reverse", 0.01)
    expected = diff(d2, a, b, "--group", f"{source}::label")["groups"]
    labels = pq.read_table(source)["label"].to_pylist()
    rows = pq.read_table(a)["row"].to_pylist()
    assert sorted(g["a"] for g in expected) == sorted(
        sum(labels[row] == name for row in rows) for name in set(labels)
    )
    pq.write_table(pq.read_table(source).drop_columns(["id"]), tmp_path / "plain.parquet")
    by_row = diff(d2, a, b, "--group", f"{tmp_path / 'plain.parquet'}::label")["groups"]
    assert by_row == expected
    short = pq.read_table(tmp_path / "plain.parquet").slice(0, 100)
    pq.write_table(short, tmp_path / "short.parquet")
    code, _, err = d2("diff", a, b, "--group", f"{tmp_path / 'short.parquet'}::label")
    assert (code, "has 100 rows" in err) == (3, True)


def test_another_difficulty_is_not_passed_over(d2, tmp_path, keep):
    source = make(tmp_path / "t.parquet", 200)
    a = keep(source, "a.parquet")
    b = keep(source, "b.parquet", "--difficulty", "uniform")
    found = diff(d2, a, b)
    assert found["difficulty"]["differs"] == found["overlap"]["both"]
    assert "the values do not compare" in d2("diff", a, b)[1]


def test_it_is_written_as_markdown_and_json(d2, tmp_path, keep):
    source = make(tmp_path / "t.parquet", 200)
    a, b = keep(source, "a.parquet"), keep(source, "b.parquet", "-k", 3)
    more = ("--group", f"{source}::label")
    code, out, _ = d2("diff", a, b, *more, "-o", tmp_path / "d.md", "--max-change", 0)
    assert code == 6
    text = (tmp_path / "d.md").read_text()
    assert "| group | A | B | lost | gained | smaller by |" in text
    assert "FAILED" in text
    assert "&lt;b&gt;\\|" in text
    for shown in (out, text):
        assert all(c.isprintable() or c == "\n" for c in shown)
    d2("diff", a, b, *more, "-o", tmp_path / "d.json")
    assert json.loads((tmp_path / "d.json").read_text()) == diff(d2, a, b, *more)
    before = a.read_bytes()
    assert d2("diff", a, b, "-o", tmp_path / "d.html")[0] == 2
    (tmp_path / "list.md").write_text("r001\n")
    assert d2("diff", a, tmp_path / "list.md", "-o", tmp_path / "list.md")[0] == 2
    assert a.read_bytes() == before


def test_json_holds_no_control_characters(d2, tmp_path):
    (tmp_path / "a.txt").write_text("a\x1b[31m\x9b\x7f\u202e\U000e0001\nb\n")
    (tmp_path / "b.txt").write_text("b\n")
    for option in ((), ("--json",)):
        out = d2("diff", tmp_path / "a.txt", tmp_path / "b.txt", *option)[1]
        assert all(c.isprintable() or c == "\n" for c in out)
    assert json.loads(out)["examples"]["lost"] == ["a\x1b[31m\x9b\x7f\u202e\U000e0001"]
