"""Options that say where results go, and what is printed."""

from typing import Annotated

import typer

from d2cli.completion.values import columns, one_of

ArtifactOutput = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Parquet file; - or nothing: an Arrow stream on standard output.",
        show_default=False,
    ),
]
SelectionOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help=".parquet, .npy, .txt, .csv or .jsonl; - or nothing: one id or row a line on "
        "standard output.",
        show_default=False,
    ),
]
Order = Annotated[
    str,
    typer.Option(
        "--order",
        metavar="row|rank",
        autocompletion=one_of("row", "rank"),
        help="Order of the rows in outputs other than Parquet: by row, or as they were picked.",
    ),
]
ReportFile = Annotated[
    str | None,
    typer.Option(
        "--report", metavar="FILE", help="Report as .html, .md or .json.", show_default=False
    ),
]
Show = Annotated[
    str | None,
    typer.Option(
        "--show",
        metavar="COLREF",
        autocompletion=columns,
        help="Texts, or paths of images, that the report shows of the rows it names.",
        show_default=False,
    ),
]
Summary = Annotated[
    bool,
    typer.Option(
        "--summary",
        help="Append the report as Markdown to the file in $GITHUB_STEP_SUMMARY.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
