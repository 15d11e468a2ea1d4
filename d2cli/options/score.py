"""Options of the forward messages."""

from typing import Annotated

import typer

from d2cli.completion.values import columns, modalities, one_of
from d2cli.params import (
    AUTO,
    PROBE,
    Kernel,
    PresetName,
    ScoreParams,
)

_score = ScoreParams()
Preset = Annotated[
    PresetName | None,
    typer.Option(
        "--preset",
        help="default: chosen by measurement. paper: as published. reference: the authors' code. "
        "Other options override it. [default: default; for `d2 select`, that of the scores]",
        show_default=False,
    ),
]
GammaForward = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|auto",
        autocompletion=one_of(AUTO),
        help="Kernel width of forward messages; 0: neighbors count in full, large: hardly. "
        "auto: 1 / R^2 - 1 with R = max(rate, 0.1). [default: by preset]",
        show_default=False,
    ),
]
KernelOption = Annotated[
    Kernel | None,
    typer.Option(
        "--kernel",
        help="gaussian: exp(-gamma (d/h)^2). exponential: exp(-gamma d/h). [default: by preset]",
        show_default=False,
    ),
]
Bandwidth = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|auto",
        autocompletion=one_of(AUTO),
        help="h, the unit of distance. auto: the median distance to a neighbor. "
        "[default: by preset]",
        show_default=False,
    ),
]
Rounds = Annotated[int, typer.Option(help="Forward passes, each on the result before.")]
PruneHardest = Annotated[
    str | None,
    typer.Option(
        "--prune-hardest",
        metavar="NUMBER|auto|probe",
        autocompletion=one_of(AUTO, PROBE),
        help="Fraction of the hardest rows of each group to take out first (label noise). auto: "
        "what looks mislabelled, and a part of what is learned wrong; needs aum or another margin. "
        "probe: the fraction that predicts --labels of held-out rows best; needs 'd2cli[eval]'. "
        "[default: auto for aum or margin if the rate is known, else 0; 0 with the other presets]",
        show_default=False,
    ),
]
ProbeLabels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="COLREF",
        autocompletion=columns,
        help="Class of every row, for --prune-hardest probe.",
        show_default=False,
    ),
]
ProbeEmbedding = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        "-e",
        metavar="[NAME=]COLREF[:WEIGHT]",
        autocompletion=modalities,
        help="FILE or FILE::COLUMN of vectors, for --prune-hardest probe; several are put side by "
        "side.",
        show_default=False,
    ),
]
ScoreRate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        help="Pruning rate to come, 0 to 1; the default cutoff and --gamma-forward auto depend "
        "on it.",
        show_default=False,
    ),
]
SettingsFile = Annotated[
    str | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="Use the best setting that `d2 sweep -o FILE.json` found for the nearest rate, for "
        "what is not given otherwise.",
        show_default=False,
    ),
]
ROUNDS = _score.rounds
