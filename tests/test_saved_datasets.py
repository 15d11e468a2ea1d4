"""Folders written by ``datasets``: the rows in the order that it would give them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from d2cli.errors import InputError
from d2cli.files.columns import ColumnRef, read_labels, read_vectors
from d2cli.files.sources import Sources


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(folder, parts, **state):
    """Write record batches as ``save_to_disk`` does, one stream a file."""
    folder = Path(folder)
    folder.mkdir()
    names = []
    for name, part in parts:
        with pa.ipc.new_stream(folder / name, part.schema) as sink:
            sink.write_table(part, max_chunksize=7)
        names.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": names, **state}))
    (folder / "dataset_info.json").write_text("{}")


def rows(start, stop):
    return pa.table(
        {
            "id": [f"r{row}" for row in range(start, stop)],
            "v": pa.array([[row, 1, 2] for row in range(start, stop)], pa.list_(pa.float32())),
            "loss": np.arange(start, stop, dtype=np.float64),
        }
    )


def refusal(text):
    with pytest.raises(InputError) as caught:
        Sources().open(text)
    return caught.value


def test_the_list_of_files_is_the_order_of_the_rows(here):
    save("d", [("data-1.arrow", rows(0, 10)), ("data-0.arrow", rows(10, 15))])
    with pa.ipc.new_stream("d/data-2.arrow", rows(0, 1).schema) as sink:
        sink.write_table(rows(90, 91))  # left from an earlier writing; not in the list

    sources = Sources()
    source = sources.open("d")

    ids = read_labels(ColumnRef(source, source.columns["id"]))
    assert ids.to_pylist() == [f"r{row}" for row in range(15)]
    vectors = read_vectors(ColumnRef(source, source.columns["v"]))
    np.testing.assert_array_equal(vectors[:, 0], np.arange(15))
    assert {path.name for path in sources.paths} == {
        "data-1.arrow",
        "data-0.arrow",
        "state.json",
        "dataset_info.json",
    }


@pytest.mark.parametrize("key", ["_indices_data_files", "_indices_files"])
def test_an_indices_mapping_is_refused(here, key):
    save("d", [("data-0.arrow", rows(0, 3))], **{key: [{"filename": "indices.arrow"}]})

    error = refusal("d")

    assert error.message.startswith("d: the order of its rows is in an indices mapping")
    assert "flatten_indices()" in error.hint


def test_no_indices_mapping_is_none(here):
    save("d", [("data-0.arrow", rows(0, 3))], _indices_data_files=None)

    assert Sources().open("d").n_rows == 3


def test_several_splits_are_refused_by_name(here):
    Path("d").mkdir()
    Path("d/dataset_dict.json").write_text('{"splits": ["train", "test"]}')

    error = refusal("d")

    assert error.message == "d: holds the splits train, test"
    assert error.hint == "name one of them: d/train"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "d/state.json: cannot be read: "),
        ("[]", "d/state.json: names no data files"),
        ('{"_data_files": []}', "d/state.json: names no data files"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "d/state.json: names no data files"),
        ('{"_data_files": [{"filename": 3}]}', "d/state.json: names no data files"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "d/gone.arrow: no such file"),
    ],
)
def test_a_damaged_state_is_refused(here, text, message):
    Path("d").mkdir()
    Path("d/state.json").write_text(text)

    assert refusal("d").message.startswith(message)


def test_a_file_cut_short_is_refused(here):
    save("d", [("data-0.arrow", rows(0, 30)), ("data-1.arrow", rows(30, 60))])
    path = Path("d/data-1.arrow")
    path.write_bytes(path.read_bytes()[:-100])

    assert refusal("d").message.startswith("d/data-1.arrow: cannot be read: ")


def test_the_library_and_d2_see_the_same_rows(here, monkeypatch, cloud):
    monkeypatch.setenv("HF_HOME", str(here / "hub"))
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "v": datasets.Sequence(datasets.Value("float32"), length=6),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    made = datasets.Dataset.from_dict(
        {
            "id": [f"r{row}" for row in range(200)],
            "v": cloud.tolist(),
            "label": [row % 2 for row in range(200)],
        },
        features=features,
    )
    made.save_to_disk("whole", num_shards=3)
    made.select(range(150, 20, -1)).save_to_disk("chosen", num_shards=2)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk("both")

    for name in ("whole", "chosen", "both/train"):
        source = Sources().open(name)
        expected = datasets.load_from_disk(name)
        ids = read_labels(ColumnRef(source, source.columns["id"]))
        assert ids.to_pylist() == list(expected["id"])
        vectors = read_vectors(ColumnRef(source, source.columns["v"]))
        np.testing.assert_array_equal(vectors, np.array(expected["v"], np.float32))
        labels = read_labels(ColumnRef(source, source.columns["label"]))
        assert labels.to_pylist() == list(expected["label"])
    assert refusal("both").message == "both: holds the splits train, test"


def test_a_saved_dataset_is_pruned(d2, here, two_clusters):
    vectors, loss = two_clusters
    table = pa.table(
        {
            "id": [f"r{row}" for row in range(60)],
            "v": pa.array(list(vectors)),
            "loss": loss,
        }
    )
    save("d", [("data-0.arrow", table.slice(0, 40)), ("data-1.arrow", table.slice(40))])

    code, out, err = d2("prune", "d", "--difficulty", "loss", "--rate", "0.5", "-o", "-")

    assert code == 0, err
    assert len(out.split()) == 30
    assert set(out.split()) <= {f"r{row}" for row in range(60)}
