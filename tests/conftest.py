"""Shared fixtures: small named data, and the command line as a user runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ray_cluster import cluster as cluster

# Tests start d2 a thousand times: modules are compiled once, whatever the environment asks for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Commands are to be interrupted, which those that are started in the background ignore.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SAMPLE_DATA = Path(__file__).parent.parent / "sample_data"


def pytest_xdist_auto_num_workers():
    """One worker more than cores: tests often wait for commands that they run."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, or another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("D2_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def sample_data():
    return SAMPLE_DATA


@pytest.fixture
def d2(capfdbinary):
    """Call ``d2 ...`` in this process; return (exit code, stdout, stderr)."""
    from d2cli.__main__ import main

    def call(*arguments):
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        code = caught.value.code
        return (0 if code is None else code), out.decode(), err.decode()

    return call


@pytest.fixture
def shell(tmp_path):
    """Run a bash line with ``d2`` on the path; return the finished process."""

    def call(line, **more):
        scripts = str(Path(sys.executable).parent)
        environment = {**os.environ, "PATH": scripts + os.pathsep + os.environ["PATH"]}
        environment |= more.pop("env", {})
        return subprocess.run(
            ["bash", "-c", line],
            cwd=more.pop("cwd", tmp_path),
            env=environment,
            capture_output=True,
            text=True,
            timeout=more.pop("timeout", 60),
            check=False,
            stdin=subprocess.DEVNULL,
            **more,
        )

    return call


@pytest.fixture
def cloud():
    """200 rows of 6 numbers without structure."""
    return np.random.default_rng(7).normal(size=(200, 6)).astype(np.float32)


@pytest.fixture
def two_clusters():
    """60 rows around two far places, and a difficulty for each."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    vectors[30:] += 100
    return vectors, rng.random(60)
