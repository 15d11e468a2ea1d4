"""Files that another program shortens while they are mapped: one line, exit code 3, no result."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from d2cli.commands.running import Setting
from d2cli.errors import InputError, ResourceError
from d2cli.files import _sigbus
from d2cli.files.mapped import map_file, map_scratch, refuse_shorter

N, DIM = 6000, 32

# A child that is d2, and shortens a file before a function of d2 is called for the so-manieth time.
CHILD = """
import importlib, os, sys
from d2cli import __main__
where, at, path, size, *sys.argv[1:] = sys.argv[1:]
module, _, name = where.rpartition(".")
owner = importlib.import_module(module) if module else None
calls, real = [], getattr(owner, name, None)

def call(*arguments, **more):
    if len(calls) == int(at):
        os.truncate(path, int(size))
    calls.append(1)
    return real(*arguments, **more)

if owner:
    setattr(owner, name, call)
__main__.main()
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """One file of each kind that is mapped, and old results."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, DIM)).astype(np.float32)
    np.save("e.npy", vectors)
    np.save("fortran.npy", np.asfortranarray(vectors))
    np.save("half.npy", vectors.astype(np.float16))
    np.save("labels.npy", rng.integers(0, 3, N))
    np.save("log.npy", rng.normal(size=(4, N, 8)))
    np.save("aum.npy", rng.normal(size=N))
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIM)})
    with pa.OSFile("e.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=500)
    (tmp_path / "shards").mkdir()
    for part in range(3):
        np.save(f"shards/{part}.npy", vectors[part::3])
    for name in ("g.parquet", "d.parquet", "k.npy"):
        (tmp_path / name).write_bytes(b"old")
    return tmp_path


def start(where, at, path, size, *arguments, **more):
    line = [sys.executable, "-c", CHILD, where, at, path, size, *arguments]
    return subprocess.Popen(
        list(map(str, line)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def files(folder):
    return {
        path: path.read_bytes() if path.name in ("g.parquet", "d.parquet", "k.npy") else None
        for path in folder.rglob("*")
    }


def assert_told(process, name, code=3):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    said = [line for line in err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert said == [
        f"error: {name}: has become shorter while it was read",
        "hint: the file must not change while d2 reads it; copy it first, and read the copy",
    ]
    assert out == ""


GRAPH = ("-o", "g.parquet", "--backend")
CASES = {
    # name: where and at which call, the file, the command
    "digest": ("d2cli.files.inputs.digest_array", 0, "e.npy", "graph e.npy -o g.parquet"),
    "search": ("d2cli.pipeline.graph.build_graph", 0, "e.npy", "graph e.npy -o g.parquet"),
    "two threads": (
        "d2cli.pipeline.graph.build_graph", 0, "e.npy", "graph e.npy -o g.parquet -j 2"
    ),
    "hnsw": (
        "d2cli.pipeline.graph.build_graph", 0, "e.npy", "graph e.npy -o g.parquet --backend hnsw"
    ),
    "fortran": (
        "d2cli.files.inputs.digest_array", 0, "fortran.npy", "graph fortran.npy -o g.parquet"
    ),
    "widened": ("d2cli.files.inputs.digest_array", 0, "half.npy", "graph half.npy -o g.parquet"),
    "arrow": ("d2cli.files.inputs.read_vectors", 0, "e.arrow", "graph e.arrow -o g.parquet"),
    "shards": ("d2cli.files.shards.arrow_blocks", 1, "shards/1.npy", "graph shards -o g.parquet"),
    "log": (
        "d2cli.files.dynamics.in_blocks", 1, "log.npy",
        "difficulty log.npy --labels labels.npy --values logits -o d.parquet",
    ),
    "export": (
        "d2cli.files.export_lists._write_header", 0, "e.npy",
        "export rows.txt --source e.npy -o k.npy --format array",
    ),
}  # fmt: skip


def test_what_an_earlier_run_has_mapped_is_not_asked_of_the_next(tmp_path):
    np.save(tmp_path / "e.npy", np.ones((100, 4)))
    kept = map_file(tmp_path / "e.npy", "e.npy")
    os.truncate(tmp_path / "e.npy", 200)
    with pytest.raises(InputError):
        refuse_shorter()
    with Setting(1, False, True).run():
        refuse_shorter()
    kept.close()


@pytest.mark.parametrize(
    ("case", "page"),
    [(case, True) for case in CASES]
    + [(case, False) for case in ("digest", "search", "arrow", "shards", "log", "export")],
)
def test_a_mapped_file_that_gets_shorter_is_one_line_and_no_result(made, case, page):
    where, at, path, line = CASES[case]
    (made / "rows.txt").write_text("".join(f"{row}\n" for row in range(N - 50, N)))
    before = files(made)
    size = (made / path).stat().st_size
    # Half of it is lost, or so little that the rest of its page reads as zeros.
    left = size // 2 if page else size - 8
    assert page or left % 4096, "no bytes of the last page are left"

    process = start(where, at, path, left, *line.split())

    assert_told(process, path)
    assert process.returncode == 3
    if page and case == "export":  # what a kill would leave, too; the next run takes it away
        (stray,) = files(made).keys() - before.keys()
        assert stray.name.endswith(".d2tmp")
        np.save("e.npy", np.ones((N, DIM), dtype=np.float32))
        subprocess.run([sys.executable, "-m", "d2cli", *line.split()], check=True)
        assert files(made).keys() == before.keys()
        return
    assert files(made) == before


def test_safetensors_that_get_shorter_are_told(made):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file({"v": np.load("e.npy")}, "e.safetensors")
    where = "d2cli.files.inputs.digest_array"
    process = start(where, 0, "e.safetensors", 5000, "graph", "e.safetensors", "-o", "g.parquet")
    assert_told(process, "e.safetensors")
    assert (made / "g.parquet").read_bytes() == b"old"


def test_shortened_at_any_time_a_run_ends_well(made):
    """At random times: the one line, or the result of the whole file."""
    rng = np.random.default_rng(1)
    big = rng.normal(size=(60_000, 64)).astype(np.float32)
    line = ["graph", "big.npy", "-o", "g.parquet", "--backend", "exact", "-k", 3]
    ends = []
    for part in (0.1, 0.3, 0.5, 0.8, 0.95):
        np.save("big.npy", big)
        process = start("", 0, "", 0, *line, env={**os.environ, "D2_CACHE_DIR": "cache"})
        maps = Path(f"/proc/{process.pid}/maps")
        while process.poll() is None:
            if "big.npy" in maps.read_text():
                break
            time.sleep(0.002)
        time.sleep(float(rng.random()) * 0.3)
        os.truncate("big.npy", int(part * big.nbytes))
        assert_told(process, "big.npy")
        ends.append((made / "g.parquet").read_bytes())
    assert ends == [b"old"] * 5


def test_a_failing_disk_is_told_apart(made):
    """The file behind the map is another than the one that has its name by now."""
    os.link("e.npy", "kept.npy")
    code = CHILD.replace(
        "os.truncate(path, int(size))",
        "os.truncate('kept.npy', 500); os.unlink(path); os.link('aum.npy', path); "
        "os.truncate(path, 10_000_000)",
    )
    line = ("d2cli.pipeline.graph.build_graph", "0", "e.npy", "0", "graph", "e.npy")
    done = subprocess.run(
        [sys.executable, "-c", code, *line, "-o", "g.parquet"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(
        "error: e.npy: cannot be read any more\nhint: its disk or network has failed, or the file"
    )
    assert (made / "g.parquet").read_bytes() == b"old"


def test_a_name_cannot_forge_a_line(made):
    name = "e\nerror: forged\x1b[31m.npy"
    (made / "e.npy").rename(name)
    where = "d2cli.pipeline.graph.build_graph"
    process = start(where, 0, name, 200, "graph", name, "-o", "g.parquet")
    assert_told(process, "e error: forged\ufffd[31m.npy")


# --- what is not ours -----------------------------------------------------------------------------

UNKNOWN = """
import mmap, os, sys
{before}
open("own", "wb").write(bytes(100_000))
file = open("own", "rb")
own = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate("own", 0)
own[50_000]
"""


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip


INSTALL = "from d2cli.files import _sigbus; _sigbus.install(b'')"
API = "import d2cli, d2cli.files.mapped, d2cli.api"


@pytest.mark.parametrize("before", [INSTALL, API, ""])
def test_any_other_sigbus_is_as_without_d2(made, before):
    done = run(UNKNOWN.format(before=before))
    assert done.returncode == -signal.SIGBUS
    assert done.stderr == ""


def test_faulthandler_still_tells_of_any_other(made):
    done = run(UNKNOWN.format(before=INSTALL), PYTHONFAULTHANDLER="1")
    assert done.returncode == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in done.stderr


def test_a_signal_that_was_sent_is_as_without_d2(made):
    done = run(f"import os, signal\n{INSTALL}\nos.kill(os.getpid(), signal.SIGBUS)")
    assert done.returncode == -signal.SIGBUS


def test_python_functions_do_not_end_the_process_of_others(made):
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom d2cli.files.mapped import map_file\n"
        "data = map_file(Path('e.npy'), 'e.npy')\nos.truncate('e.npy', 0)\ndata[70_000]"
    )
    done = run(code)
    assert done.returncode == -signal.SIGBUS
    assert done.stderr == ""


def test_a_map_that_is_closed_is_no_longer_known(made):
    code = (
        f"{INSTALL}\nimport os, mmap\nfrom pathlib import Path\n"
        "from d2cli.files.mapped import map_file\n"
        "for _ in range(1000): map_file(Path('e.npy'), 'e.npy')\n"
        "assert len(os.listdir('/proc/self/fd')) < 20\n"
    ) + UNKNOWN.format(before="")
    done = run(code)
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stderr == ""


def test_bytes_lost_from_the_last_page_are_looked_for(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 5000)
    refuse_shorter()
    mapping = map_file(path, "the file")
    refuse_shorter()
    os.truncate(path, 4999)
    with pytest.raises(InputError, match="the file: has become shorter"):
        refuse_shorter()
    assert mapping[4999] == 0  # which is why
    del mapping
    refuse_shorter()


def test_scratch_files_are_the_disks_fault(tmp_path):
    with (tmp_path / "a").open("w+b") as file:
        file.write(b"x" * 5000)
        file.flush()
        mapping = map_scratch(file, tmp_path)
        file.truncate(4999)
        with pytest.raises(ResourceError, match="a scratch file: has become shorter"):
            refuse_shorter()
        del mapping


def test_a_text_too_long_to_keep_is_refused():
    with pytest.raises(ValueError, match="too long"):
        _sigbus.install(b"x" * 64)


@pytest.mark.parametrize("left", ["half", "most"])
def test_nothing_wrong_goes_to_standard_output(made, left):
    size = (made / "e.npy").stat().st_size
    left = size // 2 if left == "half" else size - 8
    process = start("d2cli.pipeline.graph.build_graph", 0, "e.npy", left, "graph", "e.npy")
    assert_told(process, "e.npy")
