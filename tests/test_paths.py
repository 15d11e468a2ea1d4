"""Any name of a file is taken as it is or refused in one line."""

import subprocess
import sys
from pathlib import Path


def test_paths_of_every_kind_are_taken_or_refused():
    # A process of its own: its children are forked, which one with threads cannot do safely.
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.paths", "--places", "1"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 30
