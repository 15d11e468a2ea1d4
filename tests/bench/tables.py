"""Results as Markdown tables of ratios, and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .timing import Run, medians

FORMATS = {
    "seconds": ("s", "{:.3g}"),
    "checked_seconds": ("s with the recall check", "{:.3g}"),
    "process_seconds": ("s of the process", "{:.3g}"),
    "cpu_seconds": ("CPU s", "{:.3g}"),
    "microseconds_a_row": ("µs a row", "{:.0f}"),
    "recall": ("recall", "{:.4f}"),
    "peak_megabytes": ("peak, MB", "{:,.0f}"),
    "added_megabytes": ("peak above start, MB", "{:,.0f}"),
    "speed_up": ("speed-up", "{:.2f}"),
    "same_picks": ("same picks", "{:.1%}"),
}
NOTHING = "-"
SHORT = {"seconds": "time", "cpu_seconds": "CPU time", "added_megabytes": "memory"}


@dataclass(frozen=True)
class Entry:
    """A line of a table: a method, how it was set, and what its repeats measured."""

    method: str
    setting: str
    runs: list[Run]
    note: str = ""
    tried: list[dict[str, Any]] = field(default_factory=list)

    @property
    def median(self) -> Run:
        return medians(self.runs)


@dataclass(frozen=True)
class Table:
    """Lines that were measured side by side.

    Attributes
    ----------
    columns : list of str
        Figures shown, keys of ``FORMATS``.
    ratios : list of (figure, method)
        Each a column with the line's figure divided by the method's.
    wanted : float
        Recall below which a ratio says nothing: in brackets if the line missed it, a dash if the
        method divided by did. 0 where there is no recall.
    """

    title: str
    about: str
    columns: list[str]
    ratios: list[tuple[str, str]]
    entries: list[Entry]
    wanted: float = 0.0

    def ratio(self, entry: Entry, figure: str, base: str) -> str:
        bases = [other for other in self.entries if other.method == base]
        if not bases or figure not in entry.median or figure not in bases[0].median:
            return NOTHING
        if self._missed(bases[0]):
            return NOTHING
        text = ratio_text(entry.median[figure], bases[0].median[figure])
        return f"({text})" if self._missed(entry) else text

    def _missed(self, entry: Entry) -> bool:
        return entry.median.get("recall", 1.0) < self.wanted

    def markdown(self, clock: str = "seconds") -> str:
        """Return the table; ratios of time are those of ``clock``, a key of ``FORMATS``."""
        ratios = [(clock if figure == "seconds" else figure, base) for figure, base in self.ratios]
        heads = ["method", "setting", *(FORMATS[name][0] for name in self.columns)]
        heads += [f"{SHORT[figure]} / {base}" for figure, base in ratios]
        lines = [f"## {self.title}", "", self.about, ""]
        lines += [_line(heads), _line(["---", "---", *["--:"] * (len(heads) - 2)])]
        for entry in self.entries:
            figures = [_shown(entry.median, name) for name in self.columns]
            shares = [self.ratio(entry, *ratio) for ratio in ratios]
            setting = f"{entry.setting}; {entry.note}" if entry.note else entry.setting
            lines.append(_line([entry.method, setting.strip("; "), *figures, *shares]))
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return plain types; medians stand beside the runs they come from."""
        record = asdict(self)
        for shown, entry in zip(record["entries"], self.entries, strict=True):
            shown["median"] = entry.median
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Table":
        entries = [
            Entry(**{key: value for key, value in entry.items() if key != "median"})
            for entry in record["entries"]
        ]
        ratios = [(figure, base) for figure, base in record["ratios"]]
        return cls(**{**record, "entries": entries, "ratios": ratios})


def ratio_text(value: float, base: float) -> str:
    """Return the ratio with two digits, or none behind the point from 10 on."""
    ratio = value / base
    if ratio >= 9.95:
        return f"{ratio:,.0f}"
    return f"{ratio:.1f}" if ratio >= 0.995 else f"{ratio:.2f}"


def document(machine: dict[str, str], tables: Iterable[Table], clock: str = "seconds") -> str:
    """Return the machine as a list, then the tables."""
    lines = ["# Results", "", *(f"- {name}: {value}" for name, value in machine.items()), ""]
    return "\n".join([*lines, *(table.markdown(clock) for table in tables)])


def _shown(figures: Run, name: str) -> str:
    return FORMATS[name][1].format(figures[name]) if name in figures else NOTHING


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
