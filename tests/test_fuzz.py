"""Seeds of the fuzzers, every find of theirs among them, and some mutations of each."""

import pytest
from soak import fuzz


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_no_bytes_from_outside_crash_or_mislead(target, capfd):
    assert fuzz.seeds(target)
    # Damaged Parquet may end the process; tests/soak/corrupt.py has children for that.
    count = 0 if target == "parquet" else 150
    assert not fuzz.run(target, count=count), capfd.readouterr().out


def test_a_crash_is_found_and_told(monkeypatch, capfd):
    def target(data):
        if b"rate" in data:
            raise ZeroDivisionError("told")

    monkeypatch.setitem(fuzz.TARGETS, "config", target)

    assert all(b"rate" in data for data in fuzz.run("config"))
    assert "ZeroDivisionError: told" in capfd.readouterr().out
