"""What the rows of a selection can be exported as."""

import os
from dataclasses import dataclass

import pyarrow as pa

from d2cli.errors import InputError, ParameterError
from d2cli.files.publish import is_device
from d2cli.files.remote import Place, Remote, as_place
from d2cli.files.sources import STDIN

# The endings of each format; "" is a folder. An ending alone means the first format that has it.
FORMATS: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq", ""),
    "jsonl": (".jsonl",),
    "datasets": ("",),
    "ids": (".txt", ".csv"),
    "rows": (".npy", ".txt"),
    "mask": (".npy",),
    "array": (".npy",),
    "datacomp": (".npy",),
    "weights": (".npy", ".csv"),
}
TABLES = ("parquet", "jsonl", "datasets")  # whole rows, with all columns
LINES = ("jsonl", "ids", "rows")  # may go to standard output
ORDERS = ("row", "rank")


@dataclass(frozen=True)
class Destination:
    """Where an export goes and as what.

    Attributes
    ----------
    output : str
        File, folder, or "-" for standard output.
    format : str
        A key of `FORMATS`.
    """

    output: str
    format: str

    @property
    def path(self) -> Place | None:
        """The file or folder; None for standard output."""
        return None if self.output == STDIN else as_place(self.output)

    @property
    def suffix(self) -> str:
        """The ending in lower case; "" for a folder, ".txt" for standard output or a device."""
        if self.path is None or is_device(self.path):
            return ".txt"
        return _ending(self.output)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.suffix == ""


def _ending(output: str) -> str:
    """Return the ending of a file in lower case; "" for what is, or is written like, a folder."""
    if output.endswith(("/", os.sep)) or os.path.isdir(output):  # noqa: PTH112 - any text
        return ""
    return as_place(output).suffix.lower()


def destination(output: str, format_: str | None) -> Destination:
    """Find out what an output is to be written as.

    Parameters
    ----------
    output : str
    format_ : str or None
        Left out, the format that goes with the ending.

    Raises
    ------
    ParameterError
        If there is no such format, or it does not go with the ending.
    """
    if format_ is not None and format_ not in FORMATS:
        raise ParameterError(f"format is '{format_}', expected one of {', '.join(FORMATS)}")
    if output == STDIN or is_device(as_place(output)):
        if format_ not in LINES:
            what = "what goes to standard output or a device needs a --format of lines"
            raise ParameterError(
                f"{format_} cannot go to standard output or a device" if format_ else what,
                hint=f"choose --format {', '.join(LINES)}, or name a file with -o",
            )
        return Destination(output, format_)
    ending = _ending(output)
    if format_ is None:
        format_ = next((name for name, endings in FORMATS.items() if ending in endings), None)
        if format_ is None:
            known = sorted({e for endings in FORMATS.values() for e in endings if e})
            raise ParameterError(
                f"{as_place(output)}: nothing is exported as '{ending}'",
                hint=f"end the name in {', '.join(known)} or /, or name a folder without ending",
            )
    elif ending not in FORMATS[format_]:
        wanted = " or ".join(e or "/ (a folder)" for e in FORMATS[format_])
        raise ParameterError(
            f"{as_place(output)}: {format_} cannot be written as '{ending or 'a folder'}'",
            hint=f"end the name in {wanted}",
        )
    if ending == "" and isinstance(as_place(output), Remote):
        raise ParameterError(
            f"{as_place(output)}: folders are written to this machine only", hint="name a file"
        )
    return Destination(output, format_)


def check_options(to: Destination, *, order: str, dropped: bool, graph: str | None) -> None:
    """Refuse options that do not go with what is written.

    Raises
    ------
    ParameterError
        See the messages.
    """
    if order not in ORDERS:
        raise ParameterError(f"order is '{order}', expected one of {', '.join(ORDERS)}")
    if order == "rank" and dropped:
        raise ParameterError(
            "--order rank does not go with --dropped: only kept rows have a rank",
            hint="leave one of them out",
        )
    fixed = {
        ("mask", ".npy"): "a mask has a value for every row",
        ("weights", ".npy"): "weights as .npy have a value for every row",
        ("datacomp", ".npy"): "a subset file of DataComp is sorted by uid",
        ("parquet", ""): "a folder of Parquet files is sorted as the source",
    }.get((to.format, to.suffix))
    if order == "rank" and fixed:
        raise ParameterError(f"--order rank does not go here: {fixed}", hint="leave it out")
    if to.format == "weights" and dropped:
        raise ParameterError(
            "--dropped does not go with weights: dropped rows have none", hint="leave it out"
        )
    if graph is not None and to.format != "weights":
        raise ParameterError(
            f"--graph does not go with {to.format}", hint="only --format weights needs a graph"
        )


class writing:
    """Turn what a writer raises at columns that it does not know into an InputError."""

    def __init__(self, name: str, format_: str) -> None:
        self.name, self.format = name, format_

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException) and not isinstance(error, MemoryError):
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{self.name}: cannot be written as {self.format}: {first_line}",
                hint="choose another --format",
            ) from error
