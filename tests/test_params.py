"""Rates, budgets, presets and the gammas that "auto" stands for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import ParameterError
from d2cli.params import ScoreParams, SelectParams


@given(st.floats(0, 1), st.integers(1, 10**7))
def test_budget_is_n_minus_the_rounded_rate(rate, n):
    expected = n - math.floor(rate * n + 0.5)
    params = SelectParams(rate=rate)
    if expected >= 1:
        assert params.budget(n) == expected
    else:
        with pytest.raises(ParameterError, match="keeps none"):
            params.budget(n)


def test_nine_tenths_removed_of_fifty_thousand_keeps_five_thousand():
    assert SelectParams(rate=0.9).budget(50_000) == 5_000


def test_keep_is_a_number_of_rows_and_implies_the_rate():
    params = SelectParams(keep=30)
    assert params.budget(100) == 30
    assert params.rate_of(100) == 0.7
    with pytest.raises(ParameterError, match="there are 20 rows"):
        params.budget(20)


@pytest.mark.parametrize("given_", [{}, {"rate": 0.5, "keep": 3}])
def test_exactly_one_of_rate_and_keep_is_needed(given_):
    with pytest.raises(ParameterError, match="exactly one of rate and keep"):
        SelectParams(**given_)


def test_a_rate_in_percent_is_refused_with_the_fraction():
    with pytest.raises(ParameterError) as caught:
        SelectParams(rate=90)
    assert "--rate 0.9" in caught.value.hint


@pytest.mark.parametrize("rate", [-0.1, 1.01, math.nan, math.inf])
def test_rates_outside_zero_to_one_are_refused(rate):
    with pytest.raises(ParameterError, match="expected 0 to 1"):
        SelectParams(rate=rate)


def test_auto_gammas_follow_the_rate():
    assert SelectParams(rate=0.5).gamma_reverse_value(10) == 4
    assert ScoreParams(rate=0.5).gamma_forward_value == 3
    assert ScoreParams(rate=0.01).gamma_forward_value == pytest.approx(99)
    assert ScoreParams().gamma_forward_value == 0.25
    assert SelectParams(keep=50).gamma_reverse_value(100) == 4


def test_presets_fill_what_is_not_given():
    reference = ScoreParams.from_preset("reference")
    assert (reference.kernel, reference.bandwidth, reference.gamma_forward) == ("exponential", 1, 1)
    assert (reference.ties, reference.neighbor_floor, reference.shift) == ("row", 1e-7, False)
    paper = SelectParams.from_preset("paper", rate=0.9, gamma_reverse=0.5)
    assert (paper.kernel, paper.bandwidth, paper.gamma_reverse) == ("gaussian", 1, 0.5)
    assert SelectParams.from_preset("paper", rate=0.9).gamma_reverse == 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"gamma_forward": -1.0},
        {"gamma_forward": math.nan},
        {"bandwidth": 0.0},
        {"bandwidth": math.inf},
        {"rounds": -1},
        {"prune_hardest": 1.1},
        {"prune_hardest": math.nan},
        {"kernel": "box"},
        {"ties": "first"},
        {"seed": 2**32},
    ],
)
def test_score_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ParameterError):
        ScoreParams(**wrong)
