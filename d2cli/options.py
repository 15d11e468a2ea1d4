"""Command-line options: one spelling in all commands."""

from typing import Annotated

import typer

from d2cli.completion import columns, difficulties, file_columns, ids, modalities, one_of
from d2cli.errors import ParameterError
from d2cli.params import (
    AUTO,
    PROBE,
    Auto,
    Backend,
    Balance,
    Direction,
    DynamicsParams,
    Fusion,
    GraphParams,
    Kernel,
    Messages,
    Method,
    Metric,
    PresetName,
    Probe,
    ScoreParams,
    SelectParams,
    Ties,
)
from d2cli.quantities import parse_size

_graph = GraphParams()
_dynamics = DynamicsParams()
_score = ScoreParams()
_select = SelectParams(rate=0.5)


def cutoff(text: str | None) -> float | Auto | Probe | None:
    """Read "auto", "probe" or a number as the value of --prune-hardest.

    Raises
    ------
    ParameterError
        If it is none of them.
    """
    if text is None or text in (AUTO, PROBE):
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ParameterError(
            f"prune-hardest is '{text}', expected a number, auto or probe"
        ) from error


def given(context: typer.Context) -> tuple[str, ...]:
    """Return the names of the options that were given, there or in a file or the environment."""
    return tuple(
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"
    )


def rows_to_keep(text: str | None) -> tuple[int | None, bool]:
    """Read the value of --keep: a number of rows, and whether included ones come on top (+N).

    Raises
    ------
    ParameterError
        If it is no whole number.
    """
    if text is None:
        return None, False
    try:
        return int(text), text.lstrip().startswith("+")
    except ValueError as error:
        raise ParameterError(
            f"keep is '{text}', expected a number of rows, or +N for N rows beside the included"
        ) from error


def number_or_auto(option: str, text: str | None) -> float | Auto | None:
    """Read "auto" or a number as the value of an option.

    Raises
    ------
    ParameterError
        If it is neither.
    """
    if text is None or text == AUTO:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ParameterError(f"{option} is '{text}', expected a number or auto") from error


def fraction_or_auto(option: str, text: str) -> float | Auto:
    """As `number_or_auto`, of an option that has a value in any case."""
    found = number_or_auto(option, text)
    return AUTO if found is None else found


def max_memory(text: str | None) -> int | None:
    """Read the value of --max-memory as bytes."""
    return None if text is None else parse_size("max-memory", text)


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
FusionOption = Annotated[
    Fusion | None,
    typer.Option(
        "--fusion",
        help="How several embeddings become one graph. distance: by the weighted mean of squared "
        "distances, each in units of its median. graphs: union of a graph of each. concat: side "
        "by side, unit rows (cosine); every row needs all of them. [default: distance]",
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

Neighbors = Annotated[
    int, typer.Option("--neighbors", "-k", help="Neighbors stored a row, itself excluded.")
]
MetricOption = Annotated[
    Metric,
    typer.Option(
        "--metric",
        help="cosine: l2 between unit vectors, 0 to 2. ip: inner product, of rows of one length. "
        "l1: exact search only. mahalanobis: l2 of whitened vectors. hamming: bits that differ "
        "between packed codes (uint8).",
    ),
]
Shrinkage = Annotated[
    str,
    typer.Option(
        metavar="NUMBER|auto",
        autocompletion=one_of(AUTO),
        help="For --metric mahalanobis: weight of the identity in the covariance, 0 to 1. auto: by "
        "the formula of Ledoit and Wolf.",
    ),
]
BackendOption = Annotated[
    Backend,
    typer.Option(
        "--backend",
        help="exact; hnsw; cells: k-means cells, the fastest for clustered embeddings. auto: exact "
        "where that is at most as slow, else hnsw. fast: the same, but cells where they reach "
        "--recall.",
    ),
]
Recall = Annotated[
    float,
    typer.Option(
        help="Target for hnsw and cells: effort rises until this share of the neighbors of a "
        "sample is found (0 to 1)."
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-j",
        min=1,
        help="Threads; results do not depend on them. Left out: all processors.",
        show_default=False,
    ),
]

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
ScoreRate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        help="Pruning rate to come, 0 to 1; the default cutoff and --gamma-forward auto depend "
        "on it.",
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
CacheDir = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Where finished stages are kept.",
        envvar="D2_CACHE_DIR",
        show_default="the user's cache folder",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Compute even what is up to date.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Print what each stage took; before a graph, the plan (estimates)."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan: steps with their memory and time (estimates), and what is there "
        "already. Nothing is computed or written.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Stay within so much memory, such as 500M, 4G or 1.5GiB; what would need more is "
        "refused before it begins. Vectors of graphs that do not fit stay on disk. Results do not "
        "depend on it. Left out: what the machine, or the cgroup, has left.",
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

K, METRIC, BACKEND = _graph.n_neighbors, _graph.metric, _graph.backend
SHRINKAGE = str(_graph.shrinkage)
RECALL, SEED = _graph.recall, _graph.seed
ROUNDS, BALANCE = _score.rounds, _select.balance
METHOD = _select.method
