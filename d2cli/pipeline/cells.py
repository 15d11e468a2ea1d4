"""Cells of comparisons and sweeps: computed once, kept in the cache, resumable."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2cli.files.cells import cell_path, read_cell, write_cell
from d2cli.files.digests import digest_json
from d2cli.pipeline.run import STAGE_VERSIONS, Run
from d2cli.stages.comparison import Cell
from d2cli.stages.parallel import run_tasks
from d2cli.stages.probe import quiet_probes

CELL_VERSION = 1


@dataclass(frozen=True, eq=False)
class CellJob:
    """What a cell depends on, and how it is computed."""

    depends_on: dict[str, Any]
    compute: Callable[[], Cell]


def run_cells(run: Run, jobs: Sequence[CellJob], folder: Path | None, *, phase: str) -> list[Cell]:
    """Return all cells: finished ones from the cache, the others computed and kept at once."""
    places: list[Path | None] = []
    cells: list[Cell | None] = []
    for job in jobs:
        key = digest_json({"version": CELL_VERSION, "stages": STAGE_VERSIONS, **job.depends_on})
        places.append(cell_path(folder, key) if folder else None)
        place = places[-1]
        cells.append(read_cell(place) if place and not run.force else None)
        if cells[-1] is None and place and not run.force and place.exists():
            run.note(f"warning: {place}: is damaged; the cell is computed again")
    missing = [i for i, cell in enumerate(cells) if cell is None]
    if len(missing) < len(jobs):
        run.note(f"{len(jobs) - len(missing):,} of {len(jobs):,} cells are up to date")

    def compute(i: int) -> Iterator[int]:
        cell = cells[i] = jobs[i].compute()
        place = places[i]
        if place is not None:
            write_cell(place, cell)
        yield 1

    with quiet_probes():
        run_tasks(
            [compute(i) for i in missing],
            n_threads=run.n_threads,
            phase=phase,
            total=len(missing),
            on_progress=run.on_progress,
        )
    return [cell for cell in cells if cell is not None]
