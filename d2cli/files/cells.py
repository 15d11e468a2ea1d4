"""Finished cells of a comparison, each a small file in the cache folder."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ResourceError
from d2cli.files.digests import digest_json, parse_json
from d2cli.files.publish import write_bytes
from d2cli.stages.comparison import Cell


def _pack(bits: NDArray[np.bool_]) -> list[int | str]:
    return [len(bits), base64.b64encode(np.packbits(bits).tobytes()).decode()]


def _unpack(packed: list[Any]) -> NDArray[np.bool_]:
    raw = np.frombuffer(base64.b64decode(packed[1]), np.uint8)
    return np.unpackbits(raw, count=int(packed[0])).astype(np.bool_)


def cell_path(folder: Path, key: str) -> Path:
    """Return the file that holds a cell."""
    return folder / f"cell-{key[:40]}.json"


def read_cell(path: Path) -> Cell | None:
    """Return a finished cell; None if it is absent or damaged, and so to be computed."""
    try:
        found = parse_json(path.read_bytes())
        if found.pop("digest") != digest_json(found):
            return None
        right = {probe: _unpack(bits) for probe, bits in found["right"].items()}
        kept = _unpack(found["kept"])
        return Cell(found["method"], found["rate"], found["seed"], kept, right, found["figures"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def write_cell(path: Path, cell: Cell) -> None:
    """Keep a cell; a cache that cannot be written to is no obstacle."""
    content = {
        "method": cell.method,
        "rate": cell.rate,
        "seed": cell.seed,
        "kept": _pack(cell.kept),
        "right": {probe: _pack(bits) for probe, bits in cell.right.items()},
        "figures": cell.figures,
    }
    try:
        write_bytes(path, json.dumps({**content, "digest": digest_json(content)}).encode())
    except ResourceError:
        return
