"""What every kind of training log offers, and what every kind must hold."""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.stages.dynamics import Rows as RowNumbers

Block: TypeAlias = tuple[RowNumbers, NDArray[Any]]  # rows, and their outputs (b, c) or (b,)

BLOCK_BYTES = 16 << 20  # of float64 outputs
KINDS = "an array [epochs, n, classes], per-epoch files (n, classes), or a table with id and epoch"


class DynamicsLog(Protocol):
    """Outputs by epoch."""

    @property
    def where(self) -> str:
        """How messages call it."""

    @property
    def n_epochs(self) -> int:
        """Epochs, at least one."""

    @property
    def n_classes(self) -> int | None:
        """Outputs a row, at least two; None if it holds the probability of the label only."""

    def name_of(self, epoch: int) -> str:
        """Return how messages call an epoch (from 0)."""

    def blocks(self, epoch: int) -> Iterator[Block]:
        """Yield the outputs of an epoch: row numbers of the labels, and (b, c) or (b,)."""

    def digest(self) -> str:
        """Return the digest of the contents."""


def check_width(where: str, width: int, expected: int | None) -> None:
    """Raise InputError unless there are two outputs a row or more, and as many as expected."""
    if width < 2:
        raise InputError(
            f"{where}: holds {width} output a row, expected one for each of at least two classes",
            hint="a single probability of the label is read from a table with id and epoch",
        )
    if expected is not None and width != expected:
        raise InputError(
            f"{where}: holds {width} classes, expected {expected}",
            hint="all outputs come from one model; name the right file or column",
        )


def check_numbers(where: str, dtype: np.dtype[Any]) -> None:
    """Raise InputError unless the outputs are numbers."""
    if dtype.kind not in "fiu":
        raise InputError(f"{where}: holds {dtype}, expected numbers", hint=f"a log is {KINDS}")


def in_blocks(outputs: NDArray[Any], matched: NDArray[np.int64] | None = None) -> Iterator[Block]:
    """Yield outputs (m, c) part by part; ``matched`` holds for each of our rows its row there."""
    n_rows = len(outputs) if matched is None else len(matched)
    step = max(BLOCK_BYTES // (8 * max(outputs.shape[1], 1)), 1)
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        yield rows, np.asarray(outputs[rows] if matched is None else outputs[matched[rows]])
