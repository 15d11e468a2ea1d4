"""``d2 diff``: what changed from one selection to another, and whether it is too much."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import GateError, ParameterError
from d2cli.files import cache
from d2cli.files.artifacts import Artifact
from d2cli.files.destinations import check_output
from d2cli.files.outputs import check_suffix
from d2cli.files.publish import write_bytes
from d2cli.files.remote import as_place
from d2cli.files.sides import Side, comparable, number_rows, read_groups_of, read_side
from d2cli.pipeline.run import Run
from d2cli.render.diffs import DIFF_SUFFIXES, render_diff
from d2cli.render.wording import shorten
from d2cli.stages.diff import Matched, compare_difficulty, compare_groups, kendall_tau, match

DIFF_VERSION = 1
EXAMPLES = 10
STAGES = {"selection": "select", "scores": "score", "graph": "graph"}


def run_diff(
    run: Run,
    a_ref: str,
    b_ref: str,
    *,
    by_row: bool = False,
    group: str | None = None,
    max_change: float | None = None,
    max_group_loss: float | None = None,
    output: str | None = None,
    cache_dir: str | None = None,
) -> dict[str, Any]:
    """Compare two selections and publish the result; gates are judged, not enforced.

    Parameters
    ----------
    run : Run
    a_ref, b_ref : str
        Selections, or lists of ids or rows.
    by_row : bool
        Match by row number, though there be ids.
    group : str, optional
        COLREF; left out, the groups that the selections hold.
    max_change, max_group_loss : float, optional
        Limits, 0 to 1, of `Matched.change` and of the largest ``loss`` of a group.
    output : str, optional
        ``.md`` or ``.json``.
    cache_dir : str, optional
        Where the scores and graphs may be whose parameters are compared as well.

    Returns
    -------
    dict
        Plain numbers, strings, lists and dicts, ready for JSON; see `enforce` for its "gates".
    """
    limits = {"max-change": max_change, "max-group-loss": max_group_loss}
    for name, limit in limits.items():
        if limit is not None and not 0 <= limit <= 1:
            raise ParameterError(f"{name} is {limit:g}, expected 0 to 1")
    place = None if output is None else as_place(output)
    if place is not None:
        check_suffix(place, DIFF_SUFFIXES, "a difference")
    a, b = read_side(run.sources, a_ref), read_side(run.sources, b_ref)
    by, codes_a, codes_b = number_rows(a, b, by_row=by_row)
    matched = match(codes_a, codes_b)
    groups = _groups(run, matched, a, b, group)
    if max_group_loss is not None and groups is None:
        raise ParameterError(
            "--max-group-loss needs groups, which the selections do not both hold",
            hint="name a column of labels with --group FILE::COLUMN",
        )
    if place is not None:
        check_output(place, run.inputs(a_ref, b_ref))
    difficulty = None
    if a.difficulty is not None and b.difficulty is not None:
        difficulty = compare_difficulty(matched, a.difficulty, b.difficulty)
    found = {
        "kind": "d2 diff",
        "schema_version": DIFF_VERSION,
        "a": _about(a),
        "b": _about(b),
        "matched_by": by,
        "overlap": {
            "both": len(matched.common_a),
            "only_a": len(matched.lost),
            "only_b": len(matched.gained),
            "jaccard": matched.jaccard,
            "change": matched.change,
        },
        "kendall_tau": _tau(matched, a, b),
        "difficulty": difficulty,
        "groups": groups or [],
        "examples": {"lost": _first(a, matched.lost), "gained": _first(b, matched.gained)},
        "changes": _changes(a.artifact, b.artifact, cache.cache_folder(cache_dir)),
        "gates": list(_gates(matched, groups or [], limits)),
    }
    if place is not None:
        write_bytes(place, render_diff(found, place.suffix.lower()))
    return found


def enforce(found: dict[str, Any]) -> None:
    """Raise GateError if a difference is beyond a limit; names every such limit in one line."""
    failed = [gate for gate in found["gates"] if not gate["passed"]]
    if failed:
        raise GateError("; ".join(gate["message"] for gate in failed))


def _about(side: Side) -> dict[str, Any]:
    artifact = side.artifact
    return {
        "name": side.name,
        "key": None if artifact is None else artifact.key,
        "digest": None if artifact is None else artifact.digest,
        "rows": side.n_rows,
        "kept": len(side),
    }


def _groups(
    run: Run, matched: Matched, a: Side, b: Side, group: str | None
) -> list[dict[str, Any]] | None:
    labels_a, labels_b = a.group, b.group
    if group is not None:
        labels_a, labels_b = (read_groups_of(run.sources, side, group) for side in (a, b))
    if labels_a is None or labels_b is None:
        return None
    return compare_groups(matched, *comparable(labels_a, labels_b))


def _tau(matched: Matched, a: Side, b: Side) -> float | None:
    if a.rank is None or b.rank is None:
        return None
    return kendall_tau(a.rank[matched.common_a], b.rank[matched.common_b])


def _first(side: Side, places: NDArray[np.int64]) -> list[str | int]:
    """Return the names of some rows, best ranks first."""
    if side.rank is not None:
        places = places[np.argsort(side.rank[places], kind="stable")]
    return [side.name_of(int(at)) for at in places[:EXAMPLES]]


# --- how they were made ---------------------------------------------------------------------------


def _changes(
    a: Artifact | None, b: Artifact | None, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Name the parameters, inputs and versions in which two selections differ.

    Scores and graphs are looked at too where they are in the cache; else it is only said that they
    are others.
    """
    out: dict[str, list[dict[str, Any]]] = {"parameters": [], "inputs": [], "versions": []}
    if a is None or b is None:
        return out
    pairs = {"selection": (a, b), **_earlier(a, b, folder)}
    for kind, (one, other) in pairs.items():
        stage = STAGES[kind]
        ours, theirs = one.meta["parameters"], other.meta["parameters"]
        for name in dict.fromkeys((*ours, *theirs)):
            if ours.get(name) != theirs.get(name):
                out["parameters"].append(
                    {"stage": stage, "name": name, "a": ours.get(name), "b": theirs.get(name)}
                )
        out["inputs"] += _inputs(stage, one, other, set(pairs))
    ours, theirs = a.meta["versions"], b.meta["versions"]
    out["versions"] = [
        {"name": name, "a": ours.get(name), "b": theirs.get(name)}
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]
    return out


def _earlier(a: Artifact, b: Artifact, folder: Path) -> dict[str, tuple[Artifact, Artifact]]:
    """Return the scores and graphs that differ and of which both are in the cache."""
    found = {}
    for kind in ("scores", "graph"):
        # Of a stream's selection there are none.
        digests = [one.meta["inputs"].get(kind) for one in (a, b)]
        if digests[0] == digests[1] or None in digests:
            continue
        one, other = (cache.find_digest(folder, kind, str(digest)) for digest in digests)
        if one is not None and other is not None:
            found[kind] = one, other
    return found


def _inputs(
    stage: str, one: Artifact, other: Artifact, known: set[str]
) -> Iterator[dict[str, str]]:
    ours, theirs = one.meta["inputs"], other.meta["inputs"]
    for name in dict.fromkeys((*ours, *theirs)):
        if name in known or ours.get(name) == theirs.get(name):
            continue  # of an earlier stage that is known, what differs is said there
        how = "added" if name not in ours else "left out" if name not in theirs else "changed"
        yield {"stage": stage, "name": name, "how": how}


# --- gates ----------------------------------------------------------------------------------------


def _gates(
    matched: Matched, groups: list[dict[str, Any]], limits: dict[str, float | None]
) -> Iterator[dict[str, Any]]:
    limit = limits["max-change"]
    if limit is not None:
        yield {
            "gate": "max-change",
            "limit": limit,
            "value": matched.change,
            "passed": matched.change <= limit,
            "message": f"change {matched.change:.4g} is above --max-change {limit:g}: of "
            f"{matched.n_a:,} rows {len(matched.lost):,} are lost, {len(matched.gained):,} gained",
        }
    limit = limits["max-group-loss"]
    if limit is not None:
        worst = max(groups, key=lambda group: group["loss"], default=None)
        value = worst["loss"] if worst is not None else 0.0
        beyond = sum(group["loss"] > limit for group in groups)
        more = f" ({beyond:,} such groups)" if beyond > 1 else ""
        yield {
            "gate": "max-group-loss",
            "limit": limit,
            "value": value,
            "passed": value <= limit,
            "message": f"group loss {value:.4g} is above --max-group-loss {limit:g}: group "
            f"'{shorten(str(worst['name']))}' keeps {worst['b']:,} rows, before {worst['a']:,}"
            f"{more}"
            if worst is not None
            else "",
        }
