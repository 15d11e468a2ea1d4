"""What is told of a row: why it was kept or dropped."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """What a neighbour sent in the forward pass: ``amount = weight * sent``."""

    sender: int
    distance: float
    weight: float
    sent: float
    amount: float


@dataclass(frozen=True)
class Suppression(Message):
    """What a kept neighbour sent when it was picked, to be taken off.

    ``rank`` is that of the sender, ``score_after`` the score that was left.
    """

    rank: int
    score_after: float


@dataclass(frozen=True)
class Contest:
    """The last pick of a row's group, and the score that the row had left just then.

    ``included`` says whether the user named the pick; None where that is not known.
    """

    rank: int
    row: int
    score_at_pick: float
    score_then: float
    included: bool | None


@dataclass(frozen=True)
class Placing:
    """A value among those of many rows: how many are larger, how many smaller, of how many."""

    value: float
    above: int
    below: int
    total: int

    @property
    def rank(self) -> int:
        """1 for the largest; equal values share the best rank."""
        return self.above + 1

    @property
    def share_below(self) -> float:
        """The share of all rows with a smaller value."""
        return self.below / self.total


@dataclass(frozen=True)
class Near:
    """A kept neighbour and its distance."""

    row: int
    distance: float
    rank: int


@dataclass(frozen=True)
class Explanation:
    """All that is known of one row.

    Attributes
    ----------
    row : int
    rank : int or None
        Position among the picks, from 0; None for dropped rows.
    in_pool : bool
        False if a cutoff took the row out before any message was passed.
    included, excluded : bool or None
        Whether the user named the row; None where that is not known.
    difficulty : Placing
        Among all rows.
    score : Placing
        After the forward pass; among the rows of the pool, and for one outside it among them too.
    own : float
        What the row brought into the last round of the forward pass: its difficulty, if there was
        one round.
    forward : tuple of Message
        Of the last round, by ascending sender; none outside the pool.
    forward_sum : float
        Their amounts added up in this order; ``own`` plus it is the score.
    reverse : tuple of Suppression
        In the order of the picks; of a kept row those before it was picked.
    final_score : float
        The score less these amounts: for a kept row that at its pick.
    picked_for : float or None
        What a kept row was picked for; the final score if the method is d2.
    contest : Contest or None
        Of rows that were dropped though they might have been picked, if the group is known and
        something was picked of it.
    passed_over : bool
        It had more than a pick while its group had room: the limit on changes left no place for
        it, or the user excluded it, where that is not known.
    group : int or None
        Number of the row's group; None if it is not known or there are no groups.
    nearest : tuple of Near
        The nearest kept neighbours, at most three, ascending by (distance, row).
    """

    row: int
    rank: int | None
    in_pool: bool
    included: bool | None
    excluded: bool | None
    difficulty: Placing
    score: Placing
    own: float
    forward: tuple[Message, ...]
    forward_sum: float
    reverse: tuple[Suppression, ...]
    final_score: float
    picked_for: float | None
    contest: Contest | None
    passed_over: bool
    group: int | None
    nearest: tuple[Near, ...]

    @property
    def kept(self) -> bool:
        """Whether the row was picked."""
        return self.rank is not None
