"""What ``d2 select`` loads, computes and tells on its way."""

import subprocess
import sys

import numpy as np
import pytest

from d2cli import pipeline
from d2cli.params import GraphParams, ScoreParams
from d2cli.pipeline import selection


@pytest.fixture
def scores(tmp_path, cloud):
    """A scores file, whose graph lies beside it."""
    np.save(tmp_path / "vectors.npy", cloud)
    np.save(tmp_path / "aum.npy", np.random.default_rng(1).random(len(cloud)))
    run = pipeline.Run()
    places = [str(tmp_path / name) for name in ("graph.parquet", "scores.parquet")]
    pipeline.run_graph(
        run,
        str(tmp_path / "vectors.npy"),
        GraphParams(n_neighbors=5),
        embedding=None,
        output=places[0],
    )
    pipeline.run_score(
        run,
        places[0],
        ScoreParams(rate=0.8),
        difficulty=str(tmp_path / "aum.npy"),
        harder="low",
        output=places[1],
    )
    return places[1]


def select(run, scores, tmp_path, **targets):
    where = pipeline.Targets(output=str(tmp_path / "keep.npy"), **targets)
    return pipeline.run_select(run, scores, {"rate": 0.8}, targets=where)


def test_it_tells_how_far_it_is(scores, tmp_path):
    told = []

    select(pipeline.Run(on_progress=lambda *told_: told.append(told_)), scores, tmp_path)

    assert told == [("selecting", 40, 40)]


def test_the_report_is_computed_once_and_only_if_it_is_looked_at(scores, tmp_path, monkeypatch):
    calls = []
    summarize = selection.summarize

    def count(*arguments, **more):
        calls.append(1)
        return summarize(*arguments, **more)

    monkeypatch.setattr(selection, "summarize", count)

    done = select(pipeline.Run(), scores, tmp_path)
    assert not calls
    assert done.report["rows"]["kept"] == done.report["rows"]["kept"] == 40
    assert len(calls) == 1

    assert select(pipeline.Run(), scores, tmp_path).report is None  # up to date
    assert len(calls) == 1

    select(pipeline.Run(), scores, tmp_path, report=tmp_path / "r.json")
    assert len(calls) == 2
    assert (tmp_path / "r.json").is_file()


def test_it_loads_nothing_that_only_other_commands_need(scores, tmp_path):
    code = (
        "import sys\n"
        "from d2cli.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'pandas', 'rich', 'sklearn', 'pyarrow.compute', 'pyarrow.dataset',\n"
        "         'xml.sax.saxutils',\n"
        "         'd2cli.pipeline.compare', 'd2cli.pipeline.sweep', 'd2cli.pipeline.difficulty'}\n"
        "found = sorted(heavy & set(sys.modules))\n"
        "sys.exit(f'imported {found}' if found else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "select", scores, "--rate", "0.8", "-o", "keep.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
