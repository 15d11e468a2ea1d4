"""What is resident under ``--max-memory``; see tests/soak/memory.py."""

from soak import memory


def test_peaks_stay_within_a_tenth_of_the_limit_or_are_refused():
    wrong, line = memory.soak(30_000)
    print(line)
    assert wrong == []
    assert ", 0 refused" not in line
    assert " 0 done" not in line
