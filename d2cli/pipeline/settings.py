"""``--settings``: the best setting of a sweep in place of what is not given."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from d2cli.files.artifacts import Artifact
from d2cli.files.sweeps import read_settings
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.pipeline.run import Run

OF_GRAPH = {"neighbors": "n_neighbors", "metric": "metric"}
OF_SCORES = ("gamma_forward", "bandwidth", "rounds", "prune_hardest")
OF_SELECTION = ("gamma_reverse", "bandwidth", "messages")


def settings_for_select(
    run: Run, path: str, given: dict[str, Any], scores: Artifact
) -> dict[str, Any]:
    """Fill what is not given from a sweep; say which of its values belong to earlier stages.

    Parameters
    ----------
    run : Run
    path : str
        A sweep as JSON.
    given : dict
        Fields of `SelectParams`; None where not given.
    scores : Artifact
    """
    wanted = SelectParams(rate=given.get("rate"), keep=given.get("keep"))
    best = read_settings(path, wanted.rate_of(scores.table.num_rows), run.sources)
    made = scores.meta["parameters"]
    for knob in OF_SCORES:
        if best[knob] is not None and made[knob] != best[knob]:
            run.note(
                f"note: {path} found {knob.replace('_', '-')} {best[knob]} best, but the "
                f"scores were made with {made[knob]}"
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
        Options that the user named, with underscores; they stay.
    rate : float
    params : tuple of GraphParams, ScoreParams, SelectParams
    """
    best = read_settings(path, rate, run.sources)
    free = {knob: value for knob, value in best.items() if knob not in given}
    graph, scores, selection = params
    return (
        replace(graph, **{OF_GRAPH[knob]: free[knob] for knob in OF_GRAPH if knob in free}),
        replace(scores, **{knob: free[knob] for knob in OF_SCORES if knob in free}),
        replace(selection, **{knob: free[knob] for knob in OF_SELECTION if knob in free}),
    )
