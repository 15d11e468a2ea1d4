"""Options from the environment and from ``d2.toml``, for what the command line leaves out.

A flag comes first, then ``D2_COMMAND_OPTION``, ``D2_OPTION``, the file's table of the command, and
the file's own keys. The file is ``d2.toml`` in the current folder, or the table ``[tool.d2]`` of
``pyproject.toml`` there, or what ``D2_CONFIG`` names.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2cli.errors import ParameterError

FILE, TABLE_OF = "d2.toml", "pyproject.toml"
WHICH = "D2_CONFIG"
PREFIX = "D2_"
ELSEWHERE = ("D2_CACHE_DIR", WHICH)  # read where they are needed
UNTOLD = ("cache_dir", "threads", "max_memory", "force", "json", "verbose", "quiet")  # same results


@dataclass(frozen=True)
class Option:
    """How the parser calls an option, and whether it may be repeated."""

    parameter: str
    repeatable: bool


_in_use: list["Defaults"] = []  # of this process's command line

Options = Mapping[str, Mapping[str, Option]]  # by command and name, with underscores


@dataclass(frozen=True)
class Given:
    """An option's name and value, and where it stands."""

    name: str
    value: Any
    where: str


class Defaults(dict[str, Any]):
    """What a command takes for options that its command line leaves out; remembers what it took."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        super().__init__({name: one.value for name, one in given.items()})
        self._given = given
        self._taken: dict[str, None] = {}

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return the value of an option; called by the parser where the command line has none."""
        if name in self._given and self._given[name].name not in UNTOLD:
            self._taken[name] = None
        return super().get(name, default)

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
            for variable in (f"{PREFIX}{name}".upper(), f"{PREFIX}{own}_{name}".upper()):
                if (text := environment.get(variable)) and variable not in ELSEWHERE:
                    yield command, Given(name, [text] if option.repeatable else text, variable)


def _in_file(
    options: Options, environment: Mapping[str, str], folder: Path
) -> Iterator[tuple[str, Given]]:
    """Yield (command, option) of the file; what comes later wins."""
    where, values = _read(environment, folder)
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    for group in [key for key in tables if key not in options]:  # [cache.clear] is "cache clear"
        inner = {f"{group} {key}": table for key, table in tables[group].items()}
        if any(command in options for command in inner):
            del tables[group]
            tables |= inner
    for key in (key for key, value in values.items() if not isinstance(value, dict)):
        owners = [command for command in options if _name(key) in options[command]]
        if not owners:
            everything = {name for names in options.values() for name in names}
            raise _unknown(f"{where}: no command has an option '{key}'", key, everything)
        for command in owners:
            yield command, _given(where, key, values[key], options[command])
    for command, table in tables.items():
        if command not in options:
            raise _unknown(f"{where}: there is no command '{command}'", command, set(options))
        for key, value in table.items():
            if _name(key) not in options[command]:
                message = f"{where}: d2 {command} has no option '{key}'"
                raise _unknown(message, key, set(options[command]))
            yield command, _given(where, key, value, options[command])


def _read(environment: Mapping[str, str], folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the file's name and its keys; none if there is no file."""
    named = environment.get(WHICH)
    if named is not None:
        return (named, _parse(Path(named))) if named else ("", {})
    if (folder / FILE).is_file():
        return FILE, _parse(folder / FILE)
    if (folder / TABLE_OF).is_file():
        tools = _parse(folder / TABLE_OF).get("tool", {})
        own = tools.get("d2", {}) if isinstance(tools, dict) else {}
        if not isinstance(own, dict):
            raise ParameterError(f"{TABLE_OF}: tool.d2 is {own!r}, expected a table")
        return f"{TABLE_OF} [tool.d2]", own
    return "", {}


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(
            f"{path}: cannot be read: {error.strerror}", hint=f"mend it, or unset {WHICH}"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        if path.name == TABLE_OF:
            return {}  # another tool's to complain about
        raise ParameterError(f"{path}: {error}", hint="mend the file, it is TOML") from error


def _given(where: str, key: str, value: Any, options: Mapping[str, Option]) -> Given:  # noqa: ANN401
    """Check what the parser would not: that lists stand where an option may be repeated."""
    name = _name(key)
    many = options[name].repeatable
    parts = value if isinstance(value, list) and many else [value]
    if not all(isinstance(part, str | int | float) for part in parts):
        expected = "text or a list of text" if many else "one value"
        raise ParameterError(
            f"{where}: {key} is {value!r}, expected {expected}",
            hint="write it as on the command line, without the dashes",
        )
    if isinstance(value, bool):
        return Given(name, value, where)
    return Given(name, [str(part) for part in parts] if many else str(value), where)


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
