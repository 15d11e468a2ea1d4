"""Rows that are to be added to a graph: what they must have, and the columns of both together."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.artifact_tables import column_of
from d2cli.files.artifacts import Artifact
from d2cli.files.inputs import Embedding, FoundEmbedding
from d2cli.files.modalities import FoundModalities, Fused
from d2cli.files.stages import ids_of, stored_width


def within_of(graph: Artifact) -> pa.Array | None:
    """Return the groups that a graph was searched within, if any."""
    return column_of(graph.table, "within") if "within" in graph.table.column_names else None


def joined_labels(
    graph: Artifact, survivors: NDArray[np.int64], added: Embedding | Fused | None
) -> tuple[pa.Array | None, pa.Array | None]:
    """Return ids and groups of a graph's survivors, then of the added rows; None for none."""

    def join(old: pa.Array | None, new: pa.Array | None) -> pa.Array | None:
        if old is None:
            return None
        stay = old.take(pa.array(survivors))
        return stay if new is None else pa.concat_arrays([stay, new])

    within = added.within.values if added and added.within else None
    return (
        join(ids_of(graph), added.rows.ids if added else None),
        join(within_of(graph), within),
    )


def check_width(graph: Artifact, found: FoundEmbedding) -> None:
    """Refuse vectors of another width, as far as that is known before they are read."""
    width = found.ref.source.width(found.ref.column.name)
    if width and width != stored_width(graph):
        raise other_width(graph, found.ref.where, width)


def other_width(graph: Artifact, where: str, width: int, expected: int = 0) -> InputError:
    """Return the error about vectors of another width than ``expected``, by default the graph's."""
    return InputError(
        f"{where}: has vectors of width {width:,}, those of {graph.name} have "
        f"{expected or stored_width(graph):,}",
        hint="name vectors of the same model with --embedding",
    )


def check_ids(
    graph: Artifact, found: FoundEmbedding | FoundModalities, survivors: NDArray[np.int64]
) -> None:
    """Refuse ids on one side only, of another type, and those that are there already."""
    old, new, name = ids_of(graph), found.rows.ids, found.rows.name
    if old is None and new is None:
        return
    if new is None or old is None:
        without = name if new is None else graph.name
        raise InputError(
            f"{name if new is not None else graph.name}: has ids, but {without} has none",
            hint="name the ids of the added rows with --id"
            if new is None
            else "--id none adds them without ids",
        )
    check_type(new, old, name, graph, "ids")
    import pyarrow.compute as pc  # slow to load

    there = np.asarray(pc.is_in(new, value_set=old.take(pa.array(survivors))))
    if there.any():
        row = int(there.argmax())
        raise InputError(
            f"{name}: row {row} has the id {new[row].as_py()!r}, which is in {graph.name} already "
            f"({int(there.sum()):,} such in all)",
            hint="leave out rows that are there; to replace them, name their ids with --retire",
        )


def check_type(new: pa.Array, old: pa.Array, where: str, graph: Artifact, what: str) -> None:
    """Refuse ids or labels of another type: none of them could be the same."""
    if new.type != old.type:
        raise InputError(
            f"{where}: {what} are {new.type}, those of {graph.name} are {old.type}",
            hint="store both as strings or both as integers",
        )
