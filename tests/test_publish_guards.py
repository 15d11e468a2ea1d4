"""What publishing refuses, makes durable and leaves open; faults planted there must be noticed."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2cli.errors import ParameterError, ResourceError
from d2cli.files.destinations import check_output, refuse_inputs
from d2cli.files.publish import create_locked, not_written, write_atomically, write_bytes
from d2cli.quantities import size_text

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


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
        ("x.npy", "none.npy", False),
        ("x.npy", "[x].npy", False),  # a file of that very name
    ],
)
def test_only_what_would_become_a_shard_is_refused(tmp_path, path, source, refused):
    (tmp_path / "shards" / "deep").mkdir(parents=True)
    (tmp_path / "[x].npy").touch()
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

    sizes = []

    def record(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        sizes.append(os.fstat(handle).st_size)
        sync(handle)

    monkeypatch.setattr(os, "fsync", record)
    write_atomically(tmp_path / "out", lambda file: file.write(b"xyz"))
    assert [path.suffix for path in synced] == [".d2tmp", tmp_path.suffix]
    assert sizes[0] == 3  # all of it
    assert synced[1] == tmp_path
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_is_being_written_is_not_swept_by_another_write_in_the_folder(tmp_path):
    seen = []

    def write(file):
        write_bytes(tmp_path / "other", b"y")
        seen.extend(path.suffix for path in tmp_path.iterdir() if path.suffix)
        file.write(b"x")

    write_atomically(tmp_path / "out", write)

    assert seen == [".d2tmp"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


@pytest.mark.parametrize("fate", ["locked", "removed"])
def test_a_new_file_that_another_run_was_quicker_to_sweep_is_made_again(tmp_path, fate):
    opened, sweeper = [], []

    def open_new(path):
        file = path.open("xb")
        if not opened and fate == "locked":
            sweeper.append(path.open("rb"))
            fcntl.flock(sweeper[0], fcntl.LOCK_EX)
        elif not opened:
            path.unlink()
        opened.append(file)
        return file

    path, file = create_locked(tmp_path / "out", open_new)

    assert [one.closed for one in opened] == [True, False]
    assert file is opened[1]
    assert os.fstat(file.fileno()).st_ino == path.stat().st_ino
    with path.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for one in (*sweeper, file):
        one.close()


def test_room_for_exactly_what_is_written_suffices(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for free, fits in ((2000, True), (1999, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        if fits:
            assert write_bytes(tmp_path / "out", bytes(2000)) is True
            continue
        with pytest.raises(ResourceError, match="No space left"):
            write_bytes(tmp_path / "out", bytes(range(250)) * 8)


@pytest.mark.parametrize("size", [None, 0, 400, 2000])
@pytest.mark.parametrize("written", [0, 400, 1000])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES])
def test_what_could_not_be_written_tells_of_room_where_that_lacks(
    tmp_path, monkeypatch, number, size, written
):
    usage = shutil.disk_usage(tmp_path)._replace(free=300)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    expected = f"{tmp_path / 'x'}: cannot be written: {os.strerror(number)}"
    if number != errno.EACCES and (size, written) != (None, 0):
        most = max(size or 0, written)
        more = "" if most == size else "more than "
        expected += f"; {more}{size_text(most)} are needed"
        if number != errno.EFBIG:  # of which there may be room enough
            expected += ", 300 B are free"

    error = not_written(
        tmp_path / "x", OSError(number, os.strerror(number)), size=size, written=written
    )

    assert error.message == expected


def test_a_file_that_cannot_even_be_made_tells_of_no_bytes(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(ResourceError) as caught:
        write_atomically(tmp_path / "out", lambda file: file.write(b"x"))

    assert caught.value.message == f"{tmp_path / 'out'}: cannot be written: No space left on device"


def test_a_folder_without_permission_and_a_name_too_long_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match=r"cannot be a file name: .*too long"):
        check_output(tmp_path / ("x" * 300), [])
    monkeypatch.setattr(os, "access", lambda path, how: (path, how) != (tmp_path, os.W_OK))
    with pytest.raises(ResourceError, match="out: the folder cannot be written to"):
        check_output(tmp_path / "out", [])


def test_a_pipe_or_device_is_an_output_wherever_it_is(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda *_: False)

    check_output(tmp_path / "pipe", [])
    check_output(Path(os.devnull), [])


def test_writing_tells_whether_anything_changed(tmp_path):
    assert write_bytes(tmp_path / "out", b"x") is True
    assert write_bytes(tmp_path / "out", b"x") is False
    assert write_bytes(tmp_path / "out", b"y") is True


@pytest.mark.parametrize("read", [True, False])
def test_results_reach_a_pipe_at_once_and_nobody_after_it_was_closed(read):
    code = (
        "import os, sys\n"
        "from d2cli.errors import ReaderGone\n"
        "from d2cli.files.stdout import stream_stdout\n"
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
    assert subprocess.run(line, check=False, timeout=60, env=BUFFERED).returncode == 7


def test_bytes_on_standard_output_follow_the_text_before_them():
    code = (
        "from d2cli.files.stdout import write_stdout\n"
        "print('before', end=' ')\n"
        "write_stdout(b'bytes ')\n"
        "print('after', end='')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=60, env=BUFFERED
    )
    assert done.stdout == b"before bytes after"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_standard_output_that_is_full_is_told():
    code = (
        "import os\n"
        "from d2cli.errors import ResourceError\n"
        "from d2cli.files.stdout import write_stdout\n"
        "try:\n"
        "    write_stdout(b'x')\n"
        "except ResourceError as error:\n"
        "    os.write(2, error.message.encode())\n"
        "    os._exit(7)\n"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 7
    assert done.stderr == b"standard output: cannot be written: No space left on device"


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
