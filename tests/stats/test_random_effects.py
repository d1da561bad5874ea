"""The two-way interval against its dull references: loops, brute force, Student's t, and studies of known truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kiyas.stats import inference
from kiyas.stats.inference import Floats
from kiyas.stats.random_effects import (
    Components,
    Estimate,
    by_group,
    effective_units,
    level_at,
    mean_squares,
    one_way,
    two_way,
    variance_draws,
)


def table(S: int, P: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.normal(0.1, 0.3, (S, P)) + rng.normal(0, 0.2, (S, 1)) + rng.normal(0, 0.3, (1, P))


def squares_by_loops(d: Floats) -> tuple[float, float, float]:
    S, P = d.shape
    mean = sum(d[s, p] for s in range(S) for p in range(P)) / (S * P)
    seed = sum(P * (d[s].mean() - mean) ** 2 for s in range(S)) / (S - 1)
    problem = sum(S * (d[:, p].mean() - mean) ** 2 for p in range(P)) / (P - 1)
    cells = [(d[s, p] - d[s].mean() - d[:, p].mean() + mean) ** 2 for s in range(S) for p in range(P)]
    return seed, problem, sum(cells) / ((S - 1) * (P - 1))


@pytest.mark.parametrize(("S", "P"), [(2, 2), (3, 20), (5, 7)])
def test_mean_squares_equal_loops(S: int, P: int) -> None:
    tables = np.stack([table(S, P, seed) for seed in range(4)])
    mean_N, *squares = mean_squares(tables)
    assert mean_N == pytest.approx(tables.mean(axis=(1, 2)))
    for n, d in enumerate(tables):
        assert [each[n] for each in squares] == pytest.approx(squares_by_loops(d))
    parts = two_way(tables[0]).components
    seed, problem, rest = squares_by_loops(tables[0])
    assert parts == Components(
        pytest.approx(max(0.0, seed - rest) / P), pytest.approx(max(0.0, problem - rest) / S), pytest.approx(rest)
    )


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("S", "P"), [(2, 300), (3, 40), (5, 12)])
def test_the_interval_equals_brute_force(S: int, P: int, level: float) -> None:
    """A million independent draws of the three mean squares, and the quantiles of the mean that they give."""
    d = table(S, P)
    seed, problem, rest = squares_by_loops(d)
    rng, B = np.random.default_rng(0), 1_000_000
    drawn = [
        square * df / rng.chisquare(df, B)
        for square, df in ((seed, S - 1), (problem, P - 1), (rest, (S - 1) * (P - 1)))
    ]
    variances = np.maximum(drawn[0] + drawn[1] - drawn[2], drawn[2])
    half = float(np.quantile(np.abs(np.sqrt(variances / (S * P)) * rng.standard_normal(B)), level))
    found = two_way(d)
    assert found.level_at(found.mean + half) == pytest.approx(1 - level, rel=0.04)
    interval = found.interval(level)
    ends = max(-1.0, found.mean - half), min(1.0, found.mean + half)
    assert (interval.low, interval.high) == pytest.approx(ends, rel=0.05) and interval.level == level


def test_with_one_source_of_luck_it_is_students_t() -> None:
    rng = np.random.default_rng(2)
    of_problems, of_seeds = rng.normal(0.1, 0.6, 30), rng.normal(0.1, 0.3, 5)
    for d, x in ((np.tile(of_problems, (5, 1)), of_problems), (np.tile(of_seeds, (900, 1)).T, of_seeds)):
        half = stats.t.isf(0.025, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size)
        found = two_way(d)
        assert found.level_at(found.mean + half) == pytest.approx(0.05, abs=1e-3)
    alone = one_way(of_problems)
    dull = stats.ttest_1samp(of_problems, 0.0)
    assert alone.level_at(0.0) == pytest.approx(dull.pvalue, abs=1e-3)
    assert (alone.interval().low, alone.interval().high) == pytest.approx(tuple(dull.confidence_interval()), abs=2e-3)


def test_with_many_seeds_and_problems_it_is_normal() -> None:
    many = two_way(np.random.default_rng(4).normal(0, 10, size=(400, 400)))
    assert many.level_at(many.mean + 1.96 * 10 / 400) == pytest.approx(0.05, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(2, 30), st.integers(0, 10_000), st.sampled_from([0.8, 0.95, 0.99]))
def test_interval_and_p_agree(S: int, P: int, seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    d = rng.choice([-1.0, 0.0, 1.0], size=(S, P), p=[0.1, 0.5, 0.4])
    found = two_way(d)
    interval = found.interval(level)
    assert -1 <= interval.low <= found.mean <= interval.high <= 1
    assert interval.excludes_zero() == (found.p < 1 - level) or abs(found.p - (1 - level)) < 1e-6
    turned = two_way(-d).interval(level)
    assert (interval.low, interval.high) == pytest.approx((-turned.high, -turned.low), abs=1e-6)


@pytest.mark.parametrize(
    ("S", "P", "seed_variance", "problem_variance"),
    [(2, 41, 0.01, 0.0), (2, 300, 0.003, 0.15), (3, 41, 0.003, 0.02), (3, 1055, 0.007, 0.15), (5, 41, 0.0, 0.0)],
)
def test_it_keeps_its_level(S: int, P: int, seed_variance: float, problem_variance: float) -> None:
    """No true difference: at most about one of twenty studies finds one, with two seeds as with many."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(600):
        d = rng.normal(0, 0.5, (S, P)) + rng.normal(0, seed_variance**0.5, (S, 1))
        wrong += two_way(d + rng.normal(0, problem_variance**0.5, (1, P))).p < 0.05
    assert wrong / 600 <= 0.065


# -- few problems that differ -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("S", "P"), [(2, 10), (3, 41), (3, 300)])
def test_where_nothing_differed_it_is_tangos(S: int, P: int) -> None:
    found, dull = two_way(np.zeros((S, P))), inference.paired_interval(0, 0, P, 0.9)
    assert found.p == 1.0 and found.standard_error == 0
    interval = found.interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((dull.low, dull.high), abs=1e-6)
    alone = one_way(np.zeros(P)).interval(0.9)
    assert (alone.low, alone.high) == pytest.approx((dull.low, dull.high), abs=1e-6)


@pytest.mark.parametrize(("S", "P"), [(2, 20), (3, 41), (3, 300)])
def test_more_differences_never_make_equality_surer(S: int, P: int) -> None:
    """One differing answer more, all for one arm or as many for the other: no end comes nearer to zero."""
    for other in (0.0, -1.0):
        d, reach = np.zeros((S, P)), 0.0
        for n in range(0, 12, 2):
            interval = two_way(d).interval(0.9)
            assert max(-interval.low, interval.high) >= reach - 1e-6
            reach = max(-interval.low, interval.high)
            d[n % S, n], d[n % S, n + 1] = 1.0, other


def test_all_problems_for_one_arm_are_sure_but_not_beyond_doubt() -> None:
    found = two_way(np.ones((3, 41)))
    assert found.p < 0.001 and 0.8 < found.interval().low < 0.95 and found.interval().high == 1.0
    few = two_way(np.ones((3, 4)))
    assert few.p == 0.125, "four problems, all for one arm: as the sign-flip test has it"
    assert not few.interval().excludes_zero()


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_few_deciding_problems_make_no_false_claim(share: float) -> None:
    """Each arm always solves some problems that the other never does: these are all the luck there is."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(800):
        signs = rng.choice([-1.0, 0.0, 1.0], size=41, p=[share / 2, 1 - share, share / 2])
        wrong += two_way(np.tile(signs, (3, 1))).p < 0.05
    assert wrong / 800 <= 0.065


@pytest.mark.parametrize(("S", "P"), [(3, 60), (3, 300), (5, 300)])
def test_a_difference_in_few_problems_is_seldom_called_equality(S: int, P: int) -> None:
    """Five points that sit in a twentieth of the problems, margin five points."""
    rng, equal = np.random.default_rng(4), 0
    for _ in range(400):
        d = np.where(rng.random(P) < 0.05, 1.0, rng.choice([-1.0, 0.0, 1.0], size=(S, P), p=[0.01, 0.98, 0.01]))
        equal += two_way(d).interval(0.9).inside(0.05)
    assert equal / 400 <= 0.075


def test_a_difference_needs_problems_that_differ() -> None:
    """The level at a value is the normal tail with the variance of a share of problems that large, if that is more."""
    nothing = np.zeros(4)
    z = 0.1 / math.sqrt(0.1 * 0.9 / 50)
    assert level_at(0.0, nothing, 0.1, 50) == pytest.approx(2 * stats.norm.sf(z))
    assert level_at(0.02, nothing, 0.1, 50) == pytest.approx(2 * stats.norm.sf(0.08 / math.sqrt(0.1 * 0.9 / 50)))
    sure = level_at(0.0, np.full(4, 0.01), 0.1, 50)
    assert sure == pytest.approx(2 * stats.norm.sf(0.1 / 0.1)), "a larger variance counts as it is"
    # Half of a problem is no claim, however alike the problems are.
    assert level_at(0.01, nothing, 0.0, 50) == pytest.approx(0.155, abs=0.001)


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0, 0.2), st.integers(5, 300))
def test_levels_fall_on_both_sides_of_the_mean(mean: float, error: float, units: int) -> None:
    for side in (-1.0, 1.0):
        values = mean + side * np.linspace(0, 1 - abs(mean), 60)
        levels = [float(level_at(mean, np.array([error**2]), value, units)) for value in values]
        assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(levels))


# -- rates, groups, seeds -------------------------------------------------------------------------------------------


def test_a_rate_of_zero_over_seeds_is_wilsons() -> None:
    found, dull = two_way(np.zeros((3, 20)), a_rate=True).interval(), inference.wilson(0, 20)
    assert (found.low, found.high) == pytest.approx((dull.low, dull.high), abs=1e-6)
    whole = two_way(np.ones((3, 20)), a_rate=True).interval()
    assert whole.high == 1.0 and whole.low == pytest.approx(1 - dull.high, abs=1e-6)


def test_groups_of_one_change_nothing_and_equal_groups_are_their_means() -> None:
    d = table(3, 12)
    assert by_group(d, [str(p) for p in range(12)]) == pytest.approx(d)
    pairs = [str(p // 2) for p in range(12)]
    means = d.reshape(3, 6, 2).mean(axis=2)
    assert by_group(d, pairs) == pytest.approx(means)
    assert two_way(d, pairs).interval().high == pytest.approx(two_way(means).interval().high)
    assert effective_units(pairs, 12) == pytest.approx(6) and effective_units(None, 12) == 12
    uneven = by_group(d, list("aaaaabbbcccd"))
    assert uneven.shape == (3, 4) and uneven.mean(axis=1) == pytest.approx(d.mean(axis=1))
    assert effective_units(list("aaaaabbbcccd"), 12) == pytest.approx(144 / (25 + 9 + 9 + 1))


@pytest.mark.parametrize("S", [1, 10])
def test_one_large_group_makes_no_false_claim(S: int) -> None:
    """A group with two fifths of the problems, and twenty small ones, each with one fate."""
    rng = np.random.default_rng(8)
    names = ["large"] * 80 + [str(n // 6) for n in range(120)]
    wrong = 0
    for _ in range(500):
        fate = dict(zip(dict.fromkeys(names), rng.normal(0, 0.3, 21), strict=True))
        d = np.array([fate[name] for name in names]) + rng.normal(0, 0.3, (S, 200))
        wrong += (two_way(d, names) if S > 1 else one_way(d[0], names)).p < 0.05
    assert wrong / 500 <= 0.075


@pytest.mark.parametrize("S", [1, 3])
def test_alike_problems_of_one_group_make_no_false_claim(S: int) -> None:
    """Groups of five with one fate: counted singly, they would claim a difference three times too often."""
    rng, groups = np.random.default_rng(5), [str(p // 5) for p in range(100)]
    found = {"grouped": 0, "single": 0}
    for _ in range(400):
        d = np.repeat(rng.normal(0, 0.4, (1, 20)), 5, axis=1) + rng.normal(0, 0.2, (S, 100))
        for name, known in (("grouped", groups), ("single", None)):
            estimate: Estimate = two_way(d, known) if S > 1 else one_way(d[0], known)
            found[name] += estimate.p < 0.05
    assert found["grouped"] / 400 <= 0.075 < 0.15 < found["single"] / 400


def test_the_most_that_seeds_may_vary() -> None:
    """A share `sure` of studies have a true variance below it: here of known variance."""
    rng, below = np.random.default_rng(6), 0
    for _ in range(500):
        d = rng.normal(0, 0.5, (3, 100)) + rng.normal(0, 0.04, (3, 1))
        below += two_way(d).seed_variance_at_most(0.8) >= 0.04**2
    assert below / 500 == pytest.approx(0.8, abs=0.05)
    assert two_way(np.zeros((3, 10))).seed_variance_at_most() == 0.0


def test_draws_are_the_same_every_time() -> None:
    one, two = (variance_draws(0.4, 0.3, 0.2, 3, 41) for _ in range(2))
    assert (one == two).all() and one.shape == (2048,)
    many = variance_draws(np.array([0.4, 1.0]), np.array([0.3, 0.3]), np.array([0.2, 0.2]), 3, 41)
    assert many[0] == pytest.approx(one)


def test_one_problem_says_nothing() -> None:
    alone = one_way(np.array([1.0]))
    assert not alone.interval().excludes_zero() and alone.interval().high == 1.0 and alone.p == 1.0


def test_too_small_a_table() -> None:
    for shape in ((1, 10), (3, 1)):
        with pytest.raises(ValueError, match=f"at least 2 seeds and 2 problems, got {shape[0]} and {shape[1]}"):
            two_way(np.zeros(shape))


def test_components_wear_away_with_what_they_are_of() -> None:
    parts = Components(0.5, 0.75, 6.0)
    assert parts.standard_error(2, 3) ** 2 == pytest.approx(0.25 + 0.25 + 1)
