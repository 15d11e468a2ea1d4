"""``d2 update``."""

from d2cli import options as opt
from d2cli.options import update as upd


def update(
    graph: upd.Graph = "-",
    add: upd.Add = None,
    retire: upd.Retire = None,
    source: upd.OldSource = None,
    embedding: upd.Embedding = None,
    id_: upd.Id = None,
    within: upd.Within = None,
    backend: upd.Backend = "auto",
    recall: upd.Recall = None,
    neighbors: upd.Neighbors = None,
    metric: upd.MetricOption = None,
    output: opt.ArtifactOutput = "-",
    cache_dir: opt.CacheDir = None,
    threads: opt.Threads = None,
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    json: opt.Json = False,
    dry_run: opt.DryRun = False,
    verbose: opt.Verbose = False,
    quiet: opt.Quiet = False,
) -> None:
    """Add rows to a graph and take others out, without building it anew.

    \b
      d2 update graph.parquet --add new.parquet -o graph2.parquet
      d2 update graph.parquet --add new.parquet --retire gone.txt -o graph2.parquet
      d2 update graph.parquet --add new.npy --source old.npy -o graph2.parquet

    Rows of the result: those that stay, in their order, then those added. Metric and number of
    neighbors are the graph's.
    """
    from d2cli.commands import running
    from d2cli.commands import update as commands_update

    commands_update.update(
        graph,
        add=add,
        retire=retire,
        sources=source,
        embedding=embedding,
        id_=id_,
        within=within,
        backend=backend,
        recall=recall,
        n_neighbors=neighbors,
        metric=metric,
        output=output,
        cache_dir=cache_dir,
        as_json=json,
        dry_run=dry_run,
        setting=running.Setting(threads, force, quiet, verbose, opt.max_memory(max_memory)),
    )
