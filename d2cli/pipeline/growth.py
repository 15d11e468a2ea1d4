"""Selections of data that grow: ``--previous``, ``--max-changes`` and ``--keep +N``."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.files.alignment import Rows
from d2cli.files.previous import Previous, read_previous
from d2cli.stages.changes import mark_earlier
from d2cli.stages.graph import KnnGraph
from d2cli.stages.selection import Selection, Wishes
from d2cli.stages.stability import compare_with_previous


def find_previous(ref: str | None, max_changes: int | None, rows: Rows) -> Previous | None:
    """Read the previous selection, if one is named.

    Raises
    ------
    ParameterError
        If changes are limited, but nothing is named that could change.
    ArtifactError
        See `d2cli.files.previous.read_previous`.
    """
    if ref is not None:
        return read_previous(ref, rows)
    if max_changes is not None:
        raise ParameterError(
            f"--max-changes {max_changes} needs the selection that may change so little",
            hint="name it with --previous, or leave out --max-changes",
        )
    return None


def keep_beside(more: int, include: str | None, wishes: Wishes) -> int:
    """Return the budget of ``--keep +N``: N rows beside the included ones.

    Raises
    ------
    ParameterError
        If no rows are included.
    """
    if include is None:
        raise ParameterError(
            f"--keep +{more} keeps {more:,} rows beside those of --include, which is not given",
            hint=f"name the rows that are there already with --include, or use --keep {more}",
        )
    return more + len(wishes.include)


def figures_beside_previous(
    previous: Previous,
    graph: KnnGraph,
    difficulty: NDArray[np.float64],
    kept: NDArray[np.bool_],
    candidate: NDArray[np.bool_],
    max_changes: int | None,
    reselect: Callable[[], Selection],
) -> dict[str, Any]:
    """Compare a selection with the previous one and, if changes were limited, a full re-selection.

    ``reselect`` makes the same selection without the limit; it is not called where there was none.
    """
    return compare_with_previous(
        graph,
        difficulty,
        kept,
        mark_earlier(previous.rows, candidate),
        n_previous=previous.n_kept,
        max_changes=max_changes,
        unlimited=None if max_changes is None else reselect(),
    )
