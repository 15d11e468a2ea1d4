"""The report as HTML: one safe, small file whose plots show the figures of the JSON report."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from d2cli.files.alignment import Rows
from d2cli.files.excerpts import find_excerpts
from d2cli.files.reports import is_current, render
from d2cli.files.sources import Sources
from d2cli.files.thumbnails import (
    FORMATS,
    LARGEST_URI,
    ROOM,
    SIDE,
    make_row_thumbnails,
    make_thumbnails,
)
from d2cli.params import GraphParams
from d2cli.render.html import Pictures, to_html
from d2cli.render.html_style import STYLE
from d2cli.render.markdown import to_markdown
from d2cli.render.svg import Frame, safe, ticks
from d2cli.render.wording import printable
from d2cli.stages.gallery import EXAMPLES, nearest_kept, pick_examples
from d2cli.stages.graph import build_graph
from d2cli.stages.map2d import MOST_DROPPED, MOST_KEPT, flatten, sample_rows

HOSTILE = (
    "<script>alert(1)</script>",
    "a&b\"c'd",
    "\x1b[31mred\x1b[0m",
    "left\N{RIGHT-TO-LEFT OVERRIDE}right\N{RIGHT-TO-LEFT MARK}",
    "two\nlines\r\nand\ttabs",
    "[link](https://example.org) ![image](x) www.example.org $x$ `code` | ~~cut~~ # *b*",
)
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """An HTML document taken apart; every tag that opens has to close, in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag, kind=None):
        return [of for name, of in self.tags if name == tag and kind in (None, of.get("class"))]

    @property
    def text(self):
        return "".join(self.texts)


def check_page(text):
    """Return the parsed page; it must be small, closed, and load and run nothing."""
    assert len(text.encode()) < 300_000
    assert all(c.isprintable() or c in "\n\u200c\u200d" for c in text)
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "srcset", "action", "data", "xlink:href", "poster"}:
                assert value.startswith("data:image/jpeg;base64,")
    assert "url(" not in text
    assert "@import" not in text
    return page


@pytest.fixture
def data(tmp_path):
    """A Parquet file of 240 rows with ids, hostile groups and texts."""
    rng = np.random.default_rng(5)
    n = 240
    names = [HOSTILE[i % len(HOSTILE)] for i in range(n)]
    table = pa.table(
        {
            "id": [f"{i}{names[i]}" for i in range(n)],
            "embedding": list(rng.normal(size=(n, 5)).astype(np.float32)),
            "el2n": rng.random(n),
            "group": names,
            "text": [f"{name} {i}" for i, name in enumerate(names)],
        }
    )
    path = tmp_path / "data.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture
def report(d2, data, tmp_path):
    """The report of a selection of these rows, as JSON."""
    line = ["prune", data, "--difficulty", "el2n", "--rate", "0.7", "--group", "group"]
    code, _, err = d2(*line, "-o", tmp_path / "k.npy", "--report", tmp_path / "r.json")
    assert code == 0, err
    return json.loads((tmp_path / "r.json").read_text())


def test_the_page_is_whole_and_says_what_it_is(report):
    page = check_page(to_html(report))
    kept, total = report["rows"]["kept"], report["rows"]["total"]
    assert ("html", {"lang": "en"}) in page.tags
    assert f"d2 report: {kept:,} of {total:,} rows" in page.text
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption") > 5
    assert all("aria-label" in of or "aria-hidden" in of for of in page.all("svg"))


def test_bars_are_as_high_as_the_counts(report):
    page = Page(to_html(report))
    histogram = report["difficulty"]["histogram"]
    rects = [of for of in page.all("rect") if "x" in of and float(of["height"]) != 6]
    for kind in ("all", "kept"):
        heights = np.array([float(of["height"]) for of in rects if of["class"] == kind])[:20]
        counts = np.array(histogram[kind])
        np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=1e-3)
        for edge, count in zip(histogram["edges"], counts, strict=False):
            assert re.search(rf"{re.escape(f'{edge:.4g}')} to [^:]+: {count:,} {kind}", page.text)


def test_the_curve_goes_through_the_picks(report, d2, data, tmp_path):
    d2("prune", data, "--difficulty", "el2n", "--rate", "0.7", "-o", tmp_path / "s.parquet",
       "--group", "group")  # fmt: skip
    table = pq.read_table(tmp_path / "s.parquet").sort_by("rank")
    curve = report["picks"]["curve"]
    at_pick = table.column("score_at_pick").to_numpy()
    np.testing.assert_array_equal(at_pick[curve["ranks"]], curve["scores"])
    assert curve["ranks"][0] == 0
    assert curve["ranks"][-1] == len(at_pick) - 1
    (line,) = (of for of in Page(to_html(report)).all("polyline", "line"))
    x, y = np.array([p.split(",") for p in line["points"].split()], dtype=float).T
    for drawn, meant in ((x, curve["ranks"]), (y, curve["scores"])):
        slope, offset = np.polyfit(meant, drawn, 1)
        np.testing.assert_allclose(slope * np.array(meant) + offset, drawn, atol=0.02)


def test_where_scores_turn_negative_is_marked(report):
    turned = {**report, "picks": {**report["picks"], "first_negative_rank": 7}}
    assert "negative from rank 7" in to_html(turned)
    assert "No pick had a negative score" in to_html(report)
    assert "negative from rank" not in to_html(report)


def test_scores_that_are_not_finite_break_the_line(report):
    curve = {"ranks": [0, 1, 2, 3, 4], "scores": [None, 3.0, 2.0, None, 1.0]}
    page = Page(to_html({**report, "picks": {**report["picks"], "curve": curve}}))
    assert len(page.all("polyline", "line")) == 2


def test_hostile_names_are_shown_as_they_are_in_html(d2, data, tmp_path):
    out = tmp_path / "r.html"
    line = ["prune", data, "--difficulty", "el2n", "--rate", "0.7", "--group", "group"]
    code, _, err = d2(*line, "-o", tmp_path / "k.npy", "--report", out, "--show", "text")
    assert code == 0, err
    page = check_page(out.read_text())
    for name in HOSTILE:
        assert printable(name)[:50] in page.text
    assert page.all("path", "kept edged")  # the map
    assert page.all("path", "dot dropped")


def test_hostile_names_are_escaped_in_markdown(d2, data, tmp_path):
    out = tmp_path / "r.md"
    line = ["prune", data, "--difficulty", "el2n", "--rate", "0.7", "--group", "group"]
    d2(*line, "-o", tmp_path / "k.npy", "--report", out, "--show", "text")
    text = out.read_text()
    assert "&lt;script&gt;" in text
    for bad in ("<script", "\x1b", "\u202e", "\u200f", "https://", "\r", "www.e"):
        assert bad not in text
    told = re.sub(r"^- (key|digest): .*$", "", text.partition("```json")[0], flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)[\[\]$`~]", told)
    rows = [line for line in text.split("\n") if line.startswith("|")]
    pipes = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert pipes <= {4, 6, 8, 9, 10}  # no name adds a cell


def with_many_groups(report, n, name):
    share = {"rows": 10, "share": 1 / n, "kept": 1, "kept_share": 1 / n}
    return {**report, "groups": [{"name": f"{i}{name}", **share} for i in range(n)]}


@pytest.mark.parametrize("character", ["&", '"', "\N{PILE OF POO}", "\x07", "_", "\N{SNOWMAN}"])
def test_reports_stay_small_whatever_the_names(report, character):
    long = character * 5000
    told = with_many_groups(report, 10_000, long)
    told["difficulty"] = {**told["difficulty"], "name": long}
    told["parameters"] = {**told["parameters"], "score": {"difficulty": long}}
    told["rows"] = {**told["rows"], "cut_reason": long}
    told["warnings"] = [long] * 4
    for rows in told["examples"].values():
        for row in rows:
            for one in (row, row["nearest_kept"] or {}):
                one |= {"id": long, "text": long}
    full = Pictures(thumbnails={str(i): "data:" + "x" * 5990 for i in range(ROOM // 6000)})
    page = to_html(told, full)
    assert len(page.encode()) + ROOM < 300_000
    check_page(page)
    assert len(to_markdown(told).encode()) < 64_000
    assert re.search(r"and 9,[89]\d\d more", to_markdown(told))
    assert "9,960 more are not" in page


def test_a_page_is_current_only_if_it_is_whole_and_of_this_selection(report, tmp_path):
    path = tmp_path / "r.html"
    text = render(report, ".html")
    path.write_bytes(text)
    assert is_current(path, report["key"])
    assert not is_current(path, "another key")
    path.write_bytes(text[:-3])
    assert not is_current(path, report["key"])


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_a_report_with_any_other_byte_is_not_current(report, tmp_path, suffix):
    path = tmp_path / f"r{suffix}"
    text = render(report, suffix)
    path.write_bytes(text)
    assert is_current(path, report["key"])
    digits = [at for at in range(len(text)) if text[at : at + 1].isdigit()]
    for at in digits[:: max(len(digits) // 20, 1)]:
        path.write_bytes(text[:at] + (b"1" if text[at : at + 1] == b"2" else b"2") + text[at + 1 :])
        assert not is_current(path, report["key"]), text[at - 20 : at + 20]


def test_no_new_report_is_made_while_the_page_is_current(d2, data, tmp_path):
    line = ["prune", data, "--difficulty", "el2n", "--rate", "0.7", "-o", tmp_path / "k.npy",
            "--report", tmp_path / "r.html"]  # fmt: skip
    assert d2(*line)[0] == 0
    first = (tmp_path / "r.html").read_bytes()
    assert "beside" not in d2(*line)[2]
    assert (tmp_path / "r.html").read_bytes() == first
    assert d2(*line, "--show", "text")[0] == 0  # asks for more than the page has
    assert b"two lines" in (tmp_path / "r.html").read_bytes()


def test_keys_of_older_reports_are_all_there(report):
    assert set(report) >= {
        "kind", "schema_version", "key", "rows", "groups", "difficulty", "weights", "picks",
        "coverage", "random", "graph", "warnings", "parameters", "inputs", "digest", "versions",
        "stages",
    }  # fmt: skip
    assert set(report["picks"]) >= {"negative_share", "first_negative_rank"}
    assert report["schema_version"] == 1


# --- the rows that are shown ----------------------------------------------------------------------


def test_examples_are_the_most_extreme_rows(cloud):
    graph = build_graph(cloud, GraphParams(n_neighbors=4))
    rng = np.random.default_rng(1)
    difficulty = rng.integers(0, 20, len(cloud)).astype(float)  # with ties
    kept = rng.random(len(cloud)) < 0.3
    found = pick_examples(graph.adjacency, difficulty, kept)

    def hardest(rows):
        return sorted(rows, key=lambda row: (-difficulty[row], row))[:EXAMPLES]

    assert found.hardest_kept.tolist() == hardest(np.flatnonzero(kept))
    assert found.hardest_dropped.tolist() == hardest(np.flatnonzero(~kept))
    near = {row: nearest_kept(graph.adjacency, kept, row) for row in np.flatnonzero(~kept)}
    order = sorted((at[1], row) for row, at in near.items() if at is not None)
    assert found.most_redundant.tolist() == [row for _, row in order[:EXAMPLES]]
    for row, at in near.items():
        if at is not None:
            assert kept[at[0]]
            length = np.linalg.norm(cloud[row].astype(float) - cloud[at[0]])
            np.testing.assert_allclose(at[1], length, rtol=1e-5)


def test_examples_of_nothing_are_nothing(cloud):
    graph = build_graph(cloud, GraphParams(n_neighbors=4))
    everything = np.ones(len(cloud), dtype=bool)
    found = pick_examples(graph.adjacency, np.zeros(len(cloud)), everything)
    assert len(found.hardest_dropped) == len(found.most_redundant) == 0
    assert found.hardest_kept.tolist() == list(range(EXAMPLES))
    assert nearest_kept(graph.adjacency, ~everything, 0) is None


def test_missing_texts_leave_the_id(d2, tmp_path):
    table = pa.table({
        "id": [f"row-{i}" for i in range(40)], "el2n": np.arange(40.0),
        "embedding": list(np.random.default_rng(0).normal(size=(40, 3))),
        "text": pa.array([None] * 40, pa.string()),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "d.parquet")
    code, out, _ = d2("prune", tmp_path / "d.parquet", "--difficulty", "el2n", "--keep", 8,
                      "-o", tmp_path / "k.npy", "--json", "--show", "text")  # fmt: skip
    assert code == 0
    rows = json.loads(out)["examples"]["hardest_kept"]
    assert [row["text"] for row in rows] == [None] * len(rows)
    assert all(row["id"] == f"row-{row['row']}" for row in rows)


def test_show_joins_by_id(d2, data, tmp_path):
    table = pq.read_table(data, columns=["id", "text"])
    pq.write_table(table.take(np.arange(len(table))[::-1].copy()), tmp_path / "texts.parquet")
    code, out, err = d2("prune", data, "--difficulty", "el2n", "--rate", "0.7", "--json",
                        "-o", tmp_path / "k.npy",
                        "--show", f"{tmp_path}/texts.parquet::text")  # fmt: skip
    assert code == 0, err
    texts = table.column("text").to_pylist()
    for rows in json.loads(out)["examples"].values():
        for row in rows:
            assert row["text"] == texts[row["row"]]


def test_show_without_a_report_is_refused(d2, data, tmp_path):
    code, _, err = d2("prune", data, "--difficulty", "el2n", "--rate", "0.7", "--show", "text",
                      "-o", tmp_path / "k.npy")  # fmt: skip
    assert code == 2
    assert "--show puts texts" in err
    code, _, err = d2("prune", data, "--difficulty", "el2n", "--rate", "0.7", "--show", "nothing",
                      "-o", tmp_path / "k.npy", "--report", tmp_path / "r.md")  # fmt: skip
    assert code == 3
    assert "no column 'nothing'" in err
    assert not (tmp_path / "k.npy").exists()


# --- thumbnails -----------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    """A folder with a picture of each kind, and one outside it."""
    folder = tmp_path / "data"
    (folder / "img").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "img" / "a.png")
    Image.fromarray(noise[..., 0]).save(folder / "img" / "grey.jpg")
    Image.fromarray(np.dstack([noise, noise[..., :1]])).save(folder / "img" / "clear.webp")
    Image.fromarray(noise).save(tmp_path / "secret.png")
    (folder / "img" / "text.png").write_text("no image")
    (folder / "img" / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def test_thumbnails_are_small_images(images):
    names = ["img/a.png", "img/grey.jpg", "img/clear.webp", str(images / "img" / "a.png")]
    found, note = make_thumbnails(images, [*names, "a text"])
    assert set(found) == set(names)
    assert note is None
    for uri in found.values():
        assert uri.startswith("data:image/jpeg;base64,")
        assert len(uri) <= LARGEST_URI


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "img/link.png", "img/none.png", "img/text.png", "img/\0.png", "img/.png",
     "/etc/passwd.png", "x" * 5000 + ".png"],
)  # fmt: skip
def test_what_is_no_image_in_the_folder_is_left_out(images, name):
    found, note = make_thumbnails(images, [name])
    assert found == {}
    assert "1 of 1 images are shown by their paths" in note
    assert make_thumbnails(None, [name])[0] == {}


def test_thumbnails_have_room_for_a_number_of_images_only(images):
    for i in range(60):
        (images / f"{i}.png").write_bytes((images / "img" / "a.png").read_bytes())
    found, note = make_thumbnails(images, [f"{i}.png" for i in range(60)])
    assert sum(map(len, found.values())) <= ROOM
    assert note is None or f"{60 - len(found)} of 60" in note


def test_images_stand_in_the_page(d2, images):
    n = 30
    table = pa.table({
        "el2n": np.arange(float(n)), "path": ["img/a.png"] * (n - 1) + ["../secret.png"],
        "embedding": list(np.random.default_rng(0).normal(size=(n, 3))),
    })  # fmt: skip
    pq.write_table(table, images / "d.parquet")
    line = ["prune", images / "d.parquet", "--difficulty", "el2n", "--keep", 9, "--show", "path"]
    code, _, err = d2(*line, "-o", images / "k.npy", "--report", images / "r.html")
    assert code == 0
    page = check_page((images / "r.html").read_text())
    assert len(page.all("img")) > 20
    assert {of["alt"] for of in page.all("img")} == {"img/a.png"}
    if "../secret.png" in page.text:
        assert "1 of 2 images are shown by their paths" in err


def encoded(image, kind="PNG"):
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


STORED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as datasets stores images


@pytest.fixture
def stored(tmp_path):
    """A table whose images are stored in it: all under one name, one damaged, one missing."""
    n = 30
    pictures = [
        {"bytes": encoded(Image.new("RGB", (90, 60), (8 * i, 0, 0))), "path": "image.png"}
        for i in range(n)
    ]
    pictures[-1] = {"bytes": b"<script>alert(1)</script>", "path": "image.png"}
    pictures[-2] = None
    pictures[-3] = {"bytes": pictures[0]["bytes"], "path": None}
    table = pa.table({
        "el2n": np.arange(float(n)), "image": pa.array(pictures, STORED),
        "embedding": list(np.random.default_rng(0).normal(size=(n, 3))),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=7)
    return tmp_path / "d.parquet"


def colour_of(uri):
    """Return the mean red of a JPEG in a data URI."""
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    image = Image.open(io.BytesIO(data))
    assert max(image.size) <= SIDE
    return np.asarray(image)[..., 0].mean()


def test_images_that_are_stored_in_a_column_stand_in_the_page(d2, stored, tmp_path):
    line = ["prune", stored, "--difficulty", "el2n", "--keep", 9, "--show", "image"]
    code, _, err = d2(*line, "-o", tmp_path / "k.parquet", "--report", tmp_path / "r.html")
    assert code == 0, err
    text = (tmp_path / "r.html").read_text()
    page = check_page(text)
    found = re.findall(r'<img src="([^"]+)" alt="[^"]*"><br>[^0-9]*([0-9]+)', text)
    shown = {int(row): colour_of(uri) for uri, row in found}
    assert len(shown) > 8
    for row, red in shown.items():
        assert red == pytest.approx(0 if row == 27 else 8 * row, abs=4)
    unnamed = f"image, {len(encoded(Image.new('RGB', (90, 60))))} bytes"
    assert {of["alt"] for of in page.all("img")} <= {"image.png", unnamed}
    assert "alert(1)" not in text
    assert "note: 1 of " in err
    assert "images are not shown: not readable" in err
    assert "by their paths" not in err

    for suffix in ("md", "json"):
        assert d2(*line, "--report", tmp_path / f"r.{suffix}")[0] == 0
        assert "image.png" in (tmp_path / f"r.{suffix}").read_text()


def test_explain_names_the_images_of_a_column(d2, stored, tmp_path):
    prune = ("prune", stored, "--difficulty", "el2n", "--keep", 9, "-o", tmp_path / "k.parquet")
    assert d2(*prune)[0] == 0
    explain = ("explain", tmp_path / "k.parquet", 3, 27, 28, "--json")
    code, out, err = d2(*explain, "--show", f"{stored}::image")
    assert code == 0, err
    texts = [row.get("text") for row in json.loads(out)["rows"]]
    assert texts[0] == "image.png"
    assert re.fullmatch("image, [0-9]+ bytes", texts[1])
    assert texts[2] is None


@pytest.mark.parametrize("sharded", [False, True])
def test_only_row_groups_with_an_image_to_show_are_read(stored, sharded, monkeypatch):
    if sharded:
        shutil.copy(stored, stored.with_name("e.parquet"))
    sources = Sources()
    name = f"{stored.parent}/*.parquet" if sharded else str(stored)
    rows = Rows(name, 60 if sharded else 30, None, None)
    shown = find_excerpts(sources, f"{name}::image", rows, None)
    groups = []
    read = pq.ParquetFile.iter_batches

    def iter_batches(self, *arguments, **options):
        groups.append(options["row_groups"])
        yield from read(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)

    wanted = [31, 8, 9] if sharded else [22, 8, 9]
    found = dict(shown.images(wanted))

    assert groups == ([[1], [0]] if sharded else [[1], [3]])
    table = pq.read_table(stored)["image"].to_pylist()
    assert found == {row: table[row % 30]["bytes"] for row in wanted}


@given(st.binary(max_size=40), st.integers(0, 400), st.sampled_from(FORMATS))
def test_no_bytes_end_the_making_of_thumbnails(noise, at, kind):
    data = bytearray(encoded(Image.new("RGB", (20, 20), "red"), kind))
    data[at : at + len(noise)] = noise
    found, note = make_row_thumbnails([(0, bytes(data))])
    assert (note is None) == (0 in found)


def test_thumbnails_of_rows_have_room_for_a_number_of_images_only():
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3)).astype(np.uint8)
    data = encoded(Image.fromarray(noise))
    found, note = make_row_thumbnails((row, data) for row in range(200))
    assert 10 < len(found) < 200
    assert sum(map(len, found.values())) <= ROOM
    assert note.startswith(f"note: {200 - len(found)} of 200 images are not shown")


# --- map and plots --------------------------------------------------------------------------------


def test_the_map_is_that_of_principal_components():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(300, 6)) * [9, 4, 1, 1, 1, 1] + 50
    kept = rng.random(300) < 0.5
    found = flatten(vectors, kept, kept_share=kept.mean())
    centred = vectors - vectors.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    scale = np.abs(centred).max()
    np.testing.assert_allclose(
        np.abs(found.points) * scale, np.abs(centred @ axes[:2].T), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(found.shares, (spread**2 / (spread**2).sum())[:2])


def test_a_map_weighs_the_sample_as_the_data():
    """Half of the sample is kept, but of a thousandth of the data: the axis is that of the rest."""
    rng = np.random.default_rng(2)
    kept = np.arange(200) < 100
    vectors = rng.normal(size=(200, 2)) * np.where(kept[:, None], [30, 0.1], [1, 10])
    points = flatten(vectors, kept, kept_share=0.001).points
    assert abs(np.corrcoef(points[~kept, 0], vectors[~kept, 1])[0, 1]) > 0.99


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 1), (5, 3)])
def test_a_map_of_equal_or_few_rows_is_flat(shape):
    found = flatten(np.full(shape, 7.0), np.zeros(shape[0], dtype=bool), kept_share=0.5)
    assert found.points.shape == (shape[0], 2)
    assert not found.points.any()
    assert found.shares == (0, 0)


def test_a_sample_has_rows_of_both_kinds():
    kept = np.arange(5000) < 900
    rows = sample_rows(kept, seed=0)
    assert (np.diff(rows) > 0).all()
    assert kept[rows].sum() == MOST_KEPT
    assert (~kept[rows]).sum() == MOST_DROPPED
    few = np.array([True, False, False])
    assert sample_rows(few, seed=0).tolist() == [0, 1, 2]


def luminance(color):
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("theme", [0, 1])
def test_colors_can_be_told_from_their_ground(theme):
    block = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)[theme]
    color = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    least = {"ink": 4.5, "quiet": 4.5, "kept": 3, "dropped": 3, "all": 3}
    for ground in ("ground", "panel"):
        for name, ratio in least.items():
            pair = sorted([luminance(color[name]), luminance(color[ground])])
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= ratio, (name, ground)
    pair = sorted([luminance(color["ink"]), luminance(color["warn"])])
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_few_and_inside(low, span, most):
    found = ticks(low, low + span, most)
    assert 1 <= len(found) <= max(most, 2)
    slack = 1e-6 * max(abs(low), span)
    assert all(low - slack <= value <= low + span + slack for value in found)
    assert found == sorted(found)


@given(st.text())
def test_escaped_text_reads_as_it_was(text):
    page = Page(f'<p title="{safe(text)}">{safe(text)}</p>')
    assert page.text == page.tags[0][1]["title"] == printable(text)


def test_a_frame_of_one_value_has_a_middle():
    frame = Frame(3, 3, 0, 0)
    assert frame.x(3) == pytest.approx((frame.x(2) + frame.x(4)) / 2)
    assert ticks(3, 3) == [3]
