"""Between stage results and artifacts: which columns and metadata each has."""

import base64
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import ArtifactError
from d2cli.files.artifact_tables import column_of, flat_values
from d2cli.files.artifacts import Artifact
from d2cli.files.columns import group_labels
from d2cli.files.tables import HARDER
from d2cli.params import Direction, Fusion, GraphParams, Metric
from d2cli.stages.graph import KnnGraph
from d2cli.stages.recall import Recall
from d2cli.stages.score import Scores
from d2cli.stages.selection import Selection
from d2cli.stages.whitening import Whitening

FUSED_PARAMETERS = ("fusion", "weights")  # of a graph of several embeddings
INDEX = "index"  # the column of what `d2 update` needs, see d2cli.files.graph_index


def lists(values: NDArray[Any]) -> pa.Array:
    """Return an array (n, w) as lists of one length."""
    flat = _numbers(values.ravel())
    item = pa.field("element", flat.type, nullable=False)  # what Parquet calls it when read again
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, values.shape[1]))


def _numbers(values: NDArray[Any]) -> pa.Array:
    """Return an array (n,) as Arrow: its own memory, without a copy, unless it is of booleans."""
    if values.dtype == np.bool_:
        return pa.array(values)
    kind = pa.from_numpy_dtype(values.dtype)
    # pa.array would do, but loads numpy.ma.
    return pa.Array.from_buffers(
        kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def matrix(table: pa.Table, name: str) -> NDArray[Any]:
    """Return lists of one length as an array (n, w)."""
    column = column_of(table, name)
    return flat_values(column).reshape(len(column), column.type.list_size)


def table_of(columns: dict[str, pa.Array | NDArray[Any] | None]) -> pa.Table:
    """Return a table of those columns that there are."""
    return pa.table(
        {
            name: _numbers(values) if isinstance(values, np.ndarray) else values
            for name, values in columns.items()
            if values is not None
        }
    )


# --- graph ----------------------------------------------------------------------------------------


def graph_table(
    graph: KnnGraph,
    ids: pa.Array | None,
    within: pa.Array | None,
    index: NDArray[np.int32] | None = None,
) -> pa.Table:
    """Return the columns of a graph file."""
    return table_of(
        {
            "id": ids,
            "within": within,
            "neighbors": lists(graph.neighbors),
            "distances": lists(graph.distances),
            INDEX: None if index is None else lists(index),
        }
    )


def graph_results(graph: KnnGraph) -> dict[str, Any]:
    """Return what is known about a graph beside its columns."""
    found = {
        "backend": graph.backend,
        "recall": asdict(graph.recall),
        "ef_search": graph.ef_search,
        "probes": graph.probes,
        "duplicates": graph.n_duplicates,
    }
    if graph.whitening is not None:
        found["whitening"] = _whitening_results(graph.whitening)
    return found


def _whitening_results(whitening: Whitening) -> dict[str, Any]:
    """Return a whitening as JSON values; ``map`` is its mean and the rows of its triangle."""
    triangle = whitening.factor[np.tril_indices(len(whitening.mean))]
    values = np.concatenate([whitening.mean, triangle]).astype("<f8")
    return {
        "shrinkage": whitening.shrinkage,
        "sample_size": whitening.sample_size,
        "map": base64.b64encode(values.tobytes()).decode("ascii"),
    }


def _whitening_of(results: dict[str, Any], dim: int) -> Whitening:
    """Return the whitening that results hold.

    Raises
    ------
    ValueError
        If it is no map of ``dim`` finite numbers to as many.
    """
    text = base64.b64decode(results["map"], validate=True)
    values = np.frombuffer(text, dtype="<f8").astype(np.float64)
    if len(values) != dim + dim * (dim + 1) // 2 or not np.isfinite(values).all():
        raise ValueError(f"its whitening is no map of {dim} numbers")
    shrinkage, sample_size = float(results["shrinkage"]), int(results["sample_size"])
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"its whitening has the shrinkage {shrinkage}")
    factor = np.zeros((dim, dim))
    factor[np.tril_indices(dim)] = values[dim:]
    return Whitening(values[:dim], factor, shrinkage, sample_size)


@lru_cache(maxsize=2)  # so that the undirected union, which the graph keeps, is made once
def graph_of(artifact: Artifact) -> KnnGraph:
    """Return the graph that an artifact holds.

    Raises
    ------
    ArtifactError
        If a neighbour is no row, or what is recorded of the graph makes no sense.
    """
    try:
        return _graph_of(artifact)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"{artifact.name}: is no graph of d2: {why}") from error


def _graph_of(artifact: Artifact) -> KnnGraph:
    results, table = artifact.meta["results"], artifact.table
    neighbors = matrix(table, "neighbors")
    if neighbors.min(initial=0) < -1 or neighbors.max(initial=-1) >= len(neighbors):
        raise ArtifactError(f"{artifact.name}: a neighbor is not a row of the graph")
    dim, metric = int(results["dim"]), artifact.meta["parameters"].get("metric")
    whitening = None
    if "whitening" in results:
        whitening = _whitening_of(results["whitening"], dim)
    elif metric == "mahalanobis" and "fusion" not in artifact.meta["parameters"]:
        raise ValueError("it has no whitening")
    groups = None
    if "within" in table.column_names:
        groups = group_labels(column_of(table, "within"))
    return KnnGraph(
        neighbors,
        matrix(table, "distances"),
        groups,
        results["backend"],
        Recall(**results["recall"]),
        results["ef_search"],
        results["duplicates"],
        results.get("probes", 0),
        whitening,
    )


def graph_params(artifact: Artifact) -> GraphParams:
    """Return how the neighbours of a graph were searched."""
    found = artifact.meta["parameters"]
    return GraphParams(**{name: found[name] for name in found if name not in FUSED_PARAMETERS})


def fusion_of(artifact: Artifact) -> Fusion | None:
    """Return how several embeddings became one graph; None if it is of one."""
    fusion: Fusion | None = artifact.meta["parameters"].get("fusion")
    return fusion


def metric_of(artifact: Artifact) -> Metric:
    """Return the metric by which a probe or a map looks at the vectors of a graph.

    Those of several modalities, side by side, are looked at as they are.
    """
    parameters = artifact.meta["parameters"]
    metric: Metric = "l2" if "fusion" in parameters else parameters["metric"]
    return metric


def packed_in(artifact: Artifact) -> bool:
    """Return whether the vectors of a graph are binary codes, eight bits to a uint8."""
    return bool(artifact.meta["parameters"]["metric"] == "hamming")


def stored_width(artifact: Artifact) -> int:
    """Return the width of the vectors of a graph as they are stored."""
    return int(artifact.meta["results"]["dim"]) // (8 if packed_in(artifact) else 1)


def ids_of(artifact: Artifact) -> pa.Array | None:
    """Return the ids of an artifact's rows, if it has any."""
    if "id" not in artifact.table.column_names:
        return None
    return column_of(artifact.table, "id")


# --- difficulty -----------------------------------------------------------------------------------


def difficulty_table(
    columns: dict[str, NDArray[Any]], ids: pa.Array | None, harder: dict[str, Direction]
) -> pa.Table:
    """Return the columns of a difficulty file, each with its direction in its metadata."""
    fields, arrays = [], []
    if ids is not None:
        fields.append(pa.field("id", ids.type))
        arrays.append(ids)
    for name, values in columns.items():
        array = pa.array(values)
        fields.append(pa.field(name, array.type, metadata={HARDER: harder[name].encode()}))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


# --- scores ---------------------------------------------------------------------------------------


def scores_table(scores: Scores, ids: pa.Array | None) -> pa.Table:
    """Return the columns of a scores file."""
    return table_of(
        {"id": ids, "difficulty": scores.difficulty, "score": scores.score, "pool": scores.pool}
    )


def scores_results(scores: Scores) -> dict[str, Any]:
    """Return the numbers that a scores file records."""
    return {
        "gamma_forward": scores.gamma_forward,
        "bandwidth": scores.bandwidth,
        "direction": scores.direction,
        "shift": scores.shift,
        "pool": int(scores.pool.sum()),
        "cut_reason": scores.cut_reason,
    }


def scores_of(artifact: Artifact) -> Scores:
    """Return the scores that an artifact holds."""
    results, table = artifact.meta["results"], artifact.table

    def column(name: str) -> NDArray[Any]:
        values: NDArray[Any] = column_of(table, name).to_numpy(zero_copy_only=False)
        return values

    return Scores(
        difficulty=column("difficulty"),
        score=column("score"),
        pool=column("pool"),
        gamma_forward=results["gamma_forward"],
        bandwidth=results["bandwidth"],
        direction=results["direction"],
        shift=results["shift"],
        cut_reason=results["cut_reason"],
    )


# --- selection ------------------------------------------------------------------------------------


def selection_table(
    selection: Selection, scores: Scores, ids: pa.Array | None, group: pa.Array | None
) -> pa.Table:
    """Return the columns of a selection file, ascending by row."""
    by_row = np.argsort(selection.rows)
    rows = selection.rows[by_row]
    take = _numbers(rows)
    return table_of(
        {
            "row": rows,
            "id": None if ids is None else ids.take(take),
            "rank": by_row.astype(np.int64),
            "difficulty": scores.difficulty[rows],
            "score": scores.score[rows],
            "score_at_pick": selection.scores[by_row],
            "group": None if group is None else group.take(take),
        }
    )


def selection_results(selection: Selection) -> dict[str, Any]:
    """Return the numbers that a selection file records."""
    return {
        "n_samples": selection.n_samples,
        "gamma_reverse": selection.gamma_reverse,
        "bandwidth": selection.bandwidth,
        "budgets": list(selection.budgets),
    }


def selection_of(artifact: Artifact, group: pa.Array | None) -> Selection:
    """Return the selection that an artifact holds; ``group`` are the labels of all rows."""
    results, table = artifact.meta["results"], artifact.table
    by_rank = np.argsort(table.column("rank").to_numpy())
    return Selection(
        table.column("row").to_numpy()[by_rank],
        table.column("score_at_pick").to_numpy()[by_rank],
        results["n_samples"],
        results["gamma_reverse"],
        results["bandwidth"],
        None if group is None else group_labels(group),
        tuple(results["budgets"]),
    )
