"""What is kept of an approximate search, so that rows can be added without starting again.

Cells and axes, so that added rows find theirs; and a sample of rows with their exact neighbours,
which are corrected as rows come and go: so recall is measured without searching a sample again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.params import GraphParams
from d2cli.stages.adoption import adopt
from d2cli.stages.cell_layout import (
    Layout,
    arrange,
    lay_out,
    lay_out_on_disk,
    nearest_centers,
)
from d2cli.stages.exact import ExactIndex
from d2cli.stages.groups import Groups
from d2cli.stages.lists import Packed, merge, spread, take_out
from d2cli.stages.projection import principal_axes, project
from d2cli.stages.recall import SAMPLE_SIZE, RecallCheck, check_recall
from d2cli.stages.room import Room, release
from d2cli.stages.space import SearchSpace
from d2cli.stages.vectors import Vectors

LARGEST_COORDINATE = 2.0**20  # of an added row, in units of the largest before


@dataclass(frozen=True, eq=False)
class Twins:
    """Which rows stand at which place; see `d2cli.stages.space.distinct_rows`.

    Attributes
    ----------
    indptr, members : int64 array (u + 1,), int32 array (g,)
    """

    indptr: NDArray[np.int64]
    members: NDArray[np.int32]

    @property
    def n_places(self) -> int:
        """Places, u."""
        return len(self.indptr) - 1

    @property
    def leaders(self) -> NDArray[np.int32]:
        """The lowest row of each place, (u,)."""
        return self.members[self.indptr[:-1]]

    @property
    def place_of(self) -> NDArray[np.int32]:
        """The place of each row, (g,)."""
        places = np.empty(len(self.members), dtype=np.int32)
        counts = np.diff(self.indptr)
        places[self.members] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        return places


@dataclass(frozen=True, eq=False)
class KeptCells:
    """The cells of one group, or of all rows; rows are positions in it.

    Attributes
    ----------
    cells : int32 array, shape (g,)
        The cell of each row.
    centers : float32 array, shape (c, p)
        On the axes.
    axes : float32 array, shape (d, p), or None
        None where vectors are searched as they are.
    center : float64 array, shape (d,)
        See `d2cli.stages.space.SearchSpace`; so is ``scale``.
    scale : float
    effort : int
        Cells probed.
    sample : int32 array, shape (s,), ascending
        Rows whose exact neighbours are known.
    exact : uint64 array, shape (s, k)
        These neighbours; see `d2cli.stages.lists`.
    """

    cells: NDArray[np.int32]
    centers: NDArray[np.float32]
    axes: NDArray[np.float32] | None
    center: NDArray[np.float64]
    scale: float
    effort: int
    sample: NDArray[np.int32]
    exact: Packed

    def fits(self, k: int, dim: int) -> bool:
        """Return whether this is of lists of k neighbours, and of vectors of a width."""
        return self.exact.shape[1] == k and len(self.center) == dim

    def space(self, vectors: Vectors, places: NDArray[np.int64], room: Room) -> SearchSpace:
        """Return the search space of some rows, in the coordinates of the cells."""
        return SearchSpace(vectors, places, self.center, self.scale, room)

    def lay_out(self, space: SearchSpace, twins: Twins, *, n_threads: int = 1) -> Layout:
        """Return all places in the order of their cells."""
        axes = self.axes

        def block(places: slice | NDArray[np.int32]) -> NDArray[np.float32]:
            points = space.block(places)
            return points if axes is None else points @ axes

        cells, width = self.cells[twins.leaders], self.centers.shape[1]
        layout = arrange(block, width, cells, self.centers, space.room, n_threads=n_threads)
        release(space.vectors)
        return layout

    def without(self, number: NDArray[np.int32]) -> tuple["KeptCells", NDArray[np.bool_]]:
        """Take rows out.

        Parameters
        ----------
        number : int32 array, shape (g + 1,)
            The new number of each row, ascending; -1 for those that go, and at the end.

        Returns
        -------
        kept : KeptCells
        torn : bool array, shape (s,)
            Whose exact neighbours in the sample are not all there any more.
        """
        there = number[self.sample] >= 0
        exact, torn = take_out(self.exact[there], number)
        sample = number[self.sample[there]]
        cells = self.cells[number[:-1] >= 0]
        return replace(self, cells=cells, sample=sample, exact=exact), torn

    def grown(
        self, space: SearchSpace, rows: NDArray[np.int64], n_threads: int
    ) -> "KeptCells | None":
        """Put more rows into their cells; None if they are too far off for these coordinates.

        Parameters
        ----------
        space : SearchSpace
            Of this `space`, with a place for each of the rows.
        rows : int64 array, shape (m,)
            Places.
        n_threads : int
        """
        found = [self.cells]
        for start in range(0, len(rows), 4096):
            with np.errstate(over="ignore"):
                block = space.block(rows[start : start + 4096].astype(np.int32))
            if not np.abs(block).max(initial=0) < LARGEST_COORDINATE:
                return None
            points = block if self.axes is None else block @ self.axes
            found.append(nearest_centers(points, self.centers, n_threads=n_threads))
        return replace(self, cells=np.concatenate(found))


Keep = Callable[[NDArray[np.int64], KeptCells], None]  # of the rows of a group


def keep_into(kept: dict[str, KeptCells], groups: Groups | None, prefix: str = "") -> Keep:
    """Return what puts cells into a dict by the name of the group, after a prefix."""

    def keep(rows: NDArray[np.int64], cells: KeptCells) -> None:
        kept[prefix + (groups.names[groups.codes[rows[0]]] if groups else "")] = cells

    return keep


def keep_cells(
    space: SearchSpace, layout: Layout, check: RecallCheck, effort: int, twins: Twins, k: int
) -> KeptCells:
    """Return what is to be kept of a search.

    Parameters
    ----------
    space : SearchSpace
    layout : Layout
        Of all places.
    check : RecallCheck
    effort : int
    twins : Twins
    k : int
        Neighbours a row.
    """
    of_place = np.empty(space.n_places, dtype=np.int32)
    of_place[layout.places] = np.repeat(
        np.arange(layout.n_cells, dtype=np.int32), np.diff(layout.starts)
    )
    rows, lists = spread(check.sample, check.neighbors, check.exact, twins.indptr, twins.members, k)
    sample = twins.leaders[check.sample]
    return KeptCells(
        of_place[twins.place_of],
        layout.centers,
        layout.axes,
        space.center,
        space.scale,
        effort,
        sample,
        lists[np.isin(rows, sample)],
    )


def fresh_cells(
    space: SearchSpace,
    twins: Twins,
    params: GraphParams,
    **how: Any,  # noqa: ANN401
) -> KeptCells:
    """Return what would have been kept of a search of all places.

    Parameters
    ----------
    space : SearchSpace
    twins : Twins
    params : GraphParams
    how
        ``n_threads`` and ``on_progress``.
    """
    k = params.n_neighbors
    wanted = max(min(k, space.n_places - 1), 1)
    check = check_recall(space, wanted, target=params.recall, seed=params.seed, **how)
    axes = principal_axes(space, seed=params.seed)
    points, room = project(space, axes, **how), space.room
    if room.on_disk:

        def block(places: slice | NDArray[np.int32]) -> NDArray[np.float32]:
            taken = points[places] if isinstance(places, slice) else room.take(points, places)
            room.have_read(points, taken)
            return taken

        layout = lay_out_on_disk(block, points.shape, room, seed=params.seed, **how)
    else:
        layout = lay_out(points, seed=params.seed, **how)
    return keep_cells(space, replace(layout, axes=axes), check, 0, twins, k)


def renew_sample(
    kept: KeptCells,
    torn: NDArray[np.bool_],
    space: SearchSpace,
    twins: Twins,
    n_old: int,
    *,
    seed: int,
    **how: Any,  # noqa: ANN401
) -> KeptCells:
    """Bring the sample up to date: as many of the added rows as of all others, in proportion.

    Parameters
    ----------
    kept : KeptCells
        Of all rows, but for the sample, which is of the old ones.
    torn : bool array, shape (s,)
        Who of the sample lacks neighbours.
    space : SearchSpace
    twins : Twins
    n_old : int
        Rows from this number on are added.
    seed : int
    how
        ``n_threads`` and ``on_progress``.
    """
    n, k, place_of = len(twins.members), kept.exact.shape[1], twins.place_of
    rng = np.random.default_rng([seed, n_old, n])
    size = min(SAMPLE_SIZE, n)
    n_new = int(rng.hypergeometric(n - n_old, n_old, size)) if n > n_old else 0
    staying = np.sort(rng.permutation(len(kept.sample))[: size - n_new])
    other = np.ones(n_old, dtype=np.bool_)
    other[kept.sample] = False
    others = np.flatnonzero(other)
    fill = rng.choice(others, min(size - n_new - len(staying), len(others)), replace=False)
    new = n_old + rng.permutation(n - n_old)[:n_new]
    sample = np.concatenate([kept.sample[staying], fill, new]).astype(np.int32)
    order = np.argsort(sample, kind="stable")
    exact = np.concatenate(
        [kept.exact[staying], np.empty((len(sample) - len(staying), k), dtype=np.uint64)]
    )
    unknown = np.ones(len(sample), dtype=np.bool_)
    unknown[: len(staying)] = torn[staying]
    sample, exact, unknown = sample[order], exact[order], unknown[order]

    asked = marked(place_of[sample[unknown]], space.n_places)
    wanted = max(min(k, space.n_places - 1), 1)
    found = ExactIndex(space).search(asked, wanted, **how)
    rows, lists = spread(asked, *found, twins.indptr, twins.members, k)
    at = np.full(n, -1, dtype=np.int64)
    at[rows] = np.arange(len(rows))
    exact[unknown] = lists[at[sample[unknown]]]
    known = np.flatnonzero(~unknown)
    added = marked(place_of[n_old:], space.n_places)
    if len(known) and len(added):
        places, first = np.unique(place_of[sample[known]], return_index=True)
        limits = unpack_last(exact[known[first]])
        adopted = adopt(space, places, limits, added, k, **how)
        rows, lists = spread(adopted[0], *adopted[1:], twins.indptr, twins.members, k)
        at[:] = -1
        at[rows] = np.arange(len(rows))
        who = known[at[sample[known]] >= 0]
        exact[who] = merge(exact[who], lists[at[sample[who]]])
    return replace(kept, sample=sample, exact=exact)


def marked(places: NDArray[np.int32], n_places: int) -> NDArray[np.int32]:
    """Return some places ascending, each once: as `np.unique`, which is slow for many."""
    there = np.zeros(n_places, dtype=np.bool_)
    there[places] = True
    return np.flatnonzero(there).astype(np.int32)


def unpack_last(lists: Packed) -> NDArray[np.float32]:
    """Return the distance of the farthest neighbour in each list, (m,)."""
    return (lists[:, -1] >> np.uint64(32)).astype(np.uint32).view(np.float32)
