"""Where the result of a selecting command goes."""

from dataclasses import dataclass
from pathlib import Path

from d2cli.errors import ParameterError
from d2cli.files.artifacts import Artifact
from d2cli.files.outputs import (
    REPORT_SUFFIXES,
    SELECTION_SUFFIXES,
    check_suffix,
    in_order,
    to_bytes,
    to_lines,
)
from d2cli.files.publish import check_output, write_bytes, write_stdout
from d2cli.files.sources import STDIN
from d2cli.pipeline.run import Run, checked_place

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
    report : Path or None
        ``.json`` or ``.md``.
    as_json : bool
        The report goes to standard output.
    """

    output: str | None = None
    order: str = "row"
    report: Path | None = None
    as_json: bool = False

    @property
    def file(self) -> Path | None:
        """The file that the rows go to, if it is one."""
        return None if self.output is None or self.output == STDIN else Path(self.output)

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
        if self.report is not None:
            check_suffix(self.report, REPORT_SUFFIXES, "a report")

    def check_places(self, run: Run, *refs: str | None) -> None:
        """Refuse places that cannot be written or that hold an input; ``refs`` are artifacts."""
        place = checked_place(run, self.output, *refs)
        if self.report is not None:
            check_output(self.report, [*run.inputs(*refs), *([place] if place else [])])

    def write_rows(self, selection: Artifact) -> bool:
        """Write the rows, unless as Parquet; return whether a file was changed."""
        if self.file is not None:
            if self.suffix == ".parquet":
                return False
            return write_bytes(self.file, to_bytes(selection, self.suffix, self.order))
        if not self.as_json or self.output == STDIN:
            write_stdout(to_lines(in_order(selection, self.order)))
        return False
