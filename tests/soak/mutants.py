"""Mutation testing: which small faults in the code do the tests notice?

``python -m tests.soak.mutants --target publish`` copies the project to a temporary folder, plants
one fault after another there, and runs the tests of the target. Survivors are printed as a table;
MUTANTS.md judges those of the last run.
"""

import argparse
import ast
import contextlib
import io
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "*", "**": "*", "@": "*",
    "+=": "-=", "-=": "+=", "*=": "+=", "//=": "+=", "&": "|", "|": "&", "<<": ">>", ">>": "<<",
    "|=": "&=", "&=": "|=", ">>=": "<<=", "<<=": ">>=",
    "and": "or", "or": "and", "not": "", "is": "is not", "in": "not in",
    "True": "False", "False": "True", "break": "continue", "continue": "break",
    "min": "max", "max": "min", "any": "all", "all": "any",
}  # fmt: skip
DELETED = (ast.Expr, ast.Raise, ast.AugAssign, ast.Delete)  # statements
LEFT_ALONE = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)  # inside these no token changes


@dataclass(frozen=True)
class Target:
    """A file, its top-level blocks that faults are planted in (all if none), and its tests."""

    file: str
    blocks: tuple[str, ...]
    tests: tuple[str, ...]


STAGES = ("messages", "kernels", "score", "selection")
TARGETS = {
    "selection": Target(
        "d2cli/stages/selection.py",
        (),
        ("selection", "messages", "previous", "methods", "rounds"),
    ),
    "greedy": Target("d2cli/stages/greedy.py", (), ("selection", "messages", "previous", "rounds")),
    "score": Target("d2cli/stages/score.py", (), ("score", "messages")),
    "messages": Target(
        "d2cli/stages/_messages.pyx",
        ("sum_messages", "Tournament", "GreedyPicks"),
        (*STAGES, "previous"),
    ),
    "keys": Target(
        "d2cli/files/artifacts.py",
        ("stage_key", "seal", "_digest", "_encode", "read_artifact", "_row_order", "peek",
         "peek_artifact", "_open"),
        ("artifacts", "artifact_guards", "digests", "roworder", "cache"),
    ),
    "tables": Target("d2cli/files/artifact_tables.py", (), ("artifacts", "artifact_guards")),
    "digests": Target("d2cli/files/digests.py", (), ("digests", "artifacts")),
    "publish": Target(
        "d2cli/files/publish.py", (), ("publish", "publish_guards", "outputs", "remote")
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A fault: these characters of a text become others."""

    start: int
    end: int
    new: str

    def plant(self, text: str) -> str:
        """Return the text with the fault."""
        return text[: self.start] + self.new + text[self.end :]

    def told(self, text: str) -> str:
        """Return line, old and new as a row of a Markdown table."""
        line = text.count("\n", 0, self.start) + 1
        first, last = text.rfind("\n", 0, self.start) + 1, text.find("\n", self.end)
        old, new = (" ".join(part.split()).replace("|", "\\|") for part in (
            text[first:last], text[first : self.start] + self.new + text[self.end : last]
        ))  # fmt: skip
        return f"| {line} | `{old}` | `{new}` |"


def mutants_of(text: str, *, python: bool, blocks: tuple[str, ...] = ()) -> list[Mutant]:
    """Return the faults that can be planted in a text of Python or, by its tokens, Cython."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    closed: list[tuple[int, int]] = []
    found = []
    if python:
        tree = ast.parse(text)
        found = list(_deletions(tree, lines))
        closed = list(_closed(tree, lines))
    kept = _inside(text, blocks)
    for start, end, new in _swaps(text, lines):
        if not any(first <= start < last for first, last in closed):
            found.append(Mutant(start, end, new))
    return [one for one in found if any(a <= one.start < b for a, b in kept)]


def _inside(text: str, blocks: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return where the named functions and classes of the top level begin and end."""
    starts = [match.start() for match in re.finditer(r"^(?=[^\s#)\]}])", text, re.MULTILINE)]
    pieces = list(zip(starts, [*starts[1:], len(text)], strict=True))
    if not blocks:
        return [(a, b) for a, b in pieces if re.match(r"(?:cp?def |def |class )", text[a:b])]
    named = re.compile(rf"(?:cp?def |def |class )[^(:]*\b(?:{'|'.join(blocks)})\s*[(:]")
    return [(a, b) for a, b in pieces if named.match(text[a:b])]


def _swaps(text: str, lines: list[int]) -> Iterator[tuple[int, int, str]]:
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        start = lines[token.start[0] - 1] + token.start[1]
        end = lines[token.end[0] - 1] + token.end[1]
        if token.type == tokenize.NUMBER and before != ":" and token.string.isdigit():
            yield start, end, str(int(token.string) + 1)
        elif token.string in SWAPS and token.type in (tokenize.OP, tokenize.NAME):
            star = token.string in ("*", "**") and before in ("(", ",", "[", "{")
            loop = token.string == "in" and re.match(
                r".*\bfor\b[^:]*$", token.line[: token.start[1]]
            )
            if not star and not loop:
                yield start, end, SWAPS[token.string]
        elif token.string in ("if", "while", "elif") and token.line.rstrip().endswith(":"):
            stop = lines[token.start[0] - 1] + len(token.line.rstrip()) - 1
            if text[stop : stop + 1] == ":" and stop > end:
                yield end, stop, f" not ({text[end:stop].strip()})"
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.string


def _place(lines: list[int], line: int, column: int) -> int:
    return lines[line - 1] + column  # columns count bytes: the sources are ASCII there


def _deletions(tree: ast.AST, lines: list[int]) -> Iterator[Mutant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, DELETED):
            yield Mutant(*_range(node, lines), "pass")
        elif isinstance(node, ast.Return | ast.Assign) and not isinstance(
            node.value, ast.Constant | None
        ):
            yield Mutant(*_range(node.value, lines), "None")


def _range(node: Any, lines: list[int]) -> tuple[int, int]:
    return (
        _place(lines, node.lineno, node.col_offset),
        _place(lines, node.end_lineno, node.end_col_offset),
    )


def _closed(tree: ast.AST, lines: list[int]) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, LEFT_ALONE):
            yield _range(node, lines)
        elif isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            yield _range(node.annotation, lines)
        elif isinstance(node, ast.FunctionDef):
            yield from (_range(part, lines) for part in node.decorator_list)
            if node.returns is not None:
                yield _range(node.returns, lines)
        elif isinstance(node, ast.ClassDef):
            yield from (_range(part, lines) for part in node.decorator_list)


# --- running --------------------------------------------------------------------------------------

PROFILE = """
from hypothesis import Phase, settings
settings.register_profile(
    "mutants", phases=[Phase.explicit, Phase.generate], database=None, derandomize=True
)
settings.load_profile("mutants")
"""


WAIT = 3600  # seconds, for a fault by which nothing is done


class Workshop:
    """A copy of the project in which faults are planted and the tests run."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder, self.target, self.late = folder, target, 0
        self.seconds = 900  # of the processor, which do not depend on what else runs
        junk = shutil.ignore_patterns(".git", "*.egg-info", ".venv", ".*_cache", "build")
        shutil.copytree(ROOT, folder, ignore=junk)
        with (folder / "tests/conftest.py").open("a", encoding="utf-8") as file:
            file.write(PROFILE)
        self.file = folder / target.file
        self.text = self.file.read_text(encoding="utf-8")

    def verdict(self, mutant: Mutant | None) -> str:
        """Return "survived", "killed", or "unfit" for what is no program."""
        text = mutant.plant(self.text) if mutant else self.text
        if self.file.suffix == ".py":
            try:
                compile(text, self.file.name, "exec")
            except SyntaxError:
                return "unfit"
        # Results are the same without optimization, which takes most of the time of a build.
        self.file.write_text(text.replace(" -O3 ", " -O0 "), encoding="utf-8")
        if self.file.suffix == ".pyx" and not self._build():
            return "unfit"
        tests = [f"tests/test_{name}.py" for name in self.target.tests]
        return "survived" if self._call("-m", "pytest", "-q", "-x", "-n", "0", *tests) else "killed"

    def _build(self) -> bool:
        script = "import setuptools; setuptools.setup()"
        return self._call("-c", script, "-q", "build_ext", "--inplace")

    def _call(self, *arguments: str) -> bool:
        """Run Python in the copy; return whether all went well and came to an end."""
        temporary = self.folder.with_name(f"{self.folder.name}-tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        started = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "TMPDIR": str(temporary),
                 "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        resource.prlimit(started.pid, resource.RLIMIT_CPU, (self.seconds, self.seconds + 5))
        try:
            code = started.wait(WAIT)
            self.late += code == -signal.SIGXCPU
            return code == 0
        except subprocess.TimeoutExpired:
            self.late += 1
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(name: str, *, count: int | None = None, jobs: int = 1, at: tuple[int, ...] = ()) -> str:
    """Plant faults in a target; print its survivors and return a line of figures.

    ``at`` names the lines of those of the sample that are planted; all if it is empty.
    """
    target = TARGETS[name]
    text = (ROOT / target.file).read_text(encoding="utf-8")
    found = mutants_of(text, python=target.file.endswith(".py"), blocks=target.blocks)
    random.Random(0).shuffle(found)
    sample = [one for one in found[:count] if not at or text.count("\n", 0, one.start) + 1 in at]
    verdicts: dict[Mutant, str] = {}
    with tempfile.TemporaryDirectory() as top:
        shops: SimpleQueue[Workshop] = SimpleQueue()
        for job in range(jobs):
            shops.put(Workshop(Path(top, str(job)), target))
        every = [shops.get() for _ in range(jobs)]
        for shop in every:
            start = _seconds_of_children()
            if shop.verdict(None) != "survived":
                raise SystemExit(f"{name}: the tests fail without a fault")
            shop.seconds = int(10 + 3 * (_seconds_of_children() - start))  # more is without end
            shops.put(shop)

        def judge(mutant: Mutant) -> None:
            shop = shops.get()
            try:
                verdicts[mutant] = shop.verdict(mutant)
            finally:
                shops.put(shop)
            if verdicts[mutant] == "survived":
                print(mutant.told(text), flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(judge, sample))
    fit = [verdict for verdict in verdicts.values() if verdict != "unfit"]
    killed, late = fit.count("killed"), sum(shop.late for shop in every)
    share = 100 * killed / max(len(fit), 1)
    return (
        f"{name}: {len(fit):,} of {len(found):,} mutants, {killed:,} killed ({share:.0f} %), "
        f"{late:,} of them by running on and on"
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--count", type=int, help="of each target; all if left out")
    parser.add_argument("--at", type=int, action="append", help="a line, to try it again alone")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    for name in given.target or TARGETS:
        at = tuple(given.at or ())
        print(run(name, count=given.count, jobs=given.jobs, at=at), flush=True)


if __name__ == "__main__":
    main()
