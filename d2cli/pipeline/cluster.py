"""Tasks on a Ray cluster; the only importer of Ray.

A task that is lost with its worker or its node is begun again; what all tasks share stays with the
process that began them.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from d2cli.errors import ParameterError, ResourceError
from d2cli.files.artifacts import library_versions
from d2cli.stages.executor import Begun, Handle

ATTEMPTS = 4  # of a task, before its loss is no accident
CONNECT_SECONDS = 5.0


def _import_ray() -> Any:  # noqa: ANN401
    # What Ray counts and reports is the user's to switch on.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
            import ray.exceptions
            import ray.util.scheduling_strategies
    except ImportError as error:
        raise ParameterError(
            f"--engine ray needs Ray, which cannot be imported: {error}",
            hint="pip install 'd2cli[ray]', here and on all nodes",
        ) from error
    return ray


@dataclass(eq=False)
class _Task(Begun):
    """A task that runs somewhere, and all that it takes to begin it again."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    reference: Any
    left: Any = None  # of a task that leaves something, a reference to it
    anew: Callable[[], tuple[Any, ...]] | None = None
    attempts: int = 1


class RayExecutor:
    """Runs tasks on the cluster that Ray is connected to.

    Attributes
    ----------
    retries : int
        Tasks that were begun again because their worker or node was lost.
    """

    def __init__(self, ray: Any) -> None:  # noqa: ANN401
        self._ray = ray
        self._remote: dict[tuple[Callable[..., Any], int], Any] = {}
        self.retries = 0

    def put(self, value: Any) -> Handle:  # noqa: ANN401
        """Put a value into the object store; arrays of it are read there without a copy."""
        with self._answering():
            return self._ray.put(value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:  # noqa: ANN401
        """Begin a task."""
        return _Task(function, arguments, self._begin(function, arguments))

    def go_on(
        self,
        function: Callable[..., Any],
        *arguments: Any,  # noqa: ANN401
        anew: Callable[[], tuple[Any, ...]],
    ) -> Handle:
        """Begin a task that leaves something for the next one in the object store of its node."""
        held = tuple(a.left if isinstance(a, _Task) else a for a in arguments)
        left, reference = self._begin(function, held, 2)
        return _Task(function, held, reference, left, anew)

    def gather(self, tasks: Sequence[Handle]) -> Iterator[Any]:
        """Yield the results of tasks in their order.

        Raises
        ------
        ResourceError
            If a task is lost again and again, or the cluster is.
        """
        for task in tasks:
            yield self._result(task)

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:  # noqa: ANN401
        """Return the results of a task that runs once on every node with a CPU."""
        nodes = [
            node["NodeID"]
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        ]
        at = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        remote = self._ray.remote(function)
        # Soft: a node may be lost meanwhile.
        tasks = [
            remote.options(scheduling_strategy=at(node, soft=True)).remote(*arguments)
            for node in nodes
        ]
        with self._answering():
            return list(self._ray.get(tasks))

    def _begin(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], n_returns: int = 1
    ) -> Any:  # noqa: ANN401
        with self._answering():
            if (function, n_returns) not in self._remote:
                # Lost tasks are begun again here, where they are counted.
                remote = self._ray.remote(max_retries=0, num_returns=n_returns)
                self._remote[function, n_returns] = remote(function)
            return self._remote[function, n_returns].remote(*arguments)

    def _result(self, task: _Task) -> Any:  # noqa: ANN401
        errors = self._ray.exceptions
        while True:
            try:
                with self._answering():
                    return self._ray.get(task.reference)
            except errors.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except errors.RayError as error:
                if task.attempts == ATTEMPTS:
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    raise ResourceError(
                        f"a task was lost {ATTEMPTS} times with its worker or node: {reason}",
                        hint="look at the memory of the nodes, or use more --partitions; the next "
                        "run goes on where this one ended",
                    ) from error
            task.attempts += 1
            self.retries += 1
            if task.anew is None:
                task.reference = self._begin(task.function, task.arguments)
            else:  # what the task before has left may be lost as well
                task.arguments = task.anew()
                task.left, task.reference = self._begin(task.function, task.arguments, 2)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, self._ray.exceptions.RaySystemError) as error:
            raise ResourceError(
                "the Ray cluster does not answer any more",
                hint="the next run goes on where this one ended",
            ) from error

    @property
    def processors(self) -> int:
        """CPUs of all nodes, at least 1."""
        return max(int(self._ray.cluster_resources().get("CPU", 1)), 1)


@contextlib.contextmanager
def on_cluster(address: str | None, n_threads: int) -> Iterator[RayExecutor]:
    """Connect to a cluster, or start one on this machine, and leave or stop it at the end.

    Parameters
    ----------
    address : str, optional
        "auto", ``ray://host:port`` or ``host:port``. Left out, a cluster is started.
    n_threads : int
        CPUs of a cluster that is started.

    Raises
    ------
    ParameterError
        Without Ray, or if the cluster has another version of d2.
    ResourceError
        If the cluster cannot be reached or started.
    """
    ray = _import_ray()
    if address not in (None, "auto"):
        _check_reachable(str(address))
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # Ray tells of lost nodes on standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr):
        _connect(ray, address, n_threads)
        try:
            executor = RayExecutor(ray)
            _check_versions(executor)
            yield executor
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.shutdown()


def _connect(ray: Any, address: str | None, n_threads: int) -> None:  # noqa: ANN401
    """Connect to a cluster, or start one of so many CPUs in this machine."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            more = (
                {} if address is not None else {"num_cpus": n_threads, "include_dashboard": False}
            )
            ray.init(
                address=address or "local",
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.CRITICAL,
                **more,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError, AssertionError) as error:
        what = "no Ray cluster can be started" if address is None else "no Ray cluster answers"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResourceError(
            f"{address or 'this machine'}: {what}: {reason}",
            hint="see `ray status`, or leave out --address for a cluster on this machine",
        ) from error
    finally:
        # Ray takes SIGTERM for itself; it is the command's to answer.
        with contextlib.suppress(ValueError):  # on another thread, where none was taken
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _check_reachable(address: str) -> None:
    """Ask for a connection, since Ray waits for minutes where there is nobody."""
    if address.startswith("ray://"):
        try:
            import grpc  # noqa: F401 - Ray's client needs it, and finds out late
        except ImportError as error:
            raise ParameterError(
                f"{address}: needs Ray's client, which cannot be imported: {error}",
                hint="pip install 'ray[client]', or run d2 on a node and use --address auto",
            ) from error
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ParameterError(f"address is '{address}', expected auto, ray://host:port or host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ResourceError(
            f"{address}: no Ray cluster answers: {error.strerror or error}",
            hint="see `ray status`, or leave out --address for a cluster on this machine",
        ) from error


def _check_versions(executor: RayExecutor) -> None:
    """Refuse a cluster whose workers have no d2, or compute with other versions."""
    try:
        (found,) = executor.gather([executor.submit(library_versions)])
    except (ImportError, RuntimeError) as error:  # Ray tells of a failed import in its own words
        lines = [line for line in str(error).splitlines() if "No module named" in line]
        if not lines:
            raise
        raise ParameterError(
            f"the cluster's workers have no d2: {lines[-1]}",
            hint="install the same version of d2 on all nodes",
        ) from error
    ours = library_versions()
    for name in ("d2cli", "numpy"):
        if found.get(name) != ours[name]:
            raise ParameterError(
                f"the cluster's workers have {name} {found.get(name)}, this is {ours[name]}",
                hint="install the same versions on all nodes",
            )
