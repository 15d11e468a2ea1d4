"""Stages as tasks on a Ray cluster of two nodes in this machine: same bytes, whatever is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.fs as pafs
import pytest
import test_remote
from ray_cluster import NODE, unwarned

from d2cli.errors import ResourceError
from d2cli.files.artifacts import read_artifact
from d2cli.pipeline.cluster import RayExecutor, on_cluster
from d2cli.stages.advance import advance
from d2cli.stages.forward import sum_received

s3_server, s3 = test_remote.s3_server, test_remote.s3  # the double, and what leads to it


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a graph, its difficulty, scores and the rows that the loop keeps."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(3)
    np.save(folder / "v.npy", rng.normal(size=(600, 3)).astype(np.float32))
    np.save(folder / "aum.npy", rng.random(600))
    run(folder, "graph", "v.npy", "-k", "6", "-o", "g.parquet")
    aum = ("--difficulty", "aum.npy", "--harder", "low", "--rate", "0.5", "--rounds", "2")
    run(folder, "score", "g.parquet", *aum, "-o", "s.parquet")
    (folder / "score.txt").write_text("\n".join(aum))
    run(folder, "select", "s.parquet", "--rate", "0.5", "-o", "keep.parquet")
    return folder


def command(*arguments):
    return [sys.executable, "-m", "d2cli", *map(str, arguments)]


def run(folder, *arguments):
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def stage_of(path):
    (stage,) = json.loads(path.read_text())["stages"]
    return stage


def select(made, cluster, tmp_path, d2, *more):
    """Select on the cluster; return the stage of the report."""
    output, report = tmp_path / "keep.parquet", tmp_path / "report.json"
    line = ("select", made / "s.parquet", "--rate", 0.5, "-o", output, "--report", report)
    code, _, err = d2(*line, "--engine", "ray", "--address", cluster.address, *more)
    assert code == 0, err
    assert output.read_bytes() == (made / "keep.parquet").read_bytes()
    return stage_of(report)


def test_a_cluster_selects_the_same_bytes(made, cluster, tmp_path, d2):
    stage = select(made, cluster, tmp_path, d2, "--partitions", 3)
    assert stage["engine"] == "ray"
    assert stage["partitions"] == 3
    assert stage["tasks"] % 3 == 0
    assert stage["tasks"] >= 3 * stage["rounds"] > 3
    assert stage["retries"] == 0
    steps = {step["step"]: step for step in stage["steps"]}
    assert list(steps) == ["connect", "divide", "hand out", "tasks", "keep"]
    assert steps["hand out"]["bytes_sent"] > 600 * 6 * 12  # edges: a place and a weight each
    assert steps["tasks"]["bytes_sent"] > 600 * 9  # a value and a state a row, once
    assert steps["tasks"]["bytes_received"] >= 300 * 12  # a place and a score a pick
    moved = sum(step["bytes_sent"] + step["bytes_received"] for step in stage["steps"])
    assert stage["bytes_moved"] == moved


def add(a, b):
    return a + b


def die_once(marker, function, *arguments):
    """End the worker the first time, run the task the second."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return function(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)


def always_die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ZeroDivisionError("a bug of ours")


def test_tasks_are_retried_and_failures_are_told_apart(cluster, tmp_path):
    with on_cluster(cluster.address, 1) as executor:
        held = executor.put(np.arange(3))
        tasks = [executor.submit(add, held, number) for number in range(3)]
        assert [result.tolist() for result in executor.gather(tasks)] == [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
        ]
        assert executor.processors >= 2
        assert executor.retries == 0

        lost = executor.submit(die_once, str(tmp_path / "died"), add, 1, 2)
        assert list(executor.gather([lost])) == [3]
        assert executor.retries == 1

        with pytest.raises(ZeroDivisionError, match="a bug of ours"):
            list(executor.gather([executor.submit(fail)]))
        with pytest.raises(ResourceError, match="a task was lost 4 times") as caught:
            list(executor.gather([executor.submit(always_die)]))
        assert "goes on where this one ended" in caught.value.hint


def mine(monkeypatch, choose):
    """Let ``choose`` name what some tasks are begun by: a function and its first argument."""
    submit, go_on = RayExecutor.submit, RayExecutor.go_on

    def submit_mined(self, function, *arguments):
        return submit(self, *(choose(function) or ()), function, *arguments)

    def go_on_mined(self, function, *arguments, anew):
        more = choose(function)
        if more is None:
            return go_on(self, function, *arguments, anew=anew)
        function, *arguments = *more, function, *arguments
        return go_on(self, function, *arguments, anew=lambda: (*more[1:], advance, *anew()))

    monkeypatch.setattr(RayExecutor, "submit", submit_mined)
    monkeypatch.setattr(RayExecutor, "go_on", go_on_mined)


def test_a_worker_that_dies_costs_one_task(made, cluster, tmp_path, d2, monkeypatch):
    tasks = []

    def choose(function):
        tasks.append(function)
        if len(tasks) == 5:  # in the second round
            return die_once, str(tmp_path / "died")
        return None

    mine(monkeypatch, choose)
    stage = select(made, cluster, tmp_path, d2, "--partitions", 3)
    assert stage["retries"] == 1
    assert [step["retries"] for step in stage["steps"] if step["step"] == "tasks"] == [1]
    assert (tmp_path / "died").exists()


def hold(folder, function, *arguments):
    """Tell the node that the task is at, and wait until it may go on."""
    import ray

    place = Path(folder)
    (place / ray.get_runtime_context().get_node_id()).touch()
    until = time.monotonic() + 60
    while not (place / "go").exists() and time.monotonic() < until:
        time.sleep(0.02)
    return function(*arguments)


def kill_once_at_work(cluster, node, place):
    """Take a node away once one of its tasks is held, and let the others go on."""
    until = time.monotonic() + 60
    while not (place / node.node_id).exists() and time.monotonic() < until:
        time.sleep(0.02)
    with unwarned():
        cluster.remove_node(node, allow_graceful=False)
    (place / "go").touch()


def test_a_node_that_dies_costs_its_tasks(made, cluster, tmp_path, d2, monkeypatch):
    with unwarned():
        node = cluster.add_node(**NODE)
    tasks, place = [], tmp_path / "held"
    place.mkdir()

    killer = threading.Thread(target=kill_once_at_work, args=(cluster, node, place))

    def choose(function):
        tasks.append(function)
        if (
            not 8 < len(tasks) <= 15
        ):  # those of the second round, more than there are CPUs elsewhere
            return None
        if len(tasks) == 15:
            killer.start()
        return hold, str(place)

    mine(monkeypatch, choose)
    stage = select(made, cluster, tmp_path, d2, "--partitions", 7)
    killer.join()
    assert (place / node.node_id).exists()
    assert stage["retries"] >= 1


def score_line(made, *more):
    aum = (made / "score.txt").read_text().split("\n")
    aum[1] = str(made / "aum.npy")
    return ("score", made / "g.parquet", *aum, *more)


def test_a_cluster_scores_the_same_bytes_though_a_worker_dies(
    made, cluster, tmp_path, d2, monkeypatch
):
    tasks, output = [], tmp_path / "s.parquet"

    def choose(function):
        tasks.append(function)
        return (die_once, str(tmp_path / "died")) if len(tasks) == 5 else None

    mine(monkeypatch, choose)
    more = ("--engine", "ray", "--address", cluster.address, "--partitions", 3, "-v")
    code, _, err = d2(*score_line(made, *more, "-o", output))
    assert code == 0, err
    assert "6 tasks (ray) for 3 partitions" in err
    assert "1 retries" in err
    (tasks,) = (line for line in err.splitlines() if line.startswith("  score   tasks"))
    assert tasks.split()[-1] == "1"
    scores, again = (read_artifact(path, "scores") for path in (made / "s.parquet", output))
    assert scores.digest == again.digest


def test_a_node_that_dies_while_scoring_costs_its_tasks(made, cluster, tmp_path, d2, monkeypatch):
    with unwarned():
        node = cluster.add_node(**NODE)
    begun, output, place = [], tmp_path / "s.parquet", tmp_path / "held"
    place.mkdir()
    killer = threading.Thread(target=kill_once_at_work, args=(cluster, node, place))

    def choose(function):
        begun.append(function)
        if function is not sum_received or len(begun) > 8:
            return None  # again, or in the second pass
        if len(begun) == 8:
            killer.start()
        return hold, str(place)

    mine(monkeypatch, choose)
    more = ("--engine", "ray", "--address", cluster.address, "--partitions", 7, "--json")
    code, out, err = d2(*score_line(made, *more, "-o", output))
    killer.join()
    assert code == 0, err
    (stage,) = json.loads(out)["stages"]
    assert (place / node.node_id).exists()
    assert stage["tasks"] == 14
    assert 1 <= stage["retries"] <= NODE["num_cpus"]  # what was on that node, nothing else
    scores, again = (read_artifact(path, "scores") for path in (made / "s.parquet", output))
    assert scores.digest == again.digest


def test_a_driver_that_dies_leaves_its_sums(made, cluster, tmp_path, d2):
    store, output = tmp_path / "store", tmp_path / "s.parquet"
    more = ("--engine", "ray", "--address", cluster.address, "--partitions", 20, "--store", store)
    line = score_line(made, *more, "-o", output)
    left = end_when(command(*line), parts_in(store), 3)
    code, _, err = d2(*line, "-v")
    assert code == 0, err
    assert f"{40 - left} tasks (ray) for 20 partitions" in err
    scores, again = (read_artifact(path, "scores") for path in (made / "s.parquet", output))
    assert scores.digest == again.digest


def parts_in(store):
    return lambda: list(store.glob("part-*.parquet"))


def end_when(line, parts, count):
    """Kill a process once there are so many parts; return how many there are then."""
    driver = subprocess.Popen(line, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while len(parts()) < count and time.monotonic() < until:
        time.sleep(0.002)
    driver.kill()
    driver.communicate()
    left = len(parts())
    assert left >= count
    return left


def test_a_driver_that_dies_leaves_its_rounds(made, cluster, tmp_path, d2):
    store = tmp_path / "store"
    more = ("--partitions", 7, "--store", store)
    line = ("select", made / "s.parquet", "--rate", 0.5, "-o", tmp_path / "keep.parquet", *more)
    ray = ("--engine", "ray", "--address", cluster.address)
    left = end_when(command(*line, *ray), parts_in(store), 2)
    assert not (tmp_path / "keep.parquet").exists()

    stage = select(made, cluster, tmp_path, d2, *more)

    assert stage["rounds_found"] == left
    assert stage["tasks"] < 7 * (stage["rounds"] + 2)
    assert not parts_in(store)()


def test_a_driver_that_dies_leaves_its_work_in_a_bucket(made, cluster, tmp_path, d2, s3):
    """Only the driver has to reach the store: the cluster was started without the double."""
    address, output = "s3://bucket/parts", tmp_path / "x.parquet"
    ray = ("--engine", "ray", "--address", cluster.address, "--store", address)

    def parts():
        found = s3.files.get_file_info(pafs.FileSelector("bucket", recursive=True))
        return [info.path for info in found if "/part-" in info.path]

    score = score_line(made, *ray, "--partitions", 20, "-o", output)
    left = end_when(command(*score), parts, 3)
    code, _, err = d2(*score, "-v")
    assert code == 0, err
    assert f"{40 - left} tasks (ray) for 20 partitions" in err
    scores, again = (read_artifact(path, "scores") for path in (made / "s.parquet", output))
    assert scores.digest == again.digest

    output, more = tmp_path / "keep.parquet", ("--partitions", 7)
    line = ("select", made / "s.parquet", "--rate", 0.5, "-o", output)
    left = end_when(command(*line, *ray, *more), parts, 2)
    stage = select(made, cluster, tmp_path, d2, *more, "--store", address)
    assert stage["rounds_found"] == left
    assert not parts()


@pytest.fixture
def client(cluster):
    """The address at which processes outside the cluster are clients of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = ["-m", "ray.util.client.server", "--mode", "legacy", "--host", "127.0.0.1"]
    line = [sys.executable, *line, "--port", str(port), "--address", cluster.address]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"ray://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def test_a_client_of_a_cluster_writes_the_same_bytes(made, client, tmp_path):
    ray = ("--engine", "ray", "--address", client, "--partitions", 3)
    report, output = tmp_path / "report.json", tmp_path / "keep.parquet"
    line = ("select", made / "s.parquet", "--rate", 0.5, "-o", output, "--report", report)
    run(tmp_path, *line, *ray)
    assert output.read_bytes() == (made / "keep.parquet").read_bytes()
    stage = stage_of(report)
    assert (stage["engine"], stage["partitions"]) == ("ray", 3)
    assert stage["tasks"] % 3 == 0
    run(tmp_path, *score_line(made, *ray, "-o", tmp_path / "s.parquet"))
    pair = (read_artifact(folder / "s.parquet", "scores") for folder in (made, tmp_path))
    assert len({scores.digest for scores in pair}) == 1


def test_without_an_address_a_cluster_comes_and_goes(made, tmp_path):
    output, report = tmp_path / "keep.parquet", tmp_path / "r.json"
    line = ("select", made / "s.parquet", "--rate", 0.5, "-o", output, "--report", report)
    done = subprocess.run(
        command(*line, "--engine", "ray", "--partitions", 2, "-q"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert output.read_bytes() == (made / "keep.parquet").read_bytes()
    assert stage_of(report)["engine"] == "ray"


def test_a_cluster_without_d2_is_refused(made, cluster, d2, monkeypatch):
    def not_there():
        raise AssertionError

    not_there.__module__ = not_there.__qualname__ = "nowhere"
    monkeypatch.setitem(sys.modules, "nowhere", ModuleType("nowhere"))
    sys.modules["nowhere"].nowhere = not_there
    monkeypatch.setattr("d2cli.pipeline.cluster.library_versions", not_there)
    line = ("select", made / "s.parquet", "--rate", 0.5, "--engine", "ray")
    code, _, err = d2(*line, "--address", cluster.address)
    assert code == 2
    assert "the cluster's workers have no d2" in err
    assert len(err.splitlines()) == 2


def test_another_version_on_the_cluster_is_refused(made, cluster, d2, monkeypatch):
    monkeypatch.setattr("d2cli.__version__", "9.9")
    line = ("select", made / "s.parquet", "--rate", 0.5, "--engine", "ray")
    code, _, err = d2(*line, "--address", cluster.address)
    assert code == 2
    assert "the cluster's workers have d2cli 0.1.0, this is 9.9" in err
