"""Plans of real inputs: what a graph will take, whether it fits, and what is there already."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from d2cli.errors import ResourceError
from d2cli.files import cache, memory
from d2cli.files.inputs import FoundEmbedding
from d2cli.files.modalities import FoundModalities, FoundModality
from d2cli.files.scratch import DiskRoom, scratch_folder
from d2cli.params import GraphParams
from d2cli.pipeline.estimate import and_prune, measure_speed, plan_graph, plan_prune, with_limit
from d2cli.pipeline.forecast import Forecast
from d2cli.pipeline.fused_plan import plan_fused
from d2cli.pipeline.modalities import lists_of
from d2cli.pipeline.plan import Job, Plan
from d2cli.pipeline.run import Run, peak_memory
from d2cli.quantities import size_text
from d2cli.stages.fused import metric_for
from d2cli.stages.vectors import vector_type

ANY_SPEED = 1e10  # operations a second, where nobody asks for times


@dataclass(frozen=True)
class DryRun:
    """What a command would do: its plan, and what will become of each stage."""

    plan: Plan
    stages: tuple[Forecast, ...]

    def lines(self) -> list[str]:
        """Return all of it as text."""
        return [*self.plan.lines(), *(stage.line() for stage in self.stages)]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {"plan": self.plan.to_dict(), "stages": [stage.to_dict() for stage in self.stages]}


def plan_of(
    run: Run,
    found: FoundEmbedding | FoundModalities,
    params: GraphParams,
    *,
    prune: bool = False,
    timed: bool = True,
) -> Plan:
    """Return the plan of a graph, or of all stages, within the limit of `memory`.

    Raises
    ------
    ResourceError
        If even without the vectors more memory is needed.
    """
    # What the process holds is part of a job, so jobs come before anything is measured.
    if isinstance(found, FoundModalities):
        jobs = {name: _job(run, found, one) for name, one in found.each.items()}
        speed = measure_speed() if timed else ANY_SPEED
        measured = metric_for(params, found.fusion)
        plan = plan_fused(jobs, found.fusion, measured, speed=speed)
        if prune:
            plan = and_prune(plan, found.rows.n_rows, params.n_neighbors * lists_of(found))
        return in_memory(plan, found.where)
    job = _job(run, found, found)
    speed = measure_speed() if timed else ANY_SPEED
    plan = (plan_prune if prune else plan_graph)(job, params, speed=speed)
    return within_limit(plan, found.where)


def in_memory(plan: Plan, where: str) -> Plan:
    """Return a plan whose vectors cannot be on disk; refuse it if it exceeds the limit."""
    limit = memory.current_limit()
    if limit is None or plan.peak <= limit.n_bytes:
        return plan
    step = max(plan.steps, key=plan.bytes_of)
    raise ResourceError(
        f"{where}: about {size_text(plan.peak)} of memory are needed for all modalities "
        f"(step '{step.name}'), {limit}",
        hint=f"{memory.way_out(limit)}; fewer rows, axes or --threads need less",
    )


def within_limit(plan: Plan, where: str) -> Plan:
    """Return a plan with its vectors on disk if else it would exceed the limit of `memory`.

    Raises
    ------
    ResourceError
        If even without the vectors more memory is needed; ``where`` are the vectors.
    """
    limit = memory.current_limit()
    if limit is None:
        return plan
    fitting = with_limit(plan, limit.n_bytes)
    if fitting is None:
        step = max(plan.steps, key=lambda step: step.working)
        least = min(plan.unavoidable + plan.copies + plan.least_vectors, plan.peak)
        raise ResourceError(
            f"{where}: about {size_text(least)} of memory are needed even with vectors "
            f"on disk (step '{step.name}'), {limit}",
            hint=f"{memory.way_out(limit)}; "
            "fewer --threads, a smaller -k or --backend cells need less",
        )
    return fitting


def _job(
    run: Run, found: FoundEmbedding | FoundModalities, one: FoundEmbedding | FoundModality
) -> Job:
    """Return the job of one embedding of the rows that were found."""
    header, width = one.header, one.ref.source.width(one.ref.column.name)
    in_memory = not header.mapped and (not header.in_table or not run.sources.paths)
    return Job(
        found.rows.n_rows,
        width,
        header.dtype,
        mapped=header.mapped,
        in_table=header.in_table,
        moved=one.matched is not None,
        group_sizes=[len(rows) for rows in found.within.groups.rows()] if found.within else (),
        n_threads=run.n_threads,
        base=peak_memory() + memory.LIBRARIES,
        held=header.n_rows * width * header.dtype.itemsize if in_memory else 0,
    )


def require_vectors(
    found: FoundEmbedding, step: str, *, copies: int, row_bytes: float, smaller: str
) -> None:
    """Refuse vectors that are read and copied so many times, and other bytes a row; see `memory`.

    Vectors in a file that is mapped count, too.
    """
    header = found.header
    width = found.ref.source.width(found.ref.column.name)
    stored = header.n_rows * width * header.dtype.itemsize
    copied = float(copies) * header.n_rows * width * np.dtype(vector_type(header.dtype)).itemsize
    n_bytes = memory.LIBRARIES + stored + copied + found.rows.n_rows * row_bytes
    memory.require(found.ref.where, step, n_bytes, hint=smaller)


def settle(
    run: Run,
    found: FoundEmbedding | FoundModalities,
    params: GraphParams,
    *,
    cache_dir: str | None = None,
    prune: bool = False,
) -> None:
    """Print the plan if the run is verbose, and choose where vectors live."""
    follow(run, plan_of(run, found, params, prune=prune, timed=run.verbose), cache_dir)


def follow(run: Run, plan: Plan, cache_dir: str | None = None) -> None:
    """Print a plan if the run is verbose, and let vectors live where it says."""
    if run.verbose:
        for line in plan.lines():
            run.note(line)
    if plan.resident is not None:
        run.room = DiskRoom(plan.resident, lambda: scratch_folder(cache.cache_folder(cache_dir)))


def warn_about_memory(run: Run) -> None:
    """Say so if more memory was used than allowed."""
    limit = memory.current_limit()
    if limit is not None and limit.source == memory.OPTION and peak_memory() > limit.n_bytes:
        run.note(
            f"warning: peak memory was {size_text(peak_memory())}, above {memory.OPTION} "
            f"{size_text(limit.n_bytes)}; the plan is an estimate"
        )
