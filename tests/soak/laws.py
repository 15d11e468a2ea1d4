"""What a result may not depend on: ``python -m tests.soak.laws --count 10000``.

Hypothesis draws data with ties, twins and outliers; four laws share the examples.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import d2cli
from d2cli.__main__ import main as d2
from d2cli.files import blocks, tables
from d2cli.files.artifacts import read_artifact

EXACT_TYPES = ("int8", "int16", "int32", "int64", "float16", "float32", "float64", ">f4", ">f8")
LAYOUTS = ("npy", "fortran", "npz", "parquet", "fixed", "arrow", "shards", "safetensors")


@dataclass(frozen=True)
class Case:
    """Vectors (n, d), difficulty (n,), and the options of a run."""

    vectors: NDArray[Any]
    difficulty: NDArray[np.float64]
    options: tuple[str, ...]


@st.composite
def cases(draw: Any, *, whole: bool = False) -> Case:
    """Draw data; with ``whole``, of small whole numbers, which every type holds."""
    n, dim = draw(st.integers(4, 40)), draw(st.integers(1, 5))
    values: Any = st.integers(-6, 6)
    if not whole:
        values = values | st.floats(-10, 10, width=32) | st.floats(1e3, 1e4, width=32)
    vectors = draw(arrays(np.float32, (n, dim), elements=values))
    twins = draw(st.integers(0, n // 2))
    if twins:
        vectors[-twins:] = vectors[:twins]
    difficulty = draw(arrays(np.float64, n, elements=st.integers(0, 5) | st.floats(0, 5)))
    options = ["-k", str(draw(st.integers(1, 3))), "--keep", str(draw(st.integers(1, n - 1)))]
    for option, choices in (
        ("--backend", ["auto", "exact"]),
        ("--gamma-reverse", ["auto", "0.1", "2"]),
        ("--messages", ["signed", "clamped"]),
        ("--kernel", ["gaussian", "exponential"]),
        ("--ties", ["random", "row"]),
    ):
        options += [option, draw(st.sampled_from(choices))]
    return Case(vectors, difficulty, tuple(options))


# --- files ----------------------------------------------------------------------------------------


def _write(folder: Path, vectors: NDArray[Any], layout: str, size: int) -> str:
    """Write vectors in a layout, in pieces of so many rows; return the SOURCE."""
    if layout in ("npy", "fortran"):
        np.save(folder / "v.npy", np.asfortranarray(vectors) if layout == "fortran" else vectors)
        return "v.npy"
    if layout == "npz":
        np.savez(folder / "v.npz", v=vectors)
        return "v.npz"
    if layout == "safetensors":
        from safetensors.numpy import save_file

        save_file({"v": np.ascontiguousarray(vectors)}, folder / "v.safetensors")
        return "v.safetensors"
    native = vectors.astype(vectors.dtype.newbyteorder("="))
    kind = pa.from_numpy_dtype(native.dtype)
    kind = pa.list_(kind, native.shape[1]) if layout == "fixed" else pa.list_(kind)
    table = pa.table({"v": pa.array(list(native), kind)})
    if layout == "shards":
        (folder / "v").mkdir()
        for number, start in enumerate(range(0, len(table), size)):
            pq.write_table(table.slice(start, size), folder / f"v/part-{number:03}.parquet")
        return "v"
    if layout == "arrow":
        with pa.ipc.new_stream(folder / "v.arrow", table.schema) as stream:
            stream.write_table(table, max_chunksize=size)
        return "v.arrow"
    pq.write_table(table, folder / "v.parquet", row_group_size=size)
    return "v.parquet"


def _run(folder: Path, source: str, case: Case, *more: str) -> dict[str, list[Any]]:
    """Run ``d2 prune`` in a folder; return the columns of what is kept."""
    np.save(folder / "s.npy", case.difficulty)
    line = ["prune", source, "--difficulty", "s.npy", "--harder", "high", "-q", "-o",
            "keep.parquet", "--cache-dir", "cache", *case.options, *more]  # fmt: skip
    before = Path.cwd()
    os.chdir(folder)
    try:
        d2(line)
    except SystemExit as end:
        if end.code == 3:  # data that no layout makes fit, such as vectors that are nearly nothing
            reject()
        if end.code:
            raise AssertionError(f"exit code {end.code} of {line}") from end
    finally:
        os.chdir(before)
    return read_artifact(folder / "keep.parquet", "selection").table.to_pydict()


@contextmanager
def _folders(count: int) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory() as top:
        folders = [Path(top, str(number)) for number in range(count)]
        for folder in folders:
            folder.mkdir()
        yield folders


# --- laws -----------------------------------------------------------------------------------------


def layouts(data: Any) -> None:
    """Format, shards, row groups, batches and threads decide nothing."""
    case = data.draw(cases())
    layout, size = data.draw(st.sampled_from(LAYOUTS)), data.draw(st.integers(1, 40))
    threads, batch = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 64, 1 << 22]))
    with _folders(2) as (one, other):
        plain = _run(one, _write(one, case.vectors, "npy", 1), case, "--threads", "1")
        with patch.object(tables, "BATCH_BYTES", batch), patch.object(blocks, "BATCH_BYTES", batch):
            source = _write(other, case.vectors, layout, size)
            assert _run(other, source, case, "--threads", str(threads)) == plain


def types(data: Any) -> None:
    """Whole numbers are the same vectors in every type that holds them."""
    case = data.draw(cases(whole=True))
    one, other = (np.dtype(data.draw(st.sampled_from(EXACT_TYPES))) for _ in range(2))
    with _folders(2) as (first, second):
        kept = _run(first, _write(first, case.vectors.astype(one), "npy", 1), case)
        assert _run(second, _write(second, case.vectors.astype(other), "npy", 1), case) == kept


def order(data: Any) -> None:
    """Rows in another order: the same neighbors and picks, up to the first tie."""
    case = data.draw(cases())
    n = len(case.vectors)
    moved = np.array(data.draw(st.permutations(range(n))))
    k, keep = data.draw(st.integers(1, 3)), data.draw(st.integers(1, n))
    graphs = [d2cli.graph(v, n_neighbors=k) for v in (case.vectors, case.vectors[moved])]
    first, second = graphs
    np.testing.assert_allclose(first.distances[moved], second.distances, rtol=1e-6)
    if not np.array_equal(np.sort(moved[second.neighbors]), np.sort(first.neighbors[moved])):
        whole = np.linalg.norm(
            case.vectors[:, None].astype(float) - case.vectors[None].astype(float), axis=2
        )
        whole[np.arange(n), np.arange(n)] = np.inf
        within = np.sort(whole, axis=1)[:, k - 1 : k + 1]
        gap = np.abs(np.diff(within)).min(initial=np.inf)
        assert gap <= 1e-6 * within.max(), "other neighbors without a tie"
        return
    scores = [
        d2cli.score(graph, values, rate=0.5)
        for graph, values in zip(graphs, (case.difficulty, case.difficulty[moved]), strict=True)
    ]
    np.testing.assert_allclose(scores[0].score[moved], scores[1].score, rtol=1e-9, atol=1e-12)
    picks = [
        d2cli.select(score, graph, keep=keep) for score, graph in zip(scores, graphs, strict=True)
    ]
    for mine, theirs, mine_score, their_score in zip(
        picks[0].rows, moved[picks[1].rows], picks[0].scores, picks[1].scores, strict=True
    ):
        np.testing.assert_allclose(mine_score, their_score, rtol=1e-7, atol=1e-9)
        if mine != theirs:
            return  # a tie: from here on both are right


def reruns(data: Any) -> None:
    """A second run changes no byte and writes nothing; the cache and a fresh start agree."""
    case = data.draw(cases())
    with _folders(2) as (folder, fresh):
        for place in (folder, fresh):
            _write(place, case.vectors, "npy", 1)
        _run(folder, "v.npy", case)
        keep = folder / "keep.parquet"
        first, written = keep.read_bytes(), keep.stat()
        _run(folder, "v.npy", case)
        assert (keep.stat().st_ino, keep.stat().st_mtime_ns) == (
            written.st_ino,
            written.st_mtime_ns,
        )
        keep.unlink()
        _run(folder, "v.npy", case)
        assert keep.read_bytes() == first, "another result from the cache"
        shutil.rmtree(folder / "cache")
        _run(folder, "v.npy", case, "--force")
        assert keep.read_bytes() == first, "another result by --force"
        _run(fresh, "v.npy", case)
        assert (fresh / "keep.parquet").read_bytes() == first, "another result in another folder"


LAWS: dict[str, tuple[Callable[[Any], None], float]] = {  # and their share of the examples
    "layouts": (layouts, 0.4),
    "types": (types, 0.2),
    "order": (order, 0.3),
    "reruns": (reruns, 0.1),
}


def run(name: str, count: int, *, seed_fixed: bool = True) -> None:
    """Try a law on its share of so many examples; raises for a counterexample."""
    law, share = LAWS[name]

    @settings(
        max_examples=max(round(count * share), 1),
        deadline=None,
        database=None,
        derandomize=seed_fixed,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def tried(data: Any) -> None:
        law(data)

    tried()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--law", choices=LAWS, action="append")
    given_ = parser.parse_args()
    for name in given_.law or LAWS:
        run(name, given_.count, seed_fixed=False)
        share = LAWS[name][1]
        print(f"{name}: {round(given_.count * share):,} examples: no counterexample", flush=True)


if __name__ == "__main__":
    main()
