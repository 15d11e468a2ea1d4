"""The sum of the messages that rows get from their neighbours."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._messages import sum_messages
from d2cli.stages.adjacency import Adjacency

EDGES_AT_ONCE = 1 << 20  # weighed


def messages_received(
    adjacency: Adjacency,
    weigh: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    pool: NDArray[np.bool_],
    sent: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the sum of the messages that each row gets, (n,).

    Weights are made and forgotten piece by piece: all of them are more than the graph itself.
    """
    received = np.empty(adjacency.n_samples)
    indptr, everyone = adjacency.indptr, bool(pool.all())
    for rows in adjacency.pieces(EDGES_AT_ONCE):
        ends = indptr[rows.start : rows.stop + 1]
        edges = slice(ends[0], ends[-1])
        weights, senders = weigh(adjacency.distances[edges]), adjacency.indices[edges]
        if not everyone:
            weights *= np.repeat(pool[rows], np.diff(ends)) & pool[senders]
        received[rows] = sum_messages(ends - ends[0], senders, weights, sent)
    return received
