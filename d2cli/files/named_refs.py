"""What ``-e [NAME=]COLREF[:WEIGHT]`` means.

A text that is a column of SOURCE or the path of a file is a COLREF as it stands. Otherwise what
stands before the first ``=`` is the NAME, if it is made of letters, digits, ``-`` and ``_`` only,
and a number behind the last colon is the WEIGHT, unless that colon is a part of ``::`` or the text
with it is a column or a file. A text behind the last colon that is no number belongs to the column.
An address such as ``s3://...`` is not asked: a number at its end is a weight.
"""

import math
import re
from dataclasses import dataclass

from d2cli.errors import InputError, ParameterError
from d2cli.files.addresses import is_remote
from d2cli.files.colref import resolve
from d2cli.files.column import Source
from d2cli.files.columns import ColumnRef
from d2cli.files.globs import names_files
from d2cli.files.sources import Sources

NAME = re.compile(r"([A-Za-z0-9_-]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class NamedRef:
    """One ``-e``: its text, and what it says.

    Attributes
    ----------
    text : str
    name : str or None
        None where it is left out.
    colref : str
    weight : str
        As it is written; "1" where it is left out.
    """

    text: str
    name: str | None
    colref: str
    weight: str = "1"


def parse(text: str, home: Source | None) -> NamedRef:
    """Take ``[NAME=]COLREF[:WEIGHT]`` apart, see the module.

    Raises
    ------
    ParameterError
        If the weight is not above 0 and finite, or there is no COLREF.
    """
    name, rest = None, text
    if not _stands(text, home) and (found := NAME.fullmatch(text)):
        name, rest = found[1], found[2]
    colref, colon, weight = rest.rpartition(":")
    if not colon or colref.endswith(":") or _stands(rest, home) or not _is_number(weight):
        colref, weight = rest, "1"
    if not colref:
        raise ParameterError(f"embedding '{text}' names no column", hint="say NAME=COLREF:WEIGHT")
    if not 0 < float(weight) < math.inf:
        raise ParameterError(
            f"the weight of embedding '{text}' is {weight}, expected a number above 0",
            hint="leave out an embedding that is to count nothing",
        )
    return NamedRef(text, name, colref, weight)


def _stands(text: str, home: Source | None) -> bool:
    """Return whether a text is a COLREF as it is, by what there is."""
    known = home is not None and text in home.columns
    return known or (names_files(text) and not is_remote(text))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows in numbers


def resolve_named(ref: NamedRef, sources: Sources, home: Source | None) -> ColumnRef:
    """Find the column of an embedding, see `resolve`.

    Raises
    ------
    InputError
        If there is none.
    ParameterError
        If there would be one without what stands where a weight does.
    """
    try:
        return resolve(ref.colref, "embedding", sources, home)
    except InputError:
        before, colon, weight = ref.colref.rpartition(":")
        if not colon or before.endswith(":"):
            raise
        try:
            resolve(before, "embedding", sources, home)
        except InputError:
            pass
        else:
            raise ParameterError(
                f"the weight of embedding '{ref.text}' is '{weight}', expected a number above 0",
                hint="say NAME=COLREF:WEIGHT",
            ) from None
        raise


def colref_alone(text: str, home: Source | None) -> str:
    """Return the COLREF of the only embedding, without a NAME before it."""
    if not has_name(text):
        return text
    named = parse(text, home)
    return text if named.name is None else named.colref


def has_name(text: str) -> bool:
    """Return whether a text looks like ``NAME=...``; it may be a column or file even so."""
    return NAME.fullmatch(text) is not None
