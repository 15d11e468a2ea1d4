"""Verdicts of checks: what was found in data, whether that will do, and what to do if not.

"fail" is what a later command would refuse; "warn" is what it would take, and should not be taken
without a look.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.defects import count_rows

Verdict = Literal["pass", "warn", "fail"]
SHOWN_ROWS = 3  # row numbers that a line names


@dataclass(frozen=True)
class Check:
    """One check of some data.

    Attributes
    ----------
    name : str
        Lower case, words joined by hyphens; stays the same from version to version.
    verdict : {"pass", "warn", "fail"}
    found : str
        One line.
    advice : str
        What to do; empty only if the check passed.
    figures : dict
        The numbers behind it, as JSON values.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.verdict == "pass") != (not self.advice):
            raise ValueError("advice goes with warn and fail, and only with them")


@dataclass(frozen=True)
class LeftOut:
    """A check that was not made, and why."""

    name: str
    reason: str


def passed(name: str, found: str, **figures: Any) -> Check:  # noqa: ANN401
    """Return a check that passed."""
    return Check(name, "pass", found, figures=figures)


def warned(name: str, found: str, advice: str, **figures: Any) -> Check:  # noqa: ANN401
    """Return a check that warns."""
    return Check(name, "warn", found, advice, figures)


def failed(name: str, found: str, advice: str, **figures: Any) -> Check:  # noqa: ANN401
    """Return a check that failed."""
    return Check(name, "fail", found, advice, figures)


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict; "pass" if there is no check."""
    verdicts = {check.verdict for check in checks}
    return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "pass"


def tell_checks(checks: Sequence[Check], left_out: Sequence[LeftOut] = ()) -> dict[str, Any]:
    """Return checks as JSON values: verdict, counts, checks, left_out."""
    return {
        "verdict": worst(checks),
        "counts": {
            verdict: sum(check.verdict == verdict for check in checks)
            for verdict in ("pass", "warn", "fail")
        },
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict,
                "found": check.found,
                "advice": check.advice,
                "figures": check.figures,
            }
            for check in checks
        ],
        "left_out": [{"name": one.name, "reason": one.reason} for one in left_out],
    }


def marked_rows(marks: NDArray[np.bool_]) -> tuple[str, dict[str, Any]]:
    """Return the marked rows as text and as figures.

    Parameters
    ----------
    marks : bool array, shape (n,)

    Returns
    -------
    text : str
        Such as "3 rows (4, 17, 99)", or "1,234 rows (4, 17, 99, ...)".
    figures : dict
        ``count`` and ``first_rows``, at most three of them, ascending.
    """
    count = int(np.count_nonzero(marks))
    first = np.flatnonzero(marks)[:SHOWN_ROWS].tolist()
    text = count_rows(count)
    if count:
        more = ", ..." if count > len(first) else ""
        text += f" ({', '.join(map(str, first))}{more})"
    return text, {"count": count, "first_rows": first}
