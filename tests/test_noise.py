"""Mislabelled or merely hard: humps of the margins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.stages import noise
from d2cli.stages.noise import find_mislabelled, fit_two_normals


def humps(seed, n, share, gap):
    """Margins: ``share`` of the rows ``gap`` below the others, which have mean 3."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < share
    return rng.normal(3, 1, n) - gap * wrong, wrong


def test_the_fit_finds_the_humps_that_were_drawn():
    margin, _ = humps(0, 20_000, 0.2, 6)
    weights, means, deviations, _ = fit_two_normals(margin)
    np.testing.assert_allclose(weights, [0.2, 0.8], atol=0.01)
    np.testing.assert_allclose(means, [-3, 3], atol=0.05)
    np.testing.assert_allclose(deviations, [1, 1], atol=0.05)


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.05, 0.1, 0.2, 0.4]))
@settings(max_examples=20, deadline=None)
def test_a_hump_of_its_own_is_cut_and_little_else(seed, share):
    margin, wrong = humps(seed, 4000, share, 6)
    noise = find_mislabelled(10 - margin, zero=10.0)
    assert noise.mislabelled[wrong].mean() > 0.98
    assert noise.mislabelled[~wrong].mean() < 0.02
    assert "a hump of their own" in noise.reason


@pytest.mark.parametrize("shape", ["normal", "skewed", "uniform"])
def test_one_hump_is_not_cut_even_with_a_long_hard_tail(shape):
    rng = np.random.default_rng(1)
    difficulty = {
        "normal": rng.normal(size=5000),
        "skewed": rng.gamma(2, 1, 5000),
        "uniform": rng.random(5000),
    }[shape]
    noise = find_mislabelled(difficulty, zero=None)
    assert not noise.mislabelled.any(), noise.reason


def test_a_hard_hump_that_is_learned_right_is_not_cut():
    margin, _ = humps(2, 4000, 0.2, 6)
    noise = find_mislabelled(-(margin + 10), zero=0.0)
    assert not noise.mislabelled.any()
    assert "learned right" in noise.reason


@pytest.mark.parametrize("values", [np.ones(50), np.arange(5.0)])
def test_too_little_to_tell_is_said(values):
    assert "too few" in find_mislabelled(values, zero=None).reason


def test_the_unit_and_the_shift_of_the_score_do_not_matter():
    margin, _ = humps(3, 3000, 0.1, 7)
    one = find_mislabelled(-margin, zero=0.0)
    other = find_mislabelled(-8 * margin + 40, zero=40.0)
    np.testing.assert_array_equal(one.mislabelled, other.mislabelled)


def test_many_values_are_fitted_by_their_quantiles(monkeypatch):
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0, 1, 9000), rng.normal(8, 0.7, 1000)])
    weights, means, deviations, posterior = fit_two_normals(values)
    monkeypatch.setattr(noise, "MOST_FITTED", 1000)
    few = fit_two_normals(values)
    np.testing.assert_allclose(few[0], weights, atol=0.002)
    np.testing.assert_allclose(few[1], means, atol=0.02)
    np.testing.assert_allclose(few[2], deviations, atol=0.02)
    assert len(few[3]) == 10_000
    assert ((few[3] > 0.5) == (posterior > 0.5)).mean() > 0.999
