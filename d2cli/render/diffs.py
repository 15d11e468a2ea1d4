"""The difference of two selections as text, Markdown and JSON."""

import json
from typing import Any

from d2cli.render.markdown import escape
from d2cli.render.wording import number, percent, plain, printable, shorten

DIFF_SUFFIXES = (".md", ".json")
MOST_GROUPS, MOST_GROUPS_MARKDOWN = 30, 200
LONGEST_NAME, LONGEST_VALUE = 40, 60
QUANTILES = ("mean", "q5", "q25", "q50", "q75", "q95")


def render_diff(found: dict[str, Any], suffix: str) -> bytes:
    """Return a difference as ``.json`` or ``.md``."""
    if suffix == ".json":
        return (json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    return "\n".join([*_markdown(found), ""]).encode("utf-8", "replace")


def _cut(value: object, most: int = LONGEST_NAME) -> str:
    return shorten(printable(str(value)), most)


def _made(side: dict[str, Any]) -> str:
    of = "" if side["rows"] is None else f" of {side['rows']:,}"
    return f"{side['kept']:,}{of} rows"


def overlap_sentence(found: dict[str, Any]) -> str:
    """Return how much of A is in B in one sentence."""
    o = found["overlap"]
    return (
        f"{o['both']:,} rows in both, {o['only_a']:,} only in A, {o['only_b']:,} only in B; "
        f"Jaccard {o['jaccard']:.4f}, change {percent(o['change'])}"
    )


def tau_sentence(found: dict[str, Any]) -> str:
    """Return how alike the orders are."""
    tau = found["kendall_tau"]
    what = "Kendall's tau-b of the ranks of common rows"
    return f"{what}: not known" if tau is None else f"{what}: {tau:.4f}"


def diff_lines(found: dict[str, Any]) -> list[str]:
    """Return a difference as lines of plain text."""
    lines = [
        f"{side.upper()}: {_cut(found[side]['name'], 80)}, {_made(found[side])}" for side in "ab"
    ]
    lines += [f"matched by {found['matched_by']}: {overlap_sentence(found)}", tau_sentence(found)]
    if found["difficulty"]:
        lines += ["", *_aligned(_difficulty_table(found["difficulty"]))]
        lines += [f"  {text}" for text in _difficulty_notes(found["difficulty"])]
    if found["groups"]:
        lines += ["", *_aligned(_group_table(found["groups"], MOST_GROUPS))]
    for which in ("lost", "gained"):
        names = found["examples"][which]
        if names:
            lines += ["", f"{which} first:", *(f"  {_cut(name, 80)}" for name in names)]
    if changes := list(_changes(found["changes"])):
        lines += ["", "made otherwise:", *(f"  {text}" for text in changes)]
    lines += [f"gate {_gate_text(gate)}" for gate in found["gates"]]
    return lines


def _difficulty_table(difficulty: dict[str, Any]) -> list[list[str]]:
    table = [["difficulty", *QUANTILES]]
    for name, title in (("a", "A"), ("b", "B"), ("lost", "lost"), ("gained", "gained")):
        if difficulty[name] is not None:
            table.append([title, *(number(difficulty[name][q]) for q in QUANTILES)])
    return table


def _difficulty_notes(difficulty: dict[str, Any]) -> list[str]:
    if not difficulty["differs"]:
        return []
    return [
        f"{difficulty['differs']:,} common rows have another difficulty in B than in A: "
        "the values do not compare"
    ]


def _group_table(groups: list[dict[str, Any]], most: int) -> list[list[str]]:
    """Return the groups that lost most, as a share and then in rows, first."""
    table = [["group", "A", "B", "lost", "gained", "smaller by"]]
    worst_first = sorted(groups, key=lambda g: (-g["loss"], -g["lost"], -g["gained"]))
    for group in worst_first[:most]:
        counts = [f"{group[name]:,}" for name in ("a", "b", "lost", "gained")]
        table.append([_cut(group["name"]), *counts, percent(group["loss"])])
    if len(groups) > most:
        table.append([f"and {len(groups) - most:,} more", *[""] * 5])
    return table


def _changes(changes: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [
        f"{c['stage']}: {_cut(c['name']).replace('_', '-')} {_value(c['a'])} -> {_value(c['b'])}"
        for c in changes["parameters"]
    ]
    lines += [f"{c['stage']}: {_cut(c['name'])} {c['how']}" for c in changes["inputs"]]
    lines += [f"{_cut(c['name'])} {_cut(c['a'])} -> {_cut(c['b'])}" for c in changes["versions"]]
    return lines


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return _cut(plain(value), LONGEST_VALUE)
    return f"{value:g}" if isinstance(value, float) else _cut(value, LONGEST_VALUE)


def _gate_text(gate: dict[str, Any]) -> str:
    verdict = "passed" if gate["passed"] else "FAILED"
    return f"--{gate['gate']} {gate['limit']:g}: {verdict}, {gate['value']:.4g}"


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(len(cells[c]) for cells in table) for c in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if c == 0 else cell.rjust(width)
            for c, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]


def _markdown(found: dict[str, Any]) -> list[str]:
    lines = ["# d2 diff", ""]
    for side in "ab":
        name = escape(_cut(found[side]["name"], 120))
        lines += [f"- **{side.upper()}** {name}: {_made(found[side])}"]
    lines += [f"- matched by {found['matched_by']}: {overlap_sentence(found)}"]
    lines += [f"- {tau_sentence(found)}"]
    lines += [f"- gate `--{g['gate']}`: {_gate_text(g).partition(': ')[2]}" for g in found["gates"]]
    lines.append("")
    if found["difficulty"]:
        lines += ["## Difficulty", "", *_table(_difficulty_table(found["difficulty"]))]
        lines += [f"{text}.\n" for text in _difficulty_notes(found["difficulty"])]
    if found["groups"]:
        table = _group_table(found["groups"], MOST_GROUPS_MARKDOWN)
        lines += ["## Groups", "", *_table(table)]
    for which in ("lost", "gained"):
        if names := found["examples"][which]:
            lines += [f"## {which.capitalize()} first", ""]
            lines += [*(f"- {escape(_cut(name, 80))}" for name in names), ""]
    if changes := _changes(found["changes"]):
        lines += ["## Made otherwise", "", *(f"- {escape(text)}" for text in changes), ""]
    return lines[:-1]


def _table(table: list[list[str]]) -> list[str]:
    rows = ["| " + " | ".join(escape(cell) for cell in cells) + " |" for cells in table]
    return [rows[0], "|---" + "|--:" * (len(table[0]) - 1) + "|", *rows[1:], ""]
