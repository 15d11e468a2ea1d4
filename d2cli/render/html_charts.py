"""The plots of an HTML report, each with the numbers it shows."""

from typing import Any

from d2cli.render.html_parts import KEPT_MARK, OTHER_MARK, figure, table
from d2cli.render.svg import Frame, bars, curve, diamonds, dots, note, rule
from d2cli.render.wording import number, percent
from d2cli.stages.map2d import Map2d

WIDE = (12, 14, 40, 66)  # margins of a plot over the whole page


def difficulty_section(report: dict[str, Any]) -> str:
    """Return histograms of all and of kept rows, and the quantiles."""
    difficulty = report["difficulty"]
    edges = difficulty["histogram"]["edges"]
    figures = []
    for which, label, caption in (
        ("all", "all rows", "All rows."),
        ("kept", "kept rows", "Kept rows, on a scale of their own."),
    ):
        counts = difficulty["histogram"][which]
        frame = Frame(edges[0], edges[-1], 0, max(*counts, 1), height=170)
        tips = [
            f"{number(edges[i])} to {number(edges[i + 1])}: {count:,} {which}"
            for i, count in enumerate(counts)
        ]
        parts = [
            frame.upward(label, whole=True),
            frame.across("difficulty"),
            bars(frame, edges, counts, which, tips),
        ]
        plot = frame.picture(f"Histogram of the difficulty of {label}", parts)
        figures.append(figure(plot, caption))
    names = list(difficulty["all"])
    rows = [
        (which, *(number(difficulty[which][name]) for name in names))
        for which in ("all", "kept", "dropped")
        if difficulty[which] is not None
    ]
    header = ("rows", *(_quantile_name(name) for name in names))
    numbers = table("Mean and quantiles of the difficulty", header, rows, text=(0,))
    return f'<div class="pair">\n{"".join(figures)}</div>\n{numbers}'


def _quantile_name(name: str) -> str:
    words = {"mean": "mean", "q0": "least", "q50": "median", "q100": "largest"}
    return words.get(name, f"{name[1:]} %")


def picks_section(report: dict[str, Any]) -> str:
    """Return the scores of the picks by rank; nothing where none is finite."""
    picks, method = report["picks"], report["parameters"]["select"]["method"]
    ranks, scores = picks["curve"]["ranks"], picks["curve"]["scores"]
    known = [score for score in scores if score is not None]
    if not known:
        return ""
    frame = Frame(0, max(ranks[-1], 1), min(*known, 0), max(*known, 0), 560, 220, WIDE)
    what = "score when picked" if method == "d2" else f"value of method {method}"
    parts = [frame.upward(what), frame.across("rank", whole=True), rule(frame, "axis", y=0)]
    turn = picks["first_negative_rank"]
    if turn is not None:
        parts.append(rule(frame, "turn", x=turn))
        parts.append(note(frame, turn, 0.9 * frame.top, f"negative from rank {turn:,}"))
    parts.append(curve(frame, ranks, scores, "line"))
    where = (
        "No pick had a negative score."
        if turn is None
        else f"Negative for the first time at rank {turn:,}; "
        f"{percent(picks['negative_share'])} of all picks."
    )
    plot = frame.picture(f"{what.capitalize()}, over the rank. {where}", parts)
    return f'<div class="broad">{figure(plot, f"{what.capitalize()}, by rank. {where}")}</div>\n'


def map_section(found: Map2d | None) -> str:
    """Return the map of the embedding, if there is one."""
    if found is None:
        return ""
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    pad = 0.03 * (high - low)
    (left, bottom), (right, top) = (low - pad).tolist(), (high + pad).tolist()
    frame = Frame(left, right, bottom, top, 560, 400, (8, 8, 26, 26))
    points = found.points.tolist()
    of = {
        which: [
            tuple(p) for p, stays in zip(points, found.kept.tolist(), strict=True) if stays is which
        ]
        for which in (True, False)
    }
    first, second = (f"{100 * share:.0f} %" for share in found.shares)
    parts = [
        f'<rect class="ground" x="{frame.margins[3]}" y="{frame.margins[0]}" '
        f'width="{frame.width - frame.margins[1] - frame.margins[3]:g}" '
        f'height="{frame.height - frame.margins[0] - frame.margins[2]:g}"/>',
        dots(frame, of[False], "dot dropped"),
        diamonds(frame, of[True], "kept edged"),
        _axis_names(frame, first, second),
    ]
    caption = (
        f"{KEPT_MARK} {len(of[True]):,} kept and {OTHER_MARK} {len(of[False]):,} dropped rows, "
        f"drawn at random, on the first two principal axes ({first} and {second} of the variance)."
    )
    plot = frame.picture("Map of kept and dropped rows on two principal axes", parts)
    return f'<div class="broad">{figure(plot, caption)}</div>\n'


def _axis_names(frame: Frame, first: str, second: str) -> str:
    middle = frame.height / 2
    return (
        f'<text class="label" x="{frame.width / 2:g}" y="{frame.height - 7:g}" '
        f'text-anchor="middle">first axis, {first}</text>'
        f'<text class="label" x="14" y="{middle:g}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle:g})">second axis, {second}</text>'
    )


def weights_section(weights: dict[str, Any]) -> str:
    """Return the quantiles of the edge weights of both ways."""
    rows = []
    for way in ("forward", "reverse"):
        of = weights[way]
        q = of["quantiles"] or {}
        rows.append(
            (
                way,
                number(of["gamma"]),
                *(number(q.get(name)) for name in ("q0", "q5", "q25", "q50", "q75", "q95", "q100")),
                percent(of["near_0"]),
                percent(of["near_1"]),
                _box(q) if q else "",
            )
        )
    header = ["messages", "gamma", "least", "5 %", "25 %", "median", "75 %", "95 %", "largest"]
    header += ["below 0.01", "above 0.99", '<span class="wide">0 to 1</span>']
    return (
        "<p>How much of a row's difficulty a neighbor takes over: 1 at no distance, 0 far away. "
        f"Bandwidth {number(weights['bandwidth'])}.</p>\n"
        + table("Weights of the stored edges", header, rows, text=(0, 11))
    )


def _box(q: dict[str, float]) -> str:
    """Return the quantiles on a line from 0 to 1: 5 to 95 %, the middle half, and the median."""
    frame = Frame(0, 1, 0, 1, 150, 16, (0, 4, 0, 4))
    x5, x25, x50, x75, x95 = (frame.x(q[name]) for name in ("q5", "q25", "q50", "q75", "q95"))
    parts = [
        rule(frame, "grid", y=0.5),
        f'<line class="line" x1="{x5:.1f}" y1="8" x2="{x95:.1f}" y2="8"/>',
        f'<rect class="kept" x="{x25:.1f}" y="4" width="{max(x75 - x25, 1):.1f}" height="8"/>',
        f'<line class="median" x1="{x50:.1f}" y1="2" x2="{x50:.1f}" y2="14"/>',
    ]
    return frame.picture("Quantiles of the weights", parts)


def pair(ours: str, theirs: str) -> str:
    """Return two shares, "40.0 %", as marks on a line; nothing for what is no share."""
    if not (ours.endswith("%") and theirs.endswith("%")):
        return ""
    frame = Frame(0, 100, 0, 1, 150, 16, (1, 6, 1, 6))
    at, other = (float(text.rstrip(" %")) for text in (ours, theirs))
    marks = [
        rule(frame, "axis", y=0.5),
        dots(frame, [(other, 0.5)], "dot dropped"),
        diamonds(frame, [(at, 0.5)], "kept"),
    ]
    return frame.picture(f"{ours}, random {theirs}", marks)
