"""Pieces of HTML that every part of a report is made of."""

from collections.abc import Iterable

from d2cli.render.svg import safe
from d2cli.render.wording import shorten

KEPT_MARK, OTHER_MARK = '<span class="k">◆</span>', '<span class="o">●</span>'


def user_text(text: str, most: int) -> str:
    """Return text from the data, cut and escaped, with a direction of its own."""
    return f"<bdi>{safe(shorten(text, most))}</bdi>"


def section(heading: str, content: str) -> str:
    """Return a section; none where there is nothing to show."""
    return f"<section>\n<h2>{heading}</h2>\n{content}</section>\n" if content else ""


def figure(plot: str, caption: str) -> str:
    """Return a plot with its caption."""
    return f"<figure>{plot}<figcaption>{caption}</figcaption></figure>\n"


def table(
    caption: str, header: Iterable[str], rows: Iterable[Iterable[str]], *, text: tuple[int, ...]
) -> str:
    """Return a table of cells that are HTML already; columns not in ``text`` hold numbers."""
    head = "".join(f'<th scope="col"{_align(c, text)}>{name}</th>' for c, name in enumerate(header))
    lines = []
    for row in rows:
        first, *others = row
        cells = "".join(f"<td{_align(c, text)}>{cell}</td>" for c, cell in enumerate(others, 1))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>\n')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>'
        f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{''.join(lines)}</tbody></table></div>\n"
    )


def _align(column: int, text: tuple[int, ...]) -> str:
    return "" if column in text else ' class="n"'
