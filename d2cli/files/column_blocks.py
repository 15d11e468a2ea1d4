"""Columns batch by batch, each batch checked before the next is read; see `d2cli.files.columns`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.arrays import ArraySource
from d2cli.files.blocks import arrow_blocks
from d2cli.files.columns import NO_NULLS, ColumnRef, VectorDefects, plain_type, storage
from d2cli.files.damage import reading
from d2cli.stages.defects import Defect


def vector_blocks(ref: ColumnRef) -> Iterator[NDArray[Any]]:
    """Yield vectors as (b, d), in their own type.

    Raises
    ------
    InputError
        If a row is null, holds a null or differs in width; names the first such row of the batch.
    """
    defects, start = VectorDefects(), 0
    for batch in _batches(ref):
        with reading(ref.where):
            values = storage(batch)
            values.validate(full=True)
        block = defects.check(start, values)
        defects.refuse(ref.where)
        start += len(batch)
        if block is not None:
            yield block


def number_blocks(ref: ColumnRef) -> Iterator[NDArray[np.float64]]:
    """Yield numbers as float64 (b,).

    Raises
    ------
    InputError
        If a row is null, NaN or infinite; names the first such row of the batch.
    """
    start = 0
    for part in _without_nulls(ref):
        numbers = part.to_numpy(zero_copy_only=False).astype(np.float64)
        for what, bad in (("is NaN", np.isnan(numbers)), ("is infinite", np.isinf(numbers))):
            defect = Defect(what, "every row needs a finite difficulty; drop or mend these rows")
            defect.add(start, bad)
            defect.refuse(ref.where)
        start += len(part)
        yield numbers


def id_blocks(ref: ColumnRef) -> Iterator[pa.Array]:
    """Yield ids as int64 or large_string.

    Raises
    ------
    InputError
        If a row is null, or ids are neither integers nor strings.
    """
    for part in _without_nulls(ref):
        ids = plain_type(part, ref)
        if not (pa.types.is_large_string(ids.type) or pa.types.is_int64(ids.type)):
            raise InputError(f"{ref.where}: ids are {ids.type}, expected strings or integers")
        yield ids


def _without_nulls(ref: ColumnRef) -> Iterator[pa.Array]:
    start = 0
    for batch in _batches(ref):
        with reading(ref.where):
            part = storage(batch)
            part.validate(full=True)  # of text, that it is UTF-8
            if pa.types.is_dictionary(part.type):
                part = part.dictionary_decode()
        null = Defect("is null", NO_NULLS)
        null.add(start, np.asarray(part.is_null()))
        null.refuse(ref.where)
        start += len(part)
        yield part


def _batches(ref: ColumnRef) -> Iterator[pa.Array]:
    """Yield a column; arrays in blocks, not at once."""
    source, name = ref.source, ref.column.name
    array = source.array(name) if isinstance(source, ArraySource) else None
    yield from source.batches(name) if array is None else arrow_blocks(array)
