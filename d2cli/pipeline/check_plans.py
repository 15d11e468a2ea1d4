"""What the full run will take for several k, and whether there is enough memory for it."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from d2cli.errors import ResourceError
from d2cli.files import cache, memory
from d2cli.files.inputs import FoundEmbedding
from d2cli.files.scratch import DiskRoom, scratch_folder
from d2cli.params import GraphParams
from d2cli.pipeline.plan import Plan
from d2cli.pipeline.planning import plan_of
from d2cli.pipeline.run import Run
from d2cli.quantities import size_text, time_text
from d2cli.stages.verdicts import Check, failed, passed, warned

LEAST_RESIDENT = 64 << 20  # bytes of vectors in memory where even the plan finds no room

Plans: TypeAlias = dict[int, Plan | ResourceError]  # by k; the error that would refuse the run


def plan_each(run: Run, data: FoundEmbedding, wanted: Iterable[GraphParams]) -> Plans:
    """Plan the full run for each k, and choose where the vectors live meanwhile."""
    plans: Plans = {}
    for params in wanted:
        try:
            plans[params.n_neighbors] = plan_of(run, data, params, prune=True)
        except ResourceError as error:
            plans[params.n_neighbors] = error
    fitting = [plan for plan in plans.values() if isinstance(plan, Plan)]
    resident = [plan.resident for plan in fitting if plan.resident is not None]
    if resident or not fitting:
        run.room = DiskRoom(
            min(resident, default=LEAST_RESIDENT),
            lambda: scratch_folder(cache.cache_folder(None)),
        )
    return plans


def check_plans(plans: Plans, n_rows: int, limit: memory.Limit | None) -> Check:
    """Check whether the full run fits into memory, for each k."""
    parts, refused, tight = [], None, False
    figures: dict[str, Any] = {"available_bytes": limit and limit.n_bytes, "plans": []}
    for k, plan in plans.items():
        if isinstance(plan, ResourceError):
            refused = plan
            parts.append(f"k {k}: too large")
            figures["plans"].append({"k": k, "peak_memory_bytes": None, "seconds": None})
            continue
        tight |= plan.resident is not None
        parts.append(f"k {k}: {size_text(plan.peak)}, {time_text(plan.seconds)}")
        figures["plans"].append(
            {"k": k, "peak_memory_bytes": round(plan.peak), "seconds": round(plan.seconds, 2)}
        )
    found = "; ".join(parts) + " (estimates)"
    if refused is not None:
        return failed("memory-and-time", found, f"{refused.message}: {refused.hint}", **figures)
    if tight and limit is not None and limit.source != memory.OPTION:
        advice = f"{limit}: vectors would stay on disk, unless {memory.OPTION} allows more"
        return warned("memory-and-time", found, advice, **figures)
    few = [k for k in plans if k >= n_rows]
    if few:
        advice = f"rows have {n_rows - 1} others, so lists of {few[0]} are padded: use a smaller -k"
        return warned("memory-and-time", found, advice, **figures)
    return passed("memory-and-time", found, **figures)
