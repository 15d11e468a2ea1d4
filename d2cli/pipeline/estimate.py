"""What a graph and all after it take in time and memory, estimated before any work."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from d2cli.files.memory import graph_bytes
from d2cli.params import GraphParams
from d2cli.pipeline.plan import Job, Plan, Step
from d2cli.stages import approximate, cell_layout, exact, hnsw, pairs, projection, space, whitening
from d2cli.stages import cells as cell_search
from d2cli.stages import scan as scan_search
from d2cli.stages.graph import searches_exactly
from d2cli.stages.recall import SAMPLE_SIZE
from d2cli.stages.vectors import vector_type

READ = 0.6e9  # bytes a second: reading, digest and checks, one thread
WRITE = 0.3e9  # bytes a second: digest and file of the graph
PAIR = 0.4e-9  # seconds to look at one product of the exact search
# Seconds to look at one pair of a scan, and for each axis, or byte of a code.
SCANNED = {"l1": (15e-9, 0.045e-9), "hamming": (2e-9, 0.065e-9)}
FITTED_AXES = 0.1e-9  # seconds a row and pair of axes to fit a whitening
WHITENED_AXES = 0.07e-9  # and to whiten
PAIRED = 0.6  # of the time, where every product serves both of its rows
CELLS_ROW, CELLS_AXIS = 10e-6, 0.12e-6  # seconds a row, and a row and axis: 12 to 30 in all
HNSW_ROW, HNSW_AXIS = 50e-6, 0.3e-6  # the same for building and searching: 60 to 90 in all
EFFICIENCY = 0.9  # of several threads
PICK = 6e-6  # seconds a row to score, select and report
LARGE_PAGE = 2 << 20  # bytes that a look at a memory-mapped page may make resident
AXES_SHARE = 0.25  # of the width: axes that wide vectors mostly need; not known beforehand
HNSW_EFFORT = 4  # candidates for a neighbour that reach the usual recall
AS_THEY_ARE = ("l2", "ip", "l1", "hamming")  # metrics that search vectors as they are stored
BITS = 8  # of a byte of a code
LEFT_ALONE = ("lay out", "search")  # steps that look at points, not at vectors
CELL_SPREAD = 4  # the largest cells have so many times the rows of the average


@cache
def measure_speed() -> float:
    """Return the floating-point operations a second of a small matrix product.

    It is measured once in a process, in about 20 ms.
    """
    left = np.ones((512, 128), dtype=np.float32)
    right = np.ones((128, 2048), dtype=np.float32)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        np.matmul(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * left.size * right.shape[1] / max(best, 1e-6)


def plan_graph(job: Job, params: GraphParams, *, speed: float) -> Plan:
    """Return what a graph takes.

    Parameters
    ----------
    job : Job
    params : GraphParams
    speed : float
        Floating-point operations a second of one thread.
    """
    sizes = sorted(job.group_sizes or [job.n_rows])
    ways = {_backend(size, job.width, params) for size in sizes}
    cost = _Cost(job, params, speed)
    steps = [_reading(job, params), *_whitening(job, params), *cost.steps(sizes)]
    k, n = params.n_neighbors, job.n_rows
    graph = 8.0 * n * k
    steps.append(Step("write the graph", graph / WRITE, 3 * graph, _searched(job, params)))
    place = "memory-mapped" if job.mapped else "in a table" if job.in_table else "in memory"
    title = (
        f"{n:,} rows x {job.width * BITS if params.metric == 'hamming' else job.width:,}, "
        f"{job.dtype} {place}, "
        f"{k} neighbors by {params.metric}, {'+'.join(sorted(ways))}, "
        f"{job.n_threads} {'thread' if job.n_threads == 1 else 'threads'}"
    )
    window = space.BLOCK_ROWS * job.row_bytes + LARGE_PAGE
    return Plan(
        title,
        tuple(steps),
        job.base,
        2 * job.n_threads * window,
        2 * job.n_threads * space.GATHERED_BYTES,
    )


def plan_prune(job: Job, params: GraphParams, *, speed: float) -> Plan:
    """Return what graph, scores and selection take."""
    return and_prune(plan_graph(job, params, speed=speed), job.n_rows, params.n_neighbors)


def and_prune(plan: Plan, n_rows: int, n_listed: int) -> Plan:
    """Return a plan that goes on with scores and selection; ``n_listed`` neighbours a row."""
    # The graph as stored, both directions of its edges, and a few numbers a row.
    bytes_ = graph_bytes(n_rows, n_listed)
    rest = Step("score, select, report", PICK * n_rows, bytes_, 0.0)
    return replace(plan, steps=(*plan.steps, rest))


def _backend(size: int, width: int, params: GraphParams) -> str:
    if searches_exactly(size, max(width, 1), params):
        return "exact"
    return "hnsw" if params.backend == "auto" else params.backend


def _searched(job: Job, params: GraphParams) -> float:
    """Return the bytes of the vectors as they are searched."""
    item = {"cosine": 4, "mahalanobis": 4, "hamming": 1}.get(params.metric, job.item_bytes)
    return float(job.n_rows) * job.width * item


def _reading(job: Job, params: GraphParams) -> Step:
    """Return the step from the file to checked vectors."""
    searched, stored = _searched(job, params), float(job.n_rows) * job.row_bytes
    as_stored = job.in_table or job.dtype == np.dtype(vector_type(job.dtype))
    if params.metric == "hamming":
        as_stored, stored = True, float(job.stored_bytes)
    if params.metric in AS_THEY_ARE:
        vectors = searched if as_stored else searched + job.stored_bytes
    elif job.in_table and job.item_bytes == 4:  # made unit vectors in place
        vectors = searched
    else:
        vectors = searched + (stored if job.in_table else job.stored_bytes)
    if job.moved:
        vectors += stored if job.in_table else job.stored_bytes
    passes = stored * (2 if params.metric not in AS_THEY_ARE or not as_stored else 1)
    return Step("read and check", passes / READ, 40e6 + 20 * job.n_rows + job.held, vectors)


def _whitening(job: Job, params: GraphParams) -> list[Step]:
    """Return the step that whitens vectors, if they are."""
    if params.metric != "mahalanobis":
        return []
    axes, fitted = float(job.width) ** 2, min(job.n_rows, whitening.SAMPLE_ROWS)
    threads = job.n_threads if job.n_threads == 1 else job.n_threads * EFFICIENCY
    seconds = axes * (fitted * FITTED_AXES + job.n_rows * WHITENED_AXES / threads)
    block = 24.0 * whitening.BLOCK_ROWS * job.width
    vectors = _reading(job, params).vectors
    if job.item_bytes == 8 and job.dtype != np.float64:  # stored, checked and whitened at once
        vectors += float(job.n_rows) * job.row_bytes
    return [Step("whiten", seconds, 48 * axes + job.n_threads * block + job.held, vectors)]


class _Cost:
    """Bytes and seconds of searching groups."""

    def __init__(self, job: Job, params: GraphParams, speed: float) -> None:
        self.job, self.params, self.speed = job, params, speed
        self.threads = job.n_threads if job.n_threads == 1 else job.n_threads * EFFICIENCY
        self.vectors = _searched(job, params)
        # Vectors that are searched where their file is mapped are given back while nobody looks.
        as_stored = job.dtype == np.dtype(vector_type(job.dtype)) and params.metric in AS_THEY_ARE
        self.released = job.mapped and as_stored and not job.moved
        self.graph = 8.0 * job.n_rows * params.n_neighbors
        # Codes are unpacked where they are not scanned.
        self.width = job.width * (BITS if params.metric == "hamming" else 1)
        wide = projection.NARROW < self.width <= projection.WIDEST
        self.axes = max(round(self.width * AXES_SHARE / 16), 1) * 16 if wide else self.width
        # A block of vectors is centred in float64 and rounded to float32.
        self.block = 12.0 * space.BLOCK_ROWS * self.width

    def _exact_seconds(self, queries: float, size: int) -> float:
        return queries * size * (2 * self.width / self.speed + PAIR) / self.threads

    def steps(self, sizes: Sequence[int]) -> list[Step]:
        """Return the steps of all groups, of one name together."""
        found: dict[str, tuple[float, float, float]] = {}
        for size in sizes:
            for name, seconds, working, points in self._group(size):
                before = found.get(name, (0.0, 0.0, 0.0))
                largest = max(before[1], working), max(before[2], points)
                found[name] = before[0] + seconds, *largest
        held, released = self.graph if len(sizes) > 1 else 0.0, self.released
        return [
            Step(
                name,
                seconds,
                working + held + self.job.held,
                points + (0.0 if released and name.startswith(LEFT_ALONE) else self.vectors),
            )
            for name, (seconds, working, points) in found.items()
        ]

    def _group(self, size: int) -> list[tuple[str, float, float, float]]:
        """Return (name, seconds, bytes beside vectors and points, those of points) of each step."""
        job, k = self.job, self.params.n_neighbors
        rows = 50.0 * size  # numbers of rows, places, keys and the table of twins
        looking = ("find equal rows", 2.0 * size * job.row_bytes / READ / self.threads)
        first = (*looking, rows + job.n_threads * self.block, 0.0)
        threads = job.n_threads
        scan = threads * (
            4.0 * exact.PRODUCT_ROWS * exact.PRODUCT_COLUMNS
            + 16.0 * exact.PRODUCT_COLUMNS * self.width
            + min(exact.QUERY_BLOCK, size) * (12.0 * self.width + 60.0 * k)
        )
        answer = 12.0 * size * k
        way = _backend(size, job.width, self.params)
        if way == "exact" and self.params.metric in SCANNED:
            pair, axis = SCANNED[self.params.metric]
            seconds = float(size) * size * (pair + axis * job.width) / self.threads
            asked_at_once = scan_search.QUERY_BLOCK * (8.0 * k + 2.0 * job.row_bytes)
            return [first, ("exact search", seconds, rows + threads * asked_at_once + answer, 0.0)]
        if way == "exact":
            seconds, held = self._exact_seconds(size, size), scan
            if exact.fits_at_once(size, k):
                seconds *= PAIRED
                held = size * pairs.candidate_bytes(k) + threads * (
                    4.0 * pairs.BLOCK**2 + 20.0 * (pairs.STRIP_BLOCKS + 1) * pairs.BLOCK * job.width
                )
            return [first, ("exact search", seconds, rows + held + answer, 0.0)]
        unpacked = 4.0 * size * self.width if self.params.metric == "hamming" else 0.0
        points = 4.0 * size * self.axes + unpacked
        cells = min(cell_layout.MOST_CELLS, max(1, size // cell_layout.CELL_ROWS))
        sample = cell_layout.SAMPLE_A_CELL * cells * self.axes * 8.0
        sorting = threads * 4.0 * cell_layout.PIECE * (cells + self.axes) + 30.0 * size
        sorted_ = max(
            4.0 * size * min(2 * cell_layout.SORTED_COLUMNS, self.axes),
            threads * (cell_layout.MOVED_BYTES + self.block),
        )
        narrowed = self.axes < self.width
        wanted = cell_search.ON_AXES * k if narrowed else cell_search.AS_THEY_ARE * k
        row, axis = CELLS_ROW, CELLS_AXIS
        # A piece of points, their distances to centres and to the largest cells, their candidates.
        piece = (
            8.0 * self.axes + 4.0 * (cells + CELL_SPREAD * cell_layout.CELL_ROWS) + 40.0 * wanted
        )
        index = threads * cell_search.PIECE * piece
        if way != "cells":
            wanted, row, axis = HNSW_EFFORT * k, HNSW_ROW, HNSW_AXIS
            index = size * (4.0 * self.axes + 8.0 * hnsw.M + 120) + 2.0 * size * threads
        candidates, found = 4.0 * size * wanted, 8.0 * size * k
        # Candidates before and after refining; then with what is found; then that with twins.
        both = max(2 * candidates, candidates + found, 2 * found)
        asked = 20.0 * size
        every = (row + axis * self.axes) * size / self.threads
        checked = min(SAMPLE_SIZE, size)
        return [
            first,
            ("sample for recall", self._exact_seconds(checked, size), rows + scan, unpacked),
            (
                "project",
                size * self.width * 2.0 * (self.axes / self.speed + 1e-9) / self.threads,
                rows + threads * self.block,
                points,
            ),
            (
                "lay out in cells",
                size * cells * (2.0 * self.axes / self.speed + PAIR) * 1.3 / self.threads,
                rows + max(sample + sorting, sorted_),
                points,
            ),
            (f"search ({way})", 0.8 * every, rows + index + candidates + asked, points),
            (
                "refine and rank",
                0.2 * every,
                rows + both + asked + threads * approximate.PIECE * 1e3,
                points,
            ),
        ]


def with_limit(plan: Plan, limit: int) -> Plan | None:
    """Return the plan with vectors on disk where memory is short; None if it is too short even so.

    Parameters
    ----------
    plan : Plan
        With the vectors in memory.
    limit : int
        Bytes.
    """
    if plan.peak <= limit:
        return plan
    resident = int(limit - plan.unavoidable - plan.copies)
    if resident < plan.least_vectors:
        return None
    return replace(plan, resident=resident)
