"""What progress says of pace."""

import re
import time

import pytest

from d2cli import display


@pytest.mark.parametrize(
    ("speed", "left", "text"),
    [
        (None, None, ""),
        (0, 5, ""),
        (3.21, None, "3.2/s"),
        (820, 7, "820/s, 0:07 left"),
        (12_345, 125, "12.3k/s, 2:05 left"),
        (999_960, 3661, "1.0M/s, 1:01:01 left"),
        (4e6, 0, "4.0M/s"),
    ],
)
def test_pace_is_work_a_second_and_the_time_left(speed, left, text):
    assert display.pace_text(speed, left) == text


def test_a_bar_shows_rate_and_time_left_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(display, "_on_terminal", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with display.progress(quiet=False) as tell:
        tell("projecting", 0, 4000)
        for done in range(500, 3500, 500):
            tell("projecting", done, 4000)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"projecting .* 3000/4000 [\d.]+[kM]/s, \d:\d\d left", text), text


def test_elsewhere_nothing_is_shown(monkeypatch, capsys):
    for quiet, terminal in ((False, False), (True, True)):
        monkeypatch.setattr(display, "_on_terminal", lambda terminal=terminal: terminal)
        with display.progress(quiet=quiet) as tell:
            tell("projecting", 1, 2)
    assert capsys.readouterr().err == ""


def test_elsewhere_long_runs_tell_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(display, "_on_terminal", lambda: False)
    monkeypatch.setattr(display, "LOG_SECONDS", 0.02)
    with display.progress(quiet=False) as tell:
        time.sleep(0.1)
        tell("exact search", 1000, 20_000)
        time.sleep(0.2)
        tell("reading", 0, 0)
        time.sleep(0.2)
    time.sleep(0.05)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0:00 at work"
    pattern = r"0:00 exact search: 1,000 of 20,000, [\d.]+k?/s, \d+:\d\d left"
    assert any(re.fullmatch(pattern, line) for line in lines), lines
    assert lines[-1] in ("0:00 reading", "0:01 reading")
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_line_a_minute_is_what_users_get():
    assert display.LOG_SECONDS == 60
