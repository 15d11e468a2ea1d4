"""Options of the commands that look at what was selected: ``explain``, ``diff``, ``report``."""

from typing import Annotated

import typer

from d2cli.completion.values import columns, file_columns

Selection = Annotated[
    str,
    typer.Argument(
        metavar="SELECTION",
        help="Parquet file written by `d2 select` or `d2 prune`.",
        show_default=False,
    ),
]
Wanted = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help="Ids of rows; row numbers, from 0, where the data have no ids.",
        show_default=False,
    ),
]
ByRow = Annotated[bool, typer.Option("--rows", help="Row numbers are meant, not ids.")]
Scores = Annotated[
    str | None,
    typer.Option(
        "--scores",
        metavar="FILE",
        help="Scores that the selection was made from. Left out: looked for in the cache.",
        show_default=False,
    ),
]
Graph = Annotated[
    str | None,
    typer.Option(
        "--graph",
        metavar="FILE",
        help="Graph that the selection was made from. Left out: looked for in the cache, and where "
        "the scores found it.",
        show_default=False,
    ),
]
ShownSource = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="The data that rows were selected from: for --show, and to find the groups.",
        show_default=False,
    ),
]
ShownColumn = Annotated[
    str | None,
    typer.Option(
        "--show",
        metavar="COLREF",
        autocompletion=columns,
        help="Column whose text is shown beside ids: COLUMN of --source, or FILE::COLUMN.",
        show_default=False,
    ),
]
GroupOfSelection = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="COLREF",
        autocompletion=columns,
        help="Groups that the selection was made with. Left out: those that neighbors were "
        "searched within, or a column of --source, if they are the same.",
        show_default=False,
    ),
]
IncludeOfSelection = Annotated[
    str | None,
    typer.Option(
        "--include",
        metavar="FILE",
        autocompletion=file_columns,
        help="The list that the selection was made with. Mostly found out without.",
        show_default=False,
    ),
]
ExcludeOfSelection = Annotated[
    str | None,
    typer.Option(
        "--exclude",
        metavar="FILE",
        autocompletion=file_columns,
        help="The list that the selection was made with. Without it, a row is known to be on it "
        "only if it would else have been picked.",
        show_default=False,
    ),
]

SideA = Annotated[
    str,
    typer.Argument(
        metavar="A",
        help="The selection before: .parquet, .npy, .txt, .csv or .jsonl.",
        show_default=False,
    ),
]
SideB = Annotated[str, typer.Argument(metavar="B", help="The selection after.", show_default=False)]
MatchRows = Annotated[
    bool, typer.Option("--rows", help="Match by row number, though both have ids.")
]
DiffGroup = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="COLREF",
        autocompletion=file_columns,
        help="FILE::COLUMN of labels to count by. Left out: the groups in the selections.",
        show_default=False,
    ),
]
MaxChange = Annotated[
    float | None,
    typer.Option(
        "--max-change",
        help="Exit with 6 if more than this share of A changed: the rows lost or the rows gained, "
        "whichever are more, beside the rows of A (0 to 1).",
        show_default=False,
    ),
]
MaxGroupLoss = Annotated[
    float | None,
    typer.Option(
        "--max-group-loss",
        help="Exit with 6 if any group keeps fewer rows in B, by more than this share of those it "
        "has in A (0 to 1).",
        show_default=False,
    ),
]
DiffOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the difference as .md or .json too.",
        show_default=False,
    ),
]
