"""Options of a graph."""

from typing import Annotated

import typer

from d2cli.completion.values import one_of
from d2cli.params import (
    AUTO,
    Backend,
    Fusion,
    GraphParams,
    Metric,
)

_graph = GraphParams()
FusionOption = Annotated[
    Fusion | None,
    typer.Option(
        "--fusion",
        help="How several embeddings become one graph. distance: by the weighted mean of squared "
        "distances, each in units of its median. graphs: union of a graph of each. concat: side "
        "by side, unit rows (cosine); every row needs all of them. [default: distance]",
        show_default=False,
    ),
]
Neighbors = Annotated[
    int, typer.Option("--neighbors", "-k", help="Neighbors stored a row, itself excluded.")
]
MetricOption = Annotated[
    Metric,
    typer.Option(
        "--metric",
        help="cosine: l2 between unit vectors, 0 to 2. ip: inner product, of rows of one length. "
        "l1: exact search only. mahalanobis: l2 of whitened vectors. hamming: bits that differ "
        "between packed codes (uint8).",
    ),
]
Shrinkage = Annotated[
    str,
    typer.Option(
        metavar="NUMBER|auto",
        autocompletion=one_of(AUTO),
        help="For --metric mahalanobis: weight of the identity in the covariance, 0 to 1. auto: by "
        "the formula of Ledoit and Wolf.",
    ),
]
BackendOption = Annotated[
    Backend,
    typer.Option(
        "--backend",
        help="exact; hnsw; cells: k-means cells, the fastest for clustered embeddings. auto: exact "
        "where that is at most as slow, else hnsw. fast: the same, but cells where they reach "
        "--recall.",
    ),
]
Recall = Annotated[
    float,
    typer.Option(
        help="Target for hnsw and cells: effort rises until this share of the neighbors of a "
        "sample is found (0 to 1)."
    ),
]
K, METRIC, BACKEND = _graph.n_neighbors, _graph.metric, _graph.backend
SHRINKAGE = str(_graph.shrinkage)
RECALL, SEED = _graph.recall, _graph.seed
