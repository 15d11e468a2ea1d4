"""The rows of a source that are kept: read from a selection, held against the source's ids."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, DamagedError, InputError
from d2cli.files.alignment import NO_IDS, Rows
from d2cli.files.artifacts import Artifact, peek, read_artifact
from d2cli.files.colref import ID_NAMES, resolve
from d2cli.files.columns import NO_NULLS, TEXT_TYPES, check_unique, read_labels
from d2cli.files.damage import reading
from d2cli.files.exportsources import ExportSource
from d2cli.files.paths import is_file
from d2cli.files.remote import as_place
from d2cli.files.rowlists import read_rows
from d2cli.files.sources import STDIN, Sources
from d2cli.files.stages import ids_of
from d2cli.stages.defects import Defect


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some rows of a source.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        All different, in the order they are to be written in.
    n_rows : int
        Of the source.
    """

    rows: NDArray[np.int64]
    n_rows: int

    @cached_property
    def ascending(self) -> NDArray[np.int64]:
        """The rows by number."""
        return np.sort(self.rows)

    @cached_property
    def places(self) -> NDArray[np.int64] | None:
        """Where each row stands among the ascending ones, (m,); None if they ascend."""
        if len(self.rows) < 2 or bool((np.diff(self.rows) > 0).all()):
            return None
        return np.searchsorted(self.ascending, self.rows).astype(np.int64)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Whether each row of the source is one of them, (n,)."""
        mask = np.zeros(self.n_rows, dtype=np.bool_)
        mask[self.rows] = True
        return mask

    def others(self) -> "Chosen":
        """Return all other rows, ascending."""
        return Chosen(np.flatnonzero(~self.mask).astype(np.int64), self.n_rows)


@dataclass(frozen=True, eq=False)
class Ids:
    """The ids of a source, read for the rows that are asked for.

    Attributes
    ----------
    where : str
        The column, for messages.
    read : callable
        Takes ascending rows; yields their ids batch by batch.
    """

    where: str
    read: Callable[[NDArray[np.int64]], Iterator[pa.Array]]

    def of(self, rows: NDArray[np.int64]) -> Iterator[pa.Array]:
        """Yield the ids of ascending rows, as large_string or int64.

        Raises
        ------
        InputError
            If one is null, or they are neither strings nor integers.
        """
        null, at = Defect("is null", NO_NULLS), 0
        for batch in self.read(rows):
            missing = np.asarray(batch.is_null())
            if missing.any():
                first = int(missing.argmax())
                null.add(int(rows[at + first]), missing[first:])
            yield self._plain(batch)
            null.refuse(self.where)
            at += len(batch)

    def _plain(self, ids: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(ids.type):
            ids = ids.dictionary_decode()
        with reading(self.where):
            ids.validate(full=True)
            if pa.types.is_integer(ids.type):
                return ids.cast(pa.int64())
            if str(ids.type) in TEXT_TYPES:
                return ids.cast(pa.large_string())
        raise InputError(f"{self.where}: ids are {ids.type}, expected strings or integers")

    def in_order(self, chosen: Chosen) -> Iterator[pa.Array]:
        """Yield the ids of chosen rows, in their order."""
        if chosen.places is None:
            yield from self.of(chosen.ascending)
        else:
            yield pa.concat_arrays(list(self.of(chosen.ascending))).take(pa.array(chosen.places))


def find_ids(
    sources: Sources, data: ExportSource, id_: str | None, *, names: tuple[str, ...] = ID_NAMES
) -> Ids | None:
    """Find the ids of a source.

    Parameters
    ----------
    sources : Sources
    data : ExportSource
    id_ : str or None
        COLREF; "none" for no ids. Left out, the first of ``names`` that the source has.
    names : tuple of str
    """
    if id_ == NO_IDS:
        return None
    records = data.records
    name = id_ or next((name for name in names if name in data.home.columns), None)
    if name is None:
        return None
    if records is not None and records.schema.names.count(name) == 1:
        return Ids(f"{data.name}::{name}", lambda rows: records.read_column(rows, name))
    ref = resolve(name, "id", sources, data.home)
    labels = read_labels(ref)
    if len(labels) != data.n_rows:
        raise InputError(f"{ref.where}: has {len(labels):,} ids for {data.n_rows:,} rows")
    return Ids(ref.where, lambda rows: iter([labels.take(pa.array(rows))]))


@dataclass(frozen=True, eq=False)
class Kept:
    """The rows that a selection keeps.

    Attributes
    ----------
    name : str
    rows : int64 array
        As they were picked, or as they are listed.
    artifact : Artifact or None
        The selection, unless it is a mere list.
    """

    name: str
    rows: NDArray[np.int64]
    artifact: Artifact | None


def read_kept(sources: Sources, ref: str, name: str, n_rows: int, ids: Ids | None) -> Kept:
    """Read a selection of a source's rows, or a list of them.

    Parameters
    ----------
    sources : Sources
    ref : str
        What ``d2 select`` wrote; else a list, see `d2cli.files.rowlists.read_rows`.
    name : str
        Of the source, for messages.
    n_rows : int
        Of the source.
    ids : Ids or None
        Of the source.

    Raises
    ------
    InputError
        If a list names what is no row.
    ArtifactError
        If a selection is damaged, or was made from other rows.
    """
    artifact = _artifact(ref)
    if artifact is None:
        labels = None
        if ids is not None and not ref.endswith(".npy"):
            parts = list(ids.of(np.arange(n_rows)))
            labels = pa.concat_arrays(parts) if parts else None
        if labels is not None and ids is not None:
            check_unique(labels, ids.where)
        return Kept(ref, read_rows(ref, Rows(name, n_rows, labels, None), sources), None)
    total = artifact.meta["results"]["n_samples"]
    if total != n_rows:
        raise ArtifactError(
            f"{ref}: was made from {total:,} rows, but {name} has {n_rows:,}",
            hint="name the source that it was made from",
        )
    rows = artifact.table.column("row").to_numpy()
    expected = ids_of(artifact)
    if ids is not None and expected is not None:
        check_ids(ids, rows, expected, ref)
    return Kept(ref, rows[np.argsort(artifact.table.column("rank").to_numpy())], artifact)


def _artifact(ref: str) -> Artifact | None:
    """Return the selection in a file; None if the file is no artifact of ours."""
    if ref == STDIN or not is_file(ref):
        return None
    with reading(ref), as_place(ref).open("rb") as file:
        if bytes(file.read(4)) != b"PAR1":
            return None
    try:
        return read_artifact(ref, "selection")
    except DamagedError:
        raise
    except ArtifactError:
        if peek(as_place(ref)):  # an artifact, but no selection
            raise
        return None


def check_ids(ids: Ids, rows: NDArray[np.int64], expected: pa.Array, name: str) -> None:
    """Raise ArtifactError unless some ascending rows have the ids that an artifact gives them."""
    import pyarrow.compute as pc

    at = 0
    hint = "the rows have moved or changed since; name the source that it was made from"
    for found in ids.of(rows):
        wanted = expected.slice(at, len(found))
        if found.type != wanted.type:
            raise ArtifactError(
                f"{ids.where}: ids are {found.type}, in {name} {wanted.type}", hint=hint
            )
        differ = np.asarray(pc.not_equal(found, wanted))
        if differ.any():
            first = int(differ.argmax())
            raise ArtifactError(
                f"{ids.where}: row {rows[at + first]} has the id {found[first].as_py()!r}, "
                f"but {name} has {wanted[first].as_py()!r} there",
                hint=hint,
            )
        at += len(found)


def ids_of_chosen(kept: Kept, ids: Ids | None, chosen: Chosen) -> Iterator[pa.Array] | None:
    """Return the ids of chosen rows in their order, batch by batch; None if there are none.

    The source's own ids come first; else kept rows have those of the selection.
    """
    if ids is not None:
        return ids.in_order(chosen)
    known = ids_of(kept.artifact) if kept.artifact is not None else None
    if known is None or not np.array_equal(chosen.ascending, np.sort(kept.rows)):
        return None
    return iter([known if chosen.places is None else known.take(pa.array(chosen.places))])
