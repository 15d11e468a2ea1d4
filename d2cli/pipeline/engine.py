"""Where a stage runs: in this process, whole or in parts, or as tasks on a Ray cluster."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2cli.errors import ParameterError
from d2cli.files.parts import Parts, open_store
from d2cli.pipeline.run import Run, open_cache_folder
from d2cli.stages.executor import Executor, Handle, InProcess
from d2cli.stages.parts import check_partitions

LEAST_ROWS = 50_000  # of a partition that nobody asked for: about a second of work


@dataclass(frozen=True, kw_only=True)
class EngineParams:
    """Where a stage runs; does not change its result.

    Attributes
    ----------
    engine : {"local", "ray"}
    address : str or None
        Of a Ray cluster; None starts one on this machine.
    partitions : int or None
        Parts of the rows. None is one for each CPU of a cluster; in this process, no parts: the
        loop over all rows.
    store : str or None
        Folder or address of one for results of tasks; None is the cache folder.
    """

    engine: str = "local"
    address: str | None = None
    partitions: int | None = None
    store: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ParameterError(f"engine is '{self.engine}', expected local or ray")
        if self.address is not None and self.engine != "ray":
            raise ParameterError(
                "--address is only used by --engine ray", hint="leave it out, or add --engine ray"
            )
        if self.partitions is not None and self.partitions < 1:
            raise ParameterError(f"partitions is {self.partitions}, expected at least 1")
        if self.store is not None and not self.in_parts:
            raise ParameterError(
                "--store is only used where a stage runs in parts",
                hint="leave it out, or add --engine ray or --partitions",
            )

    @property
    def in_parts(self) -> bool:
        """Whether rows are divided into parts."""
        return self.engine == "ray" or self.partitions is not None

    def check(self, n_rows: int) -> None:
        """Refuse more parts than rows."""
        if self.partitions is not None:
            check_partitions(n_rows, self.partitions)


LOCAL = EngineParams()


class Counting:
    """An executor that counts what another one does: tasks, bytes of arrays both ways."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.tasks, self.moved = 0, 0

    def put(self, value: Any) -> Handle:  # noqa: ANN401
        """Keep a value."""
        self.moved += array_bytes(value)
        return self._executor.put(value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:  # noqa: ANN401
        """Begin a task."""
        self.tasks += 1
        self.moved += array_bytes(arguments)
        return self._executor.submit(function, *arguments)

    def go_on(
        self,
        function: Callable[..., Any],
        *arguments: Any,  # noqa: ANN401
        anew: Callable[[], tuple[Any, ...]],
    ) -> Handle:
        """Begin a task that leaves something, which is not moved, for the next one."""
        self.tasks += 1
        self.moved += array_bytes(arguments)

        def counted() -> tuple[Any, ...]:
            again = anew()
            self.moved += array_bytes(again)
            return again

        return self._executor.go_on(function, *arguments, anew=counted)

    def gather(self, tasks: Sequence[Handle]) -> Iterator[Any]:
        """Yield results."""
        for result in self._executor.gather(tasks):
            self.moved += array_bytes(result)
            yield result


def array_bytes(value: Any) -> int:  # noqa: ANN401
    """Return the bytes of all arrays in a value: an array, a dataclass, a tuple or a list."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, tuple | list):
        return sum(array_bytes(part) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(array_bytes(part) for part in vars(value).values())
    return 0


@dataclass(frozen=True, eq=False)
class Work:
    """What a stage in parts has at hand.

    Attributes
    ----------
    executor : Counting
    partitions : int
    parts : Parts
        The results that there are already.
    told : dict
        What the report says of the stage; the stage adds to it.
    """

    executor: Counting
    partitions: int
    parts: Parts
    told: dict[str, Any]


@contextlib.contextmanager
def working(
    run: Run, params: EngineParams, key: str, n_rows: int, cache_dir: str | None
) -> Iterator[Work]:
    """Open an engine and a store for a stage in parts; what was done goes to ``run.told``.

    Parameters
    ----------
    run : Run
    params : EngineParams
        With ``in_parts``.
    key : str
        Of the stage's result.
    n_rows : int
    cache_dir : str, optional
        The cache folder, where no store is named.
    """
    if params.store is not None:
        store: Any = open_store(params.store)
    else:
        store = open_cache_folder(run, cache_dir)
    start, ray = time.perf_counter(), None
    with contextlib.ExitStack() as stack:
        executor: Executor = InProcess()
        processors = 1
        if params.engine == "ray":
            from d2cli.pipeline.cluster import on_cluster

            executor = ray = stack.enter_context(on_cluster(params.address, run.n_threads))
            processors = ray.processors
        most = max(min(processors, n_rows // LEAST_ROWS), 1)
        counting = Counting(executor)
        opened = time.perf_counter()
        work = Work(
            counting,
            params.partitions or most,
            Parts(store, key, fresh=run.force, note=run.note),
            {},
        )
        yield work
        run.told.update(
            engine=params.engine,
            partitions=work.partitions,
            tasks=counting.tasks,
            bytes_moved=counting.moved if ray is not None else 0,
            retries=ray.retries if ray is not None else 0,
            seconds_to_connect=round(opened - start, 3),
            **work.told,
        )
