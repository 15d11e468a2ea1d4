"""What a selection keeps of an earlier one, beside what a free choice would have kept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.graph import KnnGraph
from d2cli.stages.report import cover, spread
from d2cli.stages.selection import Selection


def count_overlap(
    kept: NDArray[np.bool_], earlier: NDArray[np.bool_], n_previous: int
) -> dict[str, int]:
    """Count the rows of an earlier selection that stay, go and are gone, and the newcomers.

    Parameters
    ----------
    kept : bool array, shape (n,)
        Of the selection now.
    earlier : bool array, shape (n,)
        Rows of the earlier selection that might have been kept.
    n_previous : int
        All rows that the earlier selection kept.

    Returns
    -------
    dict
        "kept" and "changes" are the earlier rows that are and are not kept, "newcomers" all other
        rows that are, "gone" the rest of the earlier selection.
    """
    both, here = int((kept & earlier).sum()), int(earlier.sum())
    return {
        "kept": both,
        "changes": here - both,
        "gone": n_previous - here,
        "newcomers": int(kept.sum()) - both,
    }


def compare_with_previous(
    graph: KnnGraph,
    difficulty: NDArray[np.float64],
    kept: NDArray[np.bool_],
    earlier: NDArray[np.bool_],
    *,
    n_previous: int,
    max_changes: int | None,
    unlimited: Selection | None,
) -> dict[str, Any]:
    """Compare a selection with an earlier one, and with the full re-selection.

    Parameters
    ----------
    graph : KnnGraph
        Over n rows.
    difficulty : float64 array, shape (n,)
    kept, earlier, n_previous
        See `count_overlap`.
    max_changes : int or None
        The limit that the selection kept to.
    unlimited : Selection or None
        The same selection without that limit; None if there was none, so that it is the same.

    Returns
    -------
    dict
        Plain numbers, ready for JSON: "rows" of the earlier selection, "max_changes", the counts
        of `count_overlap`, and "reselection": the same counts for the full re-selection, the rows
        it shares with the selection ("common"), its "coverage" and "difficulty".
    """
    other = kept if unlimited is None else unlimited.kept
    return {
        "rows": n_previous,
        "max_changes": max_changes,
        **count_overlap(kept, earlier, n_previous),
        "reselection": {
            **count_overlap(other, earlier, n_previous),
            "common": int((kept & other).sum()),
            "coverage": vars(cover(graph, other)),
            "difficulty": spread(difficulty[other]),
        },
    }
