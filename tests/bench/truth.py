"""Recall of a graph by distance, measured here and not by what is being measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_SIZE, SEED = 2_000, 20_250  # not the sample on which d2 measures
MARGIN = 40  # columns beyond k that float32 products may put in the wrong order
QUERIES, COLUMNS = 500, 20_000


@dataclass(frozen=True, eq=False)
class Truth:
    """How far the exact k-th neighbours of some rows are.

    A neighbour counts as found if it is at most as far as the exact k-th; distances are sums of
    squared differences in float64. The row itself, repeats and padding never count.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]  # the sample
    k: int
    farthest: NDArray[np.float64]  # squared distance to the k-th, one a row of the sample

    @classmethod
    def of(cls, vectors: NDArray[np.float32], k: int) -> "Truth":
        n = len(vectors)
        rows = np.random.default_rng(SEED).choice(n, min(SAMPLE_SIZE, n), replace=False)
        rows = np.sort(rows).astype(np.int64)
        norms = np.einsum("ij,ij->i", vectors, vectors)
        farthest = np.empty(len(rows))
        for start in range(0, len(rows), QUERIES):
            part = rows[start : start + QUERIES]
            near = _nearest_columns(vectors, norms, part, min(k + 1 + MARGIN, n))
            squared = _squared(vectors, part, near)
            squared[near == part[:, None]] = np.inf
            farthest[start : start + QUERIES] = np.sort(squared, axis=1)[:, k - 1]
        return cls(vectors, rows, k, farthest)

    def recall(self, neighbors: NDArray[np.integer]) -> float:
        """Return the recall@k of neighbours of all rows (n, >= k); the row itself may be listed."""
        return self.recall_of_sample(neighbors[self.rows])

    def recall_of_sample(self, neighbors: NDArray[np.integer]) -> float:
        """Return the recall@k of neighbours of the rows of the sample only."""
        found = np.sort(without_self(neighbors, self.rows)[:, : self.k], axis=1)
        usable = found >= 0
        usable[:, 1:] &= found[:, 1:] != found[:, :-1]
        squared = _squared(self.vectors, self.rows, np.maximum(found, 0))
        hits = usable & (squared <= self.farthest[:, None] * (1 + 1e-9))
        return float(hits.sum() / (len(self.rows) * self.k))


def without_self(neighbors: NDArray[np.integer], rows: NDArray[np.int64]) -> NDArray[np.integer]:
    """Move each row's own number behind its neighbours, which keep their order."""
    own = neighbors == rows[:, None]
    order = np.argsort(own, axis=1, kind="stable")
    moved = np.take_along_axis(neighbors, order, axis=1)
    return np.where(np.take_along_axis(own, order, axis=1), -1, moved)


def _nearest_columns(
    vectors: NDArray[np.float32],
    norms: NDArray[np.float32],
    rows: NDArray[np.int64],
    wanted: int,
) -> NDArray[np.int64]:
    points = vectors[rows]
    columns = np.empty((len(rows), 0), dtype=np.int64)
    values = np.empty((len(rows), 0), dtype=np.float32)
    for start in range(0, len(vectors), COLUMNS):
        block = slice(start, start + COLUMNS)
        new = norms[block] - 2 * (points @ vectors[block].T)
        numbers = np.broadcast_to(np.arange(start, start + new.shape[1]), new.shape)
        values = np.concatenate([values, new], axis=1)
        columns = np.concatenate([columns, numbers], axis=1)
        best = (
            np.argpartition(values, wanted - 1, axis=1)[:, :wanted]
            if (values.shape[1] > wanted)
            else np.broadcast_to(np.arange(values.shape[1]), values.shape)
        )
        values = np.take_along_axis(values, best, axis=1)
        columns = np.take_along_axis(columns, best, axis=1)
    return columns


def _squared(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], others: NDArray[np.integer]
) -> NDArray[np.float64]:
    out = np.empty(others.shape)
    for i, (row, near) in enumerate(zip(rows, others, strict=True)):
        difference = vectors[near].astype(np.float64) - vectors[row]
        out[i] = np.einsum("ij,ij->i", difference, difference)
    return out
