"""What publishing refuses, makes durable and leaves open; faults planted there must be noticed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2cli.errors import ParameterError
from d2cli.files.publish import check_output, refuse_inputs, write_atomically, write_bytes


@pytest.mark.parametrize(
    ("path", "source", "refused"),
    [
        ("shards/x.parquet", "shards", True),
        ("shards/deep/x.npy", "shards", True),
        ("x.parquet", "shards", False),
        ("shards/_x.parquet", "shards", False),
        ("shards/.x.parquet", "shards", False),
        ("shards/x.txt", "shards", False),
        ("shards/x.parquet", "shards/*.parquet", True),
        ("shards/x.npy", "shards/*.parquet", False),
        ("x.parquet", "shards/*.parquet", False),
    ],
)
def test_only_what_would_become_a_shard_is_refused(tmp_path, path, source, refused):
    (tmp_path / "shards" / "deep").mkdir(parents=True)
    if not refused:
        refuse_inputs(tmp_path / path, [tmp_path / source])
        return
    with pytest.raises(ParameterError, match="would be a part of the source"):
        refuse_inputs(tmp_path / path, [tmp_path / source])


def test_the_file_behind_standard_input_is_refused_and_no_other(tmp_path):
    read, other = tmp_path / "in.npy", tmp_path / "out.npy"
    read.write_bytes(b"1")
    other.write_bytes(b"2")
    kept, stdin = os.dup(0), os.open(read, os.O_RDONLY)
    try:
        os.dup2(stdin, 0)
        check_output(other, [])
        with pytest.raises(ParameterError, match="is an input"):
            check_output(read, [])
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(stdin)


def test_file_and_folder_are_synced_in_this_order_and_closed(tmp_path, monkeypatch):
    synced, sync, before = [], os.fsync, len(list(Path("/proc/self/fd").iterdir()))

    def record(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        sync(handle)

    monkeypatch.setattr(os, "fsync", record)
    write_atomically(tmp_path / "out", lambda file: file.write(b"x"))
    assert [path.suffix for path in synced] == [".d2tmp", tmp_path.suffix]
    assert synced[1] == tmp_path
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_writing_tells_whether_anything_changed(tmp_path):
    assert write_bytes(tmp_path / "out", b"x") is True
    assert write_bytes(tmp_path / "out", b"x") is False
    assert write_bytes(tmp_path / "out", b"y") is True


@pytest.mark.parametrize("read", [True, False])
def test_results_reach_a_pipe_at_once_and_nobody_after_it_was_closed(read):
    code = (
        "import os, sys\n"
        "from d2cli.errors import ReaderGone\n"
        "from d2cli.files.publish import stream_stdout\n"
        "source, sink = os.pipe()\n"
        "os.dup2(sink, 1)\n"
        "os.close(sink)\n"
        "if sys.argv[1] == 'read':\n"
        "    stream_stdout(b'x')\n"
        "    os.set_blocking(source, False)\n"
        "    sys.exit(7 if os.read(source, 9) == b'x' else 8)\n"
        "os.close(source)\n"
        "open_files = len(os.listdir('/proc/self/fd'))\n"
        "try:\n"
        "    stream_stdout(b'x')\n"
        "except ReaderGone:\n"
        "    os.write(1, b'goes nowhere')\n"
        "    sys.exit(7 if len(os.listdir('/proc/self/fd')) == open_files else 9)\n"
    )
    line = [sys.executable, "-c", code, "read" if read else "closed"]
    assert subprocess.run(line, check=False, timeout=60).returncode == 7


def test_a_link_that_leads_back_to_itself_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ParameterError, match="a: is a link that leads back to itself"):
        check_output(tmp_path / "a", [])
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "b").is_symlink()


def test_a_report_with_a_slash_after_its_name_is_refused(d2, tmp_path, cloud):
    np.save(tmp_path / "v.npy", cloud)
    (tmp_path / "r.md").write_text("old")
    line = ("prune", tmp_path / "v.npy", "--difficulty", "uniform", "--rate", "0.5")
    code, _, err = d2(*line, "-o", tmp_path / "k.npy", "--report", f"{tmp_path / 'r.md'}/")
    assert (code, "r.md/: is a folder" in err) == (2, True), err
    assert (tmp_path / "r.md").read_text() == "old"
    assert not (tmp_path / "k.npy").exists()
