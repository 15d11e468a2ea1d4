"""Checks that several stages' parameters share."""

import math

from d2cli.errors import ParameterError
from d2cli.params.choices import AUTO


def check_number(name: str, value: object, *, least: float, open_end: bool = False) -> None:
    """Raise ParameterError unless a number is "auto", left out, or at least so large."""
    if value is None or value == AUTO:
        return
    number = float(value) if isinstance(value, int | float) else math.nan
    if not math.isfinite(number) or number < least or (open_end and number == least):
        relation = "greater than" if open_end else "at least"
        raise ParameterError(f"{name} is {value}, expected a number {relation} {least:g}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ParameterError unless a text is one of several."""
    if value not in choices:
        raise ParameterError(f"{name} is '{value}', expected one of {', '.join(choices)}")


def check_rate(rate: float | None) -> None:
    """Raise ParameterError unless the pruning rate is None or a fraction from 0 to 1."""
    if rate is None or 0 <= rate <= 1:
        return
    hint = "the rate is the fraction of rows removed; keeping a tenth is --rate 0.9"
    if 1 < rate <= 100:
        hint = f"the rate is a fraction; {rate:g} % is --rate {rate / 100:g}"
    raise ParameterError(f"rate is {rate:g}, expected 0 to 1", hint=hint)


def rows_kept(rate: float, n_samples: int) -> int:
    """Return how many rows of n a pruning rate keeps: ``n - floor(rate * n + 0.5)``."""
    return n_samples - math.floor(rate * n_samples + 0.5)


def check_seed(seed: int) -> None:
    """Raise ParameterError unless the seed fits all generators: 0 to 2**32 - 1."""
    if not 0 <= seed < 2**32:
        raise ParameterError(f"seed is {seed}, expected 0 to 4,294,967,295")
