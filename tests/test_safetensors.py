"""safetensors: tensors as arrays, checked against the size of the file."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from d2cli.errors import InputError, ParameterError
from d2cli.files.artifacts import read_artifact
from d2cli.files.columns import ColumnRef, read_numbers, read_vectors
from d2cli.files.digests import digest_array
from d2cli.files.scratch import DiskRoom
from d2cli.files.sources import Sources

save_file = pytest.importorskip("safetensors.numpy").save_file


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, tensors, pad=b""):
    """Write tensors ``name -> (type, shape, bytes)`` one after another."""
    entries, data = {}, b""
    for name, (kind, shape, raw) in tensors.items():
        entries[name] = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [len(data), len(data + raw)],
        }
        data += raw
    header = json.dumps(entries).encode() + pad
    Path(path).write_bytes(struct.pack("<Q", len(header)) + header + data)


def vectors_of(path, name):
    source = Sources().open(str(path))
    return read_vectors(ColumnRef(source, source.columns[name]))


def test_tensors_are_arrays_of_their_names(here, cloud):
    save_file({"emb": cloud, "half": cloud.astype(np.float16), "loss": cloud[:, 0].copy()}, "a.st")

    source = Sources().open("a.st")

    assert {name: (column.kind, column.type) for name, column in source.columns.items()} == {
        "emb": ("vectors", "float32 (200, 6)"),
        "half": ("vectors", "float16 (200, 6)"),
        "loss": ("numbers", "float32 (200,)"),
    }
    assert source.n_rows == 200
    assert source.width("emb") == 6
    np.testing.assert_array_equal(vectors_of("a.st", "half"), cloud.astype(np.float16))
    np.testing.assert_array_equal(
        read_numbers(ColumnRef(source, source.columns["loss"])), cloud[:, 0]
    )


def test_tensors_are_mapped_and_single_rows_read_from_the_file(here, cloud):
    save_file({"emb": cloud}, "a.safetensors")
    source = Sources().open("a.safetensors")

    array = source.array("emb")
    taken = DiskRoom(1 << 20, lambda: here).take(array, np.array([5, 6, 199]))

    assert source.header("emb").mapped
    assert not array.flags.writeable
    np.testing.assert_array_equal(taken, cloud[[5, 6, 199]])


def test_bfloat16_is_widened(here, cloud):
    upper = (cloud.view(np.uint32) >> 16).astype(np.uint16)
    write("a.safetensors", {"emb": ("BF16", [200, 6], upper.tobytes())})
    wide = (upper.astype(np.uint32) << 16).view(np.float32)

    source = Sources().open("a.safetensors")

    assert source.columns["emb"].type == "bfloat16 (200, 6)"
    header = source.header("emb")
    assert (header.dtype, header.mapped, header.in_table) == (np.float32, False, True)
    found = vectors_of("a.safetensors", "emb")
    np.testing.assert_array_equal(found, wide)
    assert digest_array(found) == digest_array(wide)


def test_types_that_numpy_does_not_have_cannot_be_used(here):
    write("a.safetensors", {"emb": ("F8_E4M3", [4, 3], bytes(12))})

    column = Sources().open("a.safetensors").columns["emb"]

    assert (column.kind, column.type) == ("other", "F8_E4M3 (4, 3)")


def test_tensors_at_odd_places_are_read(here, cloud):
    raw = cloud.astype("<f4").tobytes()
    write("a.safetensors", {"odd": ("U8", [1], b"x"), "emb": ("F32", [200, 6], raw)})

    assert Sources().open("a.safetensors").array("emb") is None
    np.testing.assert_array_equal(vectors_of("a.safetensors", "emb"), cloud)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_file_of_another_size_than_declared_is_refused(here, cloud, change):
    save_file({"emb": cloud}, "a.safetensors")
    path = Path("a.safetensors")
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(InputError, match=r"a\.safetensors: cannot be read: .*not fully covered"):
        Sources().open("a.safetensors")


@pytest.mark.parametrize("kept", [9, 20, 80])
def test_a_cut_header_is_refused(here, cloud, kept):
    save_file({"emb": cloud}, "a.safetensors")
    path = Path("a.safetensors")
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match=r"a\.safetensors: cannot be read"):
        Sources().open("a.safetensors")


def test_tensors_through_a_pipe_are_read(shell, here, cloud):
    save_file({"emb": cloud}, "a.safetensors")

    one = shell(
        "d2 graph a.safetensors -o one.parquet -q && d2 graph -o two.parquet -q < a.safetensors"
    )

    assert one.returncode == 0, one.stderr
    one, two = (read_artifact(name, "graph") for name in ("one.parquet", "two.parquet"))
    assert one.digest == two.digest


def test_the_same_numbers_make_the_same_graph_as_npy(d2, here, cloud):
    save_file({"emb": cloud}, "a.safetensors")
    np.save("a.npy", cloud)

    for name in ("a.safetensors", "a.npy"):
        code, _, err = d2("graph", name, "-o", f"{name}.parquet")
        assert code == 0, err
    code, _, err = d2("graph", "a.safetensors", "--dry-run", "-o", "x.parquet")

    assert code == 0, err
    one, two = (read_artifact(f"{name}.parquet", "graph") for name in ("a.safetensors", "a.npy"))
    assert one.digest == two.digest


def test_without_the_package_it_is_named(here, cloud, monkeypatch):
    save_file({"emb": cloud}, "a.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)

    with pytest.raises(ParameterError) as caught:
        Sources().open("a.safetensors")

    assert caught.value.message == (
        "a.safetensors: reading safetensors files needs the package safetensors"
    )
    assert caught.value.hint == "pip install 'd2cli[safetensors]'"
