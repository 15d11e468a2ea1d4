"""Updated graphs of several modalities, held against graphs built anew by the same bandwidths."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.errors import InputError
from d2cli.params import GraphParams
from d2cli.stages.fused import fuse, metric_for
from d2cli.stages.fused_update import update_fused
from d2cli.stages.fusion import as_modalities, shares_of
from d2cli.stages.groups import group_by
from d2cli.stages.recall import share_found

FUSIONS = ("concat", "distance", "graphs")


def modalities_of(vectors, has, rows, metric):
    """Return the modalities of some rows: ``has[name]`` says which of all rows have one."""
    there = {name: np.flatnonzero(has[name][rows]) for name in vectors}
    kept = {name: vectors[name][rows][there[name]] for name in vectors}
    shares = shares_of({name: 1 + i for i, name in enumerate(sorted(vectors))})
    some = {name: own if len(own) < len(rows) else None for name, own in there.items()}
    return as_modalities(kept, shares, len(rows), metric, rows=some)


def with_gaps(rng, n, share):
    """Return which rows have an image and which a text: every row has one of them."""
    state = np.where(rng.random(n) < share, rng.integers(1, 3, n), 0)
    return {"image": state != 1, "text": state != 2}


def rebuilt_and_updated(
    fusion, vectors, has, n_old, survivors, params, *, labels=None, n_threads=1
):
    made = metric_for(params, fusion)
    now = np.concatenate([survivors, np.arange(n_old, len(vectors["image"]))])
    old = modalities_of(vectors, has, np.arange(n_old), made.metric)
    new = modalities_of(vectors, has, now, made.metric)
    groups = [None, None] if labels is None else [group_by(labels[:n_old]), group_by(labels[now])]
    before = fuse(old, fusion, made, groups=groups[0])
    rebuilt = fuse(new, fusion, made, groups=groups[1], bandwidths=before.bandwidths)
    more = {"groups": groups[1], "n_threads": n_threads}
    updated = update_fused(before.graph, new, survivors, fusion, made, before.bandwidths, **more)
    return rebuilt, updated


def assert_same(updated, rebuilt):
    one, two = updated.graph, rebuilt.graph
    np.testing.assert_array_equal(one.neighbors, two.neighbors)
    np.testing.assert_array_equal(one.distances, two.distances)
    assert (one.backend, one.n_duplicates) == (two.backend, two.n_duplicates)
    assert updated.bandwidths == rebuilt.bandwidths
    assert updated.recalls == rebuilt.recalls


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(FUSIONS),
    st.integers(2, 40),
    st.integers(0, 20),
    st.integers(1, 8),
    st.sampled_from([0.3, 0.8, 1.0]),
    st.sampled_from([2, 1000]),
    st.sampled_from([0.0, 0.5]),
    st.booleans(),
    st.sampled_from(["l2", "cosine"]),
)
@settings(max_examples=150, deadline=None)
def test_an_exact_update_equals_a_graph_built_anew_by_its_bandwidths(
    seed, fusion, n, m, k, share, values, gaps, grouped, metric
):
    rng = np.random.default_rng(seed)
    vectors = {
        "image": rng.integers(1, values, (n + m, 2)).astype(np.float32),
        "text": 50.0 * rng.integers(1, values, (n + m, 3)),
    }
    has = with_gaps(rng, n + m, 0 if fusion == "concat" else gaps)
    for one in has.values():
        one[0] = True  # both there, before and after
    labels = rng.integers(0, 3, n + m) if grouped else None
    survivors = np.flatnonzero(np.append(True, rng.random(n - 1) < share))
    metric = "l2" if fusion == "concat" else metric
    params = GraphParams(n_neighbors=k, backend="exact", metric=metric)
    rebuilt, updated = rebuilt_and_updated(
        fusion, vectors, has, n, survivors, params, labels=labels
    )
    assert_same(updated, rebuilt)


@pytest.fixture(scope="module")
def pairs():
    """Clustered images and texts of 2,600 rows; some lack one of them."""
    rng = np.random.default_rng(4)
    label = rng.integers(0, 30, 2600)
    image = rng.normal(size=(30, 12))[label] + 0.5 * rng.normal(size=(2600, 12))
    text = 40 * (rng.normal(size=(30, 6))[label] + 0.5 * rng.normal(size=(2600, 6)))
    image[2590:], text[2590:] = image[:10], text[:10]  # twins
    vectors = {"image": image.astype(np.float32), "text": text}
    return vectors, with_gaps(rng, 2600, 0.2)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_threads_do_not_change_an_update(pairs, fusion):
    vectors, has = pairs
    if fusion == "concat":
        has = {name: np.ones(2600, np.bool_) for name in vectors}
    params = GraphParams(n_neighbors=5, backend="exact")
    survivors = np.arange(3, 2500)
    rebuilt, one = rebuilt_and_updated(fusion, vectors, has, 2500, survivors, params)
    _, two = rebuilt_and_updated(fusion, vectors, has, 2500, survivors, params, n_threads=3)
    assert_same(one, rebuilt)
    assert_same(two, one)


@pytest.mark.parametrize("backend", ["cells", "hnsw"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_four_additions_do_not_wear_out_the_recall(pairs, fusion, backend):
    vectors, has = pairs
    if fusion == "concat":
        has = {name: np.ones(2600, np.bool_) for name in vectors}
    params = metric_for(GraphParams(n_neighbors=5, backend=backend, recall=0.9), fusion)
    exactly = replace(params, backend="exact")
    at = 1400

    def first(n):
        return modalities_of(vectors, has, np.arange(n), params.metric)

    fused = fuse(first(at), fusion, params)
    scales = fused.bandwidths
    for _ in range(4):
        now = at + at // 20
        fused = update_fused(fused.graph, first(now), np.arange(at), fusion, params, scales)
        at = now
    truth = fuse(first(at), fusion, exactly, bandwidths=scales)
    again = fuse(first(at), fusion, params, bandwidths=scales)
    if fusion != "graphs":
        found, anew = (
            share_found(one.graph.distances, truth.graph.distances) for one in (fused, again)
        )
        assert found >= anew - 0.005
        assert abs(fused.graph.recall.value - found) < 0.03
        assert fused.graph.recall.sample_size == 1000
        return
    # The union has distances of its own: what each row lists is held against the exact union.
    lists = [one.graph.neighbors for one in (truth, fused, again)]
    shares = [
        np.mean([len(set(a) & set(b)) / len(set(a)) for a, b in zip(lists[0], one, strict=True)])
        for one in lists[1:]
    ]
    assert shares[0] >= shares[1] - 0.005
    assert fused.graph.recall.value == min(one.value for one in fused.recalls.values()) >= 0.9


def test_concat_needs_every_modality_of_added_rows(pairs):
    vectors, _ = pairs
    whole = {name: np.ones(2600, np.bool_) for name in vectors}
    lacking = {name: one.copy() for name, one in whole.items()}
    lacking["text"][2500:] = False
    params = metric_for(GraphParams(n_neighbors=3), "concat")
    before = fuse(modalities_of(vectors, whole, np.arange(100), "cosine"), "concat", params)
    new = modalities_of(vectors, lacking, np.r_[:100, 2500:2510], "cosine")
    with pytest.raises(InputError, match="row 100 has no text"):
        update_fused(before.graph, new, np.arange(100), "concat", params, before.bandwidths)
