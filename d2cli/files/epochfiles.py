"""A training log of one file an epoch, in a folder or named by a glob."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from d2cli.errors import InputError
from d2cli.files.alignment import Rows
from d2cli.files.colref import fitting, only_column
from d2cli.files.column import list_columns
from d2cli.files.columns import read_vectors
from d2cli.files.digests import digest_file, digest_json
from d2cli.files.logs import Block, check_numbers, check_width, in_blocks
from d2cli.files.sources import Sources


@dataclass(eq=False)
class FileLog:
    """Files (n, classes), one an epoch, in the order of the number in their names."""

    where: str
    paths: list[Path]
    column: str | None
    rows: Rows
    n_classes: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.n_classes = None  # until the first file is read
        self.n_classes = next(self.blocks(0))[1].shape[1]

    @property
    def n_epochs(self) -> int:
        """Number of files."""
        return len(self.paths)

    def name_of(self, epoch: int) -> str:
        """Return the file's name."""
        return str(self.paths[epoch])

    def blocks(self, epoch: int) -> Iterator[Block]:
        """Yield the rows of a file in the order of the labels."""
        source = Sources().open(str(self.paths[epoch]))  # closed again, unlike those of the run
        if self.column is None:
            ref = only_column(source, "embedding")
        elif self.column in source.columns:
            ref = fitting(source, source.columns[self.column], "embedding")
        else:
            raise InputError(
                f"{source.name}: no column '{self.column}'; it has {list_columns(source)}"
            )
        outputs = read_vectors(ref)
        check_numbers(ref.where, outputs.dtype)
        check_width(ref.where, outputs.shape[1], self.n_classes)
        yield from in_blocks(outputs, self.rows.rows_of(ref, len(outputs)))

    def digest(self) -> str:
        """Return the digest of the files' contents in order, whatever their names."""
        return digest_json([digest_file(path) for path in self.paths])


def open_folder(sources: Sources, folder: Path, column: str | None, rows: Rows) -> FileLog:
    """Open the NPY and Parquet files of a folder that have a number in their names."""
    # A name without a number is no epoch: labels, or what this command has written.
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".npy", ".parquet", ".pq") and re.search(r"\d", path.stem)
    ]
    return open_files(sources, str(folder), found, column, rows)


def open_files(
    sources: Sources, where: str, found: list[Path], column: str | None, rows: Rows
) -> FileLog:
    """Open files as the epochs of one log, and count them among the files of the run."""
    if not found:
        raise InputError(
            f"{where}: no per-epoch files there, expected .npy or .parquet with the epoch's number "
            "in the name",
            hint="name a folder of them, or a glob in quotes such as 'logs/epoch_*.npy'",
        )
    paths = by_epoch(where, found)
    sources.paths.extend(paths)
    return FileLog(where, paths, column, rows)


def by_epoch(where: str, paths: list[Path]) -> list[Path]:
    """Sort files by the one number that differs between their names.

    Raises
    ------
    InputError
        If names differ in anything else, or two have one number.
    """
    hint = "choose the files of one run with a glob in quotes, such as 'logs/epoch_*.npy'"
    names = {path: re.sub(r"\d+", "#", path.name) for path in paths}
    other = next((path for path in paths if names[path] != names[paths[0]]), None)
    if other is not None:
        raise InputError(
            f"{where}: {paths[0].name} and {other.name} differ in more than a number", hint=hint
        )
    numbers = {path: [int(digits) for digits in re.findall(r"\d+", path.name)] for path in paths}
    columns = list(zip(*numbers.values(), strict=True))
    varying = [at for at, column in enumerate(columns) if len(set(column)) > 1]
    if len(varying) > 1 or (not varying and len(paths) > 1) or not columns:
        raise InputError(
            f"{where}: the names of {paths[0].name} ... {paths[-1].name} do not tell the epoch: "
            "expected one number that differs",
            hint=hint,
        )
    at = varying[0] if varying else 0
    ordered = sorted(paths, key=lambda path: numbers[path][at])
    for one, next_one in itertools.pairwise(ordered):
        if numbers[one][at] == numbers[next_one][at]:
            raise InputError(f"{where}: {one.name} and {next_one.name} are of one epoch", hint=hint)
    return ordered
