"""The workflow and the Makefile that the README shows, run as they stand."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path, sample_data):
    """A folder with what the workflow and the Makefile read."""
    shutil.copytree(sample_data, tmp_path / "sample_data")
    return tmp_path


def workflow():
    text = (ROOT / ".github/workflows/select.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def run_steps(shell, folder, names):
    flow = workflow()
    environment = {**flow["env"], "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    for step in flow["jobs"]["select"]["steps"]:
        if step.get("name") in names:
            done = shell(f"set -eo pipefail\n{step['run']}", cwd=folder, env=environment)
            if done.returncode:
                return done
    return done


STEPS = ("Check the data", "Select", "Compare with the selection in use", "Keep the cache small")


def test_the_workflow_is_one_that_github_can_read():
    flow = workflow()
    assert True in flow  # "on", which YAML 1.1 reads as true
    steps = flow["jobs"]["select"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", s["uses"]) for s in steps if "uses" in s)
    assert {step.get("name") for step in steps} >= set(STEPS)


def test_its_steps_select_and_gate(checkout, shell):
    done = run_steps(shell, checkout, STEPS)
    assert done.returncode == 0, done.stderr
    assert "# d2 report" in (checkout / "summary.md").read_text()
    assert (checkout / "report.html").read_text().startswith("<!DOCTYPE html>")
    (checkout / "selected").mkdir()
    shutil.copy(checkout / "keep.parquet", checkout / "selected" / "keep.parquet")
    assert run_steps(shell, checkout, STEPS).returncode == 0
    other = "d2 prune sample_data/clinc150.parquet --difficulty aum --rate 0.9 --group label"
    done = shell(f"{other} --method random -o selected/keep.parquet", cwd=checkout)
    assert done.returncode == 0, done.stderr
    done = run_steps(shell, checkout, STEPS)
    assert done.returncode == 6
    assert "max-change" in done.stderr


def test_a_second_run_takes_its_stages_from_the_cache(checkout, shell):
    run_steps(shell, checkout, ("Select",))
    (checkout / "keep.parquet").unlink()
    environment = workflow()["env"]
    done = shell(
        "d2 prune $SOURCE --rate 0.9 --group label -o keep.parquet", cwd=checkout, env=environment
    )
    assert "graph: up to date" in done.stderr
    assert "score: up to date" in done.stderr


def test_the_makefile_of_the_readme_runs(checkout, shell):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.search(r"```make\n(.*?)```", readme, flags=re.DOTALL)[1]
    (checkout / "Makefile").write_text(text)
    (checkout / "data").mkdir()
    shutil.copy(checkout / "sample_data/clinc150.parquet", checkout / "data/train.parquet")
    for _ in range(2):
        done = shell("make", cwd=checkout)
        assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout or "up to date" in done.stdout
    assert (checkout / "keep.parquet").exists()


def test_the_dvc_file_of_the_readme_names_what_its_commands_read_and_write():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    stages = yaml.safe_load(re.search(r"```yaml\n(stages:.*?)```", readme, flags=re.DOTALL)[1])
    for stage in stages["stages"].values():
        words = stage["cmd"].split()
        assert words[0] == "d2"
        read = [word.partition("::")[0] for word in words]
        assert all(name in read for name in stage["deps"])
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in stage.get("outs", [])]
        assert all(name in words for name in outs)
