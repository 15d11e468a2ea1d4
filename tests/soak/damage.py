"""Ways in which bytes are damaged on disks, on wires and by hand."""

import numpy as np

EDGE = 256  # bytes at either end of a file, where headers and footers are
NUMBERS = (0, 1, 2, 127, 128, 255, 1 << 15, (1 << 16) - 1, 1 << 20, (1 << 31) - 1, 1 << 31)
LARGE = ((1 << 32) - 1, 1 << 40, (1 << 62) + 7, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 40)


def damaged(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done to the bytes, and the bytes, which differ from ``data``."""
    while True:
        how = WAYS[int(rng.integers(len(WAYS)))]
        after = how(data, rng)
        if after != data:
            return how.__name__.removeprefix("_"), after


def _place(data: bytes, rng: np.random.Generator, *, edge: bool | None = None) -> int:
    """Return a place in the bytes; every other one near either end."""
    if edge or (edge is None and rng.random() < 0.5):
        near = int(rng.integers(min(EDGE * int(rng.integers(1, 9)), len(data))))
        return near if rng.random() < 0.4 else len(data) - 1 - near
    return int(rng.integers(len(data)))


def _bit_flip(data: bytes, rng: np.random.Generator) -> bytes:
    after = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 8]))):
        after[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(after)


def _block(data: bytes, rng: np.random.Generator, filling: bytes) -> bytes:
    start = _place(data, rng)
    stop = min(start + int(rng.choice([1, 4, 16, 64, 512])), len(data))
    return data[:start] + filling * (stop - start) + data[stop:]


def _zeroed_block(data: bytes, rng: np.random.Generator) -> bytes:
    return _block(data, rng, b"\0")


def _filled_block(data: bytes, rng: np.random.Generator) -> bytes:
    return _block(data, rng, b"\xff")


def _truncation(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: _place(data, rng)]


def _extension(data: bytes, rng: np.random.Generator) -> bytes:
    more = rng.bytes(int(rng.integers(1, 64)))
    return data + (more, data, b"\0" * 4096)[int(rng.integers(3))]


def _lost_slice(data: bytes, rng: np.random.Generator) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + int(rng.choice([1, 4, 64])) :]


def _repeated_slice(data: bytes, rng: np.random.Generator) -> bytes:
    start = _place(data, rng)
    return data[: start + int(rng.choice([1, 4, 64]))] + data[start:]


def _edited_end(data: bytes, rng: np.random.Generator) -> bytes:
    """Put another number into the header or the footer."""
    width = int(rng.choice([1, 2, 4, 8]))
    number = int(rng.choice(np.array([*NUMBERS, *LARGE], dtype=object))) % (1 << 8 * width)
    start = max(min(_place(data, rng, edge=True), len(data) - width), 0)
    return data[:start] + number.to_bytes(width, "little") + data[start + width :]


def _edited_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Put another byte for a digit, bracket or quote."""
    places = [at for at in range(len(data)) if data[at] in b'0123456789[]{}",:.-']
    if not places:
        return data
    at = places[int(rng.integers(len(places)))]
    return data[:at] + bytes([b'0919-e.,"[]{}\n\0'[int(rng.integers(15))]]) + data[at + 1 :]


WAYS = (
    _bit_flip,
    _bit_flip,
    _zeroed_block,
    _filled_block,
    _truncation,
    _extension,
    _lost_slice,
    _repeated_slice,
    _edited_end,
    _edited_end,
    _edited_text,
)
