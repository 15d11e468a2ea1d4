"""Forward messages in parts against the formula, bit by bit."""

from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import forward as formula
from oracles import undirected_edges

from d2cli.stages.adjacency import undirected
from d2cli.stages.executor import InProcess
from d2cli.stages.forward import Forward
from d2cli.stages.kernel import edge_weights
from d2cli.stages.score import pass_forward


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    n_parts=st.sampled_from([1, 2, 3, 7, 60]),
    rounds=st.integers(1, 3),
    floor=st.sampled_from([None, 1e-7]),
    known=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_sums_in_parts_are_those_of_the_formula(seed, n, n_parts, rounds, floor, known):
    rng = np.random.default_rng(seed)
    k = min(n, 5)
    neighbors = np.stack([rng.permutation(n)[:k] for _ in range(n)]).astype(np.int32)
    neighbors[neighbors == np.arange(n)[:, None]] = -1
    length = rng.random((n, n)).astype(np.float32)
    distances = np.take_along_axis(np.maximum(length, length.T), np.maximum(neighbors, 0), axis=1)
    difficulty, pool = rng.normal(size=n), rng.random(n) < rng.choice([0.7, 1.0])
    weigh = partial(edge_weights, gamma=0.7, bandwidth=0.5, kernel="gaussian")
    kept, told = {}, []

    def score(parts):
        forward = Forward(
            parts,
            InProcess(),
            find=lambda *which: kept.get(which) if known else None,
            record=lambda at, start, stop, sums: kept.update({(at, start, stop): sums}),
            on_progress=lambda *now: told.append(now),
        )
        return pass_forward(
            undirected(neighbors, distances),
            difficulty,
            weigh=weigh,
            pool=pool,
            rounds=rounds,
            neighbor_floor=floor,
            forward=forward,
        )

    parts = np.sort(rng.integers(0, n_parts, n))
    scores = score(parts)

    expected = difficulty
    for _ in range(rounds):
        low = -np.inf if floor is None else floor
        edges = undirected_edges(neighbors, distances)
        expected = formula(edges, expected, 0.7, floor=low, pool=pool, bandwidth=0.5)
    np.testing.assert_array_equal(scores, expected)
    assert told[-1] == ("scoring", rounds * n, rounds * n)
    assert len(kept) == rounds * len(np.unique(parts))

    told.clear()
    np.testing.assert_array_equal(score(parts), scores)
    assert bool(told) is not known  # what is known is not summed again
