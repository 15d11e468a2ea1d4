"""Where is exact search at most as slow as hnsw? Run by hand with ``OPENBLAS_NUM_THREADS=1``.

For each number of rows and width: median seconds of both backends on two threads, recall check of
hnsw included, runs interleaved. So few rows are one shard, which hnsw builds on one thread.
The limits in ``d2cli/stages/graph.py`` come from this.
"""

import statistics
import sys
import time

import numpy as np

from d2cli.params import GraphParams
from d2cli.stages.graph import build_graph
from d2cli.stages.vectors import as_vectors


def clustered(n, dim, seed=0):
    """Rows of 100 unequal clusters on a curved 24-dimensional surface, with noise, unit norm."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(100, 24)) * 2
    latent = centers[rng.integers(0, 100, n)] + rng.normal(size=(n, 24))
    points = np.tanh(latent @ rng.normal(size=(24, dim)) / 5) + 0.1 * rng.normal(size=(n, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def seconds(vectors, backend):
    start = time.perf_counter()
    graph = build_graph(as_vectors(vectors, "l2"), GraphParams(backend=backend), n_threads=2)
    return time.perf_counter() - start, graph.recall.value


def main(repeats=3):
    print("| rows | width | exact, s | hnsw, s | exact / hnsw | recall of hnsw |")
    print("|--:|--:|--:|--:|--:|--:|")
    for dim in (16, 64, 128, 384, 768):
        for n in (4_000, 8_000, 12_000, 16_000, 24_000, 32_000):
            vectors = clustered(n, dim)
            runs = {"exact": [], "hnsw": []}
            for _ in range(repeats):
                for backend, found in runs.items():
                    found.append(seconds(vectors, backend))
            exact, hnsw = (statistics.median(s for s, _ in runs[b]) for b in runs)
            recall = runs["hnsw"][0][1]
            print(
                f"| {n:,} | {dim} | {exact:.2f} | {hnsw:.2f} | {exact / hnsw:.2f} | {recall:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
