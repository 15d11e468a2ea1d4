"""``d2 prune``: all stages, each kept in the cache."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from d2cli.files import cache
from d2cli.files.excerpts import Excerpts, find_excerpts
from d2cli.files.inputs import (
    DifficultyColumn,
    Embedding,
    FoundEmbedding,
    Labels,
    read_classes,
    read_difficulty,
    read_group,
    read_wishes,
)
from d2cli.files.modalities import FoundModalities, find_vectors
from d2cli.files.previous import Previous
from d2cli.params import PROBE, Direction, Fusion, GraphParams, ScoreParams, SelectParams
from d2cli.pipeline.engine import LOCAL, EngineParams
from d2cli.pipeline.forecast import (
    ANYTHING,
    Forecast,
    forecast_graph,
    forecast_next,
    standing_artifacts,
)
from d2cli.pipeline.forward import check_forward_engine, make_in_parts
from d2cli.pipeline.graph import cached_graph, settle_engine
from d2cli.pipeline.growth import find_previous, keep_beside
from d2cli.pipeline.modalities import vectors_of
from d2cli.pipeline.planning import DryRun, plan_of
from d2cli.pipeline.rounds import check_engine, make_in_rounds
from d2cli.pipeline.run import Run, open_cache_folder, run_cached
from d2cli.pipeline.score import (
    Judge,
    Scoring,
    check_judge,
    inputs_beside_graph,
    scores_parameters,
)
from d2cli.pipeline.selection import Pick, Selected, check_show, finish, inputs_beside_scores
from d2cli.pipeline.settings import settings_for_prune
from d2cli.pipeline.targets import Targets
from d2cli.stages.room import release
from d2cli.stages.selection import Wishes


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that `run_prune` needs, read and checked; of the vectors only where they are."""

    found: FoundEmbedding | FoundModalities
    column: DifficultyColumn
    budgets: Labels | None
    labels: Labels | None
    wishes: Wishes
    shown: Excerpts | None
    graph: GraphParams
    score: ScoreParams
    select: SelectParams
    previous: Previous | None = None


def run_prune(
    run: Run,
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    targets: Targets,
    cache_dir: str | None = None,
    engine: EngineParams = LOCAL,
    **refs: Any,  # noqa: ANN401
) -> Selected:
    """Run graph, score and select on a SOURCE, each kept in the cache.

    Parameters are those of `run_graph`, `run_score` and `run_select`; ``refs`` are those of
    `_read`.
    """
    inputs = _read(run, source, graph_params, score_params, select_params, targets, **refs)
    check_forward_engine(engine, inputs.score)
    check_engine(engine, inputs.select, inputs.found.rows.n_rows)
    searching = settle_engine(run, inputs.found, inputs.graph, engine, cache_dir, prune=True)
    inputs = replace(inputs, graph=searching)
    packed = inputs.graph.metric == "hamming"
    data = inputs.found.read(run.room, packed=packed)
    judge = None
    if inputs.labels:
        where, tried = inputs.found.where, _tried(inputs.select)
        judge = Judge(where, vectors_of(run, data, inputs.graph), inputs.labels, tried)
    folder = open_cache_folder(run, cache_dir)
    how: dict[str, Any] = {"engine": engine, "cache_dir": cache_dir}
    graph = cached_graph(run, folder, data, inputs.graph, spend=judge is None, **how)
    if isinstance(data, Embedding):
        release(data.vectors)
    del data  # and with it the vectors, unless there is a judge
    scoring = Scoring(graph, inputs.column, inputs.score, inputs.budgets, judge)
    scores = run_cached(
        run,
        folder,
        "scores",
        scoring.key,
        lambda: make_in_parts(run, scoring, **how) if engine.in_parts else scoring.make(run),
        graph_path=Path(graph.name).name if folder is not None else None,
    )
    chosen = (inputs.select, inputs.budgets, inputs.wishes, inputs.shown, inputs.previous)
    pick = Pick(graph, scores, *chosen)

    def read_again() -> NDArray[Any]:
        return vectors_of(run, inputs.found.read(run.room, packed=packed), inputs.graph)

    make = partial(make_in_rounds, run, pick, **how) if engine.in_parts else None
    return finish(run, pick, targets, lambda: folder, read_again, make)


def plan_run_prune(
    run: Run,
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    targets: Targets,
    cache_dir: str | None = None,
    **refs: Any,  # noqa: ANN401
) -> DryRun:
    """Return what `run_prune` would do; reads no vectors and writes nothing."""
    inputs = _read(run, source, graph_params, score_params, select_params, targets, **refs)
    plan = plan_of(run, inputs.found, inputs.graph, prune=True)
    folder = cache.cache_folder(cache_dir)
    return DryRun(plan, _forecast(run, inputs, folder, targets))


def _forecast(run: Run, inputs: Inputs, folder: Path, targets: Targets) -> tuple[Forecast, ...]:
    """Say of each stage whether its result is there already."""
    n, place = inputs.found.rows.n_rows, str(folder)
    graph = forecast_graph(
        inputs.found,
        inputs.graph,
        standing_artifacts("graph", None, folder),
        place,
        force=run.force,
    )
    of_scores = inputs_beside_graph(inputs.column, inputs.budgets)
    tried, not_known = {}, {"graph": graph.possible()}
    if inputs.labels is not None:
        tried = _tried(inputs.select)
        of_scores["labels"] = inputs.labels.digest
        not_known["probe"] = ANYTHING  # the vectors, as the probe sees them
    scores = forecast_next(
        "scores",
        scores_parameters(inputs.score, inputs.column, tried),
        of_scores,
        not_known,
        standing_artifacts("scores", None, folder),
        before=graph,
        n_rows=n,
        row_bytes=17,
        place=place,
        force=run.force,
    )
    output = targets.file if targets.suffix == ".parquet" else None
    selection = forecast_next(
        "selection",
        asdict(inputs.select),
        inputs_beside_scores(inputs.budgets, inputs.wishes, inputs.previous),
        {"graph": graph.possible(), "scores": scores.possible()},
        standing_artifacts("selection", output, folder),
        before=scores,
        n_rows=inputs.select.budget(n),
        row_bytes=60,
        place=str(output or folder),
        force=run.force,
    )
    return graph, scores, selection


def _read(
    run: Run,
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    targets: Targets,
    *,
    difficulty: str,
    settings: str | None = None,
    given: Collection[str] = (),
    harder: Direction | None = None,
    embedding: Sequence[str] | str | None = None,
    fusion: Fusion | None = None,
    id_: str | None = None,
    within: str | None = None,
    group: str | None = None,
    labels: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
    previous: str | None = None,
    beside_included: bool = False,
    show: str | None = None,
) -> Inputs:
    """Read everything but the vectors, and refuse what cannot be done.

    ``group`` is the group of ``prune_hardest`` as well, and its probe sees the vectors of the
    graph. With ``beside_included``, included rows come on top of ``keep``. The best setting of the
    sweep ``settings`` replaces the parameters that are not among ``given``, the options that the
    user named.
    """
    targets.check()
    check_show(show, targets)
    found = find_vectors(
        run.sources, source, embedding=embedding, fusion=fusion, id_=id_, within=within
    )
    rows = found.rows
    column = read_difficulty(run.sources, difficulty, rows, harder)
    budgets = read_group(run.sources, group, rows) if group else None
    wishes = read_wishes(run.sources, include, exclude, rows)
    shown = find_excerpts(run.sources, show, rows, rows.source) if show else None
    if beside_included and select_params.keep is not None:
        keep = keep_beside(select_params.keep, include, wishes)
        select_params = replace(select_params, keep=keep)
    before = find_previous(previous, select_params.max_changes, rows)
    select_params.budget(rows.n_rows)  # refuse an impossible budget before any work
    rate = select_params.rate_of(rows.n_rows)
    if settings is not None:
        graph_params, score_params, select_params = settings_for_prune(
            run, settings, given, rate, (graph_params, score_params, select_params)
        )
    score_params = replace(score_params, rate=rate).for_score(margin=column.margin)
    check_judge(score_params, labels, source if score_params.prune_hardest == PROBE else None)
    classes = read_classes(run.sources, labels, rows) if labels else None
    column.orient(shift=score_params.shift)  # refuse bad values before the graph is built
    targets.check_places(run, previous)
    chosen = (graph_params, score_params, select_params, before)
    return Inputs(found, column, budgets, classes, wishes, shown, *chosen)


def _tried(params: SelectParams) -> dict[str, Any]:
    """Return what the selections of a probe take over, but for what they do anyway."""
    usual = SelectParams.from_preset(params.preset, rate=0.5)
    names = ("gamma_reverse", "messages", "balance")
    return {
        name: value for name in names if (value := getattr(params, name)) != getattr(usual, name)
    }
