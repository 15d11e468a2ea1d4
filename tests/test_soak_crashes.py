"""The small sizes of what ``tests/soak`` runs by hand: kills, failing calls, shared caches."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = 4  # of the commands that calls fail in, each a test, so that cores share them


def soak(name, *arguments):
    """Run a module of tests/soak in a process of its own, which forks; return its figures."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.soak.{name}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    return done.stdout


def test_a_kill_at_any_moment_leaves_whole_files_and_the_next_run_ends_the_work():
    figures = soak("kills", "--count", 50)

    assert figures.startswith("50 kills, ")
    assert figures.endswith(
        ": 0 torn files, 0 other bytes after the next run, 0 stray files, 0 failed runs\n"
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_any_call_that_fails_leaves_the_old_result_and_says_why(part):
    figures = soak("faults", "--part", part, "--parts", PARTS)

    assert int(figures.split()[0]) >= 100  # every one of them: about 800 in all
    assert ": 0 torn files, 0 stray files, 0 next runs disturbed, 0 wrong ends\n" in figures


def test_processes_that_share_a_cache_build_each_key_once():
    figures = soak("locks", "--count", 3)

    assert figures.endswith(
        ": 0 builds too many or few, 0 unequal outputs, 0 deadlocks, 0 failures, 0 stray files\n"
    )
