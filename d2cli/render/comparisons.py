"""A comparison as text, Markdown, JSON and a plot."""

import json
from typing import Any
from xml.sax.saxutils import escape as escape_xml

COMPARISON_SUFFIXES = (".json", ".md", ".svg")
COLORS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")


def render_comparison(found: dict[str, Any], suffix: str) -> bytes:
    """Return a comparison as ``.json``, ``.md`` or ``.svg``."""
    if suffix == ".md":
        return "\n".join([*_markdown(found), ""]).encode()
    if suffix == ".svg":
        return to_svg(found["rows"]).encode()
    return (json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _accuracy(row: dict[str, Any], probe: str) -> str:
    found = row["accuracy"][probe]
    return f"{_percent(found['mean'])} ± {_percent(found['spread'])}"


def _beside_random(row: dict[str, Any], probe: str) -> str:
    found = row["accuracy"][probe]
    if "difference" not in found:
        return ""
    signed = [f"{100 * found[name]:+.1f}" for name in ("difference", "low", "high")]
    return f"{signed[0]} ({signed[1]} to {signed[2]})"


def table_of(found: dict[str, Any]) -> list[list[str]]:
    """Return header and rows of the comparison as text."""
    header = ["rate", "kept", "method", "linear probe", "beside random", "knn", "covered", "lost"]
    out = [header]
    for row in found["rows"]:
        figures = row["figures"]
        covered = figures["covered"]
        out.append(
            [
                f"{row['rate']:g}",
                f"{row['kept']:,}",
                row["method"],
                _accuracy(row, "linear"),
                _beside_random(row, "linear"),
                _accuracy(row, "knn"),
                "-" if covered is None else f"{100 * covered:.0f} %",
                f"{figures['classes_lost']:.0f}",
            ]
        )
    return out


def to_lines(found: dict[str, Any]) -> list[str]:
    """Return the table with aligned columns, and the conclusions."""
    table = table_of(found)
    widths = [max(len(row[c]) for row in table) for c in range(len(table[0]))]
    lines = []
    for number, row in enumerate(table):
        if number > 1 and row[0] != table[number - 1][0]:
            lines.append("")
        lines.append(
            "  ".join(
                cell.ljust(width) if c in (2, 4) else cell.rjust(width)
                for c, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
        )
    return [*lines, "", *found["conclusions"]]


def _markdown(found: dict[str, Any]) -> list[str]:
    table = table_of(found)
    lines = ["# d2 compare", "", *(f"- {sentence}" for sentence in found["conclusions"]), ""]
    lines += [
        f"{found['n_rows']:,} rows, {found['classes']:,} classes, {found['seeds']} seeds; "
        f"tested on: {found['test']}. Accuracy in percent, mean ± standard deviation over seeds; "
        "in brackets the paired 95 % bootstrap interval over test rows. *covered*: dropped rows "
        "with a kept neighbor; *lost*: classes without a kept row.",
        "",
        "| " + " | ".join(table[0]) + " |",
        "|" + "---|" * len(table[0]),
    ]
    return lines + ["| " + " | ".join(row) + " |" for row in table[1:]]


def to_svg(rows: list[dict[str, Any]]) -> str:
    """Return accuracy over the rate: a line a method, random's spread a band."""
    width, height, left, right, top, bottom = 760, 440, 60, 190, 24, 48
    rates = sorted({row["rate"] for row in rows})
    values = [
        row["accuracy"]["linear"]["mean"] + side * row["accuracy"]["linear"]["spread"]
        for row in rows
        for side in (-1, 1)
    ]
    of_random = [row["accuracy"]["linear"]["mean"] for row in rows if row["method"] == "random"]
    high = max(values)
    # Methods far below random leave the picture, lest they flatten all the others.
    low = max(min(values), min(of_random) - 1.5 * (high - min(of_random)))
    margin = max(0.05 * (high - low), 0.002)
    low, high = low - margin, min(high + margin, max(1.0, high))

    def x(rate: float) -> float:
        share = (rate - rates[0]) / (rates[-1] - rates[0]) if len(rates) > 1 else 0.5
        return left + float(share) * (width - left - right)

    def y(value: float) -> float:
        return top + float((high - value) / (high - low)) * (height - top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for step in range(6):
        value = low + step / 5 * (high - low)
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#ddd"/><text x="{left - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{100 * value:.1f}</text>'
        )
    parts += [
        f'<text x="{x(rate):.1f}" y="{height - bottom + 18}" text-anchor="middle">{rate:g}</text>'
        for rate in rates
    ]
    middle = (left + width - right) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 8}" text-anchor="middle">pruning rate</text>'
        f'<text x="14" y="{(top + height - bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(top + height - bottom) / 2})">linear probe, % right</text>'
    )
    inside = f'x="{left}" y="{top}" width="{width - left - right}" height="{height - top - bottom}"'
    parts.append(f'<clipPath id="plot"><rect {inside}/></clipPath>')
    parts += _lines(rows, x, y, width - right + 12, top)
    return "".join(parts) + "</svg>\n"


def _lines(rows: list[dict[str, Any]], x: Any, y: Any, legend: float, top: float) -> list[str]:  # noqa: ANN401
    parts: list[str] = []
    others = 0
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda r: r["rate"])
        places = [(x(row["rate"]), row["accuracy"]["linear"]) for row in mine]
        if method == "random":
            color = "#555"
            upper = [f"{at:.1f},{y(a['mean'] + a['spread']):.1f}" for at, a in places]
            lower = [f"{at:.1f},{y(a['mean'] - a['spread']):.1f}" for at, a in places]
            band = " ".join([*upper, *reversed(lower)])
            parts.append(
                f'<polygon points="{band}" fill="#999" opacity="0.3" clip-path="url(#plot)"/>'
            )
        else:
            color = COLORS[others % len(COLORS)]
            others += 1
        line = " ".join(f"{at:.1f},{y(a['mean']):.1f}" for at, a in places)
        label = top + 14 + 20 * number
        parts.append(
            f'<g clip-path="url(#plot)">'
            f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>'
            + "".join(
                f'<circle cx="{at:.1f}" cy="{y(a["mean"]):.1f}" r="3" fill="{color}"/>'
                for at, a in places
            )
            + f'</g><line x1="{legend}" x2="{legend + 22}" y1="{label}" y2="{label}" '
            f'stroke="{color}" stroke-width="2"/>'
            f'<text x="{legend + 28}" y="{label + 4}">{escape_xml(method)}</text>'
        )
    return parts
