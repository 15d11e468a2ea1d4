"""Files of some kilobytes that unpack to more than the memory allowed."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LARGE = 700 << 20  # bytes, most of which are never touched here
ROWS = 2000


def _zeros() -> np.ndarray:
    return np.zeros(LARGE, np.uint8)


def _table(labels: pa.Array) -> pa.Table:
    vectors = np.random.default_rng(1).normal(size=(len(labels), 4)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4)
    fields = [pa.field("v", lists.type), pa.field("label", labels.type, nullable=False)]
    return pa.table([lists, labels], schema=pa.schema(fields))


def _parquet(labels: pa.Array, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(_table(labels), out, store_schema=False, write_statistics=False, **options)
    return out.getvalue()


def long_value(codec: str) -> bytes:
    """Return a Parquet file with a page of 700 MB, of one long text and many empty ones."""
    texts = _zeros()  # each begins with its length, and so the empty ones are zeros
    texts[:4] = np.array([LARGE - 4 * ROWS], "<u4").view(np.uint8)
    return _with_page(codec, LARGE, pa.Codec(codec).compress(pa.py_buffer(texts), asbytes=True))


def lying_page(codec: str) -> bytes:
    """Return a Parquet file with a page of 10 KB that says to unpack to 2 GB."""
    return _with_page(codec, (1 << 31) - 1, None)


def repeated_text(codec: str) -> bytes:
    """Return a Parquet file with one text of 64 KB in its dictionary, for 60,000 rows."""
    codes = pa.array(np.zeros(60_000, np.int32))
    texts = pa.DictionaryArray.from_arrays(codes, pa.array(["x" * (1 << 16)]))
    return _parquet(texts, compression=codec)


def repeated_prefix() -> bytes:
    """Return a Parquet file of 12,000 texts of 64 KB, each said to begin as the one before."""
    size, n = 1 << 16, LARGE >> 16
    offsets = pa.py_buffer(np.arange(0, (n + 1) * size, size, dtype=np.int64))
    texts = pa.Array.from_buffers(pa.large_string(), n, [None, offsets, pa.py_buffer(_zeros())])
    lists = {"v.list.element": "PLAIN", "label": "DELTA_BYTE_ARRAY"}
    return _parquet(texts, use_dictionary=False, column_encoding=lists, compression="zstd")


def _varint(number: int) -> bytes:
    """Return a number as Thrift's compact protocol has it: zigzag, seven bits a byte."""
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    number = shift = 0
    while data[at] > 127:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return (number | data[at] << shift) >> 1, at + 1


def _with_page(codec: str, size: int, body: bytes | None) -> bytes:
    """Return a Parquet file whose last page has another size, unpacked, and another body."""
    texts = pa.array([f"text {i * i}" for i in range(ROWS)])
    whole = _parquet(texts, compression=codec, use_dictionary=False)
    meta = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(0).column(1)
    start, held = meta.data_page_offset, meta.total_compressed_size
    footer = whole[-8 - int.from_bytes(whole[-8:-4], "little") : -8]
    page = whole[start : start + held]
    # The type of the page (0, data), its size unpacked, its size packed: three numbers.
    assert page.startswith(b"\x15\x00\x15")
    _, at = _read_varint(page, 3)
    packed, at = _read_varint(page, at + 1)
    rest, old_body = page[at : held - packed], page[held - packed :]
    body = old_body if body is None else body
    page = b"\x15\x00\x15" + _varint(size) + b"\x15" + _varint(len(body)) + rest + body
    old, new = b"\x16" + _varint(held), b"\x16" + _varint(len(page))
    place = footer.index(old, footer.rindex(b"label"))
    footer = footer[:place] + new + footer[place + len(old) :]
    return whole[:start] + page + footer + struct.pack("<I", len(footer)) + b"PAR1"


def arrow(codec: str) -> bytes:
    """Return an Arrow file with a compressed buffer of 700 MB."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(_zeros().view(np.float32)), 64)
    table = pa.table({"v": lists})
    out, options = io.BytesIO(), pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_file(out, table.schema, options=options) as writer:
        writer.write_table(table)
    return out.getvalue()


def lying_arrow() -> bytes:
    """Return an Arrow file with a small compressed buffer that says to unpack to 1 TB."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4000, np.float32)), 4)
    table = pa.table({"v": lists})
    out, options = io.BytesIO(), pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(out, table.schema, options=options) as writer:
        writer.write_table(table)
    data = out.getvalue()
    said = struct.pack("<q", 16_000)
    assert data.count(said + b"\x28\xb5\x2f\xfd") == 1  # before the first bytes of zstd
    return data.replace(said + b"\x28", struct.pack("<q", 1 << 40) + b"\x28")


def _npz(header: bytes) -> bytes:
    """Return an NPZ archive with an array of a header, and 700 MB of zeros in 700 KB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("v.npy", head + block * (LARGE >> 20) + packer.flush())
    data = bytearray(out.getvalue())
    for place, method in ((0, 8), (data.rindex(b"PK\x01\x02"), 10)):
        struct.pack_into("<H", data, place + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", data, place + method + 14, len(header) + LARGE)
    return bytes(data)


def npz_header() -> bytes:
    """Return an NPZ archive whose array has a header of 700 MB."""
    return _npz(b"\x93NUMPY\x02\x00" + struct.pack("<I", LARGE))


def npz_array() -> bytes:
    """Return an NPZ archive with an array of 700 MB."""
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 64), }\n" % (LARGE >> 8)
    return _npz(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
