"""A stream that is being selected from: its settled parameters, progress and checkpoint."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files import memory
from d2cli.files.artifacts import Artifact, read_artifact, seal, stage_key
from d2cli.files.checkpoints import (
    Progress,
    checkpoint_results,
    checkpoint_table,
    progress_of,
)
from d2cli.files.digests import canonical_json, digest_json, digest_labels, parse_json
from d2cli.files.remote import Place
from d2cli.files.stream_ids import joined, no_ids, places_of, read_list, taken
from d2cli.files.stream_input import Described, StreamInput, Window
from d2cli.pipeline.run import STAGE_VERSIONS, Run
from d2cli.stages.streaming import StreamParams, absorb, empty_coreset

STREAM_VERSION = 1  # raised by hand whenever results change
COPIES = 4  # of the vectors: as read, those of the window, all candidates, and those searched


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
        self._require_memory(described)

    def _require_memory(self, described: Described) -> None:
        """Refuse a budget and window that do not fit into memory with the rows that there are."""
        held = self.params.budget + self.params.window
        n_rows = held if self.rows.n_rows is None else min(held, self.rows.n_rows)
        row_bytes = COPIES * described.width * described.kind().itemsize
        memory.require(
            self.rows.source,
            f"hold {n_rows:,} rows of budget and window",
            n_rows * row_bytes + memory.graph_bytes(n_rows, self.params.graph.n_neighbors),
            hint="a smaller --budget or --window needs less",
        )

    @property
    def described(self) -> Described:
        """What the rows have in common."""
        assert self.rows.described is not None
        return self.rows.described

    @cached_property
    def entries(self) -> Any:  # noqa: ANN401
        """The rows to keep, an Arrow array of ids or row numbers; None without a list."""
        if self.include is None:
            return None
        found = read_list(self.include, self.run.sources, self.described.id_type)
        if len(found) > self.params.budget:
            raise ParameterError(
                f"{len(found):,} rows are included, but the budget is {self.params.budget:,}",
                hint="raise --budget, or shorten the list",
            )
        return found

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """All that the result depends on beside the rows."""
        found, about = self.params, self.described
        return {
            "budget": found.budget,
            "window": found.window,
            "graph": {k: v for k, v in asdict(found.graph).items() if k != "partitions"},
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
        coreset = empty_coreset(about.width, about.kind, self.params)
        return Progress(coreset, no_ids(about.id_type), digest_json([]))

    def absorb(self, progress: Progress, window: Window, digest: str) -> Progress:
        """Select among what is held and a window."""
        held = progress.coreset
        ids = joined(progress.ids, window.ids, held.n_seen)
        rows = np.concatenate([held.rows, np.arange(held.n_seen, held.n_seen + len(window))])
        coreset, places = absorb(
            held,
            window.vectors(self.params.graph.metric),
            window.values,
            self.params,
            include=self.included(rows, ids),
            n_threads=self.run.n_threads,
        )
        return Progress(coreset, taken(ids, places), digest)

    def included(self, rows: NDArray[np.int64], ids: Any) -> NDArray[np.int64]:  # noqa: ANN401
        """Return the places of the candidates that have to stay, in the order of the list."""
        if self.entries is None:
            return np.empty(0, dtype=np.int64)
        found = places_of(self.entries, rows, ids)
        return found[found >= 0]

    def check_included(self, progress: Progress) -> None:
        """Refuse a list with rows that never came."""
        if self.entries is None:
            return
        missing = places_of(self.entries, progress.coreset.rows, progress.ids) < 0
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
        try:
            found = read_artifact(self.place, "checkpoint")
        except ArtifactError as error:
            raise ArtifactError(
                error.message, hint="name another --checkpoint, or start anew with --force"
            ) from error
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
