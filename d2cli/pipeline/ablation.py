"""``d2 sweep --modalities``: what each modality of a fused graph brings."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.inputs import read_classes, read_difficulty, read_group
from d2cli.files.modalities import FoundModalities, Fused, find_vectors, input_name, same_columns
from d2cli.files.publish import write_bytes
from d2cli.files.remote import Place
from d2cli.files.stages import graph_of
from d2cli.files.sweeps import ABLATION_KIND, render_sweep
from d2cli.params import Direction, Fusion, GraphParams, ScoreParams, SelectParams
from d2cli.pipeline.cells import CellJob, run_cells
from d2cli.pipeline.contest import check_classes, check_places, check_targets, read_test_labels
from d2cli.pipeline.graph import cached_graph
from d2cli.pipeline.modalities import unscaled
from d2cli.pipeline.planning import settle
from d2cli.pipeline.run import Run, open_cache_folder
from d2cli.stages.ablation import Mix, conclude_ablation, mixes_of, summarize_ablation
from d2cli.stages.fused import bandwidths_of
from d2cli.stages.fusion import concatenate, unit_rows
from d2cli.stages.groups import Groups
from d2cli.stages.sweep import DEFAULT
from d2cli.stages.trials import Trials
from d2cli.stages.vectors import Vectors

ABLATION_VERSION = 1


def run_ablation(
    run: Run,
    source: str,
    values: dict[str, tuple[Any, ...]],
    rates: tuple[float, ...],
    seeds: int,
    graph_params: GraphParams,
    *,
    difficulty: str,
    embedding: Sequence[str],
    fusion: Fusion | None = None,
    labels: str | None = None,
    test: str | None = None,
    harder: Direction | None = None,
    id_: str | None = None,
    within: str | None = None,
    group: str | None = None,
    cache_dir: str | None = None,
    output: Place | None = None,
    plot: Place | None = None,
) -> dict[str, Any]:
    """Select with some of the modalities, beside all of them; finished cells are kept.

    The mixes are those of `d2cli.stages.ablation.mixes_of`; a probe sees all modalities side by
    side, whatever the rows were selected by. Other parameters are those of `run_sweep` and
    `run_graph`.

    Returns
    -------
    dict
        Ready for JSON: ``rows``, ``conclusions``.
    """
    graph_params = _one_setting(values, graph_params)
    check_targets((output, (".json", ".md")), (plot, (".svg",)))
    if not 1 <= seeds <= 1000:
        raise ParameterError(f"seeds is {seeds}, expected 1 to 1,000")
    rates = tuple(dict.fromkeys(SelectParams(rate=rate).rate or 0.0 for rate in rates))
    found = find_vectors(
        run.sources, source, embedding=embedding, fusion=fusion, id_=id_, within=within
    )
    if not isinstance(found, FoundModalities):
        raise ParameterError(
            "--modalities needs several embeddings", hint="give -e NAME=COLREF for each"
        )
    settle(run, found, graph_params, cache_dir=cache_dir)
    data = found.read(run.room)
    column = read_difficulty(run.sources, difficulty, data.rows, harder)
    target = read_classes(run.sources, labels, data.rows) if labels else None
    budgets = read_group(run.sources, group, data.rows) if group else None
    classes = check_classes(target.groups, rates) if target else None
    test_rows = None
    if test and labels and classes:
        test_rows = _read_test(run, test, found, labels, classes)
    check_places(run, output, plot)
    folder = open_cache_folder(run, cache_dir)
    digests = {
        "difficulty": column.digest,
        "direction": column.direction,
        "labels": target.digest if target else None,
        "group": budgets.digest if budgets else None,
        "test": test_rows[0].digests if test_rows else None,
        "seen": {**data.digests, "weights": data.shares},
    }
    vectors, tested = _seen(run, data, test_rows, graph_params)
    shared: dict[str, Any] = {
        "difficulty": column.orient(shift=True),
        "vectors": vectors,
        "labels": classes,
        "test": tested,
        "group": budgets.groups if budgets else None,
        "select_given": {},
        "preset": "default",
    }
    repetitions = seeds if classes else 1
    asked: list[tuple[Mix, float]] = []
    jobs: list[CellJob] = []
    for mix in mixes_of(data.shares):
        artifact = cached_graph(run, folder, _part(data, mix), graph_params)
        graph = graph_of(artifact)
        _ = graph.adjacency  # made once, before threads ask for it
        for rate, seed in itertools.product(rates, range(repetitions)):
            params = ScoreParams(rate=rate).for_score(margin=column.margin)
            trials = Trials(graph=graph, score_params=params, **shared)
            about = {**digests, "graph": artifact.digest, "rate": rate, "seed": seed}
            jobs.append(CellJob(about, partial(trials.run, "d2", rate, seed)))
            asked.append((mix, rate))
    by_mix: dict[tuple[Mix, float], list[Any]] = {}
    for place_of, cell in zip(asked, run_cells(run, jobs, folder, phase="sweeping"), strict=True):
        by_mix.setdefault(place_of, []).append(cell)
    in_order = {key: by_mix[key] for rate in rates for key in by_mix if key[1] == rate}
    rows = summarize_ablation(in_order, seed=graph_params.seed)
    result = {
        "kind": ABLATION_KIND,
        "schema_version": ABLATION_VERSION,
        "fusion": data.fusion,
        "weights": data.shares,
        "rows": rows,
        "conclusions": conclude_ablation(rows),
        "n_rows": data.rows.n_rows,
        "lacking": data.lacking,
        "seeds": repetitions,
        "difficulty": column.name,
    }
    for place in (place for place in (output, plot) if place is not None):
        write_bytes(place, render_sweep(result, place.suffix.lower()))
    return result


def _one_setting(values: dict[str, Any], params: GraphParams) -> GraphParams:
    """Return the graph parameters of a sweep of modalities, which tries no other settings."""
    for knob, tried in values.items():
        usual = getattr(DEFAULT, knob)
        free = knob in ("neighbors", "metric")
        if len(tried) > 1 or (tried and not free and tried[0] != usual):
            raise ParameterError(
                f"--modalities tries modalities and --{knob.replace('_', '-')} settings, "
                "expected one of them",
                hint=f"leave out --{knob.replace('_', '-')}"
                + (", or give one value" if free else ""),
            )
    return replace(params, n_neighbors=values["neighbors"][0], metric=values["metric"][0])


def _part(data: Fused, mix: Mix) -> Fused:
    """Return the modalities of a mix; a row that has none of them gets no neighbours."""
    shares = dict(mix.shares)
    left = {input_name(name) for name in data.shares if name not in shares}
    digests = {name: digest for name, digest in data.digests.items() if name not in left}
    return replace(
        data,
        shares=shares,
        vectors_of={name: data.vectors_of[name] for name in shares},
        rows_of={name: data.rows_of[name] for name in shares},
        digests=digests,
    )


def _read_test(
    run: Run, test: str, found: FoundModalities, labels: str, classes: Groups
) -> tuple[Fused, NDArray[np.int32]]:
    """Read the rows to test on: the columns of all modalities, and the numbers of their labels."""
    home = run.sources.open(test)
    data = same_columns(found, home).read(run.room)
    codes, digest = read_test_labels(run, home, data.rows.n_rows, labels, classes)
    return replace(data, digests={**data.digests, "labels": digest}), codes


def _seen(
    run: Run,
    data: Fused,
    test: tuple[Fused, NDArray[np.int32]] | None,
    params: GraphParams,
) -> tuple[Vectors, tuple[Vectors, NDArray[np.int32]] | None]:
    """Return what a probe sees of the rows, and of those to test on, in the same units."""
    unit = unit_rows(unscaled(data))
    bandwidths = bandwidths_of(unit, params, n_threads=run.n_threads, on_progress=run.on_progress)
    vectors = concatenate(unit, bandwidths)
    if test is None:
        return vectors, None
    theirs, ours = unit_rows(unscaled(test[0])), {one.name: one for one in unit.each}
    for one in theirs.each:
        if one.vectors.shape[1] != ours[one.name].vectors.shape[1]:
            raise InputError(
                f"{test[0].where_of[one.name]}: has width {one.vectors.shape[1]}, but "
                f"{data.where_of[one.name]} has width {ours[one.name].vectors.shape[1]}"
            )
    return vectors, (concatenate(theirs, bandwidths), test[1])
