"""What the rows of a result are: how the rows of its source follow one another.

Row numbers mean nothing without it: a selection says which rows, this says of which files.
"""

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2cli.files.column import Source
from d2cli.files.digests import digest_json
from d2cli.files.remote import Place, Remote
from d2cli.files.shards import ShardedSource

MOST_FILES = 10_000  # that are listed by name


def names_below(paths: Sequence[Place], folder: Path | None = None) -> list[str]:
    """Return the names of files within the folder that all of them are below, with "/"."""
    local = [path for path in paths if isinstance(path, Path)]
    if local:
        top = folder or Path(os.path.commonpath([path.parent for path in local]))
        return [path.relative_to(top).as_posix() for path in local]
    remote = [path for path in paths if isinstance(path, Remote)]
    ways = [f"/{path.relative_to(Remote(path.home)).as_posix()}" for path in remote]
    above = posixpath.commonpath([posixpath.dirname(way) for way in ways])
    return [posixpath.relpath(way, above) for way in ways]


def row_order(source: Source) -> dict[str, Any]:
    """Return how the rows of a source follow one another.

    Parameters
    ----------
    source : Source

    Returns
    -------
    dict
        ``rule`` in words; ``n_files`` and ``n_rows``; of a folder or glob ``files``, a name and a
        number of rows for each file in their order. Of more than 10,000 files there is
        ``files_digest`` instead, the digest of that list. Names are those within the folder that
        holds all of the files: results tell neither where that is nor what a single file is called,
        which decides nothing.
    """
    if not isinstance(source, ShardedSource):
        return {"n_files": 1, "n_rows": source.n_rows, "rule": "rows as stored"}
    names = names_below(source.paths)
    files = [[name, n_rows] for name, n_rows in zip(names, source.rows, strict=True)]
    by_name = names == sorted(names, key=os.fsencode)
    order = "files by path, byte by byte" if by_name else "files as their folder lists them"
    found: dict[str, Any] = {
        "n_files": len(files),
        "n_rows": source.n_rows,
        "rule": f"{order}; rows as stored in each",
    }
    # In the order of keys that files have, so that a report does not depend on where it is from.
    if len(files) > MOST_FILES:
        return {"files_digest": digest_json(files), **found}
    return {"files": files, **found}
