"""The commands ``graph``, ``score``, ``select`` and ``prune``."""

from typing import Annotated, Any

import typer

from d2cli import options as opt
from d2cli.options import engine as engines
from d2cli.params import GraphParams, ScoreParams, SelectParams


def graph(
    context: typer.Context,
    source: opt.Source = "-",
    embedding: opt.Embeddings = None,
    fusion: opt.FusionOption = None,
    id_: opt.Id = None,
    neighbors: opt.Neighbors = opt.K,
    metric: opt.MetricOption = opt.METRIC,
    shrinkage: opt.Shrinkage = opt.SHRINKAGE,
    backend: opt.BackendOption = opt.BACKEND,
    recall: opt.Recall = opt.RECALL,
    within: opt.Within = None,
    seed: opt.Seed = opt.SEED,
    output: opt.ArtifactOutput = "-",
    cache_dir: opt.CacheDir = None,
    engine: engines.GraphEngine = engines.ENGINE,
    address: engines.Address = None,
    partitions: engines.GraphPartitions = None,
    store: engines.Store = None,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    dry_run: opt.DryRun = False,
    verbose: opt.Verbose = False,
    quiet: opt.Quiet = False,
) -> None:
    """Find the nearest neighbors of every row.

    \b
      d2 graph train.parquet -o graph.parquet
      d2 graph emb.npy -k 15 --metric cosine -o graph.parquet
      d2 graph train.parquet -e clip --within label -o graph.parquet
      d2 graph clip.npz -e image=l14_img -e text=l14_txt:0.5 -o graph.parquet
      d2 graph emb.npy --engine ray --address auto --partitions 64 -o graph.parquet
    """
    from d2cli.commands import running, stages

    params = GraphParams(
        n_neighbors=neighbors,
        metric=metric,
        backend=backend,
        recall=recall,
        seed=seed,
        shrinkage=opt.fraction_or_auto("shrinkage", shrinkage),
    )
    stages.graph(
        source,
        params,
        embedding=embedding,
        fusion=fusion,
        id_=id_,
        within=within,
        given=opt.given(context),
        output=output,
        cache_dir=cache_dir,
        as_json=json,
        dry_run=dry_run,
        engine=running.engine_params(engine, address, partitions, store),
        setting=running.Setting(threads, force, quiet, verbose, opt.max_memory(max_memory)),
    )


def score(
    graph: opt.GraphFile = "-",
    difficulty: opt.Difficulty = ...,  # type: ignore[assignment]
    harder: opt.Harder = None,
    rate: opt.ScoreRate = None,
    preset: opt.Preset = None,
    gamma_forward: opt.GammaForward = None,
    kernel: opt.KernelOption = None,
    bandwidth: opt.Bandwidth = None,
    rounds: opt.Rounds = opt.ROUNDS,
    prune_hardest: opt.PruneHardest = None,
    group: opt.CutGroup = None,
    labels: opt.ProbeLabels = None,
    embedding: opt.ProbeEmbedding = None,
    id_: opt.Id = None,
    ties: opt.TiesOption = None,
    seed: opt.Seed = opt.SEED,
    output: opt.ArtifactOutput = "-",
    engine: engines.Engine = engines.ENGINE,
    address: engines.Address = None,
    partitions: engines.Partitions = None,
    store: engines.Store = None,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    verbose: opt.Verbose = False,
    quiet: opt.Quiet = False,
) -> None:
    """Pass difficulty over a graph: rows gather that of their neighbors.

    \b
      d2 score graph.parquet --difficulty train.parquet::aum --rate 0.9 -o scores.parquet
      d2 score graph.parquet --difficulty s.npy --harder high -o scores.parquet
      d2 score graph.parquet --difficulty uniform --preset paper -o scores.parquet
    """
    from d2cli.commands import running, stages

    params = ScoreParams.from_preset(
        preset or "default",
        rate=rate,
        gamma_forward=opt.number_or_auto("gamma-forward", gamma_forward),
        kernel=kernel,
        bandwidth=opt.number_or_auto("bandwidth", bandwidth),
        rounds=rounds,
        prune_hardest=opt.cutoff(prune_hardest),
        ties=ties,
        seed=seed,
    )
    stages.score(
        graph,
        params,
        difficulty=difficulty,
        harder=harder,
        group=group,
        labels=labels,
        embedding=embedding,
        id_=id_,
        output=output,
        as_json=json,
        engine=running.engine_params(engine, address, partitions, store),
        setting=running.Setting(threads, force, quiet, verbose, opt.max_memory(max_memory)),
    )


def select(
    scores: opt.ScoresFile = "-",
    rate: opt.Rate = None,
    keep: opt.Keep = None,
    method: opt.MethodOption = opt.METHOD,
    settings: opt.SettingsFile = None,
    preset: opt.Preset = None,
    gamma_reverse: opt.GammaReverse = None,
    kernel: opt.KernelOption = None,
    bandwidth: opt.Bandwidth = None,
    messages: opt.MessagesOption = None,
    ties: opt.TiesOption = None,
    seed: opt.Seed = opt.SEED,
    group: opt.Group = None,
    balance: opt.BalanceOption = opt.BALANCE,
    include: opt.Include = None,
    exclude: opt.Exclude = None,
    previous: opt.Previous = None,
    max_changes: opt.MaxChanges = None,
    id_: opt.Id = None,
    graph: Annotated[
        str | None,
        typer.Option(
            help="Graph of the scores. Left out: where they found it.", show_default=False
        ),
    ] = None,
    output: opt.SelectionOutput = None,
    order: opt.Order = "row",
    report: opt.ReportFile = None,
    show: opt.Show = None,
    summary: opt.Summary = False,
    cache_dir: opt.CacheDir = None,
    engine: engines.Engine = engines.ENGINE,
    address: engines.Address = None,
    partitions: engines.Partitions = None,
    store: engines.Store = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    verbose: opt.Verbose = False,
    quiet: opt.Quiet = False,
) -> None:
    """Keep the rows that are hard and unlike each other.

    \b
      d2 select scores.parquet --rate 0.9 -o keep.npy
      d2 select scores.parquet --keep 5000 --group train.parquet::label -o keep.parquet
      d2 select scores.parquet --rate 0.9 --report report.md > keep.txt
      d2 select scores.parquet --rate 0.9 --previous old.parquet --max-changes 100 -o keep.parquet
      d2 select scores.parquet --keep +500 --include labelled.txt --order rank
      d2 select scores.parquet --rate 0.9 --engine ray --address auto -o keep.parquet
    """
    from d2cli.commands import running, stages

    n_kept, beside_included = opt.rows_to_keep(keep)
    given = {
        "method": method,
        "rate": rate,
        "keep": n_kept,
        "gamma_reverse": opt.number_or_auto("gamma-reverse", gamma_reverse),
        "kernel": kernel,
        "bandwidth": opt.number_or_auto("bandwidth", bandwidth),
        "messages": messages,
        "ties": ties,
        "seed": seed,
        "balance": balance,
        "max_changes": max_changes,
    }
    stages.select(
        scores,
        given,
        settings=settings,
        preset=preset,
        graph_ref=graph,
        group=group,
        include=include,
        exclude=exclude,
        previous=previous,
        beside_included=beside_included,
        id_=id_,
        show=show,
        targets=running.Targets(output, order, report, json, summary),
        cache_dir=cache_dir,
        engine=running.engine_params(engine, address, partitions, store),
        setting=running.Setting(None, force, quiet, verbose, opt.max_memory(max_memory)),
    )


def prune(
    context: typer.Context,
    source: opt.Source = "-",
    difficulty: opt.Difficulty = ...,  # type: ignore[assignment]
    harder: opt.Harder = None,
    rate: opt.Rate = None,
    keep: opt.Keep = None,
    method: opt.MethodOption = opt.METHOD,
    settings: opt.SettingsFile = None,
    embedding: opt.Embeddings = None,
    fusion: opt.FusionOption = None,
    id_: opt.Id = None,
    group: opt.Group = None,
    balance: opt.BalanceOption = opt.BALANCE,
    within: opt.Within = None,
    prune_hardest: opt.PruneHardest = None,
    labels: opt.ProbeLabels = None,
    include: opt.Include = None,
    exclude: opt.Exclude = None,
    previous: opt.Previous = None,
    max_changes: opt.MaxChanges = None,
    preset: opt.Preset = None,
    gamma_forward: opt.GammaForward = None,
    gamma_reverse: opt.GammaReverse = None,
    kernel: opt.KernelOption = None,
    bandwidth: opt.Bandwidth = None,
    rounds: opt.Rounds = opt.ROUNDS,
    messages: opt.MessagesOption = None,
    ties: opt.TiesOption = None,
    neighbors: opt.Neighbors = opt.K,
    metric: opt.MetricOption = opt.METRIC,
    shrinkage: opt.Shrinkage = opt.SHRINKAGE,
    backend: opt.BackendOption = opt.BACKEND,
    recall: opt.Recall = opt.RECALL,
    seed: opt.Seed = opt.SEED,
    output: opt.SelectionOutput = None,
    order: opt.Order = "row",
    report: opt.ReportFile = None,
    show: opt.Show = None,
    summary: opt.Summary = False,
    cache_dir: opt.CacheDir = None,
    engine: engines.GraphEngine = engines.ENGINE,
    address: engines.Address = None,
    partitions: engines.GraphPartitions = None,
    store: engines.Store = None,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    dry_run: opt.DryRun = False,
    verbose: opt.Verbose = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run graph, score and select in one go, each stage cached.

    \b
      d2 prune train.parquet --difficulty aum --rate 0.9 -o keep.parquet --report report.md
      d2 prune train.parquet --difficulty el2n --rate 0.5 --within label --group label > keep.txt
      d2 prune emb.npy --difficulty s.npy --harder high --keep 5000 -o keep.npy
    """
    from d2cli.commands import running, stages

    n_kept, beside_included = opt.rows_to_keep(keep)
    both: dict[str, Any] = {
        "kernel": kernel,
        "bandwidth": opt.number_or_auto("bandwidth", bandwidth),
        "ties": ties,
        "seed": seed,
    }
    selecting = SelectParams.from_preset(
        preset or "default",
        method=method,
        rate=rate,
        keep=n_kept,
        gamma_reverse=opt.number_or_auto("gamma-reverse", gamma_reverse),
        messages=messages,
        balance=balance,
        max_changes=max_changes,
        **both,
    )
    stages.prune(
        source,
        GraphParams(
            n_neighbors=neighbors,
            metric=metric,
            backend=backend,
            recall=recall,
            seed=seed,
            shrinkage=opt.fraction_or_auto("shrinkage", shrinkage),
        ),
        ScoreParams.from_preset(
            preset or "default",
            rate=rate,
            gamma_forward=opt.number_or_auto("gamma-forward", gamma_forward),
            rounds=rounds,
            prune_hardest=opt.cutoff(prune_hardest),
            **both,
        ),
        selecting,
        settings=settings,
        given=opt.given(context),
        difficulty=difficulty,
        harder=harder,
        embedding=embedding,
        fusion=fusion,
        id_=id_,
        within=within,
        group=group,
        labels=labels,
        include=include,
        exclude=exclude,
        previous=previous,
        beside_included=beside_included,
        show=show,
        targets=running.Targets(output, order, report, json, summary),
        cache_dir=cache_dir,
        dry_run=dry_run,
        engine=running.engine_params(engine, address, partitions, store),
        setting=running.Setting(threads, force, quiet, verbose, opt.max_memory(max_memory)),
    )
