"""What the value of an option could be, for shell completion; light enough for every start."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

Completer = Callable[..., list[str]]

UNIFORM, NO_IDS = "uniform", "none"  # what --difficulty and --id take besides columns
HOMES = {
    "difficulty": "embedding",
    "update": "add",
}  # parameters with the file of bare columns, else ``source``
COLUMNS_BY_FILE = ("difficulty", "labels", "group", "show")  # whose files have the ids


class Line(Protocol):
    """What is known of an unfinished line: typer's context."""

    command: Any
    params: dict[str, Any]
    args: list[str]


def columns(ctx: Line, incomplete: str) -> list[str]:
    """Return what a COLREF could be: columns of the own file, or of the one before ``::``.

    Parameters
    ----------
    ctx : Line
        The line so far.
    incomplete : str
        What has been typed of the value.
    """
    return _columns(_home(ctx), incomplete)


def modalities(ctx: Line, incomplete: str) -> list[str]:
    """Return what an embedding of several could be: columns, behind ``NAME=`` too."""
    found = columns(ctx, incomplete)
    name, equals, start = incomplete.partition("=")
    if found or not equals or not name.replace("-", "").replace("_", "").isalnum():
        return found
    return [f"{name}={column}" for column in columns(ctx, start)]


def difficulties(ctx: Line, incomplete: str) -> list[str]:
    """Return what --difficulty could be: columns, or uniform."""
    return [*columns(ctx, incomplete), *_beginning(incomplete, (UNIFORM,))]


def ids(ctx: Line, incomplete: str) -> list[str]:
    """Return what --id could be: columns of the own file or of another COLREF's, or none."""
    home = _home(ctx)
    for name in COLUMNS_BY_FILE:
        file, separator, _ = str(ctx.params.get(name) or "").partition("::")
        home = home or (file if separator else None)
    return [*_columns(home, incomplete), *_beginning(incomplete, (NO_IDS,))]


def file_columns(incomplete: str) -> list[str]:
    """Return the columns of the file before ``::``; none without it."""
    return _columns(None, incomplete)


def one_of(*values: str) -> Completer:
    """Return a completer of one of some values, where other text is fine too."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(incomplete, values)

    return complete


def list_of(*values: str) -> Completer:
    """Return a completer of values separated by commas, each once."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        left = [value for value in values if value not in before.split(",")]
        return [before + comma + value for value in _beginning(last, left)]

    return complete


def _columns(home: str | None, incomplete: str) -> list[str]:
    from d2cli.column_names import column_names

    file, separator, start = incomplete.partition("::")
    if separator:
        return [f"{file}::{name}" for name in _beginning(start, column_names(Path(file)))]
    return _beginning(incomplete, column_names(Path(home))) if home else []


def _beginning(start: str, values: Sequence[str]) -> list[str]:
    return [value for value in values if value.startswith(start)]


def _home(ctx: Line) -> str | None:
    """Return the file that a bare column is looked for in."""
    name = HOMES.get(ctx.command.name, "source")
    value = ctx.params.get(name)
    for parameter in ctx.command.params:
        # Arguments are not told apart yet where the last option waits for its value.
        if parameter.name == name and parameter.param_type_name == "argument" and ctx.args:
            value = ctx.args[0]
    if isinstance(value, list | tuple):  # of an option that may be repeated
        value = value[0] if value else None
    file, _, _ = str(value or "").partition("::")
    return file or None
