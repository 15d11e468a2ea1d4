"""Difficulties of any magnitude: every command takes them, or refuses them in one clear line."""

import json
import re
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from d2cli.errors import InputError
from d2cli.params import Method
from d2cli.stages.difficulty import orient
from d2cli.stages.noise import find_mislabelled

N = 40  # enough to tell humps apart
EXPONENTS = st.integers(-1074, 1023)


@st.composite
def columns(draw):
    """Finite float64 (N,): one magnitude or a few at once, with humps or an offset."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    powers = np.array(draw(st.lists(EXPONENTS, min_size=1, max_size=3)))
    values = np.ldexp(rng.uniform(-1, 1, N), rng.choice(powers, N))
    if draw(st.booleans()):
        values = np.abs(values)
    if draw(st.booleans()):
        hump = rng.random(N) < 0.3
        values[hump] = -np.abs(values[hump]) / 2 - np.abs(values).max() / 4
    if draw(st.booleans()):
        values = values / 2 + np.ldexp(0.5, draw(EXPONENTS))
    return values


HALVES = np.where(np.arange(N) < 9, -1.0, 1.0) * np.linspace(1, 1.1, N)


def every_column(test):
    """Run a test on columns drawn at random and on some that are extreme for certain."""
    for values in (
        np.full(N, 1e300),
        np.geomspace(1e-320, 1e308, N),
        np.linspace(-1, 1, N) * 1e308,
        HALVES * 1e300,
        HALVES * 1e-310,
        np.ldexp(np.arange(N) % 3 - 1.0, -1074),
        np.ldexp(np.arange(N) % 9 - 4.0, -1074),
    ):
        test = example(values=values)(test)
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    few = settings(max_examples=6, deadline=None, suppress_health_check=quiet)
    return few(given(values=columns())(test))


@pytest.fixture
def save(tmp_path):
    """Return the paths of vectors and of a difficulty as given, beside labels."""
    rng = np.random.default_rng(1)
    np.save(tmp_path / "e.npy", rng.normal(size=(N, 3)).astype(np.float32))
    np.save(tmp_path / "labels.npy", np.arange(N) % 2)

    def call(values):
        np.save(tmp_path / "aum.npy", values)
        return tmp_path / "e.npy", tmp_path / "aum.npy"

    return call


def went_through(answer):
    """Return whether a command did its work; else it refused the magnitudes, and said so."""
    code, out, err = answer
    assert "Traceback" not in err
    assert "Warning" not in out + err
    assert "nan" not in out + err
    if code:
        assert code == 3, err
        *_, error, hint = err.splitlines()
        assert error.startswith("error: ")
        assert "overflow" in error
        assert hint == "hint: rescale the scores"
    return code == 0


def in_range(values):
    """Return whether sums over ten neighbours, twice, are far from overflowing."""
    return float(np.abs(values).max()) < 1e300


@every_column
def test_scores_and_every_method(d2, save, tmp_path, values):
    source, column = save(values)
    graph, scores, kept = (tmp_path / name for name in ("g.parquet", "s.parquet", "k.npy"))
    d2("graph", source, "-o", graph, "-k", 4)
    for way in (["--harder", "high"], ["--harder", "low"], ["--preset", "reference"]):
        done = went_through(
            d2("score", graph, "--difficulty", column, *way, "--rounds", 2, "-o", scores)
        )
        assert done or not in_range(values)
        if not done:
            continue
        for method in get_args(Method):
            line = ["select", scores, "--rate", 0.5, "--method", method, "-o", kept]
            assert went_through(d2(*line))
            assert len(np.load(kept)) == N // 2


@every_column
def test_automatic_cutoff_and_reports(d2, save, tmp_path, values):
    source, column = save(values)
    line = ["prune", source, "--difficulty", column, "--rate", 0.5, "--prune-hardest", "auto"]
    page, figures = tmp_path / "r.html", tmp_path / "r.json"
    done = went_through(d2(*line, "-o", tmp_path / "k.npy", "--report", page))
    assert done or not in_range(values)
    if done:
        assert went_through(d2(*line, "-o", tmp_path / "k.npy", "--report", figures))
        text = page.read_text()
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
        json.loads(figures.read_text(), parse_constant=pytest.fail)


@every_column
def test_checks_say_before_what_scores_refuse(d2, save, values):
    source, column = save(values)
    code, out, err = d2("check", source, "--difficulty", column, "--json")
    assert code in (0, 3), err
    assert "Warning" not in err
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["verdict"] in ("pass", "warn", "fail")
    try:
        orient(values, "low")
    except InputError:
        assert code == 3


@every_column
def test_comparisons(d2, save, tmp_path, values):
    pytest.importorskip("sklearn")
    source, column = save(values)
    line = ["compare", source, "--difficulty", column, "--labels", tmp_path / "labels.npy"]
    methods = ["--methods", "d2,ccs,moderate,hardest", "--rates", 0.5, "--seeds", 1]
    done = went_through(d2(*line, *methods, "-o", tmp_path / "c.md"))
    assert done or not in_range(values)


@given(values=columns(), power=st.integers(-900, 900))
@settings(max_examples=200, deadline=None)
def test_humps_do_not_depend_on_the_magnitude(values, power):
    rng = np.random.default_rng(0)
    margins = np.concatenate([rng.normal(3, 1, 300), rng.normal(-3, 1, 60)])
    one = find_mislabelled(-margins, zero=0.0)
    other = find_mislabelled(np.ldexp(-margins, power), zero=0.0)
    assert one.mislabelled.sum() > 50
    np.testing.assert_array_equal(one.mislabelled, other.mislabelled)
    find_mislabelled(values, zero=0.0)  # without a warning, which is an error here
