"""Where the vectors of a graph are, so that rows can be added to it later.

A graph file records its sources as it is published: paths relative to its own, columns, and which
rows of them it still holds. None of it takes part in key or digest; vectors are known by theirs.
"""

import base64
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.addresses import is_remote, redact
from d2cli.files.alignment import NO_IDS
from d2cli.files.artifacts import Artifact
from d2cli.files.colref import resolve, split
from d2cli.files.columns import ColumnRef
from d2cli.files.inputs import FoundEmbedding
from d2cli.files.modalities import FoundModalities, input_name
from d2cli.files.remote import Place, Remote, as_place, place_beside
from d2cli.files.sources import STDIN, Sources
from d2cli.files.unpacking import unpacking

COLUMNS = ("embedding", "id", "within")
MOST_DEFLATED = 1032  # bytes that one of zlib can stand for


@dataclass(frozen=True, eq=False)
class Origin:
    """One source of a graph's rows.

    Attributes
    ----------
    source : str
        Path or address of the SOURCE.
    columns : dict of str to tuple
        For "embedding", "id" and "within" the file, of several embeddings for "vectors of NAME"
        each, "" for the SOURCE itself, and the column's
        name, "" for a lone array. Left out where nothing was named; ("", "none") for no ids.
    n_rows : int
        Of the source.
    kept : bool array, shape (n_rows,), or None
        Which rows of the source the graph holds, in their order; None for all.
    """

    source: str
    columns: dict[str, tuple[str, str]]
    n_rows: int
    kept: NDArray[np.bool_] | None = None

    @property
    def n_kept(self) -> int:
        """Rows that the graph holds."""
        return self.n_rows if self.kept is None else int(self.kept.sum())

    def colref(self, role: str) -> str | None:
        """Return what names a column on the command line; None where nothing was named."""
        if role not in self.columns:
            return None
        file, name = self.columns[role]
        return f"{file}::{name}" if file and name else file or name or None

    def name(self, role: str) -> str | None:
        """Return the name of a column, wherever it is; None where there is none."""
        return self.columns.get(role, ("", ""))[1] or None

    def without(self, rows: NDArray[np.int64]) -> "Origin":
        """Return the source with fewer rows; ``rows`` are numbers among those kept."""
        held = np.arange(self.n_rows) if self.kept is None else np.flatnonzero(self.kept)
        kept = np.ones(self.n_rows, dtype=np.bool_) if self.kept is None else self.kept.copy()
        kept[held[rows]] = False
        return self if kept.all() else replace(self, kept=kept)


def origin_of(
    sources: Sources,
    source: str,
    found: FoundEmbedding | FoundModalities,
    *,
    embedding: str | None,
    id_: str | None,
    within: str | None,
) -> Origin:
    """Return where vectors were found; texts are COLREFs as they were given."""
    home = sources.open(source)

    def place_of(text: str | None, ref: ColumnRef) -> tuple[str, str]:
        file = "" if ref.source is home or text is None else split(text)[0]
        return file, ref.column.name

    if isinstance(found, FoundModalities):
        columns = {
            input_name(name): (one.file, one.ref.column.name) for name, one in found.each.items()
        }
    else:
        columns = {"embedding": place_of(embedding, found.ref)}
    if id_ == NO_IDS:
        columns["id"] = ("", NO_IDS)
    elif id_:
        columns["id"] = place_of(id_, resolve(id_, "id", sources, home))
    if within:
        columns["within"] = place_of(within, resolve(within, "label", sources, home))
    return Origin(source, columns, found.rows.n_rows)


def to_record(origins: list[Origin], place: Place | None) -> list[dict[str, Any]] | None:
    """Return origins as a graph at a place records them; None if one has no way that lasts.

    Standard input has none, nor has a local file to a remote graph.
    """
    if place is None:
        return None
    found = []
    for origin in origins:
        way = _way(origin.source, place)
        columns = {}
        for role, (file, name) in origin.columns.items():
            columns[role] = [_way(file, place) if file else "", name]
        if way is None or any(file is None for file, _ in columns.values()):
            return None
        kept = None
        if origin.kept is not None:
            packed = zlib.compress(np.packbits(origin.kept).tobytes(), 9)
            kept = base64.b64encode(packed).decode()
        found.append({"source": way, "columns": columns, "n_rows": origin.n_rows, "kept": kept})
    return found


def _way(text: str, place: Place) -> str | None:
    """Return the way from a graph to a file; the address of one on another machine."""
    if text == STDIN:
        return None
    if is_remote(text):
        way = place.way_to(Remote(text)) if isinstance(place, Remote) else None
        return way if way is not None else text if redact(text) == text else None
    if isinstance(place, Remote):
        return None
    return os.path.relpath(os.path.realpath(text), os.path.realpath(place.parent))


def origins_of(graph: Artifact) -> list[Origin] | None:
    """Return what a graph file records of its sources; None if that is nothing, or no sense.

    Raises
    ------
    ResourceError
        If there is no memory for which rows it holds.
    """
    if graph.sources is None or graph.name == "standard input":
        return None
    found = []
    try:
        for one in graph.sources:
            columns = {
                role: (_follow(file, graph) if file else "", str(name))
                for role, (file, name) in one["columns"].items()
                if role in COLUMNS or role.startswith(input_name(""))
            }
            n_rows, kept = int(one["n_rows"]), None
            if n_rows < 0:
                return None
            if one["kept"] is not None:
                with unpacking(graph.name, "read which rows it holds"):
                    kept = _unpack_bits(one["kept"], n_rows)
            found.append(Origin(_follow(one["source"], graph), columns, n_rows, kept))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, zlib.error):
        return None
    return found


def _unpack_bits(text: str, n_rows: int) -> NDArray[np.bool_]:
    """Undo the packing of `to_record`; no more is unpacked than one bit a row takes.

    Raises
    ------
    ValueError
        If there are not so many bits, or so few bytes cannot stand for them.
    zlib.error
        If the text is damaged.
    """
    packed, n_bytes = base64.b64decode(text, validate=True), -(-n_rows // 8)
    if n_bytes > MOST_DEFLATED * len(packed):
        raise ValueError("there are more rows than bits")
    stream = zlib.decompressobj()
    bits = stream.decompress(packed, n_bytes + 1)
    if len(bits) != n_bytes or not stream.eof:
        raise ValueError("there is not one bit for each row")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=n_rows).astype(np.bool_)


def _follow(way: str, graph: Artifact) -> str:
    if is_remote(way):
        return way
    place = place_beside(as_place(graph.name), way)
    if isinstance(place, Remote):
        return place.address
    nearer = os.path.relpath(place)  # for messages: as one would write it here
    return nearer if not nearer.startswith(os.pardir) else str(Path(place))
