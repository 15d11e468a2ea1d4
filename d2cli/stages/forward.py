"""Forward messages on parts of the graph: the same sums as all at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.adjacency import Adjacency
from d2cli.stages.executor import Executor
from d2cli.stages.messages import messages_received
from d2cli.stages.parallel import Progress, no_progress

Weigh = Callable[[NDArray[np.float32]], NDArray[np.float64]]
# Of a pass (from 0) and the rows from a first to before a last one: what they receive.
Find = Callable[[int, int, int], "NDArray[np.float64] | None"]
Record = Callable[[int, int, int, NDArray[np.float64]], None]


def find_nothing(at: int, start: int, stop: int) -> None:
    """Find nothing."""


def record_nothing(at: int, start: int, stop: int, received: NDArray[np.float64]) -> None:
    """Record nothing."""


@dataclass(frozen=True, eq=False)
class Forward:
    """How forward messages are summed: by tasks, each for a part of consecutive rows.

    Attributes
    ----------
    parts : int array, shape (n,)
        The part of each row, ascending; does not change results.
    executor : Executor
    find : callable
        Returns what the rows of a part receive where an earlier run has summed it, else None.
    record : callable
        Called with what the rows of a part receive, before it counts.
    on_progress : callable
        Called with ("scoring", rows done, rows of all passes).
    """

    parts: NDArray[np.integer]
    executor: Executor
    find: Find = field(default=find_nothing)
    record: Record = field(default=record_nothing)
    on_progress: Progress = no_progress


@dataclass(frozen=True, eq=False)
class Receivers:
    """Rows with their edges, and all that their messages depend on but what is sent.

    Attributes
    ----------
    adjacency : Adjacency
        Of m rows; its indices are places in a list of senders that begins with these rows.
    pool : bool array, shape (m + h,)
        Of these senders.
    weigh : callable
        See `d2cli.stages.score.pass_forward`.
    """

    adjacency: Adjacency
    pool: NDArray[np.bool_]
    weigh: Weigh


def sum_received(part: Receivers, sent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the messages that each row of a part gets, (m,).

    Neighbours are added in the order of the whole graph, so the sums are the same to the bit.
    """
    return messages_received(part.adjacency, part.weigh, part.pool, sent)


def receive_in_parts(
    adjacency: Adjacency, weigh: Weigh, pool: NDArray[np.bool_], forward: Forward, *, rounds: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return what sums a pass of messages after the other.

    Parameters
    ----------
    adjacency, weigh, pool, rounds
        See `d2cli.stages.score.pass_forward`.
    forward : Forward

    Returns
    -------
    callable
        Takes what each row sends, float64 (n,), and returns what each receives; it is called once
        for every pass.
    """
    n, executor = adjacency.n_samples, forward.executor
    bounds = [0, *(np.flatnonzero(np.diff(forward.parts)) + 1).tolist(), n]
    ranges = list(pairwise(bounds))
    held: dict[int, tuple[NDArray[np.int64], object]] = {}
    passes = 0

    def hold(start: int, stop: int) -> tuple[NDArray[np.int64], object]:
        """Put a part where tasks find it, when it is first needed; return its senders, too."""
        if start not in held:
            ends = adjacency.indptr[start : stop + 1]
            edges = slice(ends[0], ends[-1])
            marked = np.zeros(n, dtype=np.bool_)
            marked[adjacency.indices[edges]] = True
            marked[start:stop] = False
            senders = np.concatenate([np.arange(start, stop), np.flatnonzero(marked)])
            local = np.empty(n, dtype=np.int32)
            local[senders] = np.arange(len(senders), dtype=np.int32)
            own = Adjacency(
                ends - ends[0], local[adjacency.indices[edges]], adjacency.distances[edges]
            )
            held[start] = senders, executor.put(Receivers(own, pool[senders], weigh))
        return held[start]

    def receive(sent: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal passes
        received, tasks, missing = np.empty(n), [], []
        for start, stop in ranges:
            known = forward.find(passes, start, stop)
            if known is not None:
                received[start:stop] = known
            else:
                senders, part = hold(start, stop)
                tasks.append(executor.submit(sum_received, part, sent[senders]))
                missing.append((start, stop))
        done = n - sum(stop - start for start, stop in missing)
        for (start, stop), sums in zip(missing, executor.gather(tasks), strict=True):
            forward.record(passes, start, stop, sums)
            received[start:stop] = sums
            done += stop - start
            forward.on_progress("scoring", passes * n + done, rounds * n)
        passes += 1
        return received

    return receive
