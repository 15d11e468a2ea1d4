"""Checks as text and JSON."""

import json
import textwrap
from collections.abc import Callable
from typing import Any

CHECK_KIND = "d2 check"
SELF_TEST_KIND = "d2 self-test"
WIDTH = 80
ADVICE = "-> "


def render_checks(found: dict[str, Any]) -> bytes:
    """Return checks as JSON; ASCII only, so that no name can steer a terminal."""
    return (json.dumps(found, indent=2, allow_nan=False) + "\n").encode()


def check_lines(found: dict[str, Any], *, escape: Callable[[str], str]) -> list[str]:
    """Return checks as lines of at most 80 columns.

    Parameters
    ----------
    found : dict
        As `d2cli.pipeline.check.run_check` or `d2cli.pipeline.self_test` returns it.
    escape : callable
        Makes text from the data safe to print.
    """
    what = found.get("versions") or (
        f"{found['source']}: {found['n_rows']:,} rows x {found['width']:,}, {found['dtype']}, "
        f"by {found['metric']}"
    )
    lines = textwrap.wrap(escape(what), WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    lines.append("")
    column = max(len(one["name"]) for one in [*found["checks"], *found["left_out"]])
    for check in found["checks"]:
        lines += _entry(f"{check['verdict']}  {check['name']:<{column}}  ", check["found"], escape)
        if check["advice"]:
            lines += _entry(" " * (column + 8) + ADVICE, check["advice"], escape)
    for left_out in found["left_out"]:
        lines += _entry(f"-     {left_out['name']:<{column}}  ", left_out["reason"], escape)
    counts = found["counts"]
    lines += ["", f"{counts['pass']} pass, {counts['warn']} warn, {counts['fail']} fail"]
    return lines


def _entry(start: str, text: str, escape: Callable[[str], str]) -> list[str]:
    """Return a text behind a start, its further lines indented to where it begins."""
    return textwrap.wrap(
        escape(text),
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
    ) or [start.rstrip()]
