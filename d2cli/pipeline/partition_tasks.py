"""The tasks of a partitioned graph: each reads partitions from a store, and keeps its result there.

A task is known by what its part is called; whoever finds that part need not run it. It returns
the bytes of columns that it has read from the store and kept there.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.parts import quiet_parts
from d2cli.files.pieces import keep_piece
from d2cli.files.remote import Place
from d2cli.pipeline.partition_store import (
    Shared,
    StoreReader,
    cells_name,
    centers_name,
    lists_name,
    order_of,
    piece_name,
    read_rows,
    sample_name,
)
from d2cli.stages.lists import unpack
from d2cli.stages.partition_exact import search_exactly
from d2cli.stages.partition_recall import Sample, look_in_partition
from d2cli.stages.partition_search import (
    LARGE_CELL,
    Cells,
    find_cells,
    one_cell,
    search_cells,
)
from d2cli.stages.places import find_places, spread_lists

Traffic = tuple[int, int]  # bytes read, and bytes kept


def see_store(store: Place, of: str) -> bool:
    """Return whether a mark is seen that the process that began the run has left in the store."""
    return quiet_parts(store, of).find(stage="mark") is not None


def divide_rows(shared: Shared, start: int, vectors: NDArray[Any]) -> Traffic:
    """Keep the piece of some rows, sorted by partition; ``start`` is the first of them."""
    parts = shared.parts()
    partitions = shared.division.assign(vectors)
    stop = start + len(vectors)
    keep_piece(
        parts,
        np.arange(start, stop, dtype=np.int64),
        vectors,
        partitions,
        shared.division.n_partitions,
        **piece_name(start, stop),
    )
    return parts.read, parts.kept


def index_partition(shared: Shared, number: int) -> Traffic:
    """Find the places and the cells of a partition."""
    parts, coordinates = shared.parts(), shared.coordinates
    rows, vectors = read_rows(shared, parts, number)
    there = find_places(rows, vectors)
    if shared.exact:
        order, points = one_cell(there.n_places, coordinates.width), None
    else:
        points = coordinates.points(there.vectors)  # sorted by the next line
        cells, centers = shared.division.cells(there.vectors, number)
        n_rows = shared.pieces[-1][1]
        smaller = n_rows > LARGE_CELL * len(shared.division.centroids)
        order = find_cells(points, cells, centers, seed=shared.seed, smaller=smaller)
    place = np.empty(len(rows), dtype=np.int64)
    place[np.searchsorted(rows, there.members)] = np.repeat(np.arange(there.n_places), there.counts)
    position = np.empty(there.n_places, dtype=np.int64)
    position[order.places] = np.arange(there.n_places)
    columns: dict[str, NDArray[Any]] = {"row": rows, "place": place, "position": position[place]}
    if points is not None and coordinates.axes is not None:
        columns["point"] = points[position[place]]
    parts.keep(columns, **cells_name(number, exact=shared.exact))
    parts.keep(
        {"size": np.diff(order.starts), "center": order.centers},
        **centers_name(number, exact=shared.exact),
    )
    return parts.read, parts.kept


def ask_partition(shared: Shared, sample: Sample, number: int) -> Traffic:
    """Keep the exact neighbours that a sample has in a partition."""
    parts = shared.parts()
    reader = StoreReader(shared, parts, number)
    centers = parts.require(**centers_name(number, exact=shared.exact))
    points = reader.points(number) if shared.coordinates.axes is not None else None
    order = order_of(centers, reader.order(number))
    found = look_in_partition(sample, reader.places(number), order, points, shared.n_neighbors)
    neighbors, distances = unpack(found.lists)
    columns = {
        "neighbors": neighbors,
        "distances": distances,
        "cell": found.cells,
        "square": found.squares,
    }
    if points is not None:
        columns["limit"] = found.limits
    parts.keep(columns, **sample_name(number))
    return parts.read, parts.kept


def search_partition(shared: Shared, cells: Cells | None, number: int, probes: int) -> Traffic:
    """Keep the neighbours of all rows of a partition; without cells they are searched exactly."""
    parts, k = shared.parts(), shared.n_neighbors
    reader = StoreReader(shared, parts, number)
    own = reader.places(number)
    if cells is None:
        lists = search_exactly(number, reader, list(shared.numbers), k)
        searched = np.full(len(lists), len(shared.numbers), dtype=np.int64)
    else:
        narrowed = shared.coordinates.axes is not None
        lists, searched = search_cells(number, reader, cells, k, probes=probes, narrowed=narrowed)
    rows, lists = spread_lists(own, lists)
    neighbors, distances = unpack(lists)
    parts.keep(
        {
            "row": rows,
            "neighbors": neighbors,
            "distances": distances,
            "searched": np.repeat(searched, own.counts),
        },
        results={"duplicates": len(rows) - own.n_places},
        **lists_name(number, probes),
    )
    return parts.read, parts.kept
