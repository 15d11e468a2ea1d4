"""The helpers of the benchmarks: generated data, recall, repeats, tables. Nothing is timed here."""

import json

import numpy as np
import pytest
from bench import cluster_cost
from bench.cluster_runs import RATE, random_graph
from bench.data import Source, generate
from bench.tables import Entry, Table, document, ratio_text
from bench.timing import interleave, medians
from bench.truth import Truth
from oracles import exact_neighbors

from d2cli.files.stages import graph_of
from d2cli.params import ScoreParams, SelectParams
from d2cli.pipeline.steps import Counting, Steps
from d2cli.stages.difficulty import orient
from d2cli.stages.executor import InProcess
from d2cli.stages.forward import Forward
from d2cli.stages.graph_cut import divide
from d2cli.stages.parts import even_parts
from d2cli.stages.rounds import Rounds
from d2cli.stages.score import score_rows
from d2cli.stages.selection import select_coreset


@pytest.fixture
def table():
    def runs(*seconds, recall):
        return [{"seconds": each, "cpu_seconds": each / 2, "recall": recall} for each in seconds]

    entries = [
        Entry("d2 fast", "target 0.99", runs(2.0, 1.0, 9.0, recall=0.991)),
        Entry("plain", "ef 40", runs(10.0, 12.0, 11.0, recall=0.99)),
        Entry("coarse", "ef 10", runs(5.0, 5.0, 5.0, recall=0.9)),
    ]
    ratios = [("seconds", "d2 fast"), ("seconds", "coarse")]
    return Table("Graph", "Three methods.", ["seconds", "recall"], ratios, entries, 0.99)


def test_generated_vectors_are_repeatable_unit_vectors():
    vectors = generate("clustered", 300, 16)

    np.testing.assert_array_equal(vectors, generate("clustered", 300, 16))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert vectors.dtype == np.float32
    assert not np.array_equal(vectors, generate("unclustered", 300, 16))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("clustered", Source("clustered")),
        ("unclustered:200x8", Source("unclustered", 200, 8)),
        ("cifar10:500", Source("cifar10", 500)),
    ],
)
def test_sets_are_named_with_their_size(text, source):
    assert Source.parse(text) == source


@pytest.mark.parametrize("text", ["mnist", "cifar10:500x8"])
def test_unknown_sets_are_refused(text):
    with pytest.raises(ValueError, match="is no set"):
        Source.parse(text)


def test_recall_counts_distances_and_neither_self_nor_repeats(cloud):
    exact, _ = exact_neighbors(cloud, 5)
    truth = Truth.of(cloud, 5)
    own = np.arange(len(cloud))[:, None]

    assert truth.recall(exact) == 1
    assert truth.recall(np.hstack([own, exact])) == 1
    assert truth.recall(np.hstack([own, exact[:, :4]])) == 0.8
    assert truth.recall(np.hstack([exact[:, :4], exact[:, :1]])) == 0.8
    assert truth.recall(np.hstack([exact[:, :4], np.full_like(own, -1)])) == 0.8


def test_repeats_are_interleaved():
    calls = []

    def subject(name):
        def run():
            calls.append(name)
            return {"seconds": float(len(calls))}

        return run

    runs = interleave({name: subject(name) for name in "ab"}, 3)

    assert calls == list("ababab")
    assert medians(runs["b"]) == {"seconds": 4}


def test_ratios_are_those_of_medians_and_of_enough_recall(table):
    lines = table.markdown().splitlines()[-3:]

    assert lines == [
        "| d2 fast | target 0.99 | 2 | 0.9910 | 1.0 | - |",
        "| plain | ef 40 | 11 | 0.9900 | 5.5 | - |",
        "| coarse | ef 10 | 5 | 0.9000 | (2.5) | - |",
    ]


def test_ratios_of_cpu_time_say_so(table):
    assert "| CPU time / d2 fast |" in table.markdown("cpu_seconds")


def test_tables_survive_json(table):
    again = Table.from_json(json.loads(json.dumps(table.as_json())))

    assert document({"processor": "x"}, [again]) == document({"processor": "x"}, [table])


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.123, "0.12"), (0.999, "1.0"), (9.96, "10"), (1234.5, "1,234")]
)
def test_ratios_have_two_digits(ratio, text):
    assert ratio_text(ratio, 1.0) == text


class Boxed(InProcess):
    """Hands out boxes, as a cluster does, so that what is put counts once."""

    def put(self, value):
        return lambda: value

    def submit(self, function, *arguments):
        return super().submit(function, *(a() if callable(a) else a for a in arguments))

    def go_on(self, function, part, *arguments, anew):
        return super().go_on(function, part(), *arguments, anew=anew)


@pytest.mark.parametrize("n_parts", [2, 5])
def test_the_model_of_a_cluster_predicts_what_moves(n_parts):
    n = 3000
    artifact = random_graph(n)
    graph = graph_of(artifact)
    steps = Steps("")
    difficulty = orient(np.random.default_rng(0).random(n), "high", shift=ScoreParams().shift)
    parts = even_parts(n, n_parts)
    forward = Forward(parts, Counting(Boxed(), steps, moves=True))
    params = ScoreParams(rate=RATE, prune_hardest=0.0)
    scores = score_rows(graph, difficulty, params, forward=forward)
    moved = {f"score, {way}": steps.total(f"bytes_{way}") for way in ("sent", "received")}

    steps = Steps("")
    counting = Counting(Boxed(), steps, moves=True)
    found = cluster_cost.constants_of(graph, scores, n_parts)
    rounds = Rounds.of(divide(graph.adjacency, n_parts), counting)
    select_coreset(graph, scores, SelectParams(rate=RATE), rounds=rounds)
    moved |= {f"select, {way}": steps.total(f"bytes_{way}") for way in ("sent", "received")}

    model = cluster_cost.predict(found, n, n_parts)
    for name, count in moved.items():
        assert count == pytest.approx(model[name], rel=0.01), name
    assert model["select, rounds"] * n_parts <= steps.total("tasks")
