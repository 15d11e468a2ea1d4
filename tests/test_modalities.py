"""Several modalities from files, on the command line: ``-e [NAME=]COLREF[:WEIGHT]``."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import d2cli
from d2cli.errors import InputError, ParameterError
from d2cli.files.inputs import FoundEmbedding
from d2cli.files.modalities import FoundModalities, find_vectors
from d2cli.files.named_refs import parse
from d2cli.files.sources import Sources
from d2cli.params import GraphParams
from d2cli.pipeline.fused_plan import plan_fused
from d2cli.pipeline.plan import Job
from d2cli.stages.ablation import Mix, mixes_of

N = 120


def lists(rows):
    return pa.array([None if row is None else row.tolist() for row in rows], pa.list_(pa.float32()))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """In this folder: t.parquet with gaps, clip.npz without, captions.parquet joined by id."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    label = np.arange(N) % 3
    image = (rng.normal(size=(3, 6))[label] + rng.normal(size=(N, 6))).astype(np.float32)
    text = (90 * (rng.normal(size=(3, 4))[label] + rng.normal(size=(N, 4)))).astype(np.float32)
    gone = rng.random(N) < 0.2
    table = {
        "id": [f"r{i}" for i in range(N)],
        "label": label,
        "image": lists(image),
        "text": lists([None if skip else row for row, skip in zip(text, gone, strict=True)]),
        "whole": lists(text),
        "aum": rng.normal(size=N) + 1,
    }
    pq.write_table(pa.table(table), "t.parquet", row_group_size=50)
    np.savez("clip.npz", image=image, text=text)
    order = rng.permutation(np.flatnonzero(~gone))
    captions = {"id": [f"r{i}" for i in order], "text": lists(text[order])}
    pq.write_table(pa.table(captions), "captions.parquet")
    return {"image": image, "text": text, "gone": gone, "label": label}


def meta_of(path):
    return json.loads(pq.read_schema(path).metadata[b"d2"])


def graph_of(path):
    table = pq.read_table(path)
    return [np.array(table[name].to_pylist()) for name in ("neighbors", "distances")]


# --- what the option means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "colref", "weight"),
    [
        ("text", None, "text", "1"),
        ("text:0.5", None, "text", "0.5"),
        ("a=text:2", "a", "text", "2"),
        ("a=clip.npz::text:1e-3", "a", "clip.npz::text", "1e-3"),
        ("a=clip.npz::7", "a", "clip.npz::7", "1"),  # the colon is a part of ::
        ("a=clip.npz::7:3", "a", "clip.npz::7", "3"),
        ("odd:2", None, "odd:2", "1"),  # a column of that name
        ("odd:2:3", None, "odd:2", "3"),
        ("k=v", None, "k=v", "1"),  # a column as well
        ("a=k=v:2", "a", "k=v", "2"),
        ("here:4", None, "here:4", "1"),  # a file of that name
        ("x=y.npy", None, "x=y.npy", "1"),
        ("part=1/emb.npy", "part", "1/emb.npy", "1"),
        ("data/part=1/emb.npy", None, "data/part=1/emb.npy", "1"),  # no name has a slash
        ("s3://bucket/emb.npy:0.5", None, "s3://bucket/emb.npy", "0.5"),
        ("a=s3://bucket/emb.npy::c:2", "a", "s3://bucket/emb.npy::c", "2"),
        ("text:1_000", None, "text:1_000", "1"),
    ],
)
def test_a_name_and_a_weight_stand_around_a_colref(
    tmp_path, monkeypatch, text, name, colref, weight
):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"odd:2": [1], "k=v": [1], "text": [1]}), "t.parquet")
    for file in ("here:4", "x=y.npy"):
        Path(file).write_bytes(b"anything")
    found = parse(text, Sources().open("t.parquet"))
    assert (found.name, found.colref, found.weight) == (name, colref, weight)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "0.0"])
def test_weights_are_finite_and_above_zero(data, weight):
    with pytest.raises(ParameterError, match=f"is {weight}, expected a number above 0"):
        parse(f"a=text:{weight}", Sources().open("t.parquet"))


def find(*embedding, fusion=None, source="t.parquet"):
    return find_vectors(
        Sources(), source, embedding=embedding, fusion=fusion, id_=None, within=None
    )


def test_names_are_those_of_columns_and_files_and_weights_become_shares(data):
    found = find("image:3", "clip.npz::text")
    assert isinstance(found, FoundModalities)
    assert found.shares == {"image": 0.75, "text": 0.25}
    assert found.fusion == "distance"
    assert isinstance(find("image"), FoundEmbedding)
    assert isinstance(find("a=image:2"), FoundEmbedding)


def test_nulls_and_missing_ids_are_rows_that_lack_the_modality(data):
    have = np.flatnonzero(~data["gone"])
    for text in ("text", "text=captions.parquet"):
        read = find("image", text).read()
        np.testing.assert_array_equal(read.rows_of["text"], have)
        np.testing.assert_array_equal(read.vectors_of["text"], data["text"][have])
        assert read.rows_of["image"] is None
        assert read.lacking == {"text": int(data["gone"].sum())}
    digests = [find("image", text).read().digests for text in ("text", "text=captions.parquet")]
    assert digests[0] == digests[1]
    assert (
        find("image", "text=whole").read().digests["vectors of text"]
        != digests[0]["vectors of text"]
    )


# --- graph files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["concat", "distance", "graphs"])
def test_a_graph_file_is_what_the_library_computes(data, d2, fusion):
    args = ("-e", "image=image", "-e", "text=text:0.5", "-k", 5, "--fusion", fusion)
    code, _, err = d2("graph", "clip.npz", *args, "-o", "g.parquet")
    assert code == 0, err
    meta, (neighbors, distances) = meta_of("g.parquet"), graph_of("g.parquet")
    expected = d2cli.graph(
        {name: data[name] for name in ("text", "image")},
        weights={"text": 0.5},
        fusion=fusion,
        n_neighbors=5,
    )
    np.testing.assert_array_equal(neighbors, expected.neighbors)
    np.testing.assert_array_equal(distances, expected.distances)
    assert meta["parameters"]["fusion"] == fusion
    assert meta["parameters"]["weights"] == {"image": 2 / 3, "text": 1 / 3}
    assert set(meta["inputs"]) == {"vectors of image", "vectors of text"}
    assert set(meta["results"]["bandwidths"]) == {"image", "text"}
    metric = "cosine" if fusion == "concat" else "l2"
    assert f"5 neighbors by {fusion} of image 0.6667, text 0.3333 ({metric})" in err


@pytest.mark.parametrize("fusion", ["distance", "graphs"])
def test_gaps_in_files_are_gaps_of_the_library(data, d2, fusion):
    args = ("-e", "image", "-e", "text", "-k", 5, "--fusion", fusion, "--within", "label")
    assert d2("graph", "t.parquet", *args, "-o", "g.parquet")[0] == 0
    text = np.where(data["gone"][:, None], np.nan, data["text"])
    vectors = {"image": data["image"], "text": text}
    expected = d2cli.graph(vectors, fusion=fusion, n_neighbors=5, within=data["label"])
    np.testing.assert_array_equal(graph_of("g.parquet")[0], expected.neighbors)
    assert meta_of("g.parquet")["results"]["lacking"] == {"text": int(data["gone"].sum())}
    aum = pq.read_table("t.parquet")["aum"].to_numpy()
    how = {"harder": "low", "n_neighbors": 5, "within": data["label"], "rate": 0.5}
    rows = d2cli.prune(vectors, aum, fusion=fusion, weights={"image": 1}, **how)
    more = ("--difficulty", "aum", "--rate", 0.5, "--prune-hardest", 0, "-o", "k.npy")
    assert d2("prune", "t.parquet", *args, *more, "--order", "rank")[0] == 0
    np.testing.assert_array_equal(np.load("k.npy"), rows)


def test_one_embedding_is_the_graph_it_always_was(data, d2):
    for name, args in {"a": ("-e", "image"), "b": ("-e", "other=image:3")}.items():
        assert d2("graph", "t.parquet", *args, "-o", f"{name}.parquet")[0] == 0
    assert Path("a.parquet").read_bytes() == Path("b.parquet").read_bytes()
    meta = meta_of("a.parquet")
    assert set(meta["parameters"]) == {"n_neighbors", "metric", "backend", "recall", "seed"}
    assert set(meta["inputs"]) == {"vectors", "id"}
    assert "bandwidths" not in meta["results"]


def test_the_order_and_a_factor_of_the_weights_change_no_byte(data, d2):
    pairs = {"a": ("image:0.3", "text:0.6"), "b": ("text:2", "image:1"), "c": ("image", "text")}
    for name, (one, other) in pairs.items():
        args = ("-e", one, "-e", other, "-o", f"{name}.parquet")
        assert d2("graph", "t.parquet", *args, "-j", 1 + (name == "b"))[0] == 0
    a, b, c = (Path(f"{name}.parquet").read_bytes() for name in pairs)
    assert a == b != c
    code, _, err = d2("graph", "t.parquet", "-e", "image", "-e", "text:2", "-o", "a.parquet")
    assert (code, err) == (0, "graph: up to date (a.parquet)\n")


def test_prune_explain_diff_and_report_go_on_from_several(data, d2):
    many = ("-e", "image", "-e", "text:3", "--fusion", "graphs")
    how = ("--difficulty", "aum", "--rate", 0.7, "--prune-hardest", 0)
    code, _, err = d2("prune", "t.parquet", *many, *how, "-o", "k.parquet", "--report", "r.html")
    assert code == 0, err
    assert "graph: graphs of image 0.25, text 0.75, exact, recall@10 1 (exact search)" in err
    page = Path("r.html").read_text()
    assert "graphs of image 0.25, text 0.75, exact" in page
    assert "Map of the embedding" in page

    code, out, err = d2("explain", "k.parquet", "r3", "r5", "--json")
    assert code == 0, err
    assert {row["row"] for row in json.loads(out)["rows"]} == {3, 5}

    code, out, _ = d2("report", "k.parquet", "--json")
    graph = json.loads(out)["graph"]
    assert graph["neighbors"] == 10
    assert graph["modalities"] == {"image": 0.25, "text": 0.75}
    assert set(graph["bandwidths"]) == set(graph["recalls"]) == {"image", "text"}

    again = ("--source", "t.parquet", "-o", "r2.html")
    assert d2("report", "k.parquet", *again, "-e", "image", "-e", "text=captions.parquet")[0] == 0
    code, _, err = d2("report", "k.parquet", *again, "-e", "image", "-e", "text=whole")
    assert (code, "does not hold the vectors of text" in err) == (4, True)
    code, _, err = d2("report", "k.parquet", *again)
    assert "there is no map; -e image=FILE::COLUMN -e text=FILE::COLUMN" in err
    assert d2("report", "k.parquet", *again, "-e", "image")[0] == 2

    assert d2("prune", "t.parquet", "-e", "image", *how, "-o", "one.parquet")[0] == 0
    code, out, err = d2("diff", "one.parquet", "k.parquet")
    assert "graph: fusion none -> graphs" in out
    assert "graph: weights none -> image 0.25, text 0.75" in out
    assert "graph: vectors of image added" in out
    assert "graphs of image 0.25" in d2("cache", "ls")[1]


def test_the_probe_sees_the_modalities_side_by_side(data, d2):
    pytest.importorskip("sklearn")
    how = ("--difficulty", "aum", "--prune-hardest", "probe", "--rate", 0.5)
    code, _, err = d2(
        "prune", "t.parquet", "-e", "image", "-e", "whole", *how, "--labels", "label", "-o", "k.npy"
    )
    assert code == 0, err
    assert d2("graph", "t.parquet", "-e", "image", "-e", "whole", "-o", "g.parquet")[0] == 0
    labels = ("--labels", "t.parquet::label")
    of_file = ("score", "g.parquet", "--difficulty", "t.parquet::aum", *how[2:], *labels)
    ends = ("-e", "t.parquet::image", "-e", "t.parquet::whole", "-o", "s.parquet")
    code, _, err = d2(*of_file, *ends)
    assert code == 0, err
    once = meta_of("s.parquet")["inputs"]["probe"]
    assert d2(*of_file, "-e", "t.parquet::image", "-o", "s.parquet")[0] == 0
    assert meta_of("s.parquet")["inputs"]["probe"] != once


def test_a_file_that_a_modality_came_from_is_not_replaced(data, d2):
    gaps = pq.read_table("t.parquet").select(["text"])
    pq.write_table(gaps, "gaps.parquet")
    several = ("-e", "image", "-e", "gaps.parquet", "-o", "g.parquet")
    assert d2("graph", "t.parquet", *several)[0] == 0
    before = Path("gaps.parquet").read_bytes()
    code, _, err = d2("score", "g.parquet", "--difficulty", "uniform", "-o", "gaps.parquet")
    assert (code, "holds data that" in err) == (2, True)
    assert Path("gaps.parquet").read_bytes() == before


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("-e", "image", "-e", "image"), 2, "2 embeddings are called 'image'"),
        (("-e", "a=image", "-e", "a=text"), 2, "2 embeddings are called 'a'"),
        (("-e", "image:0", "-e", "text"), 2, "'image:0' is 0, expected a number above 0"),
        (("-e", "image:-2", "-e", "text"), 2, "is -2, expected a number above 0"),
        (("-e", "image:two", "-e", "text"), 2, "is 'two', expected a number above 0"),
        (("-e", "image", "-e", "b="), 2, "names no column"),
        (("-e", "image", "-e", "nothing"), 3, "no column 'nothing'"),
        (("-e", "image", "-e", "aum"), 3, "expected lists of numbers"),
        (("-e", "image", "-e", "short.npy"), 3, "has 7 rows, but t.parquet has 120"),
        (("-e", "image", "-e", "text", "--fusion", "concat"), 3, "has no text"),
        (
            ("-e", "image", "-e", "whole", "--fusion", "concat", "--metric", "l2"),
            2,
            "metric l2 has no effect",
        ),
        (("-e", "text", "-e", "b=captions.parquet"), 3, "has no modality at all"),
        (("-e", "image", "--fusion", "graphs"), 2, "needs several embeddings, 1 is given"),
        (("--fusion", "graphs"), 2, "needs several embeddings"),
        (("-e", "image", "-e", "text", "--fusion", "other"), 2, "--fusion"),
        (("-e", "zero=zero.npy", "-e", "image", "--metric", "cosine"), 3, "zero: row 4 is a zero"),
        (("-e", "nan=nan.npy", "-e", "image"), 3, "nan: row 2 holds NaN"),
    ],
)
def test_what_cannot_be_fused_is_refused_in_one_line(data, d2, args, code, words):
    np.save("short.npy", np.ones((7, 2)))
    zero, nan = np.ones((N, 2)), np.ones((N, 2))
    zero[4], nan[2, 1] = 0, np.nan
    np.save("zero.npy", zero)
    np.save("nan.npy", nan)
    found, out, err = d2("graph", "t.parquet", *args, "-o", "g.parquet")
    assert (found, out) == (code, "")
    assert words in err
    assert [line[:6] for line in err.splitlines()] == ["error:", "hint: "], err


def test_commands_that_take_one_embedding_say_so(data, d2):
    several = ("-e", "image", "-e", "text")
    for command in (
        ("check", "t.parquet"),
        ("compare", "t.parquet", "--difficulty", "aum", "--labels", "label"),
        ("sweep", "t.parquet", "--difficulty", "aum"),
        ("difficulty",),
    ):
        code, _, err = d2(*command, *several)
        assert code == 2, err
        assert "2 embeddings are given, expected one" in err


def test_the_library_refuses_what_the_commands_refuse():
    one = {"a": np.ones((4, 2)), "b": np.ones((4, 2))}
    with pytest.raises(ParameterError, match="the weight of 'a' is 0"):
        d2cli.graph(one, weights={"a": 0})
    with pytest.raises(ParameterError, match="'c', which is no modality"):
        d2cli.graph(one, weights={"c": 1})
    with pytest.raises(ParameterError, match="fusion is 'sum'"):
        d2cli.graph(one, fusion="sum")
    with pytest.raises(ParameterError, match="need several modalities"):
        d2cli.graph(one["a"], fusion="concat")
    with pytest.raises(ParameterError, match="no modality"):
        d2cli.graph({})
    with pytest.raises(InputError, match="b: has 3 rows, expected 4"):
        d2cli.graph({"a": one["a"], "b": np.ones((3, 2))})
    with pytest.raises(InputError, match="row 2 has no modality at all"):
        d2cli.graph(dict.fromkeys("ab", np.array([[1.0], [2.0], [np.nan]])))


# --- plans, files of options, completion ----------------------------------------------------------


@pytest.mark.parametrize("fusion", ["concat", "distance", "graphs"])
def test_a_dry_run_knows_all_modalities_and_finds_the_graph(data, d2, fusion):
    args = ("t.parquet", "-e", "image", "-e", "whole", "--fusion", fusion, "-o", "g.parquet")
    code, out, _ = d2("graph", *args, "--dry-run")
    assert code == 0
    assert f"{fusion} of image x 6 float32, whole x 4 float32" in out
    assert "graph: miss (nothing like it" in out
    assert d2("graph", *args)[0] == 0
    assert "graph: hit if the vectors are the same" in d2("graph", *args, "--dry-run")[1]
    other = (*args[:3], "-e", "whole:3", *args[5:])
    found = d2("graph", *other, "--dry-run")[1]
    assert "weights image 0.5, whole 0.5 -> image 0.25, whole 0.75" in found


@pytest.mark.parametrize("fusion", ["concat", "distance", "graphs"])
def test_a_plan_grows_with_every_modality(fusion):
    job = Job(50_000, 128, np.dtype(np.float32), n_threads=2)
    params = GraphParams(backend="hnsw")
    plans = [
        plan_fused({name: job for name in names}, fusion, params, speed=1e10)
        for names in ("ab", "abc")
    ]
    assert plans[1].peak - plans[0].peak >= job.stored_bytes
    assert plans[1].seconds > plans[0].seconds
    assert plans[0].peak > 2 * job.stored_bytes


def test_too_little_memory_for_all_modalities_is_refused_before_work(tmp_path, d2):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.zeros((400_000, 64), np.float16))
    args = ("-e", f"a={tmp_path}/a.npy", "-e", f"b={tmp_path}/b.npy", "-o", tmp_path / "g.parquet")
    code, _, err = d2("graph", tmp_path / "a.npy", *args, "--max-memory", "400M")
    assert code == 5
    assert re.search(r"about [\d.]+ [MG]B of memory are needed for all modalities", err)


def test_a_file_of_options_names_several_embeddings(data, d2):
    Path("d2.toml").write_text('embedding = ["image", "words=text:2"]\nfusion = "graphs"\n')
    code, _, err = d2("graph", "t.parquet", "-o", "g.parquet")
    assert code == 0, err
    assert meta_of("g.parquet")["parameters"]["weights"] == {"image": 1 / 3, "words": 2 / 3}
    assert meta_of("g.parquet")["parameters"]["fusion"] == "graphs"


def test_completion_offers_columns_behind_a_name(data):
    from d2cli.completion.values import modalities

    class Line:
        command = type("Command", (), {"name": "graph", "params": []})
        params, args = {"source": "t.parquet"}, []

    assert modalities(Line, "te") == ["text"]
    assert modalities(Line, "a=te") == ["a=text"]
    assert modalities(Line, "a=t.parquet::te") == ["a=t.parquet::text"]
    assert modalities(Line, "a/b=te") == []


# --- ablation -------------------------------------------------------------------------------------


def test_two_modalities_are_tried_alone_and_by_other_weights_and_more_by_pairs():
    two = mixes_of({"a": 0.5, "b": 0.5})
    assert [mix.name for mix in two] == [
        "all: a 0.5, b 0.5",
        "a alone",
        "b alone",
        "a 0.75, b 0.25",
        "a 0.25, b 0.75",
    ]
    three = mixes_of({"c": 0.2, "a": 0.2, "b": 0.6})
    assert three[0] == Mix((("a", 0.2), ("b", 0.6), ("c", 0.2)), full=True)
    pairs = [tuple(name for name, _ in mix.shares) for mix in three[4:]]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]


def test_the_ablation_compares_the_selections(data, d2):
    args = ("t.parquet", "-e", "image", "-e", "text", "--modalities", "--difficulty", "aum")
    code, out, err = d2("sweep", *args, "--rates", "0.8", "--json", "-k", 5)
    assert code == 0, err
    found = json.loads(out)
    by_name = {row["name"]: row for row in found["rows"]}
    assert by_name["all: image 0.5, text 0.5"]["overlap"] == 1
    how = ("--difficulty", "aum", "--rate", 0.8, "-k", 5)
    kept = []
    for mix in (("-e", "image"), ("-e", "image", "-e", "text")):
        assert d2("prune", "t.parquet", *mix, *how, "-o", "k.npy")[0] == 0
        kept.append(set(np.load("k.npy").tolist()))
    jaccard = len(kept[0] & kept[1]) / len(kept[0] | kept[1])
    assert by_name["image alone"]["overlap"] == pytest.approx(jaccard)
    assert found["lacking"] == {"text": int(data["gone"].sum())}
    assert "rate 0.8: " in found["conclusions"][0]


def test_the_ablation_tells_what_trains_better(data, d2):
    pytest.importorskip("sklearn")
    args = ("sweep", "t.parquet", "-e", "image", "-e", "whole", "--modalities", "--fusion")
    more = ("graphs", "--difficulty", "aum", "--labels", "label", "--rates", "0.5", "--seeds", 2)
    files = ("-o", "s.md", "--plot", "s.svg")
    code, out, err = d2(*args, *more, "--test", "t.parquet", *files)
    assert code == 0, err
    assert out.splitlines()[0].split("  ")[0] == "rate"
    assert "beside all" in out.splitlines()[0]
    assert len(out.splitlines()) == 1 + 5 + 2
    assert "| 0.5 | image alone |" in Path("s.md").read_text()
    assert "image alone" in Path("s.svg").read_text()
    assert "10 of 10 cells are up to date" in d2(*args, *more, "--test", "t.parquet")[2]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("-e", "image"), "--modalities needs several embeddings"),
        (("-e", "image", "-e", "text", "-k", "5,10"), "expected one of them"),
        (("-e", "image", "-e", "text", "--gamma-reverse", "0.1"), "--gamma-reverse settings"),
    ],
)
def test_an_ablation_needs_modalities_and_one_setting(data, d2, more, words):
    code, _, err = d2("sweep", "t.parquet", "--modalities", "--difficulty", "aum", *more)
    assert code == 2
    assert words in err


def test_a_sweep_of_modalities_is_no_file_of_settings(data, d2):
    args = ("-e", "image", "-e", "text", "--modalities", "--difficulty", "aum", "--rates", "0.8")
    assert d2("sweep", "t.parquet", *args, "-o", "s.json")[0] == 0
    how = ("prune", "t.parquet", "-e", "image", "--difficulty", "aum", "--rate", 0.8)
    code, _, err = d2(*how, "--settings", "s.json")
    assert (code, "over modalities, which settles nothing" in err) == (4, True)
