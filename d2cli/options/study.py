"""Options of the commands that study data: ``difficulty``, ``compare`` and ``sweep``."""

from typing import Annotated, get_args

import typer

from d2cli.completion.values import columns, file_columns, list_of
from d2cli.errors import ParameterError
from d2cli.options import cutoff, number_or_auto
from d2cli.params import (
    AUTO,
    PROBE,
    Auto,
    DynamicsParams,
    LogValues,
    Messages,
    Method,
    Metric,
    Probe,
)

_dynamics = DynamicsParams()

Dynamics = Annotated[
    str | None,
    typer.Argument(
        metavar="DYNAMICS",
        autocompletion=file_columns,
        help="Training log: NPY [epochs, n, classes]; a folder or quoted glob of per-epoch .npy or "
        ".parquet (n, classes); Parquet with id, epoch and outputs (a list, or the label's "
        "probability). FILE::COLUMN names a column; - or nothing: standard input.",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="COLREF",
        autocompletion=columns,
        help="Class of every row. A training log needs the numbers of its classes, from 0; with "
        "--from-graph or --embedding any labels do.",
        show_default=False,
    ),
]
Final = Annotated[
    str | None,
    typer.Option(
        "--final",
        metavar="COLREF",
        autocompletion=columns,
        help="Outputs of the final model (n, classes), for entropy. Left out: the last epoch.",
        show_default=False,
    ),
]
Values = Annotated[
    LogValues,
    typer.Option("--values", help="What the log holds. auto: judged by a sample of its rows."),
]
El2nEpochs = Annotated[
    int | None,
    typer.Option(
        "--el2n-epochs",
        help="First epochs that el2n is the mean over. [default: 5, or all if fewer]",
        show_default=False,
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        "--window",
        help="Epochs of a window of dynamic_uncertainty and dual. [default: 10; left out if fewer]",
        show_default=False,
    ),
]
FromGraph = Annotated[
    str | None,
    typer.Option(
        "--from-graph",
        metavar="GRAPH",
        help="Graph file instead of a log: neighbor_distance and, with --labels, "
        "label_disagreement.",
        show_default=False,
    ),
]
FromEmbedding = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        "-e",
        metavar="COLREF",
        autocompletion=file_columns,
        help="FILE or FILE::COLUMN of vectors instead of a log: prototypicality.",
        show_default=False,
    ),
]
Prototypes = Annotated[
    int | None,
    typer.Option(
        "--prototypes",
        help="Centroids, of each label if there are labels. [default: 1 a label; without labels "
        "the root of half the rows]",
        show_default=False,
    ),
]
PrototypeSeed = Annotated[
    int | None,
    typer.Option("--seed", help="Of the first centroids. [default: 0]", show_default=False),
]
VALUES = _dynamics.values

TargetLabels = Annotated[
    str,
    typer.Option(
        "--labels",
        metavar="COLREF",
        autocompletion=columns,
        help="What is to be predicted.",
        show_default=False,
    ),
]
TestFile = Annotated[
    str | None,
    typer.Option(
        "--test",
        metavar="FILE",
        help="Rows to test on, with the columns of SOURCE. Left out: a fifth of every class is "
        "held out, and no method sees it.",
        show_default=False,
    ),
]
Rates = Annotated[str, typer.Option(metavar="LIST", help="Pruning rates, separated by commas.")]
Methods = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        autocompletion=list_of(*get_args(Method)),
        help="Methods, separated by commas; random is always there.",
    ),
]
Seeds = Annotated[int, typer.Option(help="Repetitions, each with its own pool of rows.")]
ComparisonOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help=".json or .md.", show_default=False),
]
Plot = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Accuracy over the rate as .svg.", show_default=False),
]


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Read numbers separated by commas.

    Raises
    ------
    ParameterError
        If one of them is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"{option} is '{text}', expected numbers like 0.5,0.9") from error


def words(text: str) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


OptionalLabels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="COLREF",
        autocompletion=columns,
        help="What is to be predicted. Left out: figures without labels.",
        show_default=False,
    ),
]
NeighborsList = Annotated[
    str, typer.Option("--neighbors", "-k", metavar="LIST", help="Neighbors; one graph, sliced.")
]
MetricList = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="LIST",
        autocompletion=list_of(*get_args(Metric)),
        help="As in `d2 graph`; l2 is the default beside which others stand.",
    ),
]
GammaForwardList = Annotated[
    str,
    typer.Option(
        "--gamma-forward", metavar="LIST", autocompletion=list_of(AUTO), help="Numbers or auto."
    ),
]
GammaReverseList = Annotated[
    str,
    typer.Option(
        "--gamma-reverse", metavar="LIST", autocompletion=list_of(AUTO), help="Numbers or auto."
    ),
]
BandwidthList = Annotated[
    str,
    typer.Option(
        "--bandwidth", metavar="LIST", autocompletion=list_of(AUTO), help="Numbers or auto."
    ),
]
PruneHardestList = Annotated[
    str | None,
    typer.Option(
        "--prune-hardest",
        metavar="LIST",
        autocompletion=list_of(AUTO, PROBE),
        help="Fractions, auto or probe. [default: as in `d2 prune`]",
        show_default=False,
    ),
]
MessagesList = Annotated[
    str,
    typer.Option(
        "--messages",
        metavar="LIST",
        autocompletion=list_of(*get_args(Messages)),
        help="signed, clamped.",
    ),
]
RoundsList = Annotated[str, typer.Option("--rounds", metavar="LIST", help="Forward passes.")]
Modalities = Annotated[
    bool,
    typer.Option(
        "--modalities",
        help="Instead of settings, try each embedding alone and other weights of pairs, beside all "
        "of them.",
    ),
]
HeatMap = Annotated[
    str | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Heat map of settings and rates as .svg.",
        show_default=False,
    ),
]


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read whole numbers separated by commas.

    Raises
    ------
    ParameterError
        If one of them is none.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"{option} is '{text}', expected numbers like 5,10") from error


def cutoffs(text: str | None) -> tuple[float | Auto | Probe | None, ...]:
    """Read fractions, auto or probe, separated by commas; none if left out."""
    if text is None:
        return ()
    return tuple(cutoff(part.strip()) for part in text.split(","))


def numbers_or_auto(option: str, text: str) -> tuple[float | Auto | None, ...]:
    """Read numbers, or auto, separated by commas."""
    return tuple(number_or_auto(option, part.strip()) for part in text.split(","))
