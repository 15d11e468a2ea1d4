"""Explanations of rows as plain JSON, and as text for a terminal."""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from d2cli.render.wording import number, printable, shorten
from d2cli.stages.explanation import Explanation, Message, Placing

WIDTH = 96  # columns of text
LONGEST_ID, LONGEST_TEXT = 24, 76
MOST_MESSAGES = 25  # of a table in text; JSON has them all

INTEGER = re.compile(r"-?[0-9]{1,18}")

Named = Callable[[int], dict[str, Any]]


def find_ids(texts: Sequence[str], ids: pa.Array) -> list[int | None]:
    """Return the row of each id; None for one that is not there.

    Parameters
    ----------
    texts : sequence of str
    ids : Arrow array, large_string or int64
        Of all rows, all different.
    """
    import pyarrow.compute as pc

    wanted: list[Any] = list(texts)
    if pa.types.is_integer(ids.type):
        wanted = [int(text) if INTEGER.fullmatch(text) else None for text in texts]
    found = pc.index_in(pa.array(wanted, ids.type), value_set=ids, skip_nulls=True)
    rows: list[int | None] = found.to_pylist()
    return rows


def explanation_of(
    found: Explanation, named: Named, *, method: str, group: dict[str, Any] | None, cut_reason: str
) -> dict[str, Any]:
    """Return one explanation as JSON values.

    Parameters
    ----------
    found : Explanation
    named : callable
        Returns ``row`` and, where there are ids and texts, ``id`` and ``text`` of a row.
    method : str
    group : dict or None
        Name and numbers of the row's group.
    cut_reason : str
        Why a cutoff took rows out.
    """
    contest = found.contest
    out: dict[str, Any] = {
        **named(found.row),
        "fate": fate_of(found),
        "rank": found.rank,
        "in_pool": found.in_pool,
        "cut_reason": None if found.in_pool else cut_reason,
        "included": found.included,
        "excluded": found.excluded,
        "group": group,
        "difficulty": _placing(found.difficulty),
        "score": _placing(found.score) if found.in_pool else {"value": found.score.value},
        "picked_for": _finite(found.picked_for),
        "nearest_kept": [
            {**named(near.row), "rank": near.rank, "distance": near.distance}
            for near in found.nearest
        ],
    }
    if method == "d2":
        out |= {
            "forward": {
                "own": found.own,
                "sum": found.forward_sum,
                "messages": [_message(named, message) for message in found.forward],
            },
            "reverse": [
                {"rank": m.rank, **_message(named, m), "score_after": m.score_after}
                for m in found.reverse
            ],
            "final_score": found.final_score,
            "last_pick": None
            if contest is None
            else {
                **named(contest.row),
                "rank": contest.rank,
                "score_at_pick": contest.score_at_pick,
                "score_then": contest.score_then,
                "included": contest.included,
            },
            "passed_over": found.passed_over,
        }
    return {**out, "why": why(out, method)}


def fate_of(found: Explanation) -> str:
    """Return "kept", "cut off", "excluded" or "dropped"."""
    if found.kept:
        return "kept"
    if found.excluded:
        return "excluded"
    return "dropped" if found.in_pool else "cut off"


def _finite(value: float | None) -> float | None:
    """Return None for what JSON cannot hold, such as the distance of a first pick."""
    return value if value is not None and math.isfinite(value) else None


def _placing(placing: Placing) -> dict[str, Any]:
    return {
        "value": placing.value,
        "rank": placing.rank,
        "of": placing.total,
        "above_share": placing.share_below,
    }


def _message(named: Named, message: Message) -> dict[str, Any]:
    return {
        **named(message.sender),
        "distance": message.distance,
        "weight": message.weight,
        "sent": message.sent,
        "amount": message.amount,
    }


# --- text -----------------------------------------------------------------------------------------


def explanation_lines(found: dict[str, Any]) -> list[str]:
    """Return all explanations as lines of plain text, none of it wider than 96 columns."""
    lines: list[str] = []
    for row in found["rows"]:
        lines += [*_row_lines(row, found), ""]
    return lines[:-1]


def _row_lines(row: dict[str, Any], found: dict[str, Any]) -> list[str]:
    title = f"{_title(row)}: {row['fate']}"
    if row["rank"] is not None:
        title += f", rank {row['rank']:,} of {found['selection']['kept']:,}"
    lines = [title]
    if "text" in row:
        lines.append(f"  {_cut(row['text'], LONGEST_TEXT)}")
    lines += [f"  {line}" for line in _wrap(row["why"])]
    lines += [f"  {name:<12}{text}" for name, text in _facts(row, found)]
    if "forward" in row:
        lines += _forward_table(row, found)
        lines += _reverse_table(row)
    return lines


def _title(row: dict[str, Any]) -> str:
    return f"{_id(row, 60)} (row {row['row']:,})" if "id" in row else f"row {row['row']:,}"


def _id(row: dict[str, Any], most: int = LONGEST_ID) -> str:
    return _cut(row["id"], most) if "id" in row else f"{row['row']:,}"


def _cut(value: object, most: int) -> str:
    return shorten(printable(str(value)), most)


def why(row: dict[str, Any], method: str) -> str:
    """Return the reason for a row's fate in a sentence or two."""
    score = row["score"]["value"]
    if row["fate"] == "kept":
        return _why_kept(row, method)
    if row["fate"] == "cut off":
        reason = row["cut_reason"] or "a given fraction of the hardest rows"
        return f"--prune-hardest took it out before any message was passed: {reason}."
    if row["fate"] == "excluded":
        return "--exclude took it out; it would else have been among the candidates."
    if method != "d2":
        return f"The method {method} did not pick it; it uses no messages."
    suppressors, final, last = len(row["reverse"]), row["final_score"], row["last_pick"]
    if last is None:
        if row["group"] is not None and row["group"]["kept"] == 0:
            return "No row of its group is kept: the group's budget is 0."
        return (
            f"{_suppressed(suppressors, score, final)} What was picked of its group is not known: "
            "name the group with --group, or the data with --source."
        )
    whose = "group" if row["group"] is not None else "selection"
    if last["included"]:
        return f"Included rows took up the whole budget of its {whose}."
    if row["passed_over"]:
        or_ = ", or --exclude named it" if row["excluded"] is None else ""
        return (
            f"{_suppressed(suppressors, score, final)} It stood above rows that were picked, but "
            f"--max-changes left no place for one more newcomer{or_}."
        )
    then = last["score_then"]
    compared = (
        f"the last pick of the {whose} had {number(last['score_at_pick'])} "
        f"when this row had {number(then)}"
    )
    if then == last["score_at_pick"]:
        compared += " as well, and came first among equals"
    return f"{_suppressed(suppressors, score, final)} {compared[0].upper()}{compared[1:]}."


def _why_kept(row: dict[str, Any], method: str) -> str:
    if row["included"]:
        more = "" if row["in_pool"] else " and though --prune-hardest had taken it out"
        return f"--include named it: picked whatever its score{more}."
    if method != "d2":
        value = "" if row["picked_for"] is None else f" for {number(row['picked_for'])}"
        return f"The method {method} picked it{value}; it uses no messages."
    count, score = len(row["reverse"]), row["score"]["value"]
    if not count:
        return f"No neighbor was picked before it, so its score was still {number(score)}."
    return (
        f"Largest score left, {number(row['final_score'])}, after {_picks(count)} "
        f"among its neighbors."
    )


def _picks(count: int) -> str:
    return "1 earlier pick" if count == 1 else f"{count:,} earlier picks"


def _suppressed(count: int, score: float, final: float) -> str:
    if not count:
        return f"No neighbor was picked, so its score stayed {number(score)}."
    by = "1 kept neighbor" if count == 1 else f"{count:,} kept neighbors"
    return f"{by[0].upper()}{by[1:]} changed its score from {number(score)} to {number(final)}."


def _facts(row: dict[str, Any], found: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("difficulty", _placing_text(row["difficulty"], "harder", "rows"))]
    if row["in_pool"] and found["selection"]["method"] == "d2":
        facts.append(("score", _placing_text(row["score"], "higher", "rows of the pool")))
    group = row["group"]
    if group is not None:
        of = "" if group["rows"] is None else f" of {group['rows']:,}"
        facts.append(("group", f"{_cut(group['name'], 50)}: {group['kept']:,}{of} rows kept"))
    elif found["selection"]["groups"]:
        facts.append(("group", "not known; name it with --group, or the data with --source"))
    if row["excluded"] is None and row["fate"] == "dropped":
        facts.append(("excluded", "not known; name the list with --exclude"))
    if row["included"] is None:
        facts.append(("included", "not known; name the list with --include"))
    near = [
        f"{_id(n)} at {number(n['distance'])} (rank {n['rank']:,})" for n in row["nearest_kept"]
    ]
    facts.append(("nearest kept", " " + (near[0] if near else "none among its neighbors")))
    facts += [("", " " + text) for text in near[1:]]
    for n in row["nearest_kept"][:1]:
        if "text" in n:
            facts.append(("", " " + _cut(n["text"], LONGEST_TEXT)))
    return facts


def _placing_text(placing: dict[str, Any], word: str, of: str) -> str:
    return (
        f"{number(placing['value'])}, {word} than {100 * placing['above_share']:.1f} % of "
        f"{placing['of']:,} {of} (place {placing['rank']:,})"
    )


def _forward_table(row: dict[str, Any], found: dict[str, Any]) -> list[str]:
    forward, rounds = row["forward"], found["forward"]["rounds"]
    if not row["in_pool"] or rounds == 0:
        return []
    own = "difficulty" if rounds == 1 else f"score after {rounds - 1} rounds"
    lines = [
        "",
        f"  forward: {own} {number(forward['own'])} + {number(forward['sum'])} from "
        f"{len(forward['messages'])} neighbors = score {number(row['score']['value'])}",
    ]
    largest_first = sorted(forward["messages"], key=lambda m: -m["amount"])
    table = [["neighbor", "distance", "weight", "sent", "amount"]]
    table += [
        [_id(m), *(number(m[name]) for name in ("distance", "weight", "sent", "amount"))]
        for m in largest_first
    ]
    return [*lines, *_aligned(table)]


def _reverse_table(row: dict[str, Any]) -> list[str]:
    if not row["reverse"] or (not row["in_pool"] and not row["included"]):
        return []
    lines = [
        "",
        f"  reverse: score {number(row['score']['value'])} before, "
        f"{number(row['final_score'])} after the picks among its neighbors",
    ]
    table = [["pick", "rank", "distance", "weight", "sent", "amount", "score then"]]
    table += [
        [
            _id(m),
            f"{m['rank']:,}",
            *(number(m[name]) for name in ("distance", "weight", "sent")),
            number(-m["amount"]),
            number(m["score_after"]),
        ]
        for m in row["reverse"]
    ]
    return [*lines, *_aligned(table)]


def _aligned(table: list[list[str]]) -> list[str]:
    shown = table[: MOST_MESSAGES + 1]
    widths = [max(len(cells[c]) for cells in shown) for c in range(len(shown[0]))]
    lines = [
        "    "
        + "  ".join(
            cell.ljust(width) if c == 0 else cell.rjust(width)
            for c, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in shown
    ]
    rest = len(table) - len(shown)
    return [*lines, f"    and {rest:,} more (--json has them all)"] if rest else lines


def _wrap(text: str) -> Iterable[str]:
    return textwrap.wrap(printable(text), WIDTH - 2) or [""]
