"""The report as a JSON or Markdown file."""

import json
from pathlib import Path
from typing import Any

from d2cli.files.artifacts import Artifact
from d2cli.files.paths import is_file
from d2cli.stages.report import REPORT_VERSION

MOST_GROUPS_IN_MARKDOWN = 200
MARKDOWN_END = "```\n"


def report_of(
    figures: dict[str, Any],
    graph: Artifact,
    scores: Artifact,
    selection: Artifact,
    stages: list[dict[str, Any]],
) -> dict[str, Any]:
    """Join the figures with where they come from."""
    made, picked = scores.meta["parameters"], selection.meta["parameters"]
    return {
        "kind": "d2 report",
        "schema_version": REPORT_VERSION,
        "key": selection.key,
        **figures,
        "difficulty": {"name": made["difficulty"], **figures["difficulty"]},
        "parameters": {
            "graph": graph.meta["parameters"],
            "score": {**made, "gamma_forward_used": scores.meta["results"]["gamma_forward"]},
            "select": {**picked, "gamma_reverse_used": selection.meta["results"]["gamma_reverse"]},
        },
        "inputs": {
            "graph": graph.meta["inputs"],
            "scores": scores.meta["inputs"],
            "selection": selection.meta["inputs"],
        },
        "digest": selection.digest,
        "versions": selection.meta["versions"],
        "stages": stages,
    }


def is_current(path: Path, key: str) -> bool:
    """Return whether a report file is whole and belongs to the selection with this key."""
    if not is_file(path):
        return False
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            return bool(json.loads(text)["key"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return key in text and text.endswith(MARKDOWN_END)


def render(report: dict[str, Any], suffix: str) -> bytes:
    """Return the report as JSON (``.json``) or Markdown (``.md``)."""
    if suffix == ".md":
        return to_markdown(report).encode()
    return (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def beside_random(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures that a selection and random ones share: what, selection, random."""
    ours, theirs = report["coverage"], report["random"]["coverage"]
    harder, other = report["difficulty"]["kept"], report["random"]["difficulty"]
    rows = [("difficulty of kept rows, mean", _number(harder["mean"]), _number(other.get("mean")))]
    for name, what, show in (
        ("dropped_covered", "dropped rows with a kept neighbor", _percent),
        ("dropped_distance", "  mean distance to the nearest one", _number),
        ("kept_touching", "kept rows with a kept neighbor", _percent),
        ("kept_distance", "  mean distance to the nearest one", _number),
    ):
        rows.append((what, show(ours[name]), show(theirs[name])))
    return rows


def method_of(report: dict[str, Any]) -> str:
    """Return the method that picked; the random one is told from the baseline by "drawn"."""
    method = str(report["parameters"]["select"]["method"])
    return "drawn" if method == "random" else method


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def recall_text(report: dict[str, Any]) -> str:
    """Return the recall and how it is known."""
    graph = report["graph"]
    recall, k = graph["recall"], graph["neighbors"]
    if not recall["sample_size"]:
        return f"recall@{k} 1 (exact search)"
    below = (
        "" if recall["value"] >= recall["target"] else f", below the target {recall['target']:g}"
    )
    return f"recall@{k} {recall['value']:.3f} (measured on {recall['sample_size']:,} rows{below})"


def direction_text(report: dict[str, Any]) -> str:
    """Return the name, direction and shift of the difficulty."""
    difficulty = report["difficulty"]
    if difficulty["direction"] == "uniform":
        return "uniform (every row 1)"
    sign = "" if difficulty["direction"] == "high" else "-"
    name = difficulty["name"] or "the given values"
    shift = difficulty["shift"]
    formula = f"{sign}{name}" + (f" {'+' if shift > 0 else '-'} {abs(shift):.6g}" if shift else "")
    return f"{name}, harder when {difficulty['direction']} (difficulty = {formula})"


def to_markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown; text from the data is escaped."""
    rows = report["rows"]
    lines = [
        "# d2 report",
        "",
        f"**Kept {rows['kept']:,} of {rows['total']:,} rows (pruning rate {rows['rate']:.2f}).**",
        "",
        f"- difficulty: {escape(direction_text(report))}",
        f"- pool: {rows['pool']:,} rows; included {rows['included']:,}, "
        f"excluded {rows['excluded']:,}",
        *([f"- prune-hardest: {escape(rows['cut_reason'])}"] if rows["cut_reason"] else []),
        f"- picks with a negative score: {_percent(report['picks']['negative_share'])}",
        f"- graph: {report['graph']['backend']}, {recall_text(report)}",
        *(f"- **warning:** {escape(text)}" for text in report["warnings"]),
        "",
        "## Beside random",
        "",
        f"Random: mean of {report['random']['selections']} selections of the same size and groups, "
        f"from seed {report['random']['seed']}.",
        "",
        f"| | {method_of(report)} | random |",
        "|---|--:|--:|",
        *(
            f"| {what.strip()} | {ours} | {theirs} |"
            for what, ours, theirs in beside_random(report)
        ),
        "",
        "## Difficulty",
        "",
        *_quantile_table(report["difficulty"]),
        "",
        *_histogram_table(report["difficulty"]["histogram"]),
        "",
        *_group_table(report["groups"]),
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
        "```json",
        json.dumps(report["parameters"], indent=1, ensure_ascii=True),
        MARKDOWN_END,
    ]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return text that Markdown and HTML show as it is."""
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    for character in "\\`*_[]|#~":
        safe = safe.replace(character, f"\\{character}")
    return safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quantile_table(difficulty: dict[str, Any]) -> list[str]:
    names = list(difficulty["all"])
    lines = ["| rows | " + " | ".join(names) + " |", "|---" + "|--:" * len(names) + "|"]
    for which in ("all", "kept", "dropped"):
        if difficulty[which] is not None:
            values = " | ".join(_number(difficulty[which][name]) for name in names)
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
            f"| {_number(edges[i])} to {_number(edges[i + 1])} | {total:,} | {kept:,} "
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
    lines.extend(
        f"| {escape(group['name'])} | {group['rows']:,} | {_percent(group['share'])} "
        f"| {group['kept']:,} | {_percent(group['kept_share'])} |"
        for group in groups[:MOST_GROUPS_IN_MARKDOWN]
    )
    if len(groups) > MOST_GROUPS_IN_MARKDOWN:
        lines.append(f"| and {len(groups) - MOST_GROUPS_IN_MARKDOWN:,} more | | | | |")
    return [*lines, ""]


def _weight_table(weights: dict[str, Any]) -> list[str]:
    lines = [
        f"Bandwidth {_number(weights['bandwidth'])}.",
        "",
        "| messages | gamma | least | median | largest | below 0.01 | above 0.99 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for way in ("forward", "reverse"):
        of = weights[way]
        q = of["quantiles"] or {}
        lines.append(
            f"| {way} | {_number(of['gamma'])} | {_number(q.get('q0'))} | {_number(q.get('q50'))} "
            f"| {_number(q.get('q100'))} | {_percent(of['near_0'])} | {_percent(of['near_1'])} |"
        )
    return lines
