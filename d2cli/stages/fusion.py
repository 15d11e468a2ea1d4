"""Several modalities of the same rows: shares, unit of distance, concatenation.

A modality is one embedding of the rows, such as that of images or of captions. Its share w_m is its
weight divided by the sum of all weights, its bandwidth h_m the median finite, positive distance to
the k nearest neighbours, so that modalities of any width and scale count by their shares. What is
made of them:

- "concat": rows of each modality divided by their length, times ``sqrt(w_m) / h_m``, side by side;
  then an ordinary graph by l2.
- "distance": ``d_ij**2 = sum w_m (d_m,ij / h_m)**2 / sum w_m`` over the modalities that both rows
  have, see `d2cli.stages.fused_distance`.
- "graphs": a graph of each modality, their union, see `d2cli.stages.fused_graphs`.

Modalities are kept in the order of their names, so that the order they are given in decides
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.errors import InputError
from d2cli.stages.defects import Defect, count_rows
from d2cli.stages.room import IN_MEMORY, Room
from d2cli.stages.space import distinct_rows
from d2cli.stages.vectors import BLOCK_ROWS, Vectors, as_vectors


def shares_of(weights: Mapping[str, float | str]) -> dict[str, float]:
    """Return the share of each modality, by name, ascending: weights divided by their sum.

    Weights are taken as the decimals that they are written as, so multiplying all of them by one
    number changes no share.
    """
    exact = {name: Fraction(str(weights[name])) for name in sorted(weights)}
    total = sum(exact.values())
    return {name: float(weight / total) for name, weight in exact.items()}


@dataclass(frozen=True, eq=False)
class Modality:
    """One embedding of some or all of n rows.

    Attributes
    ----------
    name : str
    share : float
        w_m; the shares of all modalities add up to 1.
    vectors : float array, shape (p, d)
        As `as_vectors` returns them.
    rows : int64 array, shape (p,), or None
        The rows that have the modality, ascending; None if all do.
    """

    name: str
    share: float
    vectors: Vectors
    rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.rows is not None and len(self.rows) != len(self.vectors):
            raise ValueError("every row of a modality needs a vector")

    def numbers(self, n_samples: int) -> NDArray[np.int64]:
        """Return for each of n rows the number of its vector, -1 where there is none, (n,)."""
        if self.rows is None:
            return np.arange(n_samples, dtype=np.int64)
        numbers = np.full(n_samples, -1, dtype=np.int64)
        numbers[self.rows] = np.arange(len(self.rows))
        return numbers

    def of(self, rows: NDArray[np.int64], n_samples: int, room: Room) -> "Modality":
        """Return the modality of some of n rows, ascending; they are numbered anew from 0."""
        numbers = self.numbers(n_samples)[rows]
        has = np.flatnonzero(numbers >= 0)
        return Modality(
            self.name,
            self.share,
            room.take(self.vectors, numbers[has]),
            None if len(has) == len(rows) else has.astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class Modalities:
    """Modalities of n rows, ascending by name; a row without any has no neighbours."""

    n_samples: int
    each: tuple[Modality, ...]
    room: Room = field(default=IN_MEMORY)

    def __post_init__(self) -> None:
        names = [one.name for one in self.each]
        if names != sorted(set(names)):
            raise ValueError("modalities have to be different and in the order of their names")

    @property
    def any_of(self) -> NDArray[np.bool_]:
        """Which rows have any modality, (n,)."""
        has = np.zeros(self.n_samples, dtype=np.bool_)
        for one in self.each:
            has[slice(None) if one.rows is None else one.rows] = True
        return has

    @property
    def width(self) -> int:
        """Width of all vectors of a row together."""
        return sum(int(one.vectors.shape[1]) for one in self.each)

    def of(self, rows: NDArray[np.int64]) -> "Modalities":
        """Return the modalities of some rows, ascending; they are numbered anew from 0."""
        if len(rows) == self.n_samples:
            return self
        each = (one.of(rows, self.n_samples, self.room) for one in self.each)
        return Modalities(len(rows), tuple(one for one in each if len(one.vectors)), self.room)

    def places(
        self, *, n_threads: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """Group rows that are equal in all modalities, and lack the same ones.

        Returns
        -------
        places, indptr, members
            As `d2cli.stages.space.distinct_rows` returns them.
        """
        codes = np.full((self.n_samples, len(self.each)), -1, dtype=np.int64)
        for column, one in enumerate(self.each):
            everything = np.arange(len(one.vectors), dtype=np.int64)
            _, indptr, members = distinct_rows(
                one.vectors, everything, n_threads=n_threads, room=self.room
            )
            code = np.empty(len(one.vectors), dtype=np.int64)
            code[members] = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
            codes[slice(None) if one.rows is None else one.rows, column] = code
        _, first, inverse = np.unique(codes, axis=0, return_index=True, return_inverse=True)
        leader = first[inverse.reshape(-1)]  # of each row, the lowest that is equal to it
        rows, place, counts = np.unique(leader, return_inverse=True, return_counts=True)
        members = np.argsort(place, kind="stable").astype(np.int32)
        return (
            rows.astype(np.int64),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            members,
        )


def as_modalities(
    vectors: Mapping[str, ArrayLike],
    shares: Mapping[str, float],
    n_samples: int,
    metric: str,
    *,
    rows: Mapping[str, NDArray[np.int64] | None] | None = None,
    room: Room = IN_MEMORY,
) -> Modalities:
    """Check the vectors of all modalities and bring them into the form that searches work on.

    Parameters
    ----------
    vectors : mapping of str to array, shape (p, d)
    shares : mapping of str to float
        See `shares_of`.
    n_samples : int
        n.
    metric : str
        See `as_vectors`.
    rows : mapping of str to int64 array, shape (p,), or None, optional
        The rows that have a modality, ascending; all n if None or left out.
    room : Room
        Where the vectors live; does not change the result.

    Raises
    ------
    InputError
        If vectors are refused by `as_vectors`, or their number does not fit. Begins with the name
        of the modality.
    """
    each = []
    for name in sorted(vectors):
        have = (rows or {}).get(name)
        try:
            checked = as_vectors(vectors[name], metric, room=room)
        except InputError as error:
            error.message = _by_row(error.message, have)
            raise error.at(name) from None
        expected = n_samples if have is None else len(have)
        if len(checked) != expected:
            raise InputError(f"{name}: has {len(checked):,} rows, expected {expected:,}")
        each.append(Modality(name, shares[name], checked, have))
    return Modalities(n_samples, tuple(each), room)


def _by_row(message: str, rows: NDArray[np.int64] | None) -> str:
    """Name the row of the data in a message about the row of a modality that others lack."""
    start, _, rest = message.partition(" ")
    number, _, end = rest.partition(" ")
    if rows is None or start != "row" or not number.isdigit():
        return message
    return f"row {rows[int(number)]} {end}"


def require_any(rows: Mapping[str, NDArray[np.int64] | None], n_samples: int) -> None:
    """Raise InputError if a row has no modality at all; names the first row and the count.

    Parameters
    ----------
    rows : mapping of str to int64 array, shape (p,), or None
        The rows that have a modality; all n if None.
    """
    if any(have is None for have in rows.values()):
        return
    none = Defect("has no modality at all", "drop these rows, or add a modality that has them")
    has = np.zeros(n_samples, dtype=np.bool_)
    for have in rows.values():
        has[have] = True
    none.add(0, ~has)
    none.refuse()


def require_complete(modalities: Modalities) -> None:
    """Raise InputError if a row lacks a modality; names the first row and the count."""
    for one in modalities.each:
        if one.rows is not None:
            lacking = modalities.n_samples - len(one.rows)
            first = int((one.numbers(modalities.n_samples) < 0).argmax())
            raise InputError(
                f"row {first} has no {one.name} ({count_rows(lacking)} in all), "
                "and concat needs every modality of every row",
                hint="--fusion distance or --fusion graphs takes such rows",
            )


def unit_rows(modalities: Modalities) -> Modalities:
    """Divide all vectors by their length, rounded to float32; those of length 0 stay."""
    each = []
    for one in modalities.each:
        out = np.empty(one.vectors.shape, dtype=np.float32)
        for start in range(0, len(out), BLOCK_ROWS):
            block = one.vectors[start : start + BLOCK_ROWS].astype(np.float64)
            peaks = np.abs(block).max(axis=1, keepdims=True)  # squares of it may overflow
            block /= np.where(peaks > 0, peaks, 1)
            lengths = np.sqrt((block * block).sum(axis=1, keepdims=True))
            out[start : start + BLOCK_ROWS] = block / np.where(lengths > 0, lengths, 1)
        each.append(replace(one, vectors=out))
    return Modalities(modalities.n_samples, tuple(each))


def concatenate(modalities: Modalities, bandwidths: Mapping[str, float]) -> Vectors:
    """Put the modalities side by side, each times ``sqrt(w_m) / h_m``.

    Parameters
    ----------
    modalities : Modalities
        Of unit rows.
    bandwidths : mapping of str to float
        h_m, by name.

    Returns
    -------
    float32 array, shape (n, sum of widths)
        Columns in the order of the names, 0 where a row lacks a modality. Of complete rows, their
        l2 is the fused distance by cosine.
    """
    shape = (modalities.n_samples, modalities.width)
    out = modalities.room.rows(shape, np.float32)
    for start in range(0, modalities.n_samples, BLOCK_ROWS):
        parts = []
        for one in modalities.each:
            number = one.numbers(modalities.n_samples)[start : start + BLOCK_ROWS]
            block = one.vectors[number] * np.float64(np.sqrt(one.share) / bandwidths[one.name])
            parts.append(np.where(number[:, None] >= 0, block, 0.0))
        out.append(np.concatenate(parts, axis=1).astype(np.float32))
    joined: Vectors = out.finish()
    return joined
