"""Rows of one file matched with rows of another: by id where both have ids, else by number."""

import contextlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.colref import id_column
from d2cli.files.column import Source, list_columns
from d2cli.files.columns import ColumnRef, check_unique, read_labels
from d2cli.files.text import TextSource
from d2cli.stages.defects import Defect

NO_IDS = "none"


@dataclass(frozen=True)
class Rows:
    """The rows that everything is matched with: those of the command's SOURCE.

    Attributes
    ----------
    name : str
        Of the SOURCE, for messages.
    n_rows : int
    ids : Arrow array or None
        Unique, in row order.
    source : Source or None
        Where they come from; columns of it need no matching.
    id_name : str or None
        The ``--id`` option: "none" for no ids, or a column that other files may have too.
    """

    name: str
    n_rows: int
    ids: pa.Array | None
    source: Source | None
    id_name: str | None = None

    def rows_of(
        self, ref: ColumnRef, length: int, *, partial: bool = False
    ) -> NDArray[np.int64] | None:
        """Return for each of our rows its row in the other source; None if they are the same.

        Parameters
        ----------
        ref : ColumnRef
            The column to be matched.
        length : int
            Its rows.
        partial : bool
            An id that the other source lacks is -1, and no error.

        Raises
        ------
        InputError
            If lengths disagree, ids repeat, one of our ids is missing, or ids differ in type.
        """
        if ref.source is not self.source and self.ids is not None:
            named = self.id_name
            if self.source is None and named is not None and named not in ref.source.columns:
                raise InputError(
                    f"{ref.source.name}: no column '{named}' to be the id; "
                    f"it has {list_columns(ref.source)}",
                    hint="--id names a column of this file; --id none matches by row",
                )
            theirs = id_column(ref.source, self.id_name)
            if theirs is not None:
                return self._join(theirs, partial=partial)
        if length != self.n_rows:
            raise InputError(
                f"{ref.where}: has {length:,} rows, but {self.name} has {self.n_rows:,}",
                hint="files are matched by row unless both have an id column",
            )
        return None

    def _join(self, theirs: ColumnRef, *, partial: bool) -> NDArray[np.int64] | None:
        """Return the row of theirs for each row; None if they are in the same order."""
        import pyarrow.compute as pc

        other = read_labels(theirs)
        check_unique(other, theirs.where)
        assert self.ids is not None
        if isinstance(theirs.source, TextSource) and pa.types.is_int64(self.ids.type):
            with contextlib.suppress(pa.ArrowInvalid):  # ids in CSV are text
                other = other.cast(pa.int64())
                check_unique(other, theirs.where)  # 7 and 07
        if other.type != self.ids.type:
            raise InputError(
                f"{theirs.where}: ids are {other.type}, those of {self.name} are {self.ids.type}",
                hint="store both as strings or both as integers; --id none matches by row",
            )
        if other.equals(self.ids):  # no search among all of them, and no memory for it
            return None
        found = pc.index_in(self.ids, value_set=other)
        if found.null_count and not partial:
            missing = np.asarray(found.is_null())
            row = int(missing.argmax())
            defect = Defect(
                f"of {self.name} has the id {self.ids[row].as_py()!r}, which is missing here",
                "every row needs its value; --id none matches by row instead",
            )
            defect.add(0, missing)
            defect.refuse(theirs.where)
        rows = np.asarray(found.fill_null(-1) if found.null_count else found).astype(np.int64)
        del found, other
        pa.default_memory_pool().release_unused()
        return rows

    def lookup(self, wanted: pa.Array, where: str) -> NDArray[np.int64]:
        """Return the rows of some ids.

        Raises
        ------
        InputError
            If an id is unknown; names the first and the count.
        """
        import pyarrow.compute as pc

        assert self.ids is not None
        try:
            found = pc.index_in(wanted.cast(self.ids.type), value_set=self.ids)
        except pa.ArrowInvalid as error:
            raise InputError(f"{where}: {error}") from error
        if found.null_count:
            missing = np.asarray(found.is_null())
            entry = int(missing.argmax())
            raise InputError(
                f"{where}: entry {entry} is {wanted[entry].as_py()!r}, which is no id of "
                f"{self.name} ({int(missing.sum()):,} such in all)"
            )
        return np.asarray(found).astype(np.int64)


def identify(source: Source, given: ColumnRef | None, n_rows: int, id_name: str | None) -> Rows:
    """Find the ids of a SOURCE.

    Parameters
    ----------
    source : Source
    given : ColumnRef, optional
        What ``--id`` names; left out, a column ``id`` or ``uid`` is taken.
    n_rows : int
    id_name : str or None
        The option's text; "none" leaves ids out.
    """
    ref = given
    if ref is None and id_name != NO_IDS:
        ref = id_column(source, None)
    if ref is None:
        return Rows(source.name, n_rows, None, source, id_name)
    ids = read_labels(ref)
    if not (pa.types.is_large_string(ids.type) or pa.types.is_int64(ids.type)):
        raise InputError(f"{ref.where}: ids are {ids.type}, expected strings or integers")
    if len(ids) != n_rows:
        raise InputError(f"{ref.where}: has {len(ids):,} ids for {n_rows:,} rows")
    check_unique(ids, ref.where)
    return Rows(source.name, n_rows, ids, source, id_name)
