"""``d2 check --self-test``: an installation against plain loops.

Every check holds d2 against a few lines of NumPy or Python here, on made-up rows, in seconds.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, D2Error, ResourceError
from d2cli.files.artifacts import library_versions, read_artifact, seal, write_artifact
from d2cli.files.remote import as_place
from d2cli.files.stages import graph_of, graph_results, graph_table
from d2cli.params import Backend, GraphParams, ScoreParams, SelectParams
from d2cli.stages.difficulty import orient
from d2cli.stages.graph import KnnGraph, build_graph
from d2cli.stages.kernel import edge_weights
from d2cli.stages.score import Scores, score_rows
from d2cli.stages.selection import select_coreset
from d2cli.stages.verdicts import Check, failed, passed

ROWS, DIM, NEIGHBORS = 1500, 24, 10
RATE = 0.7
BROKEN = "reinstall d2cli and its libraries; if that does not help, report it with these lines"


def check_installation() -> list[Check]:
    """Build, score, select, store and read again; see the README for what is compared."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(12, DIM))
    vectors = (centers[rng.integers(0, 12, ROWS)] + rng.normal(size=(ROWS, DIM)) * 0.4).astype(
        np.float32
    )
    difficulty = rng.random(ROWS)
    return [
        _checked("graph-exact", lambda: _exact(vectors)),
        _checked("graph-hnsw", lambda: _recall(vectors, "hnsw")),
        _checked("graph-cells", lambda: _recall(vectors, "cells")),
        _checked("threads", lambda: _threads(vectors)),
        _checked("selection", lambda: _selection(vectors, difficulty)),
        _checked("artifacts", lambda: _artifacts(vectors)),
    ]


def versions() -> str:
    """Return what is installed, and where it runs, as one line."""
    libraries = [f"{name} {version}" for name, version in library_versions().items()]
    system = f"Python {platform.python_version()}", platform.platform(terse=True)
    return ", ".join([*libraries, *system, platform.machine()])


def _checked(name: str, run: Callable[[], str]) -> Check:
    """Run one check, which returns what it saw or raises what is wrong; no room is no verdict."""
    start = time.perf_counter()
    try:
        found = run()
    except ResourceError:
        raise
    except OSError as error:
        raise ResourceError(f"{name}: {error}", hint="make room where TMPDIR is") from error
    except (AssertionError, D2Error, ValueError) as error:
        return failed(name, f"{error}", BROKEN)
    return passed(name, found, seconds=round(time.perf_counter() - start, 3))


def _graph(vectors: NDArray[np.float32], backend: Backend = "exact", threads: int = 1) -> KnnGraph:
    params = GraphParams(n_neighbors=NEIGHBORS, backend=backend)
    return build_graph(vectors, params, n_threads=threads)


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distances of the nearest others of every row, ascending, by brute force."""
    every = vectors.astype(np.float64)
    found = np.empty((len(every), NEIGHBORS))
    for row, vector in enumerate(every):
        distances = np.sqrt(((every - vector) ** 2).sum(axis=1))
        found[row] = np.sort(np.delete(distances, row))[:NEIGHBORS]
    return found


def _exact(vectors: NDArray[np.float32]) -> str:
    found = _graph(vectors)
    wrong = ~np.isclose(found.distances, _nearest(vectors), rtol=1e-6, atol=0).all(axis=1)
    if wrong.any():
        raise AssertionError(f"{wrong.sum():,} of {ROWS:,} rows have other neighbors than a loop")
    return f"{ROWS:,} rows x {DIM}: the neighbors of a loop in NumPy"


def _recall(vectors: NDArray[np.float32], backend: Backend) -> str:
    found = _graph(vectors, backend)
    nearest = _nearest(vectors)[:, -1:]
    recall = float((found.distances <= nearest * (1 + 1e-6)).mean())
    if recall < found.recall.target:
        raise AssertionError(f"recall is {recall:.3f}, the target {found.recall.target:g}")
    return f"recall {recall:.3f} of the target {found.recall.target:g}"


def _threads(vectors: NDArray[np.float32]) -> str:
    one, two = _graph(vectors, "cells", 1), _graph(vectors, "cells", 2)
    if one.neighbors.tobytes() != two.neighbors.tobytes():
        raise AssertionError("one thread and two find different neighbors")
    return "one thread and two find the same bytes"


def _selection(vectors: NDArray[np.float32], difficulty: NDArray[np.float64]) -> str:
    graph = _graph(vectors)
    scores = score_rows(graph, orient(difficulty, "high"), ScoreParams(rate=RATE))
    params = SelectParams(rate=RATE)
    selection = select_coreset(graph, scores, params)
    expected = _loop(graph, scores, len(selection.rows), selection.gamma_reverse)
    same = selection.rows == expected
    if not same.all():
        raise AssertionError(f"pick {int(same.argmin())} is not that of the loop")
    return f"{len(expected):,} picks: those of the loop 'argmax, subtract, repeat'"


def _loop(graph: KnnGraph, scores: Scores, budget: int, gamma: float) -> NDArray[np.int64]:
    """Pick by the definition: the largest score, then lower its neighbours'."""
    around, left = graph.adjacency, scores.score.copy()
    picks = np.empty(budget, dtype=np.int64)
    for rank in range(budget):
        pick = int(left.argmax())
        picks[rank] = pick
        edges = slice(around.indptr[pick], around.indptr[pick + 1])
        weights = edge_weights(
            around.distances[edges], gamma=gamma, bandwidth=scores.bandwidth, kernel="gaussian"
        )
        left[around.indices[edges]] -= weights * left[pick]
        left[pick] = -np.inf
    return picks


def _artifacts(vectors: NDArray[np.float32]) -> str:
    graph = _graph(vectors)
    results = {**graph_results(graph), "dim": DIM}
    details: dict[str, Any] = {"parameters": {}, "inputs": {}, "results": results}
    with TemporaryDirectory(prefix="d2-") as folder:
        path = Path(folder) / "graph.parquet"
        write_artifact(
            as_place(str(path)),
            seal("graph", graph_table(graph, None, None), key="0" * 64, **details),
        )
        again = graph_of(read_artifact(str(path), "graph"))
        if again.neighbors.tobytes() != graph.neighbors.tobytes():
            raise AssertionError("a graph that was written is read as another one")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        try:
            read_artifact(str(path), "graph")
        except ArtifactError:
            return "written and read again; one flipped bit is refused"
    raise AssertionError("a damaged graph is read without an error")
