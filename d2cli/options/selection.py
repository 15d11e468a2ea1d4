"""Options of a selection."""

from typing import Annotated

import typer

from d2cli.completion.values import file_columns, one_of
from d2cli.params import (
    AUTO,
    Balance,
    Messages,
    Method,
    SelectParams,
    Ties,
)

_select = SelectParams(rate=0.5)
GammaReverse = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|auto",
        autocompletion=one_of(AUTO),
        help="Kernel width of reverse messages. Small = strong suppression of a pick's neighbors "
        "= more diversity. auto: 1 / R^2 with R = max(rate, 0.1). [default: by preset]",
        show_default=False,
    ),
]
MessagesOption = Annotated[
    Messages | None,
    typer.Option(
        "--messages",
        help="signed: as published. clamped: a pick with a negative score sends nothing. "
        "[default: by preset]",
        show_default=False,
    ),
]
TiesOption = Annotated[
    Ties | None,
    typer.Option(
        "--ties",
        help="Which of equal rows comes first: random (by --seed) or the lowest row. "
        "[default: by preset]",
        show_default=False,
    ),
]
MethodOption = Annotated[
    Method,
    typer.Option(
        "--method",
        help="How rows are picked. All but d2 use difficulty and graph, but no scores.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        help="Fraction of rows REMOVED, the paper's pruning rate: 0.9 keeps a tenth.",
        show_default=False,
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        help="Rows to keep, instead of --rate. +500: 500 rows beside those of --include.",
        show_default=False,
    ),
]
BalanceOption = Annotated[
    Balance,
    typer.Option("--balance", help="Budgets of groups: by their share of the rows, or equal."),
]
Include = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        autocompletion=file_columns,
        help="Ids or rows to keep in any case, cut off or not; they take the first ranks, in file "
        "order.",
        show_default=False,
    ),
]
Exclude = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        autocompletion=file_columns,
        help="Ids or rows never to keep.",
        show_default=False,
    ),
]
Previous = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Selection of an earlier state of the data, Parquet, that the report compares with, "
        "and that --max-changes holds on to. Rows are found by id if both have ids, else by "
        "number.",
        show_default=False,
    ),
]
MaxChanges = Annotated[
    int | None,
    typer.Option(
        "--max-changes",
        help="Drop at most so many rows of --previous, those aside that are not there any more or "
        "are no candidates. With d2, random, hardest, easiest or moderate. Left out: no limit.",
        show_default=False,
    ),
]
BALANCE = _select.balance
METHOD = _select.method
