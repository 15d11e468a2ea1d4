"""Options that exclude each other: what stands in a higher place overrides what stands lower.

The command line is above ``D2_COMMAND_OPTION``, then ``D2_OPTION``, the file's table of the command
and the file's own keys. Two that stand in one place contradict each other, and are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

COMMAND_LINE = 5  # above all levels of `d2cli.config`

# The sources of `d2 difficulty`, and the options of each.
SOURCES = {
    "dynamics": ("final", "values", "el2n_epochs", "window"),
    "from_graph": (),
    "embedding": ("prototypes", "seed"),
}


def overridden(command: str, values: Mapping[str, Any], levels: Mapping[str, int]) -> list[str]:
    """Return the parameters that have to go because one that excludes them stands higher.

    Parameters
    ----------
    command : str
    values : mapping
        All parameters of the command, by the parser's names.
    levels : mapping
        Of those that are given: the higher, the stronger.
    """
    left, gone = dict(values), []
    while True:
        for one, other in _conflicts(command, left):
            # What nobody gave is the parser's default, or standard input in place of a name.
            above, below = (levels.get(name, COMMAND_LINE) for name in (one, other))
            if above == below:
                continue
            lower = other if above > below else one
            gone.append(lower)
            left[lower] = None
            break
        else:
            return gone


def _conflicts(command: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield pairs of parameters whose values exclude each other."""

    def given(name: str) -> bool:
        return values.get(name) not in (None, False, ())

    excluding = [
        ("rate", "keep", True),
        ("settings", "preset", True),
        ("json", "output", values.get("output") == "-"),
        ("order", "dropped", values.get("order") == "rank"),
        ("order", "output", values.get("order") == "rank" and _is_selection(command, values)),
        ("dropped", "format_", values.get("format_") == "weights"),
    ]
    if values.get("prune_hardest") != "probe":  # what only a probe uses
        of_probe = {"score": ("labels", "embedding"), "prune": ("labels",)}.get(command, ())
        excluding += [("prune_hardest", name, True) for name in of_probe]
    for one, other, if_ in excluding:
        if if_ and given(one) and given(other):
            yield one, other
    if command == "difficulty":
        yield from _of_difficulty(values)


def _is_selection(command: str, values: Mapping[str, Any]) -> bool:
    """Return whether rows are written as Parquet, which has one order."""
    output = str(values.get("output")).lower()
    return command in ("select", "prune") and output.endswith(".parquet")


def _of_difficulty(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sources = [name for name in SOURCES if values.get(name) not in (None, ())] or ["dynamics"]
    for at, source in enumerate(sources):
        yield from ((source, other) for other in sources[at + 1 :])
    for owner, options in SOURCES.items():
        if owner not in sources:
            for option in options:
                if values.get(option) not in (None, "auto"):
                    yield sources[0], option
