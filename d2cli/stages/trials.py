"""Trials of a comparison: select from a pool of rows, train on what is kept, test on others."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.params import AUTO, Method, ScoreParams, SelectParams, rows_kept
from d2cli.stages.comparison import Cell, describe
from d2cli.stages.difficulty import Difficulty
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups
from d2cli.stages.probe import probe_linearly, standardize, vote_of_neighbors
from d2cli.stages.score import Scores, score_rows
from d2cli.stages.selection import select_coreset
from d2cli.stages.vectors import Vectors

HOLD_OUT = 0.2  # of every class, without a test file
SUBSAMPLE = 0.9  # of the rows, with one: what varies between seeds


def trial_budget(rate: float, n_pool: int) -> int:
    """Return how many rows of a pool a trial keeps: those of the rate, at least one."""
    return max(rows_kept(rate, n_pool), 1)


@dataclass(frozen=True, eq=False)
class Trials:
    """Everything that the cells of a comparison share.

    Attributes
    ----------
    graph : KnnGraph
        Over the n rows to select from.
    difficulty : Difficulty
    vectors : float array, shape (n, d)
    labels : Groups or None
        What is predicted; None if there are no labels.
    test : tuple of vectors (t, d) and int32 codes (t,), or None
        Rows to test on; None holds out a part of the n rows.
    group : Groups or None
        Groups with budgets of their own.
    score_params : ScoreParams
        But for rate and seed.
    select_given : dict
        Fields of `SelectParams` but rate, keep, method and seed; None where not given.
    preset : str
    available : bool array, shape (n,), optional
        Rows that pools are drawn from; all if left out.
    """

    graph: KnnGraph
    difficulty: Difficulty
    vectors: Vectors
    labels: Groups | None
    test: tuple[Vectors, NDArray[np.int32]] | None
    group: Groups | None
    score_params: ScoreParams
    select_given: dict[str, Any]
    preset: Any
    available: NDArray[np.bool_] | None = None

    def pool(self, seed: int) -> NDArray[np.bool_]:
        """Return the rows that may be selected with a seed.

        Of those available: nine tenths with a test file, all but a fifth of every class without
        one, and all where there are no labels to test by.
        """
        rng = np.random.default_rng([seed, 1])
        some = self.available
        pool = np.ones(self.graph.n_samples, dtype=np.bool_) if some is None else some.copy()
        if self.labels is None:
            return pool
        if self.test is not None:
            rows = np.flatnonzero(pool)
            pool[rng.permutation(rows)[: round((1 - SUBSAMPLE) * len(rows))]] = False
            return pool
        for members in self.labels.rows():
            rows = members[pool[members]]
            out = max(round(HOLD_OUT * len(rows)), int(len(rows) > 1))
            pool[rng.permutation(rows)[:out]] = False
        return pool

    def held_out(self, pool: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the available rows outside a pool."""
        return ~pool if self.available is None else self.available & ~pool

    def score(self, rate: float, seed: int, pool: NDArray[np.bool_]) -> Scores:
        """Return the scores of a pool of rows."""
        made = replace(self.score_params, rate=rate, seed=seed)
        return score_rows(self.graph, self.difficulty, made, groups=self.group, available=pool)

    def select(
        self, method: Method, rate: float, seed: int, pool: NDArray[np.bool_], scores: Scores
    ) -> NDArray[np.bool_]:
        """Return the rows that a method keeps of a pool, bool (n,)."""
        n_pool = int(pool.sum())
        given = dict(self.select_given)
        if given.get("gamma_reverse") in (None, AUTO):  # of this rate, not of the share of all rows
            of_rate = SelectParams.from_preset(self.preset, rate=rate, **given)
            given["gamma_reverse"] = of_rate.gamma_reverse_value(n_pool)
        params = SelectParams.from_preset(
            self.preset, keep=trial_budget(rate, n_pool), method=method, seed=seed, **given
        )
        return select_coreset(self.graph, scores, params, groups=self.group).kept

    def run(self, method: Method, rate: float, seed: int) -> Cell:
        """Select, and with labels train and test."""
        pool = self.pool(seed)
        kept = self.select(method, rate, seed, pool, self.score(rate, seed, pool))
        right = self._test(kept, pool) if self.labels is not None else {}
        figures = describe(self.graph, self.difficulty.values, kept, pool, self.labels)
        return Cell(method, rate, seed, kept, right, figures)

    def _test(
        self, kept: NDArray[np.bool_], pool: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.bool_]]:
        """Return for each probe which test rows it predicts right."""
        assert self.labels is not None
        codes = self.labels.codes
        out = self.held_out(pool)
        test = (self.vectors[out], codes[out]) if self.test is None else self.test
        train, points = standardize(self.vectors[kept], test[0])
        return {
            "linear": probe_linearly(train, codes[kept], points) == test[1],
            "knn": vote_of_neighbors(train, codes[kept], points) == test[1],
        }
