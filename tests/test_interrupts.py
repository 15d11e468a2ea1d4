"""Signals end a command within a second or two, wherever it is, and leave nothing behind."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

SOON = 8.0  # seconds, on a machine that is busy; a quiet one takes one at most
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]

# A child that is d2, says more often what it does, and may stay in one long step of native code.
CHILD = """
import sys, threading
import numpy as np
from d2cli import __main__, display
from d2cli.files import artifacts
from d2cli.pipeline import graph

def native(*arguments, **more):
    a = np.ones((4000, 4000))
    sys.stderr.write("in native code\\n"); sys.stderr.flush()
    np.linalg.svd(a + np.random.default_rng(0).normal(size=a.shape))

def write(table, file, **more):
    file.write(bytes(100_000)); file.flush()
    native()

def threads(*arguments, **more):
    def task():
        yield native()
    graph.run_two = __import__("d2cli.stages.parallel", fromlist=[""]).run_tasks
    graph.run_two([task(), task()], n_threads=2, phase="stuck", total=2)

display.LOG_SECONDS = 0.05
where, *sys.argv[1:] = sys.argv[1:]
if where == "main thread":
    graph.build_graph = native
elif where == "threads":
    graph.build_graph = threads
elif where == "the final write":
    artifacts.pq.write_table = write
__main__.main()
"""


def start(where, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, where, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        **({"stderr": subprocess.PIPE, "bufsize": 0} | more),
    )


def wait_for(process, text):
    """Read standard error until a line has the text."""
    said = b""
    while text.encode() not in said:
        line = process.stderr.readline()
        assert line, said.decode()
        said += line


def stop(process, number):
    """Send a signal; return the exit code, the seconds that it took, and the rest of stderr."""
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - began, err.decode()


def vectors(folder, n=100, dim=8):
    np.save(folder / "e.npy", np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32))
    (folder / "g.parquet").write_bytes(b"old")
    return folder / "e.npy", "-o", folder / "g.parquet"


def assert_nothing_is_left(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["e.npy", "g.parquet"]
    assert (folder / "g.parquet").read_bytes() == b"old"


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("where", ["main thread", "threads", "the final write"])
def test_a_long_step_of_native_code_is_no_obstacle(tmp_path, where, number, code):
    process = start(where, "graph", *vectors(tmp_path))
    wait_for(process, "in native code")
    time.sleep(0.3)

    got, seconds, err = stop(process, number)

    assert got == code
    assert seconds < SOON
    assert "Traceback" not in err
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize(
    ("how", "phase"),
    [
        (("--backend", "exact"), "exact search:"),
        (("--backend", "hnsw"), "building hnsw:"),
        (("--metric", "l1"), "exact search:"),
    ],
)
def test_a_search_is_left_between_two_pieces(tmp_path, how, phase, number, code):
    process = start("", "graph", *vectors(tmp_path, 40_000, 64), *how)
    wait_for(process, phase)

    got, seconds, err = stop(process, number)

    assert got == code
    assert seconds < SOON
    assert "Traceback" not in err
    assert_nothing_is_left(tmp_path)


def test_more_signals_do_not_cut_the_way_out_short(tmp_path):
    process = start("", "graph", *vectors(tmp_path, 60_000, 64), "--backend", "exact")
    wait_for(process, "exact search:")
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.01)

    got, _, err = stop(process, signal.SIGINT)

    assert got == 130
    assert "Traceback" not in err
    assert_nothing_is_left(tmp_path)


def test_an_ignored_interrupt_stays_ignored(tmp_path):
    process = start(
        "", "graph", *vectors(tmp_path, 10_000, 64), "--backend", "exact",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(process, "exact search:")

    got, _, err = stop(process, signal.SIGINT)

    assert got == 0, err
    assert (tmp_path / "g.parquet").read_bytes()[:4] == b"PAR1"


# --- terminals ------------------------------------------------------------------------------------


def read_until(handle, text=None, seconds=60):
    """Read a terminal until there is a text, or until it is closed."""
    said, end = b"", time.monotonic() + seconds
    while text is None or text.encode() not in said:
        assert time.monotonic() < end, said
        if select.select([handle], [], [], 1)[0]:
            try:
                part = os.read(handle, 65536)
            except OSError:  # how Linux tells that the other side is closed
                part = b""
            if not part:
                assert text is None, said
                break
            said += part
    return said.decode()


@pytest.mark.parametrize("where", ["", "threads"])
@pytest.mark.parametrize("key", [b"\x03", None])
def test_the_terminal_is_as_it_was(tmp_path, where, key):
    ours, theirs = pty.openpty()
    process = start(
        where, "graph", *vectors(tmp_path, 150_000, 64), "--backend", "exact",
        stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        preexec_fn=lambda: __import__("fcntl").ioctl(2, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    before = read_until(ours, "in native code" if where else "exact search")
    began = time.monotonic()
    if key:
        os.write(ours, key)
    else:
        process.terminate()
    after = read_until(ours)
    code = process.wait(60)
    os.close(ours)

    assert code == (130 if key else 143)
    assert time.monotonic() - began < SOON
    said = before + after
    assert "Traceback" not in said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # the cursor is shown again
    tail = re.split(r"\x1b\[2K", said)[-1]  # what came after a line was last cleared
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|\^C", "", tail) == ""


# --- what is done stays done ----------------------------------------------------------------------


def test_finished_stages_are_used_by_the_next_run(tmp_path, d2, own_cache):
    source, *_ = vectors(tmp_path, 300, 8)
    np.save(tmp_path / "s.npy", np.arange(300.0))
    line = ("prune", source, "--difficulty", tmp_path / "s.npy", "--harder", "high", "--rate", 0.5)
    line += ("-o", tmp_path / "keep.npy")
    code = CHILD.replace(
        "__main__.main()",
        "from d2cli.pipeline.score import Scoring\nScoring.make = native\n__main__.main()",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "", *map(str, line)], stderr=subprocess.PIPE, bufsize=0
    )
    wait_for(process, "in native code")

    assert stop(process, signal.SIGTERM)[0] == 143
    assert not (tmp_path / "keep.npy").exists()
    assert [path.name.split("-")[0] for path in own_cache.glob("*.parquet")] == ["graph"]
    assert not list(own_cache.glob(".*"))
    done, _, err = d2(*line)
    assert done == 0
    assert "graph: up to date" in err
    assert "score: up to date" not in err
