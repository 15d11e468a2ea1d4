"""``d2 compare``: every method at every rate beside random, by what a model learns of it."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from d2cli.errors import ParameterError
from d2cli.files.artifacts import library_versions
from d2cli.files.publish import write_bytes
from d2cli.files.remote import Place
from d2cli.files.stages import graph_of
from d2cli.params import Direction, GraphParams, Method, ScoreParams, SelectParams
from d2cli.pipeline.cells import CellJob, run_cells
from d2cli.pipeline.contest import check_cutoff, check_places, check_targets, read_contest
from d2cli.pipeline.run import Run, open_cache_folder
from d2cli.render.comparisons import render_comparison
from d2cli.stages.comparison import Cell, conclude, summarize_cells
from d2cli.stages.held_out import SettledTrials
from d2cli.stages.trials import HOLD_OUT, Trials

COMPARISON_VERSION = 1
RANDOM_CUT = "random-cut"


@dataclass(frozen=True, kw_only=True)
class CompareParams:
    """What is compared.

    Attributes
    ----------
    rates : tuple of float
        Pruning rates, 0 to 1.
    methods : tuple of str
        Random is always among them.
    seeds : int
        Repetitions, each with its own pool of rows.
    """

    rates: tuple[float, ...] = (0.3, 0.5, 0.7, 0.8, 0.9)
    methods: tuple[Method, ...] = ("random", "d2", "hardest", "ccs", "moderate")
    seeds: int = 3

    def __post_init__(self) -> None:
        if not self.rates or not self.methods:
            raise ParameterError("expected at least one rate and one method")
        for method in self.methods:
            SelectParams(rate=0.5, method=method)
        for rate in self.rates:
            SelectParams(rate=rate)
        if not 1 <= self.seeds <= 1000:
            raise ParameterError(f"seeds is {self.seeds}, expected 1 to 1,000")


def run_compare(
    run: Run,
    source: str,
    params: CompareParams,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_given: dict[str, Any],
    *,
    preset: Any,  # noqa: ANN401
    difficulty: str,
    labels: str,
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
    """Compare methods over rates and seeds; finished cells are kept in the cache.

    All methods but random share the cutoff; with one, "random-cut" shows random after it as well.

    Parameters
    ----------
    run : Run
    source : str
        Rows to select from.
    params : CompareParams
    graph_params, score_params
        Of the graph, and of the scores but for rate and seed.
    select_given : dict
        Fields of `SelectParams` but rate, keep, method and seed; None where not given.
    preset : str
    difficulty, labels, harder, embedding, id_, within, group
        As in `run_prune`; ``labels`` is what is predicted.
    test : str, optional
        Rows to test on, with the same columns. Left out, a fifth of every class is held out, anew
        for each seed, and no method sees it.
    cache_dir : str, optional
    output, plot : Path or Remote, optional
        Files for the comparison (``.json`` or ``.md``) and its plot (``.svg``).

    Returns
    -------
    dict
        Ready for JSON: ``rows`` as `summarize_cells` returns them, ``conclusions``, parameters.
    """
    check_targets((output, (".json", ".md")), (plot, (".svg",)))
    rates = tuple(dict.fromkeys(params.rates))
    contest = read_contest(
        run,
        source,
        rates,
        n_neighbors=graph_params.n_neighbors,
        difficulty=difficulty,
        labels=labels,
        test=test,
        harder=harder,
        embedding=embedding,
        id_=id_,
        within=within,
        group=group,
        packed=graph_params.metric == "hamming",
    )
    oriented = contest.column.orient(shift=score_params.shift)
    at_a_rate = replace(score_params, rate=rates[0])
    cut = at_a_rate.for_score(margin=contest.column.margin).prune_hardest
    check_cutoff(cut, rates)
    check_places(run, output, plot)
    folder = open_cache_folder(run, cache_dir)
    artifact = contest.graph(run, folder, graph_params)
    graph = graph_of(artifact)
    points, test_points = contest.points(graph_params.metric, graph.whitening)
    trials = Trials(
        graph,
        oriented,
        points,
        contest.classes,
        test_points,
        contest.group.groups if contest.group else None,
        replace(score_params, prune_hardest=cut),
        select_given,
        preset,
    )
    plain = replace(trials, score_params=replace(score_params, prune_hardest=0.0))
    cut_once = SettledTrials(trials)
    _ = trials.graph.adjacency  # made once, before threads ask for it
    shared = {
        **contest.digests,
        "graph": artifact.digest,
        "select": select_given,
        "preset": preset,
    }
    methods = tuple(dict.fromkeys(("random", *params.methods)))
    contestants: list[tuple[str, Method, Trials, SettledTrials]] = []
    for method in methods:
        if method != "random":
            contestants.append((method, method, trials, cut_once))
            continue
        contestants.append((method, method, plain, SettledTrials(plain)))
        if cut != 0:
            contestants.append((RANDOM_CUT, method, trials, cut_once))
    asked = [
        CellJob(
            {
                **shared,
                "score": {**asdict(tried.score_params), "rate": None, "seed": None},
                "method": name,
                "rate": rate,
                "seed": seed,
            },
            partial(_cell, name, settled, method, rate, seed),
        )
        for rate in rates
        for name, method, tried, settled in contestants
        for seed in range(params.seeds)
    ]
    cells = run_cells(run, asked, folder, phase="comparing")
    rows = summarize_cells(cells, seed=graph_params.seed)
    found = {
        "kind": "d2 comparison",
        "schema_version": COMPARISON_VERSION,
        "rows": rows,
        "conclusions": conclude(rows),
        "test": "test file" if test else f"{HOLD_OUT:g} of every class held out, anew per seed",
        "n_rows": contest.data.rows.n_rows,
        "classes": contest.classes.n_groups if contest.classes else 0,
        "seeds": params.seeds,
        "parameters": {
            "graph": graph_params.recorded(),
            "score": {**asdict(trials.score_params), "difficulty": contest.column.name},
            "select": {**select_given, "preset": preset},
        },
        "versions": library_versions(),
    }
    for place in (output, plot):
        if place is not None:
            write_bytes(place, render_comparison(found, place.suffix.lower()))
    return found


def _cell(name: str, trials: SettledTrials, method: Method, rate: float, seed: int) -> Cell:
    return replace(trials.run(method, rate, seed), method=name)
