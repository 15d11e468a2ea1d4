"""Options of a run that no result depends on, but for the seed."""

from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(help="Of everything random.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-j",
        min=1,
        help="Threads; results do not depend on them. Left out: all processors.",
        show_default=False,
    ),
]
CacheDir = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Where finished stages are kept.",
        envvar="D2_CACHE_DIR",
        show_default="the user's cache folder",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Compute even what is up to date.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Print what each stage took; before a graph, the plan (estimates)."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan: steps with their memory and time (estimates), and what is there "
        "already. Nothing is computed or written.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Stay within so much memory, such as 500M, 4G or 1.5GiB; what would need more is "
        "refused before it begins. Vectors of graphs that do not fit stay on disk. Results do not "
        "depend on it. Left out: what the machine, or the cgroup, has left.",
        show_default=False,
    ),
]
