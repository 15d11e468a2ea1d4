"""``--settings``: the best setting of a sweep in place of what is not given."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from d2cli.errors import ParameterError
from d2cli.files.artifacts import Artifact
from d2cli.files.sweeps import read_settings
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.pipeline.run import Run

OF_GRAPH = {"neighbors": "n_neighbors", "metric": "metric"}
OF_SCORES = ("gamma_forward", "bandwidth", "rounds", "prune_hardest")
OF_SELECTION = ("gamma_reverse", "bandwidth", "messages")


def settings_for_select(
    run: Run,
    path: str,
    given: dict[str, Any],
    preset: str | None,
    graph: Artifact,
    scores: Artifact,
) -> dict[str, Any]:
    """Fill what is not given from a sweep; say which of its values belong to earlier stages.

    Parameters
    ----------
    run : Run
    path : str
        A sweep as JSON.
    given : dict
        Fields of `SelectParams`; None where not given.
    preset : str or None
        Refused: a sweep tries settings of the preset "default".
    graph, scores : Artifact
        What is selected from.
    """
    _refuse(preset is not None)
    wanted = SelectParams(rate=given.get("rate"), keep=given.get("keep"))
    best = read_settings(path, wanted.rate_of(scores.table.num_rows), run.sources)
    searched, made = graph.meta["parameters"], scores.meta["parameters"]
    others = [("graph", knob, searched[field]) for knob, field in OF_GRAPH.items()]
    others += [("scores", knob, made[knob]) for knob in OF_SCORES]
    if made["preset"] != "default":
        run.note(
            f"note: the scores were made with preset {made['preset']}, "
            "but a sweep tries settings of the preset default"
        )
    for what, knob, value in others:
        if best[knob] is not None and value != best[knob]:
            were = "was" if what == "graph" else "were"
            run.note(
                f"note: {path} found {knob.replace('_', '-')} {best[knob]} best, but the "
                f"{what} {were} made with {value}"
            )
    usable = {knob: best[knob] for knob in OF_SELECTION}
    return {**given, **{key: v for key, v in usable.items() if given.get(key) is None}}


def settings_for_prune(
    run: Run,
    path: str,
    given: Collection[str],
    rate: float,
    params: tuple[GraphParams, ScoreParams, SelectParams],
) -> tuple[GraphParams, ScoreParams, SelectParams]:
    """Replace what is not given by the best setting of a sweep for the nearest rate.

    Parameters
    ----------
    run : Run
    path : str
        A sweep as JSON.
    given : collection of str
        Options that the user named, with underscores; they stay, but a preset is refused.
    rate : float
    params : tuple of GraphParams, ScoreParams, SelectParams
    """
    _refuse("preset" in given)
    best = read_settings(path, rate, run.sources)
    free = {knob: value for knob, value in best.items() if knob not in given}
    graph, scores, selection = params
    return (
        replace(graph, **{OF_GRAPH[knob]: free[knob] for knob in OF_GRAPH if knob in free}),
        replace(scores, **{knob: free[knob] for knob in OF_SCORES if knob in free}),
        replace(selection, **{knob: free[knob] for knob in OF_SELECTION if knob in free}),
    )


def _refuse(preset: bool) -> None:
    if preset:
        raise ParameterError(
            "--settings and --preset are given, expected one of them",
            hint="a sweep tries settings of the preset default; leave out --preset",
        )
