"""``d2 check --self-test``, and an installation that runs on any processor."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version

import pytest

from d2cli.errors import ArtifactError
from d2cli.pipeline import native, self_test
from d2cli.stages.verdicts import worst

NAMES = [
    "native-hnswlib", "native-numpy", "native-pyarrow", "native-d2cli",
    "graph-exact", "graph-hnsw", "graph-cells", "threads", "selection", "artifacts",
]  # fmt: skip


def d2_with(folder, *arguments):
    """Run d2 with modules of a folder before the installed ones."""
    return subprocess.run(
        [sys.executable, "-m", "d2cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_sound_installation_passes(d2):
    code, out, err = d2("check", "--self-test")
    assert (code, err) == (0, ""), out
    assert f"hnswlib {version('hnswlib')}" in out
    assert [line.split()[1] for line in out.splitlines() if line[:4] == "pass"] == NAMES
    assert out.endswith("10 pass, 0 warn, 0 fail\n")


def test_what_is_installed_is_checked_and_not_what_lies_here(shell, tmp_path):
    (tmp_path / "d2cli").mkdir()
    (tmp_path / "d2cli" / "__init__.py").write_text("raise ImportError('a checkout')")
    (tmp_path / "numpy.py").write_text("raise ImportError('a file of the user')")
    done = shell("d2 check --self-test")
    assert done.returncode == 0, done.stdout + done.stderr


def test_as_json(d2):
    code, out, _ = d2("check", "--self-test", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["kind"] == "d2 self-test"
    assert found["verdict"] == "pass"
    assert [check["name"] for check in found["checks"]] == NAMES


def test_data_and_the_installation_are_not_checked_together(d2):
    code, _, err = d2("check", "emb.npy", "--self-test")
    assert code == 2
    assert "--self-test checks the installation, not emb.npy" in err
    code, _, err = d2("check", "--self-test", "-k", "5", "--strict", "--json")
    assert code == 2
    assert "--self-test checks the installation, not --neighbors and --strict" in err


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "hnswlib was compiled for another processor (illegal instruction)",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ends with signal 11"),
        ("raise ImportError('no such symbol')", "hnswlib fails: ImportError: no such symbol"),
    ],
)
def test_a_library_that_does_not_run_is_named_with_advice(tmp_path, code, found):
    (tmp_path / "hnswlib.py").write_text(code)
    done = d2_with(tmp_path, "check", "--self-test")
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    told = " ".join(done.stdout.split())
    assert found in told
    assert "HNSWLIB_NO_NATIVE=1 pip install --force-reinstall" in told
    assert "a compiled library does not run here" in told


def test_a_probe_that_hangs_is_a_failure(monkeypatch):
    monkeypatch.setattr(native, "SECONDS", 0.2)
    monkeypatch.setattr(native, "PROBES", {"numpy": "import time; time.sleep(30)"})
    (check,) = native.check_native_code()
    assert check.verdict == "fail"
    assert "no answer within 0.2 seconds" in check.found


def other_neighbors(*given, **more):
    graph = build(*given, **more)
    return replace(graph, distances=graph.distances[::-1].copy())


def far_neighbors(*given, **more):
    graph = build(*given, **more)
    return replace(graph, distances=graph.distances * 2)


def by_threads(*given, n_threads, **more):
    graph = build(*given, n_threads=1, **more)
    return replace(graph, neighbors=graph.neighbors + n_threads)


def other_picks(*given, **more):
    selection = select(*given, **more)
    return replace(selection, rows=selection.rows[::-1].copy())


def refuse_all(*_):
    raise ArtifactError("damaged")


build, select = self_test.build_graph, self_test.select_coreset


@pytest.mark.parametrize(
    ("name", "fault", "failing"),
    [
        ("build_graph", other_neighbors, "graph-exact"),
        ("build_graph", far_neighbors, "graph-hnsw"),
        ("build_graph", far_neighbors, "graph-cells"),
        ("build_graph", by_threads, "threads"),
        ("select_coreset", other_picks, "selection"),
        ("read_artifact", refuse_all, "artifacts"),
    ],
)
def test_a_fault_is_found(monkeypatch, name, fault, failing):
    monkeypatch.setattr(self_test, name, fault)
    checks = {check.name: check for check in self_test.check_installation()}
    assert checks[failing].verdict == "fail"
    assert worst(checks.values()) == "fail"


def test_a_damaged_artifact_that_is_read_is_a_fault(monkeypatch):
    read, seen = self_test.read_artifact, []

    def read_the_first_again(*given):
        seen.append(read(*given) if not seen else seen[0])
        return seen[-1]

    monkeypatch.setattr(self_test, "read_artifact", read_the_first_again)
    (check,) = (one for one in self_test.check_installation() if one.name == "artifacts")
    assert check.found == "a damaged graph is read without an error"


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    """A folder with hnswlib as compiled for any processor of this kind."""
    folder = tmp_path_factory.mktemp("portable")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-cache-dir"),
            *("--no-binary", "hnswlib", "--target", folder, f"hnswlib=={version('hnswlib')}"),
        ],
        env={**os.environ, "HNSWLIB_NO_NATIVE": "1"},
        check=True,
        timeout=600,
    )
    return folder


def test_the_main_job_runs_with_a_portable_hnswlib(portable, sample_data, tmp_path):
    where = d2_with_code(portable, "import hnswlib; print(hnswlib.__file__)")
    assert where.startswith(str(portable))
    keep = tmp_path / "keep.parquet"
    done = d2_with(
        portable,
        *("prune", str(sample_data / "clinc150.parquet"), "--difficulty", "aum", "--rate", "0.9"),
        *("--backend", "hnsw", "--cache-dir", str(tmp_path / "cache"), "-o", str(keep)),
    )
    assert done.returncode == 0, done.stderr
    assert "keeping 200 of 2,000 rows" in done.stderr
    assert "hnsw, recall@10" in done.stderr
    assert keep.exists()
    tested = d2_with(portable, "check", "--self-test")
    assert tested.returncode == 0, tested.stdout


def d2_with_code(folder, code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_full_disk_is_no_broken_installation(shell, tmp_path):
    done = shell("ulimit -f 20; d2 check --self-test")
    assert (done.returncode, "reinstall" in done.stdout + done.stderr) == (5, False), done.stderr
