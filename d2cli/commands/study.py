"""``d2 difficulty``, ``compare`` and ``sweep``, behind the parser."""

from typing import Any

from d2cli import display, pipeline
from d2cli.commands.running import (
    Setting,
    one_embedding,
    print_artifact,
    print_json,
    refuse_terminal,
)
from d2cli.errors import ParameterError
from d2cli.files.remote import as_place
from d2cli.files.sources import STDIN
from d2cli.files.stdout import write_stdout
from d2cli.params import (
    AUTO,
    DynamicsParams,
    Fusion,
    GraphParams,
    PrototypeParams,
    ScoreParams,
)
from d2cli.pipeline import Targets as Targets


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
    print_artifact(artifact, as_json, run.stages)


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
