"""Score columns to difficulty: direction, shift, bad values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import InputError, ParameterError
from d2cli.stages.difficulty import direction_of, known_direction, orient, uniform_difficulty

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(numbers)
def test_low_is_harder_turns_the_order_and_starts_at_zero(values):
    turned = orient(values, "low")
    assert turned.values.min() == 0
    np.testing.assert_array_equal(turned.values, max(values) - np.array(values))


@given(numbers)
def test_high_is_shifted_only_if_something_is_negative(values):
    turned = orient(values, "high")
    if min(values) < 0:
        assert turned.values.min() == 0
        assert turned.shift == -min(values)
    else:
        np.testing.assert_array_equal(turned.values, values)
        assert turned.shift == 0


def test_shift_can_be_left_out():
    assert orient([-2, 3], "high", shift=False).values.tolist() == [-2, 3]


@pytest.mark.parametrize(
    ("name", "direction"),
    [("forgetting", "high"), ("EL2N", "high"), ("aum", "low"), ("confidence", "low")],
)
def test_known_names_carry_their_direction(name, direction):
    assert known_direction(name) == direction
    assert direction_of(name, None) == direction


def test_an_unknown_name_needs_a_direction():
    assert known_direction("aum_mean") is None
    with pytest.raises(ParameterError, match="'quality' does not say") as caught:
        direction_of("quality", None)
    assert "--harder" in caught.value.hint
    assert direction_of("quality", "high") == "high"


def test_a_given_direction_wins_over_the_name():
    assert direction_of("aum", "high") == "high"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, np.nan, np.nan], "row 1 is NaN (2 rows in all)"),
        ([np.inf, 1], "row 0 is infinite (1 row in all)"),
        ([[1, 2]], "expected numbers of shape (n,)"),
        (["a"], "expected numbers of shape (n,)"),
        ([1.7e308, -1.7e308], "overflows"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(InputError) as caught, np.errstate(over="ignore"):
        orient(np.array(values), "low")
    assert message in caught.value.message


def test_uniform_difficulty_is_one_everywhere():
    assert uniform_difficulty(3).values.tolist() == [1, 1, 1]
