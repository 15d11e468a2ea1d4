"""The tasks of a partitioned graph: each reads partitions from a store, and keeps its result there.

A task is known by what its part is called; whoever finds that part need not run it. It returns
the bytes of columns that it has read from the store and kept there.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.parts import Parts, quiet_parts, values_of
from d2cli.files.pieces import keep_piece, read_piece
from d2cli.files.remote import Place
from d2cli.pipeline.partition_store import (
    Shared,
    StoreReader,
    answers_name,
    cells_name,
    centers_name,
    lists_name,
    merged_name,
    order_of,
    piece_name,
    queries_name,
    read_rows,
    sample_name,
)
from d2cli.stages.lists import Packed, pack, unpack
from d2cli.stages.partition_exact import search_exactly
from d2cli.stages.partition_queries import Queries, add_answers, answer_queries
from d2cli.stages.partition_recall import Sample, look_in_partition
from d2cli.stages.partition_search import (
    LARGE_CELL,
    Cells,
    candidates_for,
    find_cells,
    one_cell,
    search_cells,
)
from d2cli.stages.places import Places, find_places, spread_lists

CHUNK_BYTES = 256 << 20  # of places that are sent to others, about

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
        {"row": np.arange(start, stop, dtype=np.int64), "vector": vectors},
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
    """Keep the neighbours of all rows of a partition; without cells they are searched exactly.

    Partitions that few of its places look at are not read: these places are kept for them.
    """
    parts, k = shared.parts(), shared.n_neighbors
    reader = StoreReader(shared, parts, number)
    own, asked = reader.places(number), []
    if cells is None:
        lists = search_exactly(number, reader, list(shared.numbers), k)
        searched = np.full(len(lists), len(shared.numbers), dtype=np.int64)
    else:
        narrowed = shared.coordinates.axes is not None
        found = search_cells(number, reader, cells, k, probes=probes, narrowed=narrowed)
        lists, searched = found.lists, found.searched
        asked = _keep_queries(shared, parts, found.queries, own, (number, probes))
    rows, lists = spread_lists(own, lists)
    _keep_lists(
        parts,
        rows,
        lists,
        np.repeat(searched, own.counts),
        {"duplicates": len(rows) - own.n_places, "asked": asked},
        lists_name(number, probes),
    )
    return parts.read, parts.kept


def _keep_queries(
    shared: Shared, parts: Parts, queries: Queries, own: Places, which: tuple[int, int]
) -> list[list[int]]:
    """Keep what places ask of others, in chunks; return the partitions asked in each chunk."""
    numbers, counts = np.unique(queries.partitions, return_counts=True)
    row = own.vectors[:1].nbytes + queries.cells[:1].nbytes + 16
    chunk_of = (np.cumsum(counts) - counts) * row // CHUNK_BYTES
    asked = [numbers[chunk_of == chunk].tolist() for chunk in np.unique(chunk_of)]
    for chunk, some in enumerate(asked):
        here = np.isin(queries.partitions, some)
        places = queries.places[here]
        columns = {
            "place": places.astype(np.int64),
            "vector": own.vectors[places],
            "cell": queries.cells[here],
            "limit": queries.limits[here],
        }
        name = queries_name(*which, chunk)
        to = queries.partitions[here]
        keep_piece(parts, columns, to, shared.division.n_partitions, **name)
    return asked


def _keep_lists(
    parts: Parts,
    rows: NDArray[np.int64],
    lists: Packed,
    searched: NDArray[np.int64],
    results: dict[str, Any],
    which: dict[str, Any],
) -> None:
    neighbors, distances = unpack(lists)
    found: dict[str, NDArray[Any]] = {"neighbors": neighbors, "distances": distances}
    columns = {"row": rows, **found, "searched": searched}
    parts.keep(columns, results=results, **which)


def answer_partition(
    shared: Shared, cells: Cells, number: int, probes: int, asking: tuple[tuple[int, int], ...]
) -> Traffic:
    """Keep the nearest rows of a partition to places of others; ``asking`` are their chunks."""
    parts, k = shared.parts(), shared.n_neighbors
    reader = StoreReader(shared, parts, number)
    there, order, points = reader.places(number), reader.order(number), reader.points(number)
    first, end = cells.first[number : number + 2]
    starts = cells.starts[first : end + 1] - cells.starts[first]
    wanted = candidates_for(k, narrowed=shared.coordinates.axes is not None)
    homes, places, answers = [], [], []
    for batch in _queries(parts, number, probes, asking, 24 * wanted):
        vectors = batch["vector"]
        shown = vectors, shared.coordinates.points(vectors)
        limits = batch["limit"]
        who, lists = answer_queries(
            there, order, points, starts, shown, batch["cell"], limits, k, wanted=wanted
        )
        homes.append(batch["home"][who])
        places.append(batch["place"][who])
        answers.append(lists)
    neighbors, distances = unpack(np.concatenate(answers))
    columns = {"place": np.concatenate(places), "neighbors": neighbors, "distances": distances}
    to = np.concatenate(homes)
    keep_piece(parts, columns, to, shared.division.n_partitions, **answers_name(number, probes))
    return parts.read, parts.kept


def _queries(
    parts: Parts, number: int, probes: int, asking: tuple[tuple[int, int], ...], beside: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield what a partition is asked, several chunks at a time.

    ``beside`` are the bytes that a row takes beside its vector while it is answered.
    """
    batch: list[dict[str, NDArray[Any]]] = []
    for at, (home, chunk) in enumerate(asking):
        query = read_piece(parts, number, **queries_name(home, probes, chunk))
        query["home"] = np.full(len(query["place"]), home, dtype=np.int32)
        batch.append(query)
        size = sum(one["vector"].nbytes + len(one["vector"]) * beside for one in batch)
        if size < CHUNK_BYTES and at + 1 < len(asking):
            continue
        width = max(one["cell"].shape[1] for one in batch)
        for one in batch:
            more = ((0, 0), (0, width - one["cell"].shape[1]))
            one["cell"] = np.pad(one["cell"], more, constant_values=-1)
        yield {name: np.concatenate([one[name] for one in batch]) for name in query}
        batch.clear()


def merge_partition(shared: Shared, number: int, probes: int, asked: tuple[int, ...]) -> Traffic:
    """Keep the neighbours of all rows of a partition, with the answers of those it has asked."""
    parts = shared.parts()
    part = parts.require(**lists_name(number, probes))
    lists = pack(values_of(part, "neighbors"), values_of(part, "distances"))
    place = parts.require(**cells_name(number, exact=shared.exact))
    counts = np.bincount(values_of(place, "place"))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    for other in asked:
        answer = read_piece(parts, number, **answers_name(other, probes))
        found = pack(answer["neighbors"], answer["distances"])
        add_answers(indptr, lists, answer["place"], found)
    rows, searched = values_of(part, "row"), values_of(part, "searched")
    results = {"duplicates": part.meta["results"]["duplicates"]}
    _keep_lists(parts, rows, lists, searched, results, merged_name(number, probes))
    return parts.read, parts.kept
