"""CSV, TSV and JSON lines as sources, for scores, labels and ids; read in blocks, twice.

The first pass finds the types and the number of rows, the second one reads a column. In CSV a
column is of integers, booleans or decimals if all its values are, else of strings; ``id`` and
``uid`` are strings. Empty lines are no rows, but in a file of one column, where each is a row
without a value. JSON lines keep the types that they are written in.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import InputError
from d2cli.files.column import Column, Header
from d2cli.files.damage import reading
from d2cli.files.digests import parse_json
from d2cli.files.tables import columns_of, header_of, width_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
IDS = ("id", "uid")
BLOCK_BYTES = 4 << 20
EMPTY = ["", "#N/A", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"]  # where numbers are expected
BOOLEANS = ["true", "True", "TRUE", "false", "False", "FALSE"]
HINT = "text is read by its ending: .csv and .tsv with a header, .jsonl with an object in each line"

Text = Callable[[], IO[bytes]]  # opens the text at its beginning
Native = Callable[[], Any]  # what pyarrow opens: a path or a buffer


@dataclass
class TextSource:
    """A table in a text file, read from the first row to the last.

    ``read`` yields one column, ``read_rows`` batches of all columns that have a name.
    """

    name: str
    schema: pa.Schema
    n_rows: int
    read: Callable[[str], Iterator[pa.Array]]
    read_rows: Callable[[pa.Schema], Iterator[pa.RecordBatch]]
    columns: dict[str, Column] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = columns_of(self.schema)
        self.columns.pop("", None)  # what has no name, such as the index that pandas writes

    def batches(self, column: str) -> Iterator[pa.Array]:
        """Yield the column in blocks."""
        with reading(self.name):
            yield from self.read(column)

    @property
    def row_schema(self) -> pa.Schema:
        """The columns of whole rows: those with a name."""
        return pa.schema([field for field in self.schema if field.name])

    @property
    def twice(self) -> str | None:
        """The first name that several columns have, so that there are no whole rows."""
        names = self.row_schema.names
        return next((name for name in names if names.count(name) > 1), None)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield whole rows in blocks."""
        schema = self.row_schema
        with reading(self.name):
            yield from self.read_rows(schema)

    def array(self, column: str) -> NDArray[Any] | None:
        """Return None: a table has no arrays."""
        return None

    def header(self, column: str) -> Header:
        """Return rows and type of a list column."""
        return header_of(self.schema.field(column).type, self.n_rows)

    def width(self, column: str) -> int:
        """Return the width of a list column."""
        return width_of(self.schema.field(column).type, self.batches(column))


def open_text_table(name: str, text: Text, native: Native) -> TextSource:
    """Open text by its ending.

    Parameters
    ----------
    name : str
        Ends in one of `SUFFIXES`.
    text, native : callable
        Open it for Python and for pyarrow.

    Raises
    ------
    InputError
        If there is no header, rows differ in length, or a column mixes types; names the line.
    """
    if name.lower().endswith((".jsonl", ".ndjson")):
        return _open_json(name, text)
    return _open_csv(name, text, native, "\t" if name.lower().endswith(".tsv") else ",")


def header_names(name: str, text: Text) -> list[str]:
    """Return the names in the first line of a CSV or TSV file."""
    with text() as raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t" if name.lower().endswith(".tsv") else ",")
        return next((row for row in rows if row), [])


# --- CSV ------------------------------------------------------------------------------------------


def _open_csv(name: str, text: Text, native: Native, delimiter: str) -> TextSource:
    names = header_names(name, text)
    if not names or all(re.fullmatch(r"\s*-?[0-9.]+(?:e[-+]?[0-9]+)?\s*", cell) for cell in names):
        found = f"'{names[0]}'" if names else "nothing"
        raise InputError(
            f"{name}: the first line begins with {found}, expected the names of the columns",
            hint="put a line with a name for each column before the rows",
        )

    lone = len(names) == 1  # then an empty line is a row without a value
    before = _lines_before_names(text, delimiter) if lone else 0

    def blocks(only: list[str], types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        from pyarrow import csv as native_csv  # slow to load, and mostly not needed

        texts = not only or pa.types.is_large_string(types[only[0]])
        try:
            yield from native_csv.open_csv(
                native(),
                read_options=native_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, skip_rows=before
                ),
                parse_options=native_csv.ParseOptions(
                    delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=not lone
                ),
                convert_options=native_csv.ConvertOptions(
                    column_types=types,
                    include_columns=only,
                    # A text may well be "NA"; nothing at all is a missing value.
                    null_values=[""] if texts else EMPTY,
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return  # a header alone, without an end of line
            raise _csv_error(name, text, delimiter, str(error), lone=lone) from error

    kinds, n_rows = _csv_types(names, blocks([], dict.fromkeys(names, pa.large_string())))
    schema = pa.schema(list(zip(names, kinds, strict=True)))

    def read(column: str) -> Iterator[pa.Array]:
        kind = schema.field(column).type
        for block in blocks([column], {column: kind}):
            yield block.column(0)

    def read_rows(wanted: pa.Schema) -> Iterator[pa.RecordBatch]:
        # What counts as missing differs between texts and others; the blocks are the same.
        types = dict(zip(wanted.names, wanted.types, strict=True))
        texts = [name for name in types if pa.types.is_large_string(types[name])]
        others = [name for name in types if name not in texts]
        parts = [blocks(part, {name: types[name] for name in part}) for part in (texts, others)
                 if part]  # fmt: skip
        for found in zip(*parts, strict=True):
            columns = {name: batch.column(name) for batch in found for name in batch.schema.names}
            yield pa.RecordBatch.from_arrays([columns[name] for name in types], schema=wanted)

    return TextSource(name, schema, n_rows, read, read_rows)


def _csv_types(names: list[str], blocks: Iterator[pa.RecordBatch]) -> tuple[list[pa.DataType], int]:
    """Return the type of every column, the first that fits all its values, and the rows."""
    possible = [[] if name in IDS else [pa.int64(), pa.bool_(), pa.float64()] for name in names]
    seen, n_rows = [False] * len(names), 0
    for block in blocks:
        n_rows += block.num_rows
        for at, kinds in enumerate(possible):
            if kinds:
                values = _present(block.column(at))
                seen[at] = seen[at] or len(values) > 0
                possible[at] = [kind for kind in kinds if _fits(values, kind)]
    return [
        (kinds[0] if some else pa.null()) if kinds else pa.large_string()
        for kinds, some in zip(possible, seen, strict=True)
    ], n_rows


def _present(texts: pa.Array) -> pa.Array:
    """Return what is there where a number is expected, without spaces around it."""
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(texts.drop_null())
    return texts.filter(pc.invert(pc.is_in(texts, pa.array(EMPTY, texts.type))))


def _fits(texts: pa.Array, kind: pa.DataType) -> bool:
    import pyarrow.compute as pc

    if pa.types.is_boolean(kind):
        return bool(pc.all(pc.is_in(texts, pa.array(BOOLEANS, texts.type)), min_count=0).as_py())
    try:
        texts.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _lines_before_names(text: Text, delimiter: str) -> int:
    """Return how many empty lines stand before the names of the columns."""
    with text() as raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as lines:
        rows = enumerate(csv.reader(lines, delimiter=delimiter))
        return next((at for at, cells in rows if cells), 0)


def _csv_error(name: str, text: Text, delimiter: str, message: str, *, lone: bool) -> InputError:
    """Return pyarrow's error with the line in place of the row, which is not the same."""
    found = re.search(r"Row #([0-9]+): (.*)", message)
    if not found:
        return InputError(f"{name}: cannot be read: {message.splitlines()[0]}", hint=HINT)
    what = found[2][:1].lower() + found[2][1:]
    line = _line_of(text, delimiter, int(found[1]), lone=lone)
    return InputError(f"{name}: line {line}: {what}", hint="mend or drop this line")


def _line_of(text: Text, delimiter: str, row: int, *, lone: bool) -> int:
    """Return the line that a row ends in; rows may span lines, and empty lines are none.

    For a ``lone`` column they count, those before its name too.
    """
    with text() as raw, io.TextIOWrapper(raw, "utf-8", errors="replace", newline="") as lines:
        rows = csv.reader(lines, delimiter=delimiter)
        try:
            for cells in rows:
                row -= bool(cells) or lone
                if not row:
                    return rows.line_num
        except csv.Error:
            pass
    return rows.line_num


# pyarrow's parser calls itself for each level, and the process ends where the stack does.
DEEP = re.compile(rb'(?:[\[{]\s*(?:"[^"\\]{0,99}"\s*:\s*)?){200}')
LINE_END = b"\n"


# --- JSON lines -----------------------------------------------------------------------------------


def _open_json(name: str, text: Text) -> TextSource:
    schema, n_rows = pa.schema([]), 0
    for line, block in _line_blocks(text):
        if deep := DEEP.search(block):
            at = line + block.count(LINE_END, 0, deep.start()) + 1
            raise InputError(
                f"{name}: line {at}: is nested too deeply",
                hint="mend or drop this line",
            )
        table = _parse(name, line, block, None)
        n_rows += table.num_rows
        found = pa.schema([_as_written(column) for column in table.schema])
        try:
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{name}: from line {line + 1} on a column has another type: {reason}",
                hint="a column needs one type in all lines",
            ) from error

    def read(column: str) -> Iterator[pa.Array]:
        only = pa.schema([schema.field(column)])
        for line, block in _line_blocks(text):
            yield from _parse(name, line, block, only).column(0).chunks

    def read_rows(wanted: pa.Schema) -> Iterator[pa.RecordBatch]:
        for line, block in _line_blocks(text):
            yield from _parse(name, line, block, wanted).to_batches()

    return TextSource(name, schema, n_rows, read, read_rows)


def _as_written(column: pa.Field) -> pa.Field:
    """Return a field without guesses: a text that looks like a time stays a text."""
    return column.with_type(pa.string()) if pa.types.is_timestamp(column.type) else column


def _line_blocks(text: Text) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, a few megabytes at a time, and the number of lines before them."""
    line = 0
    with text() as lines:
        while block := lines.read(BLOCK_BYTES):
            block += lines.readline()
            yield line, block
            line += block.count(b"\n")


def _parse(name: str, line: int, block: bytes, schema: pa.Schema | None) -> pa.Table:
    """Parse lines of JSON; with a schema, only its columns."""
    from pyarrow import json as native_json

    full = [at for at, row in enumerate(block.split(b"\n")) if row.strip()]
    if not full:
        return (schema or pa.schema([])).empty_table()
    try:
        table = native_json.read_json(
            pa.BufferReader(block),
            read_options=native_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=native_json.ParseOptions(
                explicit_schema=schema,
                unexpected_field_behavior="infer" if schema is None else "ignore",
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _json_error(name, line, block, str(error)) from error
    if table.num_rows != len(full):
        raise InputError(f"{name}: has {table.num_rows} values in {len(full)} lines", hint=HINT)
    return table


def _json_error(name: str, line: int, block: bytes, message: str) -> InputError:
    """Return the error with the line: pyarrow's row, or the first line that is no object."""
    rows = [(at, row) for at, row in enumerate(block.split(b"\n")) if row.strip()]
    for at, row in rows:
        try:
            value = parse_json(row)
        except ValueError as error:
            reason = str(error)
            if isinstance(error, json.JSONDecodeError):
                reason = error.msg
            elif isinstance(error, UnicodeDecodeError):
                reason = "is not UTF-8"
            return InputError(f"{name}: line {line + at + 1}: {reason}", hint=HINT)
        if not isinstance(value, dict):
            return InputError(f"{name}: line {line + at + 1}: is no JSON object", hint=HINT)
    found = re.search(r"^(?:JSON parse error: )?(.*) in row ([0-9]+)", message)
    if not found or int(found[2]) >= len(rows):
        return InputError(f"{name}: cannot be read: {message.splitlines()[0]}", hint=HINT)
    what = found[1][:1].lower() + found[1][1:]
    return InputError(
        f"{name}: line {line + rows[int(found[2])][0] + 1}: {what}",
        hint="a column needs one type in all lines",
    )
