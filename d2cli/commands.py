"""Commands behind the parser: a run with notes and progress, then what is printed of it."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from d2cli import config, display, pipeline
from d2cli.errors import ParameterError
from d2cli.files import memory
from d2cli.files.artifacts import Artifact
from d2cli.files.publish import write_stdout
from d2cli.files.remote import as_place
from d2cli.files.sources import STDIN
from d2cli.params import (
    AUTO,
    DynamicsParams,
    Fusion,
    GraphParams,
    PrototypeParams,
    ScoreParams,
    SelectParams,
)
from d2cli.pipeline import Targets as Targets
from d2cli.pipeline.modalities import refuse_metric


@dataclass(frozen=True)
class Setting:
    """Options that every command has and no result depends on."""

    threads: int | None
    force: bool
    quiet: bool
    verbose: bool = False
    max_memory: int | None = None

    @contextmanager
    def run(self) -> Iterator[pipeline.Run]:
        """Open a run that prints notes and, on a terminal, progress."""
        with display.progress(quiet=self.quiet) as on_progress:
            note = display.Notes(quiet=self.quiet)
            for line in config.lines_of_taken():
                note(line)
            n_threads = self.threads or processors()
            with memory.within(memory.limit_of(self.max_memory, n_threads=n_threads)):
                yield pipeline.Run(
                    n_threads=n_threads,
                    force=self.force,
                    note=note,
                    on_progress=on_progress,
                    verbose=self.verbose,
                )


def engine_params(
    engine: str, address: str | None, partitions: int | None, store: str | None
) -> pipeline.EngineParams:
    """Return where a stage runs; checks what goes together."""
    return pipeline.EngineParams(engine=engine, address=address, partitions=partitions, store=store)


def refuse_dry_run(engine: pipeline.EngineParams) -> None:
    """Refuse to plan what tasks will do."""
    if engine.in_parts:
        raise ParameterError(
            "--dry-run does not plan a graph in partitions",
            hint="leave out --engine and --partitions, or --dry-run",
        )


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_embedding(given: list[str] | None) -> str | None:
    """Return the embedding's COLREF; several are not supported."""
    if given and len(given) > 1:
        raise ParameterError(
            f"{len(given)} embeddings are given, expected one",
            hint="`d2 graph`, `d2 prune`, `d2 sweep --modalities`, probes and maps take several",
        )
    return given[0] if given else None


def refuse_terminal(output: str, as_json: bool) -> None:
    """Refuse to pour a binary stream onto a terminal, or two things into one."""
    if output != STDIN:
        return
    if as_json:
        raise ParameterError(
            "--json needs standard output", hint="send the result to a file with -o"
        )
    if sys.stdout.isatty():
        raise ParameterError(
            "the result is binary and standard output is a terminal",
            hint="name a file with -o, or pipe it on",
        )


def print_json(value: Any) -> None:  # noqa: ANN401
    """Print a value as JSON on standard output."""
    write_stdout((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def without_map(meta: dict[str, Any]) -> dict[str, Any]:
    """Return metadata to be looked at: without the numbers of a whitening, often millions."""
    if "whitening" not in meta["results"]:
        return meta
    fitted = {name: value for name, value in meta["results"]["whitening"].items() if name != "map"}
    return {**meta, "results": {**meta["results"], "whitening": fitted}}


def _finish(artifact: Artifact, as_json: bool) -> None:
    if as_json:
        print_json(without_map(artifact.meta))


def graph(
    source: str,
    params: GraphParams,
    *,
    embedding: list[str] | None,
    output: str,
    as_json: bool,
    dry_run: bool,
    engine: pipeline.EngineParams,
    given: tuple[str, ...],
    setting: Setting,
    **columns: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 graph``."""
    refuse_metric(columns.get("fusion"), params, given)
    what: dict[str, Any] = {"embedding": embedding, "output": output, **columns}
    if dry_run:
        refuse_dry_run(engine)
        with setting.run() as run:
            planned = pipeline.plan_run_graph(run, source, params, **what)
        print_plan(planned, as_json)
        return
    refuse_terminal(output, as_json)
    with setting.run() as run:
        artifact = pipeline.run_graph(run, source, params, engine=engine, **what)
    display.print_graph(artifact, run.stages[-1]["status"], output, run.note)
    _finish(artifact, as_json)


def difficulty(
    sources: dict[str, str | None],
    options: dict[str, Any],
    *,
    output: str,
    as_json: bool,
    setting: Setting,
    **columns: str | None,
) -> None:
    """Run ``d2 difficulty`` on the one of its sources that is given."""
    source, ref = one_source(sources)
    given = {name: value for name, value in options.items() if value not in (None, AUTO)}
    refuse_options(given, source)
    refuse_terminal(output, as_json)
    with setting.run() as run:
        if source == "DYNAMICS":
            dynamics = DynamicsParams(
                values=given.get("--values", AUTO),
                el2n_epochs=given.get("--el2n-epochs"),
                window=given.get("--window"),
            )
            final = given.get("--final")
            artifact = pipeline.run_dynamics(
                run, ref, dynamics, final=final, output=output, **columns
            )
        elif source == "--from-graph":
            artifact = pipeline.run_neighborhood(run, ref, output=output, **columns)
        else:
            params = PrototypeParams(
                prototypes=given.get("--prototypes"), seed=given.get("--seed", 0)
            )
            artifact = pipeline.run_prototypes(run, ref, params, output=output, **columns)
    display.print_difficulty(artifact, run.stages[-1]["status"], output, run.note)
    _finish(artifact, as_json)


# Which options of `d2 difficulty` go with which of its sources.
DIFFICULTY_OPTIONS = {
    "DYNAMICS": ("--final", "--values", "--el2n-epochs", "--window"),
    "--from-graph": (),
    "--embedding": ("--prototypes", "--seed"),
}


def one_source(sources: dict[str, str | None]) -> tuple[str, str]:
    """Return the name and text of the one source given; standard input is DYNAMICS."""
    given = [(name, text) for name, text in sources.items() if text is not None]
    if len(given) > 1:
        raise ParameterError(
            f"{' and '.join(name for name, _ in given)} are given, expected one of them",
            hint="write one file of columns from each",
        )
    return given[0] if given else ("DYNAMICS", STDIN)


def refuse_options(given: dict[str, Any], source: str) -> None:
    """Refuse options that say nothing about a source."""
    for name in given:
        if name not in DIFFICULTY_OPTIONS[source]:
            owner = next(key for key, names in DIFFICULTY_OPTIONS.items() if name in names)
            raise ParameterError(
                f"{name} does not go with {source}", hint=f"it belongs to {owner}; leave it out"
            )


def score(
    graph: str,
    params: ScoreParams,
    *,
    output: str,
    as_json: bool,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 score``."""
    refuse_terminal(output, as_json)
    with setting.run() as run:
        artifact = pipeline.run_score(run, graph, params, output=output, **more)
    display.print_scores(artifact, run.stages[-1]["status"], output, run.note)
    display.print_steps(run.stages, run.note)
    if as_json:
        parted = [stage for stage in run.stages if "steps" in stage]
        print_json({**artifact.meta, **({"stages": parted} if parted else {})})


def select(
    scores: str,
    given: dict[str, Any],
    *,
    targets: Targets,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 select``."""
    with setting.run() as run:
        done = pipeline.run_select(run, scores, given, targets=targets, **more)
    _finish_selection(done, run, targets)


def prune(
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    embedding: list[str] | None,
    targets: Targets,
    dry_run: bool,
    engine: pipeline.EngineParams,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 prune``."""
    refuse_metric(more.get("fusion"), graph_params, more.get("given", ()))
    params = (graph_params, score_params, select_params)
    more |= {"embedding": embedding, "targets": targets}
    if dry_run:
        refuse_dry_run(engine)
        with setting.run() as run:
            planned = pipeline.plan_run_prune(run, source, *params, **more)
        print_plan(planned, targets.as_json)
        return
    with setting.run() as run:
        done = pipeline.run_prune(run, source, *params, engine=engine, **more)
    _finish_selection(done, run, targets)


def print_plan(planned: Any, as_json: bool) -> None:  # noqa: ANN401
    """Print a plan on standard output, where results go."""
    if as_json:
        print_json(planned.to_dict())
    else:
        write_stdout("\n".join([*planned.lines(), ""]).encode())


def _finish_selection(done: pipeline.Selected, run: pipeline.Run, targets: Targets) -> None:
    display.print_selection(done, run.stages, run.note)
    if targets.as_json:
        print_json(done.report)


def compare_params(
    rates: tuple[float, ...], methods: tuple[str, ...], seeds: int
) -> "pipeline.CompareParams":
    """Return what is compared; checks rates and methods."""
    return pipeline.CompareParams(rates=rates, methods=methods, seeds=seeds)  # type: ignore[arg-type]


def compare(
    source: str,
    params: "pipeline.CompareParams",
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_given: dict[str, Any],
    *,
    embedding: list[str] | None,
    output: str | None,
    plot: str | None,
    as_json: bool,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 compare``."""
    with setting.run() as run:
        found = pipeline.run_compare(
            run,
            source,
            params,
            graph_params,
            score_params,
            select_given,
            embedding=one_embedding(embedding),
            output=None if output is None else as_place(output),
            plot=None if plot is None else as_place(plot),
            **more,
        )
    if as_json:
        print_json(found)
    else:
        from d2cli.render.comparisons import to_lines

        write_stdout("\n".join([*to_lines(found), ""]).encode())


def sweep(
    source: str,
    values: dict[str, Any],
    rates: tuple[float, ...],
    seeds: int,
    graph_params: GraphParams,
    *,
    modalities: bool,
    fusion: Fusion | None,
    embedding: list[str] | None,
    output: str | None,
    plot: str | None,
    as_json: bool,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 sweep``."""
    more |= {
        "output": None if output is None else as_place(output),
        "plot": None if plot is None else as_place(plot),
    }
    with setting.run() as run:
        if modalities:
            given: dict[str, Any] = {"embedding": embedding, "fusion": fusion, **more}
            found = pipeline.run_ablation(run, source, values, rates, seeds, graph_params, **given)
        else:
            if fusion is not None:
                raise ParameterError(
                    f"fusion {fusion} needs several embeddings, which a sweep of settings has not",
                    hint="add --modalities, or leave out --fusion",
                )
            alone = one_embedding(embedding)
            found = pipeline.run_sweep(
                run, source, values, rates, seeds, graph_params, embedding=alone, **more
            )
    if as_json:
        print_json(found)
    else:
        from d2cli.files.sweeps import sweep_lines

        write_stdout("\n".join([*sweep_lines(found), ""]).encode())
