"""How many rows of an earlier selection may go, and what that leaves to newcomers.

P are the rows of the earlier selection that may still be kept. A *change* is a row of P that is not
kept; every other row that is kept is a *newcomer*. Let group g have the budget b_g, p_g rows of P
and c_g newcomers. Then ``p_g - b_g + c_g`` of its rows of P go, so at most N rows of P go if

    sum_g max(0, c_g - free_g) <= spare,    free_g = max(0, b_g - p_g),
                                            spare = N - sum_g max(0, p_g - b_g).

The first free_g newcomers of a group take no row's place, each one more takes the place of one row
of P. A greedy selection therefore ends within N changes if newcomers of g stop being candidates
once its free places and all spare ones are taken: rows of P always suffice for the rest, and no
newcomer is refused while one more of them could be afforded. Without groups that is one cap on
newcomers: ``budget - (p - N)``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.stages.groups import Groups


@dataclass(frozen=True, eq=False)
class ChangeLimit:
    """The places that newcomers may take.

    Attributes
    ----------
    earlier : bool array, shape (n,)
        The rows of P; all others are newcomers.
    free : tuple of int
        Of each group, newcomers that take no row's place.
    spare : int
        Newcomers beyond these, of any group.
    """

    earlier: NDArray[np.bool_]
    free: tuple[int, ...]
    spare: int

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
        """Return the limit as compiled loops take it."""
        return self.earlier.astype(np.uint8), np.array(self.free, dtype=np.int64), self.spare

    def places(self) -> "Places":
        """Return the places, none of them taken."""
        return Places(self.earlier, list(self.free), self.spare)


@dataclass(eq=False)
class Places:
    """The places that are left to newcomers while rows are picked."""

    earlier: NDArray[np.bool_]
    free: list[int]
    spare: int

    def take(self, row: int, group: int) -> bool:
        """Take the place that a row needs, which one of P does not; return whether there is one."""
        if self.earlier[row]:
            return True
        if self.free[group] > 0:
            self.free[group] -= 1
        elif self.spare > 0:
            self.spare -= 1
        else:
            return False
        return True


def mark_earlier(previous: NDArray[np.int64], candidate: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return P as a mask (n,): rows of an earlier selection that are candidates.

    Raises
    ------
    InputError
        If one of them is no row.
    """
    n = len(candidate)
    outside = (previous < 0) | (previous >= n)
    if outside.any():
        raise InputError(
            f"row {previous[outside][0]} of the previous selection is not one of {n:,} rows"
        )
    earlier = np.zeros(n, dtype=np.bool_)
    earlier[previous] = True
    return earlier & candidate


def limit_changes(
    earlier: NDArray[np.bool_],
    max_changes: int,
    groups: Groups,
    budgets: list[int],
    included: NDArray[np.int64],
) -> ChangeLimit:
    """Divide the places for newcomers.

    Parameters
    ----------
    earlier : bool array, shape (n,)
        The rows of P.
    max_changes : int
        N.
    groups : Groups
        Over the same rows.
    budgets : list of int
        Rows to keep of each group.
    included : int64 array
        Rows that are kept in any case.

    Raises
    ------
    ParameterError
        If more rows of P have to go: they and the included newcomers do not fit the budgets.
    """
    of_p = np.bincount(groups.codes[earlier], minlength=groups.n_groups)
    named = included[~earlier[included]]
    new = np.bincount(groups.codes[named], minlength=groups.n_groups)
    room = np.array(budgets, dtype=np.int64) - of_p
    least = int(np.maximum(new - room, 0).sum())
    if least > max_changes:
        beside = f" beside {len(named):,} included ones" if len(named) else ""
        whose = "the budgets of the groups leave" if groups.n_groups > 1 else "the budget leaves"
        raise ParameterError(
            f"max-changes is {max_changes:,}, but {whose} room for {int(of_p.sum()) - least:,} of "
            f"{int(of_p.sum()):,} rows of the previous selection{beside}: "
            f"at least {least:,} {'change is' if least == 1 else 'changes are'} needed",
            hint=f"--max-changes {least} is the least that goes with this budget; "
            "a lower --rate keeps more rows",
        )
    return ChangeLimit(
        earlier,
        tuple(np.maximum(room, 0).tolist()),
        max_changes - int(np.maximum(-room, 0).sum()),
    )
