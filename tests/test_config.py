"""Options from ``d2.toml``, ``pyproject.toml`` and the environment."""

import json

import numpy as np
import pytest

from d2cli.commands.study import DIFFICULTY_OPTIONS
from d2cli.config import Option, defaults_of
from d2cli.errors import ParameterError
from d2cli.files.artifacts import read_artifact
from d2cli.files.digests import digest_json
from d2cli.precedence import COMMAND_LINE, SOURCES, overridden

OPTIONS = {
    "prune": {
        "rate": Option("rate", False, "number"),
        "id": Option("id_", False),
        "force": Option("force", False, "flag"),
    },
    "graph": {
        "embedding": Option("embedding", True),
        "neighbors": Option("neighbors", False, "whole"),
    },
    "score": {"rate": Option("rate", False, "number")},
    "sweep": {"neighbors": Option("neighbors", False)},
    "cache clear": {"dry_run": Option("dry_run", False, "flag")},
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
        "sweep": {"neighbors": "7"},
        "cache": {"clear": {}},
    }


def test_the_environment_comes_before_the_file_and_the_command_before_all(tmp_path):
    (tmp_path / "d2.toml").write_text("[prune]\nrate = 0.9\n[score]\nrate = 0.8\n")
    found = taken(tmp_path, {"D2_RATE": "0.1", "D2_PRUNE_RATE": "0.2", "D2_EMBEDDING": "clip"})
    assert found["prune"]["rate"] == "0.2"
    assert found["score"]["rate"] == "0.1"
    assert found["graph"]["embedding"] == ["clip"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["image=a", "text=b.npy:2"]', ["image=a", "text=b.npy:2"]),
        ('["image"]', ["image"]),
        ("a,b c", ["a,b c"]),  # one name
        ("[ab].npy", ["[ab].npy"]),  # a glob
        ("[1, 2]", ["[1, 2]"]),
        ("[]", ["[]"]),
        ('["a"', ['["a"']),
    ],
)
def test_a_variable_holds_several_values_as_a_list(tmp_path, text, expected):
    assert taken(tmp_path, {"D2_EMBEDDING": text})["graph"]["embedding"] == expected
    if expected != [text]:
        (tmp_path / "d2.toml").write_text(f"embedding = {text}\n")
        assert taken(tmp_path)["graph"]["embedding"] == expected


def test_several_embeddings_come_from_file_and_environment(here, tmp_path, d2, monkeypatch):
    line = ("graph", here, "-e", "a=embedding", "-e", "b=embedding:2", "-o")
    assert d2(*line, "one.parquet")[0] == 0
    both = '["a=embedding", "b=embedding:2"]'
    monkeypatch.setenv("D2_EMBEDDING", both)
    code, _, err = d2("graph", here, "-o", "two.parquet")
    assert code == 0, err
    assert "D2_EMBEDDING sets --embedding a=embedding b=embedding:2" in err
    monkeypatch.delenv("D2_EMBEDDING")
    (tmp_path / "d2.toml").write_text(f"[graph]\nembedding = {both}\n")
    assert d2("graph", here, "-o", "three.parquet")[0] == 0
    digests = {read_artifact(f"{name}.parquet", "graph").digest for name in ("one", "two", "three")}
    assert len(digests) == 1


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
        ("rate = ", "d2.toml: Invalid value (at line 1"),
        ("rate = 1\nforce = ", "d2.toml: Invalid value (at line 2"),
        ("rate = [1,", "(at line 1, its end)"),
        ("rate = true", "rate is true, expected a number"),
        ("neighbors = true", "neighbors is true, expected a whole number"),
        ("[graph]\nneighbors = 2.5", "neighbors is 2.5, expected a whole number"),
        ("[graph]\nneighbors = [2]", "neighbors is [2], expected one value"),
        ('[graph]\nneighbors = "2"', 'neighbors is "2", expected a whole number'),
        ('rate = "0.5"', 'rate is "0.5", expected a number'),
        ("rate = 1979-05-27", "rate is 1979-05-27, expected a number"),
        ("force = 1", "force is 1, expected true or false"),
        ("force = 0.5", "force is 0.5, expected true or false"),
        ('force = "true"', 'force is "true", expected true or false'),
        ("force = [true]", "force is [true], expected one value"),
        ("id = true", "id is true, expected text"),
        ("embedding = true", "embedding is true, expected text or a list of text"),
        ("embedding = [true]", "embedding is [true], expected text or a list of text"),
        ("[cache]\ndry-run = true", "[cache] has an option 'dry-run'"),
        ("[cache.cleer]\ndry-run = true", "there is no command 'cache cleer'"),
        ("[cache.clear]\ndry = true", "d2 cache clear has no option 'dry'"),
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
    del found["digest"]
    (tmp_path / "s.json").write_text(json.dumps({**found, "digest": digest_json(found)}))
    args = ("prune", here, "--rate", 0.9, "--settings", "s.json", "-o", "k.parquet", "--json")
    code, out, err = d2(*args)
    assert code == 0
    assert json.loads(out)["parameters"]["graph"]["n_neighbors"] == 4
    assert err == ""
    (tmp_path / "d2.toml").write_text('difficulty = "aum"\n')
    assert json.loads(d2(*args)[1])["parameters"]["graph"]["n_neighbors"] == 3


def test_a_list_as_text_is_for_the_commands_that_take_one(tmp_path):
    (tmp_path / "d2.toml").write_text('neighbors = "5,10"\n')
    found = taken(tmp_path)  # and what `d2 graph` has of it, its parser refuses
    assert found["sweep"] == found["graph"] == {"neighbors": "5,10"}


def test_a_wrong_value_is_refused_as_on_the_command_line(here, tmp_path, d2, monkeypatch):
    (tmp_path / "d2.toml").write_text('[prune]\ndifficulty = "aum"\n')
    monkeypatch.setenv("D2_RATE", "much")
    code, _, err = d2("prune", here)
    assert code == 2
    assert "'much' is not a valid float" in err


def test_a_wrong_type_is_one_line_and_no_traceback(here, tmp_path, d2):
    for text, says in (
        ("rate = true", "rate is true, expected a number"),
        ("neighbors = true", "neighbors is true, expected a whole number"),
        ("quiet = 0", "quiet is 0, expected true or false"),
        ("[prune]\nprune-hardest = true", "prune-hardest is true, expected text"),
        ("threads = [2]", "threads is [2], expected one value"),
        ("nieghbors = 3", "no command has an option 'nieghbors'\nhint: did you mean neighbors?"),
        ("[prunne]\nrate = 1", "there is no command 'prunne'\nhint: did you mean prune?"),
    ):
        (tmp_path / "d2.toml").write_text(text + "\n")
        code, out, err = d2("prune", here, "--difficulty", "aum", "--rate", 0.5)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: d2.toml: {says}\n")
        assert err.count("\n") == 2


def test_a_pyproject_that_is_no_toml_is_refused_if_it_is_ours(tmp_path, monkeypatch, d2):
    path = tmp_path / "pyproject.toml"
    monkeypatch.chdir(tmp_path)
    for text in ("[tool.other]\nx = \n", "# [tool.d2]\nx = \n", "tool.d2x = \n"):
        path.write_text(text)
        assert taken(tmp_path)["graph"] == {}
    for head in ("[tool.d2]", "[ tool . 'd2' ]", '  [tool."d2".prune]', "[tool.d2"):
        path.write_text(f"a = 1\n{head}\nneighbors = = 3\n")
        code, _, err = d2("cache", "ls")
        assert code == 2, head
        assert err.startswith("error: pyproject.toml: ")
        assert "(at line 2" in err or "(at line 3" in err
        assert err.count("\n") == 2
    path.write_bytes(b"[tool.d2]\nid = '\xff'\n")
    assert "pyproject.toml: is not UTF-8 (at line 2)" in d2("cache", "ls")[2]
    path.write_bytes(b"[tool.x]\nid = '\xff'\n")
    assert d2("cache", "ls")[0] == 0
    monkeypatch.setenv("D2_CONFIG", str(path))  # named, so it is ours
    assert d2("cache", "ls")[0] == 2


# --- options that exclude each other --------------------------------------------------------------


def test_of_rate_and_keep_the_one_in_the_higher_place_counts(here, tmp_path, monkeypatch, d2):
    ways = ["key", "table", "D2_{}", "D2_PRUNE_{}", "flag"]
    for low in range(len(ways)):
        for high in range(low + 1, len(ways)):
            for weak, strong in (("rate", "keep"), ("keep", "rate")):
                values = {"rate": "0.9", "keep": "300"}
                lines, flags = {"key": "", "table": ""}, []
                with monkeypatch.context() as patch:
                    for name, way in ((weak, ways[low]), (strong, ways[high])):
                        if way in lines:
                            lines[way] = f"{name} = {values[name]}\n"
                        elif way == "flag":
                            flags = [f"--{name}", values[name]]
                        else:
                            patch.setenv(way.format(name.upper()), values[name])
                    (tmp_path / "d2.toml").write_text(f"{lines['key']}[prune]\n{lines['table']}")
                    code, _, err = d2(
                        "prune", here, "--difficulty", "aum", "-o", "k.npy", "-k", 3, *flags
                    )
                assert code == 0, err
                assert len(np.load("k.npy")) == (300 if strong == "keep" else 200)
                assert f"sets --{weak}" not in err


def test_in_one_place_rate_and_keep_contradict_each_other(here, tmp_path, monkeypatch, d2):
    args = ("prune", here, "--difficulty", "aum", "-o", "k.npy")
    (tmp_path / "d2.toml").write_text("[prune]\nrate = 0.9\nkeep = 300\n")
    assert d2(*args)[0] == 2
    assert d2(*args, "--keep", 20, "-q") == (0, "", "")
    (tmp_path / "d2.toml").unlink()
    monkeypatch.setenv("D2_RATE", "0.9")
    monkeypatch.setenv("D2_KEEP", "300")
    assert d2(*args)[0] == 2


@pytest.mark.parametrize(
    ("command", "values", "levels", "gone"),
    [
        ("prune", {"rate": 0.5, "keep": None}, {"rate": 1}, []),
        ("prune", {"rate": 0.5, "keep": 3}, {"rate": 3, "keep": 3}, []),
        ("select", {"settings": "s.json", "preset": "paper"}, {"settings": 5, "preset": 1}, 1),
        ("select", {"preset": "paper", "settings": "s.json"}, {"settings": 1, "preset": 5}, 1),
        ("graph", {"output": "-", "json": True}, {"output": 5, "json": 1}, 1),
        ("graph", {"output": "-", "json": True}, {"json": 1}, 1),
        ("graph", {"output": "g.parquet", "json": True}, {"output": 5, "json": 1}, []),
        ("select", {"output": "k.parquet", "order": "rank"}, {"output": 5, "order": 1}, 1),
        ("select", {"output": "k.npy", "order": "rank"}, {"output": 5, "order": 1}, []),
        ("export", {"dropped": True, "order": "rank"}, {"dropped": 5, "order": 1}, 1),
        ("export", {"format_": "weights", "dropped": True}, {"format_": 5, "dropped": 4}, 1),
        ("prune", {"prune_hardest": "0.1", "labels": "y"}, {"prune_hardest": 5, "labels": 2}, 1),
        ("prune", {"prune_hardest": "probe", "labels": "y"}, {"prune_hardest": 5, "labels": 2}, []),
        ("compare", {"prune_hardest": "0.1", "labels": "y"}, {"prune_hardest": 5, "labels": 2}, []),
        ("difficulty", {"dynamics": "l.npy", "embedding": "e"}, {"dynamics": 5, "embedding": 1}, 1),
        ("difficulty", {"from_graph": "g", "embedding": "e"}, {"from_graph": 4, "embedding": 1}, 1),
        ("difficulty", {"dynamics": "l.npy", "seed": 3}, {"dynamics": 5, "seed": 1}, 1),
        ("difficulty", {"dynamics": None, "seed": 3}, {"seed": 1}, 1),
        ("difficulty", {"dynamics": None, "seed": 3}, {"seed": 5}, []),
        ("difficulty", {"embedding": "e", "seed": 3}, {"embedding": 5, "seed": 1}, []),
    ],
)
def test_what_is_overridden(command, values, levels, gone):
    weakest = sorted(values, key=lambda name: levels.get(name, COMMAND_LINE))[:1]
    assert overridden(command, values, levels) == (weakest if gone else [])


def test_a_source_on_the_command_line_leaves_out_another_with_its_options():
    values = {"dynamics": "l.npy", "embedding": "e", "prototypes": 3, "window": 4}
    levels = {"dynamics": 5, "embedding": 3, "prototypes": 1, "window": 1}
    assert overridden("difficulty", values, levels) == ["embedding", "prototypes"]


def test_the_table_of_sources_is_that_of_the_command():
    of = {"dynamics": "DYNAMICS", "from_graph": "--from-graph", "embedding": "--embedding"}
    flags = {
        of[source]: tuple("--" + name.replace("_", "-") for name in names)
        for source, names in SOURCES.items()
    }
    assert flags == DIFFICULTY_OPTIONS


def test_commands_leave_out_what_is_overridden(here, tmp_path, monkeypatch, d2):
    args = ("prune", here, "--difficulty", "aum", "--rate", 0.9, "-q")
    (tmp_path / "d2.toml").write_text('order = "rank"\n')
    assert d2(*args, "-o", "k.parquet") == (0, "", "")
    assert d2(*args)[1] != d2(*args, "--order", "row")[1]  # it counts for all other outputs
    (tmp_path / "d2.toml").write_text('embedding = "embedding"\nseed = 3\n')
    np.save("log.npy", np.random.default_rng(0).normal(size=(3, 20, 4)))
    np.save("labels.npy", np.arange(20) % 4)
    code, _, err = d2("difficulty", "log.npy", "--labels", "labels.npy", "-o", "d.parquet")
    assert code == 0, err
    assert "embedding" not in err
    code, _, err = d2("difficulty", "log.npy", "--seed", 3, "--labels", "labels.npy")
    assert code == 2
    assert "--seed does not go with DYNAMICS" in err


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


def test_values_that_cannot_be_read_are_refused(d2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text, reason in (
        ("rate = " + "[" * 3000, "d2.toml: is nested too deep"),
        ("seed = " + "9" * 5000, "d2.toml: holds a number too long to be read"),
        ("seed = 0x" + "f" * 5000, "d2.toml: seed is a number too long to be shown"),
        ("seed = 9223372036854775808", "seed is 9223372036854775808, expected a whole number"),
    ):
        (tmp_path / "d2.toml").write_text(text)
        code, _, err = d2("cache", "ls")
        assert code == 2
        assert reason in err
        assert len(err.splitlines()) == 2
