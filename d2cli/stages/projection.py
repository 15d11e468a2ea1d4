"""Principal axes: a narrow stand-in for wide vectors, in which candidates are searched."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.parallel import Progress, no_progress, run_tasks
from d2cli.stages.space import BLOCK_ROWS, SearchSpace

SAMPLE_ROWS = 20_000  # that the axes are fitted to
KEPT_VARIANCE = 0.84
NARROW = 128  # vectors up to this width are searched as they are
WIDEST = 4096  # above it, the covariance costs more than the search saves
FAR_OFF = 100.0  # times the usual squared length: a few such rows would have all axes to themselves
LEAST_SAVING = 0.5  # axes must be at most this share of the width to pay


def principal_axes(space: SearchSpace, *, seed: int) -> NDArray[np.float32] | None:
    """Return the axes that keep 84 % of the variance of a sample, or None if that does not pay.

    Rows more than ten times as far from the centre as usual are left out of the sample.

    Parameters
    ----------
    space : SearchSpace
        Of width d.
    seed : int
        Of the sample of at most 20,000 places.

    Returns
    -------
    float32 array, shape (d, p), or None
        Orthonormal columns, the widest spread first; p is a multiple of 16, at most d / 2. None
        for d up to 128 or above 4,096, and where more axes would be needed.
    """
    if not NARROW < space.dim <= WIDEST:
        return None
    rng = np.random.default_rng(seed)
    size = min(SAMPLE_ROWS, space.n_places)
    sample = np.sort(rng.choice(space.n_places, size, replace=False)).astype(np.int32)
    covariance, lengths = _covariance(space, sample)
    usual = lengths <= FAR_OFF * np.median(lengths)
    if not usual.all():
        covariance, _ = _covariance(space, sample[usual])
    spread, axes = np.linalg.eigh(covariance)
    spread, axes = np.maximum(spread[::-1], 0), axes[:, ::-1]
    total = spread.sum()
    if not total > 0:
        return None
    needed = int(np.searchsorted(np.cumsum(spread), KEPT_VARIANCE * total)) + 1
    width = -(-needed // 16) * 16
    if width > LEAST_SAVING * space.dim:
        return None
    return np.ascontiguousarray(axes[:, :width], dtype=np.float32)


def _covariance(
    space: SearchSpace, sample: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the sum of outer products (d, d) of some places, and their squared lengths (s,)."""
    covariance = np.zeros((space.dim, space.dim))
    lengths = np.empty(len(sample), dtype=np.float32)
    for start in range(0, len(sample), BLOCK_ROWS):
        block = space.block(sample[start : start + BLOCK_ROWS])
        covariance += block.T @ block
        np.einsum("ij,ij->i", block, block, out=lengths[start : start + BLOCK_ROWS])
    return covariance, lengths


def project(
    space: SearchSpace,
    axes: NDArray[np.float32] | None,
    *,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> NDArray[np.float32]:
    """Return the coordinates of all places on the axes, (u, p), or the vectors themselves (u, d).

    Parameters
    ----------
    space : SearchSpace
    axes : float32 array, shape (d, p), or None
    n_threads, on_progress
        See `d2cli.stages.parallel`; results do not depend on them.
    """
    width = space.dim if axes is None else axes.shape[1]
    points = space.room.rows((space.n_places, width), np.float32)

    def fill(start: int) -> Iterator[int]:
        part = slice(start, min(start + BLOCK_ROWS, space.n_places))
        block = space.block(part)
        points.put(start, block if axes is None else block @ axes)
        yield part.stop - part.start

    run_tasks(
        [fill(start) for start in range(0, space.n_places, BLOCK_ROWS)],
        n_threads=n_threads,
        phase="projecting",
        total=space.n_places,
        on_progress=on_progress,
    )
    return points.finish()
