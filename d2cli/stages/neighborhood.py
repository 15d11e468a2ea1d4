"""Difficulty from a graph alone: how far the neighbours are, and how many disagree."""

import numpy as np
from numpy.typing import NDArray

from d2cli.params import Direction
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import Groups

HARDER: dict[str, Direction] = {"neighbor_distance": "high", "label_disagreement": "high"}


def neighbor_distance(graph: KnnGraph) -> NDArray[np.float64]:
    """Return the mean distance to the stored neighbours, (n,), in the metric's unit.

    A row without neighbours is as far as the farthest that has some; 0 if none has.
    """
    there = graph.neighbors >= 0
    counts = there.sum(axis=1)
    total = np.where(there, graph.distances, 0).sum(axis=1, dtype=np.float64)
    mean = total / np.maximum(counts, 1)
    filled: NDArray[np.float64] = np.where(counts > 0, mean, mean.max(initial=0.0))
    return filled


def label_disagreement(graph: KnnGraph, labels: Groups) -> NDArray[np.float64]:
    """Return the share of the stored neighbours with another label, (n,); 0 without neighbours."""
    there = graph.neighbors >= 0
    other = labels.codes[np.maximum(graph.neighbors, 0)] != labels.codes[:, None]
    disagreeing = (other & there).sum(axis=1, dtype=np.float64)
    share: NDArray[np.float64] = disagreeing / np.maximum(there.sum(axis=1), 1)
    return share
