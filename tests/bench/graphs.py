"""Graphs side by side: approximate ones at equal recall, exact ones, and threads."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from .data import Source
from .ladder import attempt, climb
from .peers import APPROXIMATE, EXACT, Peer, Vectors
from .stage import find_target, run_stage
from .tables import Entry, Table
from .timing import Run, interleave, say
from .truth import Truth


@dataclass(frozen=True)
class Terms:
    """What all graphs of one call have in common."""

    folder: Path | None
    k: int
    wanted: float
    n_threads: int
    repeats: int
    backends: Sequence[str]
    peers: Sequence[str]

    def __str__(self) -> str:
        threads = f"{self.n_threads} thread{'s' * (self.n_threads > 1)}"
        return f"k = {self.k}, {threads}, medians of {self.repeats} interleaved repeats"


@dataclass(frozen=True)
class Contender:
    """A method that is settled and ready to be repeated."""

    method: str
    setting: str
    run: Callable[[], Run]
    tried: Sequence[dict] = ()


def compare_graphs(source: Source, terms: Terms) -> Table:
    """Tune every peer to the recall wanted, then repeat all of them and d2 in turn."""
    vectors, truth, name = _loaded(source, terms)
    contenders = [
        _own(vectors, truth, terms, backend) for backend in terms.backends if backend != "exact"
    ]
    bases = [contender.method for contender in contenders]
    contenders += _all_tuned(vectors, truth, terms, APPROXIMATE)
    return Table(
        f"Graph of {name}, recall {terms.wanted:g}",
        f"From array to graph, {terms}. Peers with the fastest of the settings tried. "
        "A ratio above 1 means that d2 is faster; in brackets: the recall was missed.",
        ["seconds", "checked_seconds", "cpu_seconds", "recall"],
        [("seconds", base) for base in bases],
        _repeated(contenders, terms.repeats),
        terms.wanted,
    )


def compare_exact(source: Source, terms: Terms) -> Table:
    """Exact search beside exact search."""
    vectors, truth, name = _loaded(source, terms)
    contenders = [_own_at(vectors, truth, terms, "exact", 1.0)]
    contenders += _all_tuned(vectors, truth, terms, EXACT)
    return Table(
        f"Exact graph of {name}",
        f"From array to graph, {terms}. d2 measures distances in float64.",
        ["seconds", "cpu_seconds", "recall"],
        [("seconds", "d2 exact")],
        _repeated(contenders, terms.repeats),
    )


def compare_threads(source: Source, terms: Terms) -> Table:
    """Set one thread beside several, and the shards of d2 beside the threads of hnswlib."""
    vectors, truth, name = _loaded(source, terms)
    many = max(terms.n_threads, 2)
    contenders, peer = [], _same_build()
    for backend in terms.backends:
        target = _target(vectors, truth, terms, backend, many)
        for count in (1, many):
            at = replace(terms, n_threads=count)
            contenders.append(_counted(_own_at(vectors, truth, at, backend, target), count))
    for count in (1, many) if peer.installed else ():
        at = replace(terms, n_threads=count)
        contenders.append(_counted(_tuned(vectors, truth, at, "hnswlib", peer), count))
    entries = _with_speed_up(_repeated(contenders, terms.repeats), many)
    return Table(
        f"Threads, {name}, recall {terms.wanted:g}",
        f"From array to graph, k = {terms.k}, medians of {terms.repeats} interleaved repeats; the "
        f"speed-up is that of {many} threads over 1. hnswlib has M and efc of d2's shards and "
        "inserts with all its threads, so its graph is another one on every run.",
        ["seconds", "cpu_seconds", "recall", "speed_up"],
        [("cpu_seconds", f"d2 hnsw, {many} threads")],
        entries,
        terms.wanted,
    )


def _loaded(source: Source, terms: Terms) -> tuple[Vectors, Truth, str]:
    vectors = source.load(terms.folder)
    name = f"{source.name}, {len(vectors):,} x {vectors.shape[1]}"
    say(f"{name}: exact neighbours of a sample")
    return vectors, Truth.of(vectors, terms.k), name


def _installed(peers: dict[str, Peer], chosen: Sequence[str]) -> list[str]:
    wanted = [name for name in peers if not chosen or name in chosen]
    for name in wanted:
        if not peers[name].installed:
            say(f"{name} is left out: {peers[name].package} is not installed")
    return [name for name in wanted if peers[name].installed]


def _same_build() -> Peer:
    """Return hnswlib with the build of d2's shards, so that only the use of threads differs."""
    from d2cli.stages import hnsw

    return replace(APPROXIMATE["hnswlib"], builds=({"M": hnsw.M, "efc": hnsw.EF_CONSTRUCTION},))


def _own(vectors: Vectors, truth: Truth, terms: Terms, backend: str) -> Contender:
    return _own_at(
        vectors, truth, terms, backend, _target(vectors, truth, terms, backend, terms.n_threads)
    )


def _target(vectors: Vectors, truth: Truth, terms: Terms, backend: str, n_threads: int) -> float:
    if backend == "exact":
        return 1.0

    def recall_at(target: float) -> float:
        graph, _ = run_stage(
            vectors, backend=backend, target=target, k=terms.k, n_threads=n_threads
        )
        return truth.recall(graph.neighbors)

    say(f"d2 {backend}")
    return find_target(terms.wanted, recall_at)


def _own_at(vectors: Vectors, truth: Truth, terms: Terms, backend: str, target: float) -> Contender:
    def run() -> Run:
        graph, measured = run_stage(
            vectors, backend=backend, target=target, k=terms.k, n_threads=terms.n_threads
        )
        result = hashlib.sha256(graph.neighbors.tobytes()).digest()[:6]
        # The digest as a number: a median of equal ones is the digest, see _with_speed_up.
        digest = float(int.from_bytes(result))
        return {**measured, "recall": truth.recall(graph.neighbors), "digest": digest}

    setting = "" if backend == "exact" else f"target {target:.4g}"
    return Contender(f"d2 {backend}", setting, run)


def _all_tuned(
    vectors: Vectors, truth: Truth, terms: Terms, peers: dict[str, Peer]
) -> list[Contender]:
    chosen = _installed(peers, terms.peers)
    return [_tuned(vectors, truth, terms, name, peers[name]) for name in chosen]


def _tuned(vectors: Vectors, truth: Truth, terms: Terms, name: str, peer: Peer) -> Contender:
    say(f"{name}: looking for the fastest setting")
    best, tried = climb(peer, vectors, truth, wanted=terms.wanted, n_threads=terms.n_threads)
    run = partial(
        attempt,
        peer,
        vectors,
        best.setting,
        best.effort,
        k=terms.k,
        n_threads=terms.n_threads,
        truth=truth,
    )
    return Contender(name, str(best), run, [asdict(rung) for rung in tried])


def _counted(contender: Contender, threads: int) -> Contender:
    name = f"{contender.method}, {threads} thread{'s' * (threads > 1)}"
    return replace(contender, method=name)


def _repeated(contenders: Sequence[Contender], repeats: int) -> list[Entry]:
    runs = interleave({each.method: each.run for each in contenders}, repeats)
    return [
        Entry(each.method, each.setting, runs[each.method], tried=list(each.tried))
        for each in contenders
    ]


def _with_speed_up(entries: list[Entry], many: int) -> list[Entry]:
    """Add the speed-up to the lines of several threads, and whether the graph is the same one."""
    out = []
    for one, more in zip(entries[::2], entries[1::2], strict=True):
        speed_up = one.median["seconds"] / more.median["seconds"]
        digests = {run["digest"] for run in one.runs + more.runs if "digest" in run}
        note = {0: "", 1: f"same graph with 1 and {many}"}.get(len(digests), "graphs differ")
        runs = [{**run, "speed_up": speed_up} for run in more.runs]
        out += [one, replace(more, runs=runs, note=note)]
    return out
