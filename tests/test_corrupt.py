"""Damaged and hostile files: refused, and never a crash or a wrong answer. By hand: tests/soak."""

import pytest
from soak.corrupt import damage_files
from soak.hostile import run_hostile


@pytest.mark.parametrize("seed", [0])
def test_damaged_files_are_refused_or_give_what_undamaged_ones_give(seed):
    figures = damage_files(2000, seed)

    assert figures.count == 2000
    assert figures.refused > 800, figures
    assert not figures.failed, "\n".join(figures.failed)


def test_hostile_files_do_no_harm():
    figures = run_hostile(40)

    assert figures.count == 40
    assert not figures.failed, "\n".join(figures.failed)
