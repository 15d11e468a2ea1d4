"""What the user sees on standard error; the only importer of rich.

Piped or redirected, everything is plain text, whatever FORCE_COLOR or a CI's environment says.
Text from the data (paths, columns, ids) is printed as it is, control characters escaped.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from d2cli import interrupts
from d2cli.errors import D2Error
from d2cli.files.addresses import redact
from d2cli.stages.parallel import Progress, no_progress

LOG_SECONDS = 60.0  # between two lines of progress where there is no bar


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def one_line(text: str) -> str:
    """Escape control characters, so that a message stays one line."""
    return "".join(c if c.isprintable() or c == " " else repr(c)[1:-1] for c in text)


def _print(text: str) -> None:
    """Print to standard error; nobody listening is no error."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


Note: TypeAlias = Callable[[str], None]


class Notes:
    """Lines for the user, left out when quiet; above the progress bar if there is one."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, line: str) -> None:
        """Print one line."""
        if not self.quiet:
            _print(one_line(redact(line)))


def print_error(error: D2Error) -> None:
    """Print what is wrong in one line, and what to do in another."""
    _print(f"error: {one_line(redact(error.message))}")
    _print(f"hint: {one_line(redact(error.hint))}")


def print_graph(artifact: Any, status: str, output: str, note: Note) -> None:  # noqa: ANN401
    """Print what a graph is, or that it is up to date."""
    from d2cli.files.reports import recall_text
    from d2cli.render.wording import neighbors_text

    if status == "up to date":
        note(f"graph: up to date ({output})")
        return
    results, parameters = artifact.meta["results"], artifact.meta["parameters"]
    recall = recall_text({"graph": {**results, "neighbors": parameters["n_neighbors"]}})
    equal = results["duplicates"]
    note(
        f"graph: {artifact.meta['n_rows']:,} rows x {results['dim']:,}, "
        f"{neighbors_text(parameters)}, "
        f"{results['backend']}, {recall}"
        + (f", {equal:,} rows repeat the vector of another" if equal else "")
    )


def print_difficulty(artifact: Any, status: str, output: str, note: Note) -> None:  # noqa: ANN401
    """Print which columns there are and what they come from, or that they are up to date."""
    if status == "up to date":
        note(f"difficulty: up to date ({output})")
        return
    results, parameters = artifact.meta["results"], artifact.meta["parameters"]
    what = ""
    if parameters["method"] == "dynamics":
        what = f" x {results['n_epochs']:,} epochs of {parameters['values']}"
    elif parameters["method"] == "prototypes":
        what = f", {results['n_prototypes']:,} prototypes"
    note(f"difficulty: {artifact.meta['n_rows']:,} rows{what}")
    harder = results["harder"]
    for direction in ("high", "low"):
        names = [name for name in artifact.table.column_names if harder.get(name) == direction]
        if names:
            note(f"  harder when {direction}: {', '.join(names)}")


def print_scores(artifact: Any, status: str, output: str, note: Note) -> None:  # noqa: ANN401
    """Print what scores are, or that they are up to date."""
    from d2cli.files.reports import direction_text

    if status == "up to date":
        note(f"score: up to date ({output})")
        return
    results, parameters = artifact.meta["results"], artifact.meta["parameters"]
    what = direction_text({"difficulty": {**results, "name": parameters["difficulty"]}})
    pool = results["pool"]
    cut = artifact.meta["n_rows"] - pool
    note(
        f"score: {what}; gamma-forward {results['gamma_forward']:.4g}, "
        f"bandwidth {results['bandwidth']:.4g}"
        + (f"; the {cut:,} hardest rows are out of the pool" if cut else "")
    )
    if results["cut_reason"]:
        note(f"prune-hardest: {results['cut_reason']}")


def print_selection(done: Any, stages: list[dict[str, Any]], note: Note) -> None:  # noqa: ANN401
    """Print how many rows are kept and, where something was computed, beside random."""
    note(f"keeping {done.n_kept:,} of {done.n_rows:,} rows (pruning rate {done.rate:.2f})")
    for stage in stages:
        if stage["status"] == "up to date":
            note(f"{stage['stage']}: up to date")
    print_steps(stages, note)
    if isinstance(note, Notes) and note.quiet:
        return  # a report that nobody reads is not made
    if done.report is not None:
        for line in summary(done.report):
            note(line)


def print_steps(stages: list[dict[str, Any]], note: Note) -> None:
    """Print what stages in parts took."""
    if any("steps" in stage for stage in stages):
        from d2cli.render.engines import step_lines

        for line in step_lines(stages):
            note(line)


def summary(report: dict[str, Any]) -> list[str]:
    """Return the short summary of a report as lines of plain text."""
    from d2cli.files.reports import beside_random, direction_text, method_of, recall_text
    from d2cli.render.wording import of_modalities, previous_lines, reselected

    again = reselected(report)
    weights = report["weights"]
    lines = [
        f"  difficulty: {direction_text(report)}",
        f"  graph: {of_modalities(report)}{report['graph']['backend']}, {recall_text(report)}",
        f"  messages: bandwidth {weights['bandwidth']:.4g}, "
        f"gamma-forward {weights['forward']['gamma']:.4g}, "
        f"gamma-reverse {weights['reverse']['gamma']:.4g}, "
        f"{100 * report['picks']['negative_share']:.1f} % of picks had a negative score",
        *(f"  {line}" for line in previous_lines(report)),
        f"  {'':<36} {method_of(report):>10} {'random':>10}"
        + (f" {'re-selected':>11}" if again else ""),
    ]
    if report["rows"]["cut_reason"]:
        lines.insert(1, f"  prune-hardest: {report['rows']['cut_reason']}")
    lines += [
        f"  {what:<36} {ours:>10} {theirs:>10}" + (f" {again[i]:>11}" if again else "")
        for i, (what, ours, theirs) in enumerate(beside_random(report))
    ]
    return lines + [f"warning: {text}" for text in report["warnings"]]


def pace_text(speed: float | None, seconds_left: float | None) -> str:
    """Return "12.3k/s, 2:05 left": work a second, and minutes and seconds; empty if not known."""
    if not speed:
        return ""
    rate = f"{speed:.1f}" if speed < 9.95 else f"{speed:.0f}"
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if speed >= 0.9995 * power:
            rate = f"{speed / power:.1f}{letter}"
            break
    if not seconds_left:
        return f"{rate}/s"
    return f"{rate}/s, {_clock(seconds_left)} left"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Show a bar per phase on a terminal, elsewhere a line per minute; nothing when quiet."""
    if quiet:
        yield no_progress
        return
    with _bars() if _on_terminal() and os.environ.get("TERM") != "dumb" else _lines() as show:
        yield show


@contextlib.contextmanager
def _lines() -> Iterator[Progress]:
    """Print a line every ``LOG_SECONDS``: time since the start, phase, done of total, pace."""
    start, over = time.monotonic(), threading.Event()
    phase, begun, done, total = "", start, 0, 0

    def show(now_phase: str, now_done: int, now_total: int) -> None:
        nonlocal phase, begun, done, total
        if now_phase != phase:
            phase, begun = now_phase, time.monotonic()
        done, total = now_done, now_total

    def log() -> None:
        while not over.wait(LOG_SECONDS):
            now = time.monotonic()
            line = f"{_clock(now - start)} {phase or 'at work'}"
            if total:
                speed = done / max(now - begun, 1e-9)
                pace = pace_text(speed, (total - done) / speed if speed else None)
                line += f": {done:,} of {total:,}" + (f", {pace}" if pace else "")
            _print(line)

    thread = threading.Thread(target=log, name="d2-progress", daemon=True)
    thread.start()
    try:
        yield show
    finally:
        over.set()
        thread.join()


def _clear_line() -> None:
    """Remove what is left of a bar, and show the cursor again."""
    os.write(2, b"\r\x1b[2K\x1b[?25h")


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Pace(ProgressColumn):
        """Work a second, and the time that is left."""

        max_refresh = 0.5

        def render(self, task: Any) -> Text:  # noqa: ANN401
            return Text(pace_text(task.finished_speed or task.speed, task.time_remaining))

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Pace(),
    )
    bars = Bars(*columns, console=Console(stderr=True), transient=True)
    with interrupts.undone_by(_clear_line), bars:
        phases: dict[str, Any] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in phases:
                for earlier in phases.values():
                    bars.update(earlier, visible=False)
                phases[phase] = bars.add_task(phase, total=total)
            bars.update(phases[phase], completed=done, total=total, visible=True)

        yield show
