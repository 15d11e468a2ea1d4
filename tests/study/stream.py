"""How far `d2 stream` is from `d2 prune`: ``python -m tests.study.stream NAME TRAIN TEST``.

TRAIN and TEST are Parquet files with ``embedding`` and ``label``, TRAIN with ``aum``. For several
orders of the rows, and for rows sorted by class, a linear probe learns from what the stream keeps
and is tested on TEST. Prints one line of a Markdown table for each window and order.
"""

import argparse

import numpy as np

import d2cli
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.stages.gap import coverage_of, overlap
from d2cli.stages.streaming import StreamParams, absorb, empty_coreset
from tests.study.probes import accuracy, read


def streamed(vectors, aum, budget, window):
    params = StreamParams(
        graph=GraphParams(),
        score=ScoreParams(prune_hardest="auto"),
        select=SelectParams(keep=budget),
        window=window,
        direction="low",
    )
    held = empty_coreset(vectors.shape[1], np.float32, params)
    for start in range(0, len(vectors), window):
        part = slice(start, start + window)
        held, _ = absorb(held, vectors[part], aum[part], params, n_threads=2)
    return held.rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--rate", type=float, default=0.9)
    parser.add_argument("--windows", default="1,2,4", help="in budgets")
    parser.add_argument("--orders", type=int, default=5, help="shuffles of the rows")
    given = parser.parse_args()
    train, labels, aum = read(given.train, "aum")
    test, right = read(given.test)
    aum, n = aum.astype(np.float64), len(train)
    graph = d2cli.graph(train)
    scores = d2cli.score(graph, aum, harder="low", rate=given.rate, prune_hardest="auto")
    offline = d2cli.select(scores, graph, rate=given.rate).rows
    budget = len(offline)

    def figures(kept):
        cover = coverage_of(graph, kept)
        return (
            accuracy(train, labels, test, right, kept),
            100 * overlap(kept, offline),
            100 * cover["dropped_covered"],
            float(scores.difficulty[kept].mean()),
        )

    def show(order, window, found):
        mean, spread = (
            np.mean(found, axis=0),
            np.std([one[0] for one in found], ddof=len(found) > 1),
        )
        text = f"{mean[0]:.1f} ± {spread:.1f}" if len(found) > 1 else f"{mean[0]:.1f}"
        print(
            f"| {given.name} | {order} | {window} | {text} | {mean[0] - best[0]:+.1f} "
            f"| {mean[1]:.0f} % | {mean[2]:.1f} % | {mean[3]:.2f} |",
            flush=True,
        )

    best = figures(offline)
    show("all at once", f"{n:,}", [best])
    random = [np.random.default_rng(seed).permutation(n)[:budget] for seed in range(given.orders)]
    show("a random tenth" if given.rate == 0.9 else "random", "-", [figures(one) for one in random])
    orders = [np.random.default_rng(100 + seed).permutation(n) for seed in range(given.orders)]
    by_class = np.argsort(labels, kind="stable")
    for budgets in given.windows.split(","):
        window = int(float(budgets) * budget)
        found = [one[streamed(train[one], aum[one], budget, window)] for one in orders]
        show("shuffled", f"{window:,}", [figures(kept) for kept in found])
        kept = by_class[streamed(train[by_class], aum[by_class], budget, window)]
        show("sorted by class", f"{window:,}", [figures(kept)])


if __name__ == "__main__":
    main()
