"""Principal axes, cells, and the searches that are built on them."""

import numpy as np
import pytest

from d2cli.stages.approximate import ApproximateIndex
from d2cli.stages.cell_layout import lay_out
from d2cli.stages.cells import CellSource
from d2cli.stages.exact import ExactIndex
from d2cli.stages.hnsw import HnswSource
from d2cli.stages.projection import KEPT_VARIANCE, principal_axes, project
from d2cli.stages.recall import check_recall, raise_effort
from d2cli.stages.space import build_space


def clustered(n, dim, *, latent=8, seed=0):
    """Vectors around 20 centres near a subspace of ``latent`` dimensions."""
    rng = np.random.default_rng(seed)
    inner = 3 * rng.normal(size=(20, latent))[rng.integers(0, 20, n)] + rng.normal(size=(n, latent))
    vectors = inner @ rng.normal(size=(latent, dim)) + 0.3 * rng.normal(size=(n, dim))
    return vectors.astype(np.float32)


def space_of(vectors):
    return build_space(vectors, np.arange(len(vectors)))


def test_the_space_is_centred_and_scaled_by_its_largest_coordinate():
    vectors = clustered(300, 5) + 100
    space = space_of(vectors)
    block = space.block(slice(0, 300)).astype(np.float64)
    assert 0.5 <= np.abs(block).max() <= 1
    np.testing.assert_allclose(block.mean(axis=0), 0, atol=1e-6)
    three = build_space(vectors, np.arange(300), n_threads=3)
    np.testing.assert_array_equal(space.center, three.center)


def test_axes_keep_the_variance_that_is_wanted():
    space = space_of(clustered(2000, 200))
    axes = principal_axes(space, seed=0)
    assert axes.shape == (200, 16)  # 8 dimensions hold nearly everything; widths go by sixteens
    np.testing.assert_allclose(axes.T @ axes, np.eye(16), atol=1e-5)
    points = project(space, axes)
    everything = space.block(slice(0, 2000))
    np.testing.assert_allclose(points, everything @ axes, atol=1e-5)
    assert points.var(axis=0).sum() > KEPT_VARIANCE * everything.var(axis=0).sum()
    np.testing.assert_array_equal(points, project(space, axes, n_threads=3))


def test_no_axes_where_they_do_not_pay():
    rng = np.random.default_rng(0)
    assert principal_axes(space_of(clustered(300, 128)), seed=0) is None  # narrow
    round_cloud = space_of(rng.normal(size=(3000, 150)))
    assert principal_axes(round_cloud, seed=0) is None  # no axis stands out
    space = space_of(clustered(300, 128))
    np.testing.assert_array_equal(project(space, None), space.block(slice(0, 300)))


def test_a_layout_is_a_permutation_by_nearest_centre():
    points = clustered(3000, 6)
    layout = lay_out(points.copy(), seed=0)
    assert layout.n_cells == 10
    np.testing.assert_array_equal(np.sort(layout.places), np.arange(3000))
    np.testing.assert_array_equal(layout.points, points[layout.places])
    np.testing.assert_array_equal(layout.places[layout.positions], np.arange(3000))
    away = ((layout.points[:, None] - layout.centers) ** 2).sum(axis=2)
    cells = np.repeat(np.arange(10), np.diff(layout.starts))
    np.testing.assert_allclose(away[np.arange(3000), cells], away.min(axis=1), rtol=1e-4)
    for start, stop in zip(layout.starts[:-1], layout.starts[1:], strict=True):
        assert np.all(np.diff(layout.places[start:stop]) > 0)
    again = lay_out(points, seed=0, n_threads=3)
    np.testing.assert_array_equal(layout.places, again.places)


def test_few_points_are_one_cell():
    layout = lay_out(clustered(7, 3), seed=0)
    assert layout.n_cells == 1
    assert layout.starts.tolist() == [0, 7]


def source_of(name, layout):
    return CellSource(layout) if name == "cells" else HnswSource(layout, 5, seed=0)


@pytest.mark.parametrize("name", ["cells", "hnsw"])
@pytest.mark.parametrize("dim", [6, 200])
def test_with_all_effort_the_answer_is_exact(name, dim):
    space = space_of(clustered(1500, dim))
    layout = lay_out(project(space, principal_axes(space, seed=0)), seed=0)
    index = ApproximateIndex(space, source_of(name, layout))
    check = check_recall(space, 5, target=1.0, seed=0)
    raise_effort(index, 5, check)
    queries = np.arange(1500, dtype=np.int32)
    neighbors, distances = index.search(queries, 5)
    exact = ExactIndex(space).search(queries, 5)
    same = (neighbors == exact[0]).mean()
    assert same > 0.99  # on axes a true neighbour may be missed
    found = neighbors == exact[0]
    np.testing.assert_array_equal(distances[found], exact[1][found])


@pytest.mark.parametrize("name", ["cells", "hnsw"])
def test_some_queries_in_any_order_are_answered_in_that_order(name):
    space = space_of(clustered(1200, 6))
    layout = lay_out(project(space, None), seed=0)
    index = ApproximateIndex(space, source_of(name, layout))
    queries = np.random.default_rng(3).permutation(1200)[:100].astype(np.int32)
    neighbors, distances = index.search(queries, 3)
    again, same = index.search(queries[::-1].copy(), 3, n_threads=3)
    np.testing.assert_array_equal(neighbors, again[::-1])
    np.testing.assert_array_equal(distances, same[::-1])
    assert not (neighbors == queries[:, None]).any()
    true = np.linalg.norm(space.vectors[neighbors[:, 0]] - space.vectors[queries], axis=1)
    np.testing.assert_allclose(distances[:, 0], true, rtol=1e-5)


@pytest.mark.parametrize("name", ["cells", "hnsw"])
def test_more_effort_finds_more_until_its_end(name):
    rng = np.random.default_rng(1)
    space = space_of(rng.normal(size=(6000, 12)).astype(np.float32))
    index = ApproximateIndex(space, source_of(name, lay_out(project(space, None), seed=0)))
    check = check_recall(space, 5, target=1.0, seed=0)
    first = check.measure(index.search(check.sample, 5)[1])
    low = index.effort
    last = raise_effort(index, 5, check)
    assert index.effort > low
    assert last.value > first.value
    if not last.reached:
        assert not index.try_harder()
