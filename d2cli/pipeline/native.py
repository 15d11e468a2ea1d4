"""Does the compiled code of an installation run on this processor? Asked in a process of its own.

A library that was compiled for another processor does not fail with an exception: the first
instruction that the processor lacks ends the process. Nothing here imports such a library.
"""

import signal
import subprocess
import sys

from d2cli.stages.verdicts import Check, failed, passed

SECONDS = 60  # that a probe may take
PROBES = {
    "hnswlib": """
import hnswlib, numpy
rows = numpy.random.default_rng(0).random((500, 40), dtype=numpy.float32)
index = hnswlib.Index(space="l2", dim=40)
index.init_index(max_elements=500, random_seed=0)
index.add_items(rows, num_threads=1)
labels, _ = index.knn_query(rows, k=1, num_threads=1)
assert (labels[:, 0] == range(500)).mean() > 0.9, "rows are not found again"
""",
    "numpy": """
import numpy
rows = numpy.random.default_rng(0).random((300, 40), dtype=numpy.float32)
assert numpy.allclose(rows @ rows.T, (rows[:, None] * rows).sum(-1), rtol=1e-4)
""",
    "pyarrow": """
import pyarrow, pyarrow.parquet
sink = pyarrow.BufferOutputStream()
table = pyarrow.table({"x": list(range(1000))})
pyarrow.parquet.write_table(table, sink)
assert pyarrow.parquet.read_table(pyarrow.BufferReader(sink.getvalue())).equals(table)
""",
    "d2cli": """
import numpy
from d2cli.files import _sigbus
from d2cli.stages import _messages, _neighbors, _rounds
_sigbus.install(b"")
neighbors = numpy.array([[1], [0]], dtype=numpy.int32)
lengths = numpy.ones((2, 1), dtype=numpy.float32)
assert _messages.undirected_union(neighbors, lengths)[1].tolist() == [1, 0]
assert len(_neighbors.row_keys(numpy.ones((3, 2)), numpy.arange(3))) == 3
""",
}
ADVICE = {
    "hnswlib": "build it anew: HNSWLIB_NO_NATIVE=1 pip install --force-reinstall --no-deps "
    "--no-cache-dir --no-binary hnswlib hnswlib",
    "d2cli": "build it anew: pip install --force-reinstall --no-deps --no-cache-dir d2cli",
}


def check_native_code() -> list[Check]:
    """Run a little of every compiled library, one process each; see `PROBES`.

    Returns
    -------
    list of Check
        "native-NAME": failed where the process ended by a signal, with an error, or not at all.
    """
    return [_probe(name, code) for name, code in PROBES.items()]


def _probe(name: str, code: str) -> Check:
    check, advice = f"native-{name}", ADVICE.get(name, f"install {name} again")
    try:
        done = subprocess.run(
            # -P: a folder d2cli here, such as a checkout, is not what is installed.
            [sys.executable, "-P", "-c", code],
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return failed(check, f"{name} gives no answer within {SECONDS} seconds", advice)
    except OSError as error:
        reason = f"cannot be started: {error.strerror}"
        return failed(check, f"{sys.executable} {reason}", "allow d2 to start processes")
    if done.returncode == -signal.SIGILL:
        return failed(
            check, f"{name} was compiled for another processor (illegal instruction)", advice
        )
    if done.returncode < 0:
        return failed(check, f"{name} ends with signal {-done.returncode}", advice)
    if done.returncode > 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        return failed(check, f"{name} fails: {lines[-1]}", advice)
    return passed(check, f"{name} runs on this processor")
