"""The vectors of a graph from its sources, known by their digest, with added ones after them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, InputError
from d2cli.files.alignment import NO_IDS
from d2cli.files.artifacts import Artifact
from d2cli.files.colref import split
from d2cli.files.column import Source
from d2cli.files.digests import digest_blocks
from d2cli.files.inputs import FoundEmbedding, find_embedding
from d2cli.files.origins import Origin
from d2cli.files.sources import Sources
from d2cli.files.stages import packed_in, stored_width
from d2cli.stages.room import IN_MEMORY, Room
from d2cli.stages.vectors import BLOCK_ROWS, vector_type

NAME_THEM = "name the sources of the graph with --source, in their order"


@dataclass(frozen=True, eq=False)
class Part:
    """A source of a graph's rows, found again; nothing of it is read yet."""

    origin: Origin
    found: FoundEmbedding

    def blocks(self, vectors: NDArray[Any], room: Room) -> Iterator[NDArray[Any]]:
        """Yield the rows that the graph holds, some at a time; ``vectors`` are all of them."""
        for start in range(0, len(vectors), BLOCK_ROWS):
            block = vectors[start : start + BLOCK_ROWS]
            kept = self.origin.kept
            yield block if kept is None else block[kept[start : start + BLOCK_ROWS]]
            room.have_read(vectors, block)


def find_parts(sources: Sources, graph: Artifact, origins: Sequence[Origin]) -> list[Part]:
    """Find the sources of a graph.

    Raises
    ------
    InputError
        If one is not there, or cannot be read.
    ArtifactError
        If they do not have the rows of the graph.
    """
    parts = []
    for origin in origins:
        try:
            found = find_embedding(
                sources,
                origin.source,
                embedding=origin.colref("embedding"),
                id_=origin.colref("id"),
                within=None,
            )
        except InputError as error:
            error.hint = f"{graph.name} was made from it; {NAME_THEM}"
            raise
        if origin.n_rows < 0:  # nothing is recorded
            origin = replace(origin, n_rows=found.rows.n_rows)
        if found.rows.n_rows != origin.n_rows:
            raise foreign(graph, found.ref.where)
        parts.append(Part(origin, found))
    if sum(part.origin.n_kept for part in parts) != graph.table.num_rows:
        raise foreign(graph, ", ".join(part.found.ref.where for part in parts))
    return parts


def named_origin(sources: Sources, text: str, recorded: Origin | None, name: str | None) -> Origin:
    """Return the origin that ``--source`` names in place of a recorded one.

    Parameters
    ----------
    sources : Sources
    text : str
        FILE or FILE::COLUMN.
    recorded : Origin or None
        What the graph says of it: names of columns, rows that are gone.
    name : str or None
        The vectors' column where nothing else tells.
    """
    home, column = _home_of(sources, text)
    wanted = column or (recorded.name("embedding") if recorded else None) or name
    columns = {}
    if wanted and (column or wanted in home.columns):
        columns["embedding"] = ("", wanted)
    id_ = recorded.name("id") if recorded else None
    if id_ and (id_ == NO_IDS or id_ in home.columns):
        columns["id"] = ("", id_)
    kept = recorded.kept if recorded else None
    return Origin(
        text.removesuffix(f"::{column}") if column else text,
        columns,
        recorded.n_rows if recorded else -1,
        kept,
    )


def _home_of(sources: Sources, text: str) -> tuple[Source, str | None]:
    file, ref = split(text)
    return sources.open(file), ref.removeprefix(f"{file}::") if ref else None


def foreign(graph: Artifact, where: str) -> ArtifactError:
    """Return the error about vectors that are not those of a graph."""
    return ArtifactError(
        f"{where}: does not hold the vectors that {graph.name} was made from", hint=NAME_THEM
    )


def join_vectors(
    graph: Artifact,
    parts: Sequence[Part],
    survivors: NDArray[np.int64],
    added: NDArray[Any] | None,
    room: Room = IN_MEMORY,
) -> tuple[NDArray[Any], str]:
    """Return the vectors of a graph's survivors, then the added ones, and the digest of them.

    Parameters
    ----------
    graph : Artifact
    parts : sequence of Part
    survivors : int64 array, shape (s,), ascending
        Rows of the graph.
    added : array, shape (m, d), or None
    room : Room
        Where the result lives.

    Returns
    -------
    vectors : float32, float64 or, for hamming, uint8 array, shape (s + m, d)
        Of the type that the graph was searched in.
    digest : str
        See `d2cli.files.digests.digest_array`.

    Raises
    ------
    ArtifactError
        If the parts do not hold the vectors that the graph was made from.
    """
    n_old, dim, packed = graph.table.num_rows, stored_width(graph), packed_in(graph)
    read = []
    for part in parts:
        read.append(part.found.read_vectors(room, packed=packed))
        if read[-1].shape[1:] != (dim,) or len(read[-1]) != part.origin.n_rows:
            raise foreign(graph, part.found.ref.where)
    wide = searched_type(graph, parts)
    stay = np.zeros(n_old, dtype=np.bool_)
    stay[survivors] = True
    rows = room.rows((len(survivors) + (0 if added is None else len(added)), dim), wide)

    def old_blocks() -> Iterator[NDArray[Any]]:
        at = 0
        for part, vectors in zip(parts, read, strict=True):
            for block in part.blocks(vectors, room):
                yield block
                rows.append(block[stay[at : at + len(block)]])
                at += len(block)

    if digest_blocks(wide, (n_old, dim), old_blocks()) != graph.meta["inputs"]["vectors"]:
        raise foreign(graph, ", ".join(part.found.ref.where for part in parts))
    for start in range(0, 0 if added is None else len(added), BLOCK_ROWS):
        assert added is not None
        rows.append(added[start : start + BLOCK_ROWS])
    joined = rows.finish()

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(joined), BLOCK_ROWS):
            yield (block := joined[start : start + BLOCK_ROWS])
            room.have_read(joined, block)

    return joined, digest_blocks(wide, joined.shape, blocks())


def searched_type(graph: Artifact, parts: Sequence[Part]) -> np.dtype[Any]:
    """Return the type that the vectors of a graph were searched in."""
    if packed_in(graph):
        return np.dtype(np.uint8)
    recorded = graph.meta["results"].get("update", {}).get("dtype")
    if recorded in ("float32", "float64"):
        return np.dtype(str(recorded))
    wide: np.dtype[Any] = np.result_type(*(vector_type(part.found.header.dtype) for part in parts))
    return wide


def refuse_wider(graph: Artifact, parts: Sequence[Part], added: np.dtype[Any], where: str) -> None:
    """Refuse added vectors that the graph's type cannot hold: a graph has one type."""
    wide = searched_type(graph, parts)
    if not packed_in(graph) and np.dtype(vector_type(added)).itemsize > wide.itemsize:
        raise InputError(
            f"{where}: is {added}, but the vectors of {graph.name} were searched as {wide}",
            hint=f"store the added vectors as {wide}, or build a new graph with `d2 graph`",
        )
