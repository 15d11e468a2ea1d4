"""Paths of every kind in every place that takes one: ``python -m tests.soak.paths``.

A name that a file system takes must give the rows that a plain name gives; anything else must be
refused in one line, before anything is written.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .calls import Done, call, load

ROWS = 40
SEALED = re.compile(rb"</html>\n<!-- d2 [0-9a-f]{64} -->\n\Z")
READ = ("source", "difficulty", "include", "graph", "settings", "config")
WRITTEN = ("output", "report", "artifact", "export")
ENDINGS = {
    "source": ".npy", "difficulty": ".npy", "include": ".txt", "graph": ".parquet",
    "settings": ".json", "config": ".toml", "output": ".npy", "report": ".html",
    "artifact": ".parquet", "export": ".npy", "cache": "",
}  # fmt: skip
NAMES = {
    "spaces": "two  words ",
    "brackets": "[1]",
    "wildcards": "a*b?",
    "braces": "{a,b}",
    "newline": "line\nbreak",
    "carriage return": "a\rb",
    "terminal escape": "\x1b[31mred\x07",
    "dash": "-rf",
    "two dashes": "--help",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "non-characters": "\u202e\ufffe\U0001f388",
    "two colons": "a::b",
    "colon": "a:b",
    "tilde": "~",
    "dollar": "$HOME",
    "percent": "%41%",
    "hash": "a#b?c",
    "quotes": "'\"`",
    "backslash": "a\\n",
    "markup": "<b>&|[x](y)",
    "hidden": ".a",
    "underscore": "_a",
    "equals": "key=value",
}


@dataclass(frozen=True)
class Kind:
    """A kind of path: how it is made for a file that is there, or is to be, and what it ends in.

    ``make`` gets the folder, the file (whole, with its ending; missing where it is to be written)
    and returns the text of the path. ``read`` and ``written`` are the exit codes.
    """

    make: Callable[[Path, Path], str]
    read: int | None = 0  # None for what has no end
    written: int = 0
    cache: int = 0


def _named(name: str) -> Callable[[Path, Path], str]:
    def make(folder: Path, file: Path) -> str:
        place = folder / f"{name}{file.suffix}"
        if file.exists():
            file.rename(place)
        return place.name

    return make


def _of_length(length: int) -> Callable[[Path, Path], str]:
    """Return a maker of a path of so many bytes, from folders with long names."""

    def make(folder: Path, file: Path) -> str:
        left = length - len(os.fsencode(file.suffix))
        parts = ["f" * 200] * ((left - 1) // 201)
        parts.append("n" * (left - 201 * len(parts)))
        here = os.open(folder, os.O_RDONLY)
        for part in parts[:-1]:  # step by step, since no call takes the whole path
            os.mkdir(part, dir_fd=here)
            inner = os.open(part, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        if file.exists():
            os.rename(file, parts[-1] + file.suffix, dst_dir_fd=here)
        os.close(here)
        return "/".join(parts) + file.suffix

    return make


def _long_name(length: int) -> Callable[[Path, Path], str]:
    def make(folder: Path, file: Path) -> str:
        name = "n" * (length - len(file.suffix)) + file.suffix
        if file.exists() and length < 256:
            file.rename(folder / name)
        return name

    return make


def _link(folder: Path, file: Path) -> str:
    (folder / f"once{file.suffix}").symlink_to(file.name)
    (folder / f"twice{file.suffix}").symlink_to(folder / f"once{file.suffix}")
    return f"twice{file.suffix}"


def _folder_link(folder: Path, file: Path) -> str:
    (folder / "here").symlink_to(".")
    return f"here/here/../{folder.name}/here/{file.name}"


def _loop(folder: Path, file: Path) -> str:
    (folder / f"a{file.suffix}").symlink_to(f"b{file.suffix}")
    (folder / f"b{file.suffix}").symlink_to(f"a{file.suffix}")
    return f"a{file.suffix}"


def _below_a_loop(folder: Path, file: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return f"loop/{file.name}"


def _dangling(folder: Path, file: Path) -> str:
    (folder / f"link{file.suffix}").symlink_to(f"target{file.suffix}")
    return f"link{file.suffix}"


def _fifo(folder: Path, file: Path) -> str:
    pipe = folder / f"pipe{file.suffix}"
    os.mkfifo(pipe)
    if not os.fork():  # the other end
        try:
            signal.alarm(30)  # which ends it where nobody opens the pipe
            for stream in (1, 2):  # so that nobody waits for it
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            if file.exists():
                pipe.write_bytes(file.read_bytes())
            else:
                pipe.with_name(f"copy{file.suffix}").write_bytes(pipe.read_bytes())
        finally:
            os._exit(0)
    return pipe.name


def _socket(folder: Path, file: Path) -> str:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(folder / f"s{file.suffix}"))
    return f"s{file.suffix}"


def _folder(folder: Path, file: Path) -> str:
    (folder / f"folder{file.suffix}").mkdir()
    return f"folder{file.suffix}"


def _below_a_file(folder: Path, file: Path) -> str:
    (folder / "plain").write_text("")
    return f"plain/{file.name}"


def _slash(folder: Path, file: Path) -> str:
    (folder / f"plain{file.suffix}").write_bytes(file.read_bytes() if file.is_file() else b"")
    return f"plain{file.suffix}/"


KINDS = {name: Kind(_named(text)) for name, text in NAMES.items()} | {
    "name of 255 bytes": Kind(_long_name(255)),
    "path of 3,900 bytes": Kind(_of_length(3900)),
    "path of 4,095 bytes": Kind(_of_length(4095), 0, 2, 0),
    "links": Kind(_link),
    "links of folders": Kind(_folder_link),
    "name of 256 bytes": Kind(_long_name(256), 3, 2, 2),
    "path of 4,096 bytes": Kind(_of_length(4096), 3, 2, 2),
    "loop": Kind(_loop, 3, 2, 2),
    "below a loop": Kind(_below_a_loop, 3, 2, 2),
    "dangling link": Kind(_dangling, 3, 0, 2),
    "FIFO": Kind(_fifo, 0, 0, 2),
    "socket": Kind(_socket, 3, 5, 2),
    "folder": Kind(_folder, 3, 2, 0),
    "below a file": Kind(_below_a_file, 3, 2, 2),
    "slash after a file": Kind(_slash, 3, 2, 2),
    "no such file": Kind(lambda folder, file: f"none{file.suffix}", 3, 0, 0),
    "no such folder": Kind(lambda folder, file: f"none/{file.name}", 3, 2, 0),
    "full device": Kind(lambda folder, file: "/dev/full", None, 5, 2),
    "no text": Kind(lambda folder, file: "", 3, 2, 0),
}


MEANT = {  # to be left out
    ("no text", "config"),  # no file
    ("slash after a file", "config"),  # that file
    ("folder", "export"),  # such as load_from_disk reads
    ("FIFO", "graph"),  # read by two commands
}
DEVICES = ("FIFO", "socket", "full device")  # of which an export needs to be told the format


class Bench:
    """Files with plain names, and what the commands make of them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.plain = top / "plain"
        self.plain.mkdir()
        rng = np.random.default_rng(5)
        np.save(self.plain / "source.npy", rng.normal(size=(ROWS, 3)).astype(np.float32))
        np.save(self.plain / "difficulty.npy", rng.random(ROWS))
        (self.plain / "include.txt").write_text("3\n1\n")
        (self.plain / "config.toml").write_text('harder = "high"\n')
        self._made(["graph", "source.npy", "-k", "4", "-o", "graph.parquet"])
        self._made(["sweep", "source.npy", "--difficulty", "difficulty.npy", "--harder", "high",
                    "--rates", "0.5", "-k", "4", "--seeds", "1",
                    "-o", "settings.json"])  # fmt: skip
        self.expected = {role: self.result(role, self.plain, {}) for role in ENDINGS}
        for role in WRITTEN:
            (self.plain / f"{role}{ENDINGS[role]}").unlink()

    def _made(self, line: list[str]) -> None:
        done = call(line, folder=self.plain, D2_CACHE_DIR=str(self.top / "made"))
        if done.code:
            raise SystemExit(done.err.decode())

    def result(self, role: str, folder: Path, paths: dict[str, str]) -> tuple[bytes, Done]:
        """Run the command that has a place for a path; return the rows it gives."""
        of = {name: f"{name}{ending}" for name, ending in ENDINGS.items()} | paths
        environment = {"D2_CACHE_DIR": str(folder / "own-cache")}
        if role == "config":
            environment["D2_CONFIG"] = of["config"]
        rest = ["--rate", "0.5", "-o", of["output"]]
        harder = [] if role == "config" else ["--harder", "high"]
        scored = ["--difficulty", of["difficulty"], *harder]
        if role == "graph":
            first = ["score", *scored, "-o", "scores.parquet", "--", of["graph"]]
            done = call(first, folder=folder, **environment)
            line = ["select", "--graph", of["graph"], *rest, "scores.parquet"]
        elif role == "artifact":
            first = ["graph", "-k", "4", "-o", of["artifact"], "source.npy"]
            done = call(first, folder=folder, **environment)
            line = ["score", *scored, "-o", "scores.parquet", "--", of["artifact"]]
            if not done.code and _is_plain(of["artifact"]):
                done = call(line, folder=folder, **environment)
            line = ["select", *rest, "scores.parquet"]
        else:
            extra = {
                "include": ["--include", of["include"]],
                "settings": ["--settings", of["settings"]],
                "report": ["--report", of["report"]],
                "cache": ["--cache-dir", of["cache"]],
            }.get(role, [])
            if role == "export":
                rest[-1] = "kept.parquet"
            line = ["prune", "-k", "4", *scored, *extra, *rest, "--", of["source"]]
            done = Done(0, b"", b"")
        if not done.code and (role != "artifact" or _is_plain(of["artifact"])):
            done = call(line, folder=folder, **environment)
        if role == "export" and not done.code:
            line = ["export", "kept.parquet", "--source", of["source"], "-o", of["export"]]
            done = call(line, folder=folder, **environment)
        return _read(folder, of["export" if role == "export" else "output"]), done

    def judge(self, kind: Kind, role: str, number: int) -> str:
        """Return what is wrong with a kind of path in a place; empty if nothing is."""
        folder = self.top / f"case{number}"
        shutil.copytree(self.plain, folder)
        before = _names(folder)
        text = kind.make(folder, folder / f"{role}{ENDINGS[role]}")
        made = _names(folder) - before
        rows, done = self.result(role, folder, {role: text})
        code = kind.cache if role == "cache" else kind.read if role in READ else kind.written
        if role == "config" and code:
            code = 2
        wrong = list(_complaints(done, code or 0))
        compared = role in READ or (_is_plain(text) and text)
        if done.code == 0 == code and compared and rows != self.expected[role][0]:
            wrong.append("other rows than by a plain name")
        if done.code in (2, 3):
            new = _names(folder) - before - made - {"own-cache"}
            if new - ({"kept.parquet"} if role == "export" else {"scores.parquet"}):
                wrong.append(f"left behind {sorted(new)}")
        wrong += [f"left {path}" for path in _temporary(folder)]
        if role == "report" and done.code == 0 and _is_plain(text):
            page = _read(folder, text)
            if not SEALED.search(page) or re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", page):
                wrong.append("the page is cut short or holds control characters")
        return "; ".join(wrong) + (
            f" | {done.err.decode(errors='replace')[-300:]}" if wrong else ""
        )


def _is_plain(text: str) -> bool:
    """Return whether what is written to a path can be read again."""
    return not text.startswith(("pipe", "/dev"))


def _complaints(done: Done, code: int) -> Iterator[str]:
    if done.code != code:
        yield f"exit code {done.code}, expected {code}"
    if b"Traceback" in done.err:
        yield "a traceback"
    if re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", done.out + done.err):
        yield "control characters on a standard stream"
    told = [line for line in done.err.splitlines() if not line.startswith((b"note", b"warning"))]
    if done.code and [line.split(b":")[0] for line in told] != [b"error", b"hint"]:
        yield "not one line of error and one of hint"


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _read(folder: Path, text: str) -> bytes:
    here = os.open(folder, os.O_RDONLY)
    try:
        handle = os.open(text.rstrip("/"), os.O_RDONLY | os.O_NONBLOCK, dir_fd=here)
    except OSError:
        return b""
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return b""
    with os.fdopen(handle, "rb") as file:
        return file.read()


def _temporary(folder: Path) -> list[str]:
    found = []
    for _, _, files, _ in os.fwalk(folder):
        found += [name for name in files if name.endswith(".d2tmp")]
    return found


def run(*, places: int = len(ENDINGS), show: bool = False) -> tuple[str, list[str]]:
    """Try every kind of path in some places, in turn; return figures, and what is wrong."""
    wrong, number = [], 0
    load()
    with tempfile.TemporaryDirectory() as top:
        bench = Bench(Path(top))
        for start, (name, kind) in enumerate(KINDS.items()):
            for at in range(places):
                role = list(ENDINGS)[(places * start + at) % len(ENDINGS)]
                if (role in READ and kind.read is None) or (name, role) in MEANT:
                    continue
                told = role == "export" and name in DEVICES
                asked = replace(kind, written=2) if told else kind
                found = bench.judge(asked, role, number)
                number += 1
                if found:
                    wrong.append(f"{name} as {role}: {found}")
                if show and found:
                    print(wrong[-1], flush=True)
    return f"{number:,} paths in their places: {len(wrong):,} wrong", wrong


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=len(ENDINGS), help="of each kind of path")
    figures, wrong = run(places=parser.parse_args().places, show=True)
    print(figures)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
