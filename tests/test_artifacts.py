"""Artifacts: what was sealed is what is read, or it is an error."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.errors import ArtifactError, InputError
from d2cli.files import artifact_tables
from d2cli.files.artifact_tables import column_of, flat_values
from d2cli.files.artifacts import read_artifact, seal, stage_key, to_stream, write_artifact


def lists(values):
    item = pa.field("item", pa.from_numpy_dtype(values.dtype), nullable=False)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.ravel()), type=pa.list_(item, values.shape[1])
    )


def make_graph(**changes):
    """Three rows, two neighbours each, one of them padded."""
    neighbors = np.array([[1, 2], [0, 2], [0, -1]], np.int32)
    distances = np.array([[0.0, 1e-45], [0.0, 3.5], [-0.0, np.inf]], np.float32)
    table = pa.table(
        {
            "id": pa.array(["a", "", "ä→"], pa.large_string()),
            "neighbors": lists(neighbors),
            "distances": lists(distances),
        }
    )
    more = {"key": "abc", "parameters": {"k": 2}, "inputs": {"vectors": "12"}, "results": {"r": 1}}
    return seal("graph", table, **{**more, **changes})


def make_scores(**changes):
    table = pa.table(
        {
            "id": pa.array(["a", "", "ä→"], pa.large_string()),
            "difficulty": np.array([0.1, -0.0, 5e-324]),
            "score": np.array([1e308, np.nextafter(1.0, 2.0), 3.0]),
            "pool": [True, False, True],
        }
    )
    more = {"key": "def", "parameters": {}, "inputs": {}, "results": {"gamma": 0.1}}
    return seal("scores", table, **{**more, **changes})


@pytest.fixture
def graph():
    return make_graph()


@pytest.fixture
def scores():
    return make_scores()


def bits(table):
    """Return every column as a list of text or of the bytes of its numbers."""
    out = {}
    for name in table.column_names:
        values = table.column(name).combine_chunks()
        if pa.types.is_fixed_size_list(values.type):
            values = values.flatten()
        # Where the Arrow schema in a footer is lost, Parquet's own type is read: the same text.
        if pa.types.is_large_string(values.type) or pa.types.is_string(values.type):
            out[name] = values.to_pylist()
        else:
            numbers = values.to_numpy(zero_copy_only=False)
            out[name] = (str(numbers.dtype), numbers.tobytes())
    return out


def contents(artifact):
    return artifact.meta, bits(artifact.table)


def refusal(path, kind):
    with pytest.raises(ArtifactError) as caught:
        read_artifact(str(path), kind)
    return caught.value


def pipe_in(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_graph, make_scores])
def test_a_file_holds_what_was_sealed_bit_for_bit(tmp_path, make):
    artifact = make()

    written = write_artifact(tmp_path / "a.parquet", artifact)
    read = read_artifact(str(tmp_path / "a.parquet"), artifact.meta["kind"])

    assert contents(read) == contents(artifact) == contents(written)
    assert read.name == written.name == str(tmp_path / "a.parquet")


@pytest.mark.parametrize("make", [make_graph, make_scores])
def test_a_pipe_carries_what_was_sealed_bit_for_bit(monkeypatch, make):
    artifact = make()
    pipe_in(monkeypatch, to_stream(artifact))

    read = read_artifact("-", artifact.meta["kind"])

    assert contents(read) == contents(artifact)
    assert read.name == "standard input"


def test_a_stream_stored_in_a_file_is_read(tmp_path, graph):
    (tmp_path / "g.arrow").write_bytes(to_stream(graph))

    assert contents(read_artifact(str(tmp_path / "g.arrow"), "graph")) == contents(graph)


def test_a_parquet_file_through_a_pipe_is_read(tmp_path, monkeypatch, graph):
    write_artifact(tmp_path / "g.parquet", graph)
    pipe_in(monkeypatch, (tmp_path / "g.parquet").read_bytes())

    assert contents(read_artifact("-", "graph")) == contents(graph)


def test_an_artifact_without_rows_is_read(tmp_path):
    table = pa.table({"row": pa.array([], pa.int64()), "id": pa.array([], pa.large_string())})
    empty = seal("selection", table, key="k", parameters={}, inputs={}, results={})

    write_artifact(tmp_path / "s.parquet", empty)

    assert read_artifact(str(tmp_path / "s.parquet"), "selection").table.num_rows == 0


def test_chunks_of_the_sealed_table_do_not_matter(graph):
    table = graph.table
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 1), table.slice(2)])

    again = seal("graph", chunked, key="abc", parameters={"k": 2}, inputs={"vectors": "12"},
                 results={"r": 1})  # fmt: skip

    assert contents(again) == contents(graph)


def test_other_tools_find_the_columns_and_the_metadata(tmp_path, graph):
    write_artifact(tmp_path / "g.parquet", graph)

    table = pq.read_table(tmp_path / "g.parquet")

    assert table.column_names == ["id", "neighbors", "distances"]
    kind = table.schema.field("neighbors").type
    assert (kind.value_type, kind.list_size) == (pa.int32(), 2)
    assert table.schema.field("distances").type.value_type == pa.float32()
    meta = json.loads(table.schema.metadata[b"d2"])
    assert (meta["kind"], meta["key"], meta["n_rows"]) == ("graph", "abc", 3)


@pytest.mark.parametrize("make", [make_graph, make_scores])
def test_written_twice_the_bytes_are_the_same(tmp_path, make):
    write_artifact(tmp_path / "a.parquet", make())
    write_artifact(tmp_path / "b.parquet", make())

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert to_stream(make()) == to_stream(make())


def test_scores_that_were_read_are_written_with_the_same_bytes(tmp_path, scores):
    write_artifact(tmp_path / "a.parquet", scores)

    write_artifact(tmp_path / "b.parquet", read_artifact(str(tmp_path / "a.parquet"), "scores"))

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("make", [make_graph, make_scores])
@pytest.mark.parametrize(
    "layout",
    [
        {"compression": "zstd"},
        {"compression": "snappy", "use_dictionary": True, "write_statistics": True},
        {"row_group_size": 1},
        {"row_group_size": 2, "data_page_version": "2.0"},
        {"write_page_checksum": False},
    ],
    ids=lambda layout: ", ".join(layout),
)
def test_the_layout_of_the_bytes_does_not_matter(tmp_path, make, layout):
    artifact = make()
    meta = {b"d2": json.dumps(artifact.meta).encode()}

    pq.write_table(artifact.table.replace_schema_metadata(meta), tmp_path / "a", **layout)

    assert contents(read_artifact(str(tmp_path / "a"), artifact.meta["kind"])) == contents(artifact)


@given(
    n=st.integers(0, 60),
    width=st.integers(1, 5),
    group=st.integers(1, 70),
    portion=st.integers(1, 400),
)
@settings(max_examples=60, deadline=None)
def test_lists_read_in_portions_are_the_lists_written(tmp_path_factory, n, width, group, portion):
    values = np.arange(n * width, dtype=np.float32).reshape(n, width)
    path = tmp_path_factory.mktemp("lists") / "t.parquet"
    table = pa.table({"distances": lists(values)}, metadata={b"d2": b"{}"})
    pq.write_table(table, path, row_group_size=group)

    with pytest.MonkeyPatch.context() as patch, pq.ParquetFile(path) as file:
        patch.setattr(artifact_tables, "PORTION", portion)
        read = artifact_tables._read_columns("g.parquet", file)

    assert read.schema == pq.read_schema(path)
    np.testing.assert_array_equal(flat_values(column_of(read, "distances")), values.ravel())


def test_a_graph_is_read_without_a_second_copy_of_its_columns(tmp_path):
    rows = 50_000
    neighbors = np.zeros((rows, 20), np.int32)
    table = pa.table({"neighbors": lists(neighbors), "distances": lists(neighbors.astype("f4"))})
    write_artifact(
        tmp_path / "g.parquet", seal("graph", table, key="k", parameters={}, inputs={}, results={})
    )
    code = (
        "import pyarrow as pa, tracemalloc\n"
        "from d2cli.files.artifacts import read_artifact\n"
        "pa.array([0])\n"  # loads pandas where it is installed
        "tracemalloc.start()\n"  # what NumPy holds; Arrow counts its own
        "read = read_artifact('g.parquet', 'graph')\n"
        "numpy = tracemalloc.get_traced_memory()[1]\n"
        "print(numpy + pa.default_memory_pool().max_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert neighbors.nbytes * 2 <= int(done.stdout) < neighbors.nbytes * 4


def test_columns_and_their_numbers_are_the_memory_of_the_table():
    numbers = np.arange(12, dtype=np.int32)
    table = pa.table({"row": numbers, "neighbors": lists(numbers.reshape(12, 1))})

    assert np.shares_memory(column_of(table, "row").to_numpy(), numbers)
    assert np.shares_memory(flat_values(column_of(table, "neighbors")), numbers)


def test_the_numbers_of_a_slice_are_those_of_its_rows():
    values = np.arange(12, dtype=np.int32).reshape(6, 2)

    assert flat_values(lists(values).slice(2, 3)).tolist() == values[2:5].ravel().tolist()


# --- what comes along -----------------------------------------------------------------------------


def test_scores_through_a_pipe_carry_their_graph(monkeypatch, graph, scores):
    pipe_in(monkeypatch, to_stream(replace(scores, graph=graph)))

    read = read_artifact("-", "scores")

    assert contents(read) == contents(scores)
    assert contents(read.graph) == contents(graph)
    assert read.graph_path is None


def test_a_carried_graph_may_have_ids_of_its_own(monkeypatch, graph):
    table = pa.table({"difficulty": [1.0, 2.0, 3.0], "score": [1.0, 2.0, 3.0]})
    plain = seal("scores", table, key="k", parameters={}, inputs={}, results={})
    without = seal("graph", graph.table.drop_columns("id"), key="k", parameters={}, inputs={},
                   results={})  # fmt: skip
    pipe_in(monkeypatch, to_stream(replace(plain, graph=without)))

    read = read_artifact("-", "scores")

    assert contents(read.graph) == contents(without)


def test_scores_remember_where_their_graph_is(tmp_path, scores):
    write_artifact(tmp_path / "s.parquet", replace(scores, graph_path="../g ä.parquet"))

    read = read_artifact(str(tmp_path / "s.parquet"), "scores")

    assert read.graph_path == "../g ä.parquet"
    assert contents(read) == contents(scores)


def test_the_place_of_the_graph_is_outside_key_and_digest(scores):
    moved = replace(scores, graph_path="elsewhere/g.parquet")

    assert (moved.key, moved.digest) == (scores.key, scores.digest)


# --- keys and digests -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"key": "x"}, {"parameters": {"k": 3}}, {"inputs": {"vectors": "13"}}, {"results": {"r": 2}}],
)
def test_the_digest_covers_the_metadata(graph, changes):
    assert make_graph(**changes).digest != graph.digest


def test_the_key_depends_on_stage_version_parameters_and_inputs():
    keys = {
        stage_key("graph", 1, {"k": 1}, {"vectors": "a"}),
        stage_key("scores", 1, {"k": 1}, {"vectors": "a"}),
        stage_key("graph", 2, {"k": 1}, {"vectors": "a"}),
        stage_key("graph", 1, {"k": 2}, {"vectors": "a"}),
        stage_key("graph", 1, {"k": 1}, {"vectors": "b"}),
        stage_key("graph", 1, {"k": 1, "vectors": "a"}, {}),
    }

    assert len(keys) == 6


# --- refusals -------------------------------------------------------------------------------------


def test_another_kind_is_refused_by_name(tmp_path, scores):
    write_artifact(tmp_path / "s.parquet", scores)

    error = refusal(tmp_path / "s.parquet", "graph")

    assert error.message == f"{tmp_path / 's.parquet'}: is a scores file, expected a graph file"
    assert error.hint == "make one with `d2 graph`"


def test_another_schema_version_is_refused(tmp_path, graph):
    newer = replace(graph, meta={**graph.meta, "schema_version": 99})
    write_artifact(tmp_path / "g.parquet", newer)

    error = refusal(tmp_path / "g.parquet", "graph")

    assert error.message == f"{tmp_path / 'g.parquet'}: has schema version 99, expected 1"


def test_a_foreign_parquet_file_is_refused(tmp_path):
    pq.write_table(pa.table({"neighbors": [[1]], "distances": [[1.0]]}), tmp_path / "g.parquet")

    error = refusal(tmp_path / "g.parquet", "graph")

    assert error.message.endswith("g.parquet: is not written by d2, expected a graph file")


@pytest.mark.parametrize("data", [b"", b"x", b"id,score\n", b"PK\x03\x04", bytes(100)])
def test_a_file_of_another_format_is_refused(tmp_path, data):
    (tmp_path / "g").write_bytes(data)

    assert "is not written by d2" in refusal(tmp_path / "g", "graph").message


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"kind": "graph"}'])
def test_metadata_that_is_not_ours_is_damage(tmp_path, graph, text):
    pq.write_table(graph.table.replace_schema_metadata({b"d2": text}), tmp_path / "g.parquet")

    assert "is damaged" in refusal(tmp_path / "g.parquet", "graph").message


def test_lists_that_are_missing_are_damage(tmp_path, graph):
    kind = graph.table.schema.field("neighbors").type
    holed = graph.table.set_column(1, "neighbors", pa.array([[1, 2], None, [0, -1]], kind))
    write_artifact(tmp_path / "g.parquet", replace(graph, table=holed))

    assert "is damaged" in refusal(tmp_path / "g.parquet", "graph").message


def test_a_column_that_stands_twice_is_damage(tmp_path, graph):
    twice = graph.table.append_column("neighbors", graph.table.column("neighbors"))
    write_artifact(tmp_path / "g.parquet", replace(graph, table=twice))

    assert "is damaged" in refusal(tmp_path / "g.parquet", "graph").message


def test_columns_that_no_artifact_has_are_left_alone(tmp_path, graph):
    more = graph.table.append_column("a.b", pa.array([1, 2, 3]))
    write_artifact(tmp_path / "g.parquet", replace(graph, table=more))

    assert contents(read_artifact(str(tmp_path / "g.parquet"), "graph")) == contents(graph)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError) as caught:
        read_artifact(str(tmp_path / "none.parquet"), "scores")

    assert caught.value.message == f"{tmp_path / 'none.parquet'}: no such file"
    assert caught.value.hint == "make it with `d2 score`"


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_artifact(str(tmp_path), "scores")


def test_an_empty_pipe_is_refused(monkeypatch):
    pipe_in(monkeypatch, b"")

    with pytest.raises(InputError, match="standard input is empty"):
        read_artifact("-", "graph")


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.take([0, 2, 1]),
        lambda table: table.slice(0, 2),
        lambda table: pa.concat_tables([table, table.slice(0, 1)]),
        lambda table: table.drop_columns("id"),
        lambda table: table.rename_columns(["id", "distances", "neighbors"]),
        lambda table: table.set_column(0, "id", pa.array(["a", "", "x"], pa.large_string())),
    ],
    ids=["order", "fewer rows", "more rows", "no ids", "swapped names", "another id"],
)
def test_columns_that_were_edited_are_damage(tmp_path, graph, change):
    write_artifact(tmp_path / "g.parquet", replace(graph, table=change(graph.table)))

    assert "do not match its digest" in refusal(tmp_path / "g.parquet", "graph").message


@pytest.mark.parametrize("field", ["key", "parameters", "inputs", "results", "versions", "n_rows"])
def test_metadata_that_was_edited_is_damage(tmp_path, graph, field):
    write_artifact(tmp_path / "g", replace(graph, meta={**graph.meta, field: "other"}))

    assert "do not match its digest" in refusal(tmp_path / "g", "graph").message


def test_a_carried_graph_that_was_edited_is_damage(monkeypatch, graph, scores):
    edited = replace(graph, table=graph.table.take([2, 1, 0]).drop_columns("id"))
    pipe_in(monkeypatch, to_stream(replace(scores, graph=edited)))

    with pytest.raises(ArtifactError, match="standard input"):
        read_artifact("-", "scores")


def test_every_truncated_file_is_refused(tmp_path, graph):
    path = tmp_path / "g.parquet"
    write_artifact(path, graph)
    data = path.read_bytes()

    for kept in range(0, len(data), 7):
        path.write_bytes(data[:kept])
        refusal(path, "graph")


@pytest.mark.parametrize("make", [make_graph, make_scores])
@pytest.mark.parametrize("in_file", [True, False], ids=["parquet", "stream"])
def test_a_flipped_bit_is_an_error_or_changes_nothing(tmp_path, make, in_file):
    artifact, path = make(), tmp_path / "a"
    path.write_bytes(to_stream(artifact))
    if in_file:
        write_artifact(path, artifact)
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), 0

    for position in rng.choice(len(data), 300, replace=False):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read = read_artifact(str(path), artifact.meta["kind"])
        except (ArtifactError, InputError):
            refused += 1
            continue
        assert contents(read) == contents(artifact), f"byte {position}"

    assert refused > 100


def test_a_read_that_the_system_fails_is_no_damage(tmp_path, monkeypatch):
    write_artifact(tmp_path / "g.parquet", make_graph())

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(artifact_tables, "_read_columns", fail)
    with pytest.raises(InputError) as caught:
        read_artifact(tmp_path / "g.parquet", "graph")
    assert caught.value.message == f"{tmp_path / 'g.parquet'}: cannot be read: Input/output error"


@pytest.mark.parametrize(
    "text", [b"[" * 3000, b'{"kind":' * 2500, b'{"kind":"graph","schema_version":1e999}']
)
def test_metadata_that_cannot_be_read_are_damage(d2, tmp_path, text):
    table = pa.table({"score": [1.0]}).replace_schema_metadata({b"d2": text})
    pq.write_table(table, tmp_path / "graph.parquet")
    code, _, err = d2("score", tmp_path / "graph.parquet", "--difficulty", "uniform")
    assert (code, len(err.splitlines())) == (4, 2), err
