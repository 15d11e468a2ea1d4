"""The commands as functions on arrays."""

import numpy as np
import pyarrow.parquet as pq

import d2cli


def test_functions_pick_what_the_command_picks(sample_data, tmp_path, d2):
    table = pq.read_table(sample_data / "clinc150.parquet")
    vectors = np.load(sample_data / "embeddings.npy")
    aum, label = table["aum"].to_numpy(), table["label"].to_numpy()

    graph = d2cli.graph(vectors, within=label)
    given = {"harder": "low", "rate": 0.9, "group": label, "prune_hardest": "auto"}
    scores = d2cli.score(graph, aum, **given)
    selection = d2cli.select(scores, graph, rate=0.9, group=label)
    rows = d2cli.prune(vectors, aum, within=label, **given)

    code, _, _ = d2(
        *("prune", sample_data / "clinc150.parquet", "--difficulty", "aum", "--rate", 0.9),
        *("--within", "label", "--group", "label", "-o", tmp_path / "keep.parquet"),
    )
    kept = pq.read_table(tmp_path / "keep.parquet").sort_by("rank")
    assert code == 0
    np.testing.assert_array_equal(kept["row"].to_numpy(), selection.rows)
    np.testing.assert_array_equal(kept["score_at_pick"].to_numpy(), selection.scores)
    np.testing.assert_array_equal(selection.rows, rows)


def test_include_and_exclude_take_row_numbers(cloud):
    graph = d2cli.graph(cloud)
    scores = d2cli.score(graph, None)
    selection = d2cli.select(scores, graph, keep=5, include=[7, 3], exclude=[1])
    assert selection.rows[:2].tolist() == [7, 3]
    assert 1 not in selection.rows


def test_inputs_are_not_modified(cloud):
    before = cloud.copy()
    difficulty = np.arange(len(cloud), dtype=float)
    d2cli.prune(cloud, difficulty, rate=0.5, metric="cosine")
    np.testing.assert_array_equal(cloud, before)
    np.testing.assert_array_equal(difficulty, np.arange(len(cloud)))


def test_public_names_are_all_there():
    for name in d2cli.__all__:
        assert getattr(d2cli, name) is not None
