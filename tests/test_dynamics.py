"""Difficulty from dynamics against slow loops that follow the papers word by word."""

import itertools
import math

import numpy as np
import pytest

from d2cli.errors import InputError, ParameterError
from d2cli.params import DynamicsParams
from d2cli.stages.dynamics import (
    HARDER,
    EpochCheck,
    Reading,
    Tally,
    check_labels,
    looks_like_probabilities,
    read_outputs,
)
from d2cli.stages.graph import KnnGraph
from d2cli.stages.groups import group_by
from d2cli.stages.neighborhood import label_disagreement, neighbor_distance
from d2cli.stages.recall import Recall

EPOCHS, ROWS, CLASSES = 7, 40, 4


@pytest.fixture
def logits():
    """Logits rounded so coarsely that classes often tie."""
    rng = np.random.default_rng(5)
    return np.round(rng.normal(size=(EPOCHS, ROWS, CLASSES)) * 2).astype(np.float16)


@pytest.fixture
def labels():
    return np.random.default_rng(6).integers(0, CLASSES, ROWS)


def softmax(row):
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def oracle(logits, labels, el2n_epochs, window):
    """Compute every column row by row from its published definition."""
    columns = {name: [] for name in HARDER}
    for i, label in enumerate(labels):
        log = [[float(value) for value in epoch[i]] for epoch in logits]
        right = [row.index(max(row)) == label for row in log]
        chances = [softmax(row) for row in log]
        p = [row[label] for row in chances]
        lost = sum(a and not b for a, b in itertools.pairwise(right))
        columns["forgetting"].append(lost if any(right) else len(log))
        columns["ever_correct"].append(any(right))
        margins = [row[label] - max(row[:label] + row[label + 1 :]) for row in log]
        columns["aum"].append(sum(margins) / len(log))
        errors = [math.dist(row, [float(c == label) for c in range(len(row))]) for row in chances]
        columns["el2n"].append(sum(errors[:el2n_epochs]) / el2n_epochs)
        columns["entropy"].append(-sum(q * math.log(q) for q in chances[-1]))
        mean = sum(p) / len(p)
        variance = sum((q - mean) ** 2 for q in p) / len(p)
        columns["confidence"].append(mean)
        columns["variance"].append(variance)
        columns["variability"].append(math.sqrt(variance))
        spreads, duals = [], []
        for start in range(len(p) - window + 1):
            part = p[start : start + window]
            center = sum(part) / window
            spreads.append(math.sqrt(sum((q - center) ** 2 for q in part) / (window - 1)))
            duals.append((1 - center) * spreads[-1])
        columns["dynamic_uncertainty"].append(sum(spreads) / len(spreads))
        columns["dual"].append(sum(duals) / len(duals))
    return columns


def run(logs, labels, values="logits", *, el2n_epochs=3, window=4, parts=(slice(0, ROWS),)):
    tally = Tally(len(labels), len(logs), el2n_epochs=el2n_epochs, window=window)
    for epoch, outputs in enumerate(logs):
        for rows in parts:
            tally.add(epoch, rows, read_outputs(outputs[rows], labels[rows], values))
    return tally.columns()


@pytest.mark.parametrize("window", [2, 4, EPOCHS])
def test_columns_equal_their_definitions(logits, labels, window):
    found = run(logits, labels, window=window)
    expected = oracle(logits, labels, 3, window)
    assert list(found) == list(HARDER)
    for name, values in found.items():
        if name in ("forgetting", "ever_correct"):
            assert values.tolist() == expected[name]
        else:
            np.testing.assert_allclose(values, expected[name], rtol=1e-12, atol=1e-14)


def test_the_parts_of_an_epoch_and_their_order_do_not_matter(logits, labels):
    shuffled = np.random.default_rng(0).permutation(ROWS)
    parts = (shuffled[:13], shuffled[13:14], shuffled[14:])
    whole, pieces = run(logits, labels), run(logits, labels, parts=parts)
    for name in whole:
        np.testing.assert_array_equal(whole[name], pieces[name])


def test_probabilities_say_what_their_logits_say(logits, labels):
    chances = np.array([[softmax(row) for row in epoch.astype(float)] for epoch in logits])
    by_logits, by_chances = run(logits, labels), run(chances, labels, "probabilities")
    np.testing.assert_array_equal(by_logits["ever_correct"], by_chances["ever_correct"])
    for name in by_logits:
        np.testing.assert_allclose(by_logits[name], by_chances[name], rtol=1e-9, atol=1e-12)


def test_a_probability_of_zero_has_a_finite_margin():
    reading = read_outputs(np.array([[1.0, 0.0]]), np.array([1]), "probabilities")
    assert reading.margin[0] == pytest.approx(math.log(1e-12))
    assert reading.entropy[0] == 0


def test_ties_go_to_the_lowest_class():
    reading = read_outputs(np.zeros((3, 3)), np.array([0, 1, 2]), "logits")
    assert reading.right.tolist() == [True, False, False]


def test_a_row_that_was_never_right_is_the_hardest():
    wrong = np.tile([[0.0, 1.0]], (6, 1, 1))
    learned_late = wrong.copy()
    learned_late[-1] = [[1.0, 0.0]]
    logs = np.concatenate([wrong, learned_late], axis=1)
    found = run(logs, np.array([0, 0]), parts=(slice(0, 2),))
    assert found["forgetting"].tolist() == [6, 0]
    assert found["ever_correct"].tolist() == [False, True]


def test_huge_logits_do_not_overflow():
    reading = read_outputs(np.array([[6e4, -6e4]], dtype=np.float16), np.array([1]), "logits")
    assert reading.probability[0] == 0
    assert reading.entropy[0] == 0
    assert reading.error[0] == pytest.approx(math.sqrt(2))


def test_the_probability_of_the_label_alone_gives_five_columns(logits, labels):
    tally = Tally(ROWS, EPOCHS, el2n_epochs=3, window=4)
    for epoch, outputs in enumerate(logits):
        whole = read_outputs(outputs, labels, "logits")
        tally.add(epoch, slice(0, ROWS), Reading(whole.probability))
    found, expected = tally.columns(), run(logits, labels)
    assert list(found) == list(HARDER)[5:]
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_constant_probability_has_no_variance():
    tally = Tally(1, 1000, el2n_epochs=5, window=10)
    for epoch in range(1000):
        tally.add(epoch, slice(0, 1), Reading(np.array([0.1])))
    found = tally.columns()
    assert found["variance"][0] == 0
    assert found["dual"][0] == pytest.approx(0, abs=1e-15)


def test_probabilities_are_known_by_their_sums():
    assert looks_like_probabilities(np.array([[0.3, 0.695], [0.5, 0.5]]))
    assert not looks_like_probabilities(np.array([[0.3, 0.6], [0.5, 0.5]]))
    assert not looks_like_probabilities(np.array([[-0.5, 1.5]]))
    assert not looks_like_probabilities(np.empty((0, 2)))


def test_bad_rows_are_counted_and_the_first_is_named():
    def refusal(outputs, rows=slice(0, 3), values="logits"):
        check = EpochCheck(3, values)
        check.admit(rows, np.array(outputs))
        with pytest.raises(InputError) as caught:
            check.refuse("log.npy: epoch 2")
        return caught.value.message

    nan, inf = math.nan, math.inf
    assert refusal([[0, 0], [0, nan], [nan, 0]]) == (
        "log.npy: epoch 2: row 1 holds NaN (2 rows in all)"
    )
    assert "row 2 holds an infinite value (1 row" in refusal([[0, 0], [0, 0], [inf, 0]])
    assert "row 0 holds no probabilities" in refusal(
        [[0.5, 0.4], [0, 1], [1, 0]], values="probabilities"
    )
    assert "row 1 holds no probability: " in refusal([0.5, 1.5, 0.2], values="probabilities")
    assert "row 1 is missing (1 row in all)" in refusal([[0, 1], [1, 0]], np.array([2, 0]))
    again = refusal([[0, 1], [1, 0], [1, 1], [0, 0]], np.array([2, 0, 0, 1]))
    assert "row 0 stands there more than once" in again


def test_labels_must_be_numbers_of_classes():
    with pytest.raises(InputError, match=r"^row 1 has the label 3, expected 0 to 2 \(2 rows"):
        check_labels(np.array([0, 3, -1]), 3)
    with pytest.raises(InputError, match="one class only: every label is 2"):
        check_labels(np.array([2, 2]), 3)
    check_labels(np.array([0, 2, 1]), 3)
    check_labels(np.array([0, 200]), None)


def test_epochs_default_to_what_there_is():
    params = DynamicsParams()
    assert (params.el2n_epochs_of(3), params.window_of(9)) == (3, None)
    assert (params.el2n_epochs_of(15), params.window_of(10)) == (5, 10)
    with pytest.raises(ParameterError, match="window is 9, but there are 8 epochs"):
        DynamicsParams(window=9).window_of(8)
    with pytest.raises(ParameterError, match="window is 1"):
        DynamicsParams(window=1)
    with pytest.raises(ParameterError, match="el2n-epochs is 0"):
        DynamicsParams(el2n_epochs=0)


# --- graphs ---------------------------------------------------------------------------------------


def test_neighbors_far_away_or_of_another_label_are_hard():
    neighbors = np.array([[1, 2], [0, 2], [1, -1], [-1, -1]], dtype=np.int32)
    distances = np.array([[1, 3], [1, 2], [2, np.inf], [np.inf, np.inf]], dtype=np.float32)
    graph = KnnGraph(
        neighbors, distances, None, "exact", Recall(value=1.0, sample_size=0, target=1.0)
    )
    labels = group_by(np.array(["a", "a", "b", "b"]))
    assert neighbor_distance(graph).tolist() == [2.0, 1.5, 2.0, 2.0]
    assert label_disagreement(graph, labels).tolist() == [0.5, 0.5, 1.0, 0.0]


def test_infinities_of_both_signs_are_no_probabilities():
    assert not looks_like_probabilities(np.array([[np.inf, -np.inf, 0.0]]))
