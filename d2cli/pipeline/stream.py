"""``d2 stream``: one pass over rows that need not all be there, with a checkpoint a window."""

from dataclasses import dataclass
from pathlib import Path

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files.artifacts import Artifact, seal, write_artifact
from d2cli.files.checkpoints import (
    Progress,
    selection_table_of,
)
from d2cli.files.destinations import check_output
from d2cli.files.digests import digest_json
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.remote import Place, as_place
from d2cli.files.sources import STDIN
from d2cli.files.stream_input import StreamInput, Wanted, Window
from d2cli.params import PROBE, Direction, GraphParams, Metric, ScoreParams, SelectParams
from d2cli.pipeline.run import Run, run_stage
from d2cli.pipeline.stream_state import Stream
from d2cli.pipeline.targets import Targets
from d2cli.render.streams import STREAM_SUFFIXES
from d2cli.stages.streaming import StreamParams

LEAST_WINDOW = 1000
STREAMED: tuple[Metric, ...] = ("l2", "cosine", "l1")  # asked of two rows at a time


def default_window(budget: int) -> int:
    """Return the rows of a window where nothing is said: twice the budget, at least 1,000."""
    return max(2 * budget, LEAST_WINDOW)


@dataclass(frozen=True, eq=False)
class Streamed:
    """What a run of ``d2 stream`` has done.

    Attributes
    ----------
    stream : Stream
    artifact : Artifact
        The selection.
    progress : Progress
        At the end of the stream.
    status : str
        "computed" or "up to date".
    resumed : int
        Rows that a checkpoint had taken in before.
    """

    stream: Stream
    artifact: Artifact
    progress: Progress
    status: str
    resumed: int


def run_stream(
    run: Run,
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    difficulty: str,
    targets: Targets,
    window: int | None = None,
    harder: Direction | None = None,
    embedding: str | None = None,
    id_: str | None = None,
    include: str | None = None,
    watch: float | None = None,
    checkpoint: str | None = None,
    report: Place | None = None,
    beside: tuple[str | None, ...] = (),
) -> Streamed:
    """Select from a stream in one pass and publish the selection.

    Windows have a fixed number of rows, whatever batches they come in, so the result does not
    depend on these. The checkpoint is made after every full window; the rows of the last one, if
    it is not full, are read again by a run that goes on from it.

    Parameters
    ----------
    run : Run
    source : str
        SOURCE, or "-".
    graph_params, score_params, select_params
        The budget is ``select_params.keep``; the rates follow from it.
    difficulty, harder, embedding, id_
        See `d2cli.files.stream_input.Wanted`.
    targets : Targets
        Where the rows go.
    window : int, optional
        See `default_window`.
    include : str, optional
        List of ids or rows.
    watch : float, optional
        Seconds to wait for more shards.
    checkpoint : str, optional
        Left out, it lies beside the output, if that is a file.
    report : Path or Remote, optional
        Where a report is to go; only looked at.
    beside : tuple of str
        Files that the report is made from, which nothing may replace.
    """
    targets.check()
    if report is not None:
        check_suffix(report, STREAM_SUFFIXES, "a report on a stream")
    assert select_params.keep is not None
    if graph_params.metric not in STREAMED:
        raise ParameterError(
            f"metric {graph_params.metric} needs all rows at once, and a stream has not",
            hint=f"use --metric {', '.join(STREAMED[:-1])} or {STREAMED[-1]}",
        )
    if score_params.prune_hardest == PROBE:
        raise ParameterError(
            "prune-hardest probe needs all rows, and a stream has not",
            hint="give a fraction, or auto",
        )
    params = StreamParams(
        graph=graph_params,
        score=score_params,
        select=select_params,
        window=default_window(select_params.keep) if window is None else window,
        direction=None,
    )
    if include == STDIN and source == STDIN:
        raise ParameterError(
            "--include and SOURCE are both standard input", hint="name a file for one of them"
        )
    rows = StreamInput(run.sources, source, Wanted(embedding, id_, difficulty, harder), watch)
    place = _checkpoint_place(checkpoint, targets)
    stream = Stream(run, rows, params, include, place)
    targets.check_places(run, include, *beside)
    taken = [*run.inputs(include, *beside), *([targets.file] if targets.file else [])]
    for one in (place, report):
        if one is not None:
            check_output(one, taken)
            taken.append(one)
    return _finish(stream, targets, *_pass(stream))


def _checkpoint_place(given: str | None, targets: Targets) -> Place | None:
    """Return where the checkpoint goes: beside the output, if nothing is said."""
    if given is not None:
        place = as_place(given)
        check_suffix(place, ARTIFACT_SUFFIXES, "a checkpoint")
        if isinstance(place, Path) and place.exists() and not place.is_file():
            raise ParameterError(
                f"{given}: is no regular file, so no checkpoint can be kept there",
                hint="name a Parquet file with --checkpoint",
            )
        return place
    if targets.file is None or targets.suffix != targets.file.suffix.lower():
        return None  # standard output, a device or a pipe
    text = str(targets.file)
    return as_place(f"{text[: -len(targets.suffix)]}.checkpoint.parquet")


def _pass(stream: Stream) -> tuple[Progress, Window | None, int]:
    """Take in all full windows; return what is known then, the last, short window and rows skipped.

    The windows that a checkpoint has taken in are read, and held against its digest.
    """
    run, size = stream.run, stream.params.window
    progress: Progress | None = None
    digest, saved, n_read = digest_json([]), None, 0
    for window in stream.rows.windows(size):
        if progress is None:
            stream.settle(stream.described)
            saved = stream.saved()
            progress = saved or stream.start()
            skipped = progress.coreset.n_seen
        if len(window) < size:
            _refuse_other_rows(stream, saved, digest, n_read, at_end=True)
            return progress, window, skipped
        digest = window.digest(digest)
        n_read += len(window)
        if n_read <= skipped:
            _refuse_other_rows(stream, saved, digest, n_read)
            continue
        progress = stream.absorb(progress, window, digest)
        if stream.place is not None:
            write_artifact(stream.place, stream.sealed(progress))
        run.on_progress("streaming", n_read, stream.rows.n_rows or n_read)
    if progress is None:
        raise InputError(f"{stream.rows.source}: holds no rows", hint="expected at least one")
    _refuse_other_rows(stream, saved, digest, n_read, at_end=True)
    return progress, None, skipped


def _refuse_other_rows(
    stream: Stream, saved: Progress | None, digest: str, n_read: int, *, at_end: bool = False
) -> None:
    """Refuse rows that are not those that a checkpoint has taken in."""
    if saved is None or (n_read < saved.coreset.n_seen and not at_end):
        return
    n_seen, hint = saved.coreset.n_seen, "name another --checkpoint, or start anew with --force"
    if n_read < n_seen:
        raise ArtifactError(
            f"{stream.place}: has taken in {n_seen:,} rows, but the stream ends before", hint=hint
        )
    if n_read == n_seen and digest != saved.digest:
        raise ArtifactError(
            f"{stream.place}: the first {n_seen:,} rows of the stream are not those that it has "
            "taken in",
            hint=hint,
        )


def _finish(
    stream: Stream, targets: Targets, progress: Progress, rest: Window | None, skipped: int
) -> Streamed:
    """Take in the rest, and publish the selection."""
    if rest is not None:
        progress = stream.absorb(progress, rest, rest.digest(progress.digest))
    stream.check_included(progress)
    key = stream.key("selection", progress.digest)
    held = progress.coreset

    def make() -> Artifact:
        return seal(
            "selection",
            selection_table_of(progress),
            key=key,
            parameters=stream.parameters,
            inputs={"stream": progress.digest},
            results={
                "n_samples": held.n_seen,
                "gamma_forward": held.gamma_forward,
                "gamma_reverse": held.gamma_reverse,
                "bandwidth": held.bandwidth,
                "budgets": [len(held)],
            },
        )

    place = targets.file if targets.suffix == ".parquet" else None
    artifact = run_stage(stream.run, "selection", key, place, make)
    targets.write_rows(artifact)
    return Streamed(stream, artifact, progress, stream.run.stages[-1]["status"], skipped)
