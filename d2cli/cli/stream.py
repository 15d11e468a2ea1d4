"""The command ``stream``."""

from typing import Annotated

import typer

from d2cli import options as opt
from d2cli.completion.values import file_columns, one_of
from d2cli.params import AUTO, GraphParams, ScoreParams, SelectParams

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="- or nothing: an Arrow stream on standard input. Else what `d2 graph` reads: a file, "
        "folder or glob, read window by window; or a named pipe.",
        show_default=False,
    ),
]
Budget = Annotated[
    int, typer.Option("--budget", min=1, help="Rows to keep, at least 1.", show_default=False)
]
WindowRows = Annotated[
    int | None,
    typer.Option(
        "--window",
        min=1,
        metavar="ROWS",
        help="Rows that are looked at together with those kept so far; memory grows with both, and "
        "so does likeness to the offline selection. [default: twice the budget, at least 1,000]",
        show_default=False,
    ),
]
Include = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        autocompletion=file_columns,
        help="Ids or rows to keep in any case; they take the first ranks, in file order.",
        show_default=False,
    ),
]
PruneHardest = Annotated[
    str | None,
    typer.Option(
        "--prune-hardest",
        metavar="NUMBER|auto",
        autocompletion=one_of(AUTO),
        help="Fraction of the hardest rows so far that is never kept (label noise), judged on a "
        "sample of all scores; auto as in `d2 score`. [default: auto for aum or margin, else 0; 0 "
        "with the other presets]",
        show_default=False,
    ),
]
Watch = Annotated[
    float | None,
    typer.Option(
        "--watch",
        min=0,
        metavar="SECONDS",
        help="Take shards as they come into the folder SOURCE, in the order of their names, until "
        "a file _DONE or _SUCCESS lies in it or none came for so long. Left out: what is there.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.parquet",
        help="Where the state after every window is kept, from which the same command goes on. "
        "Left out: beside the output file, as NAME.checkpoint.parquet.",
        show_default=False,
    ),
]
ReportFile = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE", help="Report as .md or .json.", show_default=False),
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="SELECTION",
        help="Say how far the result is from another selection of the same rows (Parquet), such as "
        "that of `d2 prune`.",
        show_default=False,
    ),
]
Offline = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="The same, from the offline selection, which is computed from all rows in SOURCE: "
        "that is not bounded in memory.",
        show_default=False,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Start anew, whatever checkpoint or output there is.")
]


def stream(
    source: Source = "-",
    budget: Budget = ...,  # type: ignore[assignment]
    difficulty: opt.Difficulty = ...,  # type: ignore[assignment]
    harder: opt.Harder = None,
    window: WindowRows = None,
    watch: Watch = None,
    checkpoint: Checkpoint = None,
    embedding: opt.Embedding = None,
    id_: opt.Id = None,
    include: Include = None,
    prune_hardest: PruneHardest = None,
    preset: opt.Preset = None,
    gamma_forward: opt.GammaForward = None,
    gamma_reverse: opt.GammaReverse = None,
    kernel: opt.KernelOption = None,
    bandwidth: opt.Bandwidth = None,
    messages: opt.MessagesOption = None,
    ties: opt.TiesOption = None,
    neighbors: opt.Neighbors = opt.K,
    metric: opt.MetricOption = opt.METRIC,
    seed: opt.Seed = opt.SEED,
    output: opt.SelectionOutput = None,
    order: opt.Order = "row",
    report: ReportFile = None,
    against: Against = None,
    offline: Offline = None,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Select from rows as they come, in one pass and bounded memory.

    \b
      cat batches.arrows | d2 stream --budget 500 --difficulty aum > keep.txt
      d2 stream shards/ --watch 60 --budget 5000 --difficulty aum -o keep.parquet
      d2 stream huge.parquet --budget 5000 --difficulty el2n -o keep.parquet

    Rows kept so far and the next window of rows are selected from together, again and again; the
    gammas follow the rate so far. No more than these rows are held. Killed, the same command goes
    on from the checkpoint; where rows have been added, it takes these in.
    """
    from d2cli.commands import running
    from d2cli.commands import stream as commands_stream

    both = {
        "kernel": kernel,
        "bandwidth": opt.number_or_auto("bandwidth", bandwidth),
        "ties": ties,
        "seed": seed,
    }
    commands_stream.stream(
        source,
        GraphParams(n_neighbors=neighbors, metric=metric, seed=seed),
        ScoreParams.from_preset(
            preset or "default",
            gamma_forward=opt.number_or_auto("gamma-forward", gamma_forward),
            prune_hardest=opt.cutoff(prune_hardest),
            **both,
        ),
        SelectParams.from_preset(
            preset or "default",
            keep=budget,
            gamma_reverse=opt.number_or_auto("gamma-reverse", gamma_reverse),
            messages=messages,
            **both,
        ),
        difficulty=difficulty,
        harder=harder,
        window=window,
        watch=watch,
        checkpoint=checkpoint,
        embedding=embedding,
        id_=id_,
        include=include,
        report=report,
        against=against,
        offline=offline,
        targets=running.Targets(output, order, as_json=json),
        setting=running.Setting(threads, force, quiet, max_memory=opt.max_memory(max_memory)),
    )
