"""Commands that study data: ``difficulty``, ``compare`` and ``sweep``."""

from typing import Any

from d2cli import options as opt
from d2cli.options import study
from d2cli.params import GraphParams, ScoreParams


def difficulty(
    dynamics: study.Dynamics = None,
    labels: study.Labels = None,
    final: study.Final = None,
    values: study.Values = study.VALUES,
    el2n_epochs: study.El2nEpochs = None,
    window: study.Window = None,
    from_graph: study.FromGraph = None,
    embedding: study.FromEmbedding = None,
    prototypes: study.Prototypes = None,
    seed: study.PrototypeSeed = None,
    id_: opt.Id = None,
    output: opt.ArtifactOutput = "-",
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Turn a training log, a graph or embeddings into difficulty columns.

    \b
      d2 difficulty logits.npy --labels train.parquet::label -o difficulty.parquet
      d2 difficulty 'logs/epoch_*.npy' --labels labels.npy --final final.npy -o difficulty.parquet
      d2 difficulty --from-graph graph.parquet --labels train.parquet::label -o density.parquet
      d2 difficulty --embedding train.parquet --labels label -o prototypes.parquet

    Every column says in its own metadata whether high or low is harder; `d2 score` goes by it.
    """
    from d2cli.commands import running
    from d2cli.commands import study as commands_study

    commands_study.difficulty(
        {
            "DYNAMICS": dynamics,
            "--from-graph": from_graph,
            "--embedding": running.one_embedding(embedding),
        },
        {
            "--final": final,
            "--values": values,
            "--el2n-epochs": el2n_epochs,
            "--window": window,
            "--prototypes": prototypes,
            "--seed": seed,
        },
        labels=labels,
        id_=id_,
        output=output,
        as_json=json,
        setting=running.Setting(threads, force, quiet, max_memory=opt.max_memory(max_memory)),
    )


def compare(
    source: opt.Source = "-",
    difficulty: opt.Difficulty = ...,  # type: ignore[assignment]
    labels: study.TargetLabels = ...,  # type: ignore[assignment]
    test: study.TestFile = None,
    rates: study.Rates = "0.3,0.5,0.7,0.8,0.9",
    methods: study.Methods = "random,d2,hardest,ccs,moderate",
    seeds: study.Seeds = 3,
    harder: opt.Harder = None,
    embedding: opt.Embedding = None,
    id_: opt.Id = None,
    group: opt.Group = None,
    balance: opt.BalanceOption = opt.BALANCE,
    within: opt.Within = None,
    prune_hardest: opt.PruneHardest = None,
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
    output: study.ComparisonOutput = None,
    plot: study.Plot = None,
    cache_dir: opt.CacheDir = None,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Compare methods with random, by what a model learns from the kept rows.

    \b
      d2 compare train.parquet --difficulty aum --labels label --test test.parquet -o compare.md
      d2 compare train.parquet --difficulty aum --labels label --rates 0.5,0.9 --plot compare.svg
      d2 compare train.parquet --difficulty el2n --labels label --methods d2,ccs,kcenter --json

    A linear probe and a vote of neighbors are trained on the kept rows and tested on TEST or,
    without it, on a fifth of every class that no method sees. Finished cells are cached: an
    interrupted run goes on where it stopped. Needs scikit-learn: pip install 'd2cli[eval]'.
    """
    from d2cli.commands import running
    from d2cli.commands import study as commands_study

    both: dict[str, Any] = {
        "kernel": kernel,
        "bandwidth": opt.number_or_auto("bandwidth", bandwidth),
        "ties": ties,
    }
    commands_study.compare(
        source,
        commands_study.compare_params(study.numbers("rates", rates), study.words(methods), seeds),
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
            gamma_forward=opt.number_or_auto("gamma-forward", gamma_forward),
            rounds=rounds,
            prune_hardest=opt.cutoff(prune_hardest),
            **both,
        ),
        {
            "gamma_reverse": opt.number_or_auto("gamma-reverse", gamma_reverse),
            "messages": messages,
            "balance": balance,
            **both,
        },
        preset=preset or "default",
        difficulty=difficulty,
        labels=labels,
        test=test,
        harder=harder,
        embedding=embedding,
        id_=id_,
        within=within,
        group=group,
        cache_dir=cache_dir,
        output=output,
        plot=plot,
        as_json=json,
        setting=running.Setting(threads, force, quiet, max_memory=opt.max_memory(max_memory)),
    )


def sweep(
    source: opt.Source = "-",
    difficulty: opt.Difficulty = ...,  # type: ignore[assignment]
    rates: study.Rates = "0.5,0.7,0.9",
    labels: study.OptionalLabels = None,
    test: study.TestFile = None,
    neighbors: study.NeighborsList = "10",
    metric: study.MetricList = "l2",
    gamma_forward: study.GammaForwardList = "auto",
    gamma_reverse: study.GammaReverseList = "auto",
    bandwidth: study.BandwidthList = "auto",
    prune_hardest: study.PruneHardestList = None,
    messages: study.MessagesList = "signed",
    rounds: study.RoundsList = "1",
    modalities: study.Modalities = False,
    seeds: study.Seeds = 3,
    harder: opt.Harder = None,
    embedding: opt.Embeddings = None,
    fusion: opt.FusionOption = None,
    id_: opt.Id = None,
    group: opt.Group = None,
    within: opt.Within = None,
    backend: opt.BackendOption = opt.BACKEND,
    recall: opt.Recall = opt.RECALL,
    seed: opt.Seed = opt.SEED,
    output: study.ComparisonOutput = None,
    plot: study.HeatMap = None,
    cache_dir: opt.CacheDir = None,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Try settings: every combination of the given values beside the default.

    \b
      d2 sweep train.parquet --difficulty aum --labels label -k 5,10,20 --gamma-reverse auto,0.1,1
      d2 sweep train.parquet --difficulty aum --bandwidth auto,1 --plot overlap.svg -o sweep.json
      d2 select scores.parquet --rate 0.9 --settings sweep.json
      d2 sweep train.parquet -e image -e text --modalities --difficulty aum --labels label

    With labels, by what a linear probe learns (as `d2 compare`); without, by coverage and overlap
    with the default's selection. Finished cells are cached.
    """
    from d2cli.commands import running
    from d2cli.commands import study as commands_study

    commands_study.sweep(
        source,
        {
            "neighbors": study.whole_numbers("neighbors", neighbors),
            "metric": study.words(metric),
            "gamma_forward": study.numbers_or_auto("gamma-forward", gamma_forward),
            "gamma_reverse": study.numbers_or_auto("gamma-reverse", gamma_reverse),
            "bandwidth": study.numbers_or_auto("bandwidth", bandwidth),
            "prune_hardest": study.cutoffs(prune_hardest),
            "messages": study.words(messages),
            "rounds": study.whole_numbers("rounds", rounds),
        },
        study.numbers("rates", rates),
        seeds,
        GraphParams(backend=backend, recall=recall, seed=seed),
        modalities=modalities,
        fusion=fusion,
        difficulty=difficulty,
        labels=labels,
        test=test,
        harder=harder,
        embedding=embedding,
        id_=id_,
        within=within,
        group=group,
        cache_dir=cache_dir,
        output=output,
        plot=plot,
        as_json=json,
        setting=running.Setting(threads, force, quiet, max_memory=opt.max_memory(max_memory)),
    )
