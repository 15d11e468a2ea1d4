"""Libraries that find nearest neighbours, each used as its documentation shows it.

A peer is what it builds and what it asks. Builds are ordered from cheap to dear, efforts from low
to high, and `tests.bench.ladder` looks for the fastest pair that is good enough. A peer's time is
build plus query of all rows. It is not charged for leaving out the row itself and for roots.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Neighbors = NDArray[np.integer[Any]]
Setting = dict[str, int]

EFFORTS = (12, 16, 20, 24, 30, 40, 50, 60, 80, 100, 120, 160, 200, 240, 320, 480, 640)
PROBES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)


@dataclass(frozen=True)
class Peer:
    """One way to a graph.

    Attributes
    ----------
    package : str
        What has to be installed.
    builds : tuple of settings
        Tried in this order.
    efforts : tuple of int
        Of the query; a single one if the build itself makes the graph.
    build : function (vectors, setting, n_threads) to index
    query : function (index, points, rows, k, effort, n_threads) to neighbors (q, >= k)
        ``points`` are ``vectors[rows]``; answers may list the row itself.
    warm_up : bool
        Whether a small run has to compile it first.
    """

    package: str
    builds: tuple[Setting, ...]
    efforts: tuple[int, ...]
    build: Callable[[Vectors, Setting, int], Any]
    query: Callable[[Any, Vectors, Any, int, int, int], Neighbors]
    warm_up: bool = False

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def build_hnswlib(vectors: Vectors, setting: Setting, n_threads: int) -> Any:
    import hnswlib

    index = hnswlib.Index(space="l2", dim=vectors.shape[1])
    index.init_index(
        max_elements=len(vectors), M=setting["M"], ef_construction=setting["efc"], random_seed=0
    )
    index.add_items(vectors, num_threads=n_threads)
    return index


def query_hnswlib(index, points, rows, k, effort, n_threads) -> Neighbors:
    index.set_ef(max(effort, k + 1))
    return index.knn_query(points, k=k + 1, num_threads=n_threads)[0].astype(np.int64)


def build_faiss_hnsw(vectors: Vectors, setting: Setting, n_threads: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(n_threads)
    index = faiss.IndexHNSWFlat(vectors.shape[1], setting["M"])
    index.hnsw.efConstruction = setting["efc"]
    index.add(vectors)
    return index


def query_faiss_hnsw(index, points, rows, k, effort, n_threads) -> Neighbors:
    index.hnsw.efSearch = max(effort, k + 1)
    return index.search(points, k + 1)[1]


def build_faiss_ivf(vectors: Vectors, setting: Setting, n_threads: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(n_threads)
    dim = vectors.shape[1]
    lists = max(round(setting["lists / root n"] * len(vectors) ** 0.5), 1)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, lists)
    index.train(vectors)
    index.add(vectors)
    return index


def query_faiss_ivf(index, points, rows, k, effort, n_threads) -> Neighbors:
    index.nprobe = effort
    return index.search(points, k + 1)[1]


def build_faiss_nn_descent(vectors: Vectors, setting: Setting, n_threads: int) -> Any:
    """Return the graph that NN-descent makes of the vectors, (n, K)."""
    import faiss

    faiss.omp_set_num_threads(n_threads)
    index = faiss.IndexNNDescentFlat(vectors.shape[1], setting["K"])
    index.add(vectors)
    return faiss.vector_to_array(index.nndescent.final_graph).reshape(len(vectors), -1)


def build_pynndescent(vectors: Vectors, setting: Setting, n_threads: int) -> Any:
    from pynndescent import NNDescent

    index = NNDescent(vectors, n_neighbors=setting["n_neighbors"], random_state=0, n_jobs=n_threads)
    return index.neighbor_graph[0]


def query_own_graph(graph, points, rows, k, effort, n_threads) -> Neighbors:
    return graph[rows, : k + 1]


def build_usearch(vectors: Vectors, setting: Setting, n_threads: int) -> Any:
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1],
        metric="l2sq",
        dtype="f32",
        connectivity=setting["M"],
        expansion_add=setting["efc"],
        enable_key_lookups=False,
    )
    index.add(np.arange(len(vectors), dtype=np.uint64), vectors, threads=n_threads)
    return index


def query_usearch(index, points, rows, k, effort, n_threads) -> Neighbors:
    index.expansion_search = max(effort, k + 1)
    return np.asarray(index.search(points, k + 1, threads=n_threads).keys).astype(np.int64)


def build_faiss_flat(vectors: Vectors, setting: Setting, n_threads: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(n_threads)
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return index


def query_faiss_flat(index, points, rows, k, effort, n_threads) -> Neighbors:
    return index.search(points, k + 1)[1]


HNSW = tuple(
    {"M": m, "efc": efc}
    for m, efc in ((8, 40), (12, 60), (16, 100), (16, 160), (24, 200), (32, 300))
)

APPROXIMATE = {
    "hnswlib": Peer("hnswlib", HNSW, EFFORTS, build_hnswlib, query_hnswlib),
    "faiss HNSW": Peer("faiss", HNSW, EFFORTS, build_faiss_hnsw, query_faiss_hnsw),
    "faiss IVF": Peer(
        "faiss",
        tuple({"lists / root n": factor} for factor in (1, 2, 4)),
        PROBES,
        build_faiss_ivf,
        query_faiss_ivf,
    ),
    "faiss NN-descent": Peer(
        "faiss",
        tuple({"K": width} for width in (32, 48, 64, 96)),
        (0,),
        build_faiss_nn_descent,
        query_own_graph,
    ),
    "pynndescent": Peer(
        "pynndescent",
        tuple({"n_neighbors": width} for width in (11, 13, 15, 17, 20, 25, 30, 40, 60)),
        (0,),
        build_pynndescent,
        query_own_graph,
        warm_up=True,
    ),
    "usearch": Peer("usearch", HNSW, EFFORTS, build_usearch, query_usearch),
}
EXACT = {"faiss flat": Peer("faiss", ({},), (0,), build_faiss_flat, query_faiss_flat)}
