"""How far one selection is from another of the same rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.graph import KnnGraph
from d2cli.stages.report import cover


def overlap(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> float:
    """Return the share of our rows that are among theirs, 0 to 1; row numbers, all different."""
    return float(np.isin(ours, theirs).mean())


def coverage_of(graph: KnnGraph, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Return how some rows cover a graph of all: see `d2cli.stages.report.Coverage`."""
    kept = np.zeros(graph.n_samples, dtype=np.bool_)
    kept[rows] = True
    found = cover(graph, kept)
    return {
        "dropped_covered": found.dropped_covered,
        "dropped_distance": found.dropped_distance,
        "kept_touching": found.kept_touching,
        "kept_distance": found.kept_distance,
    }
