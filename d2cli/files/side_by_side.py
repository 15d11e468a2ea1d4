"""The columns of one source read side by side, row by row, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.colref import id_column
from d2cli.files.column import Source
from d2cli.files.column_blocks import id_blocks, number_blocks, vector_blocks
from d2cli.files.columns import ColumnRef
from d2cli.params import Direction


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive rows of one file or batch: row ``first`` of it and those that follow."""

    where: str
    first: int
    vectors: NDArray[Any]
    ids: pa.Array | None
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.vectors)

    def cut(self, start: int, stop: int) -> "Part":
        """Return some of its rows."""
        ids = None if self.ids is None else self.ids[start:stop]
        return Part(
            self.where,
            self.first + start,
            self.vectors[start:stop],
            ids,
            self.values[start:stop],
        )


@dataclass(frozen=True, eq=False)
class Refs:
    """The columns of one source."""

    home: Source
    embedding: ColumnRef
    ids: ColumnRef | None
    difficulty: ColumnRef | None
    direction: Direction | None

    def others(self) -> Iterator[tuple[ColumnRef, ColumnRef]]:
        """Yield each column of another source that has ids, and those."""
        if self.ids is None:
            return
        for ref in (self.embedding, self.difficulty):
            if ref is not None and ref.source is not self.ids.source:
                theirs = id_column(ref.source, None)
                if theirs is not None:
                    yield ref, theirs


def side_by_side(refs: Refs) -> Iterator[Part]:
    """Yield the rows of one source, its columns read side by side.

    Raises
    ------
    InputError
        If columns of other files have more or fewer rows, or ids in another order.
    """
    ids = None if refs.ids is None else _Feed(id_blocks(refs.ids), refs.ids)
    scores = None
    if refs.difficulty is not None:
        scores = _Feed(number_blocks(refs.difficulty), refs.difficulty)
    theirs = [_Feed(id_blocks(other), other) for _, other in refs.others()]
    first, where = 0, refs.embedding.where
    for vectors in vector_blocks(refs.embedding):
        count = len(vectors)
        found = None if ids is None else pa.concat_arrays(ids.take(count, where))
        for feed in theirs:
            _check_order(feed, pa.concat_arrays(feed.take(count, where)), found, first)
        values = np.ones(count) if scores is None else np.concatenate(scores.take(count, where))
        yield Part(where, first, vectors, found, values)
        first += count
    for one in (ids, scores, *theirs):
        if one is not None:
            one.end(where, first)


class _Feed:
    """A column that is taken in portions of any size."""

    def __init__(self, blocks: Iterator[Any], ref: ColumnRef) -> None:
        self.blocks, self.ref = blocks, ref
        self.left: Any = None
        self.taken = 0

    def take(self, count: int, where: str) -> list[Any]:
        """Return the next ``count`` rows as arrays, at least one."""
        parts = []
        while count:
            if self.left is None or not len(self.left):
                self.left = next(self.blocks, None)
                if self.left is None:
                    raise InputError(
                        f"{self.ref.where}: has {self.taken:,} rows, but {where} has more",
                        hint="the columns of a stream are read side by side, row by row",
                    )
            parts.append(self.left[:count])
            self.left = self.left[count:]
            self.taken += len(parts[-1])
            count -= len(parts[-1])
        return parts

    def end(self, where: str, n_rows: int) -> None:
        """Refuse rows that are left."""
        if (self.left is not None and len(self.left)) or next(self.blocks, None) is not None:
            raise InputError(
                f"{self.ref.where}: has more rows than {where}, which has {n_rows:,}",
                hint="the columns of a stream are read side by side, row by row",
            )


def _check_order(feed: _Feed, theirs: pa.Array, ours: pa.Array | None, first: int) -> None:
    """Refuse another file's ids that are not those of the stream, row by row."""
    if ours is None or theirs.equals(ours):
        return
    pairs = list(zip(theirs.to_pylist(), ours.to_pylist(), strict=True))
    at, (one, other) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    raise InputError(
        f"{feed.ref.where}: row {first + at} has the id {one!r}, in the stream {other!r}",
        hint="a stream cannot be joined: files need the same order; --id none matches by row",
    )
