"""Budgets of groups: totals, remainders, overflow."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import ParameterError
from d2cli.stages.budget import group_budgets, share_out

groups = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=8)


@given(groups, st.integers(0, 400))
def test_shares_add_up_and_stay_within_bounds(parts, budget):
    weights = [w for w, _ in parts]
    most = [min(w, m) for w, m in parts]
    budget = min(budget, sum(most))
    shares = share_out(budget, weights, most)
    assert sum(shares) == budget
    assert all(0 <= share <= cap for share, cap in zip(shares, most, strict=True))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 400))
def test_without_bounds_shares_are_quotas_by_largest_remainder(weights, budget):
    shares = share_out(budget, weights, [budget] * len(weights))
    quotas = [Fraction(budget * w, sum(weights)) for w in weights]
    floors = [int(q) for q in quotas]
    ranked = sorted(range(len(weights)), key=lambda g: (floors[g] - quotas[g], g))
    for g in ranked[: budget - sum(floors)]:
        floors[g] += 1
    assert shares == floors


def test_what_a_group_cannot_take_goes_to_the_others():
    assert share_out(30, [1, 1, 1], [4, 50, 50]) == [4, 13, 13]
    assert share_out(10, [100, 50, 50], [2, 50, 50]) == [2, 4, 4]


def test_uniform_gives_equal_shares_and_proportional_shares_by_rows():
    more = {"names": "ab", "rows": [90, 10], "available": [90, 10], "included": [0, 0]}
    assert group_budgets(10, balance="proportional", **more) == [9, 1]
    assert group_budgets(10, balance="uniform", **more) == [5, 5]
    assert group_budgets(40, balance="uniform", **more) == [30, 10]


def test_impossible_budgets_are_refused():
    more = {"names": "ab", "rows": [9, 9], "balance": "uniform"}
    with pytest.raises(ParameterError, match="only 8 may be"):
        group_budgets(9, available=[4, 4], included=[0, 0], **more)
    with pytest.raises(ParameterError, match="3 included rows of group 'a', whose budget is 2"):
        group_budgets(4, available=[9, 9], included=[3, 0], **more)
    with pytest.raises(ParameterError, match="5 included rows, but 4"):
        group_budgets(4, available=[9, 9], included=[3, 2], **more)
