"""What a graph of several modalities will take; estimates as in `d2cli.pipeline.plan`.

All modalities are held in memory, whatever step looks at which of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from d2cli.params import Fusion, GraphParams
from d2cli.pipeline.estimate import PAIR, WRITE, plan_graph
from d2cli.pipeline.plan import Job, Plan, Step
from d2cli.stages.fused_distance import USUAL_CANDIDATES
from d2cli.stages.fused_exact import COLUMN_ROWS, GATHERED_VALUES, QUERY_ROWS
from d2cli.stages.graph import searches_exactly
from d2cli.stages.recall import SAMPLE_SIZE

SORTED = 10 * PAIR  # seconds for one pair of rows: its common shares, the k-th, what is nearer
BLOCKS = 6 * 8  # bytes of a pair of rows in a block
EDGE = 200  # bytes of a listed neighbour while lists are united
UNITED = 1e-6  # seconds for it
DIFFERENCE = 2e-9  # seconds for an axis of a pair whose true distance is measured


def plan_fused(
    jobs: Mapping[str, Job], fusion: Fusion, params: GraphParams, *, speed: float
) -> Plan:
    """Return what a graph of several modalities takes.

    Parameters
    ----------
    jobs : mapping of str to Job
        Of each modality, as if it were the only one.
    fusion : {"concat", "distance", "graphs"}
    params : GraphParams
        As `d2cli.stages.fused.metric_for` returns them.
    speed : float
        Floating-point operations a second of one thread.
    """
    first = next(iter(jobs.values()))
    n, k = first.n_rows, params.n_neighbors
    width = sum(job.width for job in jobs.values())
    plans = {name: plan_graph(job, params, speed=speed) for name, job in jobs.items()}
    reading = [plan.steps[0] for plan in plans.values()]
    together = Step(
        "read and check",
        sum(step.seconds for step in reading),
        max(step.working for step in reading),
        sum(step.vectors for step in reading),
    )
    held = sum(plan.steps[-1].vectors for plan in plans.values())
    if fusion == "graphs":
        steps = [*_steps_of_each(plans, held)]
        edges = float(n) * k * len(jobs)
        steps.append(Step("unite the graphs", UNITED * edges, EDGE * edges, held))
        listed = k * len(jobs)
    else:
        steps = [_sampled(first, width, k, held, speed)]
        listed = k
        if fusion == "distance":
            steps += _by_distance(jobs, params, held, speed)
        else:
            joined = replace(
                first, width=width, dtype=np.dtype(np.float32), mapped=False, in_table=True, held=0
            )
            unit = 4.0 * n * width
            plan = plan_graph(joined, replace(params, metric="l2"), speed=speed)
            steps += [
                replace(step, vectors=step.vectors + unit + held) for step in plan.steps[1:-1]
            ]
            held += 2 * unit
    lists = 8.0 * n * listed
    steps.append(Step("write the graph", lists / WRITE, 3 * lists, held))
    title = (
        f"{n:,} rows, {fusion} of "
        + ", ".join(f"{name} x {job.width:,} {job.dtype}" for name, job in jobs.items())
        + f", {k} neighbors by {params.metric}, {first.n_threads} "
        + ("thread" if first.n_threads == 1 else "threads")
    )
    base = first.base + sum(job.held for job in jobs.values())
    return Plan(title, (together, *steps), base, least_vectors=int(held))


def _steps_of_each(plans: Mapping[str, Plan], held: float) -> Iterator[Step]:
    """Yield the steps of all modalities' own graphs, beside the vectors of the others."""
    for name, plan in plans.items():
        own = plan.steps[-1].vectors
        for step in plan.steps[1:-1]:
            others = step.vectors - own + held
            yield Step(f"{name}: {step.name}", step.seconds, step.working, max(others, held))


def _sampled(job: Job, width: int, k: int, held: float, speed: float) -> Step:
    """Return the step that measures the bandwidths on a sample."""
    queries = min(SAMPLE_SIZE, job.n_rows)
    return Step(
        "bandwidths", _pairs(job, queries, job.n_rows, width, speed), _blocks(job, width, k), held
    )


def _pairs(job: Job, queries: int, rows: float, width: int, speed: float) -> float:
    """Return the seconds of comparing rows in float64, half as fast as in float32."""
    return queries * rows * (4 * width / speed + SORTED) / job.n_threads


def _blocks(job: Job, width: int, k: int) -> float:
    """Return the bytes of blocks of pairs, of vectors in float64 and of what is subtracted."""
    block = BLOCKS * QUERY_ROWS * COLUMN_ROWS + 8 * width * (QUERY_ROWS + COLUMN_ROWS)
    return (
        job.n_threads * (block + 4 * 8.0 * GATHERED_VALUES)
        + 60.0 * job.n_rows
        + 8.0 * k * job.n_rows
    )


def _by_distance(
    jobs: Mapping[str, Job], params: GraphParams, held: float, speed: float
) -> Iterator[Step]:
    """Yield the steps of the search by fused distance."""
    first, k = next(iter(jobs.values())), params.n_neighbors
    width = sum(job.width for job in jobs.values())
    sizes = list(first.group_sizes) or [first.n_rows]
    blocks = _blocks(first, width, k)
    exact = [size for size in sizes if searches_exactly(size, max(width, 1), params)]
    if exact:
        seconds = sum(_pairs(first, size, size, width, speed) for size in exact)
        yield Step("exact search", seconds, blocks, held)
    rest = [size for size in sizes if not searches_exactly(size, max(width, 1), params)]
    if not rest:
        return
    asked = min(USUAL_CANDIDATES * k, max(rest))
    wide = replace(params, n_neighbors=asked)
    plans = {
        name: plan_graph(replace(job, group_sizes=rest), wide, speed=speed)
        for name, job in jobs.items()
    }
    candidates = 4.0 * first.n_rows * asked * len(jobs)
    for step in _steps_of_each(plans, held):
        yield replace(step, working=step.working + candidates)
    pairs = sum(rest) * asked * len(jobs)
    yield Step("rank", pairs * width * DIFFERENCE / first.n_threads, blocks + 2 * candidates, held)
