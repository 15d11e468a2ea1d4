"""What reports say in every format: numbers, short sentences, and text from the data cut to fit."""

from typing import Any

LONGEST_NAME = 60  # characters of a name from the data
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # of some scripts and of emoji


def number(value: float | None) -> str:
    """Return four digits of a number; "-" for none."""
    return "-" if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Return a share as a percentage; "-" for none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def printable(text: str) -> str:
    """Return text on one line: white space as blanks, other control characters replaced.

    Marks that change the direction of what follows are control characters as well.
    """
    return "".join(
        c
        if c.isprintable() or c in JOINERS
        else " "
        if c.isspace()
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def shorten(text: str, most: int = LONGEST_NAME) -> str:
    """Cut text to a number of characters, the last of which then is an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def shortened(value: Any) -> Any:  # noqa: ANN401
    """Return plain JSON with every text in it cut."""
    if isinstance(value, dict):
        return {shorten(str(key)): shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner) for inner in value]
    return shorten(value, 2 * LONGEST_NAME) if isinstance(value, str) else value


def beside_random(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures that a selection and random ones share: what, selection, random."""
    ours, theirs = _quality(report), _quality_of(report["random"])
    return [(what, value, other) for (what, value), (_, other) in zip(ours, theirs, strict=True)]


def _quality(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures of a report's selection that others have, too."""
    of = {"coverage": report["coverage"], "difficulty": report["difficulty"]["kept"]}
    return _quality_of(of)


def _quality_of(part: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures of "coverage" and of the difficulty of kept rows."""
    coverage = part["coverage"]
    return [
        ("difficulty of kept rows, mean", number(part["difficulty"].get("mean"))),
        ("dropped rows with a kept neighbor", percent(coverage["dropped_covered"])),
        ("  mean distance to the nearest one", number(coverage["dropped_distance"])),
        ("kept rows with a kept neighbor", percent(coverage["kept_touching"])),
        ("  mean distance to the nearest one", number(coverage["kept_distance"])),
    ]


def reselected(report: dict[str, Any]) -> list[str]:
    """Return the figures of `beside_random` of the full re-selection; none without a limit."""
    previous = report.get("previous")
    if previous is None or previous["max_changes"] is None:
        return []
    return [value for _, value in _quality_of(previous["reselection"])]


def beside_previous(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return counts and figures of a selection and of the full re-selection: what, both values."""
    previous = report["previous"]
    other = previous["reselection"]
    counts = [
        ("previous rows kept", "kept"),
        ("previous rows dropped (changes)", "changes"),
        ("newcomers", "newcomers"),
    ]
    rows = [(what, f"{previous[name]:,}", f"{other[name]:,}") for what, name in counts]
    quality = zip(_quality(report), _quality_of(other), strict=True)
    return [*rows, *((what, value, of_other) for (what, value), (_, of_other) in quality)]


def previous_lines(report: dict[str, Any]) -> list[str]:
    """Return a sentence on the previous selection and one on the full re-selection.

    None without a previous selection, the first alone without a limit on changes.
    """
    previous = report.get("previous")
    if previous is None:
        return []
    most, other = previous["max_changes"], previous["reselection"]
    allowed = "" if most is None else f" (at most {most:,})"
    gone = f"; {previous['gone']:,} gone" if previous["gone"] else ""
    lines = [
        f"previous: {_of_previous(previous, previous)}{allowed}, {previous['newcomers']:,} "
        f"newcomers{gone}"
    ]
    if most is not None:
        lines.append(
            f"full re-selection: {_of_previous(previous, other)}, {other['newcomers']:,} "
            f"newcomers; {other['common']:,} rows in common"
        )
    return lines


def _of_previous(previous: dict[str, Any], counts: dict[str, Any]) -> str:
    changes = "1 change" if counts["changes"] == 1 else f"{counts['changes']:,} changes"
    return f"{counts['kept']:,} of {previous['rows']:,} rows kept, {changes}"


def method_of(report: dict[str, Any]) -> str:
    """Return the method that picked; the random one is told from the baseline by "drawn"."""
    method = str(report["parameters"]["select"]["method"])
    return "drawn" if method == "random" else method


def neighbors_text(parameters: dict[str, Any]) -> str:
    """Return how the neighbours of a graph were found, as its parameters say."""
    k, metric = parameters["n_neighbors"], parameters["metric"]
    if "fusion" not in parameters:
        return f"{k} neighbors by {metric}"
    return f"{k} neighbors by {modalities_text(parameters)} ({metric})"


def modalities_text(parameters: dict[str, Any]) -> str:
    """Return the fusion of a graph of several modalities, and their shares."""
    return f"{parameters['fusion']} of {plain(parameters['weights'])}"


def plain(value: object) -> str:
    """Return a value of a parameter: shares as "image 0.6667, text 0.3333"."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{printable(str(name))} {plain(inner)}" for name, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def of_modalities(report: dict[str, Any]) -> str:
    """Return the modalities of a report's graph with a comma; nothing if there is one only."""
    made = report["parameters"]["graph"]
    return f"{modalities_text(made)}, " if "fusion" in made else ""


def recall_text(report: dict[str, Any]) -> str:
    """Return the recall, how it is known, and what vectors were whitened by if they were."""
    graph = report["graph"]
    recall, k = graph["recall"], graph["neighbors"]
    if (whitening := graph.get("whitening")) is not None:
        fitted = f"{whitening['sample_size']:,} rows, shrinkage {whitening['shrinkage']:.3g}"
        rest = {name: value for name, value in graph.items() if name != "whitening"}
        return f"{recall_text({'graph': rest})}, whitened by the covariance of {fitted}"
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


def random_text(report: dict[str, Any]) -> str:
    """Return what the random figures are."""
    random = report["random"]
    return (
        f"Random: mean of {random['selections']} selections of the same size and groups, "
        f"from seed {random['seed']}."
    )


# The kinds of example rows, in the order of reports: their title, and what they are.
EXAMPLES = {
    "hardest_kept": ("Hardest kept", "The kept rows of highest difficulty."),
    "hardest_dropped": (
        "Hardest dropped",
        "The dropped rows of highest difficulty. Those that --prune-hardest cut off were never "
        "in the pool.",
    ),
    "most_redundant": (
        "Most redundant dropped",
        "The dropped rows nearest to a kept neighbor, which stands for them.",
    ),
}


def name_of(row: dict[str, Any]) -> str:
    """Return the id of an example row, or its number where there are no ids."""
    return f"row {row['row']:,}" if row.get("id") is None else str(row["id"])


def fate_of(row: dict[str, Any]) -> str:
    """Return "rank 3", "dropped" or "cut off" for an example row."""
    if row["rank"] is not None:
        return f"rank {row['rank']:,}"
    return "dropped" if row["in_pool"] else "cut off"
