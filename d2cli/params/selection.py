"""Parameters of a selection."""

from dataclasses import dataclass
from typing import get_args

from d2cli.errors import ParameterError
from d2cli.params.checks import check_choice, check_number, check_rate, check_seed, rows_kept
from d2cli.params.choices import (
    AUTO,
    LIMITABLE,
    Auto,
    Balance,
    Kernel,
    Messages,
    Method,
    PresetName,
    Ties,
)
from d2cli.params.presets import FromPreset
from d2cli.params.score import SMALLEST_RATE


@dataclass(frozen=True, kw_only=True)
class SelectParams(FromPreset):
    """The greedy pick with reverse messages, or another method.

    Attributes
    ----------
    method : {"d2", "random", "hardest", ...}
        See `d2cli.stages.methods`; all but "d2" use difficulty and graph, but no scores.
    rate : float or None
        Fraction of the rows removed; exactly one of ``rate`` and ``keep`` is given.
    keep : int or None
        Rows kept.
    gamma_reverse : float or "auto"
        Units as ``gamma_forward``; small = strong suppression of neighbours = more diversity.
        "auto" is 1 / R**2 with R = max(rate, 0.1).
    messages : {"signed", "clamped"}
        "clamped": a pick with a negative score sends nothing.
    ties : {"random", "row"}
        Which of equal scores is picked first.
    balance : {"proportional", "uniform"}
        Shares of the groups, if there are groups.
    max_changes : int or None
        The most rows of an earlier selection that may go, see `d2cli.stages.changes`; None is no
        limit. Methods that do not rank rows one by one have none.
    """

    preset: PresetName = "default"
    method: Method = "d2"
    rate: float | None = None
    keep: int | None = None
    gamma_reverse: float | Auto = AUTO
    kernel: Kernel = "gaussian"
    bandwidth: float | Auto = AUTO
    messages: Messages = "signed"
    ties: Ties = "random"
    seed: int = 0
    balance: Balance = "proportional"
    max_changes: int | None = None

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.keep is None):
            raise ParameterError(
                "expected exactly one of rate and keep",
                hint="--rate 0.9 removes nine rows of ten, --keep 5000 keeps 5,000 rows",
            )
        check_rate(self.rate)
        if self.keep is not None and self.keep < 1:
            raise ParameterError(f"keep is {self.keep}, expected a number of rows, at least 1")
        check_number("gamma-reverse", self.gamma_reverse, least=0)
        check_number("bandwidth", self.bandwidth, least=0, open_end=True)
        check_choice("kernel", self.kernel, ("gaussian", "exponential"))
        check_choice("method", self.method, get_args(Method))
        check_choice("messages", self.messages, ("signed", "clamped"))
        check_choice("ties", self.ties, ("random", "row"))
        check_choice("balance", self.balance, ("proportional", "uniform"))
        check_seed(self.seed)
        if self.max_changes is None:
            return
        if self.max_changes < 0:
            raise ParameterError(f"max-changes is {self.max_changes}, expected at least 0")
        if self.method not in LIMITABLE:
            raise ParameterError(
                f"max-changes does not go with the method {self.method}",
                hint=f"it goes with {', '.join(LIMITABLE[:-1])} and {LIMITABLE[-1]}",
            )

    def budget(self, n_samples: int) -> int:
        """Return the number of rows to keep: that of the rate, see `rows_kept`, or ``keep``.

        Raises
        ------
        ParameterError
            If that is no row, or more rows than there are.
        """
        if self.keep is not None:
            if self.keep > n_samples:
                raise ParameterError(f"keep is {self.keep:,}, but there are {n_samples:,} rows")
            return self.keep
        assert self.rate is not None
        kept = rows_kept(self.rate, n_samples)
        if kept < 1:
            raise ParameterError(
                f"rate {self.rate:g} of {n_samples:,} rows keeps none",
                hint="lower the rate, or give the number of rows with --keep",
            )
        return kept

    def rate_of(self, n_samples: int) -> float:
        """Return the pruning rate: the one given, or ``1 - keep / n``."""
        return self.rate if self.rate is not None else 1 - self.budget(n_samples) / n_samples

    def gamma_reverse_value(self, n_samples: int) -> float:
        """Return the number that ``gamma_reverse`` stands for."""
        if self.gamma_reverse != AUTO:
            return float(self.gamma_reverse)
        return 1 / max(self.rate_of(n_samples), SMALLEST_RATE) ** 2
