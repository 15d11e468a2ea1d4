"""What the footer of a Parquet file says of its column chunks.

Read from the footer itself: pyarrow's own objects for column chunks end the process where a damaged
footer contradicts itself, since the exception that is thrown then has nobody to catch it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from d2cli.footers import I32, I64, LIST, STRUCT, Compact

TAIL_BYTES = 8  # of a file: the length of its footer, and "PAR1"
MOST_GROUPS = 32  # that are looked at: a footer of thousands takes seconds to read
FILE_GROUPS, GROUP_CHUNKS, CHUNK_META = 4, 1, 3  # numbers of fields
PATH, CODEC, VALUES, UNCOMPRESSED_SIZE, DICTIONARY_OFFSET = 3, 4, 5, 6, 11
CODECS = {0: "none", 1: "snappy", 2: "gzip", 3: "lzo", 4: "brotli", 5: "lz4", 6: "zstd", 7: "lz4"}


@dataclass(frozen=True)
class Chunk:
    """One leaf column of one row group.

    Attributes
    ----------
    column : str
        Its column at the top level of the schema.
    codec : str
        In lower case, "none" for none.
    size : int
        Bytes, not compressed.
    values : int
        Numbers or texts, nulls and those of lists among them.
    dictionary : bool
        Whether it has a dictionary.
    """

    column: str = ""
    codec: str = "none"
    size: int = 0
    values: int = 0
    dictionary: bool = False


def read_footer(file: str | pa.NativeFile) -> bytes:
    """Return the metadata at the end of a Parquet file.

    Raises
    ------
    ValueError
        If the file is shorter than it says.
    """
    if isinstance(file, str):
        with pa.OSFile(file) as opened:
            return read_footer(opened)
    end = file.size() - TAIL_BYTES
    length = int.from_bytes(file.read_at(4, end), "little") if end >= 0 else -1
    if not 0 <= length <= end:
        raise ValueError("the file is shorter than its footer says")
    return bytes(file.read_at(length, end - length))


def first_groups(footer_bytes: bytes) -> list[list[Chunk]]:
    """Return the chunks of each of the first row groups, at most `MOST_GROUPS` of them.

    Raises
    ------
    ValueError
        If the footer is damaged.
    """
    footer = Compact(footer_bytes)
    try:
        for field, kind in footer.fields():
            if field == FILE_GROUPS and kind == LIST:
                count, _ = footer.list_header()
                return [list(_group(footer)) for _ in range(min(count, MOST_GROUPS))]
            footer.skip(kind)
    except LookupError as error:
        raise ValueError("the footer ends early") from error
    return []


def _group(footer: Compact) -> Iterator[Chunk]:
    for field, kind in footer.fields():
        if field == GROUP_CHUNKS and kind == LIST:
            count, _ = footer.list_header()
            for _ in range(count):
                yield _chunk(footer)
        else:
            footer.skip(kind)


def _chunk(footer: Compact) -> Chunk:
    chunk = Chunk()
    for field, kind in footer.fields():
        if field == CHUNK_META and kind == STRUCT:
            chunk = _described(footer)
        else:
            footer.skip(kind)
    return chunk


def _described(footer: Compact) -> Chunk:
    path, codec, size, values, dictionary = [b""], 0, 0, 0, False
    for field, kind in footer.fields():
        if (field, kind) == (PATH, LIST):
            count, _ = footer.list_header()
            path = [footer.binary() for _ in range(count)]
        elif (field, kind) == (CODEC, I32):
            codec = footer.integer()
        elif (field, kind) == (VALUES, I64):
            values = footer.integer()
        elif (field, kind) == (UNCOMPRESSED_SIZE, I64):
            size = footer.integer()
        elif (field, kind) == (DICTIONARY_OFFSET, I64):
            dictionary = footer.integer() > 0
        else:
            footer.skip(kind)
    name = path[0].decode(errors="replace") if path else ""
    return Chunk(name, CODECS.get(codec, "none"), max(size, 0), max(values, 0), dictionary)
