"""Run one job in a process of its own and learn what it took, memory included."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def run_alone(module: str, *arguments: object) -> dict[str, Any]:
    """Run ``python -m tests.bench.MODULE ARGUMENTS``; return its JSON and its seconds."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return {**json.loads(done.stdout), "process_seconds": time.perf_counter() - start}


def peak_megabytes() -> float:
    """Return the highest memory of this process so far, resident, in 10**6 bytes.

    From the kernel's status file, where there is one: ``ru_maxrss`` of a child starts at what its
    parent had when it was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
