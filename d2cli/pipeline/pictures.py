"""Pictures of a report: the map of the embedding, and thumbnails of the rows that are shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.reports import shown_texts
from d2cli.files.thumbnails import make_thumbnails
from d2cli.params import Metric
from d2cli.pipeline.run import Run
from d2cli.render.html import Pictures
from d2cli.stages.map2d import Map2d, flatten, sample_rows
from d2cli.stages.room import release
from d2cli.stages.vectors import as_vectors


def draw(
    run: Run,
    report: dict[str, Any],
    kept: NDArray[np.bool_],
    folder: Path | None,
    read_vectors: Callable[[], NDArray[Any]] | None,
    *,
    metric: Metric,
    seed: int,
) -> Pictures:
    """Draw what can be drawn; say which images are missing.

    Parameters
    ----------
    run : Run
    report : dict
        Its example rows may have texts that name images.
    kept : bool array, shape (n,)
    folder : Path or None
        What the images' paths start from.
    read_vectors : callable or None
        Returns the vectors (n, d) as they are stored.
    metric : {"l2", "cosine"}
        Of the graph: the map shows unit vectors for "cosine".
    seed : int
        Of the rows that the map shows.
    """
    thumbnails, missing = make_thumbnails(folder, shown_texts(report))
    if missing:
        run.note(missing)
    found = None
    if read_vectors is not None:
        found = _map(run, kept, read_vectors(), metric, seed)
    return Pictures(found, thumbnails)


def _map(
    run: Run, kept: NDArray[np.bool_], vectors: NDArray[Any], metric: Metric, seed: int
) -> Map2d:
    rows = sample_rows(kept, seed=seed)
    sample = as_vectors(run.room.take(vectors, rows), metric)
    release(vectors)
    return flatten(sample, kept[rows], kept_share=float(kept.mean()))
