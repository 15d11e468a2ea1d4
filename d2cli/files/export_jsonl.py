"""Rows as JSON lines."""

import base64
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from d2cli.errors import InputError

ROWS_AT_ONCE = 1024  # as Python objects, which are much larger


def write_jsonl(
    write: Callable[[bytes], Any],
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    where: str,
) -> None:
    """Write one JSON object a row, with all columns in their order.

    NaN and infinity, which JSON does not have, become null; bytes become base64; dates, times and
    decimals become text.

    Raises
    ------
    InputError
        If two columns have one name, or a value has no text.
    """
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise InputError(
            f"{where}: has several columns called '{twice[0]}', which JSON lines cannot have"
        )
    for batch in batches:
        plain = pa.RecordBatch.from_arrays(
            [_readable(column) for column in batch.columns], names=schema.names
        )
        for start in range(0, plain.num_rows, ROWS_AT_ONCE):
            try:
                rows = plain.slice(start, ROWS_AT_ONCE).to_pylist()
                lines = "".join(f"{_line(row)}\n" for row in rows).encode()
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{where}: a row cannot be written as JSON: {error}",
                    hint="export it as Parquet instead",
                ) from error
            write(lines)


def _readable(column: pa.Array) -> pa.Array:
    """Return points in time as text, exactly; other columns as they are."""
    types = pa.types
    if types.is_timestamp(column.type) or types.is_time(column.type):
        return column.cast(pa.string())
    return column


def _line(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=_text)
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=_text)


def _finite(value: Any) -> Any:  # noqa: ANN401
    """Return the same value with None for every number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _text(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, np.generic | np.ndarray):
        return _finite(value.tolist())
    return str(value)
