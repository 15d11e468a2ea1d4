"""``d2 report`` behind the parser."""

from d2cli.commands.running import Setting
from d2cli.files.remote import as_place
from d2cli.files.reports import render
from d2cli.files.sources import STDIN
from d2cli.files.stdout import write_stdout
from d2cli.pipeline.report import ReportRefs as ReportRefs
from d2cli.pipeline.report import run_report
from d2cli.pipeline.targets import Targets


def report(
    selection: str,
    refs: ReportRefs,
    *,
    output: str | None,
    as_json: bool,
    summary: bool,
    cache_dir: str | None,
    setting: Setting,
) -> None:
    """Run ``d2 report``; without another place the report goes to standard output as Markdown."""
    place = None if output is None or output == STDIN else as_place(output)
    targets = Targets(
        STDIN if output == STDIN else None, report=place, as_json=as_json, summary=summary
    )
    with setting.run() as run:
        found = run_report(run, selection, refs, targets=targets, cache_dir=cache_dir)
    if as_json:
        write_stdout(render(found, ".json"))
    elif not targets.any_report or output == STDIN:
        write_stdout(render(found, ".md"))
