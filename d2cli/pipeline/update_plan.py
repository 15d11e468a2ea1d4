"""What an update will take, before anything large is read: bytes and seconds of every step."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from d2cli.files import memory
from d2cli.params import Fusion, GraphParams
from d2cli.pipeline.estimate import (
    AXES_SHARE,
    BITS,
    CELLS_AXIS,
    CELLS_ROW,
    PAIR,
    READ,
    SCANNED,
    WRITE,
    measure_speed,
)
from d2cli.pipeline.fused_plan import BLOCKS, EDGE, SORTED, UNITED
from d2cli.pipeline.plan import Plan, Step
from d2cli.pipeline.run import peak_memory
from d2cli.stages import cell_layout, exact, projection, space
from d2cli.stages.fused_exact import COLUMN_ROWS, GATHERED_VALUES, QUERY_ROWS
from d2cli.stages.recall import SAMPLE_SIZE

ROW_BYTES = 60.0  # numbers of a row: places, twins, cells, groups
LISTS = 4  # copies of all lists: as read, packed, merged, unpacked
SAMPLE_ROWS = 2000  # as much work as searching so many: the effort and the recall


def plan_update(
    n_old: int,
    n_added: int,
    n_retired: int,
    width: int,
    params: GraphParams,
    dtype: np.dtype[Any],
    *,
    in_cells: bool,
    held: int,
    n_threads: int,
) -> Plan:
    """Return the steps of an update; all figures are estimates.

    Parameters
    ----------
    n_old, n_added, n_retired : int
        Rows.
    width : int
        Of the vectors as they are stored.
    params : GraphParams
    dtype : float32, float64 or, for hamming, uint8
        That vectors are searched in.
    in_cells : bool
        Else exactly.
    held : int
        Bytes of sources that are read into memory, beside the vectors themselves.
    n_threads : int
    """
    n, base = n_old - n_retired + n_added, peak_memory() + memory.LIBRARIES
    vectors = float(n) * width * dtype.itemsize
    k = params.n_neighbors
    lists = 8.0 * n * k
    # A row that is retired is listed by about k others, which search again.
    asked = n_added + min(n_retired * k, n_old)
    speed = measure_speed()
    block = 12.0 * space.BLOCK_ROWS * width * n_threads
    rows = ROW_BYTES * n + lists * LISTS + block
    if params.metric == "hamming" and in_cells:
        vectors += BITS * 4.0 * n * width
        width *= BITS
    # Of codes, the width is that of bits.
    bits_or_axes = width * (BITS if params.metric == "hamming" and not in_cells else 1)
    if in_cells:
        wide = projection.NARROW < width <= projection.WIDEST
        axes = max(round(width * AXES_SHARE / 16), 1) * 16 if wide else width
        seconds = (asked + SAMPLE_ROWS) * 3 * (CELLS_ROW + CELLS_AXIS * axes)
        seconds += n * width * (2.0 * axes / speed + 1e-9 if wide else 1e-9)
        points = 4.0 * n * axes
    elif params.metric in SCANNED:
        pair, axis = SCANNED[params.metric]
        seconds, points = 2.0 * asked * n * (pair + axis * width), 0.0
    else:
        seconds = 2.0 * asked * n * (2.0 * width / speed + PAIR)
        rows += n_threads * 4.0 * (exact.PRODUCT_COLUMNS * exact.PRODUCT_COLUMNS)
        points = 0.0
    way = "cells" if in_cells else "exact"
    title = (
        f"{n_old:,} rows x {bits_or_axes:,}, {n_added:,} added, {n_retired:,} retired, "
        f"{k} neighbors, {way}, {n_threads} {'thread' if n_threads == 1 else 'threads'}"
    )
    window = space.BLOCK_ROWS * width * dtype.itemsize + (2 << 20)
    return Plan(
        title,
        (
            Step("read and check", 3 * vectors / READ, 40e6 + 20.0 * n + lists + held, vectors),
            Step(f"search ({way})", seconds / n_threads, rows, vectors + points),
            Step("write the graph", lists / WRITE, 3 * lists, vectors),
        ),
        base,
        2 * n_threads * window,
        2 * n_threads * space.GATHERED_BYTES,
    )


def plan_fused_update(
    n_old: int,
    n_added: int,
    n_retired: int,
    widths: Mapping[str, int],
    types: Mapping[str, np.dtype[Any]],
    params: GraphParams,
    fusion: Fusion,
    *,
    in_cells: bool,
    held: int,
    n_threads: int,
) -> Plan:
    """Return the steps of an update of several modalities, all of which are held in memory.

    Parameters
    ----------
    widths, types : mapping of str to int, and to dtype
        Of the modalities, by name.
    fusion : {"concat", "distance", "graphs"}
    n_old, n_added, n_retired, params, in_cells, held, n_threads
        See `plan_update`.
    """
    n, k, speed = n_old - n_retired + n_added, params.n_neighbors, measure_speed()
    width = sum(widths.values())
    # As read, as they are held together, and as they are searched.
    vectors = 3.0 * n * sum(widths[name] * types[name].itemsize for name in widths)
    listed = k * (len(widths) if fusion == "graphs" else 1)
    lists, asked = 8.0 * n * listed, n_added + min(n_retired * listed, n_old)
    pairs, rows = 2.0 * asked * n, ROW_BYTES * n + lists * LISTS
    if fusion == "distance":
        way, seconds = "exact", pairs * (4.0 * width / speed + SORTED)
        sampled = 0 if not in_cells else SAMPLE_SIZE
        seconds += float(sampled) * n * (4.0 * width / speed + SORTED)
        blocks = BLOCKS * QUERY_ROWS * COLUMN_ROWS + 8.0 * width * (QUERY_ROWS + COLUMN_ROWS)
        rows += n_threads * (blocks + 4 * 8.0 * GATHERED_VALUES)
    elif in_cells:
        way, points = "cells", float(n) * width
        seconds = (asked + SAMPLE_ROWS) * 3 * (CELLS_ROW + CELLS_AXIS * width)
        seconds += points * (2.0 * n / cell_layout.CELL_ROWS / speed + 1e-9)
        vectors += 4.0 * points
    else:
        way, seconds = "exact", pairs * (2.0 * width / speed + PAIR)
        rows += n_threads * 4.0 * exact.PRODUCT_COLUMNS * exact.PRODUCT_COLUMNS
    if fusion == "graphs":
        rows += EDGE * n * listed
        seconds += UNITED * n * listed
    title = (
        f"{n_old:,} rows, {fusion} of "
        + ", ".join(f"{name} x {widths[name]:,} {types[name]}" for name in widths)
        + f", {n_added:,} added, {n_retired:,} retired, {k} neighbors, {way}, {n_threads} "
        + ("thread" if n_threads == 1 else "threads")
    )
    return Plan(
        title,
        (
            Step("read and check", 3 * vectors / READ, 40e6 + 20.0 * n + lists + held, vectors),
            Step(f"search ({way})", seconds / n_threads, rows, vectors),
            Step("write the graph", lists / WRITE, 3 * lists, vectors),
        ),
        peak_memory() + memory.LIBRARIES,
        least_vectors=int(vectors),
    )
