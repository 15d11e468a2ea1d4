"""Best tuned: the fastest setting that is good enough."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .peers import Peer, Setting, Vectors
from .timing import Run, blas_threads, clock, say
from .truth import Truth

WARM_UP_ROWS = 4_000


@dataclass(frozen=True)
class Rung:
    """A setting that was tried; ``seconds`` are build and query, scaled from a sample's."""

    setting: Setting
    effort: int
    recall: float
    seconds: float

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in self.setting.items()]
        return ", ".join([*words, f"effort {self.effort}"] if self.effort else words)


def climb(
    peer: Peer, vectors: Vectors, truth: Truth, *, wanted: float, n_threads: int
) -> tuple[Rung, list[Rung]]:
    """Return the fastest setting whose recall reaches ``wanted``, and all that were tried.

    Each build is asked for the sample of ``truth`` with rising effort until the recall is reached,
    so efforts cost little. Dearer builds are tried until one is slower than the best so far. If
    no setting gets there, the one with the highest recall is taken.
    """
    if peer.warm_up:
        few = np.ascontiguousarray(vectors[:WARM_UP_ROWS])
        attempt(peer, few, peer.builds[0], 0, k=truth.k, n_threads=n_threads)
    tried: list[Rung] = []
    best: Rung | None = None
    for setting in peer.builds:
        with blas_threads(n_threads), clock() as building:
            index = peer.build(vectors, setting, n_threads)
        for effort in peer.efforts:
            rung = _ask(peer, index, setting, effort, building.seconds, truth, n_threads)
            tried.append(rung)
            if rung.recall >= wanted:
                break
        del index
        say(f"  {peer.package}: {rung}: recall {rung.recall:.4f}, about {rung.seconds:.3g} s")
        if rung.recall < wanted:
            continue
        if best is not None and rung.seconds >= best.seconds:
            break
        best = rung
        if len(peer.efforts) == 1:
            break
    return best or max(tried, key=lambda rung: rung.recall), tried


def _ask(
    peer: Peer,
    index: Any,
    setting: Setting,
    effort: int,
    build_seconds: float,
    truth: Truth,
    n_threads: int,
) -> Rung:
    points = truth.vectors[truth.rows]
    with blas_threads(n_threads), clock() as asking:
        try:
            found = peer.query(index, points, truth.rows, truth.k, effort, n_threads)
        except RuntimeError:  # hnswlib, where a query reaches too few points
            found = None
    recall = 0.0 if found is None else truth.recall_of_sample(found)
    scale = len(truth.vectors) / len(truth.rows)
    return Rung(setting, effort, recall, build_seconds + asking.seconds * scale)


def attempt(
    peer: Peer,
    vectors: Vectors,
    setting: Setting,
    effort: int,
    *,
    k: int,
    n_threads: int,
    truth: Truth | None = None,
) -> Run:
    """Build, ask for all rows, and measure; recall if there is a truth."""
    with blas_threads(n_threads), clock() as whole:
        index = peer.build(vectors, setting, n_threads)
        neighbors = peer.query(index, vectors, slice(None), k, effort, n_threads)
    run = {"seconds": whole.seconds, "cpu_seconds": whole.cpu_seconds}
    if truth is not None:
        run["recall"] = truth.recall(neighbors)
    return run
