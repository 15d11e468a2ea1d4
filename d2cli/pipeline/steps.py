"""What the steps of a stage took: time, tasks, bytes of arrays moved and kept, retries."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.executor import Begun, Executor, Handle

# Of every step.
COUNTED = ("tasks", "bytes_sent", "bytes_received", "bytes_read", "bytes_kept", "retries")


class Steps:
    """What the steps of a stage took; the time until the next step is of the one before."""

    def __init__(self, first: str) -> None:
        self._of: dict[str, dict[str, Any]] = {}
        self._step: dict[str, Any] = {"seconds": 0.0}
        self._since = time.perf_counter()
        self.enter(first)

    def enter(self, name: str) -> None:
        """Begin a step, or go on with it."""
        now = time.perf_counter()
        self._step["seconds"] += now - self._since
        start = {"step": name, "seconds": 0.0, **dict.fromkeys(COUNTED, 0)}
        self._step, self._since = self._of.setdefault(name, start), now

    def add(self, **more: int) -> None:
        """Count for the step that is on."""
        for name, count in more.items():
            self._step[name] += count

    @contextlib.contextmanager
    def keeping(self, columns: Mapping[str, NDArray[Any]]) -> Iterator[None]:
        """Count for the step "keep" what is done meanwhile: a part is put into the store."""
        before = self._step["step"]
        self.enter("keep")
        self.add(bytes_kept=array_bytes(list(columns.values())))
        yield
        self.enter(before)

    def total(self, *names: str) -> int:
        """Return some counts of all steps, added up."""
        return sum(step[name] for step in self._of.values() for name in names)

    def done(self) -> list[dict[str, Any]]:
        """Return all steps in the order in which they began."""
        self.enter(self._step["step"])
        return [{**step, "seconds": round(step["seconds"], 3)} for step in self._of.values()]


class Counting:
    """An executor that counts what another one does: tasks, bytes of arrays both ways.

    Parameters
    ----------
    executor : Executor
    steps : Steps
    moves : bool
        Whether arguments and results leave this process.

    Attributes
    ----------
    step : str
        What tasks are counted as.
    """

    step = "tasks"

    def __init__(self, executor: Executor, steps: Steps, *, moves: bool) -> None:
        self._executor, self._steps, self._moves = executor, steps, moves

    @property
    def retries(self) -> int:
        """Of the executor that runs the tasks."""
        return self._executor.retries

    def _count(self, name: str, value: Any) -> None:  # noqa: ANN401
        if self._moves:
            self._steps.add(**{name: array_bytes(value)})

    def put(self, value: Any) -> Handle:  # noqa: ANN401
        """Keep a value."""
        self._steps.enter("hand out")
        self._count("bytes_sent", value)
        return self._executor.put(value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:  # noqa: ANN401
        """Begin a task."""
        self._begin(arguments)
        return self._executor.submit(function, *arguments)

    def go_on(
        self,
        function: Callable[..., Any],
        *arguments: Any,  # noqa: ANN401
        anew: Callable[[], tuple[Any, ...]],
    ) -> Handle:
        """Begin a task that leaves something, which is not moved, for the next one."""
        self._begin(arguments)

        def counted() -> tuple[Any, ...]:
            again = anew()
            self._count("bytes_sent", again)
            return again

        return self._executor.go_on(function, *arguments, anew=counted)

    def _begin(self, arguments: tuple[Any, ...]) -> None:
        self._steps.enter(self.step)
        self._steps.add(tasks=1)
        self._count("bytes_sent", arguments)

    def gather(self, tasks: Sequence[Handle]) -> Iterator[Any]:
        """Yield results."""
        for result in self._executor.gather(tasks):
            self._count("bytes_received", result)
            self._steps.add(retries=self.retries - self._steps.total("retries"))
            yield result

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:  # noqa: ANN401
        """Return results of all machines, which count as no tasks."""
        return self._executor.everywhere(function, *arguments)


def array_bytes(value: Any) -> int:  # noqa: ANN401
    """Return the bytes of all arrays in a value: an array, a dataclass, a tuple or a list."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, tuple | list):
        return sum(array_bytes(part) for part in value)
    if isinstance(value, Begun):
        return 0
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(array_bytes(part) for part in vars(value).values())
    return 0
