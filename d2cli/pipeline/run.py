"""One run of a command, and its stages.

Every stage has a key: the digest of its parameters, its code version and its inputs. A stage whose
output or cache entry carries the key is up to date and not computed again.
"""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from d2cli.errors import ParameterError, ResourceError
from d2cli.files import cache
from d2cli.files.artifact_tables import Kind
from d2cli.files.artifacts import Artifact, write_artifact
from d2cli.files.destinations import check_output
from d2cli.files.remote import Place, as_place
from d2cli.files.sources import STDIN, Sources
from d2cli.quantities import size_text
from d2cli.stages.parallel import Progress, no_progress
from d2cli.stages.room import IN_MEMORY, Room

# Raised by hand whenever the results of a stage change.
STAGE_VERSIONS: dict[Kind, int] = {
    "graph": 5,
    "difficulty": 1,
    "scores": 4,
    "selection": 1,
    "checkpoint": 1,
}

COMPUTED, UP_TO_DATE = "computed", "up to date"


def _silent(line: str) -> None:
    """Say nothing."""


@dataclass
class Run:
    """How one command runs, and what it has read.

    Attributes
    ----------
    n_threads : int
        Does not change results.
    force : bool
        Compute even what is up to date.
    note : callable
        Takes one line for the user.
    on_progress : callable
        See `d2cli.stages.parallel`.
    sources : Sources
        The files opened so far.
    stages : list of dict
        What was done: stage, status, seconds, peak memory.
    verbose : bool
        Tell the plan, and what every stage took.
    room : Room
        Where vectors live; does not change results.
    told : dict
        What the stage that runs says of how it ran, see `d2cli.pipeline.engine`.
    afterwards : list of callable
        Called once the result of the stage that runs is where it belongs.
    """

    n_threads: int = 1
    force: bool = False
    note: Callable[[str], None] = _silent
    on_progress: Progress = no_progress
    sources: Sources = field(default_factory=Sources)
    stages: list[dict[str, Any]] = field(default_factory=list)
    verbose: bool = False
    room: Room = IN_MEMORY
    told: dict[str, Any] = field(default_factory=dict)
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    def inputs(self, *refs: str | Place | None) -> list[Place]:
        """Return every file this run reads: those opened, and artifacts named by ``refs``."""
        return [
            *self.sources.paths,
            *self.sources.folders,
            *(as_place(ref) for ref in refs if ref and ref != STDIN),
        ]


def run_stage(
    run: Run,
    kind: Kind,
    key: str,
    place: Place | None,
    make: Callable[[], Artifact],
    *,
    graph_path: str | None = None,
    in_cache: bool = False,
    sources: list[dict[str, Any]] | None = None,
) -> Artifact:
    """Return the artifact with this key: from its place if it is there, else made and put there.

    ``graph_path`` and ``sources`` are what an `Artifact` records of where other files are.
    """
    start = time.perf_counter()
    status, artifact = COMPUTED, None
    run.told.clear()
    if place is not None and not run.force:
        artifact, damage = cache.find(place, kind, key)
        if damage:
            run.note(f"warning: {damage}; making it again")
        if artifact is not None and artifact.graph is None and artifact.graph_path != graph_path:
            # The graph has moved, or is to come along from now on.
            artifact = None
    if artifact is not None:
        status = UP_TO_DATE
        if place is not None and sources is not None and artifact.sources != sources:
            artifact = _put(run, place, replace(artifact, sources=sources), in_cache)
    else:
        artifact = replace(make(), graph_path=graph_path, sources=sources)
        if place is not None:
            artifact = _put(run, place, artifact, in_cache)
        while run.afterwards:
            run.afterwards.pop()()
    done = {
        "stage": {"scores": "score", "selection": "select"}.get(kind, kind),
        "status": status,
        "seconds": round(time.perf_counter() - start, 3),
        "peak_memory_bytes": peak_memory(),
        "engine": "local",
        "tasks": 1 if status == COMPUTED else 0,
        **run.told,
    }
    run.stages.append(done)
    if run.verbose:
        run.note(
            f"{done['stage']}: {status} in {done['seconds']:.1f} s, "
            f"peak memory so far {size_text(peak_memory())}{_parts_text(done)}"
        )
    return artifact


def _parts_text(done: dict[str, Any]) -> str:
    """Return what a stage in parts did; nothing of others."""
    if "partitions" not in done:
        return ""
    text = f"; {done['tasks']:,} tasks ({done['engine']}) for {done['partitions']:,} partitions"
    if "rounds" in done:
        text += f" in {done['rounds']:,} rounds"
    return f"{text}, {size_text(done['bytes_moved'])} moved, {done['retries']:,} retries"


def _put(run: Run, place: Place, artifact: Artifact, in_cache: bool) -> Artifact:
    try:
        return write_artifact(place, artifact)
    except ResourceError as error:
        if not in_cache:
            raise
        run.note(f"warning: not cached: {error.message}")
        return artifact


def peak_memory() -> int:
    """Return the peak resident memory of the process so far, in bytes."""
    # The system's own figure may include what the parent held when it started this process.
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def open_cache_folder(run: Run, given: str | None) -> Path | None:
    """Return the cache folder, made if need be; None, with a note, if it cannot be used."""
    folder = cache.cache_folder(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        if given:
            reason = getattr(error, "strerror", None) or str(error)
            raise ParameterError(
                f"{folder}: cannot be a cache folder: {reason}", hint="name another --cache-dir"
            ) from error
    if folder.is_dir() and os.access(folder, os.W_OK):
        return folder
    run.note(f"warning: {folder}: cannot be written to, so nothing is cached")
    return None


def run_cached(
    run: Run,
    folder: Path | None,
    kind: Kind,
    key: str,
    make: Callable[[], Artifact],
    **more: Any,  # noqa: ANN401
) -> Artifact:
    """Run a stage whose place is its cache entry; others wait for the entry meanwhile."""
    if folder is None:
        return run_stage(run, kind, key, None, make)
    place = cache.entry_path(folder, kind, key)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                cache.locked(place, lambda: run.note("waiting for another run of this stage"))
            )
        except OSError as error:
            run.note(f"warning: not cached: {folder}: {error.strerror}")
            return run_stage(run, kind, key, None, make)
        return run_stage(run, kind, key, place, make, in_cache=True, **more)


def checked_place(run: Run, output: str | None, *refs: str | Place | None) -> Place | None:
    """Return the output's place if it can be written and is no input; None for standard output."""
    if output is None or output == STDIN:
        return None
    place = as_place(output)
    if isinstance(place, Path) and output.endswith(("/", os.sep)):
        raise ParameterError(f"{output}: is a folder", hint="name a file in it")
    check_output(place, run.inputs(*refs))
    return place
