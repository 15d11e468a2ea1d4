"""Commands that look at what is there: results on standard output."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from d2cli.commands.running import Setting
from d2cli.files.stdout import write_stdout


def _setting(*, quiet: bool = False, max_memory: int | None = None) -> Setting:
    return Setting(threads=1, force=False, quiet=quiet, max_memory=max_memory)


def _print_lines(lines: Iterable[str]) -> None:
    write_stdout("\n".join([*lines, ""]).encode("utf-8", "backslashreplace"))


def _print_json(value: Any) -> None:  # noqa: ANN401
    """Print JSON that a terminal shows as it is: control characters, of the data, are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    _print_lines([re.sub(r"[^\n -~]", _escaped, text)])


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    return json.dumps(character)[1:-1] if ord(character) != 0x7F else "\\u007f"


def explain(
    selection: str,
    wanted: Sequence[str],
    *,
    as_json: bool,
    max_memory: int | None = None,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 explain``."""
    from d2cli.pipeline.explain import run_explain
    from d2cli.render.explanations import explanation_lines

    with _setting(max_memory=max_memory).run() as run:
        found = run_explain(run, selection, wanted, **more)
    if as_json:
        _print_json(found)
    else:
        _print_lines(explanation_lines(found))


def diff(
    a: str,
    b: str,
    *,
    as_json: bool,
    max_memory: int | None = None,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 diff``; what exceeds a limit is told after all the rest."""
    from d2cli.pipeline.diff import enforce, run_diff
    from d2cli.render.diffs import diff_lines

    with _setting(max_memory=max_memory).run() as run:
        found = run_diff(run, a, b, **more)
    if as_json:
        _print_json(found)
    else:
        _print_lines(diff_lines(found))
    enforce(found)


def cache_ls(cache_dir: str | None, *, as_json: bool) -> None:
    """Run ``d2 cache ls``."""
    from d2cli.pipeline.caching import run_cache_ls
    from d2cli.render.listings import entry_lines

    found = run_cache_ls(cache_dir)
    if as_json:
        _print_json(found)
    else:
        _print_lines(entry_lines(found))


def cache_verify(cache_dir: str | None, *, as_json: bool, quiet: bool) -> None:
    """Run ``d2 cache verify``; that something is damaged is told after all the rest."""
    from d2cli.pipeline.caching import refuse_damage, run_cache_verify
    from d2cli.render.listings import verify_lines

    with _setting(quiet=quiet).run() as run:
        found = run_cache_verify(run, cache_dir)
    if as_json:
        _print_json(found)
    elif not quiet:
        _print_lines(verify_lines(found))
    refuse_damage(found)


def cache_clear(cache_dir: str | None, *, as_json: bool, quiet: bool, **limits: Any) -> None:  # noqa: ANN401
    """Run ``d2 cache clear``."""
    from d2cli.pipeline.caching import run_cache_clear
    from d2cli.render.listings import clear_lines

    with _setting(quiet=quiet).run() as run:
        found = run_cache_clear(run, cache_dir, **limits)
    if as_json:
        _print_json(found)
    elif not quiet:
        _print_lines(clear_lines(found))
