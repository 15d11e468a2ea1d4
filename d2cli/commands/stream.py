"""``d2 stream`` behind the parser: a run with notes and progress, then what is printed of it."""

from typing import Any

from d2cli import pipeline
from d2cli.commands.running import Setting, one_embedding
from d2cli.files.publish import write_bytes
from d2cli.files.remote import as_place
from d2cli.files.stdout import write_stdout
from d2cli.params import GraphParams, ScoreParams, SelectParams
from d2cli.pipeline.stream_report import check_gap, render_stream, stream_report
from d2cli.render.streams import stream_lines


def stream(
    source: str,
    graph_params: GraphParams,
    score_params: ScoreParams,
    select_params: SelectParams,
    *,
    embedding: list[str] | None,
    targets: pipeline.Targets,
    report: str | None,
    against: str | None,
    offline: str | None,
    setting: Setting,
    **more: Any,  # noqa: ANN401
) -> None:
    """Run ``d2 stream``."""
    place = None if report is None else as_place(report)
    check_gap(against, offline, source)
    with setting.run() as run:
        done = pipeline.run_stream(
            run,
            source,
            graph_params,
            score_params,
            select_params,
            embedding=one_embedding(embedding),
            targets=targets,
            report=place,
            beside=(against, offline),
            **more,
        )
        found = stream_report(run, done, against=against, offline=offline)
    if place is not None:
        write_bytes(place, render_stream(found, place.suffix.lower()))
    for line in stream_lines(found):
        run.note(line)
    if done.resumed:
        run.note(f"stream: {done.resumed:,} rows were taken in before, by {done.stream.place}")
    if targets.as_json:
        write_stdout(render_stream(found, ".json"))
