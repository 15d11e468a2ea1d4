"""What the figures were measured on: processor, versions, load."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

PACKAGES = ("d2cli", "numpy", "hnswlib", "faiss-cpu", "pynndescent", "numba", "usearch")


def describe() -> dict[str, str]:
    """Return lines for the head of the results."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": f"{_processor()}, {usable} usable of {os.cpu_count()}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load when started": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?",
        "BLAS of NumPy": f"{blas['name']} {blas['version']}",
        "versions": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
