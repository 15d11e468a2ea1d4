"""What is told of artifacts without their rows, and what reading them asks for and refuses."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_artifacts import lists, make_graph, make_scores, pipe_in

from d2cli.errors import DamagedError, ResourceError
from d2cli.files import artifact_tables, memory
from d2cli.files.artifacts import (
    peek,
    peek_artifact,
    read_artifact,
    seal,
    to_stream,
    write_artifact,
)
from d2cli.files.digests import canonical_json

# --- without the rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_graph, make_scores])
def test_a_look_tells_what_was_sealed_and_reads_no_rows(tmp_path, make):
    artifact = write_artifact(tmp_path / "a.parquet", make())

    seen = peek_artifact(tmp_path / "a.parquet")

    assert seen is not None
    assert (seen.name, seen.key, seen.digest) == (artifact.name, artifact.key, artifact.digest)
    assert peek(tmp_path / "a.parquet") == seen.meta == artifact.meta
    assert seen.table.num_columns == 0


@pytest.mark.parametrize("lost", ["kind", "key", "digest", "parameters", "inputs"])
def test_a_look_at_metadata_without_what_each_artifact_says_finds_none(tmp_path, lost):
    graph = make_graph()
    meta = {name: value for name, value in graph.meta.items() if name != lost}
    table = graph.table.replace_schema_metadata({b"d2": canonical_json(meta).encode()})
    pq.write_table(table, tmp_path / "g.parquet")

    assert peek(tmp_path / "g.parquet") == meta
    assert peek_artifact(tmp_path / "g.parquet") is None


@pytest.mark.parametrize("text", [b"{", b"[1]", b"7", b"null", b"\xff", b"[" * 3000])
def test_a_look_at_other_metadata_finds_nothing(tmp_path, text):
    pq.write_table(make_graph().table.replace_schema_metadata({b"d2": text}), tmp_path / "g")

    assert peek(tmp_path / "g") == {}
    assert peek_artifact(tmp_path / "g") is None


@pytest.mark.parametrize("data", [None, b"", b"id,score\n", b"PAR1PAR1"])
def test_a_look_at_no_artifact_finds_nothing(tmp_path, data):
    if data is not None:
        (tmp_path / "g").write_bytes(data)

    assert peek(tmp_path / "g") == {}
    assert peek(tmp_path) == {}
    assert peek_artifact(tmp_path / "g") is None


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_file", [True, False], ids=["parquet", "stream"])
def test_before_rows_are_read_the_graph_made_of_them_and_plain_columns_are_asked_for(
    tmp_path, monkeypatch, in_file
):
    n, k = 30, 4
    numbers = np.zeros((n, k), np.int32)
    table = pa.table(
        {
            "id": pa.array([f"r{row}" for row in range(n)], pa.large_string()),
            "within": pa.array(["a"] * n, pa.large_string()),
            "neighbors": lists(numbers),
            "distances": lists(numbers.astype(np.float32)),
        }
    )
    graph, path = (
        seal("graph", table, key="k", parameters={}, inputs={}, results={}),
        tmp_path / "g",
    )
    path.write_bytes(to_stream(graph))
    if in_file:
        write_artifact(path, graph)
    asked = []
    monkeypatch.setattr(memory, "require", lambda *what, hint: asked.append(what))

    read_artifact(path, "graph")

    assert asked == [
        (
            str(path),
            "pass messages over 30 rows x 4 neighbors",
            memory.LIBRARIES + memory.graph_bytes(n, k),
        ),
        (str(path), "read the columns", 2 * 16.0 * n),  # id and within
    ]


def test_an_artifact_that_does_not_fit_is_refused_and_not_called_damaged(tmp_path):
    write_artifact(tmp_path / "g.parquet", make_graph())

    with (
        memory.within(memory.Limit(1, "--max-memory")),
        pytest.raises(ResourceError, match=r"g\.parquet: about .* of memory are needed"),
    ):
        read_artifact(tmp_path / "g.parquet", "graph")


@pytest.mark.parametrize("in_file", [True, False], ids=["parquet", "stream"])
def test_memory_that_runs_out_is_no_damage(tmp_path, monkeypatch, in_file):
    (tmp_path / "g").write_bytes(to_stream(make_graph()))
    if in_file:
        write_artifact(tmp_path / "g", make_graph())

    def fail(*_):
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(artifact_tables, "_require", fail)
    with pytest.raises(MemoryError, match="malloc"):
        read_artifact(tmp_path / "g", "graph")


# --- damage that a digest does not show -----------------------------------------------------------


def test_text_that_is_no_utf8_is_damage_though_its_digest_is_right(monkeypatch):
    ends, text = np.array([0, 1, 2, 3], np.int64), pa.py_buffer(b"a\xffb")
    ids = pa.Array.from_buffers(pa.large_string(), 3, [None, pa.py_buffer(ends), text])
    table = pa.table({"id": ids, "score": [1.0, 2.0, 3.0]})
    pipe_in(monkeypatch, to_stream(seal("scores", table, key="k", parameters={}, inputs={},
                                        results={})))  # fmt: skip

    with pytest.raises(DamagedError, match=r"standard input: is damaged or cut short: .*UTF8"):
        read_artifact("-", "scores")


def test_lists_of_a_file_that_has_fewer_than_it_says_are_damage(tmp_path):
    table = pa.table({"distances": lists(np.zeros((6, 2), np.float32))}, metadata={b"d2": b"{}"})
    pq.write_table(table, tmp_path / "g.parquet", row_group_size=3)

    class Short(pq.ParquetFile):
        def iter_batches(self, *_, columns, use_threads, batch_size):
            yield self.read_row_group(0, columns=columns).to_batches()[0]

    with Short(tmp_path / "g.parquet") as file, pytest.raises(ValueError, match="ends early"):
        artifact_tables._read_columns("g.parquet", file)


def test_a_cut_file_is_told_by_the_first_line_of_the_reason_alone(tmp_path):
    write_artifact(tmp_path / "g.parquet", make_graph())
    whole = (tmp_path / "g.parquet").read_bytes()

    for kept in (4, 8, len(whole) // 2, len(whole) - 1):
        (tmp_path / "g.parquet").write_bytes(whole[:kept])
        with pytest.raises(DamagedError) as caught:
            read_artifact(tmp_path / "g.parquet", "graph")
        told = caught.value.message.removeprefix(f"{tmp_path / 'g.parquet'}: is damaged or cut ")
        assert told.startswith("short: ")
        assert len(told) > 12
        assert "\n" not in told
