"""``d2 explain``: why rows were kept or dropped."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import Artifact
from d2cli.files.digests import digest_array
from d2cli.files.excerpts import find_excerpts
from d2cli.files.inputs import Labels, read_wishes, rows_like
from d2cli.files.stages import graph_of, ids_of, scores_of, selection_of
from d2cli.pipeline.run import Run
from d2cli.pipeline.standing import Standing, colref_in, find_group, find_standing
from d2cli.render.explanations import explanation_of, find_ids
from d2cli.stages.explain import Past, explain_rows
from d2cli.stages.explanation import Explanation
from d2cli.stages.selection import Selection

EXPLANATION_VERSION = 1
MOST_HASHED = 1 << 28  # bytes that may be looked at to find out how many rows were included


def run_explain(
    run: Run,
    selection_ref: str,
    wanted: Sequence[str],
    *,
    as_rows: bool = False,
    scores_ref: str | None = None,
    graph_ref: str | None = None,
    cache_dir: str | None = None,
    source: str | None = None,
    show: str | None = None,
    group: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
) -> dict[str, Any]:
    """Explain the fate of some rows.

    Parameters
    ----------
    run : Run
    selection_ref : str
        Parquet file of a selection.
    wanted : sequence of str
        Ids, or row numbers where the data have no ids.
    as_rows : bool
        Take them as row numbers in any case.
    scores_ref, graph_ref, cache_dir : str, optional
        See `d2cli.pipeline.standing.find_standing`.
    source, show : str, optional
        The data, and the COLREF of the texts of rows.
    group, include, exclude : str, optional
        What the selection was made with. A group is found in the graph if neighbours were searched
        within it, or else among the columns of ``source``; rows that were included and excluded
        follow from the picks, mostly.

    Returns
    -------
    dict
        Plain numbers, strings, lists and dicts, ready for JSON.

    Raises
    ------
    InputError
        If there is no such row.
    ArtifactError
        If scores or graph are not found, or something is not what the selection was made with.
    """
    if not wanted:
        raise ParameterError("no row is named", hint="name ids or, with --rows, row numbers")
    standing = find_standing(
        selection_ref, scores_ref=scores_ref, graph_ref=graph_ref, cache_dir=cache_dir
    )
    scores = standing.scores
    rows = rows_like(scores.name, scores.table.num_rows, ids_of(scores), None)
    chosen = _rows_of(wanted, rows, as_rows=as_rows)
    labels = find_group(run.sources, standing, rows, group=group, source=source)
    past = _past(run, standing, rows, labels, include, exclude)
    found = explain_rows(past, chosen)
    texts: dict[int, str] = {}
    if show is not None:
        shown = colref_in(run.sources, show, source)
        texts = find_excerpts(run.sources, shown, rows, None).of(_mentioned(found))
    named = _namer(rows, texts)
    kept_of_group = _group_facts(standing.selection, past.selection)
    out = [
        explanation_of(
            one,
            named,
            method=past.method,
            group=kept_of_group(one),
            cut_reason=past.scores.cut_reason,
        )
        for one in found
    ]
    return {**_of_selection(standing, past), "rows": out}


def _rows_of(wanted: Sequence[str], rows: Rows, *, as_rows: bool) -> list[int]:
    """Return the row numbers that are meant, in the order given, each once."""
    if rows.ids is None or as_rows:
        return list(dict.fromkeys(_row_number(text, rows) for text in wanted))
    found = find_ids(wanted, rows.ids)
    unknown = [text for text, row in zip(wanted, found, strict=True) if row is None]
    if unknown:
        more = "" if len(unknown) == 1 else f" ({len(unknown):,} such in all)"
        raise InputError(
            f"{rows.name}: no row has the id {unknown[0]!r}{more}",
            hint="--rows takes row numbers, from 0",
        )
    return list(dict.fromkeys(row for row in found if row is not None))


def _row_number(text: str, rows: Rows) -> int:
    try:
        row = int(text)
    except ValueError:
        row = -1
    if not 0 <= row < rows.n_rows:
        raise InputError(
            f"{rows.name}: no row {text!r}, expected a number from 0 to {rows.n_rows - 1:,}",
            hint="ids are looked up where the data have any, and without --rows",
        )
    return row


def _past(
    run: Run,
    standing: Standing,
    rows: Rows,
    labels: Labels | None,
    include: str | None,
    exclude: str | None,
) -> Past:
    artifact = standing.selection
    scores, made = scores_of(standing.scores), standing.scores.meta["parameters"]
    selection = selection_of(artifact, labels.values if labels else None)
    wishes = read_wishes(run.sources, include, exclude, rows)
    for name, given in (("include", include), ("exclude", exclude)):
        expected = artifact.meta["inputs"].get(name)
        listed = getattr(wishes, name)
        if given is not None and (digest_array(listed) if len(listed) else None) != expected:
            raise _other(artifact, name, given, made_with=expected is not None)
    excluded = None
    if exclude is not None or "exclude" not in artifact.meta["inputs"]:
        excluded = np.zeros(rows.n_rows, dtype=np.bool_)
        excluded[wishes.exclude] = True
    return Past(
        graph=graph_of(standing.graph),
        scores=scores,
        selection=selection,
        method=artifact.meta["parameters"]["method"],
        score_kernel=made["kernel"],
        kernel=artifact.meta["parameters"]["kernel"],
        rounds=made["rounds"],
        neighbor_floor=made["neighbor_floor"],
        clamped=artifact.meta["parameters"]["messages"] == "clamped",
        n_included=_count_included(selection.rows, artifact.meta["inputs"].get("include")),
        excluded=excluded,
        limited=artifact.meta["parameters"].get("max_changes") is not None,
    )


def _other(selection: Artifact, option: str, given: str, *, made_with: bool) -> ArtifactError:
    """Return the error for what is not what a selection was made with."""
    return ArtifactError(
        f"{given}: is not what {selection.name} was made with as --{option}",
        hint=f"name what --{option} named then"
        if made_with
        else f"leave out --{option}: the selection was made without it",
    )


def _count_included(picks: NDArray[np.int64], digest: str | None) -> int | None:
    """Return how many of the first picks were included: those whose rows have the digest.

    None if that would take more than a second to find out.
    """
    if digest is None:
        return 0
    hashed = 0
    for count in range(1, len(picks) + 1):
        hashed += 8 * count
        if hashed > MOST_HASHED:
            return None
        if digest_array(picks[:count]) == digest:
            return count
    return None


def _namer(rows: Rows, texts: dict[int, str]) -> Callable[[int], dict[str, Any]]:
    """Return a function from a row to its number, id and text, as far as there are any."""

    def named(row: int) -> dict[str, Any]:
        out: dict[str, Any] = {"row": row}
        if rows.ids is not None:
            out["id"] = rows.ids[row].as_py()
        return {**out, "text": texts[row]} if row in texts else out

    return named


def _mentioned(found: list[Explanation]) -> list[int]:
    """Return every row that is named, by ascending number."""
    rows = {one.row for one in found}
    for one in found:
        rows |= {message.sender for message in (*one.forward, *one.reverse)}
        rows |= {near.row for near in one.nearest}
        rows |= {one.contest.row} if one.contest else set()
    return sorted(rows)


def _group_facts(
    artifact: Artifact, selection: Selection
) -> Callable[[Explanation], dict[str, Any] | None]:
    """Return a function from a row to what is known of its group."""
    groups, table = selection.groups, artifact.table
    labels = table.column("group").to_pylist() if "group" in table.column_names else []
    place = {row: at for at, row in enumerate(table.column("row").to_pylist())} if labels else {}

    def facts(found: Explanation) -> dict[str, Any] | None:
        if groups is not None and found.group is not None:
            size = int(np.count_nonzero(groups.codes == found.group))
            kept = int(selection.budgets[found.group])
            return {"name": groups.names[found.group], "rows": size, "kept": kept}
        if found.row in place:
            label = labels[place[found.row]]
            return {"name": str(label), "rows": None, "kept": labels.count(label)}
        return None

    return facts


def _of_selection(standing: Standing, past: Past) -> dict[str, Any]:
    """Return what holds for all rows."""
    artifact, scores, selection = standing.selection, past.scores, past.selection
    made = standing.scores.meta["parameters"]
    n, kept = selection.n_samples, len(selection.rows)
    out: dict[str, Any] = {
        "kind": "d2 explanation",
        "schema_version": EXPLANATION_VERSION,
        "selection": {
            "key": artifact.key,
            "digest": artifact.digest,
            "method": past.method,
            "rows": n,
            "kept": kept,
            "rate": 1 - kept / n,
            "groups": len(selection.budgets) if "group" in artifact.meta["inputs"] else None,
            "included": past.n_included,
        },
        "difficulty": {
            "name": made["difficulty"],
            "direction": scores.direction,
            "shift": scores.shift,
        },
    }
    if past.method == "d2":
        out["forward"] = {
            "gamma": scores.gamma_forward,
            "bandwidth": scores.bandwidth,
            "kernel": past.score_kernel,
            "rounds": past.rounds,
            "neighbor_floor": past.neighbor_floor,
        }
        out["reverse"] = {
            "gamma": selection.gamma_reverse,
            "bandwidth": selection.bandwidth,
            "kernel": past.kernel,
            "messages": "clamped" if past.clamped else "signed",
        }
    return out
