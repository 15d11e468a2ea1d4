"""Options of commands whose stages also run in parts."""

from typing import Annotated, Literal

import typer

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="local: this process. ray: tasks on a Ray cluster; needs 'd2cli[ray]'. The result is "
        "the same.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster: auto, the one that this machine is a node of; host:port; or "
        "ray://host:port, which needs 'ray[client]'. Left out: one is started here, and stopped at "
        "the end.",
        show_default=False,
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(
        help="Parts that the rows are divided into, a task each. Left out: one for each CPU of the "
        "cluster, but at least 50,000 rows each; with --engine local, no parts.",
        show_default=False,
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Where results of tasks are kept until all are there, so that a run that was lost "
        "goes on; a folder, also such as s3://bucket/parts. Left out: the cache folder.",
        show_default=False,
    ),
]
GraphEngine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="local: this process. ray: tasks on a Ray cluster; needs 'd2cli[ray]'. The result is "
        "the same for the same --partitions.",
    ),
]
GraphPartitions = Annotated[
    int | None,
    typer.Option(
        "--partitions",
        help="Partitions of near rows that are searched one by one, a task each; the graph depends "
        "on their number. Left out: one for each 50,000 rows; with --engine local, none.",
        show_default=False,
    ),
]

ENGINE: Literal["local", "ray"] = "local"
