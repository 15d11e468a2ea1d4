"""Libraries unpack within the limit, whatever a file says of itself. Bombs: tests/soak."""

import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from soak import bombs
from test_cli import assert_refused

from d2cli.errors import ResourceError
from d2cli.files import memory, unpacking
from d2cli.files.sources import Sources

LIMIT = memory.Limit(200_000_000, "--max-memory")
LEAST = ("--max-memory", "200M")


def test_what_a_library_cannot_get_is_one_error():
    error = pytest.raises(ResourceError)
    with error as caught, memory.within(LIMIT), unpacking.unpacking("a.parquet", "read it"):
        raise OSError("malloc of size 12345678 failed")
    assert caught.value.message == (
        "a.parquet: unpacks to more than there is memory for (step 'read it'), "
        "--max-memory is 200 MB"
    )
    assert caught.value.hint.startswith("raise --max-memory; ")
    with pytest.raises(KeyError), memory.within(LIMIT), unpacking.unpacking("a", "b"):
        raise KeyError("of another kind")


def test_the_bound_is_there_inside_and_gone_after():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with unpacking.unpacking("a", "b"):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before  # no command, no limit
    with memory.within(LIMIT):
        with unpacking.unpacking("a", "b"):
            inside = resource.getrlimit(resource.RLIMIT_DATA)[0]
            with unpacking.unpacking("a", "b"):
                assert resource.getrlimit(resource.RLIMIT_DATA)[0] == inside
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == inside
        assert 0 < inside <= memory.data_memory() + LIMIT.n_bytes + (128 << 20)
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
        items = unpacking.unpacked(iter([1, 2]), "a", "b")
        assert next(items) == 1
        assert resource.getrlimit(resource.RLIMIT_DATA) == before  # between two of them
        assert list(items) == [2]


def test_threads_that_unpack_at_once_leave_no_bound():
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def work():
        with memory.within(LIMIT):
            for _ in unpacking.unpacked(range(300), "a", "b"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_limit_of_the_system_is_kept():
    code = (
        "import resource\nfrom d2cli.files import memory, unpacking\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 4 << 30))\n"
        "with memory.within(memory.Limit(1 << 40, '')), unpacking.unpacking('a', 'b'):\n"
        "    assert resource.getrlimit(resource.RLIMIT_DATA) == (3 << 30, 4 << 30)\n"
        "assert resource.getrlimit(resource.RLIMIT_DATA) == (3 << 30, 4 << 30)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_is_held_may_not_be_more_than_the_limit():
    unpacking.require_held("a", "b", 1 << 60)  # outside of any command
    with memory.within(memory.Limit(1 << 50, "the machine")), unpacking.within(LIMIT):
        unpacking.require_held("a", "b", LIMIT.n_bytes)
        with pytest.raises(ResourceError, match="a: unpacks to more"):
            unpacking.require_held("a", "b", LIMIT.n_bytes + 1)


def test_equal_values_do_not_make_batches_large(tmp_path):
    lists = pa.array([[0.0] * 4000] * 3000, pa.list_(pa.float32()))
    texts = pa.array(["x" * 500] * 200_000)
    pq.write_table(pa.table({"v": lists}), tmp_path / "v.parquet", compression="zstd")
    pq.write_table(pa.table({"t": texts}), tmp_path / "t.parquet", compression="zstd")
    for name, most in (("v", 4 << 20), ("t", 40 << 20)):
        path = tmp_path / f"{name}.parquet"
        assert path.stat().st_size < 100_000
        sizes = [batch.nbytes for batch in Sources().open(str(path)).batches(name)]
        assert max(sizes) < most


def test_a_header_of_an_array_may_not_be_long(tmp_path, d2):
    (tmp_path / "long.npy").write_bytes(
        b"\x93NUMPY\x02\x00" + (20_000).to_bytes(4, "little") + b" " * 20_000
    )
    result = d2("graph", tmp_path / "long.npy", "-o", tmp_path / "g.parquet")
    assert_refused(result, 3, "long.npy", "its header has 20,000 bytes")


BOMBS = {
    "graph b.parquet -e v --within label -o o.parquet": bombs.repeated_text,
    "export rows.txt --source b.parquet -o o.jsonl": bombs.lying_page,
    "export rows.txt --source b.parquet -o out/": bombs.long_value,
}


@pytest.mark.parametrize("line", BOMBS)
def test_bombs_are_refused_in_every_way_they_are_read(tmp_path, line):
    (tmp_path / "b.parquet").write_bytes(BOMBS[line]("zstd"))
    (tmp_path / "rows.txt").write_text("0\n1\n")
    done = subprocess.run(
        [sys.executable, "-m", "d2cli", *line.split(), "--max-memory", "300M"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=os.environ,
    )  # fmt: skip
    assert_refused(
        (done.returncode, done.stdout, done.stderr), 5, "b.parquet: unpacks to more", "300 MB"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.parquet", "rows.txt"]


def test_a_piped_batch_that_unpacks_to_too_much_is_refused(tmp_path):
    line = ["stream", "-", "--difficulty", "v", "--budget", "2", "-o", "o.parquet"]
    done = subprocess.run(
        [sys.executable, "-m", "d2cli", *line, "--max-memory", "300M"],
        cwd=tmp_path, input=bombs.arrow("zstd"), capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout.decode(), done.stderr.decode()
    assert_refused((done.returncode, *said), 5, "standard input: unpacks to more", "300 MB")
    assert not list(tmp_path.iterdir())


def test_an_artifact_that_unpacks_to_too_much_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "e.npy", rng.normal(size=(50, 4)).astype(np.float32))
    d2 = [sys.executable, "-m", "d2cli"]
    subprocess.run([*d2, "graph", "e.npy", "-o", "g.parquet"], cwd=tmp_path, check=True)
    table = pq.read_table(tmp_path / "g.parquet")
    metadata = table.schema.metadata
    big = pa.array(["x" * (1 << 23)]).take(pa.array(np.zeros(50, np.int32)))
    table = table.append_column("id", big).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "g.parquet", compression="zstd")
    done = subprocess.run(
        [*d2, "score", "g.parquet", "--difficulty", "e.npy", "-o", "s.parquet", *LEAST],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert_refused(
        (done.returncode, done.stdout, done.stderr), 5, "g.parquet: unpacks to more", "200 MB"
    )
