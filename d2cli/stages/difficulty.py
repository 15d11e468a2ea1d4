"""Score columns to difficulty: one number a row, higher is harder."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.params import Direction
from d2cli.stages.defects import Defect

HARDER_WHEN_HIGH = frozenset(
    ["forgetting", "el2n", "entropy", "loss", "variance", "grand", "perplexity", "uncertainty"]
)
MARGINS = frozenset(["aum", "margin"])  # their sign says whether a row is learned right
HARDER_WHEN_LOW = frozenset([*MARGINS, "confidence", "likelihood"])


@dataclass(frozen=True, eq=False)
class Difficulty:
    """Difficulty as the forward pass takes it.

    Attributes
    ----------
    values : float64 array, shape (n,)
        Finite; higher is harder.
    direction : {"high", "low", "uniform"}
        What was harder in the input.
    shift : float
        Added to every value (after the sign was turned, for "low").
    """

    values: NDArray[np.float64]
    direction: str
    shift: float


def known_direction(name: str) -> Direction | None:
    """Return the direction that a score's name implies; None if the name is not known.

    Case does not matter; the whole name has to match.
    """
    word = name.lower()
    if word in HARDER_WHEN_HIGH:
        return "high"
    return "low" if word in HARDER_WHEN_LOW else None


def direction_of(name: str, given: Direction | None) -> Direction:
    """Return the direction given, or the one that the name implies.

    Raises
    ------
    ParameterError
        If neither is there: guessing wrong would keep the wrong half.
    """
    direction = given or known_direction(name)
    if direction is None:
        raise ParameterError(
            f"'{name}' does not say whether high or low values are harder",
            hint="add --harder high or --harder low (what is preferred counts as harder)",
        )
    return direction


def orient(values: ArrayLike, direction: Direction, *, shift: bool = True) -> Difficulty:
    """Turn a score so that higher is harder and nothing is negative.

    "low": ``s = max(v) - v``. "high": ``s = v``, and ``s = v - min(v)`` if any value is negative
    and ``shift`` is set.

    Parameters
    ----------
    values : array of numbers, shape (n,)
    direction : {"high", "low"}
        Which values are harder.
    shift : bool
        False leaves negative values as they are.

    Raises
    ------
    InputError
        If a value is NaN or infinite (names the first row and the count), or the range of the
        values overflows float64.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise InputError(f"is {array.dtype} of shape {array.shape}, expected numbers of shape (n,)")
    numbers = array.astype(np.float64)
    for what, bad in (("is NaN", np.isnan(numbers)), ("is infinite", np.isinf(numbers))):
        defect = Defect(what, "every row needs a finite difficulty; drop or mend these rows")
        defect.add(0, bad)
        defect.refuse()
    with np.errstate(over="ignore"):  # refused below
        if direction == "low":
            highest = float(numbers.max(initial=-np.inf))
            turned = Difficulty(highest - numbers, "low", highest)
        else:
            lowest = float(numbers.min(initial=0.0)) if shift else 0.0
            turned = Difficulty(numbers - lowest, "high", 0.0 - lowest)
    if not np.isfinite(turned.values).all():
        raise InputError("the range of the values overflows float64", hint="rescale the scores")
    return turned


def uniform_difficulty(n_samples: int) -> Difficulty:
    """Return difficulty 1 for every row: the paper's self-supervised mode."""
    return Difficulty(np.ones(n_samples), "uniform", 0.0)
