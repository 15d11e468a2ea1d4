"""The methods beside D2 against slow loops."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import undirected_edges

from d2cli.params import GraphParams, Method, ScoreParams, SelectParams
from d2cli.stages.difficulty import orient
from d2cli.stages.graph import build_graph
from d2cli.stages.groups import group_by
from d2cli.stages.kernel import edge_weights
from d2cli.stages.score import score_rows
from d2cli.stages.selection import Wishes, select_coreset

OTHERS = [method for method in get_args(Method) if method != "d2"]
seeds = st.integers(0, 2**32 - 1)


def setting(seed, n, k=3):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 5, (n, 2)) if seed % 2 else rng.normal(size=(n, 2))
    graph = build_graph(points.astype(np.float32), GraphParams(n_neighbors=k))
    difficulty = rng.integers(0, 6, n).astype(float)
    return graph, score_rows(graph, orient(difficulty, "high"), ScoreParams()), rng


def select(graph, scores, method, keep, **more):
    wishes = more.pop("wishes", None)
    groups = more.pop("groups", None)
    params = SelectParams(method=method, keep=keep, ties="row", **more)
    extra = {"wishes": wishes} if wishes else {}
    return select_coreset(graph, scores, params, groups=groups, **extra)


@given(seed=seeds, n=st.integers(8, 40), method=st.sampled_from(OTHERS))
@settings(max_examples=100, deadline=None)
def test_budgets_groups_wishes_and_cutoffs_hold_for_every_method(seed, n, method):
    graph, _, rng = setting(seed, n)
    groups = group_by(np.arange(n) % 2)
    scores = score_rows(
        graph, orient(rng.random(n), "high"), ScoreParams(prune_hardest=0.1), groups=groups
    )
    pool = np.flatnonzero(scores.pool)
    wishes = Wishes(pool[:1].astype(np.int64), pool[-1:].astype(np.int64))
    picked = select(graph, scores, method, max(1, n // 3), wishes=wishes, groups=groups)
    assert picked.rows[0] == pool[0]
    assert pool[-1] not in picked.rows
    assert scores.pool[picked.rows].all()
    counts = np.bincount(groups.codes[picked.rows], minlength=groups.n_groups)
    assert tuple(counts) == picked.budgets
    again = select(graph, scores, method, max(1, n // 3), wishes=wishes, groups=groups)
    np.testing.assert_array_equal(picked.rows, again.rows)


@given(seed=seeds, n=st.integers(3, 40))
@settings(max_examples=50, deadline=None)
def test_hardest_easiest_and_moderate_are_sorts(seed, n):
    graph, scores, _ = setting(seed, n)
    s = scores.difficulty
    keys = {"hardest": -s, "easiest": s, "moderate": np.abs(s - np.median(s))}
    for method, key in keys.items():
        picked = select(graph, scores, method, n // 2)
        assert picked.rows.tolist() == sorted(range(n), key=lambda i: (key[i], i))[: n // 2]


def paths_from(edges, start, n):
    """Bellman-Ford: lengths of shortest paths."""
    length = np.full(n, np.inf)
    length[start] = 0
    for _ in range(n):
        for i, near in edges.items():
            for j, d in near.items():
                length[j] = min(length[j], length[i] + float(d))
    return length


@given(seed=seeds, n=st.integers(3, 20))
@settings(max_examples=60, deadline=None)
def test_kcenter_takes_the_farthest_row_along_the_graph(seed, n):
    graph, scores, _ = setting(seed, n)
    edges = undirected_edges(graph.neighbors, graph.distances)
    picked = select(graph, scores, "kcenter", n // 2)
    reach, chosen = np.full(n, np.inf), []
    for row, value in zip(picked.rows, picked.scores, strict=True):
        free = [i for i in range(n) if i not in chosen]
        farthest = max(reach[i] for i in free)
        # Sums along other paths of one length may differ in the last bits.
        assert value == pytest.approx(reach[row])
        assert reach[row] == pytest.approx(farthest)
        chosen.append(row)
        reach = np.minimum(reach, paths_from(edges, row, n))


@given(seed=seeds, n=st.integers(3, 25))
@settings(max_examples=100, deadline=None)
def test_facility_location_takes_the_largest_gain(seed, n):
    graph, scores, _ = setting(seed, n)
    picked = select(graph, scores, "facility-location", n // 2, gamma_reverse=0.7)
    adjacency = graph.adjacency
    weights = edge_weights(
        adjacency.distances, gamma=0.7, bandwidth=picked.bandwidth, kernel="gaussian"
    )
    similar = np.eye(n)
    for i in range(n):
        row = slice(adjacency.indptr[i], adjacency.indptr[i + 1])
        similar[i, adjacency.indices[row]] = weights[row]
    covered, chosen = np.zeros(n), []
    for row, value in zip(picked.rows, picked.scores, strict=True):
        gains = [np.maximum(similar[i] - covered, 0).sum() for i in range(n)]
        free = [gains[i] for i in range(n) if i not in chosen]
        assert gains[row] == pytest.approx(max(free))
        assert value == pytest.approx(gains[row])
        chosen.append(row)
        covered = np.maximum(covered, similar[row])


@given(seed=seeds, n=st.integers(3, 25))
@settings(max_examples=100, deadline=None)
def test_semdedup_drops_the_easier_of_the_nearest_pairs(seed, n):
    graph, scores, _ = setting(seed, n)
    keep = n // 2
    edges = undirected_edges(graph.neighbors, graph.distances)
    rank = {row: r for r, row in enumerate(sorted(range(n), key=lambda i: -scores.difficulty[i]))}
    pairs = []
    for i, near in edges.items():
        for j, d in near.items():
            if rank[i] < rank[j]:  # i is harder
                pairs.append((float(d), rank[j], rank[i], j, i))
    alive = set(range(n))
    for *_, easier, harder in sorted(pairs):
        if {easier, harder} <= alive and len(alive) > keep:
            alive.remove(easier)
    picked = set(select(graph, scores, "semdedup", keep).rows.tolist())
    assert picked == alive if len(alive) == keep else picked < alive


def test_ccs_takes_all_of_small_strata_and_equal_shares_of_large_ones():
    rng = np.random.default_rng(0)
    graph = build_graph(rng.normal(size=(310, 2)).astype(np.float32), GraphParams())
    difficulty = np.concatenate([np.zeros(100), np.full(200, 50.0), np.full(10, 100.0)])
    scores = score_rows(graph, orient(difficulty, "high"), ScoreParams())
    picked = select(graph, scores, "ccs", 90)
    values, counts = np.unique(difficulty[picked.rows], return_counts=True)
    assert dict(zip(values, counts, strict=True)) == {0.0: 40, 50.0: 40, 100.0: 10}


def test_random_depends_on_the_seed():
    graph, scores, _ = setting(0, 40)
    rows = [select(graph, scores, "random", 10, seed=seed).rows.tolist() for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize("method", OTHERS)
def test_methods_run_from_the_command_line(sample_data, d2, method):
    args = ("--difficulty", "aum", "--rate", 0.9, "--group", "label", "--method", method)
    code, out, err = d2("prune", sample_data / "clinc150.parquet", *args)
    assert code == 0, err
    assert len(out.split()) == 200
    assert f"{method if method != 'random' else 'drawn'}     random\n" in err
