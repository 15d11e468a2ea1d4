"""d2 in children that are forked from one process, which has imported everything and done nothing.

So a run costs what it computes, not what Python takes to start.
"""

import contextlib
import gc
import hashlib
import json
import os
import re
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

from tests.soak import steps
from tests.soak.calls import load

# As d2 itself sets it, but before NumPy is imported: threads of BLAS that wait for each other take
# two thirds of all processor time else.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

WAIT = 120  # seconds until a child counts as hanging
TOOK = re.compile(  # and the seals of reports, which are made over it
    rb'"(?:status|seconds|peak_memory_bytes|tasks|seal)": [^\n]*|'
    rb"- stage \w+: [^\n]*|<!-- d2 \w+ -->"
)
NOISE = (".lock",)  # what may stay in a cache folder: empty, and taken again by the next run


def preload():
    """Import all that the commands import."""
    load()
    with contextlib.suppress(ImportError):
        import sklearn.linear_model
        import sklearn.neighbors  # noqa: F401
    from d2cli.stages import parallel, probe  # noqa: F401

    gc.collect()
    gc.freeze()  # so that children do not copy what they never change


def start(arguments, folder, *, before=None, after=None):
    """Fork a child that runs ``d2 arguments`` in a folder; return (pid, file of its outcome).

    The outcome is JSON: code, stderr, stdout, and what ``after`` returned.
    """
    outcome = Path(f"{folder}.{os.urandom(6).hex()}.json")
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid, outcome
    try:
        os.setpgid(0, 0)
        _be_d2(arguments, folder, outcome, before, after)
    except BaseException:
        outcome.with_suffix(".crash").write_text(traceback.format_exc())
    finally:
        os._exit(99)


def _be_d2(arguments, folder, outcome, before, after):
    from d2cli.__main__ import main

    os.chdir(folder)
    printed = {}
    for number in (1, 2):  # pipes, which no limit of files is about
        printed[number], handle = os.pipe()
        os.dup2(handle, number)
        os.set_blocking(printed[number], False)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["D2_CACHE_DIR"] = str(Path(folder) / "cache")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    report = os.open(outcome, os.O_WRONLY | os.O_CREAT)  # before there are faults
    warnings.simplefilter("ignore")
    code = None
    try:
        if before is not None:
            before()
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    steps.over = True
    found = {"code": code, "after": after() if after else None, "tree": tree(folder)}
    for number, name in ((1, "out"), (2, "err")):
        with contextlib.suppress(BlockingIOError):
            found[name] = os.read(printed[number], 1 << 20).decode(errors="replace")
    os.write(report, json.dumps(found).encode())
    os._exit(0)


def wait(pid, outcome, seconds=WAIT):
    """Wait for a child; return its outcome, with a "signal" if one ended it, None if it hung."""
    end, pause = time.monotonic() + seconds, 0.001
    while True:
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            break
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"code": None, "signal": "hung", "err": ""}
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    found = {"code": None, "signal": ended_by, "out": "", "err": ""}
    with contextlib.suppress(OSError, ValueError):
        found |= json.loads(outcome.read_bytes())
    crash = outcome.with_suffix(".crash")
    if crash.exists():
        found["err"] += crash.read_text()
    for path in (outcome, crash):
        path.unlink(missing_ok=True)
    return found


def run(arguments, folder, **more):
    """Run ``d2 arguments`` in a child; return its outcome."""
    return wait(*start(arguments, folder, **more))


def tree(folder):
    """Return the digest of every file below a folder by its relative path, locks left out.

    Of reports, all but what each stage took on that very run.
    """
    found = {}
    for path in Path(folder).rglob("*"):
        if path.name.endswith(NOISE) or (path.is_dir() and not path.name.startswith(".")):
            continue
        with contextlib.suppress(OSError):
            data = b"" if path.is_dir() else path.read_bytes()
            data = TOOK.sub(b"", data) if path.suffix in (".json", ".md") else data
            found[str(path.relative_to(folder))] = hashlib.blake2b(data).hexdigest()[:16]
    return found


def share(n, work, workers=2):
    """Let forked workers do ``work(i)`` for i in range(n); return what they return, in order."""
    pipes, found = [], {}
    for worker in range(workers):
        read, write = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            os.close(read)
            code = 1
            try:
                with os.fdopen(write, "w") as out:
                    for i in range(worker, n, workers):
                        out.write(json.dumps([i, work(i)]) + "\n")
                        out.flush()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)
        pipes.append((pid, os.fdopen(read)))
    for pid, pipe in pipes:
        found |= dict(json.loads(line) for line in pipe)
        os.waitpid(pid, 0)
    if len(found) < n:
        sys.exit(f"{n - len(found)} of {n} trials did not come to an end")
    return [found[i] for i in range(n)]
