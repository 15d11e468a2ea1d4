"""Who runs the tasks of a stage: this process, or a cluster."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Handle = Any  # of a task, or of a value that tasks share


class Begun:
    """A task that was begun, as an executor keeps it: as an argument it moves nothing."""


class Executor(Protocol):
    """All that a stage knows of where its tasks run.

    A task is a function of a module and its arguments. It changes none of them (arrays may be
    read-only), depends on nothing else, and may run more than once; its last run counts.
    """

    @property
    def retries(self) -> int:
        """Tasks that were begun again because they were lost."""

    def put(self, value: Any) -> Handle:  # noqa: ANN401
        """Keep a value where tasks find it; a task gets the value in place of the handle."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:  # noqa: ANN401
        """Begin a task."""

    def go_on(
        self,
        function: Callable[..., Any],
        *arguments: Any,  # noqa: ANN401
        anew: Callable[[], tuple[Any, ...]],
    ) -> Handle:
        """Begin a task that leaves something for the next one where it ran.

        ``function`` returns what it leaves and its result. A task among the arguments stands for
        what it has left; should that be lost, the task begins with the arguments of ``anew``.
        """

    def gather(self, tasks: Sequence[Handle]) -> Iterator[Any]:
        """Yield the results of tasks in their order, each as soon as it is there."""

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:  # noqa: ANN401
        """Return the results of a task that runs once on every machine."""


@dataclass(frozen=True, eq=False)
class _Done(Begun):
    """What a task has left, and its result."""

    left: Any
    result: Any


class InProcess:
    """Runs tasks in this process, one after the other, when they are submitted."""

    @property
    def retries(self) -> int:
        """None: nothing is lost."""
        return 0

    def put(self, value: Any) -> Handle:  # noqa: ANN401
        """Return the value itself."""
        return value

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:  # noqa: ANN401
        """Run a task, and return its result."""
        return function(*arguments)

    def go_on(
        self,
        function: Callable[..., Any],
        *arguments: Any,  # noqa: ANN401
        anew: Callable[[], tuple[Any, ...]],
    ) -> Handle:
        """Run a task; nothing is lost on the way to the next one."""
        return _Done(*function(*(a.left if isinstance(a, _Done) else a for a in arguments)))

    def gather(self, tasks: Sequence[Handle]) -> Iterator[Any]:
        """Yield the results."""
        for task in tasks:
            yield task.result if isinstance(task, _Done) else task

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:  # noqa: ANN401
        """Return the result of a task, which runs here."""
        return [function(*arguments)]
