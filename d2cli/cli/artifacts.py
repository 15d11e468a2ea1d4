"""Commands that look at what was selected: ``explain`` and ``diff``."""

from d2cli import options as opt
from d2cli.options import artifacts as art


def explain(
    selection: art.Selection,
    ids: art.Wanted,
    rows: art.ByRow = False,
    scores: art.Scores = None,
    graph: art.Graph = None,
    cache_dir: opt.CacheDir = None,
    source: art.ShownSource = None,
    show: art.ShownColumn = None,
    group: art.GroupOfSelection = None,
    include: art.IncludeOfSelection = None,
    exclude: art.ExcludeOfSelection = None,
    max_memory: opt.MaxMemory = None,
    json: opt.Json = False,
) -> None:
    """Tell why rows were kept or dropped.

    \b
      d2 explain keep.parquet train-00017 train-00042
      d2 explain keep.parquet --rows 17 --source train.parquet --show text
      d2 explain keep.parquet 17 --scores scores.parquet --json

    For each row: its difficulty, the messages that it received, its score at each suppression and
    who suppressed it, and the kept rows nearest to it. Amounts add up to the stored scores.
    """
    from d2cli.commands import artifacts as commands_artifacts

    commands_artifacts.explain(
        selection,
        ids,
        as_rows=rows,
        scores_ref=scores,
        graph_ref=graph,
        cache_dir=cache_dir,
        source=source,
        show=show,
        group=group,
        include=include,
        exclude=exclude,
        as_json=json,
        max_memory=opt.max_memory(max_memory),
    )


def diff(
    a: art.SideA,
    b: art.SideB,
    rows: art.MatchRows = False,
    group: art.DiffGroup = None,
    max_change: art.MaxChange = None,
    max_group_loss: art.MaxGroupLoss = None,
    output: art.DiffOutput = None,
    cache_dir: opt.CacheDir = None,
    max_memory: opt.MaxMemory = None,
    json: opt.Json = False,
) -> None:
    """Compare two selections, and fail if too much has changed.

    \b
      d2 diff keep-old.parquet keep.parquet
      d2 diff keep-old.parquet keep.parquet --max-change 0.05 --max-group-loss 0.2
      d2 diff keep-old.npy keep.npy --group train.parquet::label -o diff.md

    Overlap, rows lost and gained of each group, the shift in difficulty, Kendall's tau-b of the
    common ranks, and in which parameters and inputs the two were made otherwise. Rows are matched
    by id where both have ids, else by number. Exit code 6: a limit is exceeded.
    """
    from d2cli.commands import artifacts as commands_artifacts

    commands_artifacts.diff(
        a,
        b,
        by_row=rows,
        group=group,
        max_change=max_change,
        max_group_loss=max_group_loss,
        output=output,
        cache_dir=cache_dir,
        as_json=json,
        max_memory=opt.max_memory(max_memory),
    )
