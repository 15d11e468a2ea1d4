"""Added rows in k-means cells: the neighbours they find, and the rows they are neighbours of."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.adoption import rank_pairs
from d2cli.stages.approximate import ApproximateIndex
from d2cli.stages.bounds import relative_error
from d2cli.stages.cells import FIRST_EFFORT, CellSource
from d2cli.stages.kept import KeptCells, Twins, marked
from d2cli.stages.lists import Packed, merge, spread, unpack
from d2cli.stages.parallel import run_tasks
from d2cli.stages.recall import share_found
from d2cli.stages.space import SearchSpace

PIECE = 512  # places whose neighbours' neighbours are looked at together
BREADTH = 10  # of the nearest neighbours, so many are asked for so many of theirs
RANKED = 1 << 20  # pairs that are ranked together
# Added rows are few, and who adopts them is found by their search alone: so many times the effort.
MORE = 1.5


class CellUpdate:
    """The search of some places in cells, and what comes of it for all others.

    Parameters
    ----------
    space : SearchSpace
    twins : Twins
    kept : KeptCells
        Of all rows.
    lists : uint64 array, shape (g, k)
        Of all rows; changed in place. See `d2cli.stages.lists`.
    how
        ``n_threads`` and ``on_progress``; results do not depend on them.
    """

    def __init__(
        self,
        space: SearchSpace,
        twins: Twins,
        kept: KeptCells,
        lists: Packed,
        **how: Any,  # noqa: ANN401
    ) -> None:
        self.space, self.twins, self.kept, self.lists, self.how = space, twins, kept, lists, how
        self.k = lists.shape[1]
        self.k_places = max(min(self.k, space.n_places - 1), 1)
        self.leaders, self.place_of = twins.leaders, twins.place_of
        self.source = CellSource(
            kept.lay_out(space, twins, n_threads=how["n_threads"]), space=space
        )
        self.source.effort = min(max(kept.effort, FIRST_EFFORT), self.source.last_effort)
        self.index = ApproximateIndex(space, self.source)

    def settle(self, target: float) -> int:
        """Raise the effort until the sample finds the target share of its neighbours.

        Returns
        -------
        int
            Cells probed.
        """
        sample = self.kept.sample
        asked = marked(self.place_of[sample], self.space.n_places)
        exact = unpack(self.kept.exact)[1]
        while True:
            found = self.index.search(asked, self.k_places, n_threads=self.how["n_threads"])
            rows, lists = spread(asked, *found, self.twins.indptr, self.twins.members, self.k)
            of_row = np.empty(len(self.lists), dtype=np.int64)
            of_row[rows] = np.arange(len(rows))
            if share_found(unpack(lists[of_row[sample]])[1], exact) >= target:
                break
            if not self.source.try_harder():
                break
        return self.source.effort

    def search(self, asked: NDArray[np.int32], new: NDArray[np.int32]) -> None:
        """Search places among all, and let all others adopt the new ones among them.

        Parameters
        ----------
        asked : int32 array, shape (q,), ascending
            Places.
        new : int32 array, shape (m,), ascending
            Those of them that may be adopted.
        """
        pairs, enough = self._watch(asked, new), self.source.effort
        self.source.effort = int(MORE * enough)
        found = self.index.search(asked, self.k_places, **self.how)
        self.source.watch, self.source.effort = None, enough
        self._take_in(asked, *found, own=True)
        self._adopt(pairs, new)
        del pairs
        self._adopt(self._look_around(asked, new), new)

    def _watch(self, asked: NDArray[np.int32], new: NDArray[np.int32]) -> list[NDArray[np.int64]]:
        """Return a list that fills with pairs of (place, new place) that may be near enough."""
        layout, pairs = self.source.layout, []
        limits = unpack(self.lists[self.leaders[layout.places], -1])[1].astype(np.float64)
        limits *= self.space.scale
        error = 4 * relative_error(layout.points.shape[1])
        limits = limits**2 * (1 + error) + error * self.source.norms
        limits[self.index.positions[asked]] = -np.inf  # they search for themselves
        bounds = limits.astype(np.float32)
        is_new = np.zeros(self.space.n_places, dtype=np.bool_)
        is_new[new] = True

        def watch(queries: NDArray[np.int32], part: slice, squares: NDArray[np.float32]) -> None:
            near = squares <= bounds[part]
            near &= is_new[layout.places[queries]][:, None]
            who, whom = np.nonzero(near)
            places = layout.places[part.start + whom], layout.places[queries[who]]
            pairs.append(np.stack(places).astype(np.int64))

        self.source.watch = watch
        return pairs

    def _adopt(self, pairs: list[NDArray[np.int64]], new: NDArray[np.int32]) -> None:
        """Take new places into the lists of others, by true distances."""
        if not sum(one.shape[1] for one in pairs):
            return
        u = self.space.n_places
        codes = np.sort(np.concatenate([one[0] * u + one[1] for one in pairs]))
        codes = codes[np.append(True, codes[1:] != codes[:-1])]  # each once
        adopting = codes // u
        ends = np.flatnonzero(adopting[1:] != adopting[:-1]) + 1  # never within a place
        start = 0
        while start < len(codes):
            at = np.searchsorted(ends, start + RANKED)
            stop = int(ends[at]) if at < len(ends) else len(codes)
            who, first = adopting[start:stop], ends[(start < ends) & (ends < stop)] - start
            places = who[np.append(0, first)].astype(np.int32)
            number = np.repeat(np.arange(len(places)), np.diff([0, *first, len(who)]))
            both = np.stack([number, np.searchsorted(new, codes[start:stop] - who * u)])
            self._take_in(*rank_pairs(self.space, places, both, new, self.k), own=False)
            start = stop

    def _take_in(
        self,
        asked: NDArray[np.int32],
        neighbors: NDArray[np.int32],
        distances: NDArray[np.float32],
        *,
        own: bool,
    ) -> None:
        """Merge the neighbours of some places into the lists of their members."""
        both = self.twins.indptr, self.twins.members
        rows, more = spread(asked, neighbors, distances, *both, self.k, own=own)
        self.lists[rows] = merge(self.lists[rows], more)

    def _look_around(
        self, asked: NDArray[np.int32], new: NDArray[np.int32]
    ) -> list[NDArray[np.int64]]:
        """Search among neighbours of neighbours; return the pairs with new places."""
        found: list[Any] = [None] * -(-len(asked) // PIECE)
        is_new = np.zeros(self.space.n_places, dtype=np.bool_)
        is_new[new] = True

        def look(i: int) -> Iterator[int]:
            part = asked[i * PIECE : (i + 1) * PIECE]
            near = self._around(part)
            counts = np.arange(len(part) + 1, dtype=np.int64) * near.shape[1]
            nearest = self.space.nearest(part, counts, near.ravel(), self.k_places)
            slots, columns = np.nonzero((near >= 0) & is_new[part][:, None])
            pairs = np.stack([near[slots, columns], part[slots]]).astype(np.int64)
            found[i] = *nearest, pairs
            yield len(part)

        run_tasks(
            [look(i) for i in range(len(found))],
            n_threads=self.how["n_threads"],
            phase="refining",
            total=len(asked),
            on_progress=self.how["on_progress"],
        )
        if not found:
            return []
        neighbors, distances, pairs = zip(*found, strict=True)
        self._take_in(asked, np.concatenate(neighbors), np.concatenate(distances), own=True)
        return list(pairs)

    def _around(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return neighbours and their neighbours (q, c): each once, without the place itself."""
        near = self._listed(places)
        further = self._listed(np.maximum(near, 0).ravel()).reshape(len(places), -1)
        further[np.repeat(near < 0, further.shape[1] // near.shape[1], axis=1)] = -1
        both = np.sort(np.concatenate([near, further], axis=1), axis=1)
        both[:, 1:][both[:, 1:] == both[:, :-1]] = -1
        both[both == places[:, None]] = -1
        return both

    def _listed(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the places that the lists of some places hold first, (q, b); -1 for none."""
        rows = unpack(self.lists[self.leaders[places], :BREADTH])[0]
        return np.where(rows < 0, np.int32(-1), self.place_of[rows])
