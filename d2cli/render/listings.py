"""What `d2 cache` prints."""

from typing import Any

from d2cli.quantities import age_text, size_text
from d2cli.render.wording import printable


def entry_lines(found: dict[str, Any]) -> list[str]:
    """Return entries as a table, cells and what was left behind in one line each, and the total."""
    table = [["kind", "rows", "size", "unused for", "key", ""]]
    for entry in found["entries"]:
        if entry["kind"] not in ("cell", "leftover"):
            rows = "-" if entry["rows"] is None else f"{entry['rows']:,}"
            table.append(
                [
                    entry["kind"],
                    rows,
                    size_text(entry["size_bytes"]),
                    age_text(entry["unused_seconds"]),
                    entry["key"][:12],
                    entry["what"] or "",
                ]
            )
    for kind in ("cell", "leftover"):
        some = [entry for entry in found["entries"] if entry["kind"] == kind]
        if some:
            size = size_text(sum(entry["size_bytes"] for entry in some))
            age = age_text(min(entry["unused_seconds"] for entry in some))
            table.append([kind, "", size, age, "", f"{len(some):,} files"])
    widths = [max(len(cells[c]) for cells in table) for c in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if c in (1, 2, 3) else cell.ljust(width)
            for c, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]
    return [*(lines if len(table) > 1 else []), f"{_count(found['total'])} in {_folder(found)}"]


def verify_lines(found: dict[str, Any]) -> list[str]:
    """Return what is damaged, a line each, and how much was looked at."""
    messages = [entry["damage"] for entry in found["entries"] if entry["damage"] is not None]
    verdict = f"{len(messages):,} cannot be used" if messages else "all whole"
    return [
        *(printable(message) for message in messages),
        f"{_count(found['total'])} in {_folder(found)}: {verdict}",
    ]


def clear_lines(found: dict[str, Any]) -> list[str]:
    """Return what was removed and what is left; of a dry run every file that would go."""
    left = found["left"]
    busy = f", {left['in_use']:,} of them in use" if left["in_use"] else ""
    did = "would remove" if found["dry_run"] else "removed"
    lines = [f"{did} {_count(found['removed'])}; {_count(left)} left in {_folder(found)}{busy}"]
    if not found["dry_run"]:
        return lines
    going = [entry for entry in found["entries"] if entry["outcome"] == "would be removed"]
    return [
        *(
            f"{entry['file']}  {size_text(entry['size_bytes'])}, "
            f"unused for {age_text(entry['unused_seconds'])}"
            for entry in going
        ),
        *lines,
    ]


def _count(total: dict[str, int]) -> str:
    entries = "1 entry" if total["entries"] == 1 else f"{total['entries']:,} entries"
    return f"{entries}, {size_text(total['size_bytes'])}"


def _folder(found: dict[str, Any]) -> str:
    return printable(found["folder"])
