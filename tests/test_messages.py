"""Greedy picks over many rows and in pieces, against the loop "argmax, subtract, repeat"."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import undirected_edges

from d2cli.stages._messages import GreedyPicks, undirected_union

NOBODY = np.empty(0, dtype=np.int64)


def draw(seed, n, k=3):
    """A random undirected graph with weights 0 to 1, scores of either sign with ties, an order."""
    rng = np.random.default_rng(seed)
    neighbors = rng.integers(0, n, (n, k), dtype=np.int32)
    neighbors[neighbors == np.arange(n)[:, None]] = -1
    for row in neighbors:
        seen, first = np.unique(row, return_index=True)
        row[np.setdiff1d(np.arange(k), first[seen >= 0])] = -1
    distances = rng.random((n, k)).astype(np.float32)
    indptr, indices, lengths = undirected_union(neighbors, distances)
    score = rng.normal(size=n) if seed % 2 else rng.integers(-2, 4, n).astype(float)
    order = rng.permutation(n).astype(np.int32)
    return indptr, indices, 1 - lengths.astype(np.float64), score, order, rng


def slow_picks(indptr, indices, weights, score, order, budgets, *, candidate, group, clamped):
    """One pick after another, each by looking at every row in the order of ties."""
    x, left, open_ = score.copy(), list(budgets), candidate.astype(bool)
    picks, values = [], []
    for _ in range(sum(budgets)):
        playing = [i for i in order if open_[i] and left[group[i]] > 0]
        pick = max(playing, key=lambda i: x[i])
        picks.append(pick)
        values.append(x[pick])
        open_[pick] = False
        left[group[pick]] -= 1
        sent = max(x[pick], 0.0) if clamped else x[pick]
        for e in range(indptr[pick], indptr[pick + 1]):
            x[indices[e]] -= weights[e] * sent
    return np.array(picks), np.array(values)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.one_of(st.integers(1, 80), st.integers(500, 700)),
    n_groups=st.integers(1, 4),
    clamped=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_picks_over_several_levels_equal_the_loop(seed, n, n_groups, clamped):
    indptr, indices, weights, score, order, rng = draw(seed, n)
    group = rng.integers(0, n_groups, n).astype(np.int32)
    candidate = (rng.random(n) < 0.9).astype(np.uint8)
    room = np.bincount(group, weights=candidate, minlength=n_groups).astype(np.int64)
    budgets = rng.integers(0, np.minimum(room, 40) + 1)

    picks = GreedyPicks(indptr, indices, score, order, candidate, NOBODY, group, budgets, clamped)
    while picks.done < len(picks.rows):  # in pieces of any size, with any rows weighed
        before = picks.done
        count = int(rng.integers(1, 20))
        assert picks.advance(count) == picks.done
        if picks.lacking < 0:
            assert picks.done == min(before + count, len(picks.rows))
            continue
        assert picks.done < min(before + count, len(picks.rows))
        known = np.union1d(picks.lacking, rng.integers(0, n, rng.integers(0, n)))
        edges = [weights[indptr[row] : indptr[row + 1]] for row in known]
        picks.weigh(known, np.concatenate(edges))
        assert picks.lacking == -1

    rows, values = slow_picks(
        indptr,
        indices,
        weights,
        score,
        order,
        budgets,
        candidate=candidate,
        group=group,
        clamped=clamped,
    )
    np.testing.assert_array_equal(picks.rows, rows)
    np.testing.assert_array_equal(picks.scores, values)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5000))
@settings(max_examples=100, deadline=None)
def test_without_edges_rows_come_by_score_then_by_the_tie_order(seed, n):
    rng = np.random.default_rng(seed)
    score = rng.integers(-3, 4, n) / 2
    order = rng.permutation(n).astype(np.int32)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    none = (np.zeros(n + 1, np.int64), np.empty(0, np.int32))
    one = np.zeros(n, np.int32)

    picks = GreedyPicks(
        *none, score, order, np.ones(n, np.uint8), NOBODY, one, np.array([n]), False
    )
    picks.weigh(np.arange(n), np.empty(0))
    picks.advance(n)

    np.testing.assert_array_equal(picks.rows, np.lexsort((place, -score)))
    np.testing.assert_array_equal(picks.scores, -np.sort(-score))


def test_inputs_stay_as_they_are():
    *arrays, _ = draw(3, 200)
    before = [array.copy() for array in arrays]
    indptr, indices, weights, score, order = arrays
    budgets, everyone = np.array([150]), np.ones(200, np.uint8)

    picks = GreedyPicks(
        indptr, indices, score, order, everyone, NOBODY, np.zeros(200, np.int32), budgets, False
    )
    picks.weigh(np.arange(200), weights)
    assert picks.advance(150) == 150

    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)
    assert budgets.tolist() == [150]


@pytest.mark.parametrize("budgets", [[4], [2, 2]])
def test_a_budget_beyond_the_candidates_is_an_error(budgets):
    indptr, indices, weights, score, order, _ = draw(1, 6)
    candidate = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    group = (np.arange(6) % len(budgets)).astype(np.int32)
    picks = GreedyPicks(
        indptr, indices, score, order, candidate, NOBODY, group, np.array(budgets), False
    )
    picks.weigh(np.arange(6), weights)

    with pytest.raises(ValueError, match="the budget exceeds the candidates"):
        picks.advance(10)

    assert picks.done == 3


@given(st.integers(0, 2**32 - 1), st.integers(45, 60))
@settings(max_examples=20, deadline=None)
def test_the_union_of_long_lists_equals_a_dictionary(seed, k):
    rng = np.random.default_rng(seed)
    n = 70
    neighbors = np.array([rng.choice(np.delete(np.arange(n), i), k, False) for i in range(n)])
    neighbors = neighbors.astype(np.int32)
    length = rng.random((n, n)).astype(np.float32)
    distances = np.take_along_axis(np.maximum(length, length.T), neighbors, axis=1)

    indptr, indices, lengths = undirected_union(neighbors, distances)

    edges = undirected_edges(neighbors, distances)
    for i in range(n):
        row = slice(indptr[i], indptr[i + 1])
        assert indices[row].tolist() == sorted(edges[i])
        assert lengths[row].tolist() == [edges[i][j] for j in sorted(edges[i])]


def test_the_union_of_empty_lists_has_no_edges():
    for n, k in ((0, 3), (4, 0), (4, 2)):
        neighbors = np.full((n, k), -1, dtype=np.int32)
        indptr, indices, lengths = undirected_union(neighbors, np.full((n, k), np.inf, np.float32))
        assert indptr.tolist() == [0] * (n + 1)
        assert len(indices) == len(lengths) == 0
