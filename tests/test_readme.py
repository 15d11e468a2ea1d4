"""What the README shows is what happens."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path, sample_data):
    shutil.copytree(sample_data, tmp_path / "sample_data")
    return tmp_path


def test_console_blocks_print_what_the_readme_shows(home, shell):
    blocks = [text for language, text in BLOCKS if language == "console"]
    assert len(blocks) >= 5
    for text in blocks:
        command, _, expected = text.removeprefix("$ ").partition("\n")
        done = shell(f"{command} 2>&1", cwd=home)
        assert done.returncode == 0, done.stdout
        assert done.stdout == expected, command


def test_the_python_block_runs(home):
    (code,) = (text for language, text in BLOCKS if language == "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")


def test_the_first_two_commands_set_up_everything():
    first, second = (text for language, text in BLOCKS if language == "sh")
    assert BLOCKS.index(("sh", second)) - BLOCKS.index(("sh", first)) == 1
    assert "pip install . " in first
    assert "d2 prune sample_data/" in first
    assert second.rstrip().endswith("pytest")
    assert first.count("\n") == second.count("\n") == 1


def test_every_option_of_every_command_is_explained(d2):
    for command in (
        "graph",
        "difficulty",
        "score",
        "select",
        "prune",
        "compare",
        "stream",
        "sweep",
        "check",
        "report",
        "explain",
        "diff",
        "export",
        "update",
    ):
        _, out, _ = d2(command, "--help")
        options = re.split(r"\n  (?=-)", out.partition("Options:")[2])
        for option in options[1:]:
            assert len(option.split("  ", 1)[-1].strip()) > 10, option
