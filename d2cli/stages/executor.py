"""Who runs the tasks of a stage: this process, or a cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

Handle = Any  # of a task, or of a value that tasks share


class Executor(Protocol):
    """All that a stage knows of where its tasks run.

    A task is a function of a module and its arguments. It changes none of them (arrays may be
    read-only), depends on nothing else, and may run more than once; its last run counts.
    """

    def put(self, value: Any) -> Handle:  # noqa: ANN401
        """Keep a value where tasks find it; a task gets the value in place of the handle."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:  # noqa: ANN401
        """Begin a task."""

    def gather(self, tasks: Sequence[Handle]) -> Iterator[Any]:
        """Yield the results of tasks in their order, each as soon as it is there."""


class InProcess:
    """Runs tasks in this process, one after the other, when they are submitted."""

    def put(self, value: Any) -> Handle:  # noqa: ANN401
        """Return the value itself."""
        return value

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:  # noqa: ANN401
        """Run a task, and return its result."""
        return function(*arguments)

    def gather(self, tasks: Sequence[Handle]) -> Iterator[Any]:
        """Yield the results."""
        yield from tasks
