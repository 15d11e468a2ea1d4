"""The parser: all commands put together, and what they have in common."""

import copy
from functools import cache as cached
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from d2cli import __version__
from d2cli.cli.artifacts import diff, explain
from d2cli.cli.cache import cache
from d2cli.cli.check import check
from d2cli.cli.export import export
from d2cli.cli.report import report
from d2cli.cli.stages import graph, prune, score, select
from d2cli.cli.stream import stream
from d2cli.cli.study import compare, difficulty, sweep
from d2cli.cli.update import update
from d2cli.config import Defaults, Option
from d2cli.precedence import COMMAND_LINE, overridden

EPILOG = (
    "Exit codes: 0 done, 2 usage, 3 input data, 4 artifact, 5 disk or memory, 6 a limit of `d2 "
    "diff`, 1 a bug."
)

app = typer.Typer(
    name="d2",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog=EPILOG,
)


def _version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        typer.echo(f"d2 {__version__}")
        raise typer.Exit


@app.callback()
def d2(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Pick the part of a data set worth training on.

    \b
      d2 prune train.parquet --difficulty aum --rate 0.9 -o keep.parquet --report report.md
      d2 graph emb.npy | d2 score --difficulty aum.npy | d2 select --rate 0.9 > keep.txt

    D2 Pruning on files: builds a nearest-neighbor graph, passes difficulty over it, and keeps rows
    that are hard and unlike each other. The rate is the fraction removed.

    A COLREF names a column: COLUMN of the command's own file, FILE, or FILE::COLUMN.
    """


def parser_of(word: str) -> TyperGroup:
    """Return the parser of a command line by its first word.

    It knows the one command of that name, since to look through the options of all takes as long
    as a small run; or all commands, where the word is the name of none.
    """
    named = [one for one in app.registered_commands if _name(one) == word]
    return _parser(word if named else None)


@cached
def _parser(name: str | None) -> TyperGroup:
    part = copy.copy(app)
    if name is not None:
        part.registered_commands = [one for one in app.registered_commands if _name(one) == name]
        part.registered_groups = []
    return cast(TyperGroup, typer.main.get_command(part))


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", ""))


def options_by_command() -> dict[str, dict[str, Option]]:
    """Return the options of every command that a file or the environment may set."""
    found: dict[str, dict[str, Option]] = {}
    commands = _parser(None).commands
    groups = {
        name: group.commands for name, group in commands.items() if hasattr(group, "commands")
    }
    inner = {f"{name} {sub}": one for name, of in groups.items() for sub, one in of.items()}
    for name, command in {**commands, **inner}.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                option = Option(parameter.name, parameter.multiple, _kind(parameter))
                long = max(parameter.opts, key=len).removeprefix("--").replace("-", "_")
                found.setdefault(name, {})[long] = option
    return found


def _kind(parameter: Any) -> str:  # noqa: ANN401
    """Return what an option's values are, see `Option`."""
    if parameter.is_flag:
        return "flag"
    kinds = {"int": "whole", "integer": "whole", "float": "number"}  # or "int range", say
    return kinds.get(parameter.type.name.partition(" ")[0], "text")


class _Command(TyperCommand):
    """A command whose options override those from weaker places that they exclude."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse, and once more without what is overridden."""
        rest: list[str] = super().parse_args(ctx, list(args))
        defaults = ctx.default_map
        if not isinstance(defaults, Defaults):
            return rest
        levels = {}
        for name in ctx.params:
            source = getattr(ctx.get_parameter_source(name), "name", "")
            if source != "DEFAULT":
                levels[name] = COMMAND_LINE if source == "COMMANDLINE" else defaults.level(name)
        weaker = overridden(ctx.info_name, ctx.params, levels)
        if not weaker:
            return rest
        for name in weaker:
            defaults.forget(name)
        ctx.params.clear()
        return list(super().parse_args(ctx, list(args)))


for _stage in (graph, score, select, prune):
    app.command()(_stage)
app.command()(stream)
app.command()(difficulty)
app.command()(compare)
app.command()(sweep)
app.command()(check)
app.command()(report)
app.command()(explain)
app.command()(diff)
app.add_typer(cache, name="cache")
app.command()(export)
app.command()(update)
for _command in app.registered_commands:
    _command.cls = _Command
