"""Candidates from k-means cells: for clustered vectors the fastest.

Every row is compared with all rows of the cells nearest to it: rows side by side in the layout
share them, so that each cell is one matrix product. What a task computes depends on its rows alone,
so the result is the same with any number of threads.

Where that does not find enough, candidates are compared closely: by whole vectors, centred on the
cell. Axes may hide what tells neighbours apart, and far from their centre float32 squares do.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import NearestSoFar, smallest_columns
from d2cli.stages.approximate import Take
from d2cli.stages.cell_layout import Layout
from d2cli.stages.parallel import Task
from d2cli.stages.space import SearchSpace

FIRST_EFFORT, LAST_EFFORT = 4, 128  # cells that a row is compared with
ON_AXES, AS_THEY_ARE = 4, 2  # candidates for each neighbour wanted
REACH, LEAST_REACH = 8, 128  # of a cell, so many nearest ones are considered for each probe
PIECE = 2048  # positions searched between two looks at the stop flag
CLOSE_PAIRS = 1 << 20  # positions times cells of a piece that is compared closely
MIDDLE_ROWS = 16  # whose median is the centre of a cell: it is not moved by a row far off
COLUMNS = 4096  # of a cell, in one matrix product: 32 MB at most

# Takes positions that ask, a slice of positions that they are compared with, and their squared
# distances, float32 (q, t), on the axes or closely.
Watch = Callable[[NDArray[np.int32], slice, NDArray[np.float32]], None]


class CellSource:
    """The cells of one layout.

    Parameters
    ----------
    layout : Layout
    last_effort : int
        Cells probed at most, unless compared closely.
    space : SearchSpace, optional
        Where the layout's places are. With it the effort does not end at ``last_effort``: from then
        on cells are compared closely, in the end all of them.

    Attributes
    ----------
    watch : callable or None
        Sees every comparison of a search; see `Watch`. Called by several threads at once.
    """

    name = "cells"

    def __init__(
        self, layout: Layout, *, last_effort: int = LAST_EFFORT, space: SearchSpace | None = None
    ) -> None:
        self.layout = layout
        self.space = space
        self.closely = False
        self.watch: Watch | None = None
        self.effort = FIRST_EFFORT
        self.last_effort = min(last_effort, layout.n_cells)
        self.norms = np.empty(len(layout.points), dtype=np.float32)
        for start in range(0, len(layout.points), COLUMNS):
            block = layout.points[start : start + COLUMNS]
            self.norms[start : start + COLUMNS] = np.einsum("ij,ij->i", block, block)
            layout.room.have_read(layout.points, block)
        self.center_norms = np.einsum("ij,ij->i", layout.centers, layout.centers)

    def try_harder(self) -> bool:
        """Probe half as many cells again; False if that are all, or the most allowed.

        If more may be done, begin anew and compare closely.
        """
        if self.effort >= self.last_effort:
            if self.closely or self.space is None:
                return False
            self.closely, self.last_effort = True, self.layout.n_cells
            self.effort = min(FIRST_EFFORT, self.last_effort)
            return True
        self.effort = min(self.effort * 3 // 2, self.last_effort)
        return True

    @property
    def refines(self) -> bool:
        """Whether neighbours of neighbours on the axes are better: not than those seen closely."""
        return not self.closely

    def wanted(self, k: int, *, narrowed: bool) -> int:
        """Return more on axes, where true distances have to decide."""
        narrowed = narrowed and not self.closely
        return ON_AXES * k if narrowed else AS_THEY_ARE * k

    def tasks(self, asked: NDArray[np.int32], wanted: int, take: Take) -> list[Task]:
        """See `d2cli.stages.approximate.Source`."""
        size = PIECE
        if self.closely:
            size = max(min(PIECE, CLOSE_PAIRS // self.effort), 1)

        def scan(start: int) -> Iterator[int]:
            part = slice(start, min(start + size, len(asked)))
            take(part, self._scan(asked[part], wanted))
            yield part.stop - part.start

        return [scan(start) for start in range(0, len(asked), size)]

    def give_up(self) -> None:
        """Keep everything: it is the layout's."""

    def _scan(self, asked: NDArray[np.int32], wanted: int) -> NDArray[np.int32]:
        """Return the ``wanted`` nearest positions of some ascending positions."""
        layout = self.layout
        points = layout.room.take(layout.points, asked)
        probes = min(self.effort, layout.n_cells)
        around = self._around(asked, probes)
        if probes == layout.n_cells:
            nearest = np.broadcast_to(around, (len(asked), probes))
        else:
            nearest = around[
                smallest_columns(
                    points @ np.ascontiguousarray(layout.centers[around].T),
                    self.center_norms[around],
                    probes,
                )
            ]
        if self.closely and self.space is not None:
            points = self.space.block(layout.places[asked])
        by_cell = np.argsort(nearest, axis=None, kind="stable")
        cells, first = np.unique(nearest.ravel()[by_cell], return_index=True)
        best = NearestSoFar(len(asked), wanted)
        for cell, pairs in zip(cells, np.split(by_cell // probes, first[1:]), strict=True):
            slots = pairs.astype(np.int32)
            queries, end = points[slots], int(layout.starts[cell + 1])
            for start in range(int(layout.starts[cell]), end, COLUMNS):
                part = slice(start, min(start + COLUMNS, end))
                if self.closely and self.space is not None:
                    found = _compare_closely(queries, self.space.block(layout.places[part]))
                else:
                    targets = layout.points[part]
                    found = queries @ targets.T, self.norms[part]
                    layout.room.have_read(layout.points, targets)
                best.merge(*found, slots, asked, start)
                if self.watch is not None:
                    self.watch(asked[slots], part, self._squares(*found, asked[slots]))
        return best.finish()

    def _squares(
        self,
        products: NDArray[np.float32],
        norms: NDArray[np.float32],
        asked: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """Return squared distances (q, t); takes the products over."""
        products *= -2
        products += norms
        if not self.closely:  # else all of it is in the products
            products += self.norms[asked][:, None]
        return products

    def _around(self, asked: NDArray[np.int32], probes: int) -> NDArray[np.int32]:
        """Return the cells among which the nearest of some positions are looked for, ascending."""
        layout = self.layout
        own = np.unique(np.searchsorted(layout.starts, asked, side="right") - 1)
        reach = max(REACH * probes, LEAST_REACH)
        if len(own) * reach >= layout.n_cells:
            return np.arange(layout.n_cells, dtype=np.int32)
        near = smallest_columns(
            layout.centers[own] @ np.ascontiguousarray(layout.centers.T), self.center_norms, reach
        )
        return np.unique(near)


def _compare_closely(
    queries: NDArray[np.float32], targets: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return products (q, t) and norms (t,), so that ``norm - 2 product`` is a squared distance.

    All of it, so that targets of different cells compare.
    """
    middle = np.median(targets[:: -(-len(targets) // MIDDLE_ROWS)], axis=0)
    queries, targets = queries - middle, targets - middle
    products = queries @ targets.T
    products -= np.einsum("ij,ij->i", queries, queries)[:, None] / 2
    return products, np.einsum("ij,ij->i", targets, targets)
