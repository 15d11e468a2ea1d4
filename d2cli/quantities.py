"""Sizes and durations as text, and sizes from text."""

import re

from d2cli.errors import ParameterError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
DURATIONS = {"S": 1, "M": 60, "H": 3600, "D": 86_400, "W": 7 * 86_400}
BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(option: str, text: str) -> int:
    """Read a size such as 500M, 4G, 4GB or 1.5GiB; the letter alone counts in thousands.

    Parameters
    ----------
    option : str
        Name for the message.
    text : str

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    ParameterError
        If it is no such size, or none.
    """
    found = re.fullmatch(
        r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(I?)B?", text.strip().upper(), flags=re.ASCII
    )
    if found is None or (found[3] and not found[2]):
        raise ParameterError(
            f"{option} is '{text}', expected a size such as 500M, 4G or 1.5GiB",
            hint="K, M, G and T count in thousands, KiB, MiB, GiB and TiB in 1024s",
        )
    size = float(found[1]) * (BINARY if found[3] else UNITS)[found[2]]
    if not 1 <= size < 2**62:
        raise ParameterError(f"{option} is '{text}', expected at least one byte and less than 4E")
    return int(size)


def parse_duration(option: str, text: str) -> float:
    """Read a duration such as 45s, 90m, 12h, 30d or 2w.

    Parameters
    ----------
    option : str
        Name for the message.
    text : str

    Returns
    -------
    float
        Seconds, not negative.

    Raises
    ------
    ParameterError
        If it is no such duration.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([SMHDW])", text.strip().upper(), flags=re.ASCII)
    if found is None or len(found[1]) > 12:
        raise ParameterError(
            f"{option} is '{text}', expected a duration such as 12h, 30d or 2w",
            hint="s, m, h, d and w are seconds, minutes, hours, days and weeks",
        )
    return float(found[1]) * DURATIONS[found[2]]


def age_text(seconds: float) -> str:
    """Return "12 s", "5 min", "3 h" or "40 d", rounded down."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(max(seconds, 0))} s"


def size_text(size: float) -> str:
    """Return "87 MB" or "1.3 GB": two digits or more, in thousands."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def time_text(seconds: float) -> str:
    """Return "under 1 s", "about 12 s", "about 3 min" or "about 1.5 h"."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 99.5:
        return f"about {seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
