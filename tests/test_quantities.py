"""Sizes and durations as text."""

import pytest

from d2cli.errors import ParameterError
from d2cli.quantities import parse_size, size_text, time_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("500M", 500_000_000),
        ("4G", 4_000_000_000),
        ("4gb", 4_000_000_000),
        ("1.5GiB", 3 * 2**29),
        ("2 KiB", 2048),
        (".5k", 500),
        ("1T", 10**12),
        ("64Mi", 64 * 2**20),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size("max-memory", text) == size


@pytest.mark.parametrize(
    "text",
    ["", "G", "-4G", "4X", "4 G B", "1e9", "nan", "0", "0.1", "4iB", "9" * 30, "٤G", "1..5M"],
)
def test_other_texts_are_refused_by_name(text):
    with pytest.raises(ParameterError, match="max-memory is"):
        parse_size("max-memory", text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1500, "1.5 kB"), (86.6e6, "87 MB"), (999.7e6, "1.0 GB"), (3e12, "3.0 TB")],
)
def test_sizes_are_told_in_thousands(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "under 1 s"), (12.4, "about 12 s"), (150, "about 2 min"), (7200, "about 2.0 h")],
)
def test_durations_are_estimates(seconds, text):
    assert time_text(seconds) == text
