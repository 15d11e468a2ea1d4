"""``d2 cache ls``, ``verify`` and ``clear``."""

from typing import Annotated

import typer

from d2cli import options as opt
from d2cli.quantities import parse_duration, parse_size

cache = typer.Typer(
    rich_markup_mode=None,
    help="Look after the folder where finished stages are kept.",
)


@cache.command()
def ls(cache_dir: opt.CacheDir = None, json: opt.Json = False) -> None:
    """List entries, the one longest unused first, and the total.

    \b
      d2 cache ls
      d2 cache ls --json | jq '.total'
    """
    from d2cli.commands import artifacts as commands_artifacts

    commands_artifacts.cache_ls(cache_dir, as_json=json)


@cache.command()
def verify(
    cache_dir: opt.CacheDir = None, json: opt.Json = False, quiet: opt.Quiet = False
) -> None:
    """Compare every entry with its digest; exit code 4 if one is damaged.

    \b
      d2 cache verify
    """
    from d2cli.commands import artifacts as commands_artifacts

    commands_artifacts.cache_verify(cache_dir, as_json=json, quiet=quiet)


@cache.command()
def clear(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            help="Remove what has not been used for so long, such as 12h, 30d or 2w.",
            show_default=False,
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Remove what has not been used for longest, until no more than this is left, such "
            "as 500M or 10G.",
            show_default=False,
        ),
    ] = None,
    cache_dir: opt.CacheDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Remove entries: all, or only the old ones, or down to a total size.

    \b
      d2 cache clear --older-than 30d
      d2 cache clear --max-size 10G --dry-run
      d2 cache clear

    What a running process is making stays, and so does every file that d2 did not write. What was
    removed is computed again when it is needed.
    """
    from d2cli.commands import artifacts as commands_artifacts

    commands_artifacts.cache_clear(
        cache_dir,
        older_than=None if older_than is None else parse_duration("older-than", older_than),
        max_size=None if max_size is None else parse_size("max-size", max_size),
        dry_run=dry_run,
        as_json=json,
        quiet=quiet,
    )
