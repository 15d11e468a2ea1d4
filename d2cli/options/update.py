"""Options of ``d2 update``."""

from typing import Annotated, Literal

import typer

from d2cli.completion.values import columns, file_columns, ids
from d2cli.params import Metric

UpdateBackend = Literal["auto", "exact", "cells"]

Graph = Annotated[
    str,
    typer.Argument(
        metavar="GRAPH",
        help="File written by `d2 graph` or `d2 update`; - or nothing: standard input.",
        show_default=False,
    ),
]
Add = Annotated[
    str | None,
    typer.Option(
        "--add",
        metavar="SOURCE",
        help="Rows to add: a file, folder of shards, glob in quotes, or saved dataset.",
        show_default=False,
    ),
]
Retire = Annotated[
    str | None,
    typer.Option(
        "--retire",
        metavar="FILE",
        autocompletion=file_columns,
        help="Ids of rows to take out; row numbers where the graph has no ids.",
        show_default=False,
    ),
]
OldSource = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="Where the vectors of GRAPH are, as FILE or FILE::COLUMN; once for each of its "
        "sources, in their order. Left out: where the graph records them.",
        show_default=False,
    ),
]
Embedding = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        "-e",
        metavar="[NAME=]COLREF",
        autocompletion=columns,
        help="Vectors of the added rows; of several embeddings, once for each NAME whose column "
        "is called otherwise than before. Left out: the columns that the graph was made from.",
        show_default=False,
    ),
]
Id = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLREF",
        autocompletion=ids,
        help="Ids of the added rows. Left out: as for the graph. none: match by row.",
        show_default=False,
    ),
]
Within = Annotated[
    str | None,
    typer.Option(
        metavar="COLREF",
        autocompletion=columns,
        help="Groups of the added rows, if neighbors are searched within groups. Left out: the "
        "column that the graph was made with.",
        show_default=False,
    ),
]
Neighbors = Annotated[
    int | None,
    typer.Option(
        "--neighbors", "-k", help="Refused unless it is that of the graph.", show_default=False
    ),
]
MetricOption = Annotated[
    Metric | None,
    typer.Option("--metric", help="Refused unless it is that of the graph.", show_default=False),
]
Backend = Annotated[
    UpdateBackend,
    typer.Option(
        "--backend",
        help="exact: the same as a graph built anew with --backend exact; of several embeddings "
        "by bandwidths measured again. cells: k-means cells. auto: exact if the graph was built "
        "exactly, else cells.",
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(help="Target for cells, 0 to 1. [default: the graph's]", show_default=False),
]
