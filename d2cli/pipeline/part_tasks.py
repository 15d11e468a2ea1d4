"""Tasks that each keep parts in a store: those whose parts are there already are not run."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from d2cli.files.artifacts import Artifact
from d2cli.pipeline.engine import Work
from d2cli.stages.parallel import Progress

Call = tuple[Any, ...]  # a task, which returns bytes read and kept, and its arguments
Task = tuple[Callable[[], Call], Callable[[], bool]]  # how to call it; whether its parts are there
Names = list[dict[str, Any]]  # of parts


@dataclass(eq=False)
class PartTasks:
    """Runs tasks, and counts what they read and keep.

    Attributes
    ----------
    work : Work
    on_progress : callable
    remote : bool
        Tasks run elsewhere, so that several may be on their way.
    found : int
        Tasks so far that need not run.
    """

    work: Work
    on_progress: Progress
    remote: bool
    found: int = 0

    def there(self, names: Names) -> bool:
        """Return whether all parts are there, and are whole."""
        return all(self.work.parts.find(**name) is not None for name in names)

    def collect(self, **name: Any) -> Artifact:  # noqa: ANN401
        """Return a part that a task has kept."""
        self.work.steps.enter("collect")
        part = self.work.parts.require(**name)
        self.work.steps.add(bytes_read=part.table.nbytes)
        return part

    def run_each(
        self,
        phase: str,
        numbers: Sequence[int],
        call: Callable[[int], Call],
        names: Callable[[int], Names],
    ) -> None:
        """Run a task for each partition that keeps these parts, see `run`."""
        tasks = [
            (partial(call, number), partial(lambda one: self.there(names(one)), number))
            for number in numbers
        ]
        self.run(phase, tasks, len(tasks))

    def run(self, phase: str, tasks: Sequence[Task], at_once: int) -> None:
        """Run the tasks whose parts are not there; all parts are in the store afterwards.

        Parameters
        ----------
        phase : str
            What bar and report call them.
        tasks : sequence of Task
        at_once : int
            So many are on their way, where tasks run elsewhere.
        """
        executor, steps, done = self.work.executor, self.work.steps, 0
        executor.step = phase
        begun: deque[Any] = deque()

        def finish(left: int) -> None:
            nonlocal done
            while len(begun) > left:
                for read, kept in executor.gather([begun.popleft()]):
                    steps.add(bytes_read=read, bytes_kept=kept)
                    done += 1
                self.on_progress(phase, done, len(tasks))

        for call, there in tasks:
            if there():
                self.found += 1
                done += 1
                continue
            begun.append(executor.submit(*call()))
            finish(at_once if self.remote else 0)
        finish(0)
