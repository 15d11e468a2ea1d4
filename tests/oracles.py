"""Slow answers that a reader can check; what the fast code must equal."""

import numpy as np


def exact_neighbors(vectors, k):
    """All distances in float64, rounded to float32; neighbours by (distance, row)."""
    points = np.asarray(vectors, dtype=np.float64)
    n = len(points)
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    for i in range(n):
        length = np.sqrt(((points - points[i]) ** 2).sum(axis=1)).astype(np.float32)
        others = [(length[j], j) for j in range(n) if j != i]
        for c, (d, j) in enumerate(sorted(others)[:k]):
            neighbors[i, c], distances[i, c] = j, d
    return neighbors, distances


def undirected_edges(neighbors, distances):
    """{i: {j: distance}} with an edge wherever either end lists the other."""
    edges = {i: {} for i in range(len(neighbors))}
    for i, row in enumerate(neighbors):
        for j, d in zip(row.tolist(), distances[i], strict=True):
            if j >= 0:
                edges[i][j] = edges[i].get(j, d)
                edges[j].setdefault(i, d)
    return edges


def weight(distance, gamma, bandwidth=1.0, kernel="gaussian"):
    scaled = np.float64(distance) / bandwidth
    return np.exp(-gamma * (scaled * scaled if kernel == "gaussian" else scaled))


def forward(edges, difficulty, gamma, *, floor=-np.inf, pool=None, **kernel):
    """x_i = s_i + sum of w_ij max(s_j, floor), neighbours in ascending order."""
    out = np.array(difficulty, dtype=np.float64)
    for i, near in edges.items():
        total = 0.0
        for j in sorted(near):
            if pool is None or (pool[i] and pool[j]):
                total += weight(near[j], gamma, **kernel) * max(difficulty[j], floor)
        out[i] = difficulty[i] + total
    return out


def fewest_changes(earlier, group, left, picks):
    """Rows of ``earlier`` that go if all that still can are picked after ``picks``.

    left: places of each group before the last of the picks.
    """
    stay = sum(earlier[i] for i in picks)
    for g, room in left.items():
        open_ = [i for i in np.flatnonzero(earlier) if group[i] == g and i not in picks]
        stay += min(len(open_), room - (group[picks[-1]] == g))
    return earlier.sum() - stay


def greedy(edges, score, budget, gamma, *, order=None, clamped=False, **more):
    """Argmax, subtract, repeat. ``order`` lists the rows as ties are taken.

    more: kernel and bandwidth; candidate (mask); included (rows); group and budgets; earlier (mask
    of candidates) and max_changes.
    """
    x = np.array(score, dtype=np.float64)
    n = len(x)
    order = list(range(n)) if order is None else list(order)
    candidate = more.pop("candidate", np.ones(n, bool)).copy()
    included = list(more.pop("included", []))
    group = more.pop("group", np.zeros(n, int))
    left = dict(enumerate(more.pop("budgets", [budget])))
    earlier = more.pop("earlier", np.zeros(n, bool))
    max_changes = more.pop("max_changes", n)
    picks, values = [], []
    while len(picks) < budget:
        for g, room in left.items():
            if room == 0:
                candidate[group == g] = False
        if included:
            pick = included.pop(0)
        else:
            fitting = [
                i
                for i in order
                if candidate[i] and fewest_changes(earlier, group, left, [*picks, i]) <= max_changes
            ]
            pick = max(fitting, key=lambda i: x[i])
        picks.append(pick)
        values.append(x[pick])
        candidate[pick] = False
        left[group[pick]] -= 1
        sent = max(x[pick], 0) if clamped else x[pick]
        for j, d in edges[pick].items():
            if j not in picks:
                x[j] -= weight(d, gamma, **more) * sent
    return np.array(picks), np.array(values)
