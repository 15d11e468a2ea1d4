"""Where a stage runs: in this process, whole or in parts, or as tasks on a Ray cluster."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from d2cli.errors import ParameterError
from d2cli.files.parts import Parts, open_store
from d2cli.pipeline.run import Run, open_cache_folder
from d2cli.pipeline.steps import Counting, Steps
from d2cli.stages.executor import Executor, InProcess
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


@dataclass(frozen=True, eq=False)
class Work:
    """What a stage in parts has at hand.

    Attributes
    ----------
    executor : Counting
    steps : Steps
    partitions : int
    parts : Parts
        The results that there are already.
    told : dict
        What the report says of the stage; the stage adds to it.
    """

    executor: Counting
    steps: Steps
    partitions: int
    parts: Parts
    told: dict[str, Any]


@contextlib.contextmanager
def working(
    run: Run,
    params: EngineParams,
    key: str,
    n_rows: int,
    cache_dir: str | None,
    first: str = "divide",
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
    first : str
        The step that begins once the engine is there.
    """
    if params.store is not None:
        store: Any = open_store(params.store)
    else:
        store = open_cache_folder(run, cache_dir)
    steps = Steps("connect" if params.engine == "ray" else first)
    with contextlib.ExitStack() as stack:
        executor: Executor = InProcess()
        processors = 1
        if params.engine == "ray":
            from d2cli.pipeline.cluster import on_cluster

            ray = stack.enter_context(on_cluster(params.address, run.n_threads))
            executor, processors = ray, ray.processors
        most = max(min(processors, n_rows // LEAST_ROWS), 1)
        steps.enter(first)
        work = Work(
            Counting(executor, steps, moves=params.engine == "ray"),
            steps,
            params.partitions or most,
            Parts(store, key, fresh=run.force, note=run.note),
            {},
        )
        yield work
        run.told.update(
            engine=params.engine,
            partitions=work.partitions,
            tasks=steps.total("tasks"),
            bytes_moved=steps.total("bytes_sent", "bytes_received"),
            retries=steps.total("retries"),
            steps=steps.done(),
            **work.told,
        )
