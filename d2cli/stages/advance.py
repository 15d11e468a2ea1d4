"""One round of a selection on one part: what it goes on from, what it is told, what it finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.stages._rounds import Neighborhood
from d2cli.stages.parts import Part

OUT, OPEN, SETTLED, FRESH = np.arange(4, dtype=np.uint8)  # see `Neighborhood`


@dataclass(frozen=True, eq=False)
class Situation:
    """How a part stands after a round: of its m rows and the h around; see `Neighborhood`."""

    value: NDArray[np.float64]  # (m + h,)
    state: NDArray[np.uint8]  # (m + h,)
    blocker: NDArray[np.int32]  # (m,)


@dataclass(frozen=True, eq=False)
class News:
    """What the round before has changed for a part, elsewhere or by filling groups."""

    places: NDArray[np.int32]  # among its rows and then those around
    value: NDArray[np.float64]
    state: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Found:
    """What a round has changed in a part."""

    decided: NDArray[np.int32]  # places in its rows
    changed: NDArray[np.int32]  # of open rows, the same
    value: NDArray[np.float64]  # scores of the decided, then bounds of the changed


NO_NEWS = News(np.empty(0, np.int32), np.empty(0), np.empty(0, np.uint8))


def advance(
    part: Part,
    before: Situation,
    news: News,
    least: NDArray[np.float64],
    last: NDArray[np.int32],
) -> tuple[Situation, Found]:
    """Decide the rows of a part that can be decided without a look at other parts.

    Parameters
    ----------
    part : Part
    before : Situation
        The values of open rows are up to date with all picks that are not fresh.
    news : News
    least, last : float64 and int32 arrays, one a group
        The bound of each group; rows behind it stay open.

    Returns
    -------
    Situation
        What the next round goes on from.
    Found
    """
    now = Situation(np.array(before.value), np.array(before.state), np.array(before.blocker))
    now.value[news.places], now.state[news.places] = news.value, news.state
    ours = Neighborhood(
        part.indptr,
        part.indices,
        part.weights,
        part.start,
        part.place,
        part.beside_indptr,
        part.beside,
        now.value,
        now.state,
        now.blocker,
    )
    ours.hear(np.flatnonzero(now.state == FRESH).astype(np.int32))
    decided, changed = ours.decide(part.group, least, last)
    return now, Found(decided, changed, now.value[np.concatenate([decided, changed])])
