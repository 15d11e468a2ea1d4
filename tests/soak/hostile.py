"""Files made to do harm: refused or escaped, in bounded memory, and nothing of them is run.

``python -m tests.soak.hostile --count 50`` runs a fresh process for each and prints the figures.
"""

import argparse
import functools
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import bombs

BOUND = 400 << 20  # bytes, given with --max-memory
MARKS = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "| a | b |\n|---|---|",
    "[bold]markup[/bold] [/]",
    "\u202ereversed",
    "line\r\nerror: forged",
    "](javascript:alert(1))",
    "&lt;\"'`${x}",
)


@dataclass
class Figures:
    """What came of hostile files; ``failed`` has a line for each that did harm."""

    count: int = 0
    peak: int = 0
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.count:,} hostile inputs: {len(self.failed)} did harm, "
            f"peak memory {self.peak / BOUND:.2f} of the bound"
        )


class Harm:
    """What a pickle would do when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("harm", "w")


def _npy(shape: object, dtype: str = "<f4", data: bytes = b"\0" * 64) -> bytes:
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + data


def _zip(members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _pickled() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Harm(), Harm()], dtype=object), allow_pickle=True)
    return out.getvalue()


def _safetensors(header: bytes, declared: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if declared is None else declared) + header + b"\0" * 64


def _tensor(shape: list[int], offsets: list[int]) -> bytes:
    return json.dumps({"v": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()


def _parquet(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def _more_rows(data: bytes) -> bytes:
    """Let a Parquet footer declare 2^40 rows where it declares 77."""
    more = b"\x80\x80\x80\x80\x80\x80\x40"  # zigzag of 2^41
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    edited = footer.replace(b"\x16\x9a\x01", b"\x16" + more)
    assert edited != footer
    return data[: -8 - len(footer)] + edited + struct.pack("<I", len(edited)) + b"PAR1"


def _vectors(n: int, width: int) -> pa.Table:
    zeros = pa.array(np.zeros(n * width, np.float32))
    return pa.table({"v": pa.FixedSizeListArray.from_arrays(zeros, width)})


GRAPH = "graph {} -k 3 -o out.parquet --max-memory 400M"
PLAIN = "check {} --max-memory 400M"
LABELS = "graph {} -e v --within label -k 3 -o out.parquet --max-memory 400M"
CHECKED = "check {} -e v --labels label --max-memory 400M"
TERA = 1 << 40


def files() -> list[tuple[str, Callable[[], bytes]]]:
    """Return names and makers of files that have to be refused."""
    code = "__import__('os').system('touch harm')"
    rows = _vectors(77, 4)
    return [
        ("pickle.npy", _pickled),
        ("bare.npy", lambda: pickle.dumps(Harm())),
        ("pickle.npz", lambda: _zip({"v.npy": _pickled()})),
        ("code.npy", lambda: _npy(code)),
        ("type.npy", lambda: _npy("(4, 4)", code)),
        ("tera.npy", lambda: _npy((TERA, 4))),
        ("wide.npy", lambda: _npy((2, TERA))),
        ("overflow.npy", lambda: _npy((1 << 62, 1 << 62))),
        ("negative.npy", lambda: _npy((-1, 4))),
        ("deep.npy", lambda: _npy("(" * 5000 + ")" * 5000)),
        ("tera.npz", lambda: _zip({"v.npy": _npy((TERA, 4))})),
        ("wide.npz", lambda: _zip({"v.npy": _npy((2, TERA))})),
        ("outside.npz", lambda: _zip({"../../harm.npy": _npy((TERA, 2)), "/harm.npy": b""})),
        ("nested.npz", lambda: _zip({"v.npy": _zip({"v.npy": _npy((4, 4))})})),
        ("tera.safetensors", lambda: _safetensors(_tensor([TERA, 4], [0, TERA * 16]))),
        ("back.safetensors", lambda: _safetensors(_tensor([4, 4], [64, 0]))),
        ("short.safetensors", lambda: _safetensors(_tensor([4, 4], [0, 8]))),
        ("header.safetensors", lambda: _safetensors(_tensor([4, 4], [0, 64]), 99_999_999)),
        ("deep.safetensors", lambda: _safetensors(b'{"a":' * 9000)),
        ("rows.parquet", lambda: _more_rows(_parquet(rows))),
        ("footer.parquet", lambda: b"PAR1" + b"\xff" * 64 + struct.pack("<I", 1 << 31) + b"PAR1"),
        ("tera.arrow", lambda: b"\xff\xff\xff\xff" + struct.pack("<i", (1 << 31) - 1) + b"\0" * 64),
        ("deep.jsonl", lambda: b'{"v": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
        ("keys.jsonl", lambda: b'{"v": [1e999, 1]}\n'),
        ("line.csv", lambda: b"a" * (1 << 20) + b"\n" + b"1\n"),
        ("array.npz", bombs.npz_array),
        ("header.npz", bombs.npz_header),
        ("lz4.arrow", lambda: bombs.arrow("lz4")),
        ("zstd.arrow", lambda: bombs.arrow("zstd")),
        ("lying.arrow", bombs.lying_arrow),
    ]


def labelled() -> list[tuple[str, Callable[[], bytes]]]:
    """Return names and makers of files whose labels have to be refused."""
    return [
        ("value-zstd.parquet", lambda: bombs.long_value("zstd")),
        ("prefix.parquet", bombs.repeated_prefix),
        *(
            (f"{called}-{codec}.parquet", functools.partial(make, codec))
            for codec in ("zstd", "gzip", "snappy", "brotli")
            for called, make in (("text", bombs.repeated_text), ("lying", bombs.lying_page))
        ),
    ]


def harm_of(number: int) -> tuple[str, int]:
    """Run the hostile file of a number; return what harm it did, or "", and the peak memory."""
    plain, others = files(), labelled()
    made = plain + others
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if number % (len(made) + len(MARKS)) >= len(made):
            return _marked(folder, MARKS[number % (len(made) + len(MARKS)) - len(made)])
        called, make = made[number % (len(made) + len(MARKS))]
        (folder / called).write_bytes(make())
        lines = (GRAPH, PLAIN) if (called, make) in plain else (LABELS, CHECKED)
        line = lines[number // (len(made) + len(MARKS)) % 2].format(called)
        code, _out, err, peak = _run(folder, line.split())
        left = {path.name for path in folder.iterdir()} - {called, "cache"}
        harm = _trouble(code, err, peak)
        if not harm and code not in (2, 3, 5):
            harm = f"exit {code}"
        if not harm and left:
            harm = f"left {left}"
        return (f"d2 {line}: {harm}: {err[-200:]}" if harm else ""), peak


def _trouble(code: int, err: str, peak: int) -> str:
    if code < 0 or code in (1, 124):
        return f"exit {code}"
    if "Traceback" in err or "Warning:" in err:
        return "traceback"
    return f"{peak:,} bytes of memory" if peak > 1.5 * BOUND else ""


def _marked(folder: Path, mark: str) -> tuple[str, int]:
    """Put a mark into ids, labels, texts, names of columns and of the file; look for it in all."""
    rng = np.random.default_rng(3)
    n = 60
    table = pa.table(
        {
            "id": [f"{mark}{i}" for i in range(n)],
            "v": rng.normal(size=(n, 4)).tolist(),
            mark: rng.normal(size=n),
            "label": [mark * (1 + i % 2) for i in range(n)],
            "text": [f"{mark} {i}" for i in range(n)],
        }
    )
    source = "".join(c for c in mark if c not in "/\0") + ".parquet"
    pq.write_table(table, folder / source)
    peak = 0
    start = ["prune", source, "--difficulty", mark, "--harder", "high", "--rate", "0.5", "-k", "3"]
    more = ["--group", "label", "--show", "text"]
    for line in (
        [*start, *more, "-o", "keep.parquet", "--report", "report.html"],
        [*start, *more, "-o", "keep.parquet", "--report", "report.md"],
        ["explain", "keep.parquet", f"{mark}7", "--source", source, "--show", "text"],
        ["check", source, "--difficulty", mark, "--labels", "label"],
        ["prune", source, "--difficulty", "none of " + mark, "--rate", "0.5"],
        ["graph", mark + "/none.npy"],
    ):
        code, out, err, used = _run(folder, line)
        peak = max(peak, used)
        harm = _trouble(code, err, used)
        if not harm and any(c in out + err for c in "\x1b\x07\u202e\r"):
            harm = "control characters"
        if not harm and any(said.startswith("error: forged") for said in (out + err).splitlines()):
            harm = "a forged line"
        if harm:
            return f"{mark!r}: d2 {line}: {harm}: {err[-300:]}", peak
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8") if (folder / name).exists() else ""
        if not text or any(bad in text for bad in ("<script>alert", "<img src=x", "\x1b")):
            return f"{mark!r}: {name} {'has it as it is' if text else 'is missing'}", peak
    return "", peak


def _run(folder: Path, line: list[str]) -> tuple[int, str, str, int]:
    """Run d2 in a process of its own: exit code, output, messages and its peak memory."""
    code = (
        "import sys\n"
        "from d2cli.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n"
        "    peak = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "    open('peak', 'w').write(str(int(peak) * 1024))\n"
    )
    environment = {**os.environ, "D2_CACHE_DIR": "cache", "PYTHONPATH": str(Path.cwd())}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *line],
            cwd=folder, env=environment, capture_output=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, "", "took longer than 60 seconds", 0
    peak = folder / "peak"
    used = int(peak.read_text()) if peak.exists() else 0
    peak.unlink(missing_ok=True)
    out, err = (data.decode(errors="replace") for data in (done.stdout, done.stderr))
    return done.returncode, out, err, used


def run_hostile(count: int) -> Figures:
    """Run so many hostile files, each kind in turn."""
    figures = Figures()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for harm, peak in pool.map(harm_of, range(count)):
            figures.count += 1
            figures.peak = max(figures.peak, peak)
            if harm:
                figures.failed.append(harm)
                print(harm, file=sys.stderr, flush=True)
    return figures


def main() -> int:
    """Run as many as asked for, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    figures = run_hostile(parser.parse_args().count)
    print(figures)
    return 1 if figures.failed else 0


if __name__ == "__main__":
    sys.exit(main())
