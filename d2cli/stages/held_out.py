"""The cutoff that rows held out speak for: ``--prune-hardest probe``.

Cutting hard rows helps where they are mislabelled and hurts where they are merely hard. A probe
trained on the selections that several cutoffs lead to, and tested on rows that none could select,
tells the two apart; the labels of these rows may be as noisy as all others, which lowers all
figures alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.params import AUTO, PROBE, Auto, Method, ScoreParams
from d2cli.stages.comparison import Cell
from d2cli.stages.difficulty import Difficulty
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups
from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.probe import probe_linearly, quiet_probes, standardize
from d2cli.stages.score import EmptyPoolError, Scores, score_rows
from d2cli.stages.trials import Trials, trial_budget
from d2cli.stages.vectors import Vectors

CUTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
REPETITIONS = 3
MOST_TRAINED, MOST_TESTED = 20_000, 10_000  # rows a fit, drawn at random from more


@dataclass(frozen=True, eq=False)
class Tried:
    """A cutoff that was tried.

    Attributes
    ----------
    cut : float or "auto"
    removed : float
        Share of the rows that it takes out, 0 to 1.
    right : bool array, shape (t,)
        Which rows held out are predicted right, over all repetitions.
    """

    cut: float | Auto
    removed: float
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Cutoff:
    """A cutoff and why it was chosen, in one sentence."""

    prune_hardest: float | Auto
    reason: str


def settle_cutoff(
    trials: Trials,
    rate: float,
    *,
    seed: int = 0,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Cutoff:
    """Choose the smallest cutoff that is as good as the best on rows held out.

    Three times a fifth of every class is held out; for each cutoff D2 selects from the rest, and a
    linear probe trained on what it keeps predicts the given labels of the rows held out. "As good"
    is at most one standard error of the paired difference below the best; nothing is cut unless the
    best is better than no cut by more than two.

    Parameters
    ----------
    trials : Trials
        With labels; its test rows and ``prune_hardest`` are not used.
    rate : float
        Pruning rate, 0 to 1. Cutoffs that leave too few rows for it are not tried.
    seed : int
        Of what is held out.
    n_threads : int
        Does not change the result.
    on_progress : callable
        See `d2cli.stages.parallel`.

    Returns
    -------
    Cutoff
        One of ``CUTS``, or "auto" (tried where the difficulty is a margin).

    Raises
    ------
    ParameterError
        Without labels, or if scikit-learn is not installed.
    """
    if trials.labels is None:
        raise ParameterError("prune-hardest probe needs labels", hint="add --labels COLREF")
    cuts: list[float | Auto] = [cut for cut in CUTS if cut == 0 or cut < rate]
    if trials.difficulty.direction == "low":
        cuts.append(AUTO)
    results: dict[tuple[float | Auto, int], tuple[float, NDArray[np.bool_]] | None] = {}

    def attempt(cut: float | Auto, repetition: int) -> Iterator[int]:
        made = replace(trials.score_params, prune_hardest=cut)
        trial = replace(trials, score_params=made, test=None)
        results[cut, repetition] = _try(trial, rate, seed + repetition)
        yield 1

    jobs = [(cut, repetition) for repetition in range(REPETITIONS) for cut in cuts]
    with quiet_probes():
        run_tasks(
            [attempt(*job) for job in jobs],
            n_threads=n_threads,
            phase="trying cutoffs",
            total=len(jobs),
            on_progress=on_progress,
        )
    tried = []
    for cut in cuts:
        found = [result for r in range(REPETITIONS) if (result := results[cut, r]) is not None]
        if len(found) == REPETITIONS:
            removed = float(np.mean([share for share, _ in found]))
            tried.append(Tried(cut, removed, np.concatenate([right for _, right in found])))
    return smallest_as_good(tried)


def score_by_probe(
    graph: KnnGraph,
    difficulty: Difficulty,
    params: ScoreParams,
    *,
    vectors: Vectors,
    labels: Groups,
    groups: Groups | None = None,
    select_given: dict[str, Any] | None = None,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Scores:
    """Settle the cutoff, then run the forward pass with it.

    Parameters
    ----------
    graph, difficulty, params, groups
        See `d2cli.stages.score.score_rows`; ``params`` has a rate. The selections that are tried
        use its preset, kernel, bandwidth and ties, and budgets within ``groups``.
    vectors : float array, shape (n, d)
        What the probe sees.
    labels : Groups
        What it predicts.
    select_given : dict, optional
        Fields of `d2cli.params.SelectParams` for the selections that are tried, such as
        ``gamma_reverse``, ``messages`` and ``balance``.
    n_threads, on_progress
        See `d2cli.stages.parallel`.

    Raises
    ------
    ParameterError
        Without a rate, with one class only, or if scikit-learn is not installed.
    """
    if params.rate is None:
        raise ParameterError("prune-hardest probe needs a rate", hint="add --rate")
    if labels.n_groups < 2:
        raise ParameterError("prune-hardest probe needs labels of at least two classes")
    given = {"kernel": params.kernel, "bandwidth": params.bandwidth, "ties": params.ties}
    given |= select_given or {}
    trials = Trials(graph, difficulty, vectors, labels, None, groups, params, given, params.preset)
    cutoff = settle_cutoff(
        trials, params.rate, seed=params.seed, n_threads=n_threads, on_progress=on_progress
    )
    made = replace(params, prune_hardest=cutoff.prune_hardest)
    scores = score_rows(graph, difficulty, made, groups=groups)
    reason = "; ".join(part for part in (cutoff.reason, scores.cut_reason) if part)
    return replace(scores, cut_reason=reason)


class SettledTrials:
    """Trials whose cutoff, if left to the probe, is settled on the pool of each trial.

    That is done once a rate and seed, also where several threads ask for it.
    """

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._settled: dict[tuple[float, int], float | Auto] = {}
        self._locks: dict[tuple[float, int], Lock] = {}

    def run(self, method: Method, rate: float, seed: int) -> Cell:
        """Run a trial."""
        trials = self._trials
        if trials.score_params.prune_hardest == PROBE:
            cut = self._cutoff(rate, seed)
            trials = replace(trials, score_params=replace(trials.score_params, prune_hardest=cut))
        return trials.run(method, rate, seed)

    def _cutoff(self, rate: float, seed: int) -> float | Auto:
        with self._locks.setdefault((rate, seed), Lock()):
            if (rate, seed) not in self._settled:
                inside = replace(self._trials, available=self._trials.pool(seed), test=None)
                cutoff = settle_cutoff(inside, rate, seed=seed)
                self._settled[rate, seed] = cutoff.prune_hardest
            return self._settled[rate, seed]


def _try(trials: Trials, rate: float, seed: int) -> tuple[float, NDArray[np.bool_]] | None:
    """Return the share cut and the rows predicted right; None if too few rows are left."""
    assert trials.labels is not None
    pool = trials.pool(seed)
    if not trials.held_out(pool).any():
        raise ParameterError(
            "prune-hardest probe finds no class with two rows, to hold one out",
            hint="name the labels that matter with --labels, or give a fraction",
        )
    try:
        scores = trials.score(rate, seed, pool)
    except EmptyPoolError:
        return None
    left = int(scores.pool.sum())
    if left < trial_budget(rate, int(pool.sum())):
        return None
    kept = np.flatnonzero(trials.select("d2", rate, seed, pool, scores))
    tested = np.flatnonzero(trials.held_out(pool))
    rng = np.random.default_rng([seed, 2])
    kept = rng.permutation(kept)[:MOST_TRAINED]
    tested = np.random.default_rng([seed, 3]).permutation(tested)[:MOST_TESTED]
    codes = trials.labels.codes
    train, points = standardize(trials.vectors[kept], trials.vectors[tested])
    return 1 - left / int(pool.sum()), probe_linearly(train, codes[kept], points) == codes[tested]


def smallest_as_good(tried: list[Tried]) -> Cutoff:
    """Choose the cutoff that removes least among those within one standard error of the best.

    That is the first one, if the best is not better than it by more than two standard errors.
    """
    best = max(tried, key=lambda one: (one.right.mean(), -one.removed))
    chosen = tried[0]
    if _is_behind(chosen, best, errors=2):
        as_good = [one for one in tried if not _is_behind(one, best, errors=1)]
        chosen = min(as_good, key=lambda one: one.removed)
    figures = ", ".join(
        f"{100 * one.right.mean():.1f} % right with {_name(one)}"
        for one in dict.fromkeys((chosen, best, tried[0]))
    )
    return Cutoff(chosen.cut, f"{_name(chosen)} cut: of the rows held out {figures}")


def _is_behind(one: Tried, best: Tried, *, errors: float) -> bool:
    """Return whether the mean paired difference is larger than some standard errors."""
    behind = best.right.astype(np.int8) - one.right
    return bool(behind.mean() > errors * behind.std(ddof=1) / np.sqrt(len(behind)))


def _name(tried: Tried) -> str:
    return f"{100 * tried.removed:.0f} %" + (" (auto)" if tried.cut == AUTO else "")
