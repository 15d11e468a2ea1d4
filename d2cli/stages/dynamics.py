"""Training dynamics to difficulty: what a model said of every row, epoch by epoch.

TDDS (Zhang 2024, arXiv:2311.13613) is left out: its weights and windows could not be checked
against the paper, and a score of nearly that name would mislead.

References
----------
forgetting : Toneva et al. 2019, arXiv:1812.05159.
aum : Pleiss et al. 2020, arXiv:2001.10528.
el2n : Paul et al. 2021, arXiv:2107.07075.
confidence, variability : Swayamdipta et al. 2020, arXiv:2009.10795.
dynamic_uncertainty : He et al. 2023, arXiv:2306.05175.
dual : Cho et al. 2025, arXiv:2502.06905.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.params import Direction, LogValues
from d2cli.stages.defects import Defect

Rows: TypeAlias = slice | NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

# All columns, in the order they are written; high: higher is harder.
HARDER: dict[str, Direction] = {
    "forgetting": "high",
    "ever_correct": "low",
    "aum": "low",
    "el2n": "high",
    "entropy": "high",
    "variance": "high",
    "variability": "high",
    "confidence": "low",
    "dynamic_uncertainty": "high",
    "dual": "high",
}
FLOOR = 1e-12  # least probability that a logarithm is taken of
SUM_TOLERANCE = 1e-2  # how far the probabilities of a row may be from adding up to 1
MEND = "every row needs finite outputs at every epoch; drop or mend these rows"


@dataclass(frozen=True, eq=False)
class Reading:
    """What one epoch says of b rows.

    Attributes
    ----------
    probability : float64 array, shape (b,)
        Of the row's label, 0 to 1.
    right : bool array, shape (b,), or None
        Whether the label has the largest output; of equal ones the lowest class has it.
    margin : float64 array, shape (b,), or None
        Output of the label minus the largest other output.
    error : float64 array, shape (b,), or None
        L2 norm of (probabilities - one-hot label).
    entropy : float64 array, shape (b,), or None
        Of the probabilities, in nats.

    None where only the probability of the label is known.
    """

    probability: Floats
    right: NDArray[np.bool_] | None = None
    margin: Floats | None = None
    error: Floats | None = None
    entropy: Floats | None = None


def read_outputs(outputs: NDArray[Any], labels: NDArray[np.int64], values: LogValues) -> Reading:
    """Read what a model says of some rows.

    Parameters
    ----------
    outputs : array of numbers, shape (b, c)
        Finite logits or probabilities of c >= 2 classes.
    labels : int64 array, shape (b,)
        0 ... c - 1.
    values : {"logits", "probabilities"}
        Margins of probabilities are differences of their logarithms, each probability at least
        1e-12: that is the difference of the logits they come from.
    """
    numbers = outputs.astype(np.float64)
    places = np.arange(len(labels))
    if values == "logits":
        shifted = numbers - numbers.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        total = powers.sum(axis=1)
        probabilities = powers / total[:, None]
        entropy = np.log(total) - (probabilities * shifted).sum(axis=1)
        scores = numbers
    else:
        probabilities = numbers
        scores = np.log(np.maximum(numbers, FLOOR))
        entropy = -(numbers * scores).sum(axis=1)
    right = numbers.argmax(axis=1) == labels
    probability = probabilities[places, labels]
    difference = probabilities.copy()
    difference[places, labels] -= 1
    others = scores.copy()
    others[places, labels] = -np.inf
    return Reading(
        np.minimum(probability, 1.0),
        right,
        scores[places, labels] - others.max(axis=1),
        np.sqrt((difference * difference).sum(axis=1)),
        np.maximum(entropy, 0.0),
    )


def looks_like_probabilities(outputs: NDArray[Any]) -> bool:
    """Return whether all rows (s, c) are non-negative and add up to 1 within 1e-2."""
    return bool(len(outputs)) and not improbable(outputs).any()


def improbable(outputs: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows (b, c) are no probabilities, or which numbers (b,) are none."""
    numbers = outputs.astype(np.float64)
    if numbers.ndim == 1:
        return (numbers < 0) | (numbers > 1 + SUM_TOLERANCE)
    with np.errstate(invalid="ignore"):  # infinities of both signs
        sums = numbers.sum(axis=1)
    bad: NDArray[np.bool_] = (numbers < 0).any(axis=1) | ~(np.abs(sums - 1) <= SUM_TOLERANCE)
    return bad


class EpochCheck:
    """Collects the rows of one epoch whose outputs cannot be used, and those that are missing."""

    def __init__(self, n_samples: int, values: LogValues) -> None:
        self._seen = np.zeros(n_samples, dtype=np.int32)
        self._values = values
        self._bad: dict[str, NDArray[np.bool_]] = {}

    def admit(self, rows: Rows, outputs: NDArray[Any]) -> bool:
        """Take in the outputs (b, c), or label probabilities (b,), of some rows; True if fine."""
        if isinstance(rows, slice):
            self._seen[rows] += 1
        else:
            np.add.at(self._seen, rows, 1)
        flat = outputs.reshape(len(outputs), -1)
        finite = np.isfinite(flat)
        if not finite.all():
            nan = np.isnan(flat).any(axis=1)
            self._mark("holds NaN", rows, nan)
            self._mark("holds an infinite value", rows, ~finite.all(axis=1) & ~nan)
        elif outputs.ndim == 1 or self._values == "probabilities":
            one = "holds no probability: it is not from 0 to 1"
            many = "holds no probabilities: they are negative or do not add up to 1"
            self._mark(one if outputs.ndim == 1 else many, rows, improbable(outputs))
        return not self._bad

    def _mark(self, what: str, rows: Rows, bad: NDArray[np.bool_]) -> None:
        if bad.any():
            mask = self._bad.setdefault(what, np.zeros(len(self._seen), dtype=np.bool_))
            mask[rows] |= bad

    def refuse(self, where: str) -> None:
        """Raise InputError for the first kind of defect found; ``where`` names file and epoch."""
        for what, mask in self._bad.items():
            hint = MEND if "probab" not in what else "--values logits takes any numbers"
            _refuse(Defect(what, hint), mask, where)
        again = "every row stands once in every epoch; drop the others"
        _refuse(Defect("stands there more than once", again), self._seen > 1, where)
        missing = "every row needs outputs at every epoch; leave the row out of the labels"
        _refuse(Defect("is missing", missing), self._seen == 0, where)


def _refuse(defect: Defect, mask: NDArray[np.bool_], where: str) -> None:
    defect.add(0, mask)
    defect.refuse(where)


def check_labels(labels: NDArray[np.int64], n_classes: int | None) -> None:
    """Refuse labels that do not fit the classes of a log.

    Parameters
    ----------
    labels : int64 array, shape (n,)
    n_classes : int or None
        None if the log does not tell.

    Raises
    ------
    InputError
        If a label is out of range (first row and count), or all are the same.
    """
    outside = labels < 0
    if n_classes is not None:
        outside |= labels >= n_classes
    if outside.any():
        first = labels[outside.argmax()]
        expected = "0 or more" if n_classes is None else f"0 to {n_classes - 1}"
        _refuse(
            Defect(
                f"has the label {first}, expected {expected}",
                "labels are the numbers of the log's classes, from 0",
            ),
            outside,
            "",
        )
    if len(labels) and labels.min() == labels.max():
        raise InputError(
            f"holds one class only: every label is {labels[0]}",
            hint="expected the class number of every row; name the right column",
        )


class Tally:
    """Sums over epochs, from which all columns follow; memory of (window + 8) numbers a row.

    Epochs come in order, the rows of one epoch in any order and in any number of parts.

    Parameters
    ----------
    n_samples, n_epochs : int
    el2n_epochs : int
        First epochs that el2n is the mean over.
    window : int or None
        J; None leaves dynamic_uncertainty and dual out.
    """

    def __init__(
        self, n_samples: int, n_epochs: int, *, el2n_epochs: int, window: int | None
    ) -> None:
        self.n_epochs, self.el2n_epochs, self.window = n_epochs, el2n_epochs, window
        self._was_right = np.zeros(n_samples, dtype=np.bool_)
        self._ever_right = np.zeros(n_samples, dtype=np.bool_)
        self._forgotten = np.zeros(n_samples, dtype=np.int32)
        self._margin, self._error = np.zeros(n_samples), np.zeros(n_samples)
        self._entropy = np.zeros(n_samples)
        self._mean, self._squares = np.zeros(n_samples), np.zeros(n_samples)
        self._latest = np.zeros((n_samples, window or 0))
        self._uncertainty, self._dual = np.zeros(n_samples), np.zeros(n_samples)
        self._whole = True

    def add(self, epoch: int, rows: Rows, reading: Reading) -> None:
        """Take in what an epoch (from 0) says of some rows."""
        self._add_probability(epoch, rows, reading.probability)
        right, margin, error = reading.right, reading.margin, reading.error
        if right is None or margin is None or error is None or reading.entropy is None:
            self._whole = False
            return
        self._forgotten[rows] += self._was_right[rows] & ~right
        self._was_right[rows] = right
        self._ever_right[rows] |= right
        self._margin[rows] += margin
        if epoch < self.el2n_epochs:
            self._error[rows] += error
        self._entropy[rows] = reading.entropy

    def _add_probability(self, epoch: int, rows: Rows, probability: Floats) -> None:
        # Welford: sums of squares would lose the variance of rows that hardly change.
        step = probability - self._mean[rows]
        self._mean[rows] += step / (epoch + 1)
        self._squares[rows] += step * (probability - self._mean[rows])
        if self.window is None:
            return
        self._latest[rows, epoch % self.window] = probability
        if epoch + 1 >= self.window:
            latest = self._latest[rows]
            spread = latest.std(axis=1, ddof=1)
            self._uncertainty[rows] += spread
            self._dual[rows] += (1 - latest.mean(axis=1)) * spread

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns that the epochs define.

        Returns
        -------
        dict of arrays, shape (n,), in the order of ``HARDER``
            forgetting : int32
                Times a row went from right to wrong between consecutive epochs; the number of
                epochs, the hardest, if it was never right.
            ever_correct : bool
                Right in at least one epoch.
            aum : float64
                Mean margin over epochs.
            el2n : float64
                Mean error over the first ``el2n_epochs`` epochs.
            entropy : float64
                Of the last epoch, in nats.
            variance, variability, confidence : float64
                Population variance, its root, and mean of the label's probability over epochs.
            dynamic_uncertainty : float64
                Mean over all windows of J consecutive epochs of the sample standard deviation
                (J - 1) of the label's probability.
            dual : float64
                Mean over the same windows of that deviation times (1 - mean in the window).

            The first five are left out if only the label's probability is known.
        """
        found: dict[str, NDArray[Any]] = {}
        if self._whole:
            found["forgetting"] = np.where(self._ever_right, self._forgotten, self.n_epochs)
            found["forgetting"] = found["forgetting"].astype(np.int32)
            found["ever_correct"] = self._ever_right
            found["aum"] = self._margin / self.n_epochs
            found["el2n"] = self._error / self.el2n_epochs
            found["entropy"] = self._entropy
        variance = np.maximum(self._squares / self.n_epochs, 0.0)
        found["variance"], found["variability"] = variance, np.sqrt(variance)
        found["confidence"] = self._mean
        if self.window is not None:
            n_windows = self.n_epochs - self.window + 1
            found["dynamic_uncertainty"] = self._uncertainty / n_windows
            found["dual"] = self._dual / n_windows
        return found
