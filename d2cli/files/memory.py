"""The memory there is, and steps that would not fit into it, refused before they take any.

A command works within one limit: what ``--max-memory`` says, or else most of what the machine, the
cgroups around the process and its address space have left. Whoever is about to allocate by numbers
from a file's header asks first.
"""

import contextlib
import os
import resource
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from d2cli.errors import ResourceError
from d2cli.quantities import size_text

OPTION = "--max-memory"
SHARE = 0.9  # of what is free; plans are estimates
ADDRESSES = 240_000_000  # bytes of addresses that buffers and stacks take before any data
ADDRESSES_A_THREAD = 16_000_000  # and of each further thread
LIBRARIES = 45_000_000  # bytes of libraries and buffers that come with the first work
UNLIMITED = 1 << 60  # cgroups of version 1 say so with a number of this size


@dataclass(frozen=True)
class Limit:
    """Bytes that may be resident in all, and what sets the limit, for messages."""

    n_bytes: int
    source: str

    def __str__(self) -> str:
        return f"{self.source} is {size_text(self.n_bytes)}"


_limit: ContextVar[Limit | None] = ContextVar("limit", default=None)


@contextlib.contextmanager
def within(limit: Limit | None) -> Iterator[None]:
    """Keep to a limit; None takes it away."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def current_limit() -> Limit | None:
    """Return the limit of the command that runs; None outside of any."""
    return _limit.get()


def limit_of(given: int | None, *, n_threads: int = 1, root: Path = Path("/")) -> Limit | None:
    """Return the limit to keep to.

    Parameters
    ----------
    given : int or None
        Bytes that ``--max-memory`` names; None for what there is.
    n_threads : int
    root : Path
        Where the system's files are.

    Returns
    -------
    Limit or None
        None where nothing was given and the system does not say what there is.

    Raises
    ------
    ResourceError
        If the address space is too small for anything at all.
    """
    _check_addresses(n_threads, root)
    if given is not None:
        return Limit(given, OPTION)
    free = min(free_memory(root), key=lambda one: one.n_bytes, default=None)
    if free is None:
        return None
    return Limit(resident_memory(root) + int(SHARE * free.n_bytes), free.source)


def require(where: str, step: str, n_bytes: float, *, hint: str) -> None:
    """Refuse a step that would take more memory than there is.

    Parameters
    ----------
    where : str
        What the step reads.
    step : str
        Its name.
    n_bytes : float
        What it takes beside what is resident already.
    hint : str
        What would make it fit, beside a higher limit.

    Raises
    ------
    ResourceError
        If it does not fit into the limit.
    """
    limit = current_limit()
    if limit is None:
        return
    needed = resident_memory() + n_bytes
    if needed > limit.n_bytes:
        raise ResourceError(
            f"{where}: about {size_text(needed)} of memory are needed (step '{step}'), {limit}",
            hint=f"{way_out(limit)}; {hint}",
        )


def graph_bytes(n_rows: int, n_neighbors: int) -> float:
    """Return the bytes in which a graph is worked with: lists, both directions, their weights."""
    return n_rows * (32.0 * n_neighbors + 100)


def require_graph(where: str, n_rows: int, n_neighbors: int) -> None:
    """Refuse a graph (n, k) over which messages could not be passed; see `require`."""
    require(
        where,
        f"work on a graph of {n_rows:,} rows x {n_neighbors:,} neighbors",
        LIBRARIES + graph_bytes(n_rows, n_neighbors),
        hint="a graph with a smaller -k needs less",
    )


def require_rows(where: str, step: str, n_rows: int, row_bytes: float) -> None:
    """Refuse so many rows of so many bytes; see `require`."""
    require(where, step, float(n_rows) * row_bytes, hint="fewer rows need less")


def way_out(limit: Limit) -> str:
    """Return how a limit is raised."""
    if limit.source == OPTION:
        return f"raise {OPTION}"
    return f"free some memory, or say with {OPTION} what may be used"


def resident_memory(root: Path = Path("/")) -> int:
    """Return the bytes of this process that are resident now; 0 if the system does not say."""
    return _own("VmRSS:", root)


def data_memory() -> int:
    """Return the bytes that this process may write to, resident or not; 0 if not known."""
    return _own("VmData:", Path("/"))


def free_memory(root: Path = Path("/")) -> list[Limit]:
    """Return what the machine, its cgroups and the address space have left for this process.

    Pages of files that the system may drop count as free.
    """
    found = [*_of_machine(root), *_of_cgroups(root)]
    addresses = _free_addresses(root)
    if addresses is not None:
        found.append(Limit(addresses, "what the address space (ulimit -v) allows"))
    return found


def _own(name: str, root: Path) -> int:
    text = _read(root / "proc/self/status")
    with contextlib.suppress(ValueError, IndexError):
        return int(text.partition(name)[2].split()[0]) * 1024
    return 0


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _number(text: str) -> int | None:
    with contextlib.suppress(ValueError):
        return int(text)
    return None


def _of_machine(root: Path) -> Iterator[Limit]:
    found = _read(root / "proc/meminfo").partition("MemAvailable:")[2].split()
    free = _number(found[0]) if found else None
    if free is not None:
        yield Limit(free * 1024, "what the machine has left")
    elif root == Path("/"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            yield Limit(whole, "the memory of the machine")


def _free_addresses(root: Path) -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    taken = _own("VmSize:", root)
    if limit == resource.RLIM_INFINITY or not taken:
        return None
    return max(limit - taken, 0)


def _check_addresses(n_threads: int, root: Path) -> None:
    """Refuse an address space in which libraries end the process where they find no room."""
    free = _free_addresses(root)
    needed = ADDRESSES + ADDRESSES_A_THREAD * (n_threads - 1)
    if free is not None and free < needed:
        raise ResourceError(
            f"the address space (ulimit -v) has {size_text(free)} left, "
            f"{size_text(needed)} are needed before any data",
            hint="raise the limit, or use fewer --threads",
        )


# The files of a version: the limit, what is used, and the names of the file pages in memory.stat.
_V2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


def _of_cgroups(root: Path) -> Iterator[Limit]:
    """Return what the cgroup of this process, and every one around it, has left."""
    for top, folder, files in _cgroups(root):
        while True:
            yield from _of_cgroup(folder, *files)
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _cgroups(root: Path) -> Iterator[tuple[Path, Path, tuple[str, str, tuple[str, str]]]]:
    """Return the mount of each memory hierarchy, the folder of this process, and its files."""
    paths: dict[bool, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[True] = path
        elif "memory" in controllers.split(","):
            paths[False] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, _, kind = line.partition(" - ")
        fields, kinds = mount.split(), kind.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        unified = kinds[0] == "cgroup2"
        if not unified and (kinds[0] != "cgroup" or "memory" not in kinds[2].split(",")):
            continue
        top = root / fields[4].lstrip("/")
        yield top, _inside(top, fields[3], paths.get(unified, "/")), _V2 if unified else _V1


def _inside(top: Path, mounted: str, path: str) -> Path:
    """Return the folder of a cgroup below a mount that shows only what is in ``mounted``."""
    parts, above = Path(path).parts[1:], Path(mounted).parts[1:]
    if ".." in parts or parts[: len(above)] != above:
        return top  # seen from a namespace: the mount is the nearest that can be seen
    folder = top.joinpath(*parts[len(above) :])
    return folder if folder.is_dir() else top


def _of_cgroup(folder: Path, limit: str, usage: str, pages: Iterable[str]) -> Iterator[Limit]:
    most, used = _number(_read(folder / limit)), _number(_read(folder / usage))
    if most is None or most >= UNLIMITED:
        return
    stat = dict(
        line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line
    )
    dropped = sum(_number(stat.get(name, "0")) or 0 for name in pages)
    yield Limit(max(most - max((used or 0) - dropped, 0), 0), f"what the cgroup {folder} has left")
