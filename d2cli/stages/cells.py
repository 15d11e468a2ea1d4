"""Candidates from k-means cells: for clustered vectors the fastest.

Every row is compared with all rows of the cells nearest to it, cell by cell as matrix products.
What a task computes depends on its cell alone, so the result is the same with any number of
threads.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import NearestSoFar, smallest_columns
from d2cli.stages.approximate import Take
from d2cli.stages.parallel import Task
from d2cli.stages.partition import Layout

FIRST_EFFORT, LAST_EFFORT = 4, 128  # cells that a row is compared with
REACH = 4  # cells whose centres are looked at, for each that is probed


class CellSource:
    """The cells of one layout.

    Parameters
    ----------
    layout : Layout
    last_effort : int
        Cells probed at most.
    """

    name = "cells"

    def __init__(self, layout: Layout, *, last_effort: int = LAST_EFFORT) -> None:
        self.layout = layout
        self.effort = FIRST_EFFORT
        self.last_effort = min(last_effort, layout.n_cells)
        self.norms = np.einsum("ij,ij->i", layout.points, layout.points)
        self.center_norms = np.einsum("ij,ij->i", layout.centers, layout.centers)

    def try_harder(self) -> bool:
        """Probe half as many cells again; False if that are all, or the most allowed."""
        if self.effort >= self.last_effort:
            return False
        self.effort = min(self.effort * 3 // 2, self.last_effort)
        return True

    def wanted(self, k: int, *, narrowed: bool) -> int:
        """Return 4 k on axes, where true distances have to decide, else 2 k."""
        return 4 * k if narrowed else 2 * k

    def tasks(self, asked: NDArray[np.int32], wanted: int, take: Take) -> list[Task]:
        """See `d2cli.stages.approximate.Source`."""
        bounds = np.searchsorted(asked, self.layout.starts)

        def scan(cell: int) -> Iterator[int]:
            part = slice(int(bounds[cell]), int(bounds[cell + 1]))
            if part.stop > part.start:
                take(part, self._scan(cell, asked[part], wanted))
            yield part.stop - part.start

        return [scan(cell) for cell in range(self.layout.n_cells)]

    def give_up(self) -> None:
        """Keep everything: it is the layout's."""

    def _scan(self, cell: int, asked: NDArray[np.int32], wanted: int) -> NDArray[np.int32]:
        """Return the ``wanted`` nearest positions of some positions of one cell."""
        layout = self.layout
        points = layout.points[asked]
        probes = min(self.effort, layout.n_cells)
        around = smallest_columns(
            layout.centers[cell : cell + 1] @ layout.centers.T,
            self.center_norms,
            min(REACH * probes, layout.n_cells),
        )[0]
        nearest = smallest_columns(
            points @ np.ascontiguousarray(layout.centers[around].T),
            self.center_norms[around],
            probes,
        )
        best = NearestSoFar(len(asked), wanted)
        for i, other in enumerate(around):
            slots = np.flatnonzero((nearest == i).any(axis=1)).astype(np.int32)
            start, stop = layout.starts[other], layout.starts[other + 1]
            if len(slots) and stop > start:
                targets = layout.points[start:stop]
                best.merge(
                    points[slots] @ targets.T, self.norms[start:stop], slots, asked, int(start)
                )
        return best.finish()
