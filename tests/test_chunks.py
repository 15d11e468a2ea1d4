"""Column chunks as the footer tells them, without pyarrow's objects that abort on damage."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.files.chunks import MOST_GROUPS, first_groups, read_footer


def table(n=50):
    nested = pa.array([{"a": i, "b": [i]} for i in range(n)])
    return pa.table(
        {
            "id": [f"r{i}" for i in range(n)],
            "v": pa.array(np.ones((n, 3)).tolist(), pa.list_(pa.float32())),
            "a.dot": np.arange(n),
            "nested": nested,
        }
    )


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("dictionary", [True, False, ["id"]])
def test_chunks_are_those_that_pyarrow_tells(tmp_path, codec, dictionary):
    path = tmp_path / "t.parquet"
    pq.write_table(table(), path, compression=codec, use_dictionary=dictionary, row_group_size=20)
    metadata = pq.read_metadata(path)

    groups = first_groups(read_footer(str(path)))

    assert len(groups) == 3
    for at, chunks in enumerate(groups):
        stored = [metadata.row_group(at).column(leaf) for leaf in range(metadata.num_columns)]
        tops = ["id", "v", "a.dot", "nested", "nested"]
        assert [chunk.column for chunk in chunks] == tops
        assert [chunk.size for chunk in chunks] == [c.total_uncompressed_size for c in stored]
        assert [chunk.dictionary for chunk in chunks] == [c.has_dictionary_page for c in stored]
        codecs = [c.compression.lower().replace("uncompressed", "none") for c in stored]
        assert [chunk.codec for chunk in chunks] == codecs


def test_of_many_row_groups_the_first_are_read(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(table(50), path, row_group_size=1)

    assert len(first_groups(read_footer(str(path)))) == MOST_GROUPS


@pytest.mark.parametrize(
    "command", ["graph {} -k 3 -o g.parquet", "export rows.npy --source {} -o x.jsonl"]
)
def test_a_footer_that_contradicts_itself_is_refused(tmp_path, command):
    """A column that is no longer optional has too many counts of levels.

    What pyarrow throws when it looks at such a chunk has nobody to catch it.
    """
    pq.write_table(table(), tmp_path / "t.parquet", use_dictionary=False)
    np.save(tmp_path / "rows.npy", np.arange(5))
    data = (tmp_path / "t.parquet").read_bytes()
    optional = b"\x25\x02\x18\x02id"  # repetition 1, and the name
    assert optional in data
    (tmp_path / "t.parquet").write_bytes(data.replace(optional, b"\x25\x00\x18\x02id"))

    done = subprocess.run(
        [sys.executable, "-m", "d2cli", *command.format("t.parquet").split()],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, "cannot be read: " in done.stderr) == (3, True)
