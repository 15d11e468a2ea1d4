"""What the commands share: a run with notes and progress, and what is printed of it."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from d2cli import config, display, pipeline
from d2cli.errors import ParameterError
from d2cli.files import mapped, memory
from d2cli.files.artifacts import Artifact
from d2cli.files.sources import STDIN
from d2cli.files.stdout import write_stdout
from d2cli.pipeline import Targets as Targets


@dataclass(frozen=True)
class Setting:
    """Options that every command has and no result depends on."""

    threads: int | None
    force: bool
    quiet: bool
    verbose: bool = False
    max_memory: int | None = None

    @contextmanager
    def run(self) -> Iterator[pipeline.Run]:
        """Open a run that prints notes and, on a terminal, progress."""
        mapped.forget_all()
        with display.progress(quiet=self.quiet) as on_progress:
            note = display.Notes(quiet=self.quiet)
            for line in config.lines_of_taken():
                note(line)
            n_threads = self.threads or processors()
            with memory.within(memory.limit_of(self.max_memory, n_threads=n_threads)):
                yield pipeline.Run(
                    n_threads=n_threads,
                    force=self.force,
                    note=note,
                    on_progress=on_progress,
                    verbose=self.verbose,
                )


def engine_params(
    engine: str, address: str | None, partitions: int | None, store: str | None
) -> pipeline.EngineParams:
    """Return where a stage runs; checks what goes together."""
    return pipeline.EngineParams(engine=engine, address=address, partitions=partitions, store=store)


def refuse_dry_run(engine: pipeline.EngineParams) -> None:
    """Refuse to plan what tasks will do."""
    if engine.in_parts:
        raise ParameterError(
            "--dry-run does not plan a graph in partitions",
            hint="leave out --engine and --partitions, or --dry-run",
        )


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_embedding(given: list[str] | None) -> str | None:
    """Return the embedding's COLREF; several are not supported."""
    if given and len(given) > 1:
        raise ParameterError(
            f"{len(given)} embeddings are given, expected one",
            hint="`d2 graph`, `d2 prune`, `d2 sweep --modalities`, probes and maps take several",
        )
    return given[0] if given else None


def refuse_terminal(output: str, as_json: bool) -> None:
    """Refuse to pour a binary stream onto a terminal, or two things into one."""
    if output != STDIN:
        return
    if as_json:
        raise ParameterError(
            "--json needs standard output", hint="send the result to a file with -o"
        )
    if sys.stdout.isatty():
        raise ParameterError(
            "the result is binary and standard output is a terminal",
            hint="name a file with -o, or pipe it on",
        )


def print_json(value: Any) -> None:  # noqa: ANN401
    """Print a value as JSON on standard output."""
    write_stdout((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def without_map(meta: dict[str, Any]) -> dict[str, Any]:
    """Return metadata to be looked at: without the numbers of a whitening, often millions."""
    if "whitening" not in meta["results"]:
        return meta
    fitted = {name: value for name, value in meta["results"]["whitening"].items() if name != "map"}
    return {**meta, "results": {**meta["results"], "whitening": fitted}}


def print_artifact(artifact: Artifact, as_json: bool, stages: list[dict[str, Any]]) -> None:
    """Print the metadata of an artifact as JSON, if asked for, with the stages run in parts."""
    if as_json:
        parted = [stage for stage in stages if "steps" in stage]
        print_json({**without_map(artifact.meta), **({"stages": parted} if parted else {})})


def print_plan(planned: Any, as_json: bool) -> None:  # noqa: ANN401
    """Print a plan on standard output, where results go."""
    if as_json:
        print_json(planned.to_dict())
    else:
        write_stdout("\n".join([*planned.lines(), ""]).encode())
