"""``d2 report``: the report of a selection again; and ``--summary``."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# What says how the report was made, and not what it says.
OF_THE_RUN = ("stages", "seal")


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(11)
    n = 200
    table = pa.table(
        {
            "id": [f"row {i}" for i in range(n)],
            "embedding": list(rng.normal(size=(n, 5)).astype(np.float32)),
            "other": list(rng.normal(size=(n, 5)).astype(np.float32)),
            "el2n": rng.random(n),
            "label": rng.choice(["x", "y", "z"], n),
            "text": [f"text of {i}" for i in range(n)],
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


def figures(report):
    return {name: value for name, value in report.items() if name not in OF_THE_RUN}


@pytest.fixture
def prune(d2, data, tmp_path):
    """Run d2 prune with more options; return the selection and its report."""

    def call(*more):
        keep, told = tmp_path / "keep.parquet", tmp_path / "told.json"
        code, _, err = d2("prune", data, "-e", "embedding", "--difficulty", "el2n", "--rate", "0.8",
                          "-o", keep, "--report", told, *more)  # fmt: skip
        assert code == 0, err
        return keep, json.loads(told.read_text())

    return call


def test_figures_are_those_of_the_report_made_with_the_selection(d2, prune):
    keep, told = prune()
    code, out, err = d2("report", keep, "--json")
    assert code == 0, err
    assert figures(json.loads(out)) == figures(told)
    assert err == ""


@pytest.mark.parametrize("named", ["within", "group", "source"])
def test_groups_are_found(d2, prune, data, named):
    within = ["--within", "label"] if named == "within" else []
    keep, told = prune("--group", "label", *within)
    more = {
        "within": [],
        "group": ["--group", f"{data}::label"],
        "source": ["--source", data],
    }[named]
    code, out, err = d2("report", keep, "--json", *more)
    assert code == 0, err
    assert figures(json.loads(out)) == figures(told)
    assert len(told["groups"]) == 3


def test_groups_that_are_not_known_are_asked_for(d2, prune, data):
    keep, _ = prune("--group", "label")
    code, _, err = d2("report", keep)
    assert code == 4
    assert "was made with --group, whose column is not known here" in err
    assert "--group FILE::COLUMN" in err
    code, _, err = d2("report", keep, "--group", f"{data}::text")
    assert code == 4
    assert "is not the group that" in err


def test_wishes_have_to_be_those_of_the_selection(d2, prune, tmp_path):
    yes, no, other = (tmp_path / name for name in ("yes.txt", "no.txt", "other.txt"))
    yes.write_text("row 3\nrow 9\n")
    no.write_text("row 5\n")
    other.write_text("row 6\n")
    keep, told = prune("--include", yes, "--exclude", no)
    code, out, err = d2("report", keep, "--include", yes, "--exclude", no, "--json")
    assert code == 0, err
    assert figures(json.loads(out)) == figures(told)
    code, _, err = d2("report", keep, "--include", yes)
    assert code == 4
    assert "was made with --exclude, whose rows are not known here" in err
    code, _, err = d2("report", keep, "--include", yes, "--exclude", other)
    assert code == 4
    assert "other.txt: does not hold the rows" in err
    keep, _ = prune()
    code, _, err = d2("report", keep, "--include", yes)
    assert code == 4
    assert "leave out --include" in err


@pytest.fixture
def stages(d2, data, tmp_path):
    """Graph, scores and selection, each in a file of its own."""
    files = [tmp_path / f"{name}.parquet" for name in ("graph", "scores", "selected")]
    for line in (
        ["graph", data, "-e", "embedding", "-o", files[0]],
        ["score", files[0], "--difficulty", f"{data}::el2n", "--rate", 0.8, "-o", files[1]],
        ["select", files[1], "--rate", 0.8, "-o", files[2], "--report", tmp_path / "told.json"],
    ):
        code, _, err = d2(*line)
        assert code == 0, err
    return *files, json.loads((tmp_path / "told.json").read_text())


def test_stages_in_files_are_named(d2, stages, tmp_path):
    graph, scores, selected, told = stages
    code, out, _ = d2("report", selected, "--scores", scores, "--json")
    assert code == 0
    assert figures(json.loads(out)) == figures(told)
    graph.rename(tmp_path / "moved.parquet")
    code, _, err = d2("report", selected, "--scores", scores)
    assert code == 4
    assert "the graph it was made from" in err
    assert "--graph" in err
    code, out, _ = d2("report", selected, "--scores", scores, "--graph",
                      tmp_path / "moved.parquet", "--json")  # fmt: skip
    assert code == 0
    assert figures(json.loads(out)) == figures(told)


def test_what_is_not_in_the_cache_is_asked_for(d2, stages):
    code, out, err = d2("report", stages[2])
    assert code == 4
    assert out == ""
    assert "the scores it was made from" in err
    assert "hint: name them with --scores" in err


def test_stages_of_another_selection_are_refused(d2, stages, tmp_path):
    graph, _, selected, _ = stages
    code, _, err = d2("score", graph, "--difficulty", f"{tmp_path}/data.parquet::el2n",
                      "--rate", 0.5, "-o", tmp_path / "others.parquet")  # fmt: skip
    assert code == 0, err
    code, _, err = d2("report", selected, "--scores", tmp_path / "others.parquet")
    assert code == 4
    assert "are not the scores that" in err
    code, _, err = d2("report", graph)
    assert code == 4
    assert "is a graph file, expected a selection file" in err


def test_a_page_holds_texts_and_a_map(d2, prune, data, tmp_path):
    keep, _ = prune()
    page = tmp_path / "again.html"
    code, out, err = d2("report", keep, "--source", data, "-e", "embedding", "--show", "text",
                        "-o", page)  # fmt: skip
    assert (code, out, err) == (0, "", "")
    text = page.read_text()
    assert "text of " in text
    assert "Map of the embedding" in text
    d2("report", keep, "-o", page)
    assert "Map of the embedding" not in page.read_text()


def test_the_page_of_prune_and_that_of_report_are_one(d2, prune, data, tmp_path):
    keep, _ = prune("--show", "text")
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    code, _, err = d2("prune", data, "-e", "embedding", "--difficulty", "el2n", "--rate", "0.8",
                      "-o", keep, "--report", pages[0], "--show", "text")  # fmt: skip
    assert code == 0, err
    assert d2("report", keep, "--source", data, "-e", "embedding", "--show", "text",
              "-o", pages[1])[0] == 0  # fmt: skip
    one, two = (
        [
            line
            for line in page.read_text().split("\n")
            if "stage " not in line and not line.startswith("<!-- d2 ")
        ]
        for page in pages
    )
    assert one == two


def test_vectors_of_another_graph_draw_no_map(d2, prune, data, tmp_path):
    keep, _ = prune()
    code, _, err = d2("report", keep, "--source", data, "-e", "other", "-o", tmp_path / "r.html")
    assert code == 4
    assert "does not hold the vectors that" in err
    alone = pq.read_table(data, columns=["id", "other", "text"])
    pq.write_table(alone, tmp_path / "alone.parquet")
    code, _, err = d2("report", keep, "--source", tmp_path / "alone.parquet", "--show", "text",
                      "-o", tmp_path / "r.html")  # fmt: skip
    assert code == 0
    assert "so there is no map" in err
    assert d2("report", keep, "-e", f"{data}::embedding")[0] == 2


def test_markdown_goes_to_standard_output(d2, prune, tmp_path):
    keep, told = prune()
    code, out, _ = d2("report", keep)
    assert code == 0
    assert out.startswith("# d2 report\n\n**Kept 40 of 200 rows")
    assert told["key"] in out
    assert d2("report", keep, "-o", "-")[1] == out
    assert d2("report", keep, "-o", tmp_path / "r.md")[1] == ""
    assert (tmp_path / "r.md").read_text() == out
    code, _, err = d2("report", keep, "-o", tmp_path / "r.pdf")
    assert code == 2
    assert ".html" in err


def test_the_summary_is_appended_to(d2, prune, monkeypatch, tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("# before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    keep, told = prune("--summary")
    first = summary.read_text()
    assert first.startswith("# before\n\n# d2 report\n")
    assert told["key"] in first
    assert d2("report", keep, "--summary")[1] == ""
    assert summary.read_text().startswith(first + "\n# d2 report")
    prune("--summary")  # up to date, and appended all the same
    assert summary.read_text().count("# d2 report\n") == 3


def test_select_appends_too(d2, stages, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert d2("select", stages[1], "--rate", 0.8, "--summary", "-q")[0] == 0
    assert (tmp_path / "summary.md").read_text().startswith("# d2 report\n")


def test_a_summary_without_its_file_is_refused(d2, prune, data, monkeypatch, tmp_path):
    keep, _ = prune()
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    for line in (
        ["report", keep],
        ["prune", data, "-e", "embedding", "--difficulty", "el2n", "--rate", 0.5],
    ):
        code, out, err = d2(*line, "--summary")
        assert code == 2
        assert out == ""
        assert "$GITHUB_STEP_SUMMARY, which is not set" in err
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "such" / "folder.md"))
    code, _, err = d2("report", keep, "--summary")
    assert code == 5
    assert "cannot be appended to" in err


@pytest.mark.parametrize("which", ["data", "keep", "report", "list", "link", "shard"])
def test_a_summary_that_is_an_input_or_output_is_refused(d2, data, monkeypatch, tmp_path, which):
    (tmp_path / "list.txt").write_text("row 3\n")
    (tmp_path / "link.md").symlink_to(tmp_path / "list.txt")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.parquet").write_bytes(data.read_bytes())
    source = data if which != "shard" else tmp_path / "shards"
    keep, told = tmp_path / "keep.txt", tmp_path / "told.md"
    places = {
        "data": data,
        "keep": keep,
        "report": told,
        "list": tmp_path / "list.txt",
        "link": tmp_path / "link.md",
        "shard": tmp_path / "shards" / "b.parquet",
    }
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(places[which]))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    line = ("prune", source, "-e", "embedding", "--difficulty", "el2n", "--rate", 0.5)
    line = (*line, "--exclude", tmp_path / "list.txt", "-o", keep, "--report", told, "--summary")
    for more in ((), ("--dry-run",)):
        code, out, err = d2(*line, *more)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: --summary: {places[which]}: ")
        assert "$GITHUB_STEP_SUMMARY" in err.splitlines()[1]
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before


@pytest.mark.parametrize("which", ["keep", "scores", "graph"])
def test_a_summary_over_what_is_read_again_is_refused(d2, stages, monkeypatch, tmp_path, which):
    graph, scores, *_ = stages
    keep = tmp_path / "k.parquet"
    assert d2("select", scores, "--rate", 0.8, "-o", keep, "-q")[0] == 0
    place = {"keep": keep, "scores": scores, "graph": graph}[which]
    before = place.read_bytes()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place))
    lines = [("report", keep, "--scores", scores, "-o", tmp_path / "r.md", "--summary")]
    if which != "keep":
        lines.append(("select", scores, "--rate", 0.8, "--summary"))
    for line in lines:
        code, out, err = d2(*line)
        assert (code, out) == (2, "")
        assert f"--summary: {place}: is an input" in err
        assert place.read_bytes() == before
