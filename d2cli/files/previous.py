"""The previous selection, whose rows are looked for among those of grown data."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import ArtifactError
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import read_artifact
from d2cli.files.stages import ids_of


@dataclass(frozen=True, eq=False)
class Previous:
    """An earlier selection.

    Attributes
    ----------
    name : str
    digest : str
        Of the artifact.
    rows : int64 array, shape (m,)
        Its rows that are there still, as row numbers of the data at hand; all different.
    n_kept : int
        All rows that it kept, m of which are there still.
    """

    name: str
    digest: str
    rows: NDArray[np.int64]
    n_kept: int


def read_previous(ref: str, rows: Rows) -> Previous:
    """Read a selection and find its rows: by id if both sides have ids, else by number.

    Numbers are those of the same rows as long as data only grow at their end.

    Parameters
    ----------
    ref : str
        Parquet file of a selection, or "-".
    rows : Rows
        Of the data at hand.

    Raises
    ------
    InputError
        If there is no such file.
    ArtifactError
        If it is no selection that d2 wrote, damaged, or made from other data: no id is common, or
        there are no ids and it was made from more rows than there are.
    """
    artifact = read_artifact(ref, "selection")
    ids, kept = ids_of(artifact), artifact.table.num_rows
    if ids is not None and rows.ids is not None:
        found = _among(ids, rows, artifact.name)
    else:
        found = artifact.table.column("row").to_numpy()
        before = artifact.meta["results"]["n_samples"]
        if before > rows.n_rows:
            raise ArtifactError(
                f"{artifact.name}: was made from {before:,} rows, but {rows.name} has "
                f"{rows.n_rows:,}, and there are no ids to find its rows by",
                hint="rows that went have moved the others; use data with ids, or leave out "
                "--previous",
            )
    return Previous(artifact.name, artifact.digest, found.astype(np.int64), kept)


def _among(ids: pa.Array, rows: Rows, name: str) -> NDArray[np.int64]:
    """Return the rows whose ids a selection has, in its order; others are left out."""
    import pyarrow.compute as pc

    assert rows.ids is not None
    hint = "name the selection of an earlier state of these data with --previous"
    if ids.type != rows.ids.type:
        raise ArtifactError(
            f"{name}: ids are {ids.type}, those of {rows.name} are {rows.ids.type}", hint=hint
        )
    found = pc.index_in(ids, value_set=rows.ids).drop_null()
    if len(ids) and not len(found):
        raise ArtifactError(
            f"{name}: was made from other data: none of its {len(ids):,} ids is one of {rows.name}",
            hint=hint,
        )
    return np.asarray(found)
