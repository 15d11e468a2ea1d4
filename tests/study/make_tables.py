"""Print the tables of the study from the JSON files of ``run.sh``: make_tables.py FILE ..."""

import json
import sys
from pathlib import Path


def table(found):
    """Return a Markdown table: a line a method, a column a rate, marks by the paired interval."""
    rates = list(dict.fromkeys(row["rate"] for row in found["rows"]))
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    cells = {}
    for row in found["rows"]:
        accuracy = row["accuracy"]["linear"]
        mark = {"better": "+", "worse": "\N{MINUS SIGN}"}.get(row.get("verdict", ""), "")
        cells[row["method"], row["rate"]] = f"{100 * accuracy['mean']:.1f}{mark}"
    lines = [
        "| pruning rate | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "|---|" + "--:|" * len(rates),
    ]
    lines += [
        f"| {method} | " + " | ".join(cells[method, rate] for rate in rates) + " |"
        for method in methods
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"### {Path(name).stem}\n")
        print(table(json.loads(Path(name).read_bytes())), end="\n\n")
