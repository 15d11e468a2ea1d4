"""The N-th write, fsync, rename or read fails; the disk is full; files may not grow or be made.

python -m tests.soak.faults --every 1
"""

import argparse
import ctypes
import errno
import os
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak import children, steps
from tests.soak.scenarios import SCENARIOS, Stage, is_stray, of_outputs

# What fails, and the steps that it befalls. A disk once full stays so; so does a broken one.
KINDS = {
    "write": (errno.ENOSPC, {"write"}),
    "fsync": (errno.EIO, {"fsync"}),
    "rename": (errno.EROFS, {"rename", "replace"}),
    "read": (errno.EIO, {"read"}),
}
LIMITS = (0, 1, 100, 1000, 3000, 10_000, 30_000, 50_000)  # bytes of a file
DISKS = (0, 8192, 40_960, 81_920, 122_880, 163_840, 245_760)  # bytes free
NEWUSER, NEWNS = 0x10000000, 0x00020000  # of unshare(2)
NOBODY = 65534
KNOWN = (": torn: ", ": stray: ", "the next run")


def judge(scenario, stage, done, *, space=False):
    """Return what is wrong with a run that something befell.

    Right is the undisturbed result with exit code 0, or the old one with code 3 or 5 and one line
    that names a path and, where space was wanting, how much is needed.
    """
    wrong, tree = [], done.get("tree", {})
    if done["signal"] is not None or done["code"] not in (0, 3, 5):
        return [f"ended with {done['code']} (signal {done['signal']}): {done['err'][-1500:]}"]
    wrong += [f"stray: {path}" for path in tree if is_stray(path)]
    outputs = of_outputs(scenario, tree)
    new = of_outputs(scenario, stage.whole[scenario.name])
    old = of_outputs(scenario, stage.old[scenario.name])
    if done["code"] == 0:
        if outputs != new:
            wrong.append("exit code 0, but another result")
        return wrong
    # Of two outputs the first may be new already; each is whole.
    wrong += [f"torn: {o}" for o in scenario.outputs if outputs[o] not in (old[o], new[o])]
    if outputs == new and new != old:
        wrong.append(f"exit code {done['code']}, but all is done")
    if "Traceback" in done["err"] or "Exception ignored" in done["err"]:
        wrong.append(f"traceback: {done['err'][-1500:]}")
    said = [line for line in done["err"].splitlines() if line.startswith("error: ")]
    if len(said) != 1 or "\nhint: " not in done["err"]:
        wrong.append(f"not one line and a hint: {done['err'][-1500:]}")
    elif not re.match(r"error: [^:]+: ", said[0]):
        wrong.append(f"names no path: {said[0]}")
    elif space and done["code"] == 5 and not re.search(r"\d+ [kMG]?B are needed", said[0]):
        wrong.append(f"does not say what is needed: {said[0]}")
    return wrong


def _tell(scenario, what, wrong):
    return [f"{scenario.name}, {what}: {message}" for message in wrong]


# --- calls that fail ------------------------------------------------------------------------------


def count_steps(scenario, stage, kinds):
    """Return how many steps of some kinds a run has."""
    folder = stage.fresh(scenario)
    done = children.run(
        scenario.arguments,
        folder,
        before=lambda: steps.fail_at(1 << 60, kinds, 0),
        after=lambda: steps.counted,
    )
    shutil.rmtree(folder)
    assert done["code"] == 0, (scenario, done)
    return done["after"]


def failing_call(scenario, stage, kind, at):
    """Let calls of a kind fail from one on; return what is wrong then."""
    reason, kinds = KINDS[kind]
    folder = stage.fresh(scenario)
    done = children.run(scenario.arguments, folder, before=lambda: steps.fail_at(at, kinds, reason))
    wrong = judge(scenario, stage, done, space=kind == "write")
    shutil.rmtree(folder)
    return _tell(scenario, f"{kind} {at}", wrong)


def _next_run(scenario, stage, folder):
    """Run the command undisturbed; return what is wrong with that."""
    done = children.run(scenario.arguments, folder)
    if done["code"] != 0 or done["tree"] != stage.whole[scenario.name]:
        return [f"the next run differs: {done['code']}, {done['err'][-500:]}"]
    return []


# --- space that is not there ----------------------------------------------------------------------


def limited_file(scenario, stage, size):
    """Let no file grow beyond a size."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    folder = stage.fresh(scenario)
    done = children.run(
        scenario.arguments,
        folder,
        before=limit,
        after=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2),
    )
    # What streams need is known from what there was room for: nothing, where the limit is 0.
    wrong = judge(scenario, stage, done, space=size > 0)
    wrong += _next_run(scenario, stage, folder)
    shutil.rmtree(folder)
    return _tell(scenario, f"files up to {size} bytes", wrong)


def mount_small(folder, size):
    """Mount a file system of a size on a folder, seen by this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEWUSER | NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")


def can_mount(stage):
    """Return whether this process may mount a small file system."""
    folder = stage.fresh()
    done = children.run(["--version"], folder, before=lambda: mount_small(folder, 1 << 20))
    shutil.rmtree(folder)
    return done["code"] == 0


def full_disk(scenario, stage, free):
    """Run where so many bytes are free beside the inputs and the old result."""
    folder = stage.fresh(scenario)
    inside = f"{folder}.copy"

    def mount():
        os.chdir("/")
        shutil.copytree(folder, inside)
        used = sum(-(-p.stat().st_size // 4096) * 4096 for p in Path(inside).rglob("*"))
        mount_small(folder, used + free + (4096 if not free else 0))
        shutil.copytree(inside, folder, dirs_exist_ok=True)
        os.chdir(folder)

    done = children.run(scenario.arguments, folder, before=mount)
    shutil.rmtree(folder)
    shutil.rmtree(inside, ignore_errors=True)
    wrong = judge(scenario, stage, done, space=True)
    return _tell(scenario, f"{free} bytes free", wrong)


def full_by_statvfs(scenario, stage, free):
    """Run where the system says that so many bytes are free."""
    real = os.statvfs

    class Told:
        def __init__(self, found):
            self.found = found

        def __getattr__(self, name):
            if name in ("f_bavail", "f_bfree"):
                return free // self.found.f_frsize
            return getattr(self.found, name)

    def tell():
        os.statvfs = lambda path: Told(real(path))

    folder = stage.fresh(scenario)
    done = children.run(scenario.arguments, folder, before=tell)
    shutil.rmtree(folder)
    wrong = judge(scenario, stage, done, space=True)
    return _tell(scenario, f"{free} bytes free by statvfs", wrong)


def read_only(scenario, stage):
    """Run in a folder that cannot be written to."""
    folder = stage.fresh(scenario)

    def lock():
        os.umask(0)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if os.getuid() == 0:  # for whom modes mean nothing
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    done = children.run(scenario.arguments, folder, before=lock)
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        path.chmod(0o755)
    shutil.rmtree(folder)
    wrong = judge(scenario, stage, done)
    if done["code"] != 5:
        wrong.append(f"ended with {done['code']}")
    return _tell(scenario, "read-only folder", wrong)


# --- all of it ------------------------------------------------------------------------------------


def soak(every=1, chosen=SCENARIOS):
    """Try all, or every so-manieth; return the line of figures, and what was wrong."""
    children.preload()
    with tempfile.TemporaryDirectory(prefix="d2-soak-") as root:
        Path(root).chmod(0o755)
        stage = Stage(Path(root) / "stage", chosen)
        counts = children.share(
            len(chosen),
            lambda i: [count_steps(chosen[i], stage, kinds) for _, kinds in KINDS.values()],
        )
        trials = [
            (failing_call, scenario, kind, at)
            for scenario, counted in zip(chosen, counts, strict=True)
            for kind, n in zip(KINDS, counted, strict=True)
            for at in range(n)
        ]
        mounted = can_mount(stage)
        for scenario in chosen:
            trials += [(limited_file, scenario, size) for size in LIMITS]
            trials += [(full_by_statvfs, scenario, size) for size in DISKS]
            trials += [(full_disk, scenario, size) for size in DISKS if mounted]
            trials += [(read_only, scenario)]
        trials = trials[::every]

        def work(i):
            check, scenario, *more = trials[i]
            return check(scenario, stage, *more)

        wrong = [line for found in children.share(len(trials), work) for line in found]
    return (
        f"{len(trials):,} faults{'' if mounted else ' (no mounts allowed)'}: "
        f"{sum(': torn: ' in line for line in wrong)} torn files, "
        f"{sum(': stray: ' in line for line in wrong)} stray files, "
        f"{sum('the next run' in line for line in wrong)} next runs disturbed, "
        f"{len(wrong) - sum(any(k in w for k in KNOWN) for w in wrong)} wrong ends"
    ), wrong


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--part", type=int, default=0, help="of so many parts, from 0")
    parser.add_argument("--parts", type=int, default=1)
    given = parser.parse_args()
    line, wrong = soak(given.every, SCENARIOS[given.part :: given.parts])
    for message in wrong:
        print(message, file=sys.stderr)
    print(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
