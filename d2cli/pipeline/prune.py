"""``d2 prune``: all stages, each kept in the cache."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from d2cli.files.inputs import read_difficulty, read_embedding, read_group, read_wishes
from d2cli.params import Direction, GraphParams, ScoreParams, SelectParams
from d2cli.pipeline.graph import graph_key, make_graph, warn_about_graph
from d2cli.pipeline.run import Run, open_cache_folder, run_cached
from d2cli.pipeline.score import Judge, Scoring, check_judge
from d2cli.pipeline.selection import Pick, Selected, finish
from d2cli.pipeline.settings import settings_for_prune
from d2cli.pipeline.targets import Targets


def run_prune(
    run: Run,
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    settings: str | None = None,
    given: Collection[str] = (),
    difficulty: str,
    harder: Direction | None = None,
    embedding: str | None = None,
    id_: str | None = None,
    within: str | None = None,
    group: str | None = None,
    labels: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
    targets: Targets,
    cache_dir: str | None = None,
) -> Selected:
    """Run graph, score and select on a SOURCE, each kept in the cache.

    Parameters are those of `run_graph`, `run_score` and `run_select`. ``group`` is the group of
    ``prune_hardest`` as well, and its probe sees the vectors of the graph. The best
    setting of the sweep ``settings`` replaces the parameters that are not among ``given``, the
    options that the user named.
    """
    targets.check()
    data = read_embedding(run.sources, source, embedding=embedding, id_=id_, within=within)
    rows = data.rows
    column = read_difficulty(run.sources, difficulty, rows, harder)
    budgets = read_group(run.sources, group, rows) if group else None
    wishes = read_wishes(run.sources, include, exclude, rows)
    select_params.budget(rows.n_rows)  # refuse an impossible budget before any work
    rate = select_params.rate_of(rows.n_rows)
    if settings is not None:
        graph_params, score_params, select_params = settings_for_prune(
            run, settings, given, rate, (graph_params, score_params, select_params)
        )
    score_params = replace(score_params, rate=rate).for_score(margin=column.margin)
    check_judge(score_params, labels, source)
    judge = Judge(data.vectors, read_group(run.sources, labels, rows)) if labels else None
    column.orient(shift=score_params.shift)  # refuse bad values before the graph is built
    targets.check_places(run)
    folder = open_cache_folder(run, cache_dir)
    key = graph_key(data, graph_params)
    graph = run_cached(run, folder, "graph", key, lambda: make_graph(run, data, graph_params, key))
    warn_about_graph(run, graph)
    scoring = Scoring(graph, column, score_params, budgets, judge)
    scores = run_cached(
        run,
        folder,
        "scores",
        scoring.key,
        lambda: scoring.make(run),
        graph_path=Path(graph.name).name if folder is not None else None,
    )
    pick = Pick(graph, scores, select_params, budgets, wishes)
    return finish(run, pick, targets, lambda: folder)
