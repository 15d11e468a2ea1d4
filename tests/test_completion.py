"""Shell completion: commands, options, columns; without NumPy."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2cli.completion import column_names, complete_columns

TYPES = st.recursive(
    st.sampled_from([pa.int8(), pa.float64(), pa.string(), pa.bool_(), pa.decimal128(5, 2)]),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(lambda kind: pa.list_(kind, 2)),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{i}", kind) for i, kind in enumerate(kinds)])
        ),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=5,
)


@given(st.lists(TYPES, min_size=1, max_size=20))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_columns_of_a_parquet_file_are_those_of_pyarrow(tmp_path, kinds):
    schema = pa.schema([(f"column {i}", kind) for i, kind in enumerate(kinds)])
    pq.write_table(schema.empty_table(), tmp_path / "t.parquet")
    assert column_names(tmp_path / "t.parquet") == schema.names


def test_columns_of_other_files(tmp_path):
    np.savez(tmp_path / "a.npz", l14_img=np.ones((2, 2)), text=np.ones((2, 2)))
    (tmp_path / "a.csv").write_text('id,"a,b",c\n1,2,3\n')
    (tmp_path / "a.jsonl").write_text('{"id": 1, "score": 2}\n{"id": 3}\n')
    assert column_names(tmp_path / "a.npz") == ["l14_img", "text"]
    assert column_names(tmp_path / "a.csv") == ["id", "a,b", "c"]
    assert column_names(tmp_path / "a.jsonl") == ["id", "score"]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PK\x03\x04", b"PAR1" + b"\xff" * 40, b"\0" * 9])
def test_damaged_files_have_no_columns(tmp_path, data):
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        (tmp_path / name).write_bytes(data)
        assert not any("\0" in name for name in column_names(tmp_path / name))
    assert column_names(tmp_path / "nowhere") == []


@given(st.binary(max_size=200), st.integers(0, 300))
@settings(max_examples=300, deadline=None)
def test_damaged_footers_end_the_list(tmp_path_factory, noise, at):
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), path)
    data = bytearray(path.read_bytes())
    data[at : at + len(noise)] = noise
    path.write_bytes(bytes(data))
    assert all(isinstance(name, str) for name in column_names(path))


def test_names_that_a_terminal_would_obey_are_left_out(tmp_path):
    pq.write_table(pa.table({"a\x1b[31m": [1], "b": [2]}), tmp_path / "t.parquet")
    assert column_names(tmp_path / "t.parquet") == ["b"]


def test_a_colref_names_a_column_of_the_source_or_of_its_own_file(sample_data):
    train = str(sample_data / "clinc150.parquet")
    assert complete_columns(["prune", train, "--difficulty"], "a") == ["aum"]
    assert complete_columns(["score", "g", "--difficulty"], f"{train}::au") == [f"{train}::aum"]
    assert complete_columns(["prune"], "a") == []


def complete(line):
    words = line.split(" ")
    environment = {
        **os.environ,
        "_D2_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "d2cli"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "numpy" not in done.stderr
    assert "pyarrow" not in done.stderr
    return done.stdout.split()


def test_the_shell_is_told_commands_options_and_columns(sample_data):
    train = sample_data / "clinc150.parquet"
    assert complete("d2 pru") == ["prune"]
    assert complete("d2 prune --diff") == ["--difficulty"]
    assert complete(f"d2 prune {train} --difficulty el") == ["el2n"]
    assert complete(f"d2 sweep {train} --labels lab") == ["label", "label_name"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_can_be_shown(name):
    done = subprocess.run(
        [sys.executable, "-m", "d2cli"],
        env={**os.environ, "_D2_COMPLETE": f"source_{name}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "_D2_COMPLETE" in done.stdout
