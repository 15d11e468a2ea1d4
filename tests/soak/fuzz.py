"""Fuzzing of what reads bytes from outside: ``python -m tests.soak.fuzz --minutes 10``.

Every target takes bytes and raises for what a user must never see: anything but the errors of d2,
or a wrong answer. Its seeds lie in tests/corpus/TARGET, every find among them. The engine is
atheris where it is installed (``pip install atheris``), else the mutations below, from the same
seeds.
"""

import argparse
import contextlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent.parent / "corpus"
LARGEST = 1 << 13  # bytes
GUIDED = "D2_SOAK_GUIDED"
if os.environ.get(GUIDED):
    import atheris  # type: ignore[import-not-found]

    around: Any = atheris.instrument_imports(include=["d2cli", "tomllib"])
else:
    around = contextlib.nullcontext()

with around:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from d2cli import config, footers
    from d2cli.cli import parser
    from d2cli.column_names import column_names
    from d2cli.errors import D2Error, InputError
    from d2cli.files import artifacts, colref
    from d2cli.files.addresses import is_remote
    from d2cli.files.cells import read_cell
    from d2cli.files.columns import ColumnRef, read_labels, read_numbers, read_vectors
    from d2cli.files.digests import canonical_json
    from d2cli.files.entries import list_entries
    from d2cli.files.export_datacomp import subset_of
    from d2cli.files.sources import STDIN, Sources
    from d2cli.files.sweeps import read_settings


@cache
def workplace() -> Path:
    """Return a folder of this process, with a table and an array for COLREFs in it."""
    top = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    _kept.append(top)
    folder = Path(top.name)
    table = {"id": ["a", "b"], "aum": [0.5, 1.5], "v": [[1.0, 2.0], [3.0, 4.0]], "a::b": [1, 2]}
    pq.write_table(pa.table(table), folder / "t.parquet")
    np.save(folder / "s.npy", np.arange(2.0))
    return folder


_kept: list[Any] = []


def _source(ending: str) -> Callable[[bytes], None]:
    """Return a target: a file with these bytes is opened, and all of its columns read."""

    def target(data: bytes) -> None:
        path = workplace() / f"fuzzed{ending}"
        path.write_bytes(data)
        column_names(path)
        with contextlib.suppress(D2Error):
            source = Sources().open(str(path))
            for column in source.columns.values():
                ref = ColumnRef(source, column)
                with contextlib.suppress(D2Error):
                    if column.kind == "vectors":
                        assert read_vectors(ref).ndim == 2  # finite or not: that is checked later
                    elif column.kind == "numbers":
                        assert read_numbers(ref).ndim == 1
                    elif column.kind == "labels":
                        read_labels(ref)

    return target


def footer(data: bytes) -> None:
    """Read column names from the footer of a Parquet file, with its length and magic added."""
    path = workplace() / "footer.parquet"
    path.write_bytes(b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1")
    column_names(path)
    with contextlib.suppress(OSError, ValueError, IndexError, RecursionError):
        for name in footers.parquet_columns(path):
            assert isinstance(name, str)


@cache
def whole_artifact() -> artifacts.Artifact:
    """Return an artifact that is not damaged."""
    return artifacts.seal(
        "scores",
        pa.table({"score": [1.0, 2.0, 3.0]}),
        key="k",
        parameters={"rate": 0.5, "name": "\u00e9"},
        inputs={"graph": "g"},
        results={"pool": 3},
    )


def artifact(data: bytes) -> None:
    """Read an artifact with these metadata: an error, or the artifact that it was."""
    path, whole = workplace() / "artifact.parquet", whole_artifact()
    meta = {artifacts.META: data, artifacts.ROW_ORDER: data}
    pq.write_table(whole.table.replace_schema_metadata(meta), path)
    artifacts.peek_artifact(path)
    for kind in artifacts.MAKERS:
        with contextlib.suppress(D2Error):
            found = artifacts.read_artifact(path, kind)  # type: ignore[arg-type]
            same = [one.meta | {"versions": {}, "digest": ""} for one in (found, whole)]
            assert canonical_json(same[0]) == canonical_json(same[1]), "another artifact"


def reference(data: bytes) -> None:
    """Find what a COLREF means, for every role, with and without a SOURCE."""
    text = os.fsdecode(data.replace(b"\0", b""))
    if is_remote(text) or text.partition("::")[0] == STDIN:
        return
    if text.startswith("/") or ".." in text:
        return  # maybe a walk through all files of this machine
    before = Path.cwd()
    os.chdir(workplace())
    try:
        file, whole = colref.split(text)
        assert whole in (None, text)
        assert text.startswith(file)
        home = Sources().open("t.parquet")
        for role in colref.WANTED:
            for given in (home, None):
                with contextlib.suppress(D2Error):
                    found = colref.resolve(text, role, Sources(), given)
                    assert found.column.kind in colref.WANTED[role]
    finally:
        os.chdir(before)


@cache
def options() -> Any:
    """Return the options of all commands."""
    return parser.options_by_command()


def options_file(data: bytes) -> None:
    """Read a d2.toml, and the same as a table of pyproject.toml."""
    folder = workplace() / "config"
    folder.mkdir(exist_ok=True)
    for name, text in (("d2.toml", data), ("pyproject.toml", b"[tool.d2]\n" + data)):
        (folder / name).write_bytes(text)
        with contextlib.suppress(D2Error):
            config.defaults_of(options(), {}, folder)
            assert all(len(line.splitlines()) == 1 for line in config.lines_of_taken())
        (folder / name).unlink()


def uids(data: bytes) -> None:
    """Turn lines into a subset of DataComp; the first byte says how many rows come before."""
    lines = data[1:].decode("latin-1").split("\n")
    before = min(data[0] if data else 0, len(lines))
    values = [None if line == "null" else line for line in lines]
    batch = pa.array(values, pa.large_string())[before:]
    rows = np.arange(before, len(lines))
    good = all(re.fullmatch("[0-9a-fA-F]{32}", line or "") for line in values[before:])
    numbers = sorted((int(x[:16], 16), int(x[16:], 16)) for x in values[before:]) if good else []
    good = good and len(set(numbers)) == len(numbers)
    try:
        subset = subset_of([batch], rows, "uid")
    except InputError:
        assert not good, "good uids are refused"
        return
    assert good, "bad uids are taken"
    assert subset.tolist() == numbers


def settings(data: bytes) -> None:
    """Read what a sweep found best."""
    path = workplace() / "sweep.json"
    path.write_bytes(data)
    with contextlib.suppress(D2Error):
        assert isinstance(read_settings(str(path), 0.9, Sources()), dict)


def cell(data: bytes) -> None:
    """Read a cached cell of a comparison: what is damaged is none, and listed without its text."""
    path = workplace() / "cells" / f"cell-{'0' * 40}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    read_cell(path)
    assert [entry.path for entry in list_entries(path.parent)] == [path]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "npy": _source(".npy"),
    "npz": _source(".npz"),
    "safetensors": _source(".safetensors"),
    "parquet": _source(".parquet"),
    "footer": footer,
    "artifact": artifact,
    "colref": reference,
    "config": options_file,
    "uids": uids,
    "settings": settings,
    "cell": cell,
}
WORDS = [
    b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f", b"\x80", b"NaN", b"1e999", b"-1", b"[", b"{", b'"',
    b"[" * 3000, b'{"a":' * 2000, b"9" * 5000, b"null", b"::", b"\n", b"\\u0000", b"\\ud800", b"'",
    b"\xc3\x28", b"(", b"=", b"*", b"(" * 300, b"__", b"../", b"\x1b[31m", b"L", b"True", b"|O",
]  # fmt: skip


def seeds(target: str) -> list[bytes]:
    """Return the seeds of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def mutated(rng: random.Random, known: list[bytes]) -> bytes:
    """Return one of the seeds with some changes."""
    data = bytearray(rng.choice(known))
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 32))
        how = rng.randrange(6)
        if how == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at : at + size] = rng.randbytes(size)
        elif how == 2:
            del data[at : at + size]
        elif how == 3:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        elif how == 4:
            data[at : at + rng.choice((0, size))] = rng.choice(WORDS)
        else:
            other = rng.choice(known)
            data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data[: 2 * LARGEST])


def run(target: str, *, count: int | None = None, seconds: float | None = None) -> list[bytes]:
    """Replay the seeds of a target, then mutate them so often or so long; return what fails."""
    rng, known, finds = random.Random(f"{target} {count}"), seeds(target), []
    inputs, end, tried = iter(known), time.monotonic() + (seconds or 0), 0
    stop = len(known) + (count or 0)
    told: set[str] = set()
    while tried < stop or (seconds and time.monotonic() < end):
        data = next(inputs, None)
        data = mutated(rng, known) if data is None else data
        tried += 1
        try:
            TARGETS[target](data)
        except MemoryError:
            pass  # told by the command, with exit code 5
        except Exception:
            where = traceback.format_exc().splitlines()
            if where[-1][:60] not in told:
                told.add(where[-1][:60])
                finds.append(data)
                print(target, repr(data[:200]), *where[-8:], sep="\n", flush=True)
    print(f"{target}: {tried:,} inputs, {len(finds):,} crashes", flush=True)
    return finds


def _guided(target: str, seconds: int) -> int:
    """Run atheris in a process of its own; return its exit code."""
    with tempfile.TemporaryDirectory() as found:
        line = [sys.executable, "-m", "tests.soak.fuzz", "--target", target]
        flags = [f"-max_total_time={seconds}", f"-max_len={LARGEST}", "-rss_limit_mb=4096",
                 "-timeout=30", "-print_final_stats=1",
                 f"-artifact_prefix={CORPUS / target}/found-"]  # fmt: skip
        environment = {**os.environ, GUIDED: " ".join([*flags, found, str(CORPUS / target)])}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    figures = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    tried = int(figures[1]) if figures else 0
    print(f"{target}: {tried:,} inputs, {'no crash' if not done.returncode else 'a crash'}")
    if done.returncode:
        print("\n".join((done.stdout + done.stderr).splitlines()[-40:]))
    return done.returncode


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    given = parser.parse_args()
    targets = given.target or list(TARGETS)
    if os.environ.get(GUIDED):
        atheris.Setup([sys.argv[0], *os.environ[GUIDED].split()], _tolerant(TARGETS[targets[0]]))
        atheris.Fuzz()
    guided = importlib.util.find_spec("atheris") and not given.plain
    failed = False
    for target in targets:
        if guided:
            failed |= bool(_guided(target, int(60 * given.minutes)))
        else:
            failed |= bool(run(target, seconds=60 * given.minutes))
    raise SystemExit(failed)


def _tolerant(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def one(data: bytes) -> None:
        with contextlib.suppress(MemoryError):
            target(data)

    return one


if __name__ == "__main__":
    main()
