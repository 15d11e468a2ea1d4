"""Options from ``d2.toml``, ``pyproject.toml`` and the environment."""

import json

import numpy as np
import pytest

from d2cli.config import Option, defaults_of
from d2cli.errors import ParameterError

OPTIONS = {
    "prune": {"rate": Option("rate", False), "id": Option("id_", False)},
    "graph": {"embedding": Option("embedding", True), "neighbors": Option("neighbors", False)},
    "score": {"rate": Option("rate", False)},
}


@pytest.fixture
def here(tmp_path, monkeypatch, sample_data):
    monkeypatch.chdir(tmp_path)
    return sample_data / "clinc150.parquet"


def taken(folder, environment=None):
    found = defaults_of(OPTIONS, environment or {}, folder)
    return {command: dict(values) for command, values in found.items()}


def test_a_key_is_for_all_commands_that_have_it_and_a_table_for_one(tmp_path):
    (tmp_path / "d2.toml").write_text(
        'rate = 0.5\nneighbors = 7\n[prune]\nrate = 0.9\nid = "uid"\n'
    )
    assert taken(tmp_path) == {
        "prune": {"rate": "0.9", "id_": "uid"},
        "graph": {"neighbors": "7"},
        "score": {"rate": "0.5"},
    }


def test_the_environment_comes_before_the_file_and_the_command_before_all(tmp_path):
    (tmp_path / "d2.toml").write_text("[prune]\nrate = 0.9\n[score]\nrate = 0.8\n")
    found = taken(tmp_path, {"D2_RATE": "0.1", "D2_PRUNE_RATE": "0.2", "D2_EMBEDDING": "clip"})
    assert found["prune"]["rate"] == "0.2"
    assert found["score"]["rate"] == "0.1"
    assert found["graph"]["embedding"] == ["clip"]


def test_pyproject_has_a_table_and_d2_toml_comes_first(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.d2]\nneighbors = 3\n[tool.other]\nx = 1\n")
    assert taken(tmp_path)["graph"] == {"neighbors": "3"}
    (tmp_path / "d2.toml").write_text("neighbors = 4\n")
    assert taken(tmp_path)["graph"] == {"neighbors": "4"}
    (tmp_path / "other.toml").write_text("neighbors = 5\n")
    assert taken(tmp_path, {"D2_CONFIG": str(tmp_path / "other.toml")})["graph"] == {
        "neighbors": "5"
    }
    assert taken(tmp_path, {"D2_CONFIG": ""})["graph"] == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rat = 1", "no command has an option 'rat'"),
        ("[prune]\nneighbors = 1", "d2 prune has no option 'neighbors'"),
        ("[prunes]\nrate = 1", "there is no command 'prunes'"),
        ("rate = [0.1]", "rate is [0.1], expected one value"),
        ("embedding = [[1]]", "expected text or a list of text"),
        ("rate = ", "Invalid value"),
    ],
)
def test_what_the_file_may_not_say(tmp_path, text, says):
    (tmp_path / "d2.toml").write_text(text)
    with pytest.raises(ParameterError) as caught:
        taken(tmp_path)
    assert says in caught.value.message


def test_a_run_says_what_it_takes_and_from_where(here, tmp_path, monkeypatch, d2):
    (tmp_path / "d2.toml").write_text('difficulty = "aum"\n[prune]\nrate = 0.9\n')
    code, _, err = d2("prune", here, "-o", "a.npy")
    assert code == 0
    assert err.splitlines()[0] == "note: d2.toml sets --difficulty aum, --rate 0.9"
    assert len(np.load("a.npy")) == 200
    monkeypatch.setenv("D2_RATE", "0.8")
    _, _, err = d2("prune", here, "-o", "b.npy")
    assert "note: D2_RATE sets --rate 0.8" in err
    assert len(np.load("b.npy")) == 400
    _, _, err = d2("prune", here, "-o", "c.npy", "--rate", 0.7)
    assert "sets --rate" not in err
    assert len(np.load("c.npy")) == 600
    code, _, err = d2("prune", here, "-o", "d.npy", "--keep", 5)
    assert code == 0, err
    assert len(np.load("d.npy")) == 5
    code, _, err = d2("prune", here, "-o", "d.npy", "--rate", 0.5, "--keep", 5)
    assert code == 2


def test_options_of_the_file_count_as_given_beside_a_sweep(here, tmp_path, d2):
    (tmp_path / "d2.toml").write_text('difficulty = "aum"\nneighbors = 4\nquiet = true\n')
    d2(
        "sweep",
        here,
        "--labels",
        "label",
        "--rates",
        0.9,
        "--seeds",
        1,
        "-k",
        "3,4",
        "-o",
        "s.json",
    )
    found = json.loads((tmp_path / "s.json").read_text())
    for row in found["best"]:
        row["setting"]["neighbors"] = 3
    (tmp_path / "s.json").write_text(json.dumps(found))
    args = ("prune", here, "--rate", 0.9, "--settings", "s.json", "-o", "k.parquet", "--json")
    code, out, err = d2(*args)
    assert code == 0
    assert json.loads(out)["parameters"]["graph"]["n_neighbors"] == 4
    assert err == ""
    (tmp_path / "d2.toml").write_text('difficulty = "aum"\n')
    assert json.loads(d2(*args)[1])["parameters"]["graph"]["n_neighbors"] == 3


def test_a_wrong_value_is_refused_as_on_the_command_line(here, tmp_path, d2):
    (tmp_path / "d2.toml").write_text('[prune]\nrate = "much"\ndifficulty = "aum"\n')
    code, _, err = d2("prune", here)
    assert code == 2
    assert "'much' is not a valid float" in err


def test_a_pyproject_whose_tools_are_no_tables(tmp_path):
    (tmp_path / "pyproject.toml").write_text("tool = 3\n")
    assert taken(tmp_path)["graph"] == {}
    (tmp_path / "pyproject.toml").write_text("[tool]\nd2 = 3\n")
    with pytest.raises(ParameterError, match=r"tool.d2 is 3, expected a table"):
        taken(tmp_path)


@pytest.mark.parametrize("how", ["D2_DRY_RUN", "D2_CACHE_CLEAR_DRY_RUN", "key", "table"])
def test_commands_of_a_group_take_their_options_too(
    here, tmp_path, monkeypatch, d2, own_cache, how
):
    d2("prune", here, "--difficulty", "aum", "--rate", 0.9, "-q")
    before = sorted(own_cache.glob("*.parquet"))
    texts = {"key": "dry-run = true\n", "table": "[cache.clear]\ndry-run = true\n"}
    if how in texts:
        (tmp_path / "d2.toml").write_text(texts[how])
    else:
        monkeypatch.setenv(how, "1")
    code, _, err = d2("cache", "clear")
    assert code == 0, err
    assert sorted(own_cache.glob("*.parquet")) == before != []
