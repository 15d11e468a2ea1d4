"""Vectors on disk: unnamed files, rows read back, and what is said when there is no space."""

import collections
import errno

import numpy as np
import pytest

from d2cli.errors import ResourceError
from d2cli.files import scratch
from d2cli.files.mapped import take_mapped
from d2cli.files.scratch import DiskRoom, scratch_folder
from d2cli.files.sources import Sources
from d2cli.stages import room as rooms
from d2cli.stages.room import IN_MEMORY, mapping_of, release


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "scratch").mkdir()
    return DiskRoom(1, lambda: tmp_path / "scratch")


def store(room, array, dtype=np.float32, step=7):
    rows = room.rows(array.shape, dtype)
    for start in range(0, len(array), step):
        rows.append(array[start : start + step])
    return rows.finish()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_come_back_as_they_were_added(disk, tmp_path, cloud, dtype):
    stored = store(disk, cloud, dtype)
    np.testing.assert_array_equal(stored, store(IN_MEMORY, cloud, dtype))
    assert stored.dtype == dtype
    assert not stored.flags.writeable
    assert stored.flags.c_contiguous
    assert mapping_of(stored[3:]) is not None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_parts_larger_than_one_write_are_whole(disk, cloud, monkeypatch):
    monkeypatch.setattr(scratch, "BLOCK_BYTES", 100)
    np.testing.assert_array_equal(store(disk, np.asfortranarray(cloud), step=150), cloud)


def test_no_rows_are_no_file(disk):
    assert disk.rows((0, 3), np.float32).finish().shape == (0, 3)


def test_released_pages_are_read_again(disk, cloud):
    stored = store(disk, cloud)
    for _ in range(3):
        release(stored)
        np.testing.assert_array_equal(stored, cloud)


def test_what_was_written_to_a_map_is_never_released(tmp_path, cloud):
    np.save(tmp_path / "a.npy", cloud)
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[:] = 7
    view = private[2:]
    view.flags.writeable = False
    release(view)
    assert (private == 7).all()


def test_pages_are_released_when_so_much_was_read(disk, cloud, monkeypatch):
    released = []
    monkeypatch.setattr(scratch, "release", lambda _: released.append(1))
    room = DiskRoom(4 * cloud.nbytes, disk.folder)
    for _ in range(4):
        room.have_read(cloud, cloud)
    assert len(released) == 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [[], [5], [0, 1, 2, 9, 8, 8, 199], list(range(199, -1, -1))])
def test_scattered_rows_are_those_of_the_array(tmp_path, disk, cloud, rows, order):
    np.save(tmp_path / "a.npy", np.asarray(cloud, order=order))
    rows = np.array(rows, dtype=np.int64)
    source = Sources().open(str(tmp_path / "a.npy"))
    for array in (source.array(""), np.asarray(source.array(""))[:], store(disk, cloud), cloud):
        np.testing.assert_array_equal(disk.take(array, rows), cloud[rows])
    np.testing.assert_array_equal(
        disk.take(source.array("")[1:], rows[rows < 199]), cloud[1:][rows[rows < 199]]
    )


def test_a_file_replaced_since_is_not_read_for_the_old_one(tmp_path, disk, cloud):
    np.save(tmp_path / "a.npy", cloud)
    old = Sources().open(str(tmp_path / "a.npy")).array("")
    np.save(tmp_path / "b.npy", cloud + 1)
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    np.testing.assert_array_equal(disk.take(old, np.array([4, 2])), cloud[[4, 2]])


def test_a_file_cut_short_is_told(disk, cloud, monkeypatch):
    stored = store(disk, cloud)
    monkeypatch.setattr("os.preadv", lambda *_: 0)
    with pytest.raises(ResourceError, match="a scratch file: has become shorter while it was read"):
        take_mapped(stored, np.array([4, 2]))


# --- no space -------------------------------------------------------------------------------------


def test_too_little_space_is_told_before_anything_is_written(disk, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: usage(10_000_000))
    with pytest.raises(ResourceError) as caught:
        disk.rows((10_000_000, 128), np.float32)
    assert str(tmp_path / "scratch") in caught.value.message
    assert "5.1 GB are needed, 10 MB are free" in caught.value.message
    assert caught.value.exit_code == 5


def test_a_disk_that_fills_up_is_told(disk, tmp_path, cloud, monkeypatch):
    class Full:
        def __init__(self, folder):
            self.file = real(folder)
            self.close, self.seek = self.file.close, self.file.seek

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = scratch._open_unnamed
    monkeypatch.setattr(scratch, "_open_unnamed", Full)
    rows = disk.rows(cloud.shape, np.float32)
    with pytest.raises(ResourceError) as caught:
        rows.append(cloud)
    assert caught.value.message == (
        f"{tmp_path / 'scratch'}: the vectors cannot be kept there: No space left on device; "
        "4.8 kB are needed"
    )


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ResourceError, match="cannot hold scratch files: No such file"):
        DiskRoom(1, lambda: tmp_path / "none").rows((3, 3), np.float32)


def test_the_folder_is_tmpdir_or_the_cache_or_the_systems(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert scratch_folder(tmp_path / "cache") == tmp_path
    monkeypatch.delenv("TMPDIR")
    assert scratch_folder(tmp_path) == tmp_path
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: "/tmp")
    assert str(scratch_folder(tmp_path / "none")) == "/tmp"


def test_arrays_in_memory_have_no_map(cloud):
    assert rooms.mapping_of(cloud) is None
    release(cloud)
