"""The report as Markdown, under 64 KB whatever the data are called."""

import json
from collections.abc import Iterable
from typing import Any

from d2cli.render.engines import HEADER, engine_text, step_rows
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
    printable,
    random_text,
    recall_text,
    shorten,
    shortened,
)

MOST_GROUPS = 200
GROUP_BYTES, EXAMPLE_BYTES = 16_000, 6_000  # of the table of groups, and of each kind of rows
LONGEST_SENTENCE, LONGEST_TEXT = 300, 80
MARKDOWN_END = "```\n"


def to_markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown; text from the data is escaped and cut."""
    rows = report["rows"]
    lines = [
        "# d2 report",
        "",
        f"**Kept {rows['kept']:,} of {rows['total']:,} rows (pruning rate {rows['rate']:.2f}).**",
        "",
        f"- difficulty: {_sentence(_short_direction(report))}",
        f"- pool: {rows['pool']:,} rows; included {rows['included']:,}, "
        f"excluded {rows['excluded']:,}",
        *([f"- prune-hardest: {_sentence(rows['cut_reason'])}"] if rows["cut_reason"] else []),
        f"- picks with a negative score: {percent(report['picks']['negative_share'])}",
        f"- graph: {_sentence(of_modalities(report))}{report['graph']['backend']}, "
        f"{recall_text(report)}",
        *(f"- **warning:** {_sentence(text)}" for text in report["warnings"]),
        "",
        "## Beside random",
        "",
        random_text(report),
        "",
        f"| | {method_of(report)} | random |",
        "|---|--:|--:|",
        *(
            f"| {what.strip()} | {ours} | {theirs} |"
            for what, ours, theirs in beside_random(report)
        ),
        "",
        *_previous_table(report),
        "## Difficulty",
        "",
        *_quantile_table(report["difficulty"]),
        "",
        *_histogram_table(report["difficulty"]["histogram"]),
        "",
        *_group_table(report["groups"]),
        *_example_tables(report),
        "## Edge weights",
        "",
        *_weight_table(report["weights"]),
        "",
        "## Provenance",
        "",
        f"- key: `{report['key']}`",
        f"- digest: `{report['digest']}`",
        *(f"- {name} {version}" for name, version in report["versions"].items()),
        *(
            f"- stage {stage['stage']}: {stage['status']}, {stage['seconds']:.2f} s, peak memory "
            f"{stage['peak_memory_bytes'] / 2**20:,.0f} MiB"
            for stage in report["stages"]
        ),
        "",
        *_step_table(report["stages"]),
        "```json",
        # Nothing in a block of code is markup, but not every reader knows its end.
        json.dumps(shortened(report["parameters"]), indent=1).replace("<", "\\u003c"),
        MARKDOWN_END,
    ]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return text that Markdown and HTML show as it is, without links or formulas."""
    safe = printable(text)
    for character in "\\`*_[]|#~$":
        safe = safe.replace(character, f"\\{character}")
    safe = safe.replace("://", ":\\/\\/").replace("www.", "www\\.")
    return safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _sentence(text: str) -> str:
    return escape(shorten(text, LONGEST_SENTENCE))


def _short_direction(report: dict[str, Any]) -> str:
    """Return the direction with a name cut so that the formula after it is still read."""
    name = report["difficulty"]["name"]
    cut = {**report["difficulty"], "name": name and shorten(name)}
    return direction_text({"difficulty": cut})


def _previous_table(report: dict[str, Any]) -> list[str]:
    if report.get("previous") is None:
        return []
    return [
        "## Beside the previous selection",
        "",
        *(f"- {line}" for line in previous_lines(report)),
        "",
        f"| | {method_of(report)} | re-selected |",
        "|---|--:|--:|",
        *(
            f"| {what.strip()} | {ours} | {other} |"
            for what, ours, other in beside_previous(report)
        ),
        "",
    ]


def _step_table(stages: list[dict[str, Any]]) -> list[str]:
    rows = step_rows(stages)
    if not rows:
        return []
    return [
        *(f"- {engine_text(stage)}" for stage in stages if "steps" in stage),
        "",
        f"| {' | '.join(HEADER)} |",
        "|---|---" + "|--:" * (len(HEADER) - 2) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _quantile_table(difficulty: dict[str, Any]) -> list[str]:
    names = list(difficulty["all"])
    lines = ["| rows | " + " | ".join(names) + " |", "|---" + "|--:" * len(names) + "|"]
    for which in ("all", "kept", "dropped"):
        if difficulty[which] is not None:
            values = " | ".join(number(difficulty[which][name]) for name in names)
            lines.append(f"| {which} | {values} |")
    return lines


def _histogram_table(histogram: dict[str, list[float]]) -> list[str]:
    edges = histogram["edges"]
    most = max(histogram["all"])
    lines = ["| difficulty | all | kept | dropped | kept of all |", "|---|--:|--:|--:|---|"]
    for i, total in enumerate(histogram["all"]):
        kept = histogram["kept"][i]
        bar = "█" * round(20 * kept / most) + "░" * round(20 * (total - kept) / most)
        lines.append(
            f"| {number(edges[i])} to {number(edges[i + 1])} | {total:,} | {kept:,} "
            f"| {histogram['dropped'][i]:,} | {bar} |"
        )
    return lines


def _group_table(groups: list[dict[str, Any]]) -> list[str]:
    if not groups:
        return []
    lines = [
        "## Groups",
        "",
        "| group | rows | share | kept | share of kept |",
        "|---|--:|--:|--:|--:|",
    ]
    rows = (
        f"| {escape(shorten(group['name']))} | {group['rows']:,} | {percent(group['share'])} "
        f"| {group['kept']:,} | {percent(group['kept_share'])} |"
        for group in groups[:MOST_GROUPS]
    )
    return [*lines, *_fitting(rows, len(groups), GROUP_BYTES), ""]


def _fitting(rows: Iterable[str], total: int, room: int) -> list[str]:
    """Return rows of a table of five columns until so many bytes; say how many are missing."""
    shown: list[str] = []
    for row in rows:
        room -= len(row.encode()) + 1
        if room < 0:
            break
        shown.append(row)
    missing = total - len(shown)
    return [*shown, f"| and {missing:,} more | | | | |"] if missing else shown


def _example_tables(report: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for kind, (title, what) in EXAMPLES.items():
        rows = report["examples"][kind]
        if not rows:
            continue
        lines += [f"## {title}", "", what, ""]
        lines += ["| row | difficulty | | nearest kept | distance |", "|---|--:|---|---|--:|"]
        lines += [*_fitting(map(_example, rows), len(rows), EXAMPLE_BYTES), ""]
    return lines


def _example(row: dict[str, Any]) -> str:
    near = row["nearest_kept"]
    beside = "- | -" if near is None else f"{_named(near)} | {number(near['distance'])}"
    return f"| {_named(row)} | {number(row['difficulty'])} | {fate_of(row)} | {beside} |"


def _named(row: dict[str, Any]) -> str:
    name = escape(shorten(name_of(row)))
    text = row.get("text")
    return name if text is None else f"{name}: {escape(shorten(text, LONGEST_TEXT))}"


def _weight_table(weights: dict[str, Any]) -> list[str]:
    lines = [
        f"Bandwidth {number(weights['bandwidth'])}.",
        "",
        "| messages | gamma | least | median | largest | below 0.01 | above 0.99 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for way in ("forward", "reverse"):
        of = weights[way]
        q = of["quantiles"] or {}
        lines.append(
            f"| {way} | {number(of['gamma'])} | {number(q.get('q0'))} | {number(q.get('q50'))} "
            f"| {number(q.get('q100'))} | {percent(of['near_0'])} | {percent(of['near_1'])} |"
        )
    return lines
