"""Soundness of vectors: every defect that a search would refuse, found in one pass over all rows.

The same pass measures lengths and axes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.room import IN_MEMORY, Room
from d2cli.stages.vectors import (
    BLOCK_ROWS,
    SMALLEST,
    SMALLEST_DIFFERENCE,
    SPREAD_THEM,
    TOO_ALIKE,
    Vectors,
    as_vectors,
    largest_value,
    vector_type,
)
from d2cli.stages.verdicts import Check, failed, marked_rows, passed, warned
from d2cli.stages.whitening import fit_whitening

LONGEST = 1.8e19  # the square of a greater length does not fit into float32
ROUNDING = 1e-6  # of an axis' largest value: a spread below it is float32 rounding of a constant


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over vectors (n, d) found.

    Attributes
    ----------
    nan, infinite, large, zero : bool array, shape (n,)
        Rows with such values, or with nothing but zeros. Rows that were not looked at have none.
    lengths : float64 array, shape (n,)
        Euclidean norms of the rows that are finite and not too large; 0 for the others.
    mean, variance : float64 array, shape (d,)
        Of each axis over those rows.
    low, high : float64 array, shape (d,)
        Smallest and largest value of each axis over those rows.
    n_finite : int
        So many rows these are.
    """

    nan: NDArray[np.bool_]
    infinite: NDArray[np.bool_]
    large: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    lengths: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_finite: int

    def refused(self, metric: str) -> NDArray[np.bool_]:
        """Return the rows that a search by this metric refuses, (n,)."""
        bad = self.nan | self.infinite | self.large
        return bad | self.zero if metric == "cosine" else bad

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Axes whose values are all the same, or so but for rounding, (d,)."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        return self.high - self.low <= ROUNDING * size


def survey_vectors(
    vectors: NDArray[Any],
    wanted: NDArray[np.bool_],
    *,
    metric: str = "l2",
    room: Room = IN_MEMORY,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Survey:
    """Look at every wanted row, block by block.

    Parameters
    ----------
    vectors : array of numbers, shape (n, d)
        As stored; at least one row and one column.
    wanted : bool array, shape (n,)
        Rows to look at.
    metric : str
        Decides which values are too large.
    room : Room
        Where the vectors live.
    n_threads, on_progress
        See `d2cli.stages.parallel`; results do not depend on them.
    """
    n, width = vectors.shape
    wide = vector_type(vectors.dtype)
    starts = range(0, n, BLOCK_ROWS)
    nan, infinite, large, zero = (np.zeros(n, dtype=np.bool_) for _ in range(4))
    lengths = np.zeros(n)
    counts = np.zeros(len(starts), dtype=np.int64)
    sums, squares = np.zeros((len(starts), width)), np.zeros((len(starts), width))
    low, high = np.full((len(starts), width), np.inf), np.full((len(starts), width), -np.inf)

    most = largest_value(width, metric)

    def look(i: int) -> Iterator[int]:
        part = slice(starts[i], min(starts[i] + BLOCK_ROWS, n))
        block = np.asarray(vectors[part], dtype=wide)
        look_at = wanted[part]
        with np.errstate(all="ignore"):
            peaks = np.abs(block).max(axis=1).astype(np.float64)  # NaN where any value is
        nan[part] = np.isnan(peaks) & look_at
        infinite[part] = np.isinf(peaks) & look_at
        large[part] = (peaks > most) & ~np.isinf(peaks) & look_at
        zero[part] = (peaks == 0) & look_at
        finite = look_at & (peaks <= most)
        if finite.any():
            sound = block if finite.all() else block[finite]
            counts[i] = len(sound)
            low[i], high[i] = sound.min(axis=0), sound.max(axis=0)
            sums[i] = sound.sum(axis=0, dtype=np.float64)
            # Squares about the block's own mean: a common offset would cost them their digits.
            away = sound - sums[i] / counts[i]
            squares[i] = np.einsum("ij,ij->j", away, away)
            lengths[part][finite] = _lengths(sound, peaks[finite])
        room.have_read(vectors, vectors[part])
        yield part.stop - part.start

    run_tasks(
        [look(i) for i in range(len(starts))],
        n_threads=n_threads,
        phase="checking vectors",
        total=n,
        on_progress=on_progress,
    )
    total = max(int(counts.sum()), 1)
    mean = sums.sum(axis=0) / total
    between = (sums / np.maximum(counts, 1)[:, None] - mean) ** 2 * counts[:, None]
    variance = (squares.sum(axis=0) + between.sum(axis=0)) / total
    ends = (low.min(axis=0), high.max(axis=0)) if counts.any() else (mean, mean)
    return Survey(nan, infinite, large, zero, lengths, mean, variance, *ends, int(counts.sum()))


def _lengths(block: NDArray[Any], peaks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the norms of finite rows; divided by their peaks, so that no square overflows."""
    scaled = block / np.where(peaks > 0, peaks, 1)[:, None]
    norms: NDArray[np.float64] = peaks * np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    return norms


def sound_vectors(
    vectors: NDArray[Any],
    sound: NDArray[np.bool_],
    metric: str,
    *,
    room: Room = IN_MEMORY,
    seed: int = 0,
    n_threads: int = 1,
) -> Vectors:
    """Bring vectors into the form that searches work on.

    Rows that are not sound get the values of the first that is.

    Parameters
    ----------
    vectors : array of numbers, shape (n, d)
    sound : bool array, shape (n,)
        Rows that `as_vectors` takes; at least one.
    metric : {"l2", "cosine", ...}
    room : Room
        Where the result is put if it is a copy.
    seed : int
        Of the rows that a whitening is fitted to; with the default shrinkage.
    n_threads : int
        Does not change the result.
    """
    how: Any = {"room": room, "n_threads": n_threads}
    if not sound.all():
        vectors = _mended(vectors, sound, metric, room)
        how["overwrite"] = True
    if metric == "mahalanobis":
        plain = as_vectors(vectors, "l2", room=room)
        rows = np.flatnonzero(sound)
        how["whitening"] = fit_whitening(plain, rows=rows, seed=seed, room=room)
    return as_vectors(vectors, metric, **how)


def _mended(
    vectors: NDArray[Any], sound: NDArray[np.bool_], metric: str, room: Room
) -> NDArray[Any]:
    """Return vectors with the first sound one in place of those that are not."""
    codes = metric == "hamming" and vectors.dtype == np.uint8
    kind = np.uint8 if codes else vector_type(vectors.dtype)
    mended = room.rows((vectors.shape[0], vectors.shape[1]), kind)
    first = vectors[int(sound.argmax())]
    for start in range(0, len(vectors), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        mended.append(np.where(sound[part][:, None], vectors[part], first))
        room.have_read(vectors, vectors[part])
    return mended.finish()


def check_values(survey: Survey, dtype: np.dtype[Any], metric: str) -> list[Check]:
    """Return the checks of single values: NaN, infinities, magnitudes, zero vectors.

    Parameters
    ----------
    survey : Survey
    dtype : dtype
        Of the vectors as stored.
    metric : {"l2", "cosine"}
    """
    mend = "drop or mend these rows"
    overflow = "; float16 ends at 65,504, so store larger values as float32"
    checks = [
        _none_of(
            "infinities",
            survey.infinite,
            "infinite values",
            mend + (overflow if dtype == np.float16 else ""),
        ),
        _magnitudes(survey, metric),
        _zero_vectors(survey, metric),
    ]
    return [_none_of("nan", survey.nan, "NaN", mend), *checks]


def _none_of(name: str, marks: NDArray[np.bool_], what: str, advice: str) -> Check:
    text, figures = marked_rows(marks)
    if figures["count"]:
        return failed(name, f"{what} in {text}", advice, **figures)
    return passed(name, f"no {what}", **figures)


def _magnitudes(survey: Survey, metric: str) -> Check:
    text, figures = marked_rows(survey.large)
    if figures["count"]:
        return failed(
            "magnitudes",
            f"values above {largest_value(len(survey.low), metric):.3g} in {text}",
            "divide the vectors by a constant",
            **figures,
        )
    largest = float(np.maximum(np.abs(survey.low), np.abs(survey.high)).max())
    figures["largest"] = largest
    if 0 < largest < SMALLEST:
        return failed(
            "magnitudes",
            f"no value is above {SMALLEST:g}",
            "multiply the vectors by a constant",
            **figures,
        )
    apart = float(np.maximum(survey.high - survey.mean, survey.mean - survey.low).max())
    if metric in ("l2", "l1", "ip") and 0 < apart < SMALLEST_DIFFERENCE:
        return failed("magnitudes", TOO_ALIKE, SPREAD_THEM, **figures)
    if float(survey.lengths.max(initial=0.0)) > LONGEST:
        text, marked = marked_rows(survey.lengths > LONGEST)
        return warned(
            "magnitudes",
            f"the largest value is {largest:.3g}; squared lengths overflow float32 in {text}",
            "d2 takes them, much else does not: look at these rows, or divide by a constant",
            **{**figures, **marked},
        )
    return passed("magnitudes", f"the largest value is {largest:.3g}", **figures)


def _zero_vectors(survey: Survey, metric: str) -> Check:
    text, figures = marked_rows(survey.zero)
    if not figures["count"]:
        return passed("zero-vectors", "no row is all zeros", **figures)
    found = f"nothing but zeros in {text}"
    if metric == "cosine":
        return failed(
            "zero-vectors", found, "drop these rows, or use --metric l2: zero has no direction",
            **figures,
        )  # fmt: skip
    return warned(
        "zero-vectors", found, "look whether their embedding failed; if so, drop them", **figures
    )
