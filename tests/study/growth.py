"""A subset of data that arrive in batches: ``python -m tests.study.growth NAME TRAIN TEST``.

TRAIN and TEST are Parquet files with ``embedding`` and ``label``, TRAIN with ``aum``. The rows are
shuffled and arrive in ten batches; after each, a tenth of each class so far is kept: chosen anew,
or with so many changes of what was kept before. Prints a line of a Markdown table for each batch.
"""

import argparse

import numpy as np

import d2cli
from tests.study.probes import accuracy, read

SHARES = (0.0, 0.05, 0.2)  # of the rows kept before, those that may go


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--rate", type=float, default=0.9)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train, labels, aum = read(given.train, "aum")
    test, right = read(given.test)
    order = np.random.default_rng(given.seed).permutation(len(train))
    train, labels, aum = train[order], labels[order], aum[order].astype(np.float64)
    kept = dict.fromkeys(SHARES)
    before = None
    for batch in range(1, given.batches + 1):
        n = len(train) * batch // given.batches
        graph, classes = d2cli.graph(train[:n], within=labels[:n]), {"group": labels[:n]}
        scores = d2cli.score(
            graph, aum[:n], harder="low", rate=given.rate, prune_hardest="auto", **classes
        )
        full = d2cli.select(scores, graph, rate=given.rate, **classes).rows
        drawn = np.random.default_rng(given.seed).permutation(n)[: len(full)]
        stay = 100.0 if before is None else 100 * np.isin(before, full).mean()
        chance, best = (accuracy(train, labels, test, right, rows) for rows in (drawn, full))
        cells = [given.name, f"{n:,}", f"{chance:.1f}", f"{best:.1f}", f"{stay:.0f} %"]
        for share in SHARES:
            limit = {}
            if kept[share] is not None:
                limit = {"previous": kept[share], "max_changes": int(share * len(kept[share]))}
            chosen = d2cli.select(scores, graph, rate=given.rate, **classes, **limit).rows
            overlap = 100 * np.isin(chosen, full).mean()
            right_share = accuracy(train, labels, test, right, chosen)
            cells.append(f"{right_share:.1f} ({overlap:.0f} %)")
            kept[share] = chosen
        before = full
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
