"""Pictures of a report: the map of the embedding, and thumbnails of the rows that are shown."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.excerpts import Excerpts
from d2cli.files.reports import shown_rows, shown_texts
from d2cli.files.thumbnails import make_row_thumbnails, make_thumbnails
from d2cli.params import Metric
from d2cli.pipeline.run import Run
from d2cli.render.html import Pictures
from d2cli.stages.map2d import Map2d, flatten, sample_rows
from d2cli.stages.room import release
from d2cli.stages.vectors import as_vectors
from d2cli.stages.whitening import Whitening


def draw(
    run: Run,
    report: dict[str, Any],
    kept: NDArray[np.bool_],
    shown: Excerpts | None,
    read_vectors: Callable[[], NDArray[Any]] | None,
    *,
    shown_as: tuple[Metric, Whitening | None],
    seed: int,
) -> Pictures:
    """Draw what can be drawn; say which images are missing.

    Parameters
    ----------
    run : Run
    report : dict
        Its example rows may have texts that name images.
    kept : bool array, shape (n,)
    shown : Excerpts or None
        The column that the texts come from; it may hold images itself.
    read_vectors : callable or None
        Returns the vectors (n, d) as they are stored.
    shown_as : tuple of metric, and Whitening or None
        Of the graph: the map shows what was searched, so unit vectors for "cosine".
    seed : int
        Of the rows that the map shows.
    """
    stored: set[int] = set()
    images = _images(shown, shown_rows(report), stored) if shown else iter(())
    of_rows, unread = make_row_thumbnails(images)
    folder = shown.folder if shown else None
    thumbnails, missing = make_thumbnails(folder, shown_texts(report, stored))
    for note in filter(None, dict.fromkeys((unread, missing))):
        run.note(note)
    found = None
    if read_vectors is not None:
        found = _map(run, kept, read_vectors(), shown_as, seed)
    return Pictures(found, thumbnails, of_rows)


def _images(shown: Excerpts, rows: list[int], stored: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the images of some rows; remember which have one, whose paths need no look then."""
    for row, data in shown.images(rows):
        stored.add(row)
        yield row, data


def _map(
    run: Run,
    kept: NDArray[np.bool_],
    vectors: NDArray[Any],
    shown_as: tuple[Metric, Whitening | None],
    seed: int,
) -> Map2d:
    rows = sample_rows(kept, seed=seed)
    metric, whitening = shown_as
    sample = as_vectors(run.room.take(vectors, rows), metric, whitening=whitening)
    release(vectors)
    return flatten(sample, kept[rows], kept_share=float(kept.mean()))
