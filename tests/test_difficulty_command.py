"""``d2 difficulty`` as a user meets it: every kind of log, every refusal."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

EPOCHS, ROWS, CLASSES = 12, 30, 3


def refused(result, code, *words):
    found, out, err = result
    assert found == code, err
    assert out == ""
    lines = err.strip().splitlines()
    assert lines[-2].startswith("error: "), err
    assert lines[-1].startswith("hint: ")
    for word in words:
        assert word in err


@pytest.fixture
def logits():
    return np.random.default_rng(3).normal(size=(EPOCHS, ROWS, CLASSES)).astype(np.float32)


@pytest.fixture
def chances(logits):
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=2, keepdims=True)


@pytest.fixture
def home(tmp_path, monkeypatch, logits):
    """A folder with train.parquet (id, label, embedding) and log.npy, which one is inside of."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(ROWS, 4)).astype(np.float32)
    columns = {
        "id": [f"row-{i}" for i in range(ROWS)],
        "label": pa.array(rng.integers(0, CLASSES, ROWS), pa.int32()),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4),
    }
    pq.write_table(pa.table(columns), "train.parquet")
    np.save("log.npy", logits)
    return tmp_path


LABELS = ("--labels", "train.parquet::label")


@pytest.fixture
def expected(home, d2):
    assert d2("difficulty", "log.npy", *LABELS, "-o", "expected.parquet")[0] == 0
    return pq.read_table("expected.parquet")


def assert_same_columns(path, expected):
    found = pq.read_table(path)
    assert found.column_names == expected.column_names
    for name in found.column_names:
        if name in ("id", "forgetting", "ever_correct"):
            assert found[name].to_pylist() == expected[name].to_pylist()
        else:
            np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), 1e-9)


# --- logs -----------------------------------------------------------------------------------------


def test_every_column_carries_its_direction(expected):
    harder = {f.name: (f.metadata or {}).get(b"harder") for f in expected.schema}
    assert harder.pop("id") is None
    assert {name for name, way in harder.items() if way == b"low"} == {
        "ever_correct",
        "aum",
        "confidence",
    }
    assert {name for name, way in harder.items() if way == b"high"} == {
        "forgetting",
        "el2n",
        "entropy",
        "variance",
        "variability",
        "dynamic_uncertainty",
        "dual",
    }


def test_it_says_what_it_took_the_log_for(home, d2, chances):
    np.save("chances.npy", chances)
    _, _, err = d2("difficulty", "log.npy", *LABELS, "-o", "d.parquet")
    assert err.splitlines() == [
        "note: log.npy is read as logits; --values says otherwise",
        "difficulty: 30 rows x 12 epochs of logits",
        "  harder when high: forgetting, el2n, entropy, variance, variability, "
        "dynamic_uncertainty, dual",
        "  harder when low: ever_correct, aum, confidence",
    ]
    _, _, err = d2("difficulty", "chances.npy", *LABELS, "-o", "d.parquet")
    assert "chances.npy is read as probabilities" in err
    args = ("chances.npy", *LABELS, "--values", "logits", "-o", "d.parquet")
    assert "note:" not in d2("difficulty", *args)[2]


def test_probabilities_give_what_their_logits_give(home, d2, chances, expected):
    np.save("chances.npy", chances)
    d2("difficulty", "chances.npy", *LABELS, "-o", "d.parquet")
    assert_same_columns("d.parquet", expected)


def test_an_array_may_be_stored_in_any_way(home, d2, shell, logits, expected):
    np.save("f.npy", np.asfortranarray(logits))
    np.save("b.npy", logits.astype(">f4"))
    np.savez("z.npz", log=logits, other=logits[0])
    for name in ("f.npy", "b.npy", "z.npz::log"):
        assert d2("difficulty", name, *LABELS, "-o", "d.parquet", "--force")[0] == 0
        assert_same_columns("d.parquet", expected)
    refused(
        d2("difficulty", "z.npz", *LABELS, "-o", "d.parquet"), 3, "holds 2 arrays", "FILE::NAME"
    )
    done = shell("d2 difficulty --labels train.parquet::label -o p.parquet < log.npy", cwd=home)
    # The fixture's standard input is /dev/null unless the line says otherwise.
    assert done.returncode == 0, done.stderr
    assert_same_columns("p.parquet", expected)


def test_files_come_in_the_order_of_their_numbers(home, d2, logits, expected):
    (home / "logs").mkdir()
    for epoch, outputs in enumerate(logits):
        np.save(f"logs/cifar10_epoch{epoch}.npy", outputs)
    np.save("logs/labels.npy", np.zeros(3))
    for name in ("logs", "logs/cifar10_epoch*.npy"):
        assert d2("difficulty", name, *LABELS, "-o", "d.parquet", "--force")[0] == 0
        assert_same_columns("d.parquet", expected)


def test_parquet_files_are_joined_by_id(home, d2, logits, expected):
    (home / "logs").mkdir()
    ids = np.array([f"row-{i}" for i in range(ROWS)] + ["row-unknown"])
    for epoch, outputs in enumerate(logits):
        order = np.random.default_rng(epoch).permutation(ROWS + 1)
        wide = np.vstack([outputs, np.zeros((1, CLASSES), np.float32)])[order]
        table = pa.table({"id": ids[order], "logits": wide.tolist(), "loss": np.zeros(ROWS + 1)})
        pq.write_table(table, f"logs/{epoch:03d}.parquet")
    assert d2("difficulty", "logs", *LABELS, "-o", "d.parquet")[0] == 0
    assert_same_columns("d.parquet", expected)
    assert d2("difficulty", "logs/*.parquet::logits", *LABELS, "-o", "d.parquet")[0] == 0
    refused(d2("difficulty", "logs/*.parquet::nope", *LABELS, "-o", "d.parquet"), 3, "'nope'")


def long_table(outputs, **columns):
    epochs = len(outputs)
    return pa.table(
        {
            "id": [f"row-{i}" for i in range(ROWS)] * epochs,
            "epoch": np.repeat(np.arange(epochs) * 5, ROWS),
            **columns,
        }
    )


@pytest.mark.parametrize("group_rows", [7, 1000])
def test_a_long_table_may_be_in_any_order(home, d2, logits, expected, group_rows):
    table = long_table(logits, out=logits.reshape(-1, CLASSES).tolist())
    shuffled = table.take(np.random.default_rng(1).permutation(len(table)))
    pq.write_table(shuffled, "long.parquet", row_group_size=group_rows)
    assert d2("difficulty", "long.parquet", *LABELS, "-o", "d.parquet")[0] == 0
    found = pq.read_table("d.parquet")
    # Lists of Python floats are stored as float64 and hold the same float32 numbers.
    assert_same_columns("d.parquet", expected)
    assert found["id"].to_pylist() == [f"row-{i}" for i in range(ROWS)]


def test_the_probability_of_the_label_gives_what_it_defines(home, d2, chances, expected):
    labels = pq.read_table("train.parquet")["label"].to_numpy()
    table = long_table(chances, p=chances[:, np.arange(ROWS), labels].ravel())
    pq.write_table(table, "long.parquet")
    code, _, err = d2("difficulty", "long.parquet", *LABELS, "-o", "d.parquet")
    assert code == 0
    assert "read as the probability of the label" in err
    assert "forgetting, ever_correct, aum, el2n, entropy need the outputs of all classes" in err
    names = ["id", "variance", "variability", "confidence", "dynamic_uncertainty", "dual"]
    assert_same_columns("d.parquet", expected.select(names))
    args = ("long.parquet", *LABELS, "-o", "d.parquet", "--values", "logits")
    refused(d2("difficulty", *args), 2, "one number a row")


def test_labels_without_ids_number_the_rows_of_a_long_table(home, d2, logits, expected):
    np.save("labels.npy", pq.read_table("train.parquet")["label"].to_numpy())
    table = long_table(logits, out=logits.reshape(-1, CLASSES).tolist())
    text = "labels without ids are numbered"
    pq.write_table(table, "long.parquet")
    args = ("--labels", "labels.npy", "-o", "d.parquet")
    refused(d2("difficulty", "long.parquet", *args), 3, text)
    numbers = np.tile(np.arange(ROWS), EPOCHS)
    pq.write_table(table.set_column(0, "id", pa.array(numbers)), "long.parquet")
    assert d2("difficulty", "long.parquet", *args)[0] == 0
    assert_same_columns("d.parquet", expected.drop_columns("id"))


def test_entropy_is_that_of_the_final_model(home, d2, logits, expected):
    np.save("final.npy", logits[-1])
    np.save("other.npy", np.zeros((ROWS, CLASSES)))
    d2("difficulty", "log.npy", *LABELS, "--final", "final.npy", "-o", "d.parquet")
    assert_same_columns("d.parquet", expected)
    d2("difficulty", "log.npy", *LABELS, "--final", "other.npy", "-o", "d.parquet")
    entropy = pq.read_table("d.parquet")["entropy"].to_numpy()
    np.testing.assert_allclose(entropy, np.log(CLASSES))


def test_few_epochs_leave_the_windows_out(home, d2, logits):
    np.save("short.npy", logits[:3])
    _, _, err = d2("difficulty", "short.npy", *LABELS, "-o", "d.parquet")
    assert "too few for a window of 10, so dynamic_uncertainty, dual are left out" in err
    assert "dual" not in pq.read_table("d.parquet").column_names
    args = ("short.npy", *LABELS, "-o", "d.parquet")
    refused(d2("difficulty", *args, "--window", 4), 2, "there are 3 epochs")
    assert d2("difficulty", *args, "--window", 3)[0] == 0
    assert "dual" in pq.read_table("d.parquet").column_names


# --- the file -------------------------------------------------------------------------------------


def test_a_difficulty_file_is_up_to_date_until_something_changes(home, d2, expected):
    args = ("difficulty", "log.npy", *LABELS, "-o", "d.parquet")
    d2(*args)
    before = (home / "d.parquet").read_bytes()
    assert "up to date" in d2(*args)[2]
    assert "up to date" not in d2(*args, "--force")[2]
    assert (home / "d.parquet").read_bytes() == before
    assert "up to date" not in d2(*args, "--el2n-epochs", 2)[2]
    log = np.load("log.npy")
    log[7, 3] += 1
    np.save("log.npy", log)
    assert "up to date" not in d2(*args, "--el2n-epochs", 2)[2]


def test_json_and_quiet(home, d2):
    args = ("difficulty", "log.npy", *LABELS, "-q")
    _, out, err = d2(*args, "--json", "-o", "d.parquet")
    meta = json.loads(out)
    assert err == ""
    assert meta["kind"] == "difficulty"
    assert meta["results"]["harder"]["aum"] == "low"
    assert meta["results"]["n_epochs"] == EPOCHS
    refused(d2(*args, "--json"), 2, "-o")


def test_score_takes_the_direction_from_the_column(home, d2, expected):
    d2("graph", "train.parquet", "-o", "g.parquet", "-k", 3)

    def said(column, *more):
        args = ("--difficulty", f"expected.parquet::{column}", "-o", "s.parquet", "--force")
        code, _, err = d2("score", "g.parquet", *args, *more)
        assert code == 0, err
        return err

    assert "dual, harder when high" in said("dual")
    assert "confidence, harder when low" in said("confidence")
    assert "dual, harder when low" in said("dual", "--harder", "low")
    # What the column says comes before what its name would.
    field = pa.field("loss", pa.float64(), metadata={b"harder": b"low"})
    pq.write_table(pa.table([np.zeros(ROWS)], schema=pa.schema([field])), "odd.parquet")
    _, _, err = d2("score", "g.parquet", "--difficulty", "odd.parquet", "-o", "s.parquet")
    assert "loss, harder when low" in err


def test_columns_travel_through_a_pipe(home, shell):
    done = shell(
        "d2 graph train.parquet -q -o g.parquet && d2 difficulty log.npy --labels "
        "train.parquet::label -q | d2 score g.parquet --difficulty -::dual -o s.parquet",
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    assert "score: dual, harder when high" in done.stderr


# --- without training -----------------------------------------------------------------------------


def test_a_graph_gives_density_and_disagreement(home, d2):
    d2("graph", "train.parquet", "-o", "g.parquet", "-k", 3)
    args = ("difficulty", "--from-graph", "g.parquet", "-o", "n.parquet")
    assert d2(*args)[0] == 0
    graph, found = pq.read_table("g.parquet"), pq.read_table("n.parquet")
    assert found.column_names == ["id", "neighbor_distance"]
    distances = np.array(graph["distances"].to_pylist())
    np.testing.assert_allclose(found["neighbor_distance"].to_numpy(), distances.mean(axis=1))
    assert d2(*args, *LABELS)[0] == 0
    labels = pq.read_table("train.parquet")["label"].to_numpy()
    share = (labels[np.array(graph["neighbors"].to_pylist())] != labels[:, None]).mean(axis=1)
    found = pq.read_table("n.parquet")
    np.testing.assert_allclose(found["label_disagreement"].to_numpy(), share)
    assert found.schema.field("label_disagreement").metadata[b"harder"] == b"high"
    refused(d2("difficulty", "--from-graph", "g.parquet", "-o", "train.parquet"), 2, "destroyed")


def test_disagreement_inside_labels_is_warned_about(home, d2):
    d2("graph", "train.parquet", "-o", "g.parquet", "-k", 3, "--within", "label")
    _, _, err = d2("difficulty", "--from-graph", "g.parquet", *LABELS, "-o", "n.parquet")
    assert "warning: this graph searched inside groups" in err


def test_embeddings_give_prototypicality(home, d2):
    args = ("difficulty", "-o", "p.parquet", "--embedding")
    _, _, err = d2(*args, "train.parquet")
    assert "30 rows, 4 prototypes" in err
    first = pq.read_table("p.parquet")
    assert first.column_names == ["id", "prototypicality"]
    assert "up to date" in d2(*args, "train.parquet::embedding")[2]
    assert "up to date" not in d2(*args, "train.parquet", "--seed", 1)[2]
    _, _, err = d2(*args, "train.parquet", "--labels", "label", "--prototypes", 2)
    assert "30 rows, 6 prototypes" in err
    assert pq.read_schema("p.parquet").field("prototypicality").metadata[b"harder"] == b"high"
    np.save("zero.npy", np.zeros((3, 2)))
    refused(d2(*args, "zero.npy"), 3, "zero.npy", "row 0 is a zero vector", "3 rows")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["log.npy"], 2, ["needs labels", "--labels"]),
        (["log.npy", *LABELS, "--window", 1], 2, ["window is 1"]),
        (["log.npy", *LABELS, "--el2n-epochs", 0], 2, ["el2n-epochs is 0"]),
        (["log.npy", *LABELS, "--el2n-epochs", 13], 2, ["el2n-epochs is 13", "12 epochs"]),
        (["log.npy", *LABELS, "--values", "odds"], 2, ["--values"]),
        (["log.npy", *LABELS, "--prototypes", 3], 2, ["--prototypes does not go with DYNAMICS"]),
        (["log.npy", "--embedding", "train.parquet"], 2, ["DYNAMICS and --embedding"]),
        (["--from-graph", "g.parquet", "--window", 3], 2, ["--window does not go with"]),
        (["--embedding", "train.parquet", "--prototypes", 0], 2, ["prototypes is 0"]),
        (["--embedding", "train.parquet", "--seed", -1], 2, ["seed is -1"]),
        (["log.npy", *LABELS, "-o", "d.csv"], 2, ["d.csv", ".parquet"]),
        (["log.npy", *LABELS, "-o", "log.npy"], 2, ["log.npy"]),
        (["none.npy", *LABELS], 3, ["none.npy: no such file"]),
        (["none/*.npy", *LABELS], 3, ["none/*.npy: no per-epoch files"]),
        (["log.npy", "--labels", "train.parquet::id"], 3, ["strings", "whole numbers"]),
        (["log.npy", "--labels", "train.parquet::nope"], 3, ["no column 'nope'"]),
        (["train.parquet", *LABELS], 3, ["expected an id, a number epoch"]),
        (["--from-graph", "train.parquet"], 4, ["not written by d2"]),
    ],
)
def test_what_cannot_be_is_refused(home, d2, arguments, code, words):
    output = [] if "-o" in arguments else ["-o", "d.parquet"]
    refused(d2("difficulty", *arguments, *output), code, *words)
    assert not (home / "d.parquet").exists()


def test_an_output_that_is_part_of_the_log_is_refused(home, d2, logits):
    (home / "logs").mkdir()
    table = pa.table({"out": logits[0].tolist()})
    pq.write_table(table, "logs/1.parquet")
    pq.write_table(table, "logs/2.parquet")
    refused(d2("difficulty", "logs", *LABELS, "-o", "logs/2.parquet"), 2, "destroyed")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda log: log[:, :-1], ["has shape [12, 29, 3]", "expected [epochs, 30, classes]"]),
        (lambda log: log[0], ["has shape [30, 3]"]),
        (lambda log: log[:0], ["has shape [0, 30, 3]"]),
        (lambda log: log[:, :, :1], ["holds 1 output a row"]),
        (lambda log: log[:, :, :2], ["train.parquet::label: row", "expected 0 to 1"]),
        (lambda log: log.astype(str), ["holds <U", "expected numbers"]),
    ],
)
def test_a_log_must_fit_the_labels(home, d2, logits, change, words):
    np.save("bad.npy", change(logits))
    refused(d2("difficulty", "bad.npy", *LABELS, "-o", "d.parquet"), 3, *words)


def test_a_log_with_nan_names_epoch_row_and_count(home, d2, logits):
    logits[4, [9, 20], 1] = np.nan
    np.save("log.npy", logits)
    result = d2("difficulty", "log.npy", *LABELS, "-o", "d.parquet")
    refused(result, 3, "log.npy: epoch 4: row 9 holds NaN (2 rows in all)")
    assert not (home / "d.parquet").exists()


def test_one_class_is_refused(home, d2):
    np.save("ones.npy", np.ones(ROWS, dtype=np.int64))
    args = ("log.npy", "--labels", "ones.npy", "-o", "d.parquet")
    refused(d2("difficulty", *args), 3, "ones.npy: holds one class only")


def test_final_outputs_must_fit_too(home, d2, logits):
    np.save("wide.npy", np.zeros((ROWS, CLASSES + 1)))
    np.save("short.npy", np.zeros((ROWS - 1, CLASSES)))
    args = ("difficulty", "log.npy", *LABELS, "-o", "d.parquet", "--final")
    refused(d2(*args, "wide.npy"), 3, "wide.npy: holds 4 classes, expected 3")
    refused(d2(*args, "short.npy"), 3, "short.npy: has 29 rows")
    logits[-1, 2, 0] = np.inf
    np.save("inf.npy", logits[-1])
    refused(d2(*args, "inf.npy"), 3, "inf.npy: row 2 holds an infinite value")


def test_names_that_do_not_tell_the_epoch_are_refused(home, d2, logits):
    (home / "logs").mkdir()
    args = ("difficulty", "logs", *LABELS, "-o", "d.parquet")
    refused(d2(*args), 3, "no per-epoch files there")
    for name in ("run1_epoch1", "run1_epoch2", "run2_epoch1"):
        np.save(f"logs/{name}.npy", logits[0])
    refused(d2(*args), 3, "do not tell the epoch", "'logs/epoch_*.npy'")
    np.save("logs/model_1.npy", logits[0])
    refused(d2(*args), 3, "differ in more than a number")
    np.save("logs/run1_epoch02.npy", logits[0])
    refused(d2("difficulty", "logs/run1*", *args[2:]), 3, "are of one epoch")
    np.save("logs/run1_epoch2.npy", logits[0, :, :2])
    (home / "logs/run1_epoch02.npy").unlink()
    refused(
        d2("difficulty", "logs/run1*", *args[2:]), 3, "run1_epoch2.npy: holds 2 classes, expected 3"
    )


def test_a_long_table_with_gaps_is_refused(home, d2, logits):
    whole = long_table(logits, out=logits.reshape(-1, CLASSES).tolist())

    def result(table):
        pq.write_table(table, "long.parquet", row_group_size=100)
        return d2("difficulty", "long.parquet", *LABELS, "-o", "d.parquet")

    rows = np.arange(len(whole))
    refused(result(whole.take(rows[rows != 65])), 3, "epoch 10: row 5 is missing (1 row in all)")
    again = pa.concat_tables([whole, whole.slice(200, 1)])
    refused(result(again), 3, "epoch 30: row 20 stands there more than once")
    lists = whole["out"].to_pylist()
    lists[120] = [1.0]
    refused(result(whole.set_column(2, "out", pa.array(lists))), 3, "row 120 has 1 values")
    lists[120] = None
    refused(result(whole.set_column(2, "out", pa.array(lists))), 3, "row 120 is null")
    ids = whole["id"].to_pylist()
    ids[130] = None
    refused(result(whole.set_column(0, "id", pa.array(ids))), 3, "row 130 has no id")
    epochs = whole["epoch"].to_pylist()
    epochs[140] = None
    refused(result(whole.set_column(1, "epoch", pa.array(epochs))), 3, "row 140 is null")
    halves = pa.array(whole["epoch"].to_numpy() / 2)
    refused(result(whole.set_column(1, "epoch", halves)), 3, "whole numbers")
    two = whole.append_column("more", whole["out"])
    refused(result(two), 3, "2 columns could be the outputs", "long.parquet::COLUMN")
