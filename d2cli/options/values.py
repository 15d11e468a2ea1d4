"""What options with several kinds of values mean."""

import typer

from d2cli.errors import ParameterError
from d2cli.params import (
    AUTO,
    PROBE,
    Auto,
    Probe,
)
from d2cli.quantities import parse_size


def cutoff(text: str | None) -> float | Auto | Probe | None:
    """Read "auto", "probe" or a number as the value of --prune-hardest.

    Raises
    ------
    ParameterError
        If it is none of them.
    """
    if text is None or text in (AUTO, PROBE):
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ParameterError(
            f"prune-hardest is '{text}', expected a number, auto or probe"
        ) from error


def given(context: typer.Context) -> tuple[str, ...]:
    """Return the names of the options that were given, there or in a file or the environment."""
    return tuple(
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"
    )


def rows_to_keep(text: str | None) -> tuple[int | None, bool]:
    """Read the value of --keep: a number of rows, and whether included ones come on top (+N).

    Raises
    ------
    ParameterError
        If it is no whole number.
    """
    if text is None:
        return None, False
    try:
        return int(text), text.lstrip().startswith("+")
    except ValueError as error:
        raise ParameterError(
            f"keep is '{text}', expected a number of rows, or +N for N rows beside the included"
        ) from error


def number_or_auto(option: str, text: str | None) -> float | Auto | None:
    """Read "auto" or a number as the value of an option.

    Raises
    ------
    ParameterError
        If it is neither.
    """
    if text is None or text == AUTO:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ParameterError(f"{option} is '{text}', expected a number or auto") from error


def fraction_or_auto(option: str, text: str) -> float | Auto:
    """As `number_or_auto`, of an option that has a value in any case."""
    found = number_or_auto(option, text)
    return AUTO if found is None else found


def max_memory(text: str | None) -> int | None:
    """Read the value of --max-memory as bytes."""
    return None if text is None else parse_size("max-memory", text)
