"""Do distances mean anything here? Checks on the neighbours of a sample of rows.

Neighbours are found exactly: those of a sample among all rows, and, for hubs, those of all rows of
a smaller set. Equal rows count as one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.scan import exact_index
from d2cli.stages.space import SearchSpace, build_space, take_rows
from d2cli.stages.verdicts import Check, passed, warned

LEAST_ROWS = 20  # different rows, below which neighbours say nothing
QUERIES = 1000  # rows whose neighbours are looked at: shares are known to 1.6 points or better
HUB_ROWS = 5000  # of the graph on which hubs are counted; more cost time and change little
SHUFFLES = 99  # the highest of so many is passed by chance once in a hundred times

# A neighbour is far nearer than usual below this share of the median distance to the nearest row.
# Points spread evenly in m dimensions have 1 - 2**-(0.2**m) of such rows: 0.1 % in four.
FAR_NEARER = 0.2
NEAR_REPEATED = 0.02  # share of rows, beyond what points spread evenly have
# In-degree skewness. A random graph has 0.3; points spread evenly reach 2 in twenty dimensions.
# Beyond 3 a few rows gather the messages of many.
HUB_SKEWNESS = 3.0
EQUIDISTANT = 0.9  # nearest over any row: beyond it all rows are about equally far
BEYOND_CHANCE = 0.05  # of what is possible: less than one neighbour in twenty


@dataclass(frozen=True, eq=False)
class Nearby:
    """The nearest rows of a sample of rows.

    Attributes
    ----------
    rows : int64 array, shape (q,)
        The sample, ascending; their vectors differ.
    neighbors : int64 array, shape (q, k)
        Rows, nearest first.
    nearest : float64 array, shape (q,)
        Distance to the nearest row with another vector.
    anywhere : float
        Median distance between two rows of the sample.
    """

    rows: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    nearest: NDArray[np.float64]
    anywhere: float

    @property
    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All pairs of a row and a neighbour: two arrays of rows, (q * k,) each."""
        return np.repeat(self.rows, self.neighbors.shape[1]), self.neighbors.ravel()


def look_nearby(
    space: SearchSpace,
    k: int,
    *,
    seed: int,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> Nearby:
    """Find the neighbours of a seeded sample of 1,000 places among all places.

    Parameters
    ----------
    space : SearchSpace
        Of more than k places.
    k : int
    seed : int
    n_threads, on_progress
        See `d2cli.stages.parallel`; results do not depend on them.
    """
    rng = np.random.default_rng(seed)
    size = min(QUERIES, space.n_places)
    places = np.sort(rng.choice(space.n_places, size, replace=False)).astype(np.int32)
    neighbors, distances = exact_index(space).search(
        places, k, n_threads=n_threads, on_progress=on_progress
    )
    rows = space.rows[places]
    points = take_rows(space.vectors, rows, space.room).astype(np.float64)
    apart = points - points[rng.permutation(size)]
    if space.measure == "l1":
        between = np.abs(apart).sum(axis=1)
    else:
        between = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    anywhere = float(np.median(between[between > 0])) if between.any() else 0.0
    return Nearby(rows, space.rows[neighbors], distances[:, 0].astype(np.float64), anywhere)


def count_links(
    space: SearchSpace,
    k: int,
    *,
    seed: int,
    n_threads: int = 1,
    on_progress: Progress = no_progress,
) -> NDArray[np.int64]:
    """Return how many rows of a sample list each of them among their k nearest in the sample.

    Parameters
    ----------
    space : SearchSpace
    k : int
    seed : int
        Of the sample of at most 5,000 places.

    Returns
    -------
    int64 array, shape (m,)
        In-degrees; their mean is k.
    """
    rng = np.random.default_rng([seed, 1])
    size = min(HUB_ROWS, space.n_places)
    rows = np.sort(rng.choice(space.n_places, size, replace=False))
    smaller = build_space(
        space.vectors,
        space.rows[rows],
        n_threads=n_threads,
        room=space.room,
        measure=space.measure,
    )
    everyone = np.arange(size, dtype=np.int32)
    neighbors, _ = exact_index(smaller).search(
        everyone, k, n_threads=n_threads, on_progress=on_progress
    )
    return np.bincount(neighbors[neighbors >= 0], minlength=size).astype(np.int64)


def skewness(values: NDArray[Any]) -> float:
    """Return the third central moment over the second's power 1.5; 0 for equal values."""
    away = values - values.mean()
    second = float((away**2).mean())
    return float((away**3).mean()) / second**1.5 if second > 0 else 0.0


def check_near_repeats(near: Nearby, width: int) -> Check:
    """Check how many rows have a neighbour far nearer than is usual.

    Parameters
    ----------
    near : Nearby
    width : int
        Axes of a vector.
    """
    usual = float(np.median(near.nearest))
    close = near.nearest < FAR_NEARER * usual
    share = float(close.mean())
    natural = 1 - 2.0 ** -(FAR_NEARER**width)
    # Three standard errors; rows that are nearest to each other count as one.
    error = 3 * math.sqrt(2 * natural * (1 - natural) / len(close))
    figures = {
        "share": share,
        "sample": len(close),
        "first_rows": near.rows[close][:3].tolist(),
        "median_distance": usual,
    }
    found = (
        f"{_percent(share)} of {len(close):,} sampled rows have a row nearer than "
        f"{FAR_NEARER * usual:.3g}, a fifth of the usual {usual:.3g}"
    )
    if share > NEAR_REPEATED + natural + error:
        advice = (
            f"look at such rows, as row {figures['first_rows'][0]}: if copies, keep one of each"
        )
        return warned("near-duplicates", found, advice, **figures)
    return passed("near-duplicates", found, **figures)


def check_contrast(near: Nearby) -> Check:
    """Check whether the nearest row is nearer than any row."""
    usual = float(np.median(near.nearest))
    ratio = usual / near.anywhere if near.anywhere > 0 else 1.0
    figures = {"nearest": usual, "anywhere": near.anywhere, "ratio": ratio}
    found = f"the nearest row is {_percent(ratio)} as far as a random row"
    if ratio > EQUIDISTANT:
        advice = "all rows are about equally far: try another embedding, or fewer axes (PCA)"
        return warned("contrast", found, advice, **figures)
    return passed("contrast", found, **figures)


def check_hubs(links: NDArray[np.int64]) -> Check:
    """Check whether a few rows are the neighbours of many.

    Parameters
    ----------
    links : int64 array, shape (m,)
        In-degrees, as `count_links` returns them.
    """
    skew = skewness(links)
    nobody = float((links == 0).mean())
    figures = {
        "skewness": skew, "share_without_links": nobody, "most_links": int(links.max()),
        "sample": len(links),
    }  # fmt: skip
    found = (
        f"in-degree skewness {skew:.1f} on {len(links):,} rows; the largest hub has "
        f"{int(links.max()):,} links, {_percent(nobody)} have none"
    )
    if skew > HUB_SKEWNESS:
        advice = "hubs gather the messages of many: subtract the mean vector, then --metric cosine"
        return warned("hubness", found, advice, **figures)
    return passed("hubness", found, **figures)


@dataclass(frozen=True)
class BesideChance:
    """A figure of the edges, and the same with values shuffled among the rows.

    Attributes
    ----------
    value : float
    chance : float
        Mean over the shuffles.
    highest : float
        Of the shuffles.
    """

    value: float
    chance: float
    highest: float

    @property
    def gain(self) -> float:
        """How far the value is from chance to 1; 0 at chance."""
        return (self.value - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0

    @property
    def means_something(self) -> bool:
        """Whether the value is beyond all shuffles, and by more than a trifle."""
        return self.value > self.highest and self.gain > BEYOND_CHANCE

    @property
    def figures(self) -> dict[str, float]:
        """All of it as JSON values."""
        return {
            "value": self.value, "chance": self.chance, "highest_of_shuffles": self.highest,
            "gain": self.gain,
        }  # fmt: skip


def _beside_chance(
    near: Nearby,
    values: NDArray[Any],
    measure: Callable[[NDArray[Any], NDArray[Any]], float],
    seed: int,
) -> BesideChance:
    """Measure values (n,) along edges, and again with those of the rows involved shuffled."""
    left, right = near.edges
    involved, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    left, right = places[: len(left)], places[len(left) :]
    own = values[involved]
    rng = np.random.default_rng([seed, 2])
    shuffled = [
        measure((mixed := rng.permutation(own))[left], mixed[right]) for _ in range(SHUFFLES)
    ]
    return BesideChance(
        measure(own[left], own[right]), float(np.mean(shuffled)), float(np.max(shuffled))
    )


def label_agreement(near: Nearby, codes: NDArray[np.int32], *, seed: int) -> BesideChance:
    """Return the share of neighbours with the row's own label.

    Parameters
    ----------
    near : Nearby
    codes : int32 array, shape (n,)
        The class of every row.
    seed : int
        Of the 99 shuffles.
    """
    return _beside_chance(near, codes, lambda a, b: float((a == b).mean()), seed)


def edge_correlation(near: Nearby, difficulty: NDArray[np.float64], *, seed: int) -> BesideChance:
    """Return the correlation, along edges, of the ranks of difficulty.

    Parameters
    ----------
    near : Nearby
    difficulty : float64 array, shape (n,)
        Of all rows; ranks are those among the rows involved, equal values share one.
    seed : int
        Of the 99 shuffles.
    """
    involved = np.unique(np.concatenate(near.edges))
    ranks = np.zeros(len(difficulty))
    ranks[involved] = rank_values(difficulty[involved])
    return _beside_chance(near, ranks, correlation, seed)


def rank_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of values (n,) from 0; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return ranks


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of two arrays (m,); 0 where one does not vary."""
    x, y = a - a.mean(), b - b.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else 0.0


def check_label_agreement(found: BesideChance) -> Check:
    """Check whether neighbours share labels more often than chance."""
    text = (
        f"{_percent(found.value)} of neighbors share the label, {_percent(found.chance)} by chance"
    )
    if found.means_something:
        return passed("label-agreement", text, **found.figures)
    advice = "distances say nothing about labels: try another embedding, or check the row order"
    return warned("label-agreement", text, advice, **found.figures)


def check_edge_correlation(found: BesideChance) -> Check:
    """Check whether neighbours are alike in difficulty."""
    text = (
        f"neighbors' difficulty correlates by {round(found.value, 2) + 0.0:.2f}, "
        f"shuffled by at most {round(found.highest, 2) + 0.0:.2f}"
    )
    if found.means_something:
        return passed("difficulty-on-edges", text, **found.figures)
    advice = (
        "distances say nothing about difficulty, so messages carry noise: check that rows match "
        "(--id), try another embedding or score"
    )
    return warned("difficulty-on-edges", text, advice, **found.figures)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
