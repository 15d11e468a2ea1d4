"""Rows divided along the graph, against the same rules in plain Python."""

from collections import Counter, deque
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rounds import graph_of, random_graph

from d2cli.errors import ParameterError
from d2cli.params import GraphParams
from d2cli.stages.graph import build_graph
from d2cli.stages.graph_cut import LEAST_GAIN, PASSES, SLACK, divide, edges_across
from d2cli.stages.parts import even_parts


def neighbors_of(adjacency):
    ends = adjacency.indptr.tolist()
    return [adjacency.indices[a:b].tolist() for a, b in pairwise(ends)]


def breadth_first(near):
    order, seen = [], set()
    for start in range(len(near)):
        waiting = deque([start])
        while waiting:
            row = waiting.popleft()
            if row not in seen:
                seen.add(row)
                order.append(row)
                waiting.extend(near[row])
    return order


def divided(near, n_parts):
    """The rules of `divide`, a row at a time."""
    n, part, before = len(near), {}, 0
    most = ceil(SLACK * n / n_parts)
    for at in range(PASSES):
        inside = 0
        for row in breadth_first(near):
            size = Counter(part.values())
            count = Counter(part[other] for other in near[row] if other in part)
            old = part.pop(row, None)
            worth = {}
            if old is not None:
                size[old] -= 1
                worth[old] = count[old] * (1 - size[old] / most)
            for p in count:
                if p != old and size[p] < most and count[p] * (1 - size[p] / most) > 0:
                    worth[p] = count[p] * (1 - size[p] / most)
            if worth:  # its own part is the first of equals, then the lowest
                best = min(worth, key=lambda p: (-worth[p], p != old, p))
            else:
                best = min(range(n_parts), key=lambda p: (size[p], p))
            part[row] = best
            inside += count[best]
        if at and inside - before < LEAST_GAIN * sum(map(len, near)):
            break
        before = inside
    return [part[row] for row in range(n)]


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 50),
    k=st.integers(1, 5),
    n_parts=st.integers(2, 6),
)
@settings(max_examples=100, deadline=None)
def test_rows_go_to_the_part_of_most_of_their_neighbours(seed, n, k, n_parts):
    n_parts = min(n_parts, n)
    adjacency = graph_of(*random_graph(np.random.default_rng(seed), n, k)).adjacency

    part = divide(adjacency, n_parts)

    near = neighbors_of(adjacency)
    assert part.tolist() == divided(near, n_parts)
    assert np.bincount(part, minlength=n_parts).max() <= ceil(1.03 * n / n_parts)
    across = sum(part[i] != part[j] for i, mine in enumerate(near) for j in mine)
    assert edges_across(adjacency, part) == across


def test_rows_in_random_order_are_divided_between_clusters():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 8)) * 2
    points = centers[rng.integers(0, 40, 4000)] + rng.normal(size=(4000, 8))
    adjacency = build_graph(points.astype(np.float32), GraphParams()).adjacency
    n_edges = len(adjacency.indices)
    for n_parts, most in ((2, 0.15), (8, 0.3)):
        before = edges_across(adjacency, even_parts(4000, n_parts))
        after = edges_across(adjacency, divide(adjacency, n_parts))
        assert before > (1 - 1 / n_parts) * 0.97 * n_edges
        assert after < most * before


def test_one_part_holds_everything_and_more_parts_than_rows_are_refused():
    adjacency = graph_of(*random_graph(np.random.default_rng(0), 9, 2)).adjacency
    assert divide(adjacency, 1).tolist() == [0] * 9
    assert edges_across(adjacency, divide(adjacency, 1)) == 0
    with pytest.raises(ParameterError, match="expected 1 to 9, the number of rows"):
        divide(adjacency, 10)


def test_rows_without_edges_are_dealt_out_evenly():
    graph = graph_of(np.full((7, 1), -1, np.int32), np.full((7, 1), np.inf, np.float32))
    assert divide(graph.adjacency, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]
