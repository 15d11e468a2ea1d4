"""``d2 check``: is this data fit for pruning? Answered before any expensive work.

The vectors are read once, as a graph would read them, and neighbours are looked at for a sample
only, so memory stays below that of `d2 prune`, and time far below.
"""

from typing import Any

from d2cli.errors import InputError
from d2cli.files import memory, unpacking
from d2cli.files.alignment import NO_IDS
from d2cli.files.flawed import read_flawed_vectors
from d2cli.files.inputs import FoundEmbedding, find_embedding
from d2cli.params import Direction
from d2cli.pipeline.check_plans import check_plans, plan_each
from d2cli.pipeline.findings import (
    CheckParams,
    Findings,
    lay_out,
    look_at_difficulty,
    look_at_geometry,
    look_at_labels,
    look_at_neighborhoods,
    look_at_rows,
    rows_of_source,
)
from d2cli.pipeline.plan import Plan
from d2cli.pipeline.planning import warn_about_memory
from d2cli.pipeline.run import Run
from d2cli.render.checks import CHECK_KIND
from d2cli.stages.soundness import check_values, survey_vectors
from d2cli.stages.verdicts import (
    Check,
    failed,
    passed,
    tell_checks,
)


def run_check(
    run: Run,
    source: str,
    params: CheckParams,
    *,
    embedding: str | None = None,
    id_: str | None = None,
    difficulty: str | None = None,
    harder: Direction | None = None,
    labels: str | None = None,
) -> dict[str, Any]:
    """Check a SOURCE.

    Parameters
    ----------
    run : Run
    source : str
        File with the vectors, or "-".
    params : CheckParams
    embedding, id_, difficulty, labels : str, optional
        COLREFs.
    harder : {"high", "low"}, optional

    Returns
    -------
    dict
        JSON values: ``kind``, ``source``, ``n_rows``, ``width``, ``dtype``, ``metric``,
        ``neighbors``, ``seed``, ``verdict`` (the worst), ``counts`` of verdicts, ``checks`` (each
        ``name``, ``verdict``, ``found``, ``advice``, ``figures``) and ``left_out`` (each ``name``,
        ``reason``).

    Raises
    ------
    InputError
        If there is no SOURCE, no column of vectors, or no vector in it.
    """
    limit = memory.current_limit()
    # A limit that is too small for the full run is a finding, and the other checks go on.
    with memory.within(limit and memory.limit_of(None)), unpacking.within(limit):
        return _run_check(
            run,
            source,
            params,
            limit,
            embedding=embedding,
            id_=id_,
            difficulty=difficulty,
            harder=harder,
            labels=labels,
        )


def _run_check(
    run: Run,
    source: str,
    params: CheckParams,
    limit: memory.Limit | None,
    *,
    embedding: str | None,
    id_: str | None,
    difficulty: str | None,
    harder: Direction | None,
    labels: str | None,
) -> dict[str, Any]:
    """Check within what there is; plans keep to a limit."""
    found = Findings()
    data, check_of_ids = _find(run, source, embedding, id_)
    # Before anything is read: plans start from memory as it is.
    with memory.within(limit):
        plans = plan_each(run, data, map(params.graph, params.neighbors))
    found.checks.append(check_of_ids)
    codes = params.metric == "hamming"
    flawed = read_flawed_vectors(data.ref, run.room, packed=codes)
    look_at_rows(found, flawed)
    rows = rows_of_source(data, len(flawed.vectors))
    survey = survey_vectors(
        flawed.vectors,
        flawed.sound & (rows >= 0),
        metric=params.metric,
        room=run.room,
        n_threads=run.n_threads,
        on_progress=run.on_progress,
    )
    found.checks += check_values(survey, data.header.dtype, params.metric)
    groups = look_at_labels(run, found, labels, data.rows, params.rate)
    cloud = lay_out(run, found, flawed, survey, rows, params)
    if cloud is None:
        names = ("exact-duplicates", "constant-axes", "effective-rank", "norm-spread")
        found.leave_out("no row is fit to be searched", *names)
    else:
        look_at_geometry(found, cloud, survey, groups, params)
    values = look_at_difficulty(run, found, difficulty, harder, data.rows, params.seed)
    look_at_neighborhoods(run, found, cloud, groups, values, params)
    found.checks.append(check_plans(plans, data.rows.n_rows, limit))
    if any(isinstance(plan, Plan) for plan in plans.values()):
        with memory.within(limit):
            warn_about_memory(run)
    return {
        "kind": CHECK_KIND,
        "source": source,
        "n_rows": data.rows.n_rows,
        "width": int(flawed.vectors.shape[1]),
        "dtype": str(data.header.dtype),
        "metric": params.metric,
        "neighbors": params.looked_at,
        "seed": params.seed,
        **tell_checks(found.checks, found.left_out),
    }


def _find(
    run: Run, source: str, embedding: str | None, id_: str | None
) -> tuple[FoundEmbedding, Check]:
    """Find the vectors; ids that cannot be used are a failed check, and rows count by number."""
    how: dict[str, Any] = {"embedding": embedding, "within": None}
    try:
        data = find_embedding(run.sources, source, id_=id_, **how)
    except InputError as error:
        try:
            data = find_embedding(run.sources, source, id_=NO_IDS, **how)
        except InputError:
            raise error from None
        return data, failed("ids", error.message, error.hint, ids=None)
    ids = data.rows.ids
    if ids is None:
        return data, passed("ids", "none: rows of several files are matched by number", ids=0)
    return data, passed("ids", f"{len(ids):,} ids, all different", ids=len(ids))
