"""Shell completion: commands, options, columns; without NumPy."""

import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2cli.cli.cache import cache
from d2cli.cli.parser import app
from d2cli.column_names import column_names
from d2cli.completion.answers import ask
from d2cli.completion.shells import UnfinishedLine, answer_bash, answer_zsh, read_line
from d2cli.files.exports import FORMATS
from d2cli.files.exports import ORDERS as EXPORT_ORDERS
from d2cli.pipeline.targets import ORDERS

TYPES = st.recursive(
    st.sampled_from([pa.int8(), pa.float64(), pa.string(), pa.bool_(), pa.decimal128(5, 2)]),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(lambda kind: pa.list_(kind, 2)),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{i}", kind) for i, kind in enumerate(kinds)])
        ),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=5,
)


@given(st.lists(TYPES, min_size=1, max_size=20))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_columns_of_a_parquet_file_are_those_of_pyarrow(tmp_path, kinds):
    schema = pa.schema([(f"column {i}", kind) for i, kind in enumerate(kinds)])
    pq.write_table(schema.empty_table(), tmp_path / "t.parquet")
    assert column_names(tmp_path / "t.parquet") == schema.names


def test_columns_of_other_files(tmp_path):
    np.savez(tmp_path / "a.npz", l14_img=np.ones((2, 2)), text=np.ones((2, 2)))
    (tmp_path / "a.csv").write_text('id,"a,b",c\n1,2,3\n')
    (tmp_path / "a.jsonl").write_text('{"id": 1, "score": 2}\n{"id": 3}\n')
    assert column_names(tmp_path / "a.npz") == ["l14_img", "text"]
    assert column_names(tmp_path / "a.csv") == ["id", "a,b", "c"]
    assert column_names(tmp_path / "a.jsonl") == ["id", "score"]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PK\x03\x04", b"PAR1" + b"\xff" * 40, b"\0" * 9])
def test_damaged_files_have_no_columns(tmp_path, data):
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        (tmp_path / name).write_bytes(data)
        assert not any("\0" in name for name in column_names(tmp_path / name))
    assert column_names(tmp_path / "nowhere") == []


@given(st.binary(max_size=200), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_damaged_footers_end_the_list(tmp_path_factory, noise, at):
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), path)
    data = bytearray(path.read_bytes())
    data[at : at + len(noise)] = noise
    path.write_bytes(bytes(data))
    assert all(isinstance(name, str) for name in column_names(path))


def test_names_that_a_terminal_would_obey_are_left_out(tmp_path):
    pq.write_table(pa.table({"a\x1b[31m": [1], "b": [2]}), tmp_path / "t.parquet")
    assert column_names(tmp_path / "t.parquet") == ["b"]


def complete(line):
    words = line.split(" ")
    environment = {
        **os.environ,
        "_D2_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "d2cli"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "numpy" not in done.stderr
    assert "pyarrow" not in done.stderr
    return done.stdout.split()


def test_the_shell_is_told_commands_options_and_columns(sample_data):
    train = sample_data / "clinc150.parquet"
    assert complete("d2 pru") == ["prune"]
    assert complete("d2 prune --diff") == ["--difficulty"]
    assert complete(f"d2 prune {train} --difficulty el") == ["el2n"]
    assert complete(f"d2 sweep {train} --labels lab") == ["label", "label_name"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_can_be_shown(name):
    done = subprocess.run(
        [sys.executable, "-m", "d2cli"],
        env={**os.environ, "_D2_COMPLETE": f"source_{name}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "_D2_COMPLETE" in done.stdout


def line_of(*arguments):
    return read_line(" ".join(["d2", *map(shlex.quote, arguments)]))


def offered(*arguments, typed=""):
    """Return what could stand after the arguments, beginning with what has been typed."""
    line = UnfinishedLine(("d2", *map(str, arguments)), str(typed), 0, "")
    return [value for value, _ in ask(app, line)]


COMMANDS = {
    name: command
    for of in (typer.main.get_command(app), typer.main.get_command(cache))
    for name, command in of.commands.items()
    if not hasattr(command, "commands")
}
OPTIONS = [
    pytest.param(name, option, id=f"{name} {max(option.opts, key=len)}")
    for name, command in COMMANDS.items()
    for option in command.params
    if option.param_type_name == "option" and not option.is_flag
]
# What no column, no choice and no list of them can be given to; the shell offers files.
FREE = {"ADDRESS", "FILE", "FOLDER", "SOURCE", "OUT", "GRAPH", "SIZE", "AGE", "TIME", "DURATION"}
FREE |= {"ROWS", "SECONDS", "FILE.parquet", "SELECTION"}
FREE_LISTS = {"--rates", "--neighbors", "--rounds"}
FREE_TEXT = {("select", "--graph")}
TAKES_FILE_COLUMN = {"--include", "--exclude", "--retire"}


def start_of(command):
    return ["cache", command] if command in typer.main.get_command(cache).commands else [command]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_offers_what_it_takes(command, option, sample_data):
    name, train = max(option.opts, key=len), sample_data / "clinc150.parquet"
    words = [*start_of(command), name]
    of_file = offered(*words, typed=f"{train}::au")
    anything = offered(*words)
    if "COLREF" in (option.metavar or "") or name in TAKES_FILE_COLUMN:
        assert of_file == [f"{train}::aum"]
        return
    assert of_file == []
    if hasattr(option.type, "choices"):
        assert anything == [str(getattr(one, "value", one)) for one in option.type.choices]
    elif option.metavar in (None, "NUMBER", *FREE) or name in FREE_LISTS:
        number = option.type.name in ("int", "integer", "float", "int range")
        assert number or option.metavar or (command, name) in FREE_TEXT
        assert anything == []
    elif "|" in option.metavar:
        assert anything == [one for one in option.metavar.split("|") if one != "NUMBER"]
    else:
        assert option.metavar in ("LIST", "FORMAT")
        assert anything


COLUMNS_OF_TRAIN = ["aum"]


@pytest.mark.parametrize(
    "line",
    [
        "prune {train} --difficulty",
        "prune {train} --rate 0.9 --group",
        "prune --rate 0.9 {train} -q --show",
        "compare {train} --labels",
        "check {train} --difficulty",
        "check {train} --labels",
        "sweep {train} -k 5 --labels",
        "graph {train} -e",
        "update graph.parquet --add {train} --within",
        "export keep.parquet --source {train} --id",
        "explain keep.parquet 3 4 --source {train} --show",
        "explain keep.parquet 3 --source {train} --group",
        "report keep.parquet --source {train} --embedding",
        "report --source {train} --group",
        "report --source {train} --show",
        "difficulty --embedding {train} --labels",
        "difficulty --embedding {train}::embedding --id",
        "score graph.parquet --difficulty {train}::el2n --id",
        "select scores.parquet --rate 0.9 --group {train}::label --id",
    ],
)
def test_bare_columns_are_those_of_the_file_that_the_command_looks_in(line, sample_data):
    words = line.format(train=sample_data / "clinc150.parquet").split()
    assert offered(*words, typed="au") == COLUMNS_OF_TRAIN
    if words[-1].startswith("--"):
        *words, option = words
        assert offered(*words, typed=f"{option}=au") == [f"{option}=aum"]


@pytest.mark.parametrize(
    "line",
    [
        "score {train} --difficulty",  # a graph; bare columns are refused
        "select {train} --group",
        "diff {train} {train} --group",
        "explain {train} 3 --show",  # the selection is no source
        "export {train} --id",
        "difficulty {train} --labels",
        "difficulty --embedding",
        "prune s3://bucket/train.parquet --difficulty",
        "prune - --difficulty",
    ],
)
def test_no_bare_columns_where_they_would_be_refused(line, sample_data):
    words = line.format(train=sample_data / "clinc150.parquet").split()
    assert offered(*words, typed="au") == []


def test_values_that_are_no_columns():
    assert offered("prune", "--difficulty", typed="un") == ["uniform"]
    assert offered("graph", "x.npy", "--id", typed="no") == ["none"]
    assert offered("compare", "x", "--methods", typed="d2,cc") == ["d2,ccs"]
    assert offered("compare", "x", "--methods", typed="d2,d") == []
    assert offered("sweep", "x", "--metric") == [
        "l2",
        "cosine",
        "ip",
        "l1",
        "mahalanobis",
        "hamming",
    ]
    assert offered("--version") == list(typer.main.get_command(app).commands)


def test_choices_are_those_that_the_commands_take():
    assert set(offered("export", "--format")) == set(FORMATS)
    assert offered("export", "--order") == list(EXPORT_ORDERS)
    assert offered("select", "--order") == list(ORDERS)


@pytest.mark.parametrize("kind", ["fifo", "folder", "deep", "json", "footer", "list", "nested"])
def test_completion_neither_waits_nor_fails(tmp_path, kind):
    path = tmp_path / "t.parquet"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "x.txt").touch()
    elif kind == "deep":
        path = tmp_path / "t.jsonl"
        path.write_text("[" * 100_000)
    elif kind == "json":
        path = tmp_path / "t.jsonl"
        path.write_text("[1, 2, 3]\n")
    else:
        body = {
            "footer": b"\x15\x02" * 10,  # says it is far longer than the file
            "list": b"\x39\xf1" + b"\xff" * 8 + b"\x7f",  # 2**62 booleans
            "nested": b"\x1c" * 1_000_000,
        }[kind]
        length = 2**31 - 1 if kind == "footer" else len(body)
        path.write_bytes(b"PAR1" + body + length.to_bytes(4, "little") + b"PAR1")
    began = time.monotonic()
    assert column_names(path) == []
    assert offered("prune", path, "--difficulty", typed="a") == []
    assert time.monotonic() - began < 5


def test_a_folder_is_not_searched_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("d2cli.column_names.MOST_PLACES", 50)
    for number in range(100):
        (tmp_path / f"{number:03}").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "099" / "t.parquet")
    assert column_names(tmp_path) == []


def test_columns_of_folders_globs_and_other_formats(tmp_path, monkeypatch):
    table = pa.table({"a": [1], "ü b": ["x"]})
    shard = tmp_path / "data" / "lang=de" / "t.parquet"
    shard.parent.mkdir(parents=True)
    pq.write_table(table, shard)
    (tmp_path / "data" / ".hidden.parquet").write_bytes(b"")
    assert column_names(tmp_path / "data") == ["a", "ü b", "lang"]
    assert column_names(tmp_path / "d*" / "*" / "*.parquet") == ["a", "ü b"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert offered("prune", "~/data", "--difficulty", typed="la") == ["lang"]
    assert offered("score", "g", "--difficulty", typed="~/data::a") == ["~/data::a"]
    (tmp_path / "t.tsv").write_text("id\tb c\n1\t2\n")
    assert column_names(tmp_path / "t.tsv") == ["id", "b c"]
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"p": [1], "q": ["x"]}).save_to_disk(tmp_path / "saved")
    assert column_names(tmp_path / "saved") == ["p", "q"]
    safetensors.numpy.save_file({"clip": np.ones((2, 2))}, tmp_path / "t.safetensors")
    assert column_names(tmp_path / "t.safetensors") == ["clip"]


TEXT = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_a_line_has_the_words_that_the_shell_makes_of_it(words):
    line = read_line(shlex.join(["d2", *words]))
    assert [*line.words, line.incomplete] == ["d2", *words]


def bash_words(text):
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}"], capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode().split("\0")[:-1]


@given(TEXT.filter(lambda text: text and text.isprintable()), st.sampled_from(["", "'", '"']))
@settings(max_examples=60, deadline=None)
def test_bash_reads_what_is_inserted_as_the_name(name, quote):
    line = UnfinishedLine(("d2",), "", 0, quote)
    assert bash_words(quote + answer_bash(line, [name])[:-1] + quote) == [name]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@given(TEXT.filter(lambda text: text and text.isprintable()))
@settings(max_examples=40, deadline=None)
def test_zsh_runs_no_name(name):
    code = answer_zsh(read_line("d2 "), [(name, ""), ("$(touch x)", "")])
    done = subprocess.run(
        ["zsh", "-fc", 'compadd() { shift; printf "%s\\0" "$@" }; eval $(cat)'],
        input=code.encode(),
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.stdout.decode().split("\0")[:-1] == [name, "$(touch x)"]


class Terminal:
    """A shell in a terminal of its own; reads the line that it would run after some keys."""

    def __init__(self, command, setup, folder):
        pid, self.handle = pty.fork()
        if pid == 0:
            os.chdir(folder)
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            environment = {**os.environ, "PATH": path, "HOME": str(folder), "TERM": "xterm"}
            environment |= {"LC_ALL": "C.UTF-8", "ZDOTDIR": str(folder)}
            os.execvpe(command[0], command, environment)
        self.pid, self.seen, self.folder = pid, b"", folder
        self.type(setup + "\r")
        self.wait(b"READY")
        self.wait(b"PROMPT")

    def type(self, keys):
        os.write(self.handle, keys.encode())

    def wait(self, text):
        until = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            if select.select([self.handle], [], [], 0.1)[0]:
                self.seen += os.read(self.handle, 65536)
        _, _, self.seen = self.seen.partition(text)

    def settle(self):
        """Read until the shell has nothing more to print for a moment."""
        while select.select([self.handle], [], [], 0.1)[0]:
            self.seen += os.read(self.handle, 65536)

    def complete(self, line):
        """Return the words that the line has after a tab."""
        self.type(f"{line}\t")
        self.settle()
        self.type("\x01args \x05\r")  # to the beginning of the line, and to its end
        self.wait(b"DONE")
        self.wait(b"PROMPT")  # only then are keys the shell's, not the terminal's
        return (self.folder / "args").read_text().split("\0")[:-1]

    def close(self):
        os.close(self.handle)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


ARGS = (
    r"""args() { printf '%s\0' "$@" > args; printf 'DO%s\n' NE; }; """
    r"""PS1=PRO''MPT; printf 'REA%s\n' DY"""
)
SHELLS = {
    "bash": (["bash", "--noprofile", "--rcfile", ".bashrc", "-i"], ARGS),
    "zsh": (["zsh", "-i"], f"autoload -Uz compinit; compinit -u; {ARGS}"),
    "fish": (
        ["fish", "-i"],
        r"function args; printf '%s\0' $argv > args; printf 'DO%s\n' NE; end; "
        r"function fish_prompt; printf 'PRO%s' MPT; end; printf 'REA%s\n' DY",
    ),
}


@pytest.fixture(scope="module", params=list(SHELLS))
def terminal(request, tmp_path_factory):
    """A real shell with the script that --install-completion installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    names = ["aum", "my column", "it's", 'a"b', "a[1]", "ü", "p$q", "bad\x1b[31m", "k:v", "c\\$(x)"]
    table = pa.table({name: [1] for name in names})
    for name in ("t.parquet", "my file.parquet"):
        pq.write_table(table, folder / name)
    program = Path(sys.executable).with_name("d2")
    subprocess.run(
        [request.param, "-c", f"{program} --install-completion; true"],
        env={**os.environ, "HOME": str(folder)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    command, setup = SHELLS[request.param]
    shell = Terminal(command, setup, folder)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ("d2 pru", "prune"),
        ("d2 prune --diffic", "--difficulty"),
        ("d2 prune t.parquet --difficulty au", "aum"),
        ("d2 prune t.parquet --difficulty=au", "--difficulty=aum"),
        ("d2 score g --difficulty t.parquet::au", "t.parquet::aum"),
        ("d2 score g --difficulty=t.parquet::au", "--difficulty=t.parquet::aum"),
        ("d2 score g --difficulty t.parquet::my", "t.parquet::my column"),
        ("d2 score g --difficulty 't.parquet::my", "t.parquet::my column"),
        ('d2 score g --difficulty "t.parquet::my', "t.parquet::my column"),
        ("d2 score g --difficulty my\\ file.parquet::my", "my file.parquet::my column"),
        ("d2 score g --difficulty 'my file.parquet'::au", "my file.parquet::aum"),
        ("d2 prune 'my file.parquet' --difficulty au", "aum"),
        ("d2 prune t.parquet --difficulty it", "it's"),
        ("d2 prune t.parquet --difficulty 'a\"", 'a"b'),
        ("d2 prune t.parquet --difficulty 'a[", "a[1]"),
        ("d2 prune t.parquet --difficulty ü", "ü"),
        ("d2 prune t.parquet --difficulty p", "p$q"),
        ("d2 prune t.parquet --difficulty k", "k:v"),
        ("d2 prune t.parquet --difficulty c", "c\\$(x)"),
        ("d2 prune t.parquet --difficulty ba", "ba"),
        ("d2 score g --difficulty ~/t.parquet::au", "{home}/t.parquet::aum"),
        ("d2 prune t.par", "t.parquet"),
        ("d2 export keep.parquet --source t.parquet --id au", "aum"),
        ("d2 export keep.parquet --format datac", "datacomp"),
    ],
)
def test_a_tab_in_a_real_shell(terminal, line, last):
    words = terminal.complete(line)
    assert words[-1] == last.replace("{home}", str(terminal.folder))
    assert len(words) == len(read_line(line).words) + 1
