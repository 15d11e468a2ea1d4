"""Sizes and durations as text, and sizes from text."""

import re

from d2cli.errors import ParameterError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
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
