"""DataComp metadata: Parquet shards and the NPZ archives beside them, as one table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import InputError
from d2cli.files.columns import ColumnRef, read_labels, read_vectors
from d2cli.files.sources import Sources
from d2cli.files.tables import BATCH_BYTES


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def uid(row):
    return f"{row:032x}"


def write(stem, start, stop, *, save=np.savez, **arrays):
    """Write a shard of rows ``start`` to ``stop``."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "uid": [uid(row) for row in range(start, stop)],
        "text": [f"a photo of {row}" for row in range(start, stop)],
        "clip_l14_similarity_score": np.linspace(0, 1, stop - start),
    }
    pq.write_table(pa.table(table), stem.with_suffix(".parquet"))
    rng = np.random.default_rng(start)
    made = {
        "l14_img": rng.normal(size=(stop - start, 6)).astype(np.float16),
        "b32_img": rng.normal(size=(stop - start, 4)).astype(np.float16),
    } | arrays
    save(stem.with_suffix(".npz"), **made)
    return made


def refusal(text):
    with pytest.raises(InputError) as caught:
        Sources().open(text)
    return caught.value


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("text", ["m", "m/*.parquet", "m/*"])
def test_arrays_are_columns_beside_those_of_the_table(here, save, text):
    first = write("m/0a", 0, 5, save=save)
    second = write("m/1b", 5, 8, save=save)

    sources = Sources()
    source = sources.open(text)

    assert {name: column.kind for name, column in source.columns.items()} == {
        "uid": "labels",
        "text": "labels",
        "clip_l14_similarity_score": "numbers",
        "l14_img": "vectors",
        "b32_img": "vectors",
    }
    assert source.columns["l14_img"].type == "float16 (8, 6)"
    header = source.header("l14_img")
    assert (header.n_rows, header.dtype, source.width("l14_img")) == (8, np.float16, 6)
    for name in ("l14_img", "b32_img"):
        np.testing.assert_array_equal(
            read_vectors(ColumnRef(source, source.columns[name])),
            np.concatenate([first[name], second[name]]),
        )
    ids = read_labels(ColumnRef(source, source.columns["uid"]))
    assert ids.to_pylist() == [uid(row) for row in range(8)]
    assert len(sources.paths) == 4


def test_a_fortran_ordered_array_is_read_by_row(here):
    array = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    write("m/0", 0, 4, l14_img=array)
    source = Sources().open("m")

    found = read_vectors(ColumnRef(source, source.columns["l14_img"]))

    np.testing.assert_array_equal(found, array)


def test_large_arrays_are_read_in_batches(here):
    rows = 2 * BATCH_BYTES // 1000 + 5
    write("m/0", 0, rows, l14_img=np.zeros((rows, 500), np.float16))

    batches = list(Sources().open("m").batches("l14_img"))

    assert sum(map(len, batches)) == rows
    assert max(map(len, batches)) * 1000 <= BATCH_BYTES


def test_one_parquet_file_is_read_without_the_archive_beside_it(here):
    write("m/0", 0, 5)

    assert "l14_img" not in Sources().open("m/0.parquet").columns


def test_rows_that_disagree_are_refused(here):
    write("m/0", 0, 5)
    write("m/1", 5, 9, l14_img=np.zeros((3, 6), np.float16))

    assert refusal("m").message == (
        "m/1.npz::l14_img: has shape (3, 6), but m/1.parquet has 4 rows"
    )


def test_arrays_that_disagree_are_refused(here):
    write("m/0", 0, 5)
    write("m/1", 5, 9, l14_img=np.zeros((4, 7), np.float16))

    assert refusal("m").message == (
        "m/1.parquet: column 'l14_img' is float16 (n, 7), but float16 (n, 6) in m/0.parquet"
    )


def test_a_shard_without_its_archive_or_table_is_named(here):
    write("m/0", 0, 5)
    write("m/1", 5, 9)
    Path("m/1.npz").rename("m/2.npz")

    assert refusal("m").message == "m/2.npz: there is no 2.parquet beside it"
    assert refusal("m/*.parquet").message.startswith("m/1.parquet: there is no .npz file")


def test_archives_alone_are_refused(here):
    write("m/0", 0, 5)
    Path("m/0.parquet").unlink()

    assert refusal("m").message.startswith("m: NPZ files without the Parquet files")


def test_damage_in_an_array_is_noticed(here):
    made = write("m/0", 0, 2000)
    data = Path("m/0.npz").read_bytes()
    at = data.index(made["l14_img"][1500:].tobytes()[:64])
    Path("m/0.npz").write_bytes(data[:at] + b"\x01\x02" + data[at + 2 :])
    source = Sources().open("m")

    with pytest.raises(InputError, match=r"m/0\.npz::l14_img: cannot be read: Bad CRC"):
        read_vectors(ColumnRef(source, source.columns["l14_img"]))


def test_a_name_in_both_cannot_be_used(here):
    write("m/0", 0, 5, text=np.zeros((5, 2), np.float16))

    assert Sources().open("m").columns["text"].type == "several columns of this name"


def test_metadata_is_pruned_by_uid(d2, here):
    write("m/0", 0, 30)
    write("m/1", 30, 60)

    code, out, err = d2(
        *("prune", "m", "--embedding", "l14_img", "--rate", "0.9", "-o", "-"),
        *("--difficulty", "clip_l14_similarity_score", "--harder", "high"),
    )

    assert code == 0, err
    assert set(out.split()) <= {uid(row) for row in range(60)}
    assert len(out.split()) == 6
