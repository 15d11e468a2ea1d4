"""Options of ``d2 export``."""

from typing import Annotated

import typer

from d2cli.completion.values import file_columns, ids, one_of

# Those of `d2cli.files.exports`, which would import pyarrow.
FORMATS = (
    "parquet",
    "jsonl",
    "datasets",
    "ids",
    "rows",
    "mask",
    "array",
    "datacomp",
    "weights",
)

Selection = Annotated[
    str,
    typer.Argument(
        metavar="SELECTION",
        autocompletion=file_columns,
        help="Parquet file written by `d2 select` or `d2 prune`; or a list of ids or rows, see the "
        "README; - or nothing: such a list on standard input.",
        show_default=False,
    ),
]
SourceData = Annotated[
    str,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="What the selection was made from.",
        show_default=False,
    ),
]
ExportOutput = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="File or folder (a name without ending, or one that ends in /); - with --format "
        "jsonl, ids or rows: standard output.",
        show_default=False,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        autocompletion=one_of(*FORMATS),
        help="parquet, jsonl, datasets (whole rows); ids, rows, mask, weights; array (rows of an "
        "NPY file); datacomp (subset file). Left out, by OUT: .parquet; a folder: a Parquet file "
        "for each of SOURCE; .jsonl; .txt, .csv: ids; .npy: rows.",
        show_default=False,
    ),
]
Dropped = Annotated[
    bool, typer.Option("--dropped", help="Export the rows that are not kept instead.")
]
ExportOrder = Annotated[
    str,
    typer.Option(
        "--order",
        metavar="row|rank",
        autocompletion=one_of("row", "rank"),
        help="Order of the rows: as in SOURCE, or as they were picked (or listed).",
    ),
]
ExportId = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLREF",
        autocompletion=ids,
        help="Ids; those of kept rows are held against the selection's. Left out: a column id or "
        "uid (for datacomp uid first). none: match by row.",
        show_default=False,
    ),
]
ExportGraph = Annotated[
    str | None,
    typer.Option(
        "--graph",
        metavar="FILE",
        help="Graph, for --format weights. Left out: the selection's own, if it is in the cache.",
        show_default=False,
    ),
]
