"""What is looked at, one part of the data after the other, and what is found."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.alignment import Rows
from d2cli.files.colref import resolve
from d2cli.files.flawed import FlawedVectors, read_flawed_numbers
from d2cli.files.inputs import UNIFORM, FoundEmbedding, read_group
from d2cli.params import Direction, GraphParams, Metric, check_rate
from d2cli.pipeline.run import Run
from d2cli.stages import class_checks, difficulty_checks, geometry_checks, neighborhood_checks
from d2cli.stages.difficulty import MARGINS, known_direction
from d2cli.stages.groups import Groups
from d2cli.stages.soundness import Survey, sound_vectors
from d2cli.stages.space import Measure, SearchSpace, build_space, distinct_rows
from d2cli.stages.verdicts import (
    Check,
    LeftOut,
    failed,
    marked_rows,
    passed,
)

USUAL_NEIGHBORS = GraphParams().n_neighbors


@dataclass(frozen=True, kw_only=True)
class CheckParams:
    """What data are checked for.

    Attributes
    ----------
    neighbors : tuple of int
        Every k that a plan is wanted for. Neighbourhoods are looked at with 10 if it is among
        them, else with the first.
    metric : {"l2", "cosine", ...}
        Mahalanobis with the default shrinkage.
    rate : float or None
        Pruning rate.
    seed : int
        Of all samples and shuffles.
    """

    neighbors: tuple[int, ...] = (5, 10, 20)
    metric: Metric = "l2"
    rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not self.neighbors:
            raise ParameterError("neighbors is empty, expected numbers like 5,10")
        for k in self.neighbors:
            self.graph(k)

    @property
    def looked_at(self) -> int:
        """Neighbours of a row in the checks of neighbourhoods."""
        return USUAL_NEIGHBORS if USUAL_NEIGHBORS in self.neighbors else self.neighbors[0]

    def graph(self, k: int) -> GraphParams:
        """Return the graph that is planned; checks the values."""
        return GraphParams(n_neighbors=k, metric=self.metric, seed=self.seed)


@dataclass
class Findings:
    """Checks made so far, in the order of the report, and those that could not be made."""

    checks: list[Check] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, reason: str, *names: str) -> None:
        """Note that some checks are not made."""
        self.left_out += [LeftOut(name, reason) for name in names]


@dataclass(frozen=True, eq=False)
class Cloud:
    """Vectors that can be searched, and what belongs to their rows.

    Attributes
    ----------
    space : SearchSpace
        Of the sound rows; equal ones count as one.
    sound : int64 array, shape (m,)
        Rows of the vectors' file.
    leaders : int32 array, shape (m,)
        The place of each of them.
    rows : int64 array, shape (n,)
        The row of SOURCE for each row of the vectors' file; -1 where there is none.
    """

    space: SearchSpace
    sound: NDArray[np.int64]
    leaders: NDArray[np.int32]
    rows: NDArray[np.int64]


def rows_of_source(data: FoundEmbedding, n_vectors: int) -> NDArray[np.int64]:
    """Return the row of SOURCE for each row of the vectors' file; -1 where there is none."""
    if data.matched is None:
        return np.arange(n_vectors, dtype=np.int64)
    rows = np.full(n_vectors, -1, dtype=np.int64)
    rows[data.matched] = np.arange(len(data.matched))
    return rows


def look_at_rows(found: Findings, flawed: FlawedVectors) -> None:
    """Say which rows have no vector, or one of another length."""
    width = flawed.vectors.shape[1]
    text, figures = marked_rows(flawed.null | flawed.gap)
    figures["null_rows"] = int(flawed.null.sum())
    if figures["count"]:
        advice = "every row needs a vector without nulls: drop or fill these rows"
        found.checks.append(failed("nulls", f"nulls in {text}", advice, **figures))
    else:
        found.checks.append(passed("nulls", "no nulls", **figures))
    text, figures = marked_rows(flawed.ragged)
    figures["width"] = int(width)
    if figures["count"]:
        advice = "all vectors need the same width: drop or mend these rows"
        found.checks.append(
            failed("widths", f"another width than {width:,} in {text}", advice, **figures)
        )
    else:
        found.checks.append(passed("widths", f"all vectors have width {width:,}", **figures))


def lay_out(
    run: Run,
    found: Findings,
    flawed: FlawedVectors,
    survey: Survey,
    rows: NDArray[np.int64],
    params: CheckParams,
) -> Cloud | None:
    """Return the sound rows, ready to be searched, codes as bits; None if there are none.

    Check the metrics that ask more of vectors than sound rows.
    """
    metric = params.metric
    sound = flawed.sound & (rows >= 0) & ~survey.refused(metric)
    usable = np.flatnonzero(sound)
    if not len(usable):
        return None
    how: dict[str, Any] = {"n_threads": run.n_threads, "room": run.room}
    demanding = metric in ("ip", "mahalanobis", "hamming")
    try:
        vectors = sound_vectors(flawed.vectors, sound, metric, seed=params.seed, **how)
    except InputError as error:  # else all values are too small, which a check has said
        if demanding:
            found.checks.append(failed("metric", error.message, error.hint))
        return None
    if demanding:
        found.checks.append(passed("metric", f"the vectors are fit for {metric}"))
    places, indptr, members = distinct_rows(vectors, usable, **how)
    leaders = np.empty(len(usable), dtype=np.int32)
    leaders[members] = np.repeat(np.arange(len(places)), np.diff(indptr))
    measure: Measure = "l1" if metric == "l1" else "l2"
    return Cloud(build_space(vectors, places, measure=measure, **how), usable, leaders, rows)


def look_at_geometry(
    found: Findings, cloud: Cloud, survey: Survey, groups: Groups | None, params: CheckParams
) -> None:
    """Look at duplicates, axes, rank and lengths."""
    directions = geometry_checks.count_directions(cloud.space, seed=params.seed)
    codes = None if groups is None else groups.codes[cloud.rows[cloud.sound]]
    found.checks.append(geometry_checks.check_repeated(cloud.leaders, codes))
    if params.metric == "hamming":
        names = "constant-axes", "effective-rank", "norm-spread"
        found.leave_out("packed codes are bits, not numbers", *names)
        return
    found.checks += [
        geometry_checks.check_axes(survey),
        geometry_checks.check_directions(directions, survey),
        geometry_checks.check_lengths(survey, params.metric, directions),
    ]


def look_at_labels(
    run: Run, found: Findings, text: str | None, rows: Rows, rate: float | None
) -> Groups | None:
    """Check labels and the pruning rate; return the classes."""
    if rate is not None:
        found.checks.append(class_checks.check_rate(rate, rows.n_rows))
    if text is None:
        found.leave_out("needs --labels", "classes", "label-agreement")
        return None
    try:
        groups = read_group(run.sources, text, rows).groups
    except InputError as error:
        found.checks.append(failed("classes", error.message, error.hint))
        found.leave_out("needs labels of all rows", "label-agreement")
        return None
    found.checks.append(class_checks.check_classes(groups, rate))
    return groups


def look_at_difficulty(
    run: Run,
    found: Findings,
    text: str | None,
    harder: Direction | None,
    rows: Rows,
    seed: int,
) -> NDArray[np.float64] | None:
    """Check a score column; return its values (n,) if they can be used."""
    others = ("difficulty-ties", "margins", "difficulty-on-edges")
    if text is None or text == UNIFORM:
        reason = "needs --difficulty" if text is None else "difficulty is uniform"
        found.leave_out(reason, "difficulty-values", "direction", *others)
        return None
    try:
        ref = resolve(text, "difficulty", run.sources, rows.source)
        values, null = read_flawed_numbers(ref)
        matched = rows.rows_of(ref, len(values))
    except InputError as error:
        found.checks.append(failed("difficulty-values", error.message, error.hint))
        found.leave_out("needs a difficulty of all rows", "direction", *others)
        return None
    if matched is not None:
        values, null = values[matched], null[matched]
    by_name = known_direction(ref.title)
    direction = harder or ref.column.harder or by_name
    how = "--harder" if harder else "its metadata" if ref.column.harder else "its name"
    check = difficulty_checks.check_numbers(values, null, direction)
    found.checks += [check, difficulty_checks.check_direction(direction, how, ref.title)]
    if check.verdict == "fail":
        found.leave_out("needs a difficulty of all rows", *others)
        return None
    found.checks.append(difficulty_checks.check_ties(values))
    if direction == "low" and ref.title.lower() in MARGINS:
        found.checks.append(difficulty_checks.check_margins(values, seed=seed))
    else:
        found.leave_out("needs a margin, such as aum", "margins")
    return values


def look_at_neighborhoods(
    run: Run,
    found: Findings,
    cloud: Cloud | None,
    groups: Groups | None,
    values: NDArray[np.float64] | None,
    params: CheckParams,
) -> None:
    """Look at the neighbours of a sample: repeats, contrast, hubs, labels, difficulty."""
    n_places = 0 if cloud is None else cloud.space.n_places
    if cloud is None or n_places < neighborhood_checks.LEAST_ROWS:
        names = ["near-duplicates", "contrast", "hubness"]
        names += ["label-agreement"] if groups is not None else []
        names += ["difficulty-on-edges"] if values is not None else []
        least = neighborhood_checks.LEAST_ROWS
        found.leave_out(f"needs {least} different rows, there are {n_places}", *names)
        return
    how: dict[str, Any] = {
        "seed": params.seed, "n_threads": run.n_threads, "on_progress": run.on_progress,
    }  # fmt: skip
    k = min(params.looked_at, n_places - 1)
    near = neighborhood_checks.look_nearby(cloud.space, k, **how)
    found.checks += [
        neighborhood_checks.check_near_repeats(near, cloud.space.dim),
        neighborhood_checks.check_contrast(near),
    ]
    links = neighborhood_checks.count_links(cloud.space, k, **how)
    found.checks.append(neighborhood_checks.check_hubs(links))
    if groups is not None and groups.n_groups > 1:
        agreement = neighborhood_checks.label_agreement(
            near, groups.codes[np.maximum(cloud.rows, 0)], seed=params.seed
        )
        found.checks.append(neighborhood_checks.check_label_agreement(agreement))
    elif groups is not None:
        found.leave_out("there is one class only", "label-agreement")
    if values is not None and values.min() < values.max():
        correlation = neighborhood_checks.edge_correlation(
            near, values[np.maximum(cloud.rows, 0)], seed=params.seed
        )
        found.checks.append(neighborhood_checks.check_edge_correlation(correlation))
    elif values is not None:
        found.leave_out("all rows are equally difficult", "difficulty-on-edges")
