"""Run the benchmarks: ``python -m tests.bench --help``, from the root of the repository.

Tables go to standard output as Markdown, progress to standard error, everything to ``--json``.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .data import GENERATED, REAL, Source
from .graphs import Terms, compare_exact, compare_graphs, compare_threads
from .growth import IMAGENET_ROWS, ROWS, compare_growth
from .machine import describe
from .peers import APPROXIMATE, EXACT
from .stage import BACKENDS
from .tables import Table, document

CLOCKS = {"wall": "seconds", "cpu": "cpu_seconds"}
BENCHES = ("graph", "exact", "threads", "selection", "dense", "growth")


def main() -> None:
    """Run what was asked for; every table is printed and stored as soon as it is there."""
    given = parse(sys.argv[1:])
    clock = CLOCKS[given.clock]
    if given.render:
        print(document(*_stored(given.render), clock))
        return
    machine, tables = describe(), []
    print(document(machine, []), flush=True)
    for table in run(given):
        tables.append(table)
        print(table.markdown(clock), flush=True)
        if given.json:
            record = {"machine": machine, "tables": [table.as_json() for table in tables]}
            given.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    some = {"type": lambda text: text.split(","), "metavar": "A,B"}
    parser.add_argument("--only", default=list(BENCHES), help=", ".join(BENCHES), **some)
    parser.add_argument(
        "--sets",
        default=[*GENERATED],
        help=f"{', '.join([*GENERATED, *REAL])}; clustered:20000x384, cifar10:5000",
        **some,
    )
    parser.add_argument("--data", type=Path, help="folder of the real sets, SET-train.parquet")
    parser.add_argument("--backends", default=list(BACKENDS), help=", ".join(BACKENDS), **some)
    peers = [*APPROXIMATE, *EXACT]
    parser.add_argument("--peers", default=[], help=f"all, or some of {', '.join(peers)}", **some)
    parser.add_argument("-k", type=int, default=10, help="neighbours")
    parser.add_argument("--recall", type=float, default=0.99, help="recall wanted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--select-rows", type=int, default=1_000_000)
    parser.add_argument("--loop-picks", type=int, default=10_000, help="of the argmax loop")
    parser.add_argument("--dense-rows", type=int, default=10_000)
    parser.add_argument("--growth-rows", default=[str(rows) for rows in ROWS], **some)
    parser.add_argument(
        "--imagenet", action="store_true", help=f"growth up to {IMAGENET_ROWS:,} rows"
    )
    parser.add_argument("--scratch", type=Path, help="folder for the vectors of growth")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=CLOCKS,
        help="what ratios of time are made of; cpu, on one thread, where others use the machine",
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument(
        "--render", type=Path, nargs="+", help="run nothing, print the tables of these JSON files"
    )
    given = parser.parse_args(arguments)
    _check(parser, "--only", given.only, BENCHES)
    _check(parser, "--backends", given.backends, BACKENDS)
    given.peers = [] if given.peers == ["all"] else given.peers
    _check(parser, "--peers", given.peers, (*peers, "none"))
    try:
        given.sets = [Source.parse(text) for text in given.sets]
    except ValueError as error:
        parser.error(str(error))
    return given


def run(given: argparse.Namespace) -> Iterator[Table]:
    """Yield the tables one by one."""
    terms = Terms(
        given.data,
        given.k,
        given.recall,
        given.threads,
        given.repeats,
        given.backends,
        given.peers,
    )
    benches = {"graph": compare_graphs, "exact": compare_exact, "threads": compare_threads}
    for name, bench in benches.items():
        for source in given.sets if name in given.only else []:
            yield bench(source, terms)
    if "selection" in given.only:
        from .selection import compare_selections

        yield compare_selections(
            given.select_rows, loop_picks=given.loop_picks, repeats=given.repeats
        )
    if "dense" in given.only:
        from .dense import compare_dense

        yield compare_dense(
            given.dense_rows,
            backends=given.backends,
            wanted=given.recall,
            n_threads=given.threads,
            repeats=given.repeats,
        )
    if "growth" in given.only:
        yield compare_growth(
            [*map(int, given.growth_rows), *[IMAGENET_ROWS] * given.imagenet],
            backends=[backend for backend in given.backends if backend != "exact"],
            with_peer=not given.peers or "hnswlib" in given.peers,
            wanted=given.recall,
            k=given.k,
            n_threads=given.threads,
            repeats=given.repeats,
            scratch=given.scratch,
        )


def _stored(paths: list[Path]) -> tuple[dict[str, str], list[Table]]:
    """Read the tables of several calls; the head says where their machines or versions differ."""
    machine: dict[str, list[str]] = {}
    tables = []
    for path in paths:
        record = json.loads(path.read_text(encoding="utf-8"))
        for name, value in record["machine"].items():
            if value not in machine.setdefault(name, []):
                machine[name].append(value)
        tables += [Table.from_json(table) for table in record["tables"]]
    return {name: "; ".join(values) for name, values in machine.items()}, tables


def _check(
    parser: argparse.ArgumentParser, option: str, chosen: list[str], known: tuple[str, ...]
) -> None:
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"{option}: '{unknown[0]}' is none of {', '.join(known)}")


if __name__ == "__main__":
    main()
