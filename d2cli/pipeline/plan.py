"""What a graph will take, before anything is computed: bytes and seconds of every step.

All figures are estimates. Bytes follow the arrays that a step holds; seconds come from few
constants, measured on vectors of 64 to 128 axes by one thread of a 2023 server processor, and from
the speed of a matrix product on the machine at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2cli.quantities import size_text, time_text
from d2cli.stages.vectors import vector_type


@dataclass(frozen=True)
class Job:
    """What a plan depends on, beside the parameters.

    Attributes
    ----------
    n_rows, width : int
    dtype : dtype
        Of the vectors as stored.
    mapped : bool
        They lie in a memory-mapped file.
    in_table : bool
        They are read from a table, straight into an array of the type they are searched as.
    moved : bool
        Rows are matched by id, so that vectors are copied into their order.
    group_sizes : sequence of int
        Rows of each group that is searched on its own.
    n_threads : int
    held : int
        Bytes of input that are in memory in any case, such as standard input.
    base : int
        Bytes of the program itself, ids and labels included.
    """

    n_rows: int
    width: int
    dtype: np.dtype[Any]
    mapped: bool = False
    in_table: bool = False
    moved: bool = False
    group_sizes: Sequence[int] = ()
    n_threads: int = 1
    held: int = 0
    base: int = 130_000_000

    @property
    def item_bytes(self) -> int:
        """Bytes of a value as it is searched."""
        return np.dtype(vector_type(self.dtype)).itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as it is searched, before a metric makes it shorter."""
        return self.width * self.item_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of all rows as they are stored."""
        return self.n_rows * self.width * self.dtype.itemsize


@dataclass(frozen=True)
class Step:
    """One step: seconds, bytes beside the vectors and the program itself, and bytes of vectors.

    Vectors are those of the input and the points that they are searched as; both may be on disk.
    """

    name: str
    seconds: float
    working: float
    vectors: float


@dataclass(frozen=True)
class Plan:
    """The steps of a job.

    Attributes
    ----------
    title : str
        The job in one line.
    steps : tuple of Step
    base : int
        Bytes of the program itself.
    least_vectors : int
        Bytes of vectors that have to be resident where they live on disk.
    copies : int
        Bytes of small copies that searches then make.
    resident : int or None
        Bytes of vectors that will be resident; None where they stay in memory.
    """

    title: str
    steps: tuple[Step, ...]
    base: int
    least_vectors: int
    copies: int = 0
    resident: int | None = None

    def bytes_of(self, step: Step) -> float:
        """Return the memory that a step needs in all."""
        if self.resident is None:
            return self.base + step.working + step.vectors
        return self.base + step.working + min(step.vectors, self.resident + self.copies)

    @property
    def peak(self) -> float:
        """The most memory that any step needs."""
        return max(self.bytes_of(step) for step in self.steps)

    @property
    def unavoidable(self) -> float:
        """The most memory that any step needs beside the vectors."""
        return self.base + max(step.working for step in self.steps)

    @property
    def seconds(self) -> float:
        """The time of all steps."""
        return sum(step.seconds for step in self.steps)

    def lines(self) -> list[str]:
        """Return the plan as a table."""
        width = max(len(step.name) for step in self.steps)
        lines = [f"plan: {self.title} (estimates)"]
        lines += [
            f"  {step.name:<{width}}  {size_text(self.bytes_of(step)):>7}  "
            f"{time_text(step.seconds)}"
            for step in self.steps
        ]
        lines.append(
            f"  {'peak, in all':<{width}}  {size_text(self.peak):>7}  {time_text(self.seconds)}"
        )
        if self.resident is not None:
            lines.append(
                f"  vectors stay on disk, about {size_text(self.resident)} of them in memory"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "title": self.title,
            "steps": [
                {
                    "step": step.name,
                    "bytes": round(self.bytes_of(step)),
                    "seconds": round(step.seconds, 2),
                }
                for step in self.steps
            ],
            "peak_memory_bytes": round(self.peak),
            "seconds": round(self.seconds, 2),
            "resident_vector_bytes": self.resident,
        }
