"""The steps in which a process changes or reads files, counted, and what befalls one of them."""

import errno
import fcntl
import io
import os
import pathlib
import signal

counted = 0
over = False  # what is still done by this process is no step
CHANGES = ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "utime", "fchmod", "chmod")


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def count_only():
    """Count the steps of this process."""
    _patch(lambda kind: None, {*CHANGES, "write", "flock"})


def kill_at(number):
    """Kill this process at its step of that number, from 0; a write is half done then."""

    def step(kind):
        if counted == number + 1:
            _kill()

    _patch(step, {*CHANGES, "write", "flock"})


def fail_at(number, kinds, reason):
    """Let the step of that number, from 0, fail, and all like it that follow."""

    def step(kind):
        if counted > number:
            raise OSError(reason, os.strerror(reason))

    _patch(step, kinds)


class _Raw(io.FileIO):
    """A file whose reads and writes are steps."""

    step = staticmethod(lambda kind: None)

    def write(self, data):
        data = memoryview(data).cast("B")
        half = len(data) // 2
        done = super().write(data[:half]) if half else 0
        if done < half:
            return done
        self.step("write")
        return done + super().write(data[half:])

    def readinto(self, buffer):
        self.step("read")
        return super().readinto(buffer)

    def readall(self):
        self.step("read")
        return super().readall()

    def read(self, size=-1):
        self.step("read")
        return super().read(size)


def _patch(what, kinds):
    """Let ``what(kind)`` be called at every step of these kinds."""
    global counted
    counted = 0

    def step(kind):
        global counted
        if kind in kinds and not over:
            counted += 1
            what(kind)

    def before(owner, name):
        real = getattr(owner, name)

        def call(*arguments, **more):
            step(name)
            return real(*arguments, **more)

        setattr(owner, name, call)

    for name in CHANGES:
        before(os, name)
    before(fcntl, "flock")
    _Raw.step = staticmethod(step)

    open_path = _opener()
    pathlib.Path.open = open_path
    pathlib.Path.read_bytes = lambda self: _all_of(open_path(self, "rb"))
    if "read" in kinds:
        _patch_native(open_path)


def _opener():
    """Return a ``Path.open`` that makes the reads and writes of this folder's files steps."""
    real_open, own = pathlib.Path.open, pathlib.Path.cwd()

    def open_path(self, mode="r", buffering=-1, encoding=None, errors=None, newline=None):
        if own not in (own / self).parents:  # a file of Python's or the system's
            return real_open(self, mode, buffering, encoding, errors, newline)
        raw = _Raw(self, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        if raw.writable():
            file = io.BufferedRandom(raw) if raw.readable() else io.BufferedWriter(raw)
        else:
            file = io.BufferedReader(raw)
        if "b" in mode:
            return file
        return io.TextIOWrapper(file, encoding or "utf-8", errors, newline)

    return open_path


def _all_of(file):
    with file:
        return file.read()


def _patch_native(open_path):
    """Let pyarrow's own reading go through files whose reads are steps."""
    import pyarrow as pa

    from d2cli.files import artifacts, records, sources

    real = sources.native_file

    def native_file(path):
        if not isinstance(path, pathlib.Path):
            return real(path)
        return pa.PythonFile(open_path(path, "rb"), mode="r")

    for module in (artifacts, records, sources):
        module.native_file = native_file


DISK_FULL, DEVICE, READ_ONLY = errno.ENOSPC, errno.EIO, errno.EROFS
