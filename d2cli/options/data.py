"""Options that name the user's data."""

from typing import Annotated

import typer

from d2cli.completion.values import columns, difficulties, ids, modalities
from d2cli.params import (
    Direction,
)

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="File, folder of shards, glob in quotes, or saved dataset with the embeddings; - or "
        "nothing: standard input.",
        show_default=False,
    ),
]
GraphFile = Annotated[
    str,
    typer.Argument(
        metavar="GRAPH",
        help="File written by `d2 graph`; - or nothing: standard input.",
        show_default=False,
    ),
]
ScoresFile = Annotated[
    str,
    typer.Argument(
        metavar="SCORES",
        help="File written by `d2 score`; - or nothing: standard input.",
        show_default=False,
    ),
]
Embedding = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        "-e",
        metavar="COLREF",
        autocompletion=columns,
        help="Column or array of vectors. Left out: the only one that SOURCE has.",
        show_default=False,
    ),
]
Embeddings = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        "-e",
        metavar="[NAME=]COLREF[:WEIGHT]",
        autocompletion=modalities,
        help="Column or array of vectors. Left out: the only one that SOURCE has. Several, each "
        "with its -e, become one graph, see --fusion; WEIGHT is 1 if left out, NAME that of the "
        "column or file.",
        show_default=False,
    ),
]
Id = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLREF",
        autocompletion=ids,
        help="Ids; columns of other files are joined by them. Left out: a column id or uid. "
        "none: match by row.",
        show_default=False,
    ),
]
Difficulty = Annotated[
    str,
    typer.Option(
        "--difficulty",
        metavar="COLREF",
        autocompletion=difficulties,
        help="Score of each row, or uniform for none (every row 1).",
        show_default=False,
    ),
]
Harder = Annotated[
    Direction | None,
    typer.Option(
        help="Which values are harder. Needed unless the column (of `d2 difficulty`) or the name "
        "says it: forgetting, el2n, entropy, "
        "loss, variance, grand, perplexity, uncertainty (high); aum, margin, confidence, "
        "likelihood (low).",
        show_default=False,
    ),
]
Within = Annotated[
    str | None,
    typer.Option(
        metavar="COLREF",
        autocompletion=columns,
        help="Search neighbors only inside a row's group, such as its class.",
        show_default=False,
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="COLREF",
        autocompletion=columns,
        help="Give each group, such as a class, a budget of its own; also the groups that "
        "--prune-hardest cuts within.",
        show_default=False,
    ),
]
CutGroup = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="COLREF",
        autocompletion=columns,
        help="Groups that --prune-hardest cuts within. Left out: those of `d2 graph --within`.",
        show_default=False,
    ),
]
