"""The program: ``d2``, ``d2cli`` and ``python -m d2cli``. ``main`` alone decides exit codes."""

import errno
import os
import select
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from d2cli import config, interrupts
from d2cli.errors import D2Error, ParameterError, ReaderGone, ResourceError
from d2cli.files import _sigbus

CLEAR_LINE = b"\r\x1b[2K\x1b[?25h"  # what is left of a bar; and the cursor is shown again


class _NoPandas:
    """Keeps pyarrow from importing pandas, which it does where pandas is installed.

    Nothing here needs it, and it would add a third of a second to every start.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Refuse pandas, leave the rest to others."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is left out", name=name)


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit.

    Parameters
    ----------
    arguments : list of str, optional
        Without the program's name; ``sys.argv[1:]`` if left out.
    """
    alone = arguments is None  # else the process is not ours alone
    if arguments is None:
        sys.meta_path.insert(0, _NoPandas())
        arguments = sys.argv[1:]
    _open_closed_streams()
    # One BLAS thread a task: d2 runs the tasks in parallel itself.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    # Else pyarrow's allocator takes a gigabyte at once, which no limit can be measured against.
    os.environ["MIMALLOC_ARENA_EAGER_COMMIT"] = "0"
    if alone:
        _sigbus.install(CLEAR_LINE if sys.stderr.isatty() else b"")
    with interrupts.answered(alone=alone):
        code = _run(arguments or ["--help"])
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        return _call(arguments)
    except D2Error as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return 130
    except interrupts.Terminated:
        return 143
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        return _refuse(known)


def _known(error: Exception) -> D2Error | None:
    """Return what a user is told of an error of the system or the parser; None for a bug."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or _lacks_memory(text):
        return ResourceError(
            f"out of memory: {text}".rstrip(": "),
            hint="use a machine with more memory, a higher limit (ulimit -v, -u), fewer rows or "
            "--threads",
        )
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return ResourceError(text) if full else None
    # typer keeps its copy of click private, so usage errors are known by what they can do.
    return _usage_error(error) if hasattr(error, "format_message") else None


# What libraries say where they cannot allocate, map a file or start a thread.
NO_MEMORY = (
    "can't start new thread",
    "cannot allocate memory",
    "failed to map segment",
    "Not enough memory",
    "std::bad_alloc",
)


def _lacks_memory(text: str) -> bool:
    return any(part.lower() in text.lower() for part in NO_MEMORY)


def _call(arguments: list[str]) -> int:
    """Run a command line; that nobody reads its output any more is no error."""
    try:
        # Imported here, so that an interrupt during the import is an interrupt too.
        from d2cli.cli import parser
        from d2cli.completion import answers

        asked = os.environ.get(answers.VARIABLE)
        if asked:
            code = answers.answer(parser.app, asked)
        else:
            answers.bring_scripts()
            commands = parser.parser_of(arguments[0])
            code = commands(
                args=arguments, prog_name="d2", standalone_mode=False, default_map=_defaults(parser)
            )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ReaderGone:
        return 0
    except (SystemExit, BrokenPipeError):  # the former is the parser's answer to the latter
        if _stdout_is_read():
            raise
        from d2cli.files.stdout import silence_stdout

        silence_stdout()
        return 0


def _defaults(parser: ModuleType) -> dict[str, config.Defaults] | None:
    """Return what the environment and ``d2.toml`` set; looks at the commands only if need be."""
    if not config.is_there(os.environ, Path()):
        return None
    return config.defaults_of(parser.options_by_command(), os.environ, Path())


def _usage_error(error: Any) -> ParameterError:  # noqa: ANN401
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "d2"
    message = error.format_message().rstrip(".")
    return ParameterError(message[:1].lower() + message[1:], hint=f"see `{command} --help`")


def _refuse(error: D2Error) -> int:
    from d2cli.display import print_error

    print_error(error)
    try:
        sys.stdout.flush()
    except OSError:  # what is left of a result that could not be written is nobody's any more
        from d2cli.files.stdout import silence_stdout

        silence_stdout()
    return error.exit_code


def _open_closed_streams() -> None:
    """Put the null device where standard streams are closed, lest a file takes their number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, os.fdopen(number, mode))


def _stdout_is_read() -> bool:
    """Return whether standard output is anything but a pipe without a reader."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    main()
