"""What stages in parts took, as a table."""

from typing import Any

from d2cli.quantities import size_text

HEADER = ("stage", "step", "seconds", "tasks", "sent", "received", "kept", "read", "retries")
LINE = "{:<8}{:<17}{:>8}{:>7}{:>8}{:>10}{:>8}{:>8}{:>9}"


def step_rows(stages: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for every step of every stage in parts, and one for such a stage as a whole.

    ``sent`` are arrays handed to tasks, ``received`` their results, both between processes;
    ``kept`` is what was put into the store, and ``read`` what came out of it.
    """
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        steps = stage.get("steps", [])
        whole = {name: sum(step[name] for step in steps) for name in _summed(steps)}
        for step in [*steps, *([{**whole, "step": "in all"}] if steps else [])]:
            seconds = stage["seconds"] if step["step"] == "in all" else step["seconds"]
            rows.append(
                (
                    stage["stage"],
                    step["step"],
                    f"{seconds:.2f}",
                    f"{step['tasks']:,}",
                    size_text(step["bytes_sent"]),
                    size_text(step["bytes_received"]),
                    size_text(step["bytes_kept"]),
                    size_text(step["bytes_read"]),
                    f"{step['retries']:,}",
                )
            )
    return rows


def _summed(steps: list[dict[str, Any]]) -> list[str]:
    return [name for name in (steps[0] if steps else {}) if name != "step"]


def engine_text(stage: dict[str, Any]) -> str:
    """Return how a stage in parts was divided."""
    text = f"{stage['stage']}: {stage['engine']}, {stage['partitions']:,} partitions"
    if "edges_across" in stage:
        text += f", {100 * stage['edges_across']:.1f} % of edges across"
    if "rounds" in stage:
        text += f", {stage['rounds']:,} rounds"
        if stage["rounds_found"]:
            text += f" and {stage['rounds_found']:,} found"
    return text


def step_lines(stages: list[dict[str, Any]]) -> list[str]:
    """Return the table as plain text, with a line on each stage; nothing without such stages."""
    rows = step_rows(stages)
    if not rows:
        return []
    about = [engine_text(stage) for stage in stages if "steps" in stage]
    return [*about, *(f"  {LINE.format(*row)}".rstrip() for row in (HEADER, *rows))]
