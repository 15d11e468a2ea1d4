"""Options from the environment and from ``d2.toml``, for what the command line leaves out.

A flag comes first, then ``D2_COMMAND_OPTION``, ``D2_OPTION``, the file's table of the command, and
the file's own keys. The file is ``d2.toml`` in the current folder, or the table ``[tool.d2]`` of
``pyproject.toml`` there, or what ``D2_CONFIG`` names.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2cli.errors import ParameterError

FILE, TABLE_OF = "d2.toml", "pyproject.toml"
WHICH = "D2_CONFIG"
PREFIX = "D2_"
ELSEWHERE = ("D2_CACHE_DIR", WHICH)  # read where they are needed
OWN_TABLE = re.compile(rb"^[ \t]*\[+[ \t]*[\"']?tool[\"']?[ \t]*\.[ \t]*[\"']?d2\b", re.MULTILINE)
EXPECTED = {"flag": "true or false", "whole": "a whole number", "number": "a number"}
UNTOLD = (
    "cache_dir",
    "engine",
    "address",
    "partitions",
    "store",
    "threads",
    "max_memory",
    "force",
    "json",
    "verbose",
    "quiet",
)  # same results


@dataclass(frozen=True)
class Option:
    """How the parser calls an option, whether it may be repeated, and what its values are.

    ``kind`` is "flag", "whole", "number" or "text"; text may look like a number, as "auto" or 0.5.
    """

    parameter: str
    repeatable: bool
    kind: str = "text"


_in_use: list["Defaults"] = []  # of this process's command line

Options = Mapping[str, Mapping[str, Option]]  # by command and name, with underscores


@dataclass(frozen=True)
class Given:
    """An option's name and value, where it stands, and what it is stronger than.

    ``level`` is 1 for the file's own keys, 2 for its tables, 3 for ``D2_OPTION`` and 4 for
    ``D2_COMMAND_OPTION``.
    """

    name: str
    value: Any
    where: str
    level: int


class Defaults(dict[str, Any]):
    """What a command takes for options that its command line leaves out; remembers what it took."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        super().__init__({name: one.value for name, one in given.items()})
        self._given = given
        self._taken: dict[str, None] = {}

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return the value of an option; called by the parser where the command line has none."""
        if name in self and name in self._given and self._given[name].name not in UNTOLD:
            self._taken[name] = None
        return super().get(name, default)

    def level(self, name: str) -> int:
        """Return how strong the place is that an option stands in; 0 if it does not."""
        return self._given[name].level if name in self else 0

    def forget(self, name: str) -> None:
        """Leave out an option that something stronger overrides."""
        self.pop(name, None)
        self._taken.pop(name, None)

    def lines(self) -> list[str]:
        """Return a line for each place that options were taken from."""
        places: dict[str, list[str]] = {}
        for name in self._taken:
            one = self._given[name]
            places.setdefault(one.where, []).append(f"{_flag(one.name)} {_text(one.value)}".strip())
        return [f"note: {where} sets {', '.join(names)}" for where, names in places.items()]


def defaults_of(
    options: Options, environment: Mapping[str, str], folder: Path
) -> dict[str, Defaults]:
    """Return for each command what stands in the environment and in the file of a folder.

    Raises
    ------
    ParameterError
        If the file cannot be read, or names an option that there is not.
    """
    found: dict[str, dict[str, Given]] = {command: {} for command in options}
    for command, one in [*_in_file(options, environment, folder), *_in(environment, options)]:
        found[command][options[command][one.name].parameter] = one
    defaults = {command: Defaults(given) for command, given in found.items()}
    _in_use[:] = defaults.values()
    for command in [name for name in defaults if " " in name]:
        group, _, inner = command.partition(" ")
        # The parser asks a group's defaults for those of its commands.
        defaults.setdefault(group, Defaults({}))[inner] = defaults.pop(command)
    return defaults


def lines_of_taken() -> list[str]:
    """Return a line for each place that the running command took options from."""
    return [line for defaults in _in_use for line in defaults.lines()]


def is_there(environment: Mapping[str, str], folder: Path) -> bool:
    """Return whether there is anything to look at; cheap."""
    names = (name for name in environment if name.startswith(PREFIX) and name not in ELSEWHERE)
    _in_use.clear()
    return (
        bool(environment.get(WHICH))
        or (folder / FILE).is_file()
        or (folder / TABLE_OF).is_file()
        or any(names)
    )


def _in(environment: Mapping[str, str], options: Options) -> Iterator[tuple[str, Given]]:
    """Yield (command, option) of the environment; what comes later wins."""
    for command, names in options.items():
        for name, option in names.items():
            own = command.replace(" ", "_")
            variables = (f"{PREFIX}{name}".upper(), f"{PREFIX}{own}_{name}".upper())
            for level, variable in enumerate(variables, start=3):
                if (text := environment.get(variable)) and variable not in ELSEWHERE:
                    value = _several(text) if option.repeatable else text
                    yield command, Given(name, value, variable, level)


def _several(text: str) -> list[str]:
    """Return the values of an option that may be repeated: a list as in TOML, or one value."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return [text]  # such as the glob [ab].npy
        if found and all(isinstance(one, str) for one in found):
            return list(found)
    return [text]


def _in_file(
    options: Options, environment: Mapping[str, str], folder: Path
) -> Iterator[tuple[str, Given]]:
    """Yield (command, option) of the file; what comes later wins."""
    where, values = _read(environment, folder)
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    for key in (key for key in values if key not in tables):
        yield from _for_all(where, key, values[key], options)
    for command, table in _by_command(where, tables, options).items():
        if command not in options:
            raise _unknown(f"{where}: there is no command '{command}'", command, set(options))
        for key, value in table.items():
            if _name(key) not in options[command]:
                message = f"{where}: d2 {command} has no option '{key}'"
                raise _unknown(message, key, set(options[command]))
            yield command, _given(where, key, value, options[command][_name(key)], 2)


def _for_all(
    where: str,
    key: str,
    value: Any,  # noqa: ANN401
    options: Options,
) -> Iterator[tuple[str, Given]]:
    """Yield (command, option) for all commands that have a key above the tables."""
    owners = {c: known[_name(key)] for c, known in options.items() if _name(key) in known}
    if not owners:
        everything = {name for names in options.values() for name in names}
        raise _unknown(f"{where}: no command has an option '{key}'", key, everything)
    if not any(_fits(value, option) for option in owners.values()):
        raise _misfit(where, key, value, min(owners.values(), key=lambda one: one.kind == "text"))
    for command, option in owners.items():
        if _fits(value, option):
            yield command, _given(where, key, value, option, 1)
        else:  # a list as text, say, for a command that takes one number: then its parser refuses
            yield command, Given(_name(key), str(value), where, 1)


def _by_command(where: str, tables: dict[str, Any], options: Options) -> dict[str, Any]:
    """Return the tables by command: [cache.clear] is that of "cache clear"."""
    found: dict[str, Any] = {}
    groups = {command.partition(" ")[0] for command in options if " " in command}
    for name, table in tables.items():
        if name not in groups:
            found[name] = table
            continue
        for key, inner in table.items():
            if not isinstance(inner, dict):
                raise ParameterError(
                    f"{where}: [{name}] has an option '{key}', expected tables of its commands",
                    hint=f"write it below [{name}.COMMAND], or above all tables",
                )
            found[f"{name} {key}"] = inner
    return found


def _read(environment: Mapping[str, str], folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the file's name and its keys; none if there is no file."""
    named = environment.get(WHICH)
    if named is not None:
        return (named, _parse(Path(named))) if named else ("", {})
    if (folder / FILE).is_file():
        return FILE, _parse(folder / FILE)
    if (folder / TABLE_OF).is_file():
        tools = _parse(folder / TABLE_OF, if_ours=True).get("tool", {})
        own = tools.get("d2", {}) if isinstance(tools, dict) else {}
        if not isinstance(own, dict):
            raise ParameterError(f"{TABLE_OF}: tool.d2 is {own!r}, expected a table")
        return f"{TABLE_OF} [tool.d2]", own
    return "", {}


def _parse(path: Path, *, if_ours: bool = False) -> dict[str, Any]:
    """Return the keys of a file; with ``if_ours``, none of one that is no TOML and not for d2."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ParameterError(
            f"{path}: cannot be read: {error.strerror}", hint=f"mend it, or unset {WHICH}"
        ) from error
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"is not UTF-8 (at line {line})"
    except tomllib.TOMLDecodeError as error:
        last = max(len(data.splitlines()), 1)
        reason = str(error).replace("(at end of document)", f"(at line {last}, its end)")
    except RecursionError:
        reason = "is nested too deep"
    except ValueError:  # of the conversion, which no line is told of
        reason = "holds a number too long to be read"
    if if_ours and not OWN_TABLE.search(data):
        return {}  # another tool's to complain about
    raise ParameterError(f"{path}: {reason}", hint="mend the file, it is TOML")


def _fits(value: Any, option: Option) -> bool:  # noqa: ANN401
    """Return whether a value of the file is of an option's type."""
    if isinstance(value, list) and option.repeatable:
        one = replace(option, repeatable=False)
        return all(_fits(part, one) for part in value)
    if isinstance(value, bool) or option.kind == "flag":
        return isinstance(value, bool) and option.kind == "flag"
    if isinstance(value, int) and value.bit_length() > 63:  # beyond the numbers of TOML
        return False
    kinds = {"whole": int, "number": int | float}
    return isinstance(value, kinds.get(option.kind, str | int | float))


def _misfit(where: str, key: str, value: Any, option: Option) -> ParameterError:  # noqa: ANN401
    expected = EXPECTED.get(option.kind, "text or a list of text" if option.repeatable else "text")
    if isinstance(value, list) and not option.repeatable:
        expected = "one value"
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except TypeError:  # a date, say
        shown = str(value)
    except ValueError:
        shown = "a number too long to be shown"
    hint = "write it as on the command line, without the dashes"
    if isinstance(value, str):
        hint = "it stands without quotes"
    return ParameterError(f"{where}: {key} is {shown}, expected {expected}", hint=hint)


def _given(where: str, key: str, value: Any, option: Option, level: int) -> Given:  # noqa: ANN401
    """Check what the parser would not: types, which it takes from text or from each other."""
    if not _fits(value, option):
        raise _misfit(where, key, value, option)
    if isinstance(value, bool):
        return Given(_name(key), value, where, level)
    parts = [str(part) for part in (value if isinstance(value, list) else [value])]
    return Given(_name(key), parts if option.repeatable else parts[0], where, level)


def _unknown(message: str, key: str, known: set[str]) -> ParameterError:
    near = difflib.get_close_matches(_name(key), known, n=1)
    hint = f"did you mean {near[0].replace('_', '-')}?" if near else "see `d2 --help`"
    return ParameterError(message, hint=hint)


def _name(key: str) -> str:
    return key.replace("-", "_")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is True else str(value).lower() if value is False else str(value)
