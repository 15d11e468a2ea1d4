"""Prototypes against plain arithmetic on unit vectors."""

import numpy as np
import pytest

from d2cli.errors import ParameterError
from d2cli.params import PrototypeParams
from d2cli.stages.groups import group_by
from d2cli.stages.prototypes import measure_prototypicality
from d2cli.stages.vectors import as_vectors


@pytest.fixture
def three_ways():
    """90 unit vectors around three axes, in turn."""
    rng = np.random.default_rng(2)
    vectors = rng.normal(scale=0.1, size=(90, 5)) + np.eye(5)[np.arange(90) % 3]
    return as_vectors(vectors.astype(np.float32), "cosine")


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_one_prototype_is_the_mean_direction(three_ways):
    found = measure_prototypicality(three_ways, 1)
    center = unit(three_ways.sum(axis=0, dtype=np.float64))
    expected = [np.linalg.norm(vector - center) for vector in three_ways]
    np.testing.assert_allclose(found.distances, expected, rtol=1e-12)
    assert found.converged


@pytest.mark.parametrize("seed", range(5))
def test_prototypes_find_the_clusters(three_ways, seed):
    found = measure_prototypicality(three_ways, 3, seed=seed)
    expected = np.empty(90)
    for way in range(3):
        own = three_ways[way::3].astype(np.float64)
        expected[way::3] = np.linalg.norm(own - unit(own.sum(axis=0)), axis=1)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-6)


def test_a_label_has_prototypes_of_its_own(three_ways):
    groups = group_by(np.arange(90) % 3)
    found = measure_prototypicality(three_ways, 2, groups=groups, seed=4)
    assert found.n_prototypes == 6
    for way in range(3):
        rows = np.flatnonzero(groups.codes == way)
        seeded = np.random.default_rng([4, way])
        first = rows[seeded.integers(len(rows))]
        assert first in rows
        center = unit(three_ways[rows].sum(axis=0, dtype=np.float64))
        one = np.linalg.norm(three_ways[rows] - center, axis=1)
        # Two prototypes fit a label better than one does.
        assert (found.distances[rows] ** 2).sum() < (one**2).sum()


def test_threads_and_runs_do_not_matter():
    vectors = as_vectors(np.random.default_rng(1).normal(size=(9000, 8)), "cosine")
    one = measure_prototypicality(vectors, 20, seed=3, n_threads=1)
    two = measure_prototypicality(vectors, 20, seed=3, n_threads=4)
    np.testing.assert_array_equal(one.distances, two.distances)
    other = measure_prototypicality(vectors, 20, seed=4)
    assert (one.distances != other.distances).any()


def test_every_row_belongs_to_the_nearest_prototype(three_ways):
    found = measure_prototypicality(three_ways, 3)
    order = np.argsort(found.distances)
    assert found.distances[order[-1]] < np.sqrt(2)  # the other axes are farther


def test_more_prototypes_than_different_rows_leave_no_distance():
    twins = as_vectors(np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]]), "cosine")
    found = measure_prototypicality(twins, 10)
    assert found.distances.tolist() == [0, 0, 0, 0]
    assert found.n_prototypes == 2


def test_opposite_rows_keep_their_prototype():
    found = measure_prototypicality(as_vectors(np.array([[1.0, 0], [-1, 0]]), "cosine"), 1)
    assert sorted(found.distances.tolist()) == [0, 2]


def test_the_number_of_prototypes_follows_the_rows():
    params = PrototypeParams()
    assert params.n_prototypes(50_000, labelled=False) == 158
    assert params.n_prototypes(50_000, labelled=True) == 1
    assert params.n_prototypes(1, labelled=False) == 1
    assert PrototypeParams(prototypes=7).n_prototypes(9, labelled=True) == 7
    with pytest.raises(ParameterError, match="prototypes is 0"):
        PrototypeParams(prototypes=0)
