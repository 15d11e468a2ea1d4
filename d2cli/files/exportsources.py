"""Sources to export from: one file or several, and what is known of them."""

import os
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.column import Source
from d2cli.files.records import Records, Shard, has_rows, open_shard
from d2cli.files.remote import Place, as_place
from d2cli.files.roworder import names_below
from d2cli.files.saved_datasets import STATE
from d2cli.files.shards import ShardedSource
from d2cli.files.sources import STDIN, Sources
from d2cli.files.text import TextSource


@dataclass(frozen=True, eq=False)
class ExportSource:
    """A source to export from.

    Attributes
    ----------
    name : str
    home : Source
        Its columns, one by one.
    records : Records or None
        Its whole rows, if it is a table.
    paths : tuple of Path or Remote
        Its files.
    folder : Path or None
        The folder, if it is one.
    sharded : bool
        Whether it may be more than one file.
    datasets : Path or None
        The folder, if it was written by ``datasets``.
    left_out : tuple of str
        Columns that are not in the tables but in arrays beside them.
    """

    name: str
    home: Source
    records: Records | None
    paths: tuple[Place, ...]
    folder: Path | None = None
    sharded: bool = False
    datasets: Path | None = None
    left_out: tuple[str, ...] = ()

    def holds(self, path: Place) -> bool:
        """Return whether a file or folder of this name would be a part of the source."""
        if not isinstance(path, Path):
            return False  # `d2cli.files.destinations.check_output` looks at remote folders
        place = Path(os.path.realpath(path))
        if self.folder is not None:
            return Path(os.path.realpath(self.folder)) in (place, *place.parents)
        return self.sharded and fnmatch(str(path.absolute()), str(Path(self.name).absolute()))

    @property
    def is_text(self) -> bool:
        """Whether it is CSV, TSV or JSON lines."""
        return isinstance(self.home, TextSource)

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return self.home.n_rows

    @property
    def whole_rows(self) -> Records:
        """The whole rows.

        Raises
        ------
        InputError
            If it is no table.
        """
        if self.records is None and isinstance(self.home, TextSource):
            raise InputError(
                f"{self.name}: has several columns called '{self.home.twice}', so its rows cannot "
                "be handed on whole",
                hint="rename them, or export ids or row numbers",
            )
        if self.records is None:
            raise InputError(
                f"{self.name}: is no table, so its rows cannot be handed on whole",
                hint="--format ids, rows or mask goes with any source, array with one NPY file; "
                "rows.npy picks those of other arrays",
            )
        return self.records

    @property
    def array(self) -> NDArray[Any]:
        """The array of an NPY file.

        Raises
        ------
        InputError
            If it is none.
        """
        found = self.home.array("") if "" in self.home.columns else None
        if found is None or not found.ndim:
            raise InputError(
                f"{self.name}: is no NPY file with rows", hint="--format parquet exports tables"
            )
        return found


def open_source(sources: Sources, text: str) -> ExportSource:
    """Open what other commands take as a SOURCE; its rows are in the same order.

    Raises
    ------
    ParameterError
        If it is standard input, which cannot be read twice.
    InputError
        If there is no such file, or it cannot be read.
    """
    if text == STDIN:
        raise ParameterError(
            "the source cannot be standard input", hint="name a file or folder with --source"
        )
    home = sources.open(text)
    several = isinstance(home, ShardedSource)
    paths = tuple(home.paths) if isinstance(home, ShardedSource) else (as_place(text),)
    place = as_place(text)
    folder = place if isinstance(place, Path) and place.is_dir() else None
    if isinstance(home, TextSource) and not home.twice:
        shard = Shard(paths[0], paths[0].name, home.n_rows, home.row_schema, None, False, text=home)
        return ExportSource(home.name, home, Records(home.name, [shard]), paths)
    if isinstance(home, TextSource) or not has_rows(paths[0]):
        return ExportSource(home.name, home, None, paths, folder, several)
    records = Records(home.name, _shards(home, paths, folder))
    return ExportSource(
        home.name,
        home,
        records,
        paths,
        folder,
        several,
        folder if folder and (folder / STATE).is_file() else None,
        tuple(name for name in home.columns if name not in records.schema.names),
    )


def _shards(home: Source, paths: tuple[Place, ...], folder: Path | None) -> list[Shard]:
    """Open the files of a table, with the columns that their folders' names are."""
    names = names_below(paths, folder)
    labels = home.labels if isinstance(home, ShardedSource) else {}
    shards = []
    for at, path in enumerate(paths):
        shard = open_shard(path, names[at])
        own = [
            (pa.field(label, _label_type(home, label)), texts[at])
            for label, texts in labels.items()
            if label not in shard.schema.names
        ]
        shard = replace(shard, labels=tuple(own))
        known = {*shard.schema.names, *labels}
        if any(column not in known for column in home.columns):
            shard = replace(shard, archive=path.with_suffix(".npz"))
        shards.append(shard)
    return shards


def _label_type(home: Source, name: str) -> pa.DataType:
    return pa.int64() if home.columns[name].kind == "numbers" else pa.large_string()
