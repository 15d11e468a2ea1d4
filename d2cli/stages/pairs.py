"""Exact search of all places at once: every product serves both of its rows.

The matrix of products is symmetric, so only the blocks on and above its diagonal are computed. A
block is looked through twice, by rows and by columns.
"""

from collections.abc import Iterator
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._neighbors import CandidateBlock
from d2cli.stages.bounds import bound_norms
from d2cli.stages.parallel import Task
from d2cli.stages.space import SearchSpace

BLOCK = 1024  # places a block: one matrix product of 4 MB
STRIP_BLOCKS = 4  # blocks of one task: they share the reading of all places after them


def candidate_bytes(k: int) -> int:
    """Return what the candidates of a place take up, about."""
    return 12 * max(4 * k, 64) + 64


class AllPairs:
    """The candidates of all places, block by block.

    Tasks may run in any order and on any threads: candidates come and go with the order, but what
    may be among the k nearest always stays, and true distances decide in the end.

    Parameters
    ----------
    space : SearchSpace
    k : int
        Neighbours wanted, at most the number of other places.
    """

    def __init__(self, space: SearchSpace, k: int) -> None:
        self.space = space
        self.numbers = np.arange(space.n_places, dtype=np.int32)
        self.starts = range(0, space.n_places, BLOCK)
        self.bounds = [
            bound_norms(space.block(self._part(b)), rounding=space.rounding)
            for b in range(len(self.starts))
        ]
        self.blocks = [CandidateBlock(bounds.margin, k) for bounds in self.bounds]
        self.locks = [Lock() for _ in self.starts]

    def _part(self, block: int) -> slice:
        start = self.starts[block]
        return slice(start, min(start + BLOCK, self.space.n_places))

    def tasks(self, n_threads: int) -> list[Task]:
        """Return tasks, the longest first; they yield places, as many as their work is worth."""
        blocks = len(self.starts)
        size = max(min(STRIP_BLOCKS, blocks // (4 * n_threads)), 1)
        strips = [range(b, min(b + size, blocks)) for b in range(0, blocks, size)]
        return [self._strip(strip) for strip in strips]

    def _strip(self, blocks: range) -> Iterator[int]:
        """Compare the places of some blocks with each other and with all that follow."""
        done = self._pairs_before(blocks[0])
        points = [self.space.block(self._part(b)) for b in blocks]
        for other in range(blocks[0], len(self.starts)):
            columns = points[other - blocks[0]] if other in blocks else None
            if columns is None:
                columns = self.space.block(self._part(other))
            transposed = np.ascontiguousarray(columns.T)
            for own, rows in zip(blocks, points, strict=True):
                if own <= other:
                    self._look_through(rows @ transposed, own, other)
            before, done = done, done + min(other - blocks[0] + 1, len(blocks))
            yield self._places_of(done) - self._places_of(before)

    def _pairs_before(self, block: int) -> int:
        """Return how many pairs of blocks those before one have, each with itself and the later."""
        return block * len(self.starts) - block * (block - 1) // 2

    def _places_of(self, pairs: int) -> int:
        return self.space.n_places * pairs // self._pairs_before(len(self.starts))

    def _look_through(self, products: NDArray[np.float32], own: int, other: int) -> None:
        with self.locks[own]:
            self.blocks[own].scan(
                products, *self.bounds[other].limits, self.numbers[self._part(own)], other * BLOCK
            )
        if own != other:
            with self.locks[other]:
                self.blocks[other].scan_transposed(
                    products, *self.bounds[own].limits, self.numbers[self._part(other)], own * BLOCK
                )

    def rank(self, neighbors: NDArray[np.int32], distances: NDArray[np.float32]) -> list[Task]:
        """Return tasks that fill in the k nearest of all places, (u, k), and yield places done."""

        def of_block(b: int) -> Iterator[int]:
            part, k = self._part(b), neighbors.shape[1]
            candidates = self.blocks[b].finish()
            found = self.space.nearest(self.numbers[part], *candidates, k)
            neighbors[part], distances[part] = found
            yield part.stop - part.start

        return [of_block(b) for b in range(len(self.starts))]
