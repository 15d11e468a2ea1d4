"""What a stream's selection is, and how far from the offline selection of the same rows."""

from dataclasses import replace
from typing import Any

import numpy as np

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files.addresses import is_remote
from d2cli.files.artifacts import read_artifact
from d2cli.files.digests import digest_json
from d2cli.files.globs import names_files
from d2cli.files.inputs import find_embedding, read_difficulty
from d2cli.files.modalities import only_colref
from d2cli.files.reports import sealed_json, sealed_text
from d2cli.files.sources import STDIN, Sources
from d2cli.files.stages import ids_of
from d2cli.files.stream_input import StreamInput
from d2cli.pipeline.run import Run
from d2cli.pipeline.stream import Streamed
from d2cli.pipeline.stream_state import Stream
from d2cli.render.streams import stream_markdown
from d2cli.stages.gap import coverage_of, overlap
from d2cli.stages.graph import build_graph
from d2cli.stages.score import score_rows
from d2cli.stages.selection import Wishes, select_coreset
from d2cli.stages.vectors import as_vectors

STREAM_REPORT_VERSION = 1


def check_gap(against: str | None, offline: str | None, source: str) -> None:
    """Refuse two selections to be held against, and one that is not there; before any work."""
    if against is not None and offline is not None:
        raise ParameterError(
            "--against and --offline are given, expected one of them",
            hint="--against names a selection that is there, --offline computes it",
        )
    if against is not None and against != STDIN:
        read_artifact(against, "selection")
    if offline is not None and offline == source == STDIN:
        raise ParameterError(
            "--offline and SOURCE are both standard input", hint="name a file for one of them"
        )
    if offline not in (None, STDIN) and not (is_remote(str(offline)) or names_files(str(offline))):
        raise InputError(f"{offline}: no such file", hint="--offline names a SOURCE of all rows")


def stream_report(
    run: Run, done: Streamed, *, against: str | None = None, offline: str | None = None
) -> dict[str, Any]:
    """Describe what was done.

    Parameters
    ----------
    run : Run
    done : Streamed
    against : str, optional
        A selection of the same rows.
    offline : str, optional
        SOURCE of the same rows, all of which are read: their offline selection is computed.

    Returns
    -------
    dict
        Plain numbers, strings, lists and dicts, the same for the same rows and parameters; "gap"
        is None where there is nothing to hold the selection against.
    """
    held, stream = done.progress.coreset, done.stream
    gap = None
    if against is not None:
        gap = _gap_to(done, against)
    elif offline is not None:
        gap = _gap_to_offline(run, stream, done, offline)
    return {
        "kind": "d2 stream report",
        "schema_version": STREAM_REPORT_VERSION,
        "key": done.artifact.key,
        "digest": done.artifact.digest,
        "rows": {
            "seen": held.n_seen,
            "kept": len(held),
            "rate": 1 - len(held) / held.n_seen,
            "included": 0 if stream.entries is None else len(stream.entries),
        },
        "stream": {
            "window": stream.params.window,
            "windows": held.n_windows,
            "admitted": held.admitted,
            "evicted": held.evicted,
            "peak_rows": held.peak_rows,
            "cut": held.cut,
        },
        "difficulty": {
            "name": stream.described.name,
            "direction": stream.described.direction or "uniform",
            "kept_mean": float(held.difficulty.mean()),
        },
        "weights": {
            "gamma_forward": held.gamma_forward,
            "gamma_reverse": held.gamma_reverse,
            "bandwidth": held.bandwidth,
        },
        "gap": gap,
        "parameters": stream.parameters,
        "inputs": {"rows": done.progress.digest, **stream.about_rows},
        "versions": done.artifact.meta["versions"],
    }


def render_stream(report: dict[str, Any], suffix: str) -> bytes:
    """Return a report as JSON (``.json``) or Markdown (``.md``)."""
    return sealed_text(stream_markdown(report).encode()) if suffix == ".md" else sealed_json(report)


def _gap_to(done: Streamed, ref: str) -> dict[str, Any]:
    """Compare with a selection that is there."""
    other, held = read_artifact(ref, "selection"), done.progress.coreset
    hint = "name a selection of the rows that were streamed, in their order"
    total = other.meta["results"]["n_samples"]
    if total != held.n_seen:
        raise ArtifactError(
            f"{other.name}: was made from {total:,} rows, the stream had {held.n_seen:,}", hint=hint
        )
    rows = other.table.column("row").to_numpy()
    common, ours, theirs = np.intersect1d(held.rows, rows, return_indices=True)
    ids, their_ids = done.progress.ids, ids_of(other)
    if ids is not None and their_ids is not None:
        pairs = zip(ids.take(ours).to_pylist(), their_ids.take(theirs).to_pylist(), strict=True)
        at = next((i for i, (one, two) in enumerate(pairs) if one != two), None)
        if at is not None:
            raise ArtifactError(
                f"{other.name}: row {common[at]} has another id than in the stream", hint=hint
            )
    difficulty = other.table.column("difficulty").to_numpy()
    return {
        "overlap": overlap(held.rows, rows),
        "kept": {"stream": len(held), "offline": len(rows)},
        "difficulty_mean": {
            "stream": float(held.difficulty.mean()),
            "offline": float(difficulty.mean()),
        },
        "coverage": None,
    }


def _gap_to_offline(run: Run, stream: Stream, done: Streamed, source: str) -> dict[str, Any]:
    """Compute the offline selection of the same rows, and compare with it."""
    wanted, params = stream.rows.wanted, stream.params
    digest, again = digest_json([]), StreamInput(Sources(), source, wanted)
    for window in again.windows(params.window):
        digest = window.digest(digest)
    if digest != done.progress.digest:
        raise ArtifactError(
            f"{source}: does not hold the rows that were streamed",
            hint="--offline names a source of the same rows in the same order",
        )
    named = only_colref(run.sources, source, wanted.embedding)
    found = find_embedding(run.sources, source, embedding=named, id_=wanted.id_, within=None)
    column = read_difficulty(run.sources, wanted.difficulty, found.rows, wanted.harder)
    held, n = done.progress.coreset, found.rows.n_rows
    include = stream.included(np.arange(n), found.rows.ids)
    try:
        vectors = as_vectors(found.read(run.room).vectors, params.graph.metric)
        graph = build_graph(vectors, params.graph, n_threads=run.n_threads)
    except InputError as error:
        raise error.at(found.where) from None
    budget = replace(params.select, keep=min(params.budget, n))
    scores = score_rows(
        graph,
        column.orient(shift=params.score.shift),
        replace(params.score, rate=budget.rate_of(n)),
    )
    rows = select_coreset(graph, scores, budget, wishes=Wishes(include, np.empty(0, np.int64))).rows
    both = {"stream": held.rows, "offline": rows}
    return {
        "overlap": overlap(held.rows, rows),
        "kept": {name: len(kept) for name, kept in both.items()},
        "difficulty_mean": {
            name: float(scores.difficulty[kept].mean()) for name, kept in both.items()
        },
        "coverage": {name: coverage_of(graph, kept) for name, kept in both.items()},
    }
