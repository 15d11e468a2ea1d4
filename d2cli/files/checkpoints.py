"""Between a stream's coreset and its files: the checkpoint to go on from, and the selection."""

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import ArtifactError
from d2cli.files.artifact_tables import column_of
from d2cli.files.artifacts import Artifact
from d2cli.files.stages import ids_of, lists, matrix, table_of
from d2cli.stages.sample import Sample
from d2cli.stages.streaming import Coreset

COUNTS = ("n_seen", "n_windows", "admitted", "evicted", "peak_rows", "cut")
NUMBERS = ("gamma_forward", "gamma_reverse", "bandwidth")


@dataclass(frozen=True, eq=False)
class Progress:
    """A coreset, the ids of its rows, and the digest of all rows that went into it."""

    coreset: Coreset
    ids: pa.Array | None
    digest: str


def checkpoint_table(progress: Progress) -> pa.Table:
    """Return the columns of a checkpoint."""
    held = progress.coreset
    return table_of(
        {
            **_selection_columns(progress),
            "value": held.values,
            "vector": lists(held.vectors),
            "near": lists(held.near),
            "met": held.met,
            "sum": held.sums,
            "windows": held.windows,
        }
    )


def selection_table_of(progress: Progress) -> pa.Table:
    """Return the columns of a selection, ascending by row."""
    return table_of(_selection_columns(progress))


def _selection_columns(progress: Progress) -> dict[str, Any]:
    held = progress.coreset
    return {
        "row": held.rows,
        "id": progress.ids,
        "rank": held.rank,
        "difficulty": held.difficulty,
        "score": held.score,
        "score_at_pick": held.score_at_pick,
    }


def checkpoint_results(progress: Progress) -> dict[str, Any]:
    """Return what a checkpoint records beside its columns."""
    held = progress.coreset
    return {
        **{name: getattr(held, name) for name in (*COUNTS, *NUMBERS)},
        "lowest": held.lowest,
        "highest": held.highest,
        "sample": {
            "rows": _text(held.sample.rows),
            "values": _text(held.sample.values),
            "capacity": held.sample.capacity,
            "seed": held.sample.seed,
        },
    }


def progress_of(artifact: Artifact) -> Progress:
    """Return what a checkpoint holds.

    Raises
    ------
    ArtifactError
        If its parts do not fit together.
    """
    results, table = artifact.meta["results"], artifact.table
    with _whole(artifact):
        kept = results["sample"]
        sample = Sample(
            _numbers(kept["rows"], np.int64),
            _numbers(kept["values"], np.float64),
            int(kept["capacity"]),
            int(kept["seed"]),
        )

        def column(name: str) -> NDArray[Any]:
            values: NDArray[Any] = column_of(table, name).to_numpy()
            return values

        coreset = Coreset(
            rows=column("row"),
            vectors=matrix(table, "vector"),
            values=column("value"),
            near=matrix(table, "near"),
            met=column("met"),
            sums=column("sum"),
            windows=column("windows"),
            rank=column("rank"),
            difficulty=column("difficulty"),
            score=column("score"),
            score_at_pick=column("score_at_pick"),
            sample=sample,
            lowest=float(results["lowest"]),
            highest=float(results["highest"]),
        )
        numbers: dict[str, Any] = {name: int(results[name]) for name in COUNTS}
        numbers |= {name: float(results[name]) for name in NUMBERS}
        coreset = replace(coreset, **numbers)
        return Progress(coreset, ids_of(artifact), str(artifact.meta["inputs"]["rows"]))


@contextlib.contextmanager
def _whole(artifact: Artifact) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{artifact.name}: is no checkpoint that can be gone on from",
            hint="--force starts anew, and replaces it",
        ) from error


def _text(values: NDArray[Any]) -> str:
    """Return numbers as text that keeps every bit."""
    little = values.astype(values.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()


def _numbers(text: str, kind: type[np.int64 | np.float64]) -> NDArray[Any]:
    little = np.frombuffer(base64.b64decode(text, validate=True), np.dtype(kind).newbyteorder("<"))
    return little.astype(kind)
