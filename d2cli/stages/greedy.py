"""The compiled greedy loop, set up for a task."""

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._messages import GreedyPicks
from d2cli.stages.methods import Task


def greedy_picks(task: Task, score: NDArray[np.float64], clamped: bool) -> GreedyPicks:
    """Return the loop before its first pick; it asks for weights as it goes.

    Parameters
    ----------
    task : Task
        Its limit on changes counts, if it has one.
    score : float64 array, shape (n,)
        Of all rows, before any reverse message.
    clamped : bool
        Picks below 0 send nothing.
    """
    around, limit = task.graph.adjacency, task.limit
    return GreedyPicks(
        around.indptr,
        around.indices,
        score,
        task.order,
        task.candidate.astype(np.uint8),
        task.included,
        task.groups.codes,
        np.array(task.budgets, dtype=np.int64),
        clamped,
        *(() if limit is None else limit.arrays()),
    )
