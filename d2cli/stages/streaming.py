"""One pass over a stream of rows: a coreset of fixed size, improved window by window.

Candidates are the coreset and the next window. Graph, forward messages and reverse messages among
them decide who stays, but the candidates are thinner than the data, and thinned unevenly: taken
alone, their neighbours lie too far away. Three things are therefore remembered of every kept row:

- the distances to the k nearest rows that it has *met*, dropped ones too, and how many it has met.
  Of n rows seen, the k-th nearest is estimated by the (k met / n)-th nearest of those met; that is
  the row's *radius*. Only candidates within the radius of one of the two are neighbours of all the
  data, and only they get reverse messages: the k nearest candidates would suppress each other
  over distances at which the offline selection keeps both, and the budget would be filled with
  outliers instead;
- the mean, over the windows it was a candidate in, of its forward sum in units of the median of
  the window: dropped neighbours keep counting. It is drawn towards the mean of all candidates, the
  more so the fewer rows were met: of many new rows those are largest that were merely lucky, and
  once kept they would stay. Without this memory CLINC150 loses 1.5 points of a probe's accuracy at
  90 % removed, with it 0.1 (``tests/study``).

With all rows in the first window every radius is the distance to the k-th neighbour and every mean
is of one value: the selection is the offline one. Memory is O((budget + window) (d + k)).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.params import AUTO, Direction, GraphParams, ScoreParams, SelectParams
from d2cli.stages.cutoff import prune_automatically, prune_hardest
from d2cli.stages.difficulty import Difficulty
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import one_group
from d2cli.stages.kernel import bandwidth_value
from d2cli.stages.radii import estimate_radius, merge_met, scale_to, within_radius
from d2cli.stages.sample import Sample, lots
from d2cli.stages.score import Scores, score_rows
from d2cli.stages.selection import Wishes, select_coreset
from d2cli.stages.ties import tie_order
from d2cli.stages.vectors import Vectors

SAMPLED = 16_384  # difficulties that tell what is among the hardest; at least a window of them
PRIOR = 2.0  # windows; 0, 1 and 2 lose 0.45, 0.51 and 0.07 points on CLINC150 (five orders)
NOWHERE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class StreamParams:
    """What a stream is selected by.

    Attributes
    ----------
    graph : GraphParams
    score : ScoreParams
        Without a rate; ``prune_hardest`` is a number or "auto".
    select : SelectParams
        With the budget as ``keep``.
    window : int
        Rows that are looked at together with the coreset.
    direction : {"high", "low"} or None
        Which values are harder; None for the uniform difficulty.
    """

    graph: GraphParams
    score: ScoreParams
    select: SelectParams
    window: int
    direction: Direction | None

    @property
    def budget(self) -> int:
        """Rows to keep."""
        assert self.select.keep is not None
        return self.select.keep


@dataclass(frozen=True, eq=False)
class Coreset:
    """The rows kept so far, ascending by number, and what is known of them and of the stream.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        Numbers in the stream.
    vectors : array, shape (m, d)
        As `d2cli.stages.vectors.as_vectors` returns them.
    values : float64 array, shape (m,)
        Scores as they were read.
    near : float32 array, shape (m, k)
        Distances to the k nearest rows met, ascending; infinity where fewer were met.
    met : int64 array, shape (m,)
        Rows met, the row itself among them.
    sums : float64 array, shape (m,)
        Forward sums in units of their median, added up over the windows.
    windows : int64 array, shape (m,)
        Windows that the row was a candidate in.
    rank, difficulty, score, score_at_pick : int64 and float64 arrays, shape (m,)
        Of the last selection.
    sample : Sample
        Of all scores seen.
    lowest, highest : float
        Of all scores seen.
    n_seen, n_windows, admitted, evicted, peak_rows : int
        Rows and windows seen; rows of a window taken in, rows dropped again, most candidates.
    gamma_forward, gamma_reverse, bandwidth : float
        The numbers last used; the bandwidth is that of reverse messages.
    cut : int
        Rows of the last candidates that the cutoff took out.
    """

    rows: NDArray[np.int64]
    vectors: Vectors
    values: NDArray[np.float64]
    near: NDArray[np.float32]
    met: NDArray[np.int64]
    sums: NDArray[np.float64]
    windows: NDArray[np.int64]
    rank: NDArray[np.int64]
    difficulty: NDArray[np.float64]
    score: NDArray[np.float64]
    score_at_pick: NDArray[np.float64]
    sample: Sample
    lowest: float = math.inf
    highest: float = -math.inf
    n_seen: int = 0
    n_windows: int = 0
    admitted: int = 0
    evicted: int = 0
    peak_rows: int = 0
    gamma_forward: float = 0.0
    gamma_reverse: float = 0.0
    bandwidth: float = 0.0
    cut: int = 0

    def __len__(self) -> int:
        return len(self.rows)


def empty_coreset(width: int, kind: type[np.float32 | np.float64], params: StreamParams) -> Coreset:
    """Return the coreset before the first row of vectors of a width and type."""
    none, zero = np.empty(0), np.empty(0, dtype=np.int64)
    vectors: Vectors = np.empty((0, width), dtype=np.float32)
    if kind is np.float64:
        vectors = np.empty((0, width), dtype=np.float64)
    return Coreset(
        rows=zero,
        vectors=vectors,
        values=none,
        near=np.empty((0, params.graph.n_neighbors), dtype=np.float32),
        met=zero,
        sums=none,
        windows=zero,
        rank=zero,
        difficulty=none,
        score=none,
        score_at_pick=none,
        sample=Sample.empty(max(SAMPLED, params.window), params.score.seed),
    )


def absorb(
    coreset: Coreset,
    vectors: Vectors,
    values: NDArray[np.float64],
    params: StreamParams,
    *,
    include: NDArray[np.int64] = NOWHERE,
    n_threads: int = 1,
) -> tuple[Coreset, NDArray[np.int64]]:
    """Select among the coreset and the next window.

    The gammas follow the rate so far, ``1 - budget / rows seen``, as "auto" does offline.

    Parameters
    ----------
    coreset : Coreset
    vectors : array, shape (w, d)
        The window, as `d2cli.stages.vectors.as_vectors` returns it.
    values : float64 array, shape (w,)
        Finite scores; anything for the uniform difficulty.
    params : StreamParams
    include : int64 array
        Candidates that have to stay, in the order of their ranks: places in coreset and window,
        one after the other. At most the budget.
    n_threads : int
        Does not change the result.

    Returns
    -------
    coreset : Coreset
    taken : int64 array, ascending
        Places of its rows in the old coreset and the window, one after the other.

    Raises
    ------
    InputError
        If the range of the difficulties overflows, or rows cannot be told apart.
    """
    m, w = len(coreset), len(vectors)
    n_seen = coreset.n_seen + w
    rate = max(0.0, 1 - params.budget / n_seen)
    new_rows = np.arange(coreset.n_seen, n_seen)
    rows = np.concatenate([coreset.rows, new_rows])
    every = np.concatenate([coreset.vectors, vectors])
    raw = np.concatenate([coreset.values, values])
    sample = coreset.sample.add(new_rows, values)
    lowest = min(coreset.lowest, float(values.min()))
    highest = max(coreset.highest, float(values.max()))

    def turned(some: NDArray[np.float64]) -> Difficulty:
        return _turned(some, params, lowest, highest)

    difficulty, keep = turned(raw), min(params.budget, len(rows))
    pool = _pool(difficulty.values, rows, sample, turned(sample.values), rate, keep, n_seen, params)
    graph = build_graph(every, params.graph, n_threads=n_threads)
    scoring = replace(params.score, rate=rate, prune_hardest=0.0)
    scores = score_rows(graph, difficulty, scoring, available=pool)
    near = np.concatenate([merge_met(coreset.near, graph, m), graph.distances[m:]])
    met = np.concatenate([coreset.met + w, np.full(w, len(rows))])
    sums = np.concatenate([coreset.sums, np.zeros(w)])
    windows = np.concatenate([coreset.windows, np.zeros(w, dtype=np.int64)])
    scores, sums, windows = steady(scores, sums, windows, met / n_seen)
    radius = estimate_radius(near, met / n_seen)
    at_scale = scale_to(near, radius)
    reverse = replace(
        params.select,
        keep=keep,
        gamma_reverse=replace(params.select, keep=None, rate=rate).gamma_reverse_value(n_seen),
        bandwidth=bandwidth_value(params.select.bandwidth, at_scale),
    )
    picked = select_coreset(
        within_radius(graph, radius), scores, reverse, wishes=Wishes(include, NOWHERE)
    )
    rank = np.argsort(picked.rows)
    taken = picked.rows[rank]
    held = int(np.count_nonzero(taken < m))
    kept = Coreset(
        rows=rows[taken],
        vectors=every[taken],
        values=raw[taken],
        near=near[taken],
        met=met[taken],
        sums=sums[taken],
        windows=windows[taken],
        rank=rank,
        difficulty=difficulty.values[taken],
        score=scores.score[taken],
        score_at_pick=picked.scores[rank],
        sample=sample,
        lowest=lowest,
        highest=highest,
        n_seen=n_seen,
        n_windows=coreset.n_windows + 1,
        admitted=coreset.admitted + len(taken) - held,
        evicted=coreset.evicted + m - held,
        peak_rows=max(coreset.peak_rows, len(rows)),
        gamma_forward=scores.gamma_forward,
        gamma_reverse=picked.gamma_reverse,
        bandwidth=picked.bandwidth,
        cut=len(rows) - int(pool.sum()),
    )
    return kept, taken


def _turned(
    values: NDArray[np.float64], params: StreamParams, lowest: float, highest: float
) -> Difficulty:
    """Turn scores as `d2cli.stages.difficulty.orient` would turn all that were seen."""
    if params.direction is None:
        return Difficulty(np.ones(len(values)), "uniform", 0.0)
    with np.errstate(over="ignore"):  # refused below
        if params.direction == "low":
            turned = Difficulty(highest - values, "low", highest)
        else:
            least = min(lowest, 0.0) if params.score.shift else 0.0
            turned = Difficulty(values - least, "high", 0.0 - least)
    if not np.isfinite(turned.values).all():
        raise InputError("the range of the values overflows float64", hint="rescale the scores")
    return turned


def _pool(
    difficulty: NDArray[np.float64],
    rows: NDArray[np.int64],
    sample: Sample,
    sampled: Difficulty,
    rate: float,
    keep: int,
    n_seen: int,
    params: StreamParams,
) -> NDArray[np.bool_]:
    """Return which candidates are not among the hardest rows of the stream so far.

    The cutoff is made on the sample. While that holds every row seen, the candidates' own fate in
    it counts; later, candidates harder than the easiest row cut go, and of those equally hard the
    same share, by lot. The easiest of them come back where the budget would not be filled.
    """
    order = tie_order(len(sample.rows), params.score.ties, params.score.seed)
    everyone = one_group(len(sample.rows))
    if params.score.prune_hardest == AUTO:
        left, _ = prune_automatically(sampled, rate, groups=everyone, order=order)
    else:
        fraction = float(params.score.prune_hardest or 0.0)
        left = prune_hardest(sampled.values, fraction, groups=everyone, order=order)
    if len(sample.rows) == n_seen:
        pool: NDArray[np.bool_] = left[rows]
    elif left.all():
        pool = np.ones(len(rows), dtype=np.bool_)
    else:
        limit = sampled.values[~left].min()
        equal = sampled.values == limit
        share = np.count_nonzero(equal & ~left) / np.count_nonzero(equal)
        drawn = lots(rows, params.score.seed) >= np.uint64(min(int(share * 2.0**64), 2**64 - 1))
        pool = (difficulty < limit) | ((difficulty == limit) & drawn)
    lacking = keep - int(pool.sum())
    if lacking > 0:
        cut = np.flatnonzero(~pool)
        pool[cut[np.argsort(difficulty[cut], kind="stable")[:lacking]]] = True
    return pool


def steady(
    scores: Scores,
    sums: NDArray[np.float64],
    windows: NDArray[np.int64],
    share: NDArray[np.float64],
) -> tuple[Scores, NDArray[np.float64], NDArray[np.int64]]:
    """Replace each row's forward sum by its mean over all windows, at the scale of this one.

    ``PRIOR`` windows with the mean sum of all candidates count as well, times the share of the rows
    seen that the row has not met. Rows outside the pool get no messages, and keep what they had.
    """
    gathered = scores.score - scores.difficulty
    usual = float(np.median(gathered[scores.pool]))
    if not usual > 0:  # no messages here, or no difficulty: nothing to measure sums in
        return scores, sums, windows
    sums = np.where(scores.pool, sums + gathered / usual, sums)
    windows = windows + scores.pool
    prior = PRIOR * (1 - share)
    several = scores.pool & (windows + prior > 1)
    expected = float(gathered[scores.pool].mean())
    mean = (usual * sums + prior * expected) / np.maximum(windows + prior, 1)
    score = np.where(several, scores.difficulty + mean, scores.score)
    return replace(scores, score=score), sums, windows
