"""Checks of labels and of the pruning rate: how many classes, and what each is left with."""

import math

from d2cli.params import rows_kept
from d2cli.stages.groups import Groups
from d2cli.stages.verdicts import Check, failed, passed, warned

MOST_CLASSES = 0.5  # of the rows: more are no classes, but ids or texts
SHOWN_NAME = 40  # characters of a label that a line shows


def check_rate(rate: float, n_rows: int) -> Check:
    """Check that a pruning rate keeps at least one row."""
    kept = rows_kept(rate, n_rows)
    if kept < 1:
        return failed(
            "rate", f"rate {rate:g} of {n_rows:,} rows keeps none", "lower the rate", kept=kept
        )
    return passed("rate", f"rate {rate:g} keeps {kept:,} of {n_rows:,} rows", kept=kept)


def check_classes(labels: Groups, rate: float | None) -> Check:
    """Check how many classes there are, and whether a pruning rate leaves each of them a row.

    Parameters
    ----------
    labels : Groups
        At least one row.
    rate : float or None
    """
    counts = labels.counts()
    n, smallest = len(labels.codes), int(counts.argmin())
    least = int(counts[smallest])
    name = labels.names[smallest]
    name = name if len(name) <= SHOWN_NAME else name[: SHOWN_NAME - 3] + "..."
    most = int(counts.max())
    figures = {"classes": len(counts), "smallest": least, "largest": most}
    sizes = f"{least:,} rows each" if least == most else f"{least:,} to {most:,} rows"
    found = f"{len(counts):,} classes of {sizes}"
    if len(counts) == 1:
        return warned(
            "classes", f"one class only ('{name}')", "name the column of the classes", **figures
        )
    if len(counts) > MOST_CLASSES * n:
        advice = "these look like ids or texts: name the column of the classes"
        return warned("classes", f"{found}, for {n:,} rows", advice, **figures)
    lost = 0 if rate is None else int((counts * (1 - rate) < 1 - 1e-9).sum())
    if lost:
        figures["below_one_row"] = lost
        enough = 1 - 1 / least
        return warned(
            "classes",
            f"{found}; rate {rate:g} leaves {lost:,} of them less than one row",
            f"--group LABELS --balance uniform, or a rate of at most "
            f"{math.floor(100 * enough) / 100:g} for the smallest ('{name}')",
            **figures,
        )
    return passed("classes", found, **figures)
