"""Files appear whole or not at all."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from d2cli.errors import ParameterError, ResourceError
from d2cli.files.destinations import check_output
from d2cli.files.publish import write_atomically, write_bytes


class Interrupted(Exception):
    """Stands for anything that stops a writer halfway."""


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def refusal(error, path, inputs=()):
    with pytest.raises(error) as caught:
        check_output(path, inputs)
    return caught.value.message


@pytest.fixture
def old(tmp_path):
    """A file in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").write_bytes(b"old")
    return folder / "out"


# --- whole or not at all --------------------------------------------------------------------------


def test_a_new_file_appears_whole(tmp_path):
    write_atomically(tmp_path / "out", lambda file: file.write(b"new"))

    assert (tmp_path / "out").read_bytes() == b"new"
    assert listing(tmp_path) == ["out"]


def test_the_old_content_stays_until_all_is_written(old):
    seen = []

    def write(file):
        file.write(b"ne")
        file.flush()
        seen.append(old.read_bytes())
        file.write(b"w")

    write_atomically(old, write)

    assert seen == [b"old"]
    assert old.read_bytes() == b"new"


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt, SystemExit, MemoryError])
def test_the_old_content_survives_an_exception_halfway(old, error):
    def write(file):
        file.write(b"ne")
        file.flush()
        raise error

    with pytest.raises(error):
        write_atomically(old, write)

    assert old.read_bytes() == b"old"
    assert listing(old.parent) == ["out"]


def test_a_write_that_fails_is_told_by_path_and_reason(old):
    def write(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError) as caught:
        write_atomically(old, write)

    assert caught.value.message == f"{old}: cannot be written: No space left on device"
    assert listing(old.parent) == ["out"]


def test_a_file_size_limit_is_told_and_leaves_the_old_file(old):
    code = """
import resource, sys
from pathlib import Path
from d2cli.errors import ResourceError
from d2cli.files.publish import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path(sys.argv[1]), bytes(5000))
except ResourceError as error:
    print(error.exit_code, error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(old)], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"5 {old}: cannot be written: File too large; 5.0 kB are needed\n"
    assert old.read_bytes() == b"old"
    assert listing(old.parent) == ["out"]


def test_a_full_disk_is_told_with_what_is_needed_before_anything_is_written(old, monkeypatch):
    usage = shutil.disk_usage(old)._replace(free=300)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)

    with pytest.raises(ResourceError) as caught:
        write_bytes(old, bytes(2000))

    assert caught.value.message == (
        f"{old}: cannot be written: No space left on device; 2.0 kB are needed, 300 B are free"
    )
    assert old.read_bytes() == b"old"
    assert listing(old.parent) == ["out"]


def test_a_stream_tells_how_much_did_not_suffice(old):
    def write(file):
        file.write(bytes(40_000))
        file.flush()
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match=r"device; more than 40 kB are needed, [\d.]+ .B are"):
        write_atomically(old, write)

    assert listing(old.parent) == ["out"]


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(ResourceError, match="cannot be written: No such file or directory"):
        write_bytes(tmp_path / "none" / "out", b"new")


# --- what a kill left behind ----------------------------------------------------------------------


def test_the_next_write_sweeps_what_a_kill_left_behind(old):
    code = """
import os, sys
from pathlib import Path
from d2cli.files.publish import write_atomically
def write(file):
    file.write(b"half")
    file.flush()
    os._exit(9)
write_atomically(Path(sys.argv[1]), write)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(old)], check=False)
    assert killed.returncode == 9
    left = [name for name in listing(old.parent) if name != "out"]
    assert len(left) == 1
    assert left[0].startswith(".")
    assert left[0].endswith(".d2tmp")

    write_bytes(old.parent / "another", b"x")

    assert listing(old.parent) == ["another", "out"]


def test_a_temporary_file_of_a_living_writer_is_not_swept(old):
    alive, stale = (old.with_name(f".out.{end}.d2tmp") for end in ("0a1b2c3d4e5f", "ffffffffffff"))
    stale.touch()

    with alive.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_bytes(old, b"new")

    assert listing(old.parent) == [alive.name, "out"]


def test_files_with_other_names_are_not_swept(old):
    names = ["x.d2tmp", ".x.tmp", ".d2tmp.x", ".hidden"]
    for name in names:
        old.with_name(name).touch()

    write_bytes(old, b"new")

    assert listing(old.parent) == sorted([*names, "out"])


# --- links, modes, devices ------------------------------------------------------------------------


def test_a_link_stays_and_its_target_is_replaced(tmp_path, old):
    link = tmp_path / "link"
    link.symlink_to("folder/out")

    write_bytes(link, b"new")

    assert link.is_symlink()
    assert old.read_bytes() == b"new"
    assert listing(old.parent) == ["out"]
    assert listing(tmp_path) == ["folder", "link"]


def test_a_link_to_nothing_yet_gets_its_target(tmp_path):
    (tmp_path / "link").symlink_to("target")

    write_bytes(tmp_path / "link", b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_the_other_name_of_a_file_keeps_the_old_content(old):
    old.with_name("other").hardlink_to(old)

    write_bytes(old, b"new")

    assert old.with_name("other").read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755, 0o444])
def test_the_mode_of_a_replaced_file_is_kept(old, mode):
    old.chmod(mode)

    write_bytes(old, b"new")

    assert stat.S_IMODE(old.stat().st_mode) == mode


def test_a_new_file_has_the_mode_that_others_get(tmp_path):
    (tmp_path / "plain").write_bytes(b"x")

    write_bytes(tmp_path / "out", b"x")

    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_named_pipe_is_written_to_and_stays(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()

    write_bytes(pipe, b"new")

    reader.join()
    assert received == [b"new"]
    assert pipe.is_fifo()


# --- bytes that are there already -----------------------------------------------------------------


def test_bytes_that_are_there_already_are_left_alone(old):
    before = old.stat()

    assert write_bytes(old, b"old") is False

    assert (old.stat().st_mtime_ns, old.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("data", [b"", b"ol", b"olD", b"older"])
def test_other_bytes_are_written(old, data):
    assert write_bytes(old, data) is True
    assert old.read_bytes() == data


def test_an_empty_file_is_written_where_there_was_none(tmp_path):
    assert write_bytes(tmp_path / "out", b"") is True
    assert (tmp_path / "out").read_bytes() == b""


# --- outputs that are refused ---------------------------------------------------------------------


def test_an_output_beside_its_inputs_is_accepted(tmp_path, old):
    check_output(tmp_path / "new", [old])
    check_output(old, [tmp_path / "none", tmp_path])


def test_a_folder_is_refused_as_output(tmp_path):
    assert refusal(ParameterError, tmp_path) == f"{tmp_path}: is a folder"


def test_an_output_in_no_folder_is_refused(tmp_path):
    path = tmp_path / "none" / "out"

    assert refusal(ParameterError, path) == f"{path}: there is no folder {path.parent}"


def test_an_output_in_a_file_is_refused(old):
    assert "there is no folder" in refusal(ParameterError, old / "out")


def test_an_input_is_refused_as_output(old):
    message = refusal(ParameterError, old, [old.with_name("first"), old])

    assert message == f"{old}: is an input of this command and would be destroyed"


def test_an_input_is_refused_under_another_spelling(old, monkeypatch):
    monkeypatch.chdir(old.parent)
    spelled = old.parent / ".." / "folder" / "out"

    assert "is an input" in refusal(ParameterError, spelled, [old])
    assert "is an input" in refusal(ParameterError, old.relative_to(old.parent), [old])


def test_an_input_is_refused_through_links_on_either_side(tmp_path, old):
    (tmp_path / "link").symlink_to(old)
    (tmp_path / "hard").hardlink_to(old)
    (tmp_path / "way").symlink_to(old.parent)

    for other in (tmp_path / "link", tmp_path / "hard", tmp_path / "way" / "out"):
        assert "is an input" in refusal(ParameterError, other, [old])
        assert "is an input" in refusal(ParameterError, old, [other])


def test_a_link_to_a_missing_input_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("gone")

    assert "is an input" in refusal(ParameterError, tmp_path / "link", [tmp_path / "gone"])


def test_writers_in_one_folder_do_not_sweep_each_other(tmp_path):
    def work(name):
        for i in range(150):
            write_bytes(tmp_path / name, f"{name}{i}".encode())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, "abc"))

    assert [(tmp_path / name).read_text() for name in "abc"] == ["a149", "b149", "c149"]
    assert listing(tmp_path) == ["a", "b", "c"]


def test_an_output_whose_whole_path_is_too_long_is_refused_before_any_work(tmp_path, monkeypatch):
    folder, most = tmp_path, os.pathconf("/", "PC_PATH_MAX") - 1  # bytes, without the last zero
    while len(str(folder)) + 202 < most - 30:
        folder /= "f" * 200
    folder /= "f" * (most - len(str(folder)) - len("/") - len("/name.npy"))
    folder.mkdir(parents=True)
    with pytest.raises(ParameterError, match=r"name\.npy: the whole path is too long"):
        check_output(folder / "name.npy", [])  # it has room, a temporary file beside it has not
    monkeypatch.chdir(folder.parent)
    here = Path(folder.name)
    with pytest.raises(ParameterError, match="too long to be written"):
        check_output(here / ("n" * 100), [])  # short as it is, but not whole
    monkeypatch.undo()
    check_output(folder.parent / "name.npy", [])
