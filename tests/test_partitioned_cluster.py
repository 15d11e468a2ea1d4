"""Graphs in partitions as tasks on a Ray cluster: the same, and only what was lost is repeated."""

import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
import test_cluster
from ray_cluster import NODE, unwarned
from test_cluster import command, die_once, end_when, hold, parts_in, run

from d2cli.files.artifacts import peek, read_artifact
from d2cli.pipeline import partitioned
from d2cli.pipeline.cluster import RayExecutor

PARTITIONS, ASKED = 5, 9  # and tasks that answer or merge answers
s3_server, s3, client = test_cluster.s3_server, test_cluster.s3, test_cluster.client


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with vectors, their difficulty, and a graph made in this process."""
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(8)
    centers = rng.normal(size=(40, 6)) * 4
    vectors = centers[rng.integers(40, size=5000)] + rng.normal(size=(5000, 6))
    vectors[70:90] = vectors[4900]
    np.save(folder / "v.npy", vectors.astype(np.float32))
    np.save(folder / "aum.npy", rng.random(5000))
    run(folder, *graph_line(folder), "-o", "g.parquet", "--cache-dir", folder / "cache")
    return folder


def graph_line(here, *more):
    how = ("-k", 5, "--backend", "cells", "--partitions", PARTITIONS)
    return ("graph", here / "v.npy", *how, *more)


def on(cluster):
    return ("--engine", "ray", "--address", cluster.address)


def build(here, cluster, tmp_path, d2, *more):
    """Build the graph on the cluster; return what was told of it."""
    output = tmp_path / "g.parquet"
    code, _, err = d2(*graph_line(here, *on(cluster), "-v", "-o", output, *more))
    assert code == 0, err
    ours, theirs = (read_artifact(path, "graph") for path in (here / "g.parquet", output))
    assert ours.digest == theirs.digest  # of all but the way to the vectors
    return err


def numbers(err):
    """Return tasks and retries."""
    return tuple(int(re.search(rf"(\d+) {what}", err)[1]) for what in ("tasks", "retries"))


@pytest.fixture
def submitted(monkeypatch):
    """A list of the tasks submitted; what a test puts into its dict runs in a task's place."""
    submit, names, instead = RayExecutor.submit, [], {}

    def mined(self, function, *arguments):
        names.append(function.__name__)
        around = instead.get(len(names))
        if around is None:
            return submit(self, function, *arguments)
        return submit(self, *around, function, *arguments)

    monkeypatch.setattr(RayExecutor, "submit", mined)
    return names, instead


def test_a_cluster_builds_the_same_bytes_though_workers_die(
    here, cluster, tmp_path, d2, submitted, monkeypatch
):
    names, instead = submitted
    pieces = 3
    monkeypatch.setattr(partitioned, "PIECE_BYTES", 2000 * 6 * 4)
    searched = pieces + 3 * PARTITIONS
    losses = (2, pieces + 3, pieces + PARTITIONS + 2, searched - 1, searched + 2, searched + 8)
    for at in losses:
        instead[at + 1] = (die_once, str(tmp_path / f"died-{at}"))  # after that of the versions
    err = build(here, cluster, tmp_path, d2)
    assert len(list(tmp_path.glob("died-*"))) == len(losses)
    assert numbers(err) == (searched + ASKED, len(losses))
    assert names[1 : searched + 1] == [
        *["divide_rows"] * pieces,
        *["index_partition"] * PARTITIONS,
        *["ask_partition"] * PARTITIONS,
        *["search_partition"] * PARTITIONS,
    ]
    assert names[searched + 1] == "answer_partition"
    assert names[searched + 8 + 1] == "merge_partition"


def test_a_node_that_dies_costs_its_tasks(here, cluster, tmp_path, d2, submitted):
    with unwarned():
        node = cluster.add_node(**NODE)
    _, instead = submitted
    place = tmp_path / "held"
    place.mkdir()
    for at in range(4, 4 + PARTITIONS):  # more than there are CPUs elsewhere
        instead[at] = (hold, str(place))

    def kill():
        until = time.monotonic() + 60
        while not (place / node.node_id).exists() and time.monotonic() < until:
            time.sleep(0.02)
        with unwarned():
            cluster.remove_node(node, allow_graceful=False)
        (place / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    err = build(here, cluster, tmp_path, d2)
    killer.join()
    assert (place / node.node_id).exists()
    assert numbers(err)[1] >= 1


def test_a_driver_that_dies_leaves_its_parts(here, cluster, tmp_path, d2):
    store = tmp_path / "store"
    line = graph_line(here, *on(cluster), "--store", store, "-o", tmp_path / "g.parquet")
    end_when(command(*line), parts_in(store), 8)  # among them the mark; indexing goes on
    assert not (tmp_path / "g.parquet").exists()
    # Tasks that are running end with their driver, or keep what they have after we have looked.
    kept = {stage_of(path) for path in store.glob("part-*.parquet")}
    pieces = len([one for one in kept if one[0] == "piece"])
    indexed = {one[1] for one in kept if one[0] == "cells"}
    indexed &= {one[1] for one in kept if one[0] == "centers"}
    later = len([one for one in kept if one[0] in ("sample", "lists")])
    err = build(here, cluster, tmp_path, d2, "--store", store)
    assert pieces == 1
    assert len(indexed) >= 1
    assert numbers(err)[0] <= 3 * PARTITIONS + ASKED - len(indexed) - later
    assert not list(store.glob("part-*.parquet"))


def stage_of(path):
    made = peek(path)["parameters"]
    return made["stage"], made.get("partition", made.get("start"))


def test_a_store_that_workers_do_not_see_is_refused(here, cluster, tmp_path, d2, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    store = Path("/proc/self/cwd/own")  # each process has another
    if not store.samefile(tmp_path / "own"):
        pytest.skip("this system has no /proc")
    line = graph_line(here, *on(cluster), "--store", store, "-o", tmp_path / "g.parquet")
    code, _, err = d2(*line)
    assert code == 2
    said, _ = err.splitlines()[-2:]  # Ray may tell of nodes that other tests have ended
    assert said == f"error: {store}: is not seen by all nodes of the cluster"


def test_all_stages_of_prune_run_on_a_cluster(here, cluster, tmp_path, d2):
    aum = ("--difficulty", here / "aum.npy", "--harder", "low", "--rate", 0.8)
    line = ("prune", here / "v.npy", *aum, "-k", 5, "--backend", "cells")
    report, output = tmp_path / "report.json", tmp_path / "keep.parquet"
    more = ("--partitions", 3, "--report", report, "-o", output)
    kept, stages = [], []
    for name, engine in (("local", ()), ("ray", on(cluster))):
        code, _, err = d2(*line, *more, *engine, "--cache-dir", tmp_path / name)
        assert code == 0, err
        kept.append(output.read_bytes())
        output.unlink()
        stages.append(json.loads(report.read_text())["stages"])
    assert kept[0] == kept[1]
    for engine, told in zip(("local", "ray"), stages, strict=True):
        assert [(one["stage"], one["engine"], one["partitions"]) for one in told] == [
            ("graph", engine, 3),
            ("score", engine, 3),
            ("select", engine, 3),
        ]
        assert all(one["tasks"] >= 3 for one in told)


def test_partitions_live_in_a_bucket(here, s3, tmp_path):
    """Its own cluster: workers have to reach the bucket, and inherit the way to it."""
    line = (*graph_line(here), "--engine", "ray", "--store", "s3://bucket/parts")
    run(tmp_path, *line, "-o", tmp_path / "g.parquet", "--cache-dir", tmp_path / "cache")
    ours, theirs = (read_artifact(folder / "g.parquet", "graph") for folder in (here, tmp_path))
    assert ours.digest == theirs.digest
    assert any(path.startswith("/bucket/parts/part-") for _, path, _, _ in s3.requests)
    left = s3.files.get_file_info(pafs.FileSelector("bucket", recursive=True))
    assert not [info.path for info in left if "/part-" in info.path]
    assert not list((tmp_path / "cache").rglob("part-*"))


def test_a_client_of_a_cluster_builds_the_same_bytes(here, client, tmp_path):
    line = (*graph_line(here), "--engine", "ray", "--address", client)
    run(tmp_path, *line, "--store", tmp_path / "parts", "-o", tmp_path / "g.parquet")
    ours, theirs = (read_artifact(folder / "g.parquet", "graph") for folder in (here, tmp_path))
    assert ours.digest == theirs.digest
