"""What memory there is, and that files which declare too much are refused before it is taken."""

import io
import json
import re
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_cli import assert_refused

from d2cli.errors import ResourceError
from d2cli.files import memory

GB = 10**9


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def machine(available):
    return {
        "proc/meminfo": f"MemTotal: 999 kB\nMemAvailable:  {available // 1024} kB\n",
        "proc/self/status": "Name: d2\nVmSize:  300000 kB\nVmRSS:  100000 kB\n",
    }


V2_MOUNT = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
V1_MOUNT = "33 22 0:29 {} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def group(folder, most, used, dropped=0, *, v1=False):
    names = ("limit_in_bytes", "usage_in_bytes", "total_") if v1 else ("max", "current", "")
    return {
        f"{folder}/memory.{names[0]}": f"{most}\n",
        f"{folder}/memory.{names[1]}": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\n{names[2]}inactive_file {dropped}\n",
    }


# --- what there is --------------------------------------------------------------------------------


def test_the_machine_limits_what_no_cgroup_does(tmp_path):
    limit = memory.limit_of(None, root=tree(tmp_path, machine(10 * GB)))
    assert limit.source == "what the machine has left"
    assert limit.n_bytes == pytest.approx(0.9 * 10 * GB + 100_000 * 1024, rel=1e-6)


def test_what_is_given_counts_alone(tmp_path):
    limit = memory.limit_of(5 * GB, root=tree(tmp_path, machine(1 * GB)))
    assert limit == memory.Limit(5 * GB, "--max-memory")


def test_the_tightest_of_nested_cgroups_limits(tmp_path):
    cgroups = "sys/fs/cgroup"
    root = tree(
        tmp_path,
        machine(10 * GB)
        | {"proc/self/cgroup": "0::/slice/job/step\n", "proc/self/mountinfo": V2_MOUNT}
        | group(f"{cgroups}/slice", 9 * GB, 8 * GB, 1 * GB)
        | group(f"{cgroups}/slice/job", 4 * GB, 3 * GB, 0)
        | group(f"{cgroups}/slice/job/step", "max", 3 * GB, 0),
    )
    least = min(memory.free_memory(root), key=lambda one: one.n_bytes)
    assert least.n_bytes == 1 * GB
    assert least.source == f"what the cgroup {tmp_path}/sys/fs/cgroup/slice/job has left"
    # Pages of files that may be dropped count as free.
    assert 2 * GB in [one.n_bytes for one in memory.free_memory(root)]


@pytest.mark.parametrize(
    ("mounted", "path"),
    [
        ("/", "/docker/abc"),  # seen from the machine
        ("/docker", "/docker/abc"),  # only a part is mounted
        ("/docker/abc", "/docker/abc"),  # the container's own, at the mount itself
        ("/", "/../../elsewhere"),  # of a namespace above
    ],
)
def test_cgroups_of_version_1_wherever_they_are_mounted(tmp_path, mounted, path):
    inside = {"/": "docker/abc", "/docker": "abc", "/docker/abc": ""}[mounted]
    if ".." in path:
        inside = ""
    root = tree(
        tmp_path,
        machine(10 * GB)
        | {
            "proc/self/cgroup": f"9:name=systemd:/\n4:cpu,memory:{path}\n0::/\n",
            "proc/self/mountinfo": V1_MOUNT.format(mounted),
        }
        | group(f"sys/fs/cgroup/memory/{inside}", 2 * GB, GB // 2, GB // 4, v1=True),
    )
    assert min(one.n_bytes for one in memory.free_memory(root)) == 2 * GB - GB // 4


def test_cgroups_without_a_limit_do_not_limit(tmp_path):
    root = tree(
        tmp_path,
        machine(GB)
        | {"proc/self/cgroup": "4:memory:/\n", "proc/self/mountinfo": V1_MOUNT.format("/")}
        | group("sys/fs/cgroup/memory", 9223372036854771712, 5 * GB, v1=True),
    )
    assert [one.source for one in memory.free_memory(root)] == ["what the machine has left"]


def test_a_system_that_says_nothing_sets_no_limit(tmp_path):
    assert memory.limit_of(None, root=tmp_path) is None
    assert memory.limit_of(7, root=tmp_path) == memory.Limit(7, "--max-memory")


def test_garbled_files_of_the_system_are_passed_over(tmp_path):
    files = {
        "proc/meminfo": "MemAvailable: many kB",
        "proc/self/status": "VmRSS:",
        "proc/self/cgroup": "x\n0::\n:::\n",
        "proc/self/mountinfo": "1 2\n- cgroup2\n" + V2_MOUNT,
        "sys/fs/cgroup/memory.max": "lots",
    }
    assert memory.limit_of(None, root=tree(tmp_path, files)) is None


def test_a_step_that_does_not_fit_is_named_with_what_would_make_it_fit():
    limit = memory.Limit(1 << 20, "--max-memory")
    with memory.within(limit), pytest.raises(ResourceError) as caught:
        memory.require("a.npy", "read it", 5 * GB, hint="fewer rows need less")
    # What the process itself holds counts, too: in a worker of tests, up to some GB.
    assert re.match(r"a\.npy: about \d\.\d GB of memory are needed", caught.value.message)
    assert "(step 'read it'), --max-memory is 1.0 MB" in caught.value.message
    assert caught.value.hint == "raise --max-memory; fewer rows need less"
    memory.require("a.npy", "read it", 1 << 62, hint="")  # outside of any command


def test_the_real_system_says_something():
    assert memory.current_limit() is None
    assert memory.resident_memory() > 1 << 20
    assert memory.limit_of(None).n_bytes > 1 << 20


# --- declared sizes -------------------------------------------------------------------------------


def npy_header(shape, descr="<f4"):
    out = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


HUGE = [(10**12, 64), (2**40,), (2**62, 4), (3, 2**61)]


@pytest.mark.parametrize("shape", HUGE)
def test_arrays_that_declare_more_than_their_file_holds(tmp_path, d2, shell, shape):
    cut = tmp_path / "cut.npy"
    cut.write_bytes(npy_header(shape) + bytes(4000))
    with zipfile.ZipFile(tmp_path / "cut.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v.npy", cut.read_bytes())
    for name in ("cut.npy", "cut.npz"):
        result = d2("graph", tmp_path / name, "-o", tmp_path / "g.parquet")
        assert_refused(result, 3, name, "is cut short", "it holds 4,000")
    done = shell("d2 graph - -o g.parquet < cut.npy")
    assert_refused((done.returncode, done.stdout, done.stderr), 3, "standard input: is cut short")
    assert not (tmp_path / "g.parquet").exists()


def test_a_footer_that_miscounts_is_refused(monkeypatch):
    from types import SimpleNamespace

    from d2cli.files.tables import check_row_count

    groups = [SimpleNamespace(num_rows=4), SimpleNamespace(num_rows=5)]
    for n_rows in (8, 10, 2**50):
        meta = SimpleNamespace(num_rows=n_rows, num_row_groups=2, row_group=groups.__getitem__)
        with pytest.raises(ValueError, match="the footer counts"):
            check_row_count(meta)
    meta = SimpleNamespace(num_rows=9, num_row_groups=2, row_group=groups.__getitem__)
    check_row_count(meta)


# --- every command --------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path, d2):
    """One file of each kind, of 3,000 rows."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(3000, 8)).astype(np.float32)
    columns = {
        "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8),
        "aum": rng.random(3000),
        "label": rng.integers(0, 4, 3000),
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    np.savez_compressed(tmp_path / "d.npz", v=np.zeros((400_000, 64), dtype=np.float32))
    np.save(tmp_path / "log.npy", rng.normal(size=(3, 3000, 4)))
    prune = ("prune", tmp_path / "d.parquet", "--difficulty", "aum", "--rate", 0.5)
    assert d2(*prune, "-o", tmp_path / "k.parquet")[0] == 0
    assert d2("graph", tmp_path / "d.parquet", "-o", tmp_path / "g.parquet")[0] == 0
    score = ("score", tmp_path / "g.parquet", "--difficulty", f"{tmp_path / 'd.parquet'}::aum")
    assert d2(*score, "-o", tmp_path / "s.parquet")[0] == 0
    return tmp_path


COMMANDS = [
    "graph d.parquet -o o.parquet",
    "graph d.npz -o o.parquet",
    "prune d.parquet --difficulty aum --rate 0.5 -o o.parquet",
    "score g.parquet --difficulty d.parquet::aum -o o.parquet",
    "select s.parquet --rate 0.5 -o o.parquet",
    "difficulty log.npy --labels d.parquet::label -o o.parquet",
    "difficulty --from-graph g.parquet -o o.parquet",
    "difficulty --embedding d.parquet::v -o o.parquet",
    "compare d.parquet --difficulty aum --labels label -o o.json",
    "sweep d.parquet --difficulty aum -o o.json",
    "explain k.parquet --rows 1 --scores s.parquet --graph g.parquet",
    "diff k.parquet k.parquet -o o.json",
    "export k.parquet --source d.parquet -o o.parquet",
    "report k.parquet --scores s.parquet --graph g.parquet -o o.md",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_that_reads_data_keeps_to_the_limit(made, d2, monkeypatch, line):
    monkeypatch.chdir(made)
    before = sorted(path.name for path in made.iterdir())
    result = d2(*line.split(), "--max-memory", "2M")
    assert_refused(result, 5, "of memory are needed", "(step '", "--max-memory is 2.0 MB", "raise")
    assert sorted(path.name for path in made.iterdir()) == before


def test_check_fails_under_a_limit_that_the_run_does_not_fit(made, d2):
    code, out, _ = d2("check", made / "d.parquet", "--max-memory", "2M", "--json")
    assert code == 3
    check = next(c for c in json.loads(out)["checks"] if c["name"] == "memory-and-time")
    assert check["verdict"] == "fail"


def test_standard_input_is_read_only_as_far_as_there_is_room(shell):
    done = shell("head -c 400000000 /dev/zero | d2 graph - -o g.parquet --max-memory 200M")
    assert_refused((done.returncode, done.stdout, done.stderr), 5, "standard input: about")


# --- the address space ----------------------------------------------------------------------------


def limited(n_bytes, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "d2cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes)),
    )


def test_too_small_an_address_space_is_refused_before_libraries_fail(made):
    done = limited(420 << 20, "graph", "d.parquet", "-o", "o.parquet", cwd=made)
    assert_refused(
        (done.returncode, done.stdout, done.stderr), 5, "the address space (ulimit -v) has", "left"
    )
    assert not (made / "o.parquet").exists()
