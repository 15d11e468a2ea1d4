"""``d2 report``: parse and call."""

from typing import Annotated

import typer

from d2cli import options as opt
from d2cli.completion.values import file_columns, modalities
from d2cli.options import artifacts as art

SelectionFile = Annotated[
    str,
    typer.Argument(
        metavar="SELECTION",
        help="Parquet file of a selection; - or nothing: standard input.",
        show_default=False,
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="File of the data, for --show, the groups, and the vectors of a map.",
        show_default=False,
    ),
]
Embedding = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        "-e",
        metavar="[NAME=]COLREF",
        autocompletion=modalities,
        help="Vectors for a map (.html only); all of them where the graph has several. Left out: "
        "the only ones that --source has.",
        show_default=False,
    ),
]
Include = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        autocompletion=file_columns,
        help="The list that --include named, if one did.",
        show_default=False,
    ),
]
Exclude = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        autocompletion=file_columns,
        help="The list that --exclude named, if one did.",
        show_default=False,
    ),
]
Previous = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The selection that --previous named, if it did.",
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help=".html, .md or .json; - or nothing: Markdown on standard output.",
        show_default=False,
    ),
]


def report(
    selection: SelectionFile = "-",
    scores: art.Scores = None,
    graph: art.Graph = None,
    source: Source = None,
    embedding: Embedding = None,
    group: art.GroupOfSelection = None,
    include: Include = None,
    exclude: Exclude = None,
    previous: Previous = None,
    id_: opt.Id = None,
    show: opt.Show = None,
    output: Output = None,
    summary: opt.Summary = False,
    cache_dir: opt.CacheDir = None,
    max_memory: opt.MaxMemory = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Render the report of a selection again, from the files that it was made from.

    \b
      d2 report keep.parquet -o report.html --source train.parquet --show text
      d2 report keep.parquet --scores scores.parquet -o report.md
      d2 report keep.parquet --summary
    """
    from d2cli.commands import report as commands_report
    from d2cli.commands import running

    commands_report.report(
        selection,
        commands_report.ReportRefs(
            scores,
            graph,
            source,
            tuple(embedding or ()),
            group,
            include,
            exclude,
            id_,
            show,
            previous,
        ),
        output=output,
        as_json=json,
        summary=summary,
        cache_dir=cache_dir,
        setting=running.Setting(None, False, quiet, max_memory=opt.max_memory(max_memory)),
    )
