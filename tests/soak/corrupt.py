"""Damaged inputs and artifacts: no crash, and of what d2 wrote no wrong answer.

``python -m tests.soak.corrupt --count 100000`` damages a file of a random kind in a random way and
runs a random command on it, so many times, and prints what came of it.
"""

import argparse
import functools
import pickle
import re
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .corruptible import Subject, call, inside, write_all
from .damage import damaged
from .workers import in_children

SECONDS = 30.0
UNPACKS = "unpacks to more than there is memory for"
SIGNALS = re.compile("SIG[A-Z]+")


@dataclass
class Figures:
    """What came of damaged files; ``failed`` has a line for each that did not hold."""

    count: int = 0
    refused: int = 0
    found: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ("traceback", "signal", "hang", "wrong answer", "other failure")
        counts = ", ".join(f"{self.found[kind]:,} {kind}s" for kind in kinds)
        return f"{self.count:,} corrupt inputs ({self.refused:,} refused): {counts}"


def damage_files(count: int, seed: int = 0, first: int = 0) -> Figures:
    """Run so many cases; the same seed and number make the same case."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subjects = write_all(folder / "world")
        (folder / "subjects").write_bytes(pickle.dumps((subjects, seed, first)))
        make = functools.partial(_Cases, folder)
        for number, verdict in in_children(make, folder, count, seconds=SECONDS):
            figures.count += 1
            if verdict.startswith(("refused", "fine")):
                figures.refused += verdict == "refused"
                continue
            kind = verdict.split(":")[0]
            if SIGNALS.fullmatch(kind) or kind == "exit":
                kind = "signal"
            figures.found[
                kind if kind in ("traceback", "signal", "hang", "wrong answer") else "other failure"
            ] += 1
            case = describe(subjects, folder / "world", seed, first + number)
            figures.failed.append(f"{first + number}: {case}: {verdict}")
            print(figures.failed[-1], file=sys.stderr, flush=True)
    return figures


def choose(
    subjects: list[Subject], world: Path, seed: int, number: int
) -> tuple[Subject, str, str, str, bytes]:
    """Return subject, file, command, the way of damage and the damaged bytes of a case."""
    rng = np.random.default_rng([seed, number])
    subject = subjects[int(rng.integers(len(subjects)))]
    file = subject.files[int(rng.integers(len(subject.files)))]
    command = subject.commands[int(rng.integers(len(subject.commands)))]
    way, data = damaged((world / file).read_bytes(), rng)
    return subject, file, command, way, data


def describe(subjects: list[Subject], world: Path, seed: int, number: int) -> str:
    """Return a line that tells a case."""
    _, file, command, way, _ = choose(subjects, world, seed, number)
    return f"{way} in {file}: d2 {command}"


class _Cases:
    """The cases of one child: a copy of all files, of which one is damaged at a time."""

    def __init__(self, folder: Path, own: Path) -> None:
        self.world, self.own = folder / "world", own / "world"
        self.subjects, self.seed, self.first = pickle.loads((folder / "subjects").read_bytes())
        shutil.rmtree(own)
        shutil.copytree(self.world, self.own)
        self.sound: dict[str, dict[str, bytes]] = {}

    def __call__(self, own: Path, number: int) -> str:
        subject, file, command, _, data = choose(
            self.subjects, self.world, self.seed, self.first + number
        )
        sort = subject.sort
        if sort != "source" and command not in self.sound:
            code, after, err = self._run(command)
            assert code == 0, err
            self.sound[command] = after
        try:
            (self.own / file).write_bytes(data)
            code, after, err = self._run(command)
            rest = (self.own / file).read_bytes() if (self.own / file).is_file() else b""
            return _judge(sort, code, after, err, self.sound.get(command, {}), rest != data)
        finally:
            self._restore(file)

    def _run(self, command: str) -> tuple[int | str, dict[str, bytes], str]:
        with inside(self.own):
            for place in Path("out").iterdir():
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            code, out, err = call(command)
            after = {str(p): p.read_bytes() for p in sorted(Path("out").rglob("*")) if p.is_file()}
            return code, {"": out, **after}, err

    def _restore(self, file: str) -> None:
        shutil.copyfile(self.world / file, self.own / file)
        for name in ("a", "cache", "none"):  # where commands write besides their output
            shutil.rmtree(self.own / name)
            shutil.copytree(self.world / name, self.own / name)


def _judge(  # noqa: C901 - one question after the other
    sort: str,
    code: int | str,
    after: dict[str, bytes],
    err: str,
    sound: dict[str, bytes],
    mended: bool,
) -> str:
    """Return "fine", "refused", or what is wrong and the message."""
    said = " | ".join(err.splitlines()[-3:])
    if isinstance(code, str) or "Traceback" in err:
        return f"traceback: {code}: {said}"
    if "Warning:" in err:
        return f"noise: {said}"
    if code == 5 and len(after) <= 1 and UNPACKS in err:
        return "refused"  # damage that declares so much is not told from an honest size
    if code not in (0, 2, 3, 4):
        return f"exit {code}: {said}"
    if code:
        if not after[""] and not re.search("^error: ", err, re.MULTILINE):
            return f"exit {code} without a message: {said}"
        if len(after) > 1:
            return f"half-written: {', '.join(after)}"
        if sort in ("cache", "report"):
            return f"exit {code}: {said}"
        return f"exit 2: {said}" if code == 2 and sort == "artifact" else "refused"
    if sort == "source":
        return "fine"
    if after != sound:
        return f"wrong answer: {said}"
    if sort == "cache" and mended and "warning" not in err:
        return f"no warning: {said}"
    if sort == "report" and not mended:
        return f"wrong answer: a damaged report stays: {said}"
    return "fine"


def main() -> int:
    """Run as many cases as asked for, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    given = parser.parse_args()
    figures = damage_files(given.count, given.seed, given.first)
    print(figures)
    return 1 if figures.failed else 0


if __name__ == "__main__":
    sys.exit(main())
