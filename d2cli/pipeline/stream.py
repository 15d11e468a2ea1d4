"""``d2 stream``: one pass over rows that need not all be there, with a checkpoint a window."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key, write_artifact
from d2cli.files.checkpoints import (
    Progress,
    checkpoint_results,
    checkpoint_table,
    progress_of,
    selection_table_of,
)
from d2cli.files.columns import check_unique
from d2cli.files.digests import canonical_json, digest_json, digest_labels, parse_json
from d2cli.files.outputs import ARTIFACT_SUFFIXES, check_suffix
from d2cli.files.publish import check_output
from d2cli.files.remote import Place, as_place
from d2cli.files.rowlists import read_entries
from d2cli.files.stream_input import Described, StreamInput, Wanted, Window
from d2cli.params import PROBE, Direction, GraphParams, ScoreParams, SelectParams
from d2cli.pipeline.run import STAGE_VERSIONS, Run, run_stage
from d2cli.pipeline.targets import Targets
from d2cli.stages.streaming import StreamParams, absorb, empty_coreset

STREAM_VERSION = 1  # raised by hand whenever results change
LEAST_WINDOW = 1000


def default_window(budget: int) -> int:
    """Return the rows of a window where nothing is said: twice the budget, at least 1,000."""
    return max(2 * budget, LEAST_WINDOW)


@dataclass(frozen=True, eq=False)
class Streamed:
    """What a run of ``d2 stream`` has done.

    Attributes
    ----------
    artifact : Artifact
        The selection.
    progress : Progress
        At the end of the stream.
    status : str
        "computed" or "up to date".
    resumed : int
        Rows that a checkpoint had taken in before.
    """

    artifact: Artifact
    progress: Progress
    status: str
    resumed: int


@dataclass(eq=False)
class Stream:
    """A stream that is being selected from.

    Attributes
    ----------
    run : Run
    rows : StreamInput
    params : StreamParams
        Its cutoff and direction are settled by the first rows.
    include : str or None
        List of rows to keep.
    place : Path, Remote or None
        Of the checkpoint.
    """

    run: Run
    rows: StreamInput
    params: StreamParams
    include: str | None
    place: Place | None

    def settle(self, described: Described) -> None:
        """Take over what the first rows say of all."""
        score = self.params.score
        if score.prune_hardest is None:
            # As offline, where the rate is known: here it is, too, at every window.
            settled = replace(score, rate=0.5).for_score(margin=described.margin)
            score = replace(score, prune_hardest=settled.prune_hardest)
        self.params = replace(self.params, score=score, direction=described.direction)

    @property
    def described(self) -> Described:
        """What the rows have in common."""
        assert self.rows.described is not None
        return self.rows.described

    @cached_property
    def entries(self) -> pa.Array | None:
        """The rows to keep; ids where the stream has ids."""
        if self.include is None:
            return None
        kind = self.described.id_type
        found = read_entries(self.include, self.run.sources, ids=kind is not None)
        if len(found) > self.params.budget:
            raise ParameterError(
                f"{len(found):,} rows are included, but the budget is {self.params.budget:,}",
                hint="raise --budget, or shorten the list",
            )
        try:
            return found if kind is None else found.cast(kind)
        except pa.ArrowInvalid as error:
            raise InputError(f"{self.include}: {error}") from error

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """All that the result depends on beside the rows."""
        found, about = self.params, self.described
        return {
            "budget": found.budget,
            "window": found.window,
            "graph": asdict(found.graph),
            "score": asdict(found.score),
            "select": asdict(found.select),
            "difficulty": about.name,
            "harder": about.direction,
        }

    @cached_property
    def about_rows(self) -> dict[str, Any]:
        """Digest of the list, width and type."""
        entries = self.entries
        return {
            "vectors": f"{self.described.kind.__name__} x {self.described.width}",
            "ids": str(self.described.id_type),
            "include": None if entries is None else digest_labels(entries),
        }

    def key(self, kind: str, digest: str) -> str:
        """Return the key of what is made of the rows with a digest."""
        version = [STREAM_VERSION, STAGE_VERSIONS["graph"], STAGE_VERSIONS["scores"]]
        inputs = {"rows": digest, **self.about_rows}
        return stage_key(
            f"stream {kind}", STREAM_VERSION, {**self.parameters, "v": version}, inputs
        )

    def start(self) -> Progress:
        """Return the progress before the first row."""
        about = self.described
        ids = None if about.id_type is None else pa.array([], about.id_type)
        return Progress(empty_coreset(about.width, about.kind, self.params), ids, digest_json([]))

    def absorb(self, progress: Progress, window: Window, digest: str) -> Progress:
        """Select among what is held and a window."""
        held = progress.coreset
        ids = None
        if progress.ids is not None:
            ids = pa.concat_arrays([progress.ids, window.ids])
            check_unique(ids, f"the rows held and rows {held.n_seen:,} and on of the stream")
        rows = np.concatenate([held.rows, np.arange(held.n_seen, held.n_seen + len(window))])
        coreset, taken = absorb(
            held,
            window.vectors(self.params.graph.metric),
            window.values,
            self.params,
            include=self._included(rows, ids),
            n_threads=self.run.n_threads,
        )
        return Progress(coreset, None if ids is None else ids.take(pa.array(taken)), digest)

    def _included(self, rows: NDArray[np.int64], ids: pa.Array | None) -> NDArray[np.int64]:
        """Return the places of the candidates that have to stay, in the order of the list."""
        if self.entries is None:
            return np.empty(0, dtype=np.int64)
        import pyarrow.compute as pc

        found = pc.index_in(self.entries, value_set=pa.array(rows) if ids is None else ids)
        return np.asarray(found.drop_null()).astype(np.int64)

    def check_included(self, progress: Progress) -> None:
        """Refuse a list with rows that never came."""
        if self.entries is None:
            return
        import pyarrow.compute as pc

        held = pa.array(progress.coreset.rows) if progress.ids is None else progress.ids
        missing = np.asarray(pc.is_in(self.entries, value_set=held)) == 0
        if missing.any():
            first = int(missing.argmax())
            raise InputError(
                f"{self.include}: entry {first} is {self.entries[first].as_py()!r}, which never "
                f"came ({int(missing.sum()):,} such in all)",
                hint="take it off the list; the checkpoint is kept only for this list",
            )

    def sealed(self, progress: Progress) -> Artifact:
        """Return a checkpoint."""
        return seal(
            "checkpoint",
            checkpoint_table(progress),
            key=self.key("checkpoint", progress.digest),
            parameters=self.parameters,
            inputs={"rows": progress.digest, **self.about_rows},
            results=checkpoint_results(progress),
        )

    def saved(self) -> Progress | None:
        """Return the progress of a run before; None if there is none, or it is to be replaced.

        Raises
        ------
        ArtifactError
            If the checkpoint is damaged, no checkpoint, or that of another run.
        """
        if self.place is None or self.run.force or not self.place.exists():
            return None
        found = read_artifact(self.place, "checkpoint")
        other = _first_difference(found.meta["parameters"], self.parameters)
        ours = {**self.about_rows, "rows": found.meta["inputs"].get("rows")}
        other = other or _first_difference(found.meta["inputs"], ours)
        progress = progress_of(found)
        if other is None and found.key != self.key("checkpoint", progress.digest):
            other = "made by another version of d2"
        if other:
            raise ArtifactError(
                f"{found.name}: is the checkpoint of another run: {other}",
                hint="name another --checkpoint, or start anew with --force",
            )
        return progress


def _first_difference(found: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Say what differs first between two sets of parameters, plain and nested."""
    wanted = parse_json(canonical_json(wanted))
    for name in sorted(found.keys() | wanted.keys()):
        theirs, ours = found.get(name), wanted.get(name)
        if isinstance(theirs, dict) and isinstance(ours, dict):
            inner = _first_difference(theirs, ours)
            if inner:
                return f"{name} {inner}"
        elif theirs != ours:
            return f"{name} {theirs}, here {ours}"
    return None


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
    """
    targets.check()
    assert select_params.keep is not None
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
    rows = StreamInput(run.sources, source, Wanted(embedding, id_, difficulty, harder), watch)
    place = _checkpoint_place(checkpoint, targets)
    stream = Stream(run, rows, params, include, place)
    targets.check_places(run)
    if place is not None:
        taken = [one for one in (targets.file, targets.report_file) if one is not None]
        check_output(place, [*run.inputs(), *taken])
    return _finish(stream, targets, *_pass(stream))


def _checkpoint_place(given: str | None, targets: Targets) -> Place | None:
    """Return where the checkpoint goes: beside the output, if nothing is said."""
    if given is not None:
        place = as_place(given)
        check_suffix(place, ARTIFACT_SUFFIXES, "a checkpoint")
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
    return Streamed(artifact, progress, stream.run.stages[-1]["status"], skipped)
