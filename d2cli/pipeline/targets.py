"""Where the result of a selecting command goes."""

from dataclasses import dataclass
from typing import Any

from d2cli.errors import ParameterError
from d2cli.files.artifacts import Artifact
from d2cli.files.destinations import check_output, refuse_inputs
from d2cli.files.outputs import (
    SELECTION_SUFFIXES,
    check_suffix,
    in_order,
    to_bytes,
    to_lines,
)
from d2cli.files.publish import write_bytes
from d2cli.files.remote import Place, as_place
from d2cli.files.reports import REPORT_SUFFIXES, is_current, render
from d2cli.files.sources import STDIN
from d2cli.files.stdout import write_stdout
from d2cli.files.summaries import ENVIRONMENT, append_summary, summary_file
from d2cli.pipeline.run import Run, checked_place
from d2cli.render.html import NO_PICTURES, Pictures

ORDERS = ("row", "rank")


@dataclass(frozen=True)
class Targets:
    """Rows, report, JSON.

    Attributes
    ----------
    output : str or None
        File by its ending; "-" is one id or row a line on standard output, which is also where the
        rows go if it is left out and ``as_json`` is not set.
    order : {"row", "rank"}
        Of outputs other than Parquet.
    report : str, Path, Remote or None
        ``.json``, ``.md`` or ``.html``.
    as_json : bool
        The report goes to standard output.
    summary : bool
        The report is appended to the CI's summary, as Markdown.
    """

    output: str | None = None
    order: str = "row"
    report: str | Place | None = None
    as_json: bool = False
    summary: bool = False

    @property
    def file(self) -> Place | None:
        """The file that the rows go to, if it is one."""
        return None if self.output is None or self.output == STDIN else as_place(self.output)

    @property
    def report_file(self) -> Place | None:
        """The file that the report goes to.

        Raises
        ------
        ParameterError
            If a slash after its name says that it is a folder.
        """
        if isinstance(self.report, str) and self.report.endswith("/"):
            raise ParameterError(f"{self.report}: is a folder", hint="name a file in it")
        return None if self.report is None else as_place(self.report)

    @property
    def suffix(self) -> str:
        """The format in lower case: the file's ending; lines of text for a device or pipe."""
        if self.file is None:
            return ""
        ending = self.file.suffix.lower()
        return ending if ending in SELECTION_SUFFIXES else ".txt"

    def check(self) -> None:
        """Refuse what makes no sense, before anything is read.

        Raises
        ------
        ParameterError
            If an ending is not known or two things would go to one place.
        """
        if self.order not in ORDERS:
            raise ParameterError(f"order is '{self.order}', expected one of {', '.join(ORDERS)}")
        if self.file is not None:
            check_suffix(self.file, SELECTION_SUFFIXES, "a selection")
        if self.order == "rank" and self.suffix == ".parquet":
            raise ParameterError(
                "--order rank does not go with .parquet, which is sorted by row",
                hint="its column rank holds the order",
            )
        if self.as_json and self.output == STDIN:
            raise ParameterError(
                "--json needs standard output", hint="send the rows to a file with -o"
            )
        if self.report_file is not None:
            check_suffix(self.report_file, REPORT_SUFFIXES, "a report")
        if self.summary:
            summary_file()

    def check_places(self, run: Run, *refs: str | Place | None) -> None:
        """Refuse places that cannot be written or that hold an input; ``refs`` are artifacts."""
        place = checked_place(run, self.output, *refs)
        taken = [*run.inputs(*refs), *([place] if place else [])]
        if self.report_file is not None:
            check_output(self.report_file, taken)
            taken.append(self.report_file)
        if self.summary:
            try:
                refuse_inputs(summary_file(), taken)
            except ParameterError as error:
                raise ParameterError(
                    f"--summary: {error.message}",
                    hint=f"${ENVIRONMENT} has to name a file that is no input and no output",
                ) from error

    @property
    def report_suffix(self) -> str:
        """The report's format in lower case; empty without a report file."""
        return "" if self.report_file is None else self.report_file.suffix.lower()

    @property
    def any_report(self) -> bool:
        """Whether the report goes anywhere."""
        return self.report_file is not None or self.as_json or self.summary

    def lacks_report(self, key: str) -> bool:
        """Return whether a report is still to be written for the selection with this key."""
        stale = self.report_file is not None and not is_current(self.report_file, key)
        return stale or self.as_json or self.summary

    def write_report(self, report: dict[str, Any], pictures: Pictures = NO_PICTURES) -> None:
        """Write the report wherever it goes but to standard output."""
        if self.report_file is not None:
            write_bytes(self.report_file, render(report, self.report_suffix, pictures))
        if self.summary:
            append_summary(render(report, ".md").decode())

    def write_rows(self, selection: Artifact) -> bool:
        """Write the rows, unless as Parquet; return whether a file was changed."""
        if self.file is not None:
            if self.suffix == ".parquet":
                return False
            return write_bytes(self.file, to_bytes(selection, self.suffix, self.order))
        if not self.as_json or self.output == STDIN:
            write_stdout(to_lines(in_order(selection, self.order)))
        return False
