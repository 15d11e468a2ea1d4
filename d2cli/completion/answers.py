"""Answer a shell that asks what could come next; the shells' scripts set ``_D2_COMPLETE``."""

import contextlib
import io
import os
import sys
from collections.abc import Mapping

import typer
from typer import _completion_shared as installing

from d2cli.completion import shells

VARIABLE = "_D2_COMPLETE"


def bring_scripts() -> None:
    """Let --install-completion and --show-completion give bash and zsh our scripts.

    In typer's, bash breaks words at ``:`` and ``=`` and quotes nothing, and zsh completes nothing
    the first time.
    """
    for shell, script in shells.SCRIPTS.items():
        installing._completion_scripts[shell] = script.replace("%", "%%")


def answer(app: typer.Typer, instruction: str) -> int:
    """Print what a shell asked for and return an exit code; whatever goes wrong prints nothing.

    Parameters
    ----------
    app : typer.Typer
        The commands.
    instruction : str
        The value of ``_D2_COMPLETE``, such as "complete_bash" or "source_bash".
    """
    action, _, shell = instruction.partition("_")
    try:
        if action == "source" and shell in shells.SCRIPTS:
            sys.stdout.write(shells.SCRIPTS[shell] + "\n")
            return 0
        if action != "complete" or shell not in ("bash", "zsh", "fish"):
            sys.stdout.write(_typer_answer(app, instruction, {}))
            return 0
        line = shells.line_of(shell, os.environ)
        items = ask(app, line, described=shell != "bash")
        if shell == "fish" and os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
            return 0 if items else 1
        text = {
            "bash": lambda: shells.answer_bash(line, [value for value, _ in items]),
            "zsh": lambda: shells.answer_zsh(line, items),
            "fish": lambda: shells.answer_fish(items),
        }[shell]()
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(text))
        sys.stdout.flush()
    except Exception:  # a key press never prints a traceback into the line
        return 1
    return 0


def ask(
    app: typer.Typer, line: shells.UnfinishedLine, *, described: bool = False
) -> list[tuple[str, str]]:
    """Return what could stand in place of a line's last word, and its description or "".

    Parameters
    ----------
    app : typer.Typer
        The commands.
    line : UnfinishedLine
        What has been typed.
    described : bool
        Whether to look for descriptions, which takes longer.
    """
    words = shells.joined(line)
    if described:
        variables = {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        found = _typer_answer(app, "complete_fish", variables)
    else:
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(line.words))}
        found = _typer_answer(app, "complete_bash", variables)
    items = [one.partition("\t") for one in found.split("\n") if one]
    return [
        (line.option_prefix + value, help_)
        for value, _, help_ in items
        if value.isprintable() and help_.isprintable()
    ]


def _typer_answer(app: typer.Typer, instruction: str, variables: Mapping[str, str]) -> str:
    """Return what typer prints when a shell's script asks it."""
    before = dict(os.environ)
    os.environ.update({**variables, VARIABLE: instruction})
    printed = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(SystemExit),
        ):
            app(args=[], prog_name="d2", standalone_mode=False)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return printed.getvalue()
