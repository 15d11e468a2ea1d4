"""The command ``export``."""

from d2cli import options as opt
from d2cli.options import export as export_opt


def export(
    selection: export_opt.Selection = "-",
    source: export_opt.SourceData = ...,  # type: ignore[assignment]
    output: export_opt.ExportOutput = ...,  # type: ignore[assignment]
    format_: export_opt.Format = None,
    dropped: export_opt.Dropped = False,
    order: export_opt.ExportOrder = "row",
    id_: export_opt.ExportId = None,
    graph: export_opt.ExportGraph = None,
    cache_dir: opt.CacheDir = None,
    max_memory: opt.MaxMemory = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Write the rows that a selection keeps, in the form that the next tool takes.

    \b
      d2 export keep.parquet --source train.parquet -o kept.parquet
      d2 export keep.parquet --source 'shards/*.parquet' -o kept/
      d2 export keep.parquet --source saved_dataset -o kept --format datasets
      d2 export keep.parquet --source metadata/ -o subset.npy --format datacomp
      d2 export keep.parquet --source train.parquet -o weights.npy --format weights

    Rows are read and written batch by batch. Where both sides have ids, those of the kept rows have
    to be the same.
    """
    from d2cli.commands import export as commands_export
    from d2cli.commands import running

    commands_export.export(
        selection,
        source,
        output=output,
        format_=format_,
        dropped=dropped,
        order=order,
        id_=id_,
        graph=graph,
        cache_dir=cache_dir,
        as_json=json,
        setting=running.Setting(None, False, quiet, max_memory=opt.max_memory(max_memory)),
    )
