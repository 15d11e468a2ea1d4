"""Data at the edges of what is defined, through all commands; see tests/soak/degenerate.py."""

import pytest
from soak import degenerate


def test_degenerate_data_give_a_defined_result_or_are_refused():
    broken, line = degenerate.soak(len(degenerate.matrix()))
    print(line)
    assert broken == []


def test_the_matrix_has_about_300_data_sets_all_different():
    matrix = degenerate.matrix()
    assert len(set(matrix)) == len(matrix)
    assert 250 <= len(matrix) <= 350


def test_a_selection_of_other_rows_would_be_noticed(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [0.5, 0.25]
    table = {"row": [3, 3], "rank": [0, 1], "difficulty": numbers, "score": numbers}
    pq.write_table(pa.table(table | {"score_at_pick": numbers}), tmp_path / "k.parquet")
    with pytest.raises(degenerate.Broken, match="rows repeat"):
        degenerate.check_selection(degenerate.Case(4), tmp_path / "k.parquet")
    with pytest.raises(degenerate.Broken, match="expected 20"):
        degenerate.check_selection(degenerate.Case(40), tmp_path / "k.parquet")
    with pytest.raises(degenerate.Broken, match="exit code 2"):
        degenerate.call("graph", "--nonsense")
