"""Checks of a difficulty column: values that cannot be used, direction, ties, margins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.params import Direction
from d2cli.stages.difficulty import orient
from d2cli.stages.noise import find_mislabelled
from d2cli.stages.verdicts import Check, failed, marked_rows, passed, warned

# Chance that two random rows are tied: ten equally frequent values have 0.1. Beyond it chance
# decides more of the order than the score.
TIED = 0.1
MOSTLY_WRONG = 0.5  # share of negative margins: more look like a turned sign or an unlearned set
# Of the largest value: sums over neighbours, of which there may be many, are far from overflowing.
LARGEST = 1e300
# The whole range over that of nine rows in ten: beyond it, a neighbour's message of one of the few
# rows far off is more than all difficulty of the others.
FAR_OFF = 1e6
MARGIN_ROWS = 5000  # that humps are looked for among


def check_numbers(
    values: NDArray[np.float64], null: NDArray[np.bool_], direction: Direction | None
) -> Check:
    """Check that every row has a finite value, of a magnitude that can be summed.

    Parameters
    ----------
    values : float64 array, shape (n,)
        Anything where ``null``.
    null : bool array, shape (n,)
    direction : {"high", "low"} or None
    """
    kinds = {
        "null": null,
        "nan": np.isnan(values) & ~null,
        "infinite": np.isinf(values) & ~null,
    }
    found: list[str] = []
    figures: dict[str, Any] = {}
    for kind, marks in kinds.items():
        text, figures[kind] = marked_rows(marks)
        if figures[kind]["count"]:
            found.append(f"{kind.replace('nan', 'NaN')} in {text}")
    if found:
        advice = "every row needs a finite value: drop or mend these rows"
        return failed("difficulty-values", "; ".join(found), advice, **figures)
    try:
        orient(values, direction or "high")
    except InputError as error:
        return failed("difficulty-values", error.message, error.hint, **figures)
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    figures |= {"lowest": low, "highest": high}
    text = f"all finite, from {low:.4g} to {high:.4g}"
    if max(abs(low), abs(high), high - low) > LARGEST:
        advice = "sums over neighbors may overflow float64: divide the values by a constant"
        return warned("difficulty-values", text, advice, **figures)
    usual = _usual_range(values)
    if high - low > FAR_OFF * usual > 0:
        text += f", nine in ten within {usual:.3g}"
        advice = "a few rows outweigh all others: look at them, or clip the values"
        return warned("difficulty-values", text, advice, **figures)
    return passed("difficulty-values", text, **figures)


def _usual_range(values: NDArray[np.float64]) -> float:
    """Return the range of the middle nine tenths."""
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)


def check_direction(direction: Direction | None, how: str, name: str) -> Check:
    """Check that it is known which values are harder.

    Parameters
    ----------
    direction : {"high", "low"} or None
    how : str
        How it is known.
    name : str
        Of the column.
    """
    if direction is None:
        return failed(
            "direction",
            f"'{name}' does not say whether high or low values are harder",
            "add --harder high or --harder low (what is preferred counts as harder)",
            harder=None,
        )
    return passed("direction", f"'{name}' is harder when {direction}, by {how}", harder=direction)


def check_ties(values: NDArray[np.float64]) -> Check:
    """Check how often values (n,), finite and at least one, are equal."""
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    tied = float((counts * (counts - 1.0)).sum() / max(n * (n - 1.0), 1.0))
    most = int(counts.argmax())
    figures = {
        "distinct": len(distinct), "tied": tied, "most_frequent": float(distinct[most]),
        "most_frequent_share": counts[most] / n,
    }  # fmt: skip
    if len(distinct) == 1 and n > 1:
        return warned(
            "difficulty-ties", f"every row has the value {distinct[0]:.4g}",
            "it says nothing about any row: use another score, or --difficulty uniform", **figures,
        )  # fmt: skip
    found = f"{len(distinct):,} different values; two rows are equal in {100 * tied:.1f} % of pairs"
    if tied > TIED:
        found += f"; {100 * counts[most] / n:.0f} % of the rows are {distinct[most]:.4g}"
        advice = "chance decides among equal rows: use a finer score, such as aum"
        return warned("difficulty-ties", found, advice, **figures)
    return passed("difficulty-ties", found, **figures)


def check_margins(margins: NDArray[np.float64], *, seed: int) -> Check:
    """Check how many margins are negative, and whether they look mislabelled.

    Parameters
    ----------
    margins : float64 array, shape (n,)
        Finite; negative where a row is learned wrong.
    seed : int
        Of a sample of 5,000 rows in which humps are looked for.
    """
    wrong = float((margins < 0).mean())
    size = min(MARGIN_ROWS, len(margins))
    sample = np.random.default_rng(seed).choice(len(margins), size, replace=False)
    noise = find_mislabelled(-margins[np.sort(sample)], zero=0.0)
    mislabelled = float(noise.mislabelled.mean())
    figures = {"negative": wrong, "mislabelled": mislabelled, "separation": noise.separation}
    found = f"{100 * wrong:.1f} % are negative, that is, learned wrong"
    if wrong > MOSTLY_WRONG:
        return warned(
            "margins", found, "look whether the sign is turned, or train longer before scoring",
            **figures,
        )  # fmt: skip
    if mislabelled > 0:
        return warned(
            "margins",
            f"{found}; {100 * mislabelled:.1f} % form a hump of their own at the hard end",
            "they look mislabelled: leave --prune-hardest at auto, or mend their labels",
            **figures,
        )
    return passed("margins", found, **figures)
