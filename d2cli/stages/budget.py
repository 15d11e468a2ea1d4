"""Budgets of groups: exact totals, largest remainders, nothing beyond what a group can give."""

from collections.abc import Sequence

from d2cli.errors import ParameterError


def share_out(budget: int, weights: Sequence[int], most: Sequence[int]) -> list[int]:
    """Divide a budget by weight.

    Every share is its exact quota rounded down; what is left goes, one each, to the largest
    remainders (equal ones: the earlier group). What a group cannot take is divided among the
    others in the same way.

    Parameters
    ----------
    budget : int
        Not more than ``sum(most)``.
    weights : sequence of int
        Not negative.
    most : sequence of int
        The most that each can take.

    Returns
    -------
    list of int
        Adds up to ``budget``; no share above its ``most``.
    """
    shares = [0] * len(weights)
    free = [g for g in range(len(weights)) if most[g] > 0]
    left = budget
    while left:
        # Groups of weight 0 take a share only when nobody else can.
        sharing = [g for g in free if weights[g]] or free
        total = sum(weights[g] for g in sharing)
        weight = {g: weights[g] for g in sharing} if total else dict.fromkeys(sharing, 1)
        total = total or len(sharing)
        full = [g for g in sharing if left * weight[g] > most[g] * total]
        if full:
            for g in full:
                shares[g] = most[g]
                left -= most[g]
            free = [g for g in free if g not in set(full)]
            continue
        remainders = []
        for g in sharing:
            shares[g], remainder = divmod(left * weight[g], total)
            remainders.append((-remainder, g))
        extra = left - sum(shares[g] for g in sharing)
        for _, g in sorted(remainders)[:extra]:
            shares[g] += 1
        left = 0
    return shares


def group_budgets(
    budget: int,
    *,
    names: Sequence[str],
    rows: Sequence[int],
    available: Sequence[int],
    included: Sequence[int],
    balance: str,
) -> list[int]:
    """Give every group its number of rows to keep.

    Parameters
    ----------
    budget : int
        Rows to keep in all.
    names : sequence of str
        Of the groups, for messages.
    rows : sequence of int
        Rows of each group in the input: the weights of "proportional".
    available : sequence of int
        Rows of each group that may be kept, included ones among them.
    included : sequence of int
        Rows of each group that must be kept.
    balance : {"proportional", "uniform"}

    Returns
    -------
    list of int
        Adds up to ``budget``.

    Raises
    ------
    ParameterError
        If there are fewer rows available than the budget, or more included than a group's budget.
    """
    if budget > sum(available):
        raise ParameterError(
            f"{budget:,} rows are to be kept, but only {sum(available):,} may be",
            hint="raise --rate, exclude fewer rows, or cut fewer: --prune-hardest 0 "
            "(of `d2 score` and `d2 prune`) cuts none",
        )
    if sum(included) > budget:
        raise ParameterError(
            f"{sum(included):,} included rows, but {budget:,} rows are to be kept",
            hint="lower --rate or include fewer rows",
        )
    weights = rows if balance == "proportional" else [1] * len(rows)
    shares = share_out(budget, weights, available)
    for name, share, must in zip(names, shares, included, strict=True):
        if must > share:
            raise ParameterError(
                f"{must:,} included rows of group '{name}', whose budget is {share:,}",
                hint="lower --rate, include fewer of its rows, or leave out --group",
            )
    return shares
