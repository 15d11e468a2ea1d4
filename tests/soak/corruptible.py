"""One small file of every kind that d2 reads, and the commands that read it."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N, DIM = 40, 4
PRUNE = "prune {} --difficulty aum --rate 0.5 -k 3 -o out/keep.parquet"
CHECK = "check {} --difficulty aum -k 3"
SCORE = "score a/graph.parquet --difficulty {}::aum --rate 0.5 -o out/scores.parquet"
EXPORT = "export a/keep.parquet --source {} -o out/rows"
TABLE = (PRUNE, CHECK, SCORE, EXPORT + ".jsonl", EXPORT + ".parquet")
ARRAY = ("graph {} -k 3 -o out/graph.parquet", "check {} -k 3")
SCORED = "--difficulty t/plain.parquet::aum --rate 0.5 -o out/scores.parquet"
PICK = "--rate 0.5 -o out/keep.parquet"
EXPLAIN = "explain {} row3 row7 --scores {} --graph {} --json"
CACHED = "prune t/plain.parquet --difficulty aum --rate 0.5 -k 3 --cache-dir cache -o out/keep.npy"
SWEEP = (
    "sweep t/plain.parquet --difficulty aum -k 3 --rates 0.5 --gamma-reverse 0.5 --seeds 1 "
    "--cache-dir cache -o out/sweep.json"
)
IN_CELLS = "graph n/emb.npy -k 3 --backend cells -o a/cells.parquet"
UPDATED = "update {} --add n/half.npy -o out/cells.parquet"


@dataclass(frozen=True)
class Subject:
    """Files of one kind, any of which is damaged, and command lines, any of which reads them.

    ``sort`` says what must hold: "source" no crash, "artifact" no wrong answer either, "cache" no
    error either.
    """

    name: str
    files: tuple[str, ...]
    commands: tuple[str, ...]
    sort: str = "source"


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, with an empty cache of its own."""
    before = Path.cwd()
    os.environ["D2_CACHE_DIR"] = "none"
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def call(line: str) -> tuple[int | str, bytes, str]:
    """Run a command line in this process: its exit code, standard output and standard error.

    Instead of the code, the name of the exception that came through.
    """
    from d2cli.__main__ import main

    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2), sys.stdout, sys.stderr]
    code: int | str = 0
    with Path("stdout").open("wb+") as out, Path("stderr").open("wb+") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "backslashreplace")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace")
        try:
            main(line.split())
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:
            import traceback

            traceback.print_exc()
            code = type(error).__name__
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
            sys.stdout, sys.stderr = kept[2], kept[3]
    return code, Path("stdout").read_bytes(), Path("stderr").read_text(errors="replace")


def columns() -> pa.Table:
    """Return a table with vectors, a difficulty, labels, ids and texts."""
    rng = np.random.default_rng(11)
    return pa.table(
        {
            "id": [f"row{i}" for i in range(N)],
            "emb": pa.array(rng.normal(size=(N, DIM)).tolist(), pa.list_(pa.float32())),
            "aum": rng.normal(size=N),
            "label": [f"class {i % 3}" for i in range(N)],
            "text": [f"text of row {i} " * (i % 4) for i in range(N)],
        }
    )


def write_tables(folder: Path) -> list[Subject]:
    """Write Parquet as its writers vary, Arrow, CSV and JSON lines."""
    folder.mkdir()
    table = columns()
    fixed = table.set_column(1, "emb", table.column("emb").cast(pa.list_(pa.float32(), DIM)))
    large = table.set_column(0, "id", pa.array(np.arange(N)))
    labelled = table.set_column(
        3, "label", table.column("label").combine_chunks().dictionary_encode()
    )
    plain = {"compression": "none", "use_dictionary": False}
    written = {
        "plain": (table, plain),
        "sums": (fixed, {**plain, "write_page_checksum": True}),
        "snappy": (table, {"compression": "snappy", "row_group_size": 16}),
        "zstd": (labelled, {"compression": "zstd", "data_page_version": "2.0"}),
        "gzip": (fixed, {"compression": "gzip", "data_page_size": 64, "write_page_index": True}),
        "brotli": (large, {"compression": "brotli"}),
        "lz4": (table, {"compression": "lz4"}),
        "delta": (
            large.drop_columns(["emb"]).append_column("emb", fixed.column("emb")),
            {
                **plain,
                "column_encoding": {
                    "id": "DELTA_BINARY_PACKED",
                    "text": "DELTA_BYTE_ARRAY",
                    "label": "DELTA_LENGTH_BYTE_ARRAY",
                    "aum": "BYTE_STREAM_SPLIT",
                },
            },
        ),
    }
    for name, (rows, options) in written.items():
        pq.write_table(rows, folder / f"{name}.parquet", **options)
    for name, codec in (("file", None), ("coded", "zstd"), ("packed", "lz4")):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with pa.ipc.new_file(folder / f"{name}.arrow", labelled.schema, options=options) as sink:
            sink.write_table(labelled, max_chunksize=16)
    with pa.ipc.new_stream(folder / "stream.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=16)
    rows = fixed.to_pylist()
    (folder / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = [f"v{i}" for i in range(DIM)]
    text = [",".join(["id", "aum", "label", *numbers])]
    text += [",".join(map(str, [row["id"], row["aum"], row["label"], *row["emb"]])) for row in rows]
    (folder / "rows.csv").write_text("\n".join(text) + "\n")
    (folder / "rows.tsv").write_text("\n".join(text).replace(",", "\t") + "\n")
    found = [
        Subject(
            f"Parquet, {name}",
            (f"t/{name}.parquet",),
            tuple(c.format(f"t/{name}.parquet") for c in TABLE),
        )
        for name in written
    ]
    for name in ("file.arrow", "coded.arrow", "packed.arrow", "stream.arrow", "lines.jsonl"):
        found += [Subject(name, (f"t/{name}",), tuple(c.format(f"t/{name}") for c in TABLE))]
    for name in ("rows.csv", "rows.tsv"):
        found += [Subject(name, (f"t/{name}",), tuple(c.format(f"t/{name}") for c in TABLE[2:]))]
    return found


def write_arrays(folder: Path) -> list[Subject]:
    """Write NPY, NPZ, safetensors, training logs and lists of rows."""
    from safetensors.numpy import save_file

    folder.mkdir()
    rng = np.random.default_rng(12)
    vectors = rng.normal(size=(N, DIM)).astype(np.float32)
    aum = rng.normal(size=N)
    np.save(folder / "emb.npy", vectors)
    np.save(folder / "half.npy", np.asfortranarray(vectors.astype(np.float16)))
    np.save(folder / "aum.npy", aum)
    np.savez(folder / "both.npz", emb=vectors, aum=aum)
    np.savez_compressed(folder / "packed.npz", emb=vectors, aum=aum)
    save_file({"emb": vectors, "aum": aum}, folder / "both.safetensors")
    np.save(folder / "rows.npy", np.arange(0, N, 3))
    (folder / "rows.txt").write_text("".join(f"row{i}\n" for i in range(0, N, 3)))
    np.save(folder / "log.npy", rng.normal(size=(3, N, 3)))
    np.save(folder / "labels.npy", rng.integers(0, 3, N))
    (folder / "logs").mkdir()
    for epoch in range(3):
        np.save(folder / f"logs/epoch_{epoch}.npy", rng.normal(size=(N, 3)))
    long = {
        "id": np.tile(np.arange(N), 3),
        "epoch": np.repeat(np.arange(3), N),
        "logits": rng.normal(size=(3 * N, 3)).tolist(),
    }
    pq.write_table(pa.table(long), folder / "log.parquet", row_group_size=50)
    score = "score a/graph.parquet --rate 0.5 -o out/scores.parquet --harder high --difficulty "
    keep = "select a/scores.parquet --rate 0.5 -o out/keep.npy --include "
    learn = "difficulty {} --labels n/labels.npy -o out/difficulty.parquet"
    both = (*tuple(c + " -e emb" for c in ARRAY), score + "{}::aum")
    return [
        Subject("NPY", ("n/emb.npy",), tuple(c.format("n/emb.npy") for c in ARRAY)),
        Subject("NPY, half", ("n/half.npy",), tuple(c.format("n/half.npy") for c in ARRAY)),
        Subject("NPY, numbers", ("n/aum.npy",), (score + "n/aum.npy",)),
        *(
            Subject(name, (f"n/{name}",), tuple(c.format(f"n/{name}") for c in both))
            for name in ("both.npz", "packed.npz", "both.safetensors")
        ),
        Subject("NPY, rows", ("n/rows.npy",), (keep + "n/rows.npy",)),
        Subject("text, rows", ("n/rows.txt",), (keep + "n/rows.txt",)),
        Subject("log, NPY", ("n/log.npy", "n/labels.npy"), (learn.format("n/log.npy"),)),
        Subject("log, Parquet", ("n/log.parquet",), (learn.format("n/log.parquet"),)),
        Subject(
            "log, folder",
            tuple(f"n/logs/epoch_{epoch}.npy" for epoch in range(3)),
            (learn.format("n/logs"),),
        ),
    ]


def write_folders(folder: Path) -> list[Subject]:
    """Write shards of Parquet and NPY, a saved dataset and DataComp metadata."""
    folder.mkdir()
    table = columns()
    halves = (table.slice(0, 22), table.slice(22))
    for name in ("shards", "arrays", "saved", "datacomp"):
        (folder / name).mkdir()
    rng = np.random.default_rng(13)
    names = []
    for at, half in enumerate(halves):
        pq.write_table(half, folder / f"shards/part-{at}.parquet")
        np.save(folder / f"arrays/part-{at}.npy", rng.normal(size=(len(half), DIM)))
        names.append(f"data-{at:05}-of-00002.arrow")
        with pa.ipc.new_stream(folder / "saved" / names[-1], half.schema) as sink:
            sink.write_table(half, max_chunksize=7)
        rows = {
            "uid": [f"{22 * at + row:032x}" for row in range(len(half))],
            "aum": half.column("aum"),
            "text": half.column("text"),
        }
        pq.write_table(pa.table(rows), folder / f"datacomp/{at}a.parquet")
        save = (np.savez, np.savez_compressed)[at]
        save(folder / f"datacomp/{at}a.npz", l14_img=rng.normal(size=(len(half), DIM)))
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "saved/state.json").write_text(json.dumps(state, indent=2))
    features = {"id": {"dtype": "string", "_type": "Value"}}
    (folder / "saved/dataset_info.json").write_text(json.dumps({"features": features}))
    out = []
    for name, commands in (
        ("shards", TABLE),
        ("arrays", ARRAY),
        ("saved", (*TABLE, "export a/keep.parquet --source {} -o out/saved --format datasets")),
        ("datacomp", (*TABLE[:3], "export n/rows.npy --source {} -o out/d.npy --format datacomp")),
    ):
        files = tuple(f"f/{name}/{path.name}" for path in sorted((folder / name).iterdir()))
        out.append(Subject(name, files, tuple(c.format(f"f/{name}") for c in commands)))
    return out


def run(line: str) -> bytes:
    """Run a command that has to work; return its standard output."""
    code, out, err = call(line)
    assert code == 0, f"d2 {line}: {code}: {err}"
    return out


def write_artifacts(folder: Path) -> list[Subject]:
    """Run d2 for one artifact of each kind, a cache folder, and what is read back."""
    folder.mkdir()
    run("graph t/plain.parquet -k 3 -o a/graph.parquet")
    run(f"score a/graph.parquet {SCORED}".replace("out/", "a/"))
    run(f"select a/scores.parquet --group t/plain.parquet::label {PICK}".replace("out/", "a/"))
    run("difficulty n/log.npy --labels n/labels.npy -o a/difficulty.parquet")
    Path("a/graph.arrow").write_bytes(run("graph t/plain.parquet -k 3"))
    scores = run("score a/graph.parquet --difficulty t/plain.parquet::aum --rate 0.5")
    Path("a/scores.arrow").write_bytes(scores)
    for line in (SWEEP, CACHED, IN_CELLS):
        run(line)
    Path("a/sweep.json").write_bytes(Path("out/sweep.json").read_bytes())
    reports = tuple(f"a/report.{suffix}" for suffix in ("json", "md", "html"))
    for report in reports:
        run(
            "select a/scores.parquet --rate 0.5 --cache-dir cache -o a/kept.parquet "
            f"--report {report}"
        )
    entries = sorted(path.name for path in Path("cache").iterdir() if path.suffix != ".lock")
    stages = tuple(f"cache/{name}" for name in entries if name.endswith(".parquet"))
    cells = tuple(f"cache/{name}" for name in entries if name.endswith(".json"))
    assert stages
    assert cells
    use_graph = (
        f"score {{}} {SCORED}",
        f"select a/scores.parquet --graph {{}} {PICK}",
        "difficulty --from-graph {} -o out/difficulty.parquet",
        EXPLAIN.format("a/keep.parquet", "a/scores.parquet", "{}"),
    )
    use_selection = (
        EXPLAIN.format("{}", "a/scores.parquet", "a/graph.parquet"),
        "export {} --source t/plain.parquet -o out/kept.jsonl",
        "export {} --source t/plain.parquet -o out/weights.npy --format weights --graph a/graph.parquet",  # noqa: E501
        "diff {} a/kept.parquet",
        f"select a/scores.parquet --include {{}} {PICK}",
        f"select a/scores.parquet --previous {{}} --max-changes 9999 {PICK}",
    )

    def of(name: str, path: str, commands: tuple[str, ...]) -> Subject:
        return Subject(name, (path,), tuple(c.format(path) for c in commands), "artifact")

    return [
        of("graph", "a/graph.parquet", (*use_graph, f"select a/scores.parquet {PICK}")),
        of("graph, stream", "a/graph.arrow", use_graph),
        of("scores", "a/scores.parquet", (f"select {{}} {PICK}",)),
        of("scores, stream", "a/scores.arrow", (f"select {{}} {PICK}",)),
        of("selection", "a/keep.parquet", use_selection),
        of("difficulty", "a/difficulty.parquet", (SCORE.replace(" --rate", " --id none --rate"),)),
        of("sweep", "a/sweep.json", (f"select a/scores.parquet --settings {{}} {PICK}",)),
        Subject("cache", stages, (CACHED,), "cache"),
        Subject("cells", cells, (SWEEP,), "cache"),
        of("graph in cells", "a/cells.parquet", (UPDATED,)),
        Subject(
            "cache, looked at",
            (*stages, *cells),
            ("cache ls --cache-dir cache", "cache verify --cache-dir cache", CACHED + " --dry-run"),
        ),
        *(
            Subject(
                report,
                (report,),
                (
                    f"select a/scores.parquet --rate 0.5 --cache-dir cache -o a/kept.parquet --report {report}",  # noqa: E501
                ),
                "report",
            )
            for report in reports
        ),
    ]


def write_all(folder: Path) -> list[Subject]:
    """Fill a folder with everything that is damaged; return it by kind."""
    folder.mkdir()
    with inside(folder):
        Path("out").mkdir()
        Path("none").mkdir()
        return [
            *write_tables(Path("t")),
            *write_arrays(Path("n")),
            *write_folders(Path("f")),
            *write_artifacts(Path("a")),
        ]
