"""Address spaces in steps; see tests/soak/addresses.py."""

from soak import addresses


def test_address_spaces_in_steps_are_enough_or_refused():
    wrong, line = addresses.soak(20)
    print(line)
    assert wrong == []
    assert " 0 done" not in line
