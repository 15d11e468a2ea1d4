"""Forward message passing: rows gather difficulty from their neighbours."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.params import AUTO, PROBE, ScoreParams
from d2cli.stages.adjacency import Adjacency
from d2cli.stages.cutoff import prune_automatically, prune_hardest
from d2cli.stages.difficulty import Difficulty
from d2cli.stages.forward import Forward, receive_in_parts
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups, one_group
from d2cli.stages.kernel import bandwidth_value, edge_weights
from d2cli.stages.messages import messages_received
from d2cli.stages.ties import tie_order


class EmptyPoolError(ParameterError):
    """A cutoff that takes out every row."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Difficulty before and after the forward pass.

    Attributes
    ----------
    difficulty : float64 array, shape (n,)
        Higher is harder.
    score : float64 array, shape (n,)
        After the forward pass; equal to the difficulty outside the pool.
    pool : bool array, shape (n,)
        False for rows that ``prune_hardest`` took out.
    gamma_forward, bandwidth : float
        The numbers used.
    direction, shift
        See `d2cli.stages.difficulty.Difficulty`.
    cut_reason : str
        Why "auto" or "probe" took rows out or did not; empty for a given fraction.
    """

    difficulty: NDArray[np.float64]
    score: NDArray[np.float64]
    pool: NDArray[np.bool_]
    gamma_forward: float
    bandwidth: float
    direction: str
    shift: float
    cut_reason: str = ""

    @property
    def n_samples(self) -> int:
        """Rows, n."""
        return len(self.score)


def pass_forward(
    adjacency: Adjacency,
    difficulty: NDArray[np.float64],
    *,
    weigh: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    pool: NDArray[np.bool_],
    rounds: int = 1,
    neighbor_floor: float | None = None,
    forward: Forward | None = None,
) -> NDArray[np.float64]:
    """Add to each row the weighted difficulty of its neighbours.

    ``x_i = s_i + sum_j w_ij s_j`` over the neighbours j of i in ascending order, summed in float64
    and then added to ``s_i``; each further round takes the result as its s. A row without
    neighbours keeps its difficulty.

    Parameters
    ----------
    adjacency : Adjacency
        Undirected graph over n rows.
    difficulty : float64 array, shape (n,)
        Finite; higher is harder.
    weigh : callable
        Returns the weights of edges from their distances, float32 (e,).
    pool : bool array, shape (n,)
        Rows outside it neither send nor receive.
    rounds : int
        How often.
    neighbor_floor : float, optional
        A neighbour's difficulty counts as at least this; the row's own does not.
    forward : Forward, optional
        Sum the messages in parts, to the same bits.

    Returns
    -------
    float64 array, shape (n,)

    References
    ----------
    Maharana, Yadav, Bansal. D2 Pruning. ICLR 2024. arXiv:2310.07931, section 3.2.
    """
    receive: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    if forward is None:
        receive = partial(messages_received, adjacency, weigh, pool)
    else:
        receive = receive_in_parts(adjacency, weigh, pool, forward, rounds=rounds)
    score = difficulty
    for _ in range(rounds):
        sent = score if neighbor_floor is None else np.maximum(score, neighbor_floor)
        score = score + receive(sent)
    return score.copy() if score is difficulty else score


def score_rows(
    graph: KnnGraph,
    difficulty: Difficulty,
    params: ScoreParams,
    *,
    groups: Groups | None = None,
    available: NDArray[np.bool_] | None = None,
    forward: Forward | None = None,
) -> Scores:
    """Run the forward pass on a graph.

    Parameters
    ----------
    graph : KnnGraph
        Over n rows.
    difficulty : Difficulty
        Of the same rows.
    params : ScoreParams
    groups : Groups, optional
        What ``prune_hardest`` cuts within; the groups of the graph if left out.
    available : bool array, shape (n,), optional
        Rows outside it (a hold-out, say) are treated as if they were not there.
    forward : Forward, optional
        Sum the messages in parts, to the same bits.

    Returns
    -------
    Scores
        Rows outside the pool neither send nor receive.

    Raises
    ------
    InputError
        If the numbers of rows differ, or the sums overflow.
    ParameterError
        If nothing is left in the pool, or for "probe", which `d2cli.stages.held_out` resolves.
    """
    values = difficulty.values
    if len(values) != graph.n_samples:
        raise InputError(f"{len(values):,} difficulties for {graph.n_samples:,} rows of the graph")
    groups = groups or graph.groups or one_group(graph.n_samples)
    order = tie_order(graph.n_samples, params.ties, params.seed)
    reason = ""
    if params.prune_hardest == PROBE:
        raise ParameterError("prune-hardest probe needs vectors and labels")
    if params.prune_hardest == AUTO:
        pool, reason = prune_automatically(
            difficulty, params.rate, groups=groups, order=order, available=available
        )
    else:
        fraction = float(params.prune_hardest or 0.0)
        pool = prune_hardest(values, fraction, groups=groups, order=order, available=available)
    if not pool.any():
        raise EmptyPoolError(f"prune-hardest {params.prune_hardest} leaves no row")
    bandwidth = bandwidth_value(params.bandwidth, graph.distances)
    adjacency = graph.adjacency
    gamma = params.gamma_forward_value
    with np.errstate(over="ignore", invalid="ignore"):
        score = pass_forward(
            adjacency,
            values,
            weigh=partial(edge_weights, gamma=gamma, bandwidth=bandwidth, kernel=params.kernel),
            pool=pool,
            rounds=params.rounds,
            neighbor_floor=params.neighbor_floor,
            forward=forward,
        )
        # Reverse messages take away at most what forward ones can add, hence the room left here.
        largest = max(np.abs(score).max(), np.abs(values).max())
        most = largest * (2 + np.diff(adjacency.indptr).max(initial=0))
    if not np.isfinite(most):
        raise InputError(
            "difficulties so large that their sums overflow", hint="rescale the scores"
        )
    return Scores(
        difficulty=values,
        score=score,
        pool=pool,
        gamma_forward=gamma,
        bandwidth=bandwidth,
        direction=difficulty.direction,
        shift=difficulty.shift,
        cut_reason=reason,
    )
