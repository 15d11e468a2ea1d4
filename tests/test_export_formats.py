"""Exports as those who take them see them: datasets, torch, polars, DuckDB, DataComp."""

import fcntl
import io
import random
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_export import IDS, ROWS, assert_done, assert_refused, lines_of, named, select, table_of

from d2cli.errors import InputError, ParameterError, ResourceError
from d2cli.files import export_folder
from d2cli.files.export_datacomp import subset_of
from d2cli.files.export_datasets import write_datasets
from d2cli.files.export_folder import check_folder, write_folder
from d2cli.files.export_parquet import write_parquet
from d2cli.files.records import Records, open_shard
from d2cli.files.reorder import in_order
from d2cli.files.sources import Sources
from d2cli.stages.adjacency import undirected
from d2cli.stages.weights import nearest_kept, weigh_kept

KEPT = sorted(ROWS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def keep(folder):
    return select("keep.parquet", ROWS, ids=IDS)


@pytest.fixture
def train(folder):
    pq.write_table(table_of().drop_columns("half"), "train.parquet", row_group_size=20)
    return "train.parquet"


@pytest.fixture
def load_from_disk(folder, monkeypatch):
    """``datasets.load_from_disk``, without a network and with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
    return datasets.load_from_disk


# --- datasets -------------------------------------------------------------------------------------


def test_datasets_loads_the_kept_rows_of_parquet(train, keep, d2, load_from_disk):
    assert_done(d2("export", keep, "--source", train, "-o", "out", "--format", "datasets"))

    found = load_from_disk("out")
    assert found["id"][:] == named(KEPT)
    assert found["kind"][:] == [["x", "y", "z"][row % 3] for row in KEPT]
    assert found["tags"][:] == [[str(row)] * (row % 3) for row in KEPT]
    assert len(found._fingerprint) == 16


def test_datasets_keeps_what_its_own_folders_know(folder, keep, d2, load_from_disk):
    import datasets

    features = datasets.Features(
        {"id": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "<b>dog"])}
    )
    rows = {"id": IDS, "label": [i % 2 for i in range(90)]}
    whole = datasets.Dataset.from_dict(rows, features=features, split="train")
    whole.info.description = "pets"
    whole.set_format("numpy", columns=["label"])
    whole.save_to_disk("saved", num_shards=4)

    base = ("export", keep, "--source", "saved", "-o")
    assert_done(d2(*base, "kept", "--format", "datasets"))
    assert_done(d2(*base, "rest", "--format", "datasets", "--dropped"))
    assert_done(d2(*base, "kept.parquet"))

    found = load_from_disk("kept")
    assert found.features == features
    assert found.split == "train"
    assert found.info.description == "pets"
    assert found.format["type"] == "numpy"
    expected = whole.select(KEPT)
    assert found.with_format(None)[:] == expected.with_format(None)[:]
    rest = load_from_disk("rest").with_format(None)["id"][:]
    assert sorted([*found.with_format(None)["id"][:], *rest]) == sorted(IDS)
    assert found._fingerprint != whole._fingerprint
    assert found._fingerprint != load_from_disk("rest")._fingerprint
    parquet = datasets.Dataset.from_parquet("kept.parquet", cache_dir="hf")
    assert parquet.features == features


def test_datasets_loads_an_export_of_no_rows(train, folder, d2, load_from_disk):
    select("all.parquet", np.arange(90), ids=IDS)
    base = ("export", "all.parquet", "--source", train, "--dropped", "-o")
    assert_done(d2(*base, "out", "--format", "datasets"))
    assert_done(d2(*base, "shards"))

    assert len(load_from_disk("out")) == 0
    assert load_from_disk("out").column_names[:2] == ["id", "text"]
    assert pq.read_table("shards").num_rows == 0


def test_a_large_folder_of_datasets_has_several_files(folder, load_from_disk):
    batches = [pa.record_batch({"x": np.arange(i, i + 10)}) for i in range(0, 70, 10)]
    (folder / "out").mkdir()

    n_files = write_datasets(
        folder / "out", iter(batches), batches[0].schema, None, shard_bytes=150
    )

    assert n_files == 4
    assert sorted(path.name for path in (folder / "out").glob("*.arrow")) == [
        f"data-0000{i}-of-00004.arrow" for i in range(4)
    ]
    assert load_from_disk("out")["x"][:] == list(range(70))


# --- polars, DuckDB, torch ------------------------------------------------------------------------


def test_polars_reads_parquet_shards_and_lines(train, keep, d2):
    polars = pytest.importorskip("polars")
    base = ("export", keep, "--source", train, "-o")
    for output in ("out.parquet", "out/", "out.jsonl", "ids.csv"):
        assert_done(d2(*base, output))

    expected = polars.read_parquet(train)[KEPT]
    assert polars.read_parquet("out.parquet").equals(expected)
    assert polars.read_parquet("out/").equals(expected)
    assert polars.read_ndjson("out.jsonl")["id"].to_list() == named(KEPT)
    assert polars.read_csv("ids.csv")["id"].to_list() == named(KEPT)


def test_duckdb_reads_parquet_shards_and_lines(train, keep, d2):
    duckdb = pytest.importorskip("duckdb")
    base = ("export", keep, "--source", train, "-o")
    for output in ("out.parquet", "out/", "out.jsonl"):
        assert_done(d2(*base, output))

    query = "select id, seen.n, len(tags) from '{}' order by seen.n"
    expected = [(f"row-{row}", row, row % 3) for row in KEPT]
    with duckdb.connect() as connection:
        for place in ("out.parquet", "out/*.parquet", "out.jsonl"):
            assert connection.sql(query.format(place)).fetchall() == expected


def test_torch_takes_rows_as_a_subset_and_weights_as_a_sampler(train, keep, d2):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        from torch.utils.data import Subset, TensorDataset, WeightedRandomSampler

    base = ("export", keep, "--source", train, "-o")
    assert_done(d2(*base, "rows.npy"))
    assert_done(d2(*base, "mask.npy", "--format", "mask"))

    data = TensorDataset(torch.arange(90))
    subset = Subset(data, np.load("rows.npy"))
    assert [int(subset[i][0]) for i in range(len(subset))] == KEPT
    assert torch.arange(90)[torch.from_numpy(np.load("mask.npy"))].tolist() == KEPT
    weights = np.where(np.load("mask.npy"), 2.0, 0.0)
    assert set(WeightedRandomSampler(weights, 200)) <= set(KEPT)


# The same contracts in plain Python, for where torch, half a gigabyte at least, is not installed:
# Subset(dataset, indices)[i] is dataset[indices[i]], its length is that of the indices, and
# WeightedRandomSampler(weights, n) draws row numbers by weights that are a sequence of numbers.


@pytest.mark.parametrize("order", ["row", "rank"])
def test_row_numbers_index_any_sequence_as_a_subset_does(train, keep, d2, order):
    dataset = named(range(90))
    assert_done(d2("export", keep, "--source", train, "-o", "rows.npy", "--order", order))

    indices = np.load("rows.npy")

    subset = [dataset[indices[at]] for at in range(len(indices))]
    assert subset == named(KEPT if order == "row" else ROWS)
    assert (indices.dtype, indices.ndim, bool(indices.flags.c_contiguous)) == (np.int64, 1, True)


def test_a_mask_weighs_the_rows_that_a_sampler_draws(train, keep, d2):
    assert_done(d2("export", keep, "--source", train, "-o", "m.npy", "--format", "mask"))

    drawn = random.Random(0).choices(range(90), weights=np.load("m.npy").tolist(), k=2000)

    assert set(drawn) == set(KEPT)


# --- DataComp -------------------------------------------------------------------------------------


def uids(n):
    raw = np.random.default_rng(0).integers(0, 256, (n, 16), dtype=np.uint8)
    return [row.tobytes().hex() for row in raw]


def strings(values):
    return pa.array(values, pa.large_string())


def test_datacomp_gets_its_subset_file(folder, d2):
    names = uids(90)
    (folder / "metadata").mkdir()
    for at, start in enumerate((0, 40)):
        part = names[start:40] if start < 40 else names[40:]
        columns = {"uid": part, "url": [f"http://x/{u}" for u in part]}
        pq.write_table(pa.table(columns), f"metadata/{at:08}.parquet")
        arrays = {"l14_img": np.arange(start, start + len(part), dtype=np.float16)[:, None]}
        np.savez(f"metadata/{at:08}.npz", **arrays, b32_img=np.ones((len(part), 2, 2)))
    select("keep.parquet", ROWS, ids=names)

    base = ("export", "keep.parquet", "--source", "metadata", "--format", "datacomp", "-o")
    assert_done(d2(*base, "subset.npy"))
    assert_done(d2(*base, "rest.npy", "--dropped"))

    subset = np.load("subset.npy")
    assert subset.dtype == np.dtype("u8,u8")
    expected = np.array(
        [(int(names[row][:16], 16), int(names[row][16:32], 16)) for row in ROWS],
        np.dtype("u8,u8"),
    )
    expected.sort()
    assert subset.tolist() == expected.tolist()
    # The resharder's rule: each sample's uid is looked for in the sorted file.
    found = []
    for uid in names:
        key = np.array([(int(uid[:16], 16), int(uid[16:32], 16))], np.dtype("u8,u8"))[0]
        at = np.searchsorted(subset, key)
        found.append(at < len(subset) and subset[at] == key)
    assert np.flatnonzero(found).tolist() == KEPT
    both = np.concatenate([subset, np.load("rest.npy")])
    assert len(np.unique(both)) == 90

    base = ("export", "keep.parquet", "--source", "metadata", "-o")
    result = d2(*base, "kept.parquet")
    assert_done(result)
    assert "note: arrays beside the tables are left out: l14_img, b32_img; a folder of" in result[2]
    for output in ("kept", "again"):
        result = d2(*base, output)
        assert_done(result)
        assert "left out" not in result[2]
    for path in Path("kept").iterdir():
        assert path.read_bytes() == (Path("again") / path.name).read_bytes()
    source = Sources().open("kept")
    found = pa.concat_arrays(source.batches("l14_img")).to_pylist()
    assert found == [[row] for row in KEPT]
    assert pa.concat_arrays(source.batches("uid")).to_pylist() == [names[row] for row in KEPT]
    with np.load(next(Path("kept").glob("*.npz"))) as arrays:
        assert (arrays["b32_img"].shape[1:], arrays["l14_img"].dtype) == ((2, 2), np.float16)


@given(st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=20))
def test_subsets_are_the_sorted_pairs_of_numbers(keys):
    names = [key.hex().upper() if key[0] % 2 else key.hex() for key in keys]
    batches = [strings(["x", *names[:3]]).slice(1), strings(names[3:])]

    found = subset_of(batches, np.arange(len(names)), "uid")

    assert found.dtype == np.dtype("u8,u8")
    assert found.tolist() == sorted((int(n[:16], 16), int(n[16:], 16)) for n in names)


@pytest.mark.parametrize(
    "bad", ["", "0" * 31, "0" * 33, "g" + "0" * 31, "0x" + "0" * 30, "-" + "0" * 31, "ä" * 16]
)
def test_what_is_no_uid_is_refused(bad):
    batches = [strings(["0" * 32]), strings(["1" * 32, bad, bad])]

    with pytest.raises(InputError) as caught:
        subset_of(batches, np.array([4, 7, 8, 9]), "t::uid")

    assert caught.value.message == "t::uid: row 8 is no uid (2 rows in all)"


def test_a_uid_that_stands_twice_is_refused():
    batches = [strings(["a" * 32, "b" * 32, "A" * 32])]

    with pytest.raises(InputError) as caught:
        subset_of(batches, np.array([4, 7, 8]), "t::uid")

    assert caught.value.message == "t::uid: rows 4 and 8 have the same uid (1 such in all)"


def test_a_source_without_uids_is_refused(folder, d2):
    np.save("v.npy", np.zeros((90, 2)))
    select("keep.parquet", ROWS)

    result = d2("export", "keep.parquet", "--source", "v.npy", "-o", "s.npy", "--format",
                "datacomp")  # fmt: skip

    assert_refused(result, 3, "v.npy: has no column uid")


# --- weights --------------------------------------------------------------------------------------


@st.composite
def graphs(draw):
    """Lists of neighbors with few different distances, and which rows are kept."""
    n = draw(st.integers(1, 12))
    k = draw(st.integers(1, 3))
    neighbors = draw(hnp.arrays(np.int32, (n, k), elements=st.integers(-1, n - 1)))
    neighbors[neighbors == np.arange(n)[:, None]] = -1
    distances = np.abs(neighbors - np.arange(n)[:, None]).astype(np.float32) % 3
    distances[neighbors < 0] = np.inf
    kept = draw(hnp.arrays(np.bool_, n))
    return neighbors, distances, kept


@given(graphs())
def test_weights_count_the_rows_that_a_kept_row_stands_for(graph):
    neighbors, distances, kept = graph
    n = len(kept)
    # A set of edges, distances equal in both directions as d2 graph makes them.
    edges = {
        (min(i, int(j)), max(i, int(j))): float(d)
        for i in range(n)
        for j, d in zip(neighbors[i], distances[i], strict=True)
        if j >= 0
    }
    expected, shared = np.zeros(n), 0
    for i in range(n):
        near = [(d, a + b - i) for (a, b), d in edges.items() if i in (a, b) and kept[a + b - i]]
        if kept[i]:
            expected[i] += 1
        elif near:
            expected[min(near)[1]] += 1
        else:
            shared += 1
    expected[kept] += shared / max(kept.sum(), 1)

    weights, n_shared = weigh_kept(undirected(neighbors, distances), kept)

    assert n_shared == shared
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert not kept.any() or weights.sum() == pytest.approx(n)


def test_the_nearest_kept_neighbor_does_not_depend_on_how_many_edges_are_looked_at(monkeypatch):
    rng = np.random.default_rng(2)
    neighbors = rng.integers(0, 300, (300, 4)).astype(np.int32)
    neighbors[neighbors == np.arange(300)[:, None]] = -1
    adjacency = undirected(neighbors, np.where(neighbors < 0, np.inf, 1).astype(np.float32))
    kept = rng.random(300) < 0.2
    at_once = nearest_kept(adjacency, kept)
    monkeypatch.setattr("d2cli.stages.weights.EDGES_AT_ONCE", 7)

    np.testing.assert_array_equal(nearest_kept(adjacency, kept), at_once)


def test_weights_as_csv_name_row_and_id_and_take_the_graph_given(folder, two_clusters, d2):
    vectors, scores = two_clusters
    np.save("v.npy", vectors)
    np.save("s.npy", scores)
    assert d2("graph", "v.npy", "-o", "g.parquet")[0] == 0
    score = ("score", "g.parquet", "--difficulty", "s.npy", "--harder", "high")
    assert d2(*score, "-o", "s.parquet")[0] == 0
    assert d2("select", "s.parquet", "--keep", "6", "-o", "keep.parquet")[0] == 0
    assert d2("select", "s.parquet", "--keep", "6", "-o", "keep.npy", "--order", "rank")[0] == 0
    base = ("export", "--source", "v.npy", "--format", "weights", "--graph", "g.parquet", "-o")

    for keep in ("keep.parquet", "keep.npy"):
        assert_done(d2(*base, f"{keep}.csv", keep, "--order", "rank"))
    assert_done(d2(*base, "w.npy", "keep.parquet"))

    lines = lines_of("keep.parquet.csv")
    assert lines == lines_of("keep.npy.csv")
    assert lines[0] == '"row","weight"'
    rows, weights = zip(*(line.split(",") for line in lines[1:]), strict=True)
    assert [int(row) for row in rows] == np.load("keep.npy").tolist()
    found = np.load("w.npy")
    np.testing.assert_allclose(found[[int(row) for row in rows]], [float(w) for w in weights])
    assert found.sum() == pytest.approx(60)

    np.save("other.npy", vectors[::-1])
    assert d2("graph", "other.npy", "-o", "other.parquet")[0] == 0
    code, _, err = d2(*base[:5], "--graph", "other.parquet", "-o", "x.npy", "keep.parquet")
    assert code == 4
    assert err.startswith("error: other.parquet: is not the graph that keep.parquet was made from")


# --- batches --------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(0, 5), max_size=5),
    order=st.randoms(use_true_random=False),
    share=st.floats(0, 1),
)
def test_reordered_rows_are_those_taken_from_the_whole(sizes, order, share):
    start, batches = 0, []
    for size in sizes:
        values = [f"{i}" for i in range(start, start + size)]
        columns = {"i": pa.array(range(start, start + size), pa.int64()),
                   "d": pa.array(values, pa.string()).dictionary_encode()}  # fmt: skip
        batches.append(pa.record_batch(columns))
        start += size
    places = list(range(start))
    order.shuffle(places)
    places = places[: int(share * start)]
    schema = pa.schema({"i": pa.int64(), "d": pa.dictionary(pa.int32(), pa.string())})

    found = list(in_order(iter(batches), schema, np.array(places, np.int64)))

    table = pa.Table.from_batches(found, schema)
    assert table.column("i").to_pylist() == places
    assert table.column("d").to_pylist() == [f"{i}" for i in places]


def test_small_blocks_are_reordered_alike(monkeypatch):
    monkeypatch.setattr("d2cli.files.reorder.BLOCK_BYTES", 64)
    batches = [pa.record_batch({"i": np.arange(i, i + 7)}) for i in range(0, 70, 7)]
    places = np.random.default_rng(1).permutation(70)

    found = list(in_order(batches, batches[0].schema, places))

    assert len(found) > 5
    assert pa.Table.from_batches(found).column("i").to_pylist() == places.tolist()


@pytest.mark.parametrize("rows", [[], [0], [5, 6, 7], [0, 19, 20, 99], list(range(100))])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_rows_are_read_in_small_batches(folder, rows, kind, monkeypatch):
    monkeypatch.setattr("d2cli.files.records.BATCH_BYTES", 50)
    table = pa.table({"a.b": range(100), "s": [{"b": i} for i in range(100)]})
    if kind == "parquet":
        pq.write_table(table, "t", row_group_size=20)
    else:
        with pa.ipc.new_stream("t", table.schema) as writer:
            writer.write_table(table)
    records = Records("t", [open_shard(Path("t"), "t")])

    batches = list(records.read(np.array(rows, np.int64)))

    assert all(batch.num_rows <= 20 for batch in batches)
    assert pa.Table.from_batches(batches, records.schema).column("a.b").to_pylist() == rows
    column = list(records.read_column(np.array(rows, np.int64), "a.b"))
    assert [value for part in column for value in part.to_pylist()] == rows


def test_memory_does_not_grow_with_the_source(folder):
    rng = np.random.default_rng(0)
    schema = pa.schema({"v": pa.list_(pa.float32(), 64)})
    with pq.ParquetWriter("t.parquet", schema, compression="none", use_dictionary=False) as writer:
        for _ in range(12):
            flat = pa.array(rng.random(20_000 * 64, dtype=np.float32))
            writer.write_table(
                pa.table([pa.FixedSizeListArray.from_arrays(flat, 64)], schema=schema)
            )
    shard = open_shard(Path("t.parquet"), "t.parquet")
    pool = pa.system_memory_pool()
    previous = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        before = pool.bytes_allocated()
        peak = 0
        with io.BytesIO() as file:

            def watched():
                nonlocal peak
                for batch in shard.read(np.arange(0, shard.n_rows, 4)):
                    peak = max(peak, pool.bytes_allocated() - before)
                    yield batch

            write_parquet(file, watched(), shard.schema, shard.layout)
    finally:
        pa.set_memory_pool(previous)
    assert Path("t.parquet").stat().st_size > 50 << 20
    assert peak < 40 << 20


# --- folders --------------------------------------------------------------------------------------


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def put(text):
    return lambda folder: (folder / "a").write_text(text)


def test_a_folder_appears_whole_and_is_replaced(folder):
    write_folder(folder / "out", put("one"))
    check_folder(folder / "out", [])
    write_folder(folder / "out", put("two"))

    assert (folder / "out" / "a").read_text() == "two"
    assert listing(folder) == ["out"]
    seal, name = listing(folder / "out")
    assert seal.startswith(".d2-export-")
    assert (folder / "out" / seal).stat().st_size == 0
    assert name == "a"


def test_a_folder_is_replaced_where_the_system_cannot_exchange_two(folder, monkeypatch):
    monkeypatch.setattr(export_folder, "_exchange", lambda one, other: False)
    write_folder(folder / "out", put("one"))
    write_folder(folder / "out", put("two"))

    assert (folder / "out" / "a").read_text() == "two"
    assert listing(folder) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left")])
def test_a_folder_that_breaks_off_leaves_the_old_one(folder, error):
    write_folder(folder / "out", put("one"))

    def build(made):
        (made / "a").write_text("tw")
        raise error

    with pytest.raises(ResourceError if isinstance(error, OSError) else error):
        write_folder(folder / "out", build)

    assert (folder / "out" / "a").read_text() == "one"
    assert listing(folder) == ["out"]


def test_what_a_killed_writer_left_is_swept_and_a_live_one_left_alone(folder):
    for name in (".dead.d2tmp", ".live.d2tmp"):
        (folder / name).mkdir()
        (folder / name / ".d2-export").touch()
    with (folder / ".live.d2tmp" / ".d2-export").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_folder(folder / "out", put("one"))

    assert listing(folder) == [".live.d2tmp", "out"]


def test_what_a_writer_left_that_was_killed_at_its_first_or_last_step_is_swept(folder, monkeypatch):
    (folder / ".begun.d2tmp").mkdir()
    write_folder(folder / "out", put("one"))
    assert listing(folder) == ["out"]

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder / "out", put("two"))
    monkeypatch.undo()
    assert len(listing(folder)) == 2  # the old folder, on its way out
    write_folder(folder / "out", put("two"))
    assert listing(folder) == ["out"]


def test_files_of_others_keep_a_folder_from_being_replaced(folder):
    (folder / "theirs").mkdir()
    check_folder(folder / "theirs", [])  # empty
    (folder / "theirs" / ".d2-export").touch()
    check_folder(folder / "theirs", [])  # as good as empty
    (folder / "theirs" / "x").touch()
    for name in ("ours", "changed"):
        write_folder(folder / name, put("one"))
        check_folder(folder / name, [])
    (folder / "ours" / "sub").mkdir()
    (folder / "ours" / "sub" / "<b>").touch()
    (folder / "changed" / "a").write_text("three")

    for name in ("theirs", "ours", "changed"):
        with pytest.raises(ParameterError) as caught:
            check_folder(folder / name, [])
        assert caught.value.message == (
            f"{folder / name}: holds files that are not as `d2 export` left them"
        )
