"""``d2 sweep``: which settings matter on these data, and whether any beats the default."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from d2cli.errors import ParameterError
from d2cli.files.inputs import DifficultyColumn
from d2cli.files.publish import write_bytes
from d2cli.files.remote import Place
from d2cli.files.stages import graph_of
from d2cli.files.sweeps import SWEEP_KIND, render_sweep
from d2cli.params import Auto, Direction, GraphParams, Metric, Probe, ScoreParams
from d2cli.pipeline.cells import CellJob, run_cells
from d2cli.pipeline.contest import (
    Contest,
    check_cutoff,
    check_places,
    check_targets,
    read_contest,
)
from d2cli.pipeline.run import Run, open_cache_folder
from d2cli.stages.graph import KnnGraph
from d2cli.stages.held_out import SettledTrials
from d2cli.stages.sweep import (
    Setting,
    best_of,
    conclude_sweep,
    grid_of,
    slice_graph,
    summarize_sweep,
)
from d2cli.stages.trials import Trials

SWEEP_VERSION = 1


def run_sweep(
    run: Run,
    source: str,
    values: dict[str, tuple[Any, ...]],
    rates: tuple[float, ...],
    seeds: int,
    graph_params: GraphParams,
    *,
    difficulty: str,
    labels: str | None = None,
    test: str | None = None,
    harder: Direction | None = None,
    embedding: str | None = None,
    id_: str | None = None,
    within: str | None = None,
    group: str | None = None,
    cache_dir: str | None = None,
    output: Place | None = None,
    plot: Place | None = None,
) -> dict[str, Any]:
    """Try a grid of settings; finished cells are kept in the cache.

    One graph per metric is built, for the largest k; smaller k are slices of it. Probes see the
    same points whatever the metric of the graph: vectors as they are stored, or the bits of codes.

    Parameters
    ----------
    run : Run
    source : str
    values : dict
        For each knob of `d2cli.stages.sweep.Setting` the values to try.
    rates : tuple of float
    seeds : int
        Repetitions with labels; without them one suffices.
    graph_params : GraphParams
        Backend, recall and seed.
    difficulty, labels, test, harder, embedding, id_, within, group, cache_dir, output, plot
        As in `run_compare`; without labels the figures are coverage and overlap.

    Returns
    -------
    dict
        Ready for JSON: ``rows``, ``best`` (one a rate), ``conclusions``.
    """
    check_targets((output, (".json", ".md")), (plot, (".svg",)))
    if not 1 <= seeds <= 1000:
        raise ParameterError(f"seeds is {seeds}, expected 1 to 1,000")
    rates = tuple(dict.fromkeys(rates))
    grid = grid_of(values)
    for setting in grid:
        replace(graph_params, metric=setting.metric)  # refuse a backend that does not serve it
        check_cutoff(setting.prune_hardest, rates)
    contest = read_contest(
        run,
        source,
        rates,
        n_neighbors=max(values["neighbors"]),
        difficulty=difficulty,
        labels=labels,
        test=test,
        harder=harder,
        embedding=embedding,
        id_=id_,
        within=within,
        group=group,
        packed=_judged_by(grid) == "hamming",
    )
    check_places(run, output, plot)
    folder = open_cache_folder(run, cache_dir)
    repetitions = seeds if contest.classes else 1
    asked: list[tuple[Setting, float]] = []
    jobs: list[CellJob] = []
    for setting, trials, depends_on in _trials(run, contest, grid, graph_params, rates[0], folder):
        settled = SettledTrials(trials)
        for rate in rates:
            for seed in range(repetitions):
                about = {**depends_on, **asdict(setting), "rate": rate, "seed": seed}
                jobs.append(CellJob(about, partial(settled.run, "d2", rate, seed)))
                asked.append((setting, rate))
    by_setting: dict[tuple[Setting, float], list[Any]] = {}
    for place_of, cell in zip(asked, run_cells(run, jobs, folder, phase="sweeping"), strict=True):
        by_setting.setdefault(place_of, []).append(cell)
    in_order = {(s, rate): by_setting[s, rate] for rate in rates for s in grid}
    rows = summarize_sweep(in_order, seed=graph_params.seed)
    found = {
        "kind": SWEEP_KIND,
        "schema_version": SWEEP_VERSION,
        "rows": rows,
        "best": best_of(rows),
        "conclusions": conclude_sweep(rows),
        "n_rows": contest.data.rows.n_rows,
        "seeds": repetitions,
        "difficulty": contest.column.name,
        "default_cutoff": default_cutoff(contest.column, rates[0]),
    }
    for place in (output, plot):
        if place is not None:
            write_bytes(place, render_sweep(found, place.suffix.lower()))
    return found


def default_cutoff(column: DifficultyColumn, rate: float) -> float | Auto | Probe | None:
    """Return the cutoff that is used for a difficulty where none is named."""
    return ScoreParams(rate=rate).for_score(margin=column.margin).prune_hardest


def _trials(
    run: Run,
    contest: Contest,
    grid: list[Setting],
    graph_params: GraphParams,
    rate: float,
    folder: Path | None,
) -> Iterator[tuple[Setting, Trials, dict[str, Any]]]:
    """Yield what each setting is tried with, and the digests it depends on."""
    oriented = contest.column.orient(shift=True)
    judged_by = _judged_by(grid)
    vectors, points = contest.points(judged_by)
    widest = max(setting.neighbors for setting in grid)
    for metric in dict.fromkeys(setting.metric for setting in grid):
        artifact = contest.graph(
            run, folder, replace(graph_params, metric=metric, n_neighbors=widest)
        )
        slices: dict[int, KnnGraph] = {}
        for setting in (setting for setting in grid if setting.metric == metric):
            k = setting.neighbors
            slices[k] = slices.get(k) or slice_graph(graph_of(artifact), k)
            _ = slices[k].adjacency  # made once, before threads ask for it
            trials = Trials(
                slices[k],
                oriented,
                vectors,
                contest.classes,
                points,
                contest.group.groups if contest.group else None,
                ScoreParams(
                    gamma_forward=setting.gamma_forward,
                    bandwidth=setting.bandwidth,
                    rounds=setting.rounds,
                    prune_hardest=default_cutoff(contest.column, rate)
                    if setting.prune_hardest is None
                    else setting.prune_hardest,
                    rate=rate,
                ),
                {
                    "gamma_reverse": setting.gamma_reverse,
                    "bandwidth": setting.bandwidth,
                    "messages": setting.messages,
                },
                "default",
            )
            cut = trials.score_params.prune_hardest
            depends_on = {**contest.digests, "graph": artifact.digest, "cut": cut}
            if (metric, judged_by) != ("l2", "l2"):
                depends_on["judged_by"] = judged_by
            yield setting, trials, depends_on


def _judged_by(grid: list[Setting]) -> Metric:
    """Return the metric whose points the probes see: one for all settings, so that they compare."""
    return "hamming" if any(setting.metric == "hamming" for setting in grid) else "l2"
