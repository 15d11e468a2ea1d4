"""The report as one HTML file: no script, nothing fetched, under 300 KB whatever the data hold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from d2cli.render.engines import HEADER, engine_text, step_rows
from d2cli.render.html_charts import (
    difficulty_section,
    map_section,
    pair,
    picks_section,
    weights_section,
)
from d2cli.render.html_parts import KEPT_MARK, OTHER_MARK, section, table, user_text
from d2cli.render.html_style import STYLE
from d2cli.render.svg import safe
from d2cli.render.wording import (
    EXAMPLES,
    beside_previous,
    beside_random,
    direction_text,
    fate_of,
    method_of,
    name_of,
    number,
    of_modalities,
    percent,
    previous_lines,
    random_text,
    recall_text,
    shorten,
    shortened,
)
from d2cli.stages.map2d import Map2d

MOST_GROUPS = 40
LONGEST_SENTENCE, LONGEST_TEXT = 400, 200
HTML_END = "</html>\n"


@dataclass(frozen=True, eq=False)
class Pictures:
    """What only HTML can hold.

    Attributes
    ----------
    map : Map2d or None
        Of the embedding.
    thumbnails : mapping
        Data URIs by the text that names the image.
    of_rows : mapping
        Data URIs by row.
    """

    map: Map2d | None = None
    thumbnails: Mapping[str, str] = field(default_factory=dict)
    of_rows: Mapping[int, str] = field(default_factory=dict)


NO_PICTURES = Pictures()


def to_html(report: dict[str, Any], pictures: Pictures = NO_PICTURES) -> str:
    """Return the report as an HTML document; text from the data is escaped and cut."""
    rows = report["rows"]
    title = f"d2 report: {rows['kept']:,} of {rows['total']:,} rows"
    body = [
        _headline(report),
        section("Beside random", _beside_random(report)),
        section("Beside the previous selection", _beside_previous(report)),
        section("Difficulty", difficulty_section(report)),
        section("Picks", picks_section(report)),
        section("Map of the embedding", map_section(pictures.map)),
        section("Groups", _groups(report["groups"])),
        *(
            section(heading, _examples(report["examples"][kind], what, pictures))
            for kind, (heading, what) in EXAMPLES.items()
        ),
        section("Edge weights", weights_section(report["weights"])),
        section("Parameters and provenance", _provenance(report)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{safe(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{''.join(body)}</main>\n</body>\n{HTML_END}"
    )


# --- what stands first ----------------------------------------------------------------------------


def _headline(report: dict[str, Any]) -> str:
    rows, ours, theirs = report["rows"], report["coverage"], report["random"]["coverage"]
    harder, other = report["difficulty"]["kept"], report["random"]["difficulty"]
    name = report["difficulty"]["name"]
    direction = {**report["difficulty"], "name": name and shorten(name)}
    facts = [
        f"difficulty: {user_text(direction_text({'difficulty': direction}), LONGEST_SENTENCE)}",
        f"pool: {rows['pool']:,} rows; included {rows['included']:,}, "
        f"excluded {rows['excluded']:,}",
        f"graph: {safe(shorten(of_modalities(report), LONGEST_SENTENCE))}"
        f"{safe(report['graph']['backend'])}, {safe(recall_text(report))}",
    ]
    if rows["cut_reason"]:
        facts.append(f"prune-hardest: {user_text(rows['cut_reason'], LONGEST_SENTENCE)}")
    tiles = [
        (f"{rows['kept']:,}", "rows kept", f"of {rows['total']:,}"),
        (f"{rows['rate']:.2f}", "pruning rate", f"{rows['dropped']:,} rows dropped"),
        _tile("mean difficulty kept", harder["mean"], other.get("mean"), number),
        *(
            _tile(what, ours[key], theirs[key], percent)
            for key, what in (
                ("dropped_covered", "of dropped rows have a kept neighbor"),
                ("kept_touching", "of kept rows have a kept neighbor"),
            )
        ),
    ]
    parts = [
        f"<h1>Kept {rows['kept']:,} of {rows['total']:,} rows</h1>\n",
        '<ul class="tiles">',
        *(
            f"<li><strong>{value}</strong> {what} <small>{beside}</small></li>"
            for value, what, beside in tiles
        ),
        "</ul>\n",
        *(
            f'<p class="warning"><strong>Warning:</strong> {user_text(text, LONGEST_SENTENCE)}</p>'
            for text in report["warnings"]
        ),
        '<ul class="facts">',
        *(f"<li>{fact}</li>" for fact in facts),
        "</ul>\n",
    ]
    return f"<header>\n{''.join(parts)}</header>\n"


def _tile(what: str, ours: float | None, theirs: float | None, show: Any) -> tuple[str, str, str]:  # noqa: ANN401
    return show(ours), what, f"random {show(theirs)}"


def _beside_random(report: dict[str, Any]) -> str:
    method = safe(method_of(report))
    rows = []
    for what, ours, theirs in beside_random(report):
        kind = ' class="in"' if what.startswith(" ") else ""
        rows.append((f"<span{kind}>{what.strip()}</span>", ours, theirs, pair(ours, theirs)))
    return (
        f"<p>{random_text(report)} Coverage is the share of dropped rows with a kept neighbor; "
        "kept rows with a kept neighbor are redundancy.</p>\n"
        + table(
            "The selection and random ones",
            (
                "figure",
                f"{method} {KEPT_MARK}",
                f"random {OTHER_MARK}",
                '<span class="wide">0 % to 100 %</span>',
            ),
            rows,
            text=(0, 3),
        )
    )


def _beside_previous(report: dict[str, Any]) -> str:
    if report.get("previous") is None:
        return ""
    rows = [
        (f'<span class="in">{what.strip()}</span>' if what.startswith(" ") else what, ours, other)
        for what, ours, other in beside_previous(report)
    ]
    lines = "".join(f"<li>{safe(line)}</li>" for line in previous_lines(report))
    return f'<ul class="facts">{lines}</ul>\n' + table(
        "The selection and the full re-selection",
        ("figure", safe(method_of(report)), "re-selected"),
        rows,
        text=(0,),
    )


# --- groups and rows ------------------------------------------------------------------------------


def _groups(groups: list[dict[str, Any]]) -> str:
    if not groups:
        return ""
    shown = groups
    if len(groups) > MOST_GROUPS:
        shown = sorted(groups, key=lambda group: -group["rows"])[:MOST_GROUPS]
    most = max(max(group["share"], group["kept_share"]) for group in shown) or 1.0
    rows = [
        (
            user_text(group["name"], 60),
            _two_bars(group["share"] / most, group["kept_share"] / most),
            f"{group['rows']:,}",
            percent(group["share"]),
            f"{group['kept']:,}",
            percent(group["kept_share"]),
        )
        for group in shown
    ]
    empty = sum(not group["kept"] for group in groups)
    more = ""
    if len(shown) < len(groups):
        more = f" The {len(shown)} largest are shown, {len(groups) - len(shown):,} more are not."
    lost = f" {empty:,} of them have no row left." if empty else ""
    header = ("group", "before and after", "rows", "share", "kept", "share of kept")
    noun = "group" if len(groups) == 1 else "groups"
    return (
        f"<p>{len(groups):,} {noun}.{lost}{more} Upper bars are shares of all rows, lower bars "
        "of kept rows.</p>\n" + table("Groups before and after", header, rows, text=(0, 1))
    )


def _two_bars(before: float, after: float) -> str:
    return (
        '<svg viewBox="0 0 150 16" aria-hidden="true">'
        f'<rect class="all" x="0" y="1" width="{150 * before:.1f}" height="6"/>'
        f'<rect class="kept" x="0" y="9" width="{150 * after:.1f}" height="6"/></svg>'
    )


def _examples(rows: list[dict[str, Any]], what: str, pictures: Pictures) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows:
        near = row["nearest_kept"]
        lines.append(
            (
                _named(row, pictures),
                number(row["difficulty"]),
                f'<span class="wide">{fate_of(row)}</span>',
                "" if near is None else _named(near, pictures),
                "-" if near is None else number(near["distance"]),
            )
        )
    header = ("row", "difficulty", "outcome", "nearest kept neighbor", "distance")
    return table(what, header, lines, text=(0, 2, 3))


def _named(row: dict[str, Any], pictures: Pictures) -> str:
    name, text = user_text(name_of(row), 60), row.get("text")
    if text is None:
        return name
    image = pictures.of_rows.get(row["row"], pictures.thumbnails.get(text))
    if image is not None:
        return f'<img src="{image}" alt="{safe(shorten(text, LONGEST_TEXT))}"><br>{name}'
    return f'<span class="text">{user_text(text, LONGEST_TEXT)}</span> <small>{name}</small>'


# --- provenance ----------------------------------------------------------------------------------


def _provenance(report: dict[str, Any]) -> str:
    inputs = {
        f"{stage} from {name}": digest
        for stage, of in report["inputs"].items()
        for name, digest in of.items()
    }
    facts = {"key": report["key"], "digest": report["digest"], **inputs}
    rows = [(safe(shorten(str(name))), f"<code>{safe(shorten(str(value), 80))}</code>")
            for name, value in facts.items()]  # fmt: skip
    rows += [(safe(name), safe(str(version))) for name, version in report["versions"].items()]
    rows += [
        (
            f"stage {safe(stage['stage'])}",
            f"{safe(stage['status'])}, {stage['seconds']:.2f} s, peak memory "
            f"{stage['peak_memory_bytes'] / 2**20:,.0f} MiB",
        )
        for stage in report["stages"]
    ]
    parameters = json.dumps(shortened(report["parameters"]), indent=1, ensure_ascii=False)
    lines = "\n".join(safe(line) for line in parameters.split("\n"))
    return (
        f"<details>\n<summary>All parameters</summary>\n<pre>{lines}</pre>\n</details>\n"
        + table("Where the selection comes from", ("what", "value"), rows, text=(0, 1))
        + _step_table(report["stages"])
    )


def _step_table(stages: list[dict[str, Any]]) -> str:
    rows = [tuple(map(safe, row)) for row in step_rows(stages)]
    if not rows:
        return ""
    about = "; ".join(engine_text(stage) for stage in stages if "steps" in stage)
    return table(f"Stages in parts ({safe(about)})", HEADER, rows, text=(0, 1))
