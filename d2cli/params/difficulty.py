"""Parameters of difficulties that d2 makes."""

import math
from dataclasses import dataclass

from d2cli.errors import ParameterError
from d2cli.params.checks import check_choice, check_seed
from d2cli.params.choices import AUTO, LogValues

EL2N_EPOCHS, WINDOW = 5, 10


@dataclass(frozen=True, kw_only=True)
class DynamicsParams:
    """Training dynamics to difficulty columns.

    Attributes
    ----------
    values : {"auto", "logits", "probabilities"}
        What the log holds. "auto" looks at a sample of its rows.
    el2n_epochs : int or None
        First epochs that el2n is the mean over; None is 5, or all where there are fewer.
    window : int or None
        J, epochs of a window of dynamic_uncertainty and dual; None is 10, and both are left out
        where there are fewer.
    """

    values: LogValues = AUTO
    el2n_epochs: int | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        check_choice("values", self.values, (AUTO, "logits", "probabilities"))
        if self.el2n_epochs is not None and self.el2n_epochs < 1:
            raise ParameterError(f"el2n-epochs is {self.el2n_epochs}, expected at least 1")
        if self.window is not None and self.window < 2:
            raise ParameterError(f"window is {self.window}, expected at least 2 epochs")

    def el2n_epochs_of(self, n_epochs: int) -> int:
        """Return how many epochs el2n is the mean over.

        Raises
        ------
        ParameterError
            If more were asked for than there are.
        """
        return min(
            _epochs("el2n-epochs", self.el2n_epochs, EL2N_EPOCHS, n_epochs) or n_epochs, n_epochs
        )

    def window_of(self, n_epochs: int) -> int | None:
        """Return the epochs of a window, or None if there are too few for the default.

        Raises
        ------
        ParameterError
            If more were asked for than there are.
        """
        return _epochs("window", self.window, WINDOW, n_epochs)


def _epochs(name: str, given: int | None, default: int, n_epochs: int) -> int | None:
    if given is not None and given > n_epochs:
        raise ParameterError(
            f"{name} is {given}, but there are {n_epochs} epochs", hint=f"lower --{name}"
        )
    return given if given is not None else default if default <= n_epochs else None


@dataclass(frozen=True, kw_only=True)
class PrototypeParams:
    """Distance to prototypes.

    Attributes
    ----------
    prototypes : int or None
        K, centroids of all rows or, with labels, of each label. None is 1 with labels, and
        round(sqrt(n / 2)) without.
    seed : int
        Of the first centroids.
    """

    prototypes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prototypes is not None and self.prototypes < 1:
            raise ParameterError(f"prototypes is {self.prototypes}, expected at least 1")
        check_seed(self.seed)

    def n_prototypes(self, n_samples: int, *, labelled: bool) -> int:
        """Return K."""
        if self.prototypes is not None:
            return self.prototypes
        return 1 if labelled else max(round(math.sqrt(n_samples / 2)), 1)
