"""A stream of rows as windows of one size, whatever batches, files or shards they come in.

Of a pipe or a growing folder only the current batch or shard is open; of any other source columns
are read side by side, batch by batch. Never are more rows held than a window and a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.alignment import NO_IDS
from d2cli.files.colref import id_column, only_column, resolve
from d2cli.files.column import Source
from d2cli.files.digests import digest_array, digest_json, digest_labels
from d2cli.files.growing import growing_shards, is_pipe, piped_batches
from d2cli.files.inputs import UNIFORM
from d2cli.files.named_refs import colref_alone
from d2cli.files.remote import Remote, as_place
from d2cli.files.side_by_side import Part, Refs, side_by_side
from d2cli.files.sources import Sources
from d2cli.params import Direction
from d2cli.stages.difficulty import MARGINS, direction_of
from d2cli.stages.vectors import Vectors, as_vectors, vector_type


@dataclass(frozen=True)
class Wanted:
    """Which columns a stream has: COLREFs, or None where they are found by type and name."""

    embedding: str | None
    id_: str | None
    difficulty: str
    harder: Direction | None


@dataclass(frozen=True)
class Described:
    """What all of a stream has in common.

    Attributes
    ----------
    name : str or None
        Of the difficulty; None for a lone array.
    direction : {"high", "low"} or None
        None for the uniform difficulty.
    margin : bool
        Whether the difficulty is a margin.
    width : int
    kind : type
        What vectors are searched as, float32 or float64.
    id_type : Arrow type or None
        None without ids.
    """

    name: str | None
    direction: Direction | None
    margin: bool
    width: int
    kind: type[np.float32 | np.float64]
    id_type: Any


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive rows of a stream."""

    parts: list[Part]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def ids(self) -> pa.Array | None:
        """Their ids, if there are any."""
        ids = [part.ids for part in self.parts]
        return None if ids[0] is None else pa.concat_arrays(ids)

    @property
    def values(self) -> NDArray[np.float64]:
        """Their scores; ones if the difficulty is uniform."""
        return np.concatenate([part.values for part in self.parts])

    def vectors(self, metric: str) -> Vectors:
        """Return their vectors as searches take them; errors name file or batch, and row."""
        try:
            return as_vectors(np.concatenate([part.vectors for part in self.parts]), metric)
        except InputError:
            for part in self.parts:
                try:
                    as_vectors(part.vectors, metric, first_row=part.first)
                except InputError as error:
                    raise error.at(part.where) from None
            raise

    def digest(self, before: str) -> str:
        """Return the digest of these rows and all before, which had that digest."""
        ids = self.ids
        found = [
            digest_array(np.concatenate([part.vectors for part in self.parts])),
            digest_array(self.values),
            None if ids is None else digest_labels(ids),
        ]
        return digest_json([before, found])


@dataclass
class StreamInput:
    """A stream of rows.

    Attributes
    ----------
    sources : Sources
        Opens files.
    source : str
        Standard input ("-"), a pipe, a growing folder, or what every command reads.
    wanted : Wanted
    watch : float or None
        Seconds to wait for more shards of a folder; None takes what is there.
    described : Described or None
        Known once the first rows were read.
    n_rows : int or None
        Of all, where that is known beforehand.
    """

    sources: Sources
    source: str
    wanted: Wanted
    watch: float | None = None
    described: Described | None = field(init=False, default=None)
    n_rows: int | None = field(init=False, default=None)
    home: Source | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        live = is_pipe(self.source)
        if self.watch is not None and live:
            raise ParameterError(
                "--watch waits for shards of a folder, but the source is a pipe",
                hint="leave it out: a pipe is read until its end",
            )
        if self.watch is not None:
            place = as_place(self.source)
            if isinstance(place, Remote) or not place.is_dir():
                raise ParameterError(
                    f"{self.source}: is no folder here, and --watch waits for shards of one",
                    hint="name a folder, or leave out --watch",
                )
            self.sources.folders.append(place)
            live = True
        if live:
            self._refuse_other_files()
        else:
            self.home = self.sources.open(self.source)
            self.n_rows = self.home.n_rows

    def windows(self, size: int) -> Iterator[Window]:
        """Yield windows of so many rows; the last one may have fewer."""
        held: list[Part] = []
        count = 0
        for part in self._described_parts():
            start = 0
            while start < len(part):
                stop = min(start + size - count, len(part))
                held.append(part.cut(start, stop))
                count, start = count + stop - start, stop
                if count == size:
                    yield Window(held)
                    held, count = [], 0
        if held:
            yield Window(held)

    def _refuse_other_files(self) -> None:
        """Refuse columns of other files where rows are still to come."""
        for option, text in (
            ("--embedding", self.wanted.embedding),
            ("--id", self.wanted.id_),
            ("--difficulty", self.wanted.difficulty),
        ):
            if text and "::" in text:
                raise ParameterError(
                    f"{option} {text}: is a column of another file, but rows are still to come",
                    hint="name a column that every batch or shard has",
                )

    def _described_parts(self) -> Iterator[Part]:
        """Yield the parts of all sources; refuse those that are not like the first."""
        for source in self._sources():
            refs = self._refs(source)
            for part in side_by_side(refs):
                found = _describe(refs, part)
                if self.described is None:
                    self.described = found
                elif replace(found, name=self.described.name) != self.described:
                    raise InputError(
                        f"{part.where}: {_difference(found, self.described)}",
                        hint="all batches and shards of a stream need the same columns and types",
                    )
                yield part

    def _sources(self) -> Iterator[Source]:
        if self.home is not None:
            yield self.home
        elif self.watch is not None:
            for path in growing_shards(self.source, self.watch):
                yield Sources().open(str(path))
        else:
            yield from piped_batches(self.source)

    def _refs(self, source: Source) -> Refs:
        wanted, sources = self.wanted, self.sources
        embedding = (
            resolve(colref_alone(wanted.embedding, source), "embedding", sources, source)
            if wanted.embedding
            else only_column(source, "embedding")
        )
        ids = None
        if wanted.id_ != NO_IDS:
            ids = (
                resolve(wanted.id_, "id", sources, source)
                if wanted.id_
                else id_column(source, None)
            )
        difficulty, direction = None, None
        if wanted.difficulty != UNIFORM:
            difficulty = resolve(wanted.difficulty, "difficulty", sources, source)
            direction = direction_of(difficulty.title, wanted.harder or difficulty.column.harder)
        return Refs(source, embedding, ids, difficulty, direction)


def _describe(refs: Refs, part: Part) -> Described:
    title = refs.difficulty.title if refs.difficulty else UNIFORM
    name = refs.difficulty.column.name or None if refs.difficulty else UNIFORM
    return Described(
        name,
        refs.direction,
        refs.direction == "low" and title.lower() in MARGINS,
        int(part.vectors.shape[1]),
        vector_type(part.vectors.dtype),
        None if part.ids is None else part.ids.type,
    )


def _difference(found: Described, first: Described) -> str:
    """Say in what a part differs from the first one."""
    if found.width != first.width:
        return f"vectors of width {found.width}, but of {first.width} before"
    if found.kind != first.kind:
        names = {np.float32: "float32", np.float64: "float64"}
        return f"vectors are measured as {names[found.kind]}, but as {names[first.kind]} before"
    if found.id_type != first.id_type:
        return f"ids are {found.id_type or 'missing'}, but {first.id_type or 'missing'} before"
    return "the difficulty has another direction than before"
