"""Plots as inline SVG: a frame with axes, and the marks in it.

Colours are classes, so that the page's style sheet decides them, in the light and in the dark.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from d2cli.render.wording import printable

SMALLEST_SPAN = 1e-300  # below it a power of 10 is no round number, or 0


def safe(text: str) -> str:
    """Return text from anywhere as HTML or SVG shows it, also inside an attribute."""
    return html.escape(printable(text), quote=True)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most so many round numbers from low to high, a 1, 2 or 5 times a power of 10 apart.

    Both ends are returned where no two round numbers lie between them.
    """
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    if span < SMALLEST_SPAN:
        return [low, high]
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    found = [k * step for k in range(first, last + 1)]
    return found if len(found) > 1 else [low, high]


def tick_text(value: float) -> str:
    """Return a round number: "0.5", "50,000", "2e+06"."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.6g}"


@dataclass(frozen=True)
class Frame:
    """The plane of a plot: data from (left, bottom) to (right, top) in a box of some size."""

    left: float
    right: float
    bottom: float
    top: float
    width: float = 380
    height: float = 200
    margins: tuple[float, float, float, float] = (10, 12, 38, 52)  # top, right, bottom, left

    def x(self, value: float) -> float:
        """Return where a value lies from the left, in pixels."""
        inside = self.width - self.margins[1] - self.margins[3]
        return self.margins[3] + inside * _share(value, self.left, self.right)

    def y(self, value: float) -> float:
        """Return where a value lies from the top, in pixels."""
        inside = self.height - self.margins[0] - self.margins[2]
        return self.height - self.margins[2] - inside * _share(value, self.bottom, self.top)

    def across(self, label: str, *, whole: bool = False) -> str:
        """Return the lower axis; ``whole`` leaves out what is no whole number."""
        floor = self.y(self.bottom)
        parts = [_line("axis", self.x(self.left), floor, self.x(self.right), floor)]
        parts += [
            _text(self.x(value), floor + 15, tick_text(value), "middle")
            for value in ticks(self.left, self.right)
            if not whole or value == int(value)
        ]
        middle = (self.x(self.left) + self.x(self.right)) / 2
        return "".join([*parts, _text(middle, self.height - 5, label, "middle", "label")])

    def upward(self, label: str, *, whole: bool = False) -> str:
        """Return the left axis with lines across the plot."""
        parts = []
        for value in ticks(self.bottom, self.top, 4):
            if not whole or value == int(value):
                at = self.y(value)
                parts.append(_line("grid", self.x(self.left), at, self.x(self.right), at))
                parts.append(_text(self.margins[3] - 6, at + 4, tick_text(value), "end"))
        middle = (self.y(self.bottom) + self.y(self.top)) / 2
        turned = f' transform="rotate(-90 11 {middle:.1f})"'
        return "".join([*parts, _text(11, middle, label, "middle", "label", turned)])

    def picture(self, label: str, parts: Sequence[str]) -> str:
        """Return the whole plot; ``label`` is what is read out in its place."""
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{safe(label)}">{"".join(parts)}</svg>'
        )


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "", more: str = "") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return (
        f'<text{of_kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{safe(text)}</text>'
    )


def bars(
    frame: Frame, edges: Sequence[float], heights: Sequence[float], kind: str, tips: Sequence[str]
) -> str:
    """Return a bar for each bin, with a text that shows when it is pointed at."""
    parts = []
    for i, (height, tip) in enumerate(zip(heights, tips, strict=True)):
        x, y = frame.x(edges[i]) + 0.5, frame.y(height)
        width, tall = max(frame.x(edges[i + 1]) - 0.5 - x, 0.5), frame.y(0) - y
        parts.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" '
            f'height="{tall:.2f}"><title>{safe(tip)}</title></rect>'
        )
    return "".join(parts)


def curve(frame: Frame, across: Sequence[float], up: Sequence[float | None], kind: str) -> str:
    """Return a line through points, broken where one is None."""
    runs: list[list[str]] = [[]]
    for x, y in zip(across, up, strict=True):
        if y is None:
            runs.append([])
        else:
            runs[-1].append(f"{frame.x(x):.2f},{frame.y(y):.2f}")
    return "".join(f'<polyline class="{kind}" points="{" ".join(run)}"/>' for run in runs if run)


def rule(frame: Frame, kind: str, *, x: float | None = None, y: float | None = None) -> str:
    """Return a line across the whole plot at one value."""
    if x is not None:
        return _line(kind, frame.x(x), frame.y(frame.bottom), frame.x(x), frame.y(frame.top))
    at = frame.y(0.0 if y is None else y)
    return _line(kind, frame.x(frame.left), at, frame.x(frame.right), at)


def note(frame: Frame, x: float, y: float, text: str) -> str:
    """Return a word beside a place, on the side where there is room."""
    at, end = frame.x(x), frame.x(x) > 0.6 * frame.width
    return _text(at - 5 if end else at + 5, frame.y(y), text, "end" if end else "start", "note")


def dots(frame: Frame, points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return round marks, all in one path."""
    moves = "".join(f"M{frame.x(x):.1f} {frame.y(y):.1f}h0" for x, y in points)
    return f'<path class="{kind}" d="{moves}"/>'


def diamonds(frame: Frame, points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return square marks standing on a corner, all in one path."""
    moves = "".join(f"M{frame.x(x):.1f} {frame.y(y) - 4:.1f}l4 4l-4 4l-4-4z" for x, y in points)
    return f'<path class="{kind}" d="{moves}"/>'
