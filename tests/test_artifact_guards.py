"""What is told of artifacts without their rows, and what reading them asks for and refuses."""

import json
import os
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from test_artifacts import contents, lists, make_graph, make_scores, pipe_in

from d2cli.errors import ArtifactError, DamagedError, InputError, ResourceError
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


# --- the digest, and where artifacts come from ----------------------------------------------------


def test_the_digest_is_that_of_the_metadata_and_of_each_name_kind_and_value():
    graph = make_graph()
    rest = {name: value for name, value in graph.meta.items() if name != "digest"}
    state = blake3(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
    texts, ends = "aä→".encode(), np.array([0, 1, 1, 1 + len("ä→".encode())])
    state.update(b"id" + blake3(b"large_string3" + ends.tobytes() + texts).hexdigest().encode())
    for name, kind in (("neighbors", "<i4"), ("distances", "<f4")):
        values = graph.table.column(name).combine_chunks().flatten().to_numpy()
        state.update(f"{name}{kind}2".encode() + values.tobytes())

    assert graph.digest == state.hexdigest()


def test_a_column_under_another_name_is_damage(tmp_path):
    made = seal("difficulty", pa.table({"entropy": [0.5, 2.0]}), key="k", parameters={}, inputs={},
                results={})  # fmt: skip
    meta = {b"d2": canonical_json(made.meta).encode()}
    pq.write_table(made.table.replace_schema_metadata(meta), tmp_path / "d.parquet")
    assert contents(read_artifact(tmp_path / "d.parquet", "difficulty")) == contents(made)

    renamed = made.table.rename_columns(["variance"])
    pq.write_table(renamed.replace_schema_metadata(meta), tmp_path / "d.parquet")
    with pytest.raises(DamagedError, match="do not match its digest"):
        read_artifact(tmp_path / "d.parquet", "difficulty")


@pytest.mark.parametrize("make", [make_graph, make_scores])
@pytest.mark.parametrize("in_file", [True, False], ids=["parquet", "stream"])
def test_an_artifact_is_read_from_a_named_pipe(tmp_path, make, in_file):
    artifact = make()
    write_artifact(tmp_path / "a.parquet", artifact)
    data = (tmp_path / "a.parquet").read_bytes() if in_file else to_stream(artifact)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()

    read = read_artifact(tmp_path / "pipe", artifact.meta["kind"])

    writer.join()
    assert contents(read) == contents(artifact)


def test_a_slash_after_the_name_of_an_artifact_is_refused(tmp_path):
    write_artifact(tmp_path / "g.parquet", make_graph())

    with pytest.raises(InputError, match=r"g\.parquet/"):
        read_artifact(f"{tmp_path}/g.parquet/", "graph")


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
            "distances": lists(numbers[:, :3].astype(np.float32)),  # the memory follows neighbors
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
            "work on a graph of 30 rows x 4 neighbors",
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


def test_a_column_that_stands_twice_is_told(tmp_path):
    graph = make_graph()
    twice = graph.table.append_column("neighbors", graph.table.column("neighbors"))
    meta = {b"d2": canonical_json(graph.meta).encode()}
    pq.write_table(twice.replace_schema_metadata(meta), tmp_path / "g.parquet")

    with pytest.raises(DamagedError, match="cut short: a column stands twice"):
        read_artifact(tmp_path / "g.parquet", "graph")


def zigzag(number):
    """Return how Parquet's footer writes a number."""
    number, out = 2 * number, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("told", [7000, 2**30])
def test_a_footer_that_miscounts_its_rows_is_damage_before_there_is_room_for_them(tmp_path, told):
    path, table = tmp_path / "g.parquet", pa.table({"distances": lists(np.zeros((7001, 2)))})
    pq.write_table(table.replace_schema_metadata({b"d2": b"{}"}), path, row_group_size=3000)
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[start:-8]
    assert footer.count(zigzag(7001)) == 1  # row groups have 3000, 3000 and 1001
    footer = footer.replace(zigzag(7001), zigzag(told))
    path.write_bytes(data[:start] + footer + len(footer).to_bytes(4, "little") + data[-4:])

    with pytest.raises(DamagedError, match=f"the footer counts {told:,} rows"):
        read_artifact(path, "graph")


def test_what_is_empty_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError):
        read_artifact("/dev/null", "graph")
    (tmp_path / "g.parquet").touch()
    with pytest.raises(ArtifactError):
        read_artifact(tmp_path / "g.parquet", "graph")


def test_ids_of_a_file_that_has_lost_its_schema_are_of_the_type_they_were(tmp_path):
    plain, lost = tmp_path / "plain.parquet", tmp_path / "lost.parquet"
    write_artifact(plain, make_scores())
    name = b"ARROW:schema"
    assert plain.read_bytes().count(name) == 1
    lost.write_bytes(plain.read_bytes().replace(name, bytes(len(name))))
    assert pq.read_schema(lost).field("id").type == pa.string()

    table = read_artifact(lost, "scores").table

    assert table.schema.field("id").type == pa.large_string()
    assert table.equals(read_artifact(plain, "scores").table)
