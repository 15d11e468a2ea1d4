"""Plans: the memory and time of a graph by its shape alone."""

from dataclasses import replace

import numpy as np
import pytest

from d2cli.params import GraphParams
from d2cli.pipeline.estimate import measure_speed, plan_graph, plan_prune, with_limit
from d2cli.pipeline.plan import Job

JOB = Job(1_000_000, 512, np.dtype(np.float32), mapped=True, n_threads=4)
VECTORS = 1_000_000 * 512 * 4
SPEED = 5e10


def plan(job=JOB, speed=SPEED, **params):
    return plan_graph(job, GraphParams(**params), speed=speed)


def step(plan, name):
    return next(step for step in plan.steps if step.name.startswith(name))


def test_small_sets_are_planned_as_exact_search_and_large_ones_as_hnsw():
    assert any(s.name == "exact search" for s in plan(replace(JOB, n_rows=5000)).steps)
    assert any(s.name == "search (hnsw)" for s in plan().steps)
    assert any(s.name == "search (cells)" for s in plan(backend="cells").steps)
    assert "1,000,000 rows x 512, float32 memory-mapped" in plan().title


def test_the_time_of_exact_search_is_that_of_its_products():
    job = replace(JOB, n_rows=10_000, width=100, n_threads=1)
    found = step(plan(job, backend="exact"), "exact").seconds
    assert found == pytest.approx(0.6e8 * (200 / SPEED + 0.4e-9))


def test_threads_share_the_work():
    one, ten = (plan(replace(JOB, n_threads=n)).seconds for n in (1, 10))
    assert 5 < one / ten < 9


def test_a_row_takes_the_time_that_was_measured():
    for backend, least, most in (("cells", 12e-6, 30e-6), ("hnsw", 60e-6, 90e-6)):
        for width in (64, 128):
            job = Job(10**6, width, np.dtype(np.float32), n_threads=1)
            names = ("search", "refine")
            found = sum(step(plan(job, backend=backend), name).seconds for name in names)
            assert least <= found / 10**6 <= most


def test_memory_counts_every_copy_of_the_vectors():
    def read(**job):
        return step(plan(replace(JOB, **job), metric=metric), "read").vectors

    half = {"dtype": np.dtype(np.float16)}
    metric = "l2"
    assert read() == VECTORS
    assert read(**half) == 1.5 * VECTORS
    assert read(**half, mapped=False, in_table=True) == VECTORS
    assert read(moved=True) == 2 * VECTORS
    metric = "cosine"
    assert read() == 2 * VECTORS
    assert read(mapped=False, in_table=True) == VECTORS
    assert read(mapped=False, in_table=True, dtype=np.dtype(np.float64)) == 3 * VECTORS


def test_the_peak_is_the_largest_step_and_more_rows_need_more():
    whole = plan()
    assert whole.peak == max(whole.bytes_of(step) for step in whole.steps)
    assert whole.peak > VECTORS
    assert plan(replace(JOB, n_rows=2_000_000)).peak > whole.peak
    assert plan_prune(JOB, GraphParams(), speed=SPEED).seconds > whole.seconds


def test_a_million_rows_need_less_than_a_gigabyte_and_a_half_beside_themselves():
    job = replace(JOB, n_rows=1_281_167, n_threads=16)
    assert plan(job).peak < 1_281_167 * 512 * 4 + 1.5e9


def test_groups_are_searched_one_after_the_other():
    whole = plan(backend="cells")
    parts = plan(replace(JOB, group_sizes=[100_000] * 10), backend="cells")
    assert step(parts, "project").vectors - VECTORS < (step(whole, "project").vectors - VECTORS) / 9
    assert step(parts, "search").seconds == pytest.approx(step(whole, "search").seconds)
    small = plan(replace(JOB, group_sizes=[1000, 999_000]))
    assert "exact+hnsw" in small.title


def test_vectors_go_to_disk_when_memory_is_short_and_only_then():
    whole = plan()
    assert with_limit(whole, int(whole.peak) + 1) is whole
    tight = with_limit(whole, 2_000_000_000)
    assert tight.resident < VECTORS
    assert tight.peak <= 2_000_000_000
    assert any("vectors stay on disk" in line for line in tight.lines())
    assert with_limit(whole, 500_000_000) is None


def test_what_has_to_be_in_memory_anyway_counts():
    held = plan(replace(JOB, held=10**9))
    assert held.unavoidable == pytest.approx(plan().unavoidable + 10**9)


def test_lines_and_json_say_the_same():
    whole = plan()
    told = whole.to_dict()
    assert len(whole.lines()) == len(told["steps"]) + 2
    assert told["peak_memory_bytes"] == round(whole.peak)
    assert sum(s["seconds"] for s in told["steps"]) == pytest.approx(told["seconds"], abs=0.1)


def test_the_speed_of_this_machine_is_positive():
    assert measure_speed() > 1e8


def test_codes_take_their_own_bytes_and_their_bits_where_they_are_not_scanned():
    codes = replace(JOB, width=64, dtype=np.dtype(np.uint8), mapped=False, in_table=True)
    small = plan(replace(codes, n_rows=20_000), metric="hamming")
    assert "20,000 rows x 512, uint8 in a table, 10 neighbors by hamming, exact" in small.title
    assert step(small, "read").vectors == step(small, "exact").vectors == 20_000 * 64
    large = plan(codes, metric="hamming")
    assert step(large, "read").vectors == 1_000_000 * 64
    assert step(large, "search (hnsw)").vectors >= 1_000_000 * (64 + 512 * 4)


def test_a_scan_takes_the_time_of_all_pairs_whatever_the_backend():
    job = replace(JOB, n_rows=100_000, width=100, n_threads=1)
    found = step(plan(job, metric="l1"), "exact").seconds
    assert found == pytest.approx(1e10 * (15e-9 + 100 * 0.045e-9))
    assert step(plan(job, metric="l1"), "read").vectors == 100_000 * 100 * 4


def test_whitening_is_a_step_that_holds_both_copies():
    job = replace(JOB, n_rows=50_000, n_threads=1)
    found = step(plan(job, metric="mahalanobis"), "whiten")
    assert found.vectors == 2 * 50_000 * 512 * 4
    assert found.seconds == pytest.approx(50_000 * 512**2 * 0.17e-9)
    in_table = replace(job, mapped=False, in_table=True)
    assert step(plan(in_table, metric="mahalanobis"), "whiten").vectors == 50_000 * 512 * 4
    whole = replace(job, dtype=np.dtype(np.int32))
    assert step(plan(whole, metric="mahalanobis"), "whiten").vectors == 50_000 * 512 * (4 + 8 + 4)
    assert not any(one.name == "whiten" for one in plan().steps)
