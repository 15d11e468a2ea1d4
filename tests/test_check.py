"""Checks: what each of them passes and what it warns of, held against slow counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact_neighbors

from d2cli.stages import class_checks, difficulty_checks, geometry_checks, neighborhood_checks
from d2cli.stages.groups import group_by
from d2cli.stages.neighborhood_checks import Nearby
from d2cli.stages.soundness import check_values, sound_vectors, survey_vectors
from d2cli.stages.space import build_space, distinct_rows
from d2cli.stages.verdicts import Check, marked_rows, passed, warned, worst


def survey(vectors, **more):
    vectors = np.asarray(vectors)
    return survey_vectors(vectors, np.ones(len(vectors), dtype=bool), **more)


def space_of(vectors):
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    places, _, _ = distinct_rows(vectors, np.arange(len(vectors)))
    return build_space(vectors, places)


def near(vectors, k=10):
    return neighborhood_checks.look_nearby(space_of(vectors), k, seed=0)


@pytest.fixture
def blobs():
    """600 rows of 5 classes far apart in 16 axes, and their classes."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 5, 600).astype(np.int32)
    vectors = rng.normal(size=(5, 16))[codes] * 4 + rng.normal(size=(600, 16))
    return vectors.astype(np.float32), codes


@pytest.fixture
def noise():
    """900 rows without structure in 200 axes."""
    return np.random.default_rng(6).normal(size=(900, 200)).astype(np.float32)


# Verdicts


def test_a_check_that_does_not_pass_needs_advice_and_one_that_does_has_none():
    with pytest.raises(ValueError, match="advice"):
        Check("x", "warn", "found")
    with pytest.raises(ValueError, match="advice"):
        Check("x", "pass", "found", "do this")


def test_the_worst_verdict_counts():
    fine, bad = passed("a", "fine"), warned("b", "bad", "mend")
    assert worst([]) == "pass"
    assert worst([fine, bad]) == "warn"
    assert worst([bad, Check("c", "fail", "x", "y"), fine]) == "fail"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "0 rows"),
        ([4], "1 row (4)"),
        ([1, 2, 9], "3 rows (1, 2, 9)"),
        ([0, 1, 2, 3], "4 rows (0, 1, 2, ...)"),
    ],
)
def test_marked_rows_are_counted_and_the_first_named(rows, text):
    marks = np.zeros(10, dtype=bool)
    marks[rows] = True
    assert marked_rows(marks) == (text, {"count": len(rows), "first_rows": rows[:3]})


# Soundness


def verdicts(vectors, metric="l2"):
    vectors = np.asarray(vectors)
    return {
        check.name: check.verdict for check in check_values(survey(vectors), vectors.dtype, metric)
    }


def test_sound_vectors_pass_all_checks_of_values(cloud):
    assert set(verdicts(cloud).values()) == {"pass"}


@pytest.mark.parametrize(
    ("value", "name"), [(np.nan, "nan"), (np.inf, "infinities"), (2e37, "magnitudes")]
)
def test_each_bad_value_fails_its_own_check_only(cloud, value, name):
    cloud[[3, 17], 2] = value
    found = verdicts(cloud)
    assert found.pop(name) == "fail"
    assert set(found.values()) == {"pass"}


def test_values_too_small_for_distances_fail(cloud):
    assert verdicts(cloud.astype(np.float64) * 1e-40)["magnitudes"] == "fail"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_that_overflow_float32_warn(cloud, dtype):
    vectors = cloud.astype(dtype)
    vectors[[3, 17]] *= np.float32(1e20)
    found = {check.name: check for check in check_values(survey(vectors), vectors.dtype, "l2")}
    assert found["magnitudes"].verdict == "warn"
    assert found["magnitudes"].figures["count"] == 2
    assert found["magnitudes"].figures["first_rows"] == [3, 17]
    with np.errstate(over="ignore"):  # as is said
        assert np.isinf((vectors[[3, 17]].astype(np.float32) ** 2).sum(axis=1)).all()
    assert verdicts(cloud * np.float32(1e17))["magnitudes"] == "pass"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (np.linspace(0, 1, 100), "pass"),
        (np.append(np.linspace(0, 1, 99), 1e4), "pass"),
        (np.append(np.linspace(0, 1, 99), -1e7), "warn"),
        (np.linspace(0, 9e299, 100), "pass"),
        (np.geomspace(1e-3, 1e9, 100), "pass"),
        (np.geomspace(1e-300, 1e301, 100), "warn"),
        (np.linspace(-9e299, 9e299, 100), "warn"),
        (np.append(np.zeros(99), 1e9), "pass"),  # ties are another check
        (np.linspace(-1, 1, 100) * 1e308, "fail"),
    ],
)
def test_difficulties_too_large_or_far_off_are_told(values, verdict):
    null = np.zeros(len(values), dtype=bool)
    check = difficulty_checks.check_numbers(values, null, "low")
    assert check.verdict == verdict, check


def test_zero_vectors_warn_and_fail_only_where_they_have_no_direction(cloud):
    cloud[5] = 0
    assert verdicts(cloud)["zero-vectors"] == "warn"
    assert verdicts(cloud, "cosine")["zero-vectors"] == "fail"


@given(st.integers(1, 9000), st.integers(1, 3), st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_survey_counts_what_numpy_counts_whatever_the_threads(n, threads, seed):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, 3)) + 1000).astype(np.float32)
    vectors[rng.random((n, 3)) < 0.01] = np.nan
    vectors[rng.random(n) < 0.01] = 0
    wanted = rng.random(n) < 0.9
    found = survey_vectors(vectors, wanted, n_threads=threads)
    nan = np.isnan(vectors).any(axis=1)
    np.testing.assert_array_equal(found.nan, nan & wanted)
    np.testing.assert_array_equal(found.zero, (vectors == 0).all(axis=1) & wanted)
    sound = vectors[wanted & ~nan].astype(np.float64)
    assert found.n_finite == len(sound)
    if len(sound):
        np.testing.assert_allclose(found.mean, sound.mean(axis=0), rtol=1e-6)
        # Differences from a block's mean are float64, those of float32 numbers near 1,000.
        np.testing.assert_allclose(found.variance, sound.var(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.low, sound.min(axis=0))
        np.testing.assert_array_equal(found.high, sound.max(axis=0))
        np.testing.assert_allclose(
            found.lengths[wanted & ~nan], np.linalg.norm(sound, axis=1), rtol=1e-6
        )


def test_bad_rows_do_not_change_the_sound_ones(cloud):
    bad = cloud.copy()
    bad[[0, 9]] = np.nan
    sound = ~np.isnan(bad).any(axis=1)
    for metric in ("l2", "cosine"):
        mended = sound_vectors(bad, sound, metric)
        np.testing.assert_array_equal(
            mended[sound], sound_vectors(cloud, sound | True, metric)[sound]
        )
        assert np.isfinite(mended).all()
    assert np.isnan(bad[0]).all()  # the input stays


# Geometry


def test_equal_rows_pass_while_they_are_few_and_warn_when_they_are_many():
    few = np.concatenate([np.arange(1000), [4]]).astype(np.int32)
    many = np.repeat(np.arange(100), 2).astype(np.int32)
    assert geometry_checks.check_repeated(np.arange(9, dtype=np.int32), None).verdict == "pass"
    check = geometry_checks.check_repeated(few, None)
    assert (check.verdict, check.figures["repeats"]) == ("pass", 1)
    check = geometry_checks.check_repeated(many, None)
    assert (check.verdict, check.figures["share"]) == ("warn", 0.5)


def test_equal_rows_with_different_labels_warn_even_if_they_are_few():
    leaders = np.concatenate([np.arange(1000), [4, 7, 7]]).astype(np.int32)
    same = np.zeros(1003, dtype=np.int32)
    other = same.copy()
    other[[1000, 1002]] = 1
    assert geometry_checks.check_repeated(leaders, same).verdict == "pass"
    check = geometry_checks.check_repeated(leaders, other)
    assert (check.verdict, check.figures["conflicts"]) == ("warn", 2)


def test_dead_axes_warn_when_they_are_many(cloud):
    assert geometry_checks.check_axes(survey(cloud)).verdict == "pass"
    wide = np.tile(cloud, 5)
    wide[:, 7] = 3.25
    check = geometry_checks.check_axes(survey(wide))
    assert (check.verdict, check.figures["first_axes"]) == ("pass", [7])
    wide[:, 10:14] = 3.25 + 1e-7 * wide[:, 10:14]  # rounding of a constant
    check = geometry_checks.check_axes(survey(wide))
    assert (check.verdict, check.figures["constant"]) == ("warn", 5)


def test_an_axis_far_from_zero_is_not_constant():
    column = np.float64(1e6) + np.arange(100.0)[:, None]
    assert not survey(column).constant.any()


@pytest.mark.parametrize("offset", [0, 50])
def test_directions_are_the_participation_ratio_of_the_covariance(offset):
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(950, 12)) * np.linspace(0.2, 3, 12) + offset).astype(np.float32)
    spread = np.linalg.eigvalsh(np.cov(vectors.T))
    expected = spread.sum() ** 2 / (spread**2).sum()
    found = geometry_checks.count_directions(space_of(vectors), seed=0)
    # The trace of the square is unbiased here, and a little too large in the oracle.
    assert found == pytest.approx(expected, rel=0.02)


def test_one_axis_that_decides_alone_warns_and_is_named(cloud):
    def check(vectors):
        directions = geometry_checks.count_directions(space_of(vectors), seed=0)
        return geometry_checks.check_directions(directions, survey(vectors))

    wide = np.random.default_rng(2).normal(size=(300, 24)).astype(np.float32)
    assert check(wide).verdict == "pass"
    wide[:, 5] *= 100
    found = check(wide)
    assert found.verdict == "warn"
    assert "axis 5" in found.found
    assert check(cloud[:, :2]).verdict == "pass"  # two axes cannot hold more than two directions


def lengths_check(vectors, metric="l2"):
    directions = geometry_checks.count_directions(space_of(vectors), seed=0)
    return geometry_checks.check_lengths(survey(vectors), metric, directions)


def test_lengths_that_spread_suggest_cosine(noise):
    rng = np.random.default_rng(3)
    spread = noise * rng.lognormal(sigma=0.5, size=(900, 1)).astype(np.float32)
    unit = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    check = lengths_check(spread)
    assert check.verdict == "warn"
    assert "--metric cosine" in check.advice
    length = np.linalg.norm(spread.astype(np.float64), axis=1)
    assert check.figures["spread"] == pytest.approx(length.std() / length.mean(), rel=1e-5)
    assert lengths_check(spread, "cosine").verdict == "pass"
    assert lengths_check(noise).verdict == "pass"
    assert "all rows have length 1" in lengths_check(unit.astype(np.float16)).found


def test_few_axes_spread_by_themselves_and_do_not_warn():
    plane = np.random.default_rng(4).normal(size=(500, 2)).astype(np.float32)
    check = lengths_check(plane)
    assert check.figures["spread"] > geometry_checks.LENGTH_SPREAD
    assert check.verdict == "pass"


# Neighbourhoods


def test_neighbors_of_the_sample_are_the_exact_ones(cloud):
    found = near(cloud, k=4)
    neighbors, distances = exact_neighbors(cloud, 4)
    np.testing.assert_array_equal(found.neighbors, neighbors[found.rows])
    np.testing.assert_array_equal(found.nearest, distances[found.rows, 0])
    far = np.linalg.norm(cloud[:, None].astype(np.float64) - cloud, axis=2)
    # The median of 200 random pairs lies between these quantiles of all pairs but once in 1,000.
    low, high = np.quantile(far[np.triu_indices(200, 1)], [0.38, 0.62])
    assert low < found.anywhere < high


def slow_skewness(values):
    mean = sum(values) / len(values)
    second = sum((v - mean) ** 2 for v in values) / len(values)
    return sum((v - mean) ** 3 for v in values) / len(values) / second**1.5


def test_links_and_their_skewness_equal_the_slow_count(cloud):
    links = neighborhood_checks.count_links(space_of(cloud), 5, seed=0)
    neighbors, _ = exact_neighbors(cloud, 5)
    slow = [sum(i in row for row in neighbors.tolist()) for i in range(len(cloud))]
    assert links.tolist() == slow
    check = neighborhood_checks.check_hubs(links)
    assert check.figures["skewness"] == pytest.approx(slow_skewness(slow))
    assert check.figures["most_links"] == max(slow)
    assert check.verdict == "pass"


def test_hubs_warn(noise):
    check = neighborhood_checks.check_hubs(
        neighborhood_checks.count_links(space_of(noise), 10, seed=0)
    )
    assert check.verdict == "warn"
    assert check.figures["skewness"] > neighborhood_checks.HUB_SKEWNESS
    assert neighborhood_checks.skewness(np.full(5, 3)) == 0


def test_the_advice_against_hubs_works(noise):
    centred = noise - noise.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    links = neighborhood_checks.count_links(space_of(unit), 10, seed=0)
    assert neighborhood_checks.check_hubs(links).verdict == "pass"


def test_near_repeats_warn_when_they_are_many(blobs):
    vectors, _ = blobs
    assert neighborhood_checks.check_near_repeats(near(vectors), 16).verdict == "pass"
    copies = np.concatenate([vectors, vectors[:30] + np.float32(1e-3)])
    check = neighborhood_checks.check_near_repeats(near(copies), 16)
    assert check.verdict == "warn"
    assert check.figures["share"] == pytest.approx(60 / 630)
    assert check.figures["first_rows"] == [0, 1, 2]


@pytest.mark.parametrize("seed", range(8, 14))
def test_points_spread_evenly_on_a_line_are_no_near_repeats(seed):
    line = np.random.default_rng(seed).random(size=(3000, 1))
    check = neighborhood_checks.check_near_repeats(near(line), 1)
    assert check.figures["share"] > neighborhood_checks.NEAR_REPEATED
    assert check.verdict == "pass"


def test_contrast_warns_only_where_all_rows_are_about_equally_far(blobs):
    rng = np.random.default_rng(9)
    assert neighborhood_checks.check_contrast(near(blobs[0])).verdict == "pass"
    check = neighborhood_checks.check_contrast(near(rng.normal(size=(400, 2000))))
    assert check.verdict == "warn"
    assert check.figures["ratio"] > 0.9


def test_label_agreement_is_the_slow_share_and_chance_that_of_random_pairs(blobs):
    vectors, codes = blobs
    here = near(vectors)
    found = neighborhood_checks.label_agreement(here, codes, seed=0)
    same = [
        codes[i] == codes[j] for i, row in zip(here.rows, here.neighbors, strict=True) for j in row
    ]
    assert found.value == pytest.approx(sum(same) / len(same))
    shares = np.bincount(codes) / len(codes)
    assert found.chance == pytest.approx((shares**2).sum(), abs=0.01)
    assert neighborhood_checks.check_label_agreement(found).verdict == "pass"


def test_labels_that_distances_say_nothing_about_warn(blobs):
    vectors, codes = blobs
    for seed in range(5):
        mixed = np.random.default_rng(seed).permutation(codes)
        found = neighborhood_checks.label_agreement(near(vectors), mixed, seed=seed)
        assert neighborhood_checks.check_label_agreement(found).verdict == "warn"


def test_unequal_classes_agree_often_by_chance_and_still_warn(blobs):
    rare = (np.random.default_rng(0).random(600) < 0.03).astype(np.int32)
    found = neighborhood_checks.label_agreement(near(blobs[0]), rare, seed=0)
    assert found.value > 0.9
    assert neighborhood_checks.check_label_agreement(found).verdict == "warn"


def slow_ranks(values):
    return [
        sum(v < value for v in values) + (sum(v == value for v in values) - 1) / 2
        for value in values
    ]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_ranks_equal_the_slow_count(values):
    found = neighborhood_checks.rank_values(np.array(values, dtype=np.float64))
    assert found.tolist() == slow_ranks(values)


def test_edge_correlation_equals_the_slow_one():
    rng = np.random.default_rng(10)
    difficulty = rng.integers(0, 6, 12).astype(np.float64)
    rows = np.arange(12)
    neighbors = np.stack([(rows + 1) % 12, (rows + 5) % 12], axis=1)
    here = Nearby(rows, neighbors, np.ones(12), 1.0)
    ranks = slow_ranks(difficulty.tolist())
    pairs = [(ranks[i], ranks[j]) for i in rows for j in neighbors[i]]
    expected = np.corrcoef(np.array(pairs).T)[0, 1]
    found = neighborhood_checks.edge_correlation(here, difficulty, seed=0)
    assert found.value == pytest.approx(expected)
    assert abs(found.chance) < 0.2
    assert neighborhood_checks.correlation(np.ones(3), np.arange(3.0)) == 0


def test_shuffled_difficulty_is_told_from_real(blobs):
    vectors, codes = blobs
    real = codes + np.random.default_rng(11).normal(size=600)
    here = near(vectors)
    found = neighborhood_checks.edge_correlation(here, real, seed=0)
    assert neighborhood_checks.check_edge_correlation(found).verdict == "pass"
    for seed in range(5):
        mixed = np.random.default_rng(seed).permutation(real)
        found = neighborhood_checks.edge_correlation(here, mixed, seed=seed)
        assert neighborhood_checks.check_edge_correlation(found).verdict == "warn"
        assert found.highest > 0


# Difficulty


def test_usable_numbers_pass_and_all_others_are_counted_together():
    values = np.arange(10.0)
    null = np.zeros(10, dtype=bool)
    assert difficulty_checks.check_numbers(values, null, "low").verdict == "pass"
    values[[2, 3, 5]] = np.nan, np.inf, np.nan
    null[2] = True
    check = difficulty_checks.check_numbers(values, null, "low")
    assert check.verdict == "fail"
    assert check.found == "null in 1 row (2); NaN in 1 row (5); infinite in 1 row (3)"


def test_a_range_that_overflows_fails_as_it_does_in_scoring():
    check = difficulty_checks.check_numbers(np.array([-1e308, 1e308]), np.zeros(2, bool), "low")
    assert check.verdict == "fail"
    assert "overflows" in check.found


def test_an_unknown_direction_fails_with_the_option_that_settles_it():
    check = difficulty_checks.check_direction(None, "", "q")
    assert check.verdict == "fail"
    assert "--harder high or --harder low" in check.advice
    assert difficulty_checks.check_direction("low", "its name", "aum").verdict == "pass"


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30))
def test_ties_are_the_share_of_equal_pairs(values):
    pairs = [(a, b) for i, a in enumerate(values) for b in values[:i]]
    check = difficulty_checks.check_ties(np.array(values, dtype=np.float64))
    expected = sum(a == b for a, b in pairs) / len(pairs)
    assert check.figures["tied"] == pytest.approx(expected)
    assert (check.verdict == "warn") == (expected > difficulty_checks.TIED)


def test_a_difficulty_that_is_the_same_for_all_rows_warns():
    check = difficulty_checks.check_ties(np.full(5, 2.5))
    assert check.verdict == "warn"
    assert "uniform" in check.advice


def test_margins_pass_warn_of_wrong_labels_and_warn_of_a_turned_sign():
    rng = np.random.default_rng(12)
    fine = rng.normal(3, 1.5, 3000)
    check = difficulty_checks.check_margins(fine, seed=0)
    assert check.verdict == "pass"
    assert check.figures["negative"] == (fine < 0).mean()
    noisy = np.concatenate([fine, rng.normal(-6, 1, 600)])
    check = difficulty_checks.check_margins(noisy, seed=0)
    assert check.verdict == "warn"
    assert check.figures["mislabelled"] == pytest.approx(1 / 6, abs=0.03)
    check = difficulty_checks.check_margins(-fine, seed=0)
    assert check.verdict == "warn"
    assert "sign" in check.advice


# Classes


def test_a_rate_that_keeps_no_row_fails():
    assert class_checks.check_rate(0.9, 10).verdict == "pass"
    assert class_checks.check_rate(0.99, 10).verdict == "fail"


def test_classes_that_a_rate_leaves_less_than_a_row_warn():
    labels = group_by(np.array(["a"] * 90 + ["b"] * 10))
    assert class_checks.check_classes(labels, None).verdict == "pass"
    assert class_checks.check_classes(labels, 0.9).verdict == "pass"
    check = class_checks.check_classes(labels, 0.95)
    assert (check.verdict, check.figures["below_one_row"]) == ("warn", 1)
    assert "at most 0.9 " in check.advice


def test_one_class_and_a_class_for_every_row_warn():
    assert class_checks.check_classes(group_by(np.array(["a"] * 9)), None).verdict == "warn"
    check = class_checks.check_classes(group_by(np.arange(9)), None)
    assert check.verdict == "warn"
    assert "ids" in check.advice
