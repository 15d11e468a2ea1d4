"""Command lines in forked children of a process without threads: fast, and no case sees another."""

import importlib
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path


def load() -> None:
    """Import all modules of d2 and make its parsers, so that children need not."""
    import d2cli

    for module in pkgutil.walk_packages(d2cli.__path__, "d2cli."):
        importlib.import_module(module.name)
    from d2cli.cli import parser

    for command in ("", *parser.options_by_command()):
        parser.parser_of(command)


@dataclass(frozen=True)
class Done:
    """What a command did; ``code`` is the negative number of the signal that ended it."""

    code: int
    out: bytes
    err: bytes


def call(arguments: list[str], *, folder: Path, limit: float = 60, **environment: str) -> Done:
    """Run ``d2 ARGUMENTS`` in a folder; after ``limit`` seconds it is ended, by SIGKILL."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _become(arguments, folder, out.fileno(), err.fileno(), environment)
        code = _wait(child, limit)
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read())


def _become(
    arguments: list[str], folder: Path, out: int, err: int, environment: dict[str, str]
) -> None:
    code = 70
    try:
        os.chdir(folder)
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        from d2cli.__main__ import main

        try:
            main(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            code = 1
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(child: int, limit: float) -> int:
    end = time.monotonic() + limit
    pause = 0.001
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGKILL
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
