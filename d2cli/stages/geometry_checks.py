"""Checks of the cloud of vectors as a whole: equal rows, dead axes, few directions, lengths."""

import math

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.defects import count_rows
from d2cli.stages.soundness import Survey
from d2cli.stages.space import SearchSpace
from d2cli.stages.verdicts import SHOWN_ROWS, Check, passed, warned

REPEATED = 0.01  # share of rows: more than slips through; somebody repeated them on purpose
CONSTANT_AXES = 0.1  # share of axes: more than dead units leave in a model that works
# Directions: with fewer, one of them decides alone who is near.
LEAST_DIRECTIONS = 2.0
WIDTH_A_DIRECTION = 4  # narrow vectors need not have more than one for every four axes
DIRECTION_ROWS = 1000  # that directions are counted on
# Standard deviation of the lengths over their mean: at 0.3 the longest tenth of the rows is twice
# as long as the shortest, so l2 looks for rows of like length.
LENGTH_SPREAD = 0.3
ROUNDED_LENGTHS = 0.002  # spread that unit vectors have by the rounding of float16
NATURAL_SPREADS = 2.0  # and so many times what directions without any length of their own show


def check_repeated(leaders: NDArray[np.int32], codes: NDArray[np.int32] | None) -> Check:
    """Check how many rows repeat the vector of another, and whether their labels agree.

    Parameters
    ----------
    leaders : int32 array, shape (m,)
        For each row a number from 0; equal rows share one, and none is left out.
    codes : int32 array, shape (m,), or None
        The class of each row.
    """
    n_sound = len(leaders)
    repeats = n_sound - int(leaders.max(initial=-1) + 1)
    conflicts = None if codes is None else _conflicts(leaders, codes) if repeats else 0
    figures = {"repeats": repeats, "share": repeats / n_sound, "conflicts": conflicts}
    if not repeats:
        return passed("exact-duplicates", "no two rows are equal", **figures)
    found = f"{count_rows(repeats)} ({_percent(repeats / n_sound)}) equal to an earlier one"
    if conflicts:
        found += f"; different labels in {conflicts:,} of such groups"
        advice = "equal rows with different labels: at least one of them is wrong; look at them"
        return warned("exact-duplicates", found, advice, **figures)
    if conflicts == 0:
        found += ", always with the same label"
    if repeats > REPEATED * n_sound:
        advice = "drop repeats first, unless they stand for weights"
        return warned("exact-duplicates", found, advice, **figures)
    return passed("exact-duplicates", found, **figures)


def _conflicts(leaders: NDArray[np.int32], codes: NDArray[np.int32]) -> int:
    """Return how many vectors have rows with different labels."""
    pairs = np.unique(leaders.astype(np.int64) * (int(codes.max()) + 1) + codes)
    return int((np.bincount(pairs // (int(codes.max()) + 1)) > 1).sum())


def check_axes(survey: Survey) -> Check:
    """Check how many axes have the same value in all rows."""
    constant = survey.constant
    count, width = int(constant.sum()), len(constant)
    first = np.flatnonzero(constant)[:SHOWN_ROWS].tolist()
    figures = {"constant": count, "width": width, "first_axes": first}
    if not count:
        return passed("constant-axes", f"all {width:,} axes vary", **figures)
    found = f"{count:,} of {width:,} axes have the same value in all rows"
    if count > CONSTANT_AXES * width:
        advice = "look whether the export or the model broke; if not, drop them"
        return warned("constant-axes", found, advice, **figures)
    return passed("constant-axes", found, **figures)


def count_directions(space: SearchSpace, *, seed: int) -> float:
    """Return the participation ratio ``tr(C)**2 / tr(C**2)`` of the covariance C of a sample.

    1 if all variance lies in one direction, d if it is the same in all d. Both traces are unbiased:
    ``tr(C**2)`` is the mean square of products between different rows.

    Parameters
    ----------
    space : SearchSpace
    seed : int
        Of a sample of at most 1,000 rows.

    Returns
    -------
    float
        At least 1 and at most d; 1 if there is no variance.
    """
    size = min(DIRECTION_ROWS, space.n_places)
    sample = np.random.default_rng(seed).choice(space.n_places, size, replace=False)
    points = space.block(np.sort(sample).astype(np.int32))
    products = points @ points.T
    own = np.diagonal(products).astype(np.float64)
    spread = float(own.mean())
    squares = float(np.einsum("ij,ij->", products, products, dtype=np.float64))
    off = (squares - float(own @ own)) / max(size * (size - 1), 1)
    if not spread > 0 or not off > 0:
        return 1.0
    return float(min(max(spread**2 / off, 1.0), space.dim))


def check_directions(directions: float, survey: Survey) -> Check:
    """Check whether the variance lies in more than one or two directions."""
    width = len(survey.variance)
    total = float(survey.variance.sum())
    widest = int(survey.variance.argmax())
    share = float(survey.variance[widest]) / total if total > 0 else 1.0
    figures = {"directions": directions, "width": width, "widest": widest, "widest_share": share}
    found = f"as many as {directions:.1f} directions of equal spread, in {width:,} axes"
    if directions < min(LEAST_DIRECTIONS, width / WIDTH_A_DIRECTION):
        if share > 0.5:
            found += f"; axis {widest} has {_percent(share)} of the variance"
        return warned(
            "effective-rank", found, "a few axes decide who is near: scale or drop them", **figures
        )
    return passed("effective-rank", found, **figures)


def check_lengths(survey: Survey, metric: str, directions: float) -> Check:
    """Check whether lengths spread so much that l2 compares little else.

    The lengths of points that spread alike in m directions vary by ``1 / sqrt(2 m)`` by themselves.
    """
    lengths = survey.lengths[survey.lengths > 0]
    mean = float(lengths.mean()) if len(lengths) else 0.0
    spread = float(lengths.std()) / mean if mean > 0 else 0.0
    natural = 1 / math.sqrt(2 * directions)
    figures = {"mean": mean, "spread": spread, "natural_spread": natural}
    found = f"length {mean:.3g} on average, spread {_percent(spread)}"
    if spread < ROUNDED_LENGTHS:
        return passed("norm-spread", f"all rows have length {mean:.3g}", **figures)
    if metric == "cosine":
        return passed("norm-spread", f"{found}; cosine leaves it out", **figures)
    if metric == "mahalanobis":
        return passed("norm-spread", f"{found}, before whitening", **figures)
    if spread > max(LENGTH_SPREAD, NATURAL_SPREADS * natural):
        return warned(
            "norm-spread",
            found,
            f"{metric} looks for rows of like length: try --metric cosine",
            **figures,
        )
    return passed("norm-spread", found, **figures)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
