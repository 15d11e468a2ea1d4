"""The command ``check`` and its options."""

from typing import Annotated

import typer

from d2cli import options as opt
from d2cli.completion.values import columns, difficulties
from d2cli.errors import ParameterError
from d2cli.options import study

NeighborsList = Annotated[
    str,
    typer.Option(
        "--neighbors",
        "-k",
        metavar="LIST",
        help="Memory and time are estimated for each. Neighborhoods are looked at with 10 if it is "
        "among them, else with the first.",
    ),
]
Difficulty = Annotated[
    str | None,
    typer.Option(
        "--difficulty",
        metavar="COLREF",
        autocompletion=difficulties,
        help="Score of each row. Left out: its checks are left out.",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="COLREF",
        autocompletion=columns,
        help="Class of each row. Left out: its checks are left out.",
        show_default=False,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        help="Pruning rate to come, 0 to 1: does it leave every class a row?",
        show_default=False,
    ),
]
SelfTest = Annotated[
    bool,
    typer.Option(
        "--self-test",
        help="Check this installation instead of data, in seconds; exit code 1 if it is broken.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 for warnings, too.")]


def check(
    context: typer.Context,
    source: opt.Source = "-",
    difficulty: Difficulty = None,
    labels: Labels = None,
    harder: opt.Harder = None,
    embedding: opt.Embedding = None,
    id_: opt.Id = None,
    metric: opt.MetricOption = opt.METRIC,
    neighbors: NeighborsList = "5,10,20",
    rate: Rate = None,
    seed: opt.Seed = opt.SEED,
    strict: Strict = False,
    self_test: SelfTest = False,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> int:
    """Say whether data are fit for pruning: pass, warn or fail per check.

    \b
      d2 check train.parquet --difficulty aum --labels label --rate 0.9
      d2 check emb.npy --metric cosine -k 10,15 --max-memory 4G
      d2 check train.parquet --difficulty aum --strict --json > check.json
      d2 check --self-test

    Bad rows, duplicates, dead axes, lengths, hubs, classes, and whether neighbors are alike in
    label and difficulty; far faster than pruning. fail: `d2 prune` would refuse these data, and the
    exit code is 3. warn: it would take them; look first.
    """
    if self_test:
        _refuse_data(context, source)
        from d2cli.commands import self_test as commands_self_test

        return commands_self_test.self_test(as_json=json)
    from d2cli.commands import check as commands_check
    from d2cli.commands import running

    return commands_check.check(
        source,
        neighbors=study.whole_numbers("neighbors", neighbors),
        metric=metric,
        rate=rate,
        seed=seed,
        embedding=embedding,
        strict=strict,
        as_json=json,
        difficulty=difficulty,
        harder=harder,
        labels=labels,
        id_=id_,
        setting=running.Setting(threads, False, quiet, False, opt.max_memory(max_memory)),
    )


def _refuse_data(context: typer.Context, source: str) -> None:
    """Refuse what a check of the installation has no use for."""
    beside = [source] if source != "-" else []
    for parameter in context.command.params:
        found = context.get_parameter_source(parameter.name or "")
        typed = getattr(found, "name", "") == "COMMANDLINE"
        if typed and parameter.name not in ("source", "self_test", "json", "quiet"):
            beside.append(max(parameter.opts, key=len))
    if beside:
        raise ParameterError(
            f"--self-test checks the installation, not {' and '.join(beside)}",
            hint="leave one of them out",
        )
