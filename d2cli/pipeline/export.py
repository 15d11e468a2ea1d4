"""``d2 export``: the rows that a selection keeps, in the form that the next tool takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files import cache
from d2cli.files.artifacts import Artifact, read_artifact
from d2cli.files.chosen import (
    Chosen,
    Ids,
    Kept,
    check_ids,
    find_ids,
    ids_of_chosen,
    read_kept,
)
from d2cli.files.destinations import check_output
from d2cli.files.export_datacomp import subset_of
from d2cli.files.export_datasets import write_datasets
from d2cli.files.export_folder import check_folder, write_folder
from d2cli.files.export_jsonl import write_jsonl
from d2cli.files.export_lists import (
    numbers,
    write_ids,
    write_lines,
    write_npy,
    write_rows_of,
    write_weights,
)
from d2cli.files.export_parquet import write_parquet, write_shards
from d2cli.files.exports import TABLES, Destination, check_options, destination, writing
from d2cli.files.exportsources import ExportSource, open_source
from d2cli.files.publish import write_atomically
from d2cli.files.reorder import in_order
from d2cli.files.stages import graph_of, ids_of
from d2cli.files.stdout import stream_stdout
from d2cli.pipeline.run import Run
from d2cli.stages.weights import weigh_kept


@dataclass(frozen=True, eq=False)
class Exported:
    """What an export has done.

    Attributes
    ----------
    output, format : str
    n_rows : int
        Of the source.
    n_written : int
        Rows that were exported.
    n_files : int
        Files with rows.
    figures : dict
        For weights: their sum, and how many dropped rows are shared by all.
    """

    output: str
    format: str
    n_rows: int
    n_written: int
    dropped: bool
    n_files: int = 1
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "output": self.output,
            "format": self.format,
            "rows": {"total": self.n_rows, "exported": self.n_written},
            "dropped": self.dropped,
            "files": self.n_files,
            **self.figures,
        }


@dataclass(frozen=True, eq=False)
class Export:
    """What is to be exported, and as what.

    Attributes
    ----------
    run : Run
    source : ExportSource
    ids : Ids or None
        Of the source.
    kept : Kept
    chosen : Chosen
        The rows to be written.
    to : Destination
    figures : dict
        Filled by what is computed on the way.
    """

    run: Run
    source: ExportSource
    ids: Ids | None
    kept: Kept
    chosen: Chosen
    to: Destination
    graph: Artifact | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def batches(self) -> Iterator[Any]:
        """Yield the rows with all columns, in their order."""
        records = self.source.whole_rows
        rows = self._counted(records.read(self.chosen.ascending))
        places = self.chosen.places
        return rows if places is None else in_order(rows, records.schema, places)

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        done, total = 0, len(self.chosen.rows)
        for batch in batches:
            done += batch.num_rows
            self.run.on_progress("exporting", done, total)
            yield batch

    def some_ids(self) -> Iterator[Any]:
        """Yield the ids of the rows, in their order.

        Raises
        ------
        InputError
            If there are none.
        """
        found = ids_of_chosen(self.kept, self.ids, self.chosen)
        if found is None:
            raise InputError(
                f"{self.source.name}: has no ids",
                hint="name their column with --id, or write row numbers with --format rows",
            )
        return found

    # Every format is written by one of these, to a file or into a folder.

    def parquet(self, file: BinaryIO) -> None:
        """Write one Parquet file."""
        records = self.source.whole_rows
        layouts = (shard.layout for shard in records.shards if shard.layout)
        write_parquet(file, self.batches(), records.schema, next(layouts, None))

    def jsonl(self, file: BinaryIO) -> None:
        """Write JSON lines."""
        records = self.source.whole_rows
        write_jsonl(file.write, self.batches(), records.schema, self.source.name)

    def write_ids(self, file: BinaryIO) -> None:
        """Write ids as text or CSV."""
        if self.to.suffix == ".csv":
            write_ids(file, self.some_ids())
        else:
            write_lines(file.write, self.some_ids(), self.source.name)

    def rows(self, file: BinaryIO) -> None:
        """Write row numbers."""
        if self.to.suffix == ".npy":
            write_npy(file, self.chosen.rows)
        else:
            write_lines(file.write, numbers(self.chosen.rows), self.source.name)

    def mask(self, file: BinaryIO) -> None:
        """Write whether each row of the source is one of them."""
        write_npy(file, self.chosen.mask)

    def array(self, file: BinaryIO) -> None:
        """Write the rows of an array."""
        write_rows_of(file, self.source.array, self.chosen.rows)

    def datacomp(self, file: BinaryIO) -> None:
        """Write the subset file of DataComp."""
        ids = self.ids
        if ids is None:
            raise InputError(f"{self.source.name}: has no column uid", hint="name it with --id")
        rows = self.chosen.ascending
        write_npy(file, subset_of(ids.of(rows), rows, ids.where))

    def weights(self, file: BinaryIO) -> None:
        """Write what each kept row stands for."""
        assert self.graph is not None
        weights, n_shared = weigh_kept(graph_of(self.graph).adjacency, self.chosen.mask)
        self.figures["weights"] = {"sum": float(weights.sum()), "shared_rows": n_shared}
        if self.to.suffix == ".npy":
            write_npy(file, weights)
        else:
            ids = ids_of_chosen(self.kept, self.ids, self.chosen)
            write_weights(file, weights, self.chosen.rows, ids)

    def parquet_folder(self, folder: Path) -> int:
        """Write a Parquet file for each of the source."""
        return write_shards(folder, self.source.whole_rows, self.chosen.ascending, self._counted)

    def datasets(self, folder: Path) -> int:
        """Write a folder of ``datasets``."""
        return write_datasets(
            folder, self.batches(), self.source.whole_rows.schema, self.source.datasets
        )


def run_export(
    run: Run,
    selection: str,
    source: str,
    *,
    output: str,
    format_: str | None = None,
    dropped: bool = False,
    order: str = "row",
    id_: str | None = None,
    graph: str | None = None,
    cache_dir: str | None = None,
) -> Exported:
    """Write the rows of a SOURCE that a selection keeps.

    Parameters
    ----------
    run : Run
    selection : str
        What ``d2 select`` wrote, or a list of ids or rows.
    source : str
        What the selection was made from.
    output : str
        File, folder, or "-".
    format_ : str, optional
        Left out, by the ending of ``output``.
    dropped : bool
        Write the rows that are not kept.
    order : {"row", "rank"}
    id_ : str, optional
        COLREF.
    graph : str, optional
        For weights. Left out, it is looked for in the cache.
    cache_dir : str, optional
    """
    to = destination(output, format_)
    check_options(to, order=order, dropped=dropped, graph=graph)
    data = open_source(run.sources, source)
    names = ("uid", "id") if to.format == "datacomp" else ("id", "uid")
    ids = find_ids(run.sources, data, id_, names=names)
    kept = read_kept(run.sources, selection, data.name, data.n_rows, ids)
    _check_place(run, to, data, selection, graph)
    _tell_unchecked(run, data, kept, ids, to)
    if format_ is None and to.suffix == ".csv" and data.is_text:
        run.note(f"note: {to.path} will hold ids; whole rows go to .parquet or .jsonl")
    rows = kept.rows if order == "rank" else np.sort(kept.rows)
    chosen = Chosen(rows, data.n_rows)
    chosen = chosen.others() if dropped else chosen
    found = _graph(data, kept, ids, graph, cache_dir) if to.format == "weights" else None
    export = Export(run, data, ids, kept, chosen, to, found)
    n_files = _write(export)
    where = str(to.path) if to.path is not None else output
    return Exported(
        where, to.format, data.n_rows, len(chosen.rows), dropped, n_files, export.figures
    )


def _write(export: Export) -> int:
    """Write the export to its place; return the number of files."""
    to, n_files = export.to, 1
    with writing(export.source.name, to.format):
        if to.path is None:
            _writer(export)(Stdout())  # type: ignore[arg-type]
        elif isinstance(to.path, Path) and to.is_folder:
            counts: list[int] = []
            build = export.parquet_folder if to.format == "parquet" else export.datasets
            write_folder(to.path, lambda folder: counts.append(build(folder)))
            n_files = counts[0]
        else:
            write_atomically(to.path, _writer(export))
    return n_files


class Stdout:
    """Standard output as far as lines need a file."""

    write = staticmethod(stream_stdout)


def _writer(export: Export) -> Callable[[BinaryIO], None]:
    name = "write_ids" if export.to.format == "ids" else export.to.format
    writer: Callable[[BinaryIO], None] = getattr(export, name)
    return writer


def _check_place(
    run: Run, to: Destination, data: ExportSource, selection: str, graph: str | None
) -> None:
    """Refuse a place that cannot be written, or where it would become or destroy an input."""
    if to.path is None:
        return
    inputs = [*run.inputs(selection, graph), *data.paths]
    if isinstance(to.path, Path) and to.is_folder:
        check_folder(to.path, [path for path in (*inputs, data.folder) if isinstance(path, Path)])
    else:
        check_output(to.path, inputs)
    if data.holds(to.path):
        raise ParameterError(
            f"{to.path}: would be a part of the source {data.name}", hint="name another output"
        )


def _tell_unchecked(
    run: Run, data: ExportSource, kept: Kept, ids: Ids | None, to: Destination
) -> None:
    """Say what is taken on trust, and what is left out."""
    if ids is None and kept.artifact is not None and ids_of(kept.artifact) is not None:
        run.note(
            f"note: {data.name} has no ids to be held against those of {kept.name}; "
            "rows are matched by number"
        )
    if data.left_out and to.format in TABLES and not (to.format == "parquet" and to.is_folder):
        run.note(
            f"note: arrays beside the tables are left out: {', '.join(data.left_out)}; a folder of "
            "Parquet files takes them along"
        )


def _graph(
    data: ExportSource, kept: Kept, ids: Ids | None, ref: str | None, cache_dir: str | None
) -> Artifact:
    """Return the graph that a selection was made from, or one with the rows of the source."""
    wanted = kept.artifact.meta["inputs"].get("graph") if kept.artifact is not None else None
    place = ref
    if place is None and wanted is not None:
        found = cache.find_digest(cache.cache_folder(cache_dir), "graph", wanted)
        place = found.name if found else None
    if place is None:
        raise ParameterError(
            "weights need the graph, which is not in the cache",
            hint="name what `d2 graph` wrote with --graph",
        )
    graph = read_artifact(place, "graph")
    if wanted is not None:
        if graph.digest != wanted:
            raise ArtifactError(
                f"{graph.name}: is not the graph that {kept.name} was made from "
                f"(digest {graph.digest[:12]}, expected {wanted[:12]})",
                hint="name the right one with --graph",
            )
        return graph
    if graph.table.num_rows != data.n_rows:
        raise ArtifactError(
            f"{graph.name}: has {graph.table.num_rows:,} rows, but {data.name} has {data.n_rows:,}",
            hint="name the graph of this source",
        )
    expected = ids_of(graph)
    if ids is not None and expected is not None:
        check_ids(ids, np.arange(data.n_rows), expected, graph.name)
    return graph
