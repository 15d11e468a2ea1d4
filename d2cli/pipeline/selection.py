"""``d2 select``: scores to the rows to keep and a report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from d2cli.errors import ArtifactError, ParameterError
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key
from d2cli.files.digests import digest_array
from d2cli.files.excerpts import Excerpts, find_excerpts
from d2cli.files.inputs import (
    Labels,
    read_group,
    read_wishes,
    refuse_known_source,
    rows_like,
)
from d2cli.files.previous import Previous
from d2cli.files.remote import Place, as_place, place_beside
from d2cli.files.reports import report_of, shown_rows, with_texts
from d2cli.files.stages import (
    graph_of,
    ids_of,
    metric_of,
    scores_of,
    selection_of,
    selection_results,
    selection_table,
)
from d2cli.params import AUTO, ScoreParams, SelectParams
from d2cli.pipeline.engine import LOCAL, EngineParams
from d2cli.pipeline.growth import figures_beside_previous, find_previous, keep_beside
from d2cli.pipeline.pictures import draw
from d2cli.pipeline.rounds import check_engine, make_in_rounds
from d2cli.pipeline.run import (
    COMPUTED,
    STAGE_VERSIONS,
    Run,
    open_cache_folder,
    run_cached,
    run_stage,
)
from d2cli.pipeline.targets import Targets
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.report import summarize
from d2cli.stages.rounds import Rounds
from d2cli.stages.selection import Selection, Wishes, may_be_kept, select_coreset


@dataclass(frozen=True, eq=False)
class Selected:
    """What a selecting command has done.

    Attributes
    ----------
    n_rows, n_kept : int
    rate : float
    status : str
        "computed" or "up to date".
    figures : callable or None
        Computes the report; None where nothing was computed and no report was wanted.
    """

    n_rows: int
    n_kept: int
    rate: float
    status: str
    figures: Callable[[], dict[str, Any]] | None = None

    @cached_property
    def report(self) -> dict[str, Any] | None:
        """The report, computed when it is first looked at; it costs as much as selecting."""
        return None if self.figures is None else self.figures()


def inputs_beside_scores(
    group: Labels | None, wishes: Wishes, previous: Previous | None
) -> dict[str, str]:
    """Return the digests of what a selection depends on beside graph and scores."""
    found = {"group": group.digest} if group else {}
    for name in ("include", "exclude"):
        rows = getattr(wishes, name)
        if len(rows):
            found[name] = digest_array(rows)
    return {**found, "previous": previous.digest} if previous else found


@dataclass(frozen=True, eq=False)
class Pick:
    """Everything a selection depends on."""

    graph: Artifact
    scores: Artifact
    params: SelectParams
    group: Labels | None
    wishes: Wishes
    shown: Excerpts | None = None
    previous: Previous | None = None

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of the inputs."""
        found = {"graph": self.graph.digest, "scores": self.scores.digest}
        return {**found, **inputs_beside_scores(self.group, self.wishes, self.previous)}

    @property
    def key(self) -> str:
        """What the selection depends on."""
        return stage_key("selection", STAGE_VERSIONS["selection"], asdict(self.params), self.inputs)

    def select(
        self,
        params: SelectParams,
        on_progress: Progress = no_progress,
        rounds: Rounds | None = None,
    ) -> Selection:
        """Select with some parameters."""
        return select_coreset(
            graph_of(self.graph),
            scores_of(self.scores),
            params,
            groups=self.group.groups if self.group else None,
            wishes=self.wishes,
            previous=self.previous.rows if self.previous else None,
            rounds=rounds,
            on_progress=on_progress,
        )

    def make(self, on_progress: Progress = no_progress, rounds: Rounds | None = None) -> Artifact:
        """Select and seal."""
        scores = scores_of(self.scores)
        selection = self.select(self.params, on_progress, rounds)
        labels = self.group.values if self.group else None
        artifact = seal(
            "selection",
            selection_table(selection, scores, ids_of(self.scores), labels),
            key=self.key,
            parameters=asdict(self.params),
            inputs=self.inputs,
            results=selection_results(selection),
        )
        return replace(artifact, row_order=self.scores.row_order)

    def report(self, run: Run, selection: Artifact) -> dict[str, Any]:
        """Compute the report of a selection made from this."""
        graph, scores = graph_of(self.graph), scores_of(self.scores)
        made = selection_of(selection, self.group.values if self.group else None)
        candidate = may_be_kept(scores.pool, self.wishes)
        figures = summarize(
            graph,
            scores,
            made,
            candidate=candidate,
            n_included=len(self.wishes.include),
            n_excluded=len(self.wishes.exclude),
            kernel=self.params.kernel,
            score_kernel=self.scores.meta["parameters"]["kernel"],
            seed=self.params.seed,
        )
        if self.previous is not None:
            figures["previous"] = figures_beside_previous(
                self.previous,
                graph,
                scores.difficulty,
                made.kept,
                candidate,
                self.params.max_changes,
                lambda: self.select(replace(self.params, max_changes=None)),
            )
        report = report_of(figures, self.graph, self.scores, selection, run.stages)
        if self.shown is None:
            return report
        return with_texts(report, self.shown.title, self.shown.of(shown_rows(report)))


def run_select(
    run: Run,
    scores_ref: str,
    given: dict[str, Any],
    *,
    preset: Any = None,  # noqa: ANN401
    settings: str | None = None,
    graph_ref: str | None = None,
    group: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
    previous: str | None = None,
    beside_included: bool = False,
    id_: str | None = None,
    show: str | None = None,
    targets: Targets,
    cache_dir: str | None = None,
    engine: EngineParams = LOCAL,
) -> Selected:
    """Pick rows by their scores and publish the selection.

    Parameters
    ----------
    run : Run
    scores_ref : str
        Scores file, or "-".
    given : dict
        Fields of `SelectParams`; None where not given. Kernel and bandwidth then come from the
        scores.
    preset : str, optional
        Of the scores if left out.
    settings : str, optional
        JSON file of a sweep, whose best setting fills what is not given.
    graph_ref : str, optional
        Left out, the graph that the scores name.
    group, id_ : str, optional
        COLREFs.
    include, exclude : str, optional
        Lists of ids or rows.
    previous : str, optional
        An earlier selection, for ``max_changes`` and the report.
    beside_included : bool
        The included rows come on top of ``keep``.
    show : str, optional
        COLREF of texts or image paths for the report.
    targets : Targets
        Where the result goes.
    cache_dir : str, optional
        Where the selection is kept for outputs that carry no key.
    engine : EngineParams
        Where rows are picked; does not change which.
    """
    targets.check()
    check_show(show, targets)
    scores = read_artifact(scores_ref, "scores")
    graph, found_at = _graph_of_scores(scores, scores_ref, graph_ref)
    rows = rows_like(scores.name, scores.table.num_rows, ids_of(scores), id_)
    wishes = read_wishes(run.sources, include, exclude, rows)
    if beside_included:
        given = {**given, "keep": keep_beside(given["keep"], include, wishes)}
    if settings is not None:
        from d2cli.pipeline.settings import settings_for_select

        given = settings_for_select(run, settings, given, preset, graph, scores)
    params = _inherit(scores, given, preset)
    params.budget(scores.table.num_rows)  # refuse an impossible budget before any work
    check_engine(engine, params, scores.table.num_rows)
    pick = Pick(
        graph,
        scores,
        params,
        read_group(run.sources, group, rows) if group else None,
        wishes,
        find_excerpts(run.sources, show, rows, None) if show else None,
        find_previous(previous, params.max_changes, rows),
    )
    targets.check_places(run, scores_ref, found_at, previous)
    if targets.file is not None:
        refuse_known_source(targets.file, (graph, scores))
    _note_other_rate(run, scores, params)
    make = None
    if engine.in_parts:
        make = partial(make_in_rounds, run, pick, engine, cache_dir)
    return finish(run, pick, targets, lambda: open_cache_folder(run, cache_dir), make=make)


def check_show(show: str | None, targets: Targets) -> None:
    """Refuse a column to show where there is no report to show it in."""
    if show and not targets.any_report:
        raise ParameterError(
            "--show puts texts or images into a report, and none is asked for",
            hint="add --report report.html, --summary or --json",
        )


def _graph_of_scores(
    scores: Artifact, scores_ref: str, graph_ref: str | None
) -> tuple[Artifact, str | Place | None]:
    """Return the graph that scores were made from, and the place it was read from."""
    place: str | Place | None = graph_ref
    if place is None and scores.graph is not None:
        graph = scores.graph
    else:
        if place is None and scores.graph_path is not None:
            place = place_beside(scores_ref, scores.graph_path)
        if place is None:
            raise ArtifactError(
                f"{scores.name}: does not say where its graph is", hint="name it with --graph"
            )
        if graph_ref is None and not as_place(place).exists():
            raise ArtifactError(
                f"{scores.name}: its graph {place} is not there any more",
                hint="name the graph with --graph, or make the scores again",
            )
        graph = read_artifact(place, "graph")
    if graph.digest != scores.meta["inputs"]["graph"]:
        raise ArtifactError(
            f"{graph.name}: is not the graph that {scores.name} was made from "
            f"(key {graph.key[:12]}, digest {graph.digest[:12]}, "
            f"expected digest {scores.meta['inputs']['graph'][:12]})",
            hint="make the scores again from this graph, or name the right one with --graph",
        )
    return graph, place


def _inherit(scores: Artifact, given: dict[str, Any], preset: Any) -> SelectParams:  # noqa: ANN401
    """Fill kernel, bandwidth and preset from the scores where they are not given."""
    made = scores.meta["parameters"]
    if preset is None:
        preset = made["preset"]
        inherited = {"kernel": made["kernel"], "bandwidth": made["bandwidth"]}
        given = {
            **given,
            **{key: value for key, value in inherited.items() if given.get(key) is None},
        }
    return SelectParams.from_preset(preset, **given)


def _note_other_rate(run: Run, scores: Artifact, params: SelectParams) -> None:
    """Say so if scores that depend on a rate were made for another one."""
    made, used = scores.meta["parameters"], scores.meta["results"]["gamma_forward"]
    n = scores.table.num_rows
    rate = params.rate_of(n)
    wanted = ScoreParams(rate=rate).gamma_forward_value
    made_for = "without a rate" if made["rate"] is None else f"for rate {made['rate']:g}"
    if made["gamma_forward"] == AUTO and params.method == "d2" and abs(wanted - used) > 1e-9:
        run.note(
            f"note: the scores were made {made_for} (gamma-forward {used:.4g}); "
            f"`d2 score --rate {rate:g}` would use {wanted:.4g}"
        )
    elif made["prune_hardest"] == AUTO and abs((made["rate"] or 0) - rate) > 0.5 / n:
        run.note(
            f"note: the automatic cutoff of the scores was made {made_for}; "
            f"`d2 score --rate {rate:g}` makes it for this one"
        )


def finish(
    run: Run,
    pick: Pick,
    targets: Targets,
    open_cache: Callable[[], Path | None],
    read_vectors: Callable[[], NDArray[Any]] | None = None,
    make: Callable[[], Artifact] | None = None,
) -> Selected:
    """Select, then write the rows and the report.

    ``read_vectors`` returns the vectors (n, d) of all rows as they are stored, for a map of them;
    ``make`` selects in another way than `Pick.make`.
    """
    n = pick.scores.table.num_rows
    make = make or partial(pick.make, run.on_progress)
    if targets.suffix == ".parquet":
        artifact = run_stage(run, "selection", pick.key, targets.file, make)
    else:
        artifact = run_cached(run, open_cache(), "selection", pick.key, make)
    status = run.stages[-1]["status"]
    asked = targets.lacks_report(artifact.key) or (pick.shown is not None and targets.any_report)
    if targets.write_rows(artifact):
        status = COMPUTED
    kept = artifact.table.num_rows
    wanted = asked or run.stages[-1]["status"] == COMPUTED
    figures = partial(pick.report, run, artifact) if wanted else None
    done = Selected(n, kept, 1 - kept / n, status, figures)
    if wanted and (targets.report is not None or targets.summary) and done.report is not None:
        publish_report(run, pick, artifact, done.report, targets, read_vectors)
    return done


def publish_report(
    run: Run,
    pick: Pick,
    selection: Artifact,
    report: dict[str, Any],
    targets: Targets,
    read_vectors: Callable[[], NDArray[Any]] | None,
) -> None:
    """Write a report, with pictures where its format holds them."""
    if targets.report_suffix != ".html":
        targets.write_report(report)
        return
    shown_as = metric_of(pick.graph), graph_of(pick.graph).whitening
    kept, seed = selection_of(selection, None).kept, pick.params.seed
    targets.write_report(
        report, draw(run, report, kept, pick.shown, read_vectors, shown_as=shown_as, seed=seed)
    )
