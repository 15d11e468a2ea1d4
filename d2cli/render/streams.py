"""What a stream's report says, as lines and as Markdown."""

from typing import Any

from d2cli.render.markdown import escape
from d2cli.render.wording import number, percent, shorten

STREAM_SUFFIXES = (".json", ".md")


def stream_lines(report: dict[str, Any]) -> list[str]:
    """Return the summary of a report as lines of plain text."""
    rows, stream, weights = report["rows"], report["stream"], report["weights"]
    lines = [
        f"keeping {rows['kept']:,} of {rows['seen']:,} rows (pruning rate {rows['rate']:.2f})",
        f"  stream: {stream['windows']:,} x {stream['window']:,} rows, at most "
        f"{stream['peak_rows']:,} held; {stream['admitted']:,} admitted, "
        f"{stream['evicted']:,} evicted",
        f"  messages: bandwidth {weights['bandwidth']:.4g}, "
        f"gamma-forward {weights['gamma_forward']:.4g}, "
        f"gamma-reverse {weights['gamma_reverse']:.4g}",
    ]
    if report["gap"] is not None:
        table = [("", "stream", "offline"), *gap_rows(report["gap"])]
        lines += [f"  {what:<36} {ours:>10} {theirs:>10}".rstrip() for what, ours, theirs in table]
    return lines


def gap_rows(gap: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of the comparison with the offline selection, as texts."""
    mean = gap["difficulty_mean"]
    rows = [
        ("kept rows that are kept offline", percent(gap["overlap"]), ""),
        ("difficulty of kept rows, mean", number(mean["stream"]), number(mean["offline"])),
    ]
    if gap["coverage"] is None:
        return rows
    ours, theirs = gap["coverage"]["stream"], gap["coverage"]["offline"]
    for what, name, as_share in (
        ("dropped rows with a kept neighbor", "dropped_covered", True),
        ("  mean distance to the nearest one", "dropped_distance", False),
        ("kept rows with a kept neighbor", "kept_touching", True),
        ("  mean distance to the nearest one", "kept_distance", False),
    ):
        one, two = (percent(o[name]) if as_share else number(o[name]) for o in (ours, theirs))
        rows.append((what, one, two))
    return rows


def stream_markdown(report: dict[str, Any]) -> str:
    """Return a report as Markdown."""
    rows, stream, weights = report["rows"], report["stream"], report["weights"]
    difficulty = report["difficulty"]
    name = difficulty["name"] or "the given values"
    table = [
        ("rows seen", f"{rows['seen']:,}"),
        ("rows kept", f"{rows['kept']:,} (pruning rate {rows['rate']:.4g})"),
        ("included", f"{rows['included']:,}"),
        ("windows", f"{stream['windows']:,} of {stream['window']:,} rows"),
        ("admitted", f"{stream['admitted']:,}"),
        ("evicted", f"{stream['evicted']:,}"),
        ("most rows held", f"{stream['peak_rows']:,}"),
        ("cut from the last candidates", f"{stream['cut']:,}"),
        ("difficulty", f"{shorten(name)}, {difficulty['direction']}"),
        ("difficulty of kept rows, mean", number(difficulty["kept_mean"])),
        ("bandwidth", number(weights["bandwidth"])),
        ("gamma-forward", number(weights["gamma_forward"])),
        ("gamma-reverse", number(weights["gamma_reverse"])),
    ]
    lines = ["# Selection from a stream", "", "| | |", "|---|--:|"]
    lines += [f"| {what} | {escape(value)} |" for what, value in table]
    if report["gap"] is not None:
        lines += ["", "## Beside the offline selection", "", "| | stream | offline |"]
        lines += ["|---|--:|--:|"]
        shown = gap_rows(report["gap"])
        lines += [f"| {what.strip()} | {ours} | {theirs} |" for what, ours, theirs in shown]
    return "\n".join([*lines, ""])
