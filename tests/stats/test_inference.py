"""Statistics against brute force, scipy, statsmodels and published numbers."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from kiyas.stats import inference


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    right = [i < c for i in range(n)]
    resamples = list(itertools.combinations(right, k))
    assert inference.pass_at_k(n, c, k) == pytest.approx(sum(map(any, resamples)) / len(resamples))


def test_pass_at_k_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="pass@k"):
        inference.pass_at_k(3, 4, 1)
    with pytest.raises(ValueError, match="pass@k"):
        inference.pass_at_k(3, 1, 4)


@given(st.integers(1, 300), st.data())
def test_wilson_equals_statsmodels(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    ours = inference.wilson(c, n)
    assert (ours.low, ours.high) == pytest.approx(proportion_confint(c, n, method="wilson"), abs=1e-9)


@pytest.mark.parametrize(("a", "b", "exact", "mid"), [(2, 0, 0.5, 0.25), (5, 3, 0.727, 0.508), (13, 11, 0.839, 0.690)])
def test_mcnemar_published(a: int, b: int, exact: float, mid: float) -> None:
    found = inference.mcnemar(a, b)
    assert (found.exact, found.mid) == pytest.approx((exact, mid), abs=6e-4)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_equals_scipy_and_statsmodels(a: int, b: int) -> None:
    found = inference.mcnemar(a, b)
    if a + b:
        assert found.exact == pytest.approx(binomtest(a, a + b).pvalue)
    assert found.exact == pytest.approx(min(1.0, statsmodels_mcnemar([[1, a], [b, 1]], exact=True).pvalue))
    assert found.mid <= found.exact + 1e-12


@pytest.mark.parametrize(("few", "many"), [(0, 5), (1, 7), (2, 9), (3, 11)])
def test_smallest_significant_splits_at_41_problems(few: int, many: int) -> None:
    assert inference.mcnemar(few, many).mid < 0.05 <= inference.mcnemar(few, many - 1).mid


def brute_score(only_a: int, only_b: int, n: int, delta: float) -> float:
    """The score statistic with the nuisance found by maximising the likelihood numerically."""
    low, high = max(0.0, -delta), (1 - delta) / 2

    def loss(q: float) -> float:
        terms = ((only_a, q), (only_b, q + delta), (n - only_a - only_b, 1 - 2 * q - delta))
        return -sum(k * math.log(max(p, 1e-300)) for k, p in terms if k)

    q = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (only_b - only_a - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


@pytest.mark.parametrize(("a", "b", "n"), [(0, 2, 41), (5, 3, 41), (11, 13, 41), (86, 150, 1600), (1, 9, 12)])
def test_paired_interval_inverts_the_score_test(a: int, b: int, n: int) -> None:
    found = inference.paired_interval(a, b, n)
    assert brute_score(a, b, n, found.low) == pytest.approx(1.959964, abs=2e-3)
    assert brute_score(a, b, n, found.high) == pytest.approx(-1.959964, abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_paired_interval_is_sane(a: int, b: int, rest: int) -> None:
    n = a + b + rest
    if n == 0:
        return
    found, turned = inference.paired_interval(a, b, n), inference.paired_interval(b, a, n)
    assert -1 <= found.low <= (b - a) / n <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low), abs=1e-6)
    if a + b and abs(abs(b - a) / math.sqrt(a + b) - 1.959964) > 1e-6:
        assert found.excludes_zero() == (abs(b - a) / math.sqrt(a + b) > 1.959964)


def test_two_way_equals_an_anova_by_hand() -> None:
    d = np.random.default_rng(3).normal(size=(4, 30)) + np.arange(4)[:, None] + np.linspace(-4, 4, 30)
    S, P = d.shape
    found = inference.two_way(d)
    rows, columns = d.mean(1), d.mean(0)
    ms_s = P * np.var(rows, ddof=1)
    ms_p = S * np.var(columns, ddof=1)
    rest = d - rows[:, None] - columns + d.mean()
    ms_r = (rest**2).sum() / ((S - 1) * (P - 1))
    assert found.standard_error**2 == pytest.approx((ms_s + ms_p - ms_r) / (S * P))
    assert found.components.standard_error(S, P) == pytest.approx(found.standard_error)
    assert found.interval().excludes_zero() == (found.p < 0.05)
    low, high = found.interval(1 - found.p).low, found.interval(1 - found.p).high
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-6), "p is the level at which the interval touches zero"
    # With many seeds and problems every quantile is the normal's: the plain interval of a mean.
    many = np.random.default_rng(4).normal(size=(400, 400))
    whole = inference.two_way(many)
    assert (whole.interval().high - whole.mean) / whole.standard_error == pytest.approx(1.96, abs=0.02)


@pytest.mark.parametrize(
    "sizes",
    [
        (3, 41, 0.003, 0.02),
        (3, 150, 0.003, 0.02),
        (3, 1055, 0.007, 0.15),
        (5, 41, 0.0, 0.0),
        (2, 41, 0.01, 0.0),
        (2, 300, 0.003, 0.15),
    ],
)
def test_two_way_keeps_its_level(sizes: tuple[int, int, float, float]) -> None:
    """No true difference: the two-way test says "more" in at most about one of twenty studies."""
    S, P, seed_variance, problem_variance = sizes
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(600):
        d = rng.normal(0, 0.5, (S, P)) + rng.normal(0, seed_variance**0.5, (S, 1))
        d += rng.normal(0, problem_variance**0.5, (1, P))
        wrong += inference.two_way(d).p < 0.05
    assert wrong / 600 <= (0.08 if S == 2 else 0.065)


def test_two_way_without_spread_and_too_small() -> None:
    assert inference.two_way(np.zeros((3, 10))).p == 1.0
    assert inference.two_way(np.ones((3, 41))).p < 0.001
    with pytest.raises(ValueError, match="at least 2"):
        inference.two_way(np.zeros((1, 10)))


def test_bootstrap_finds_the_standard_error_of_a_mean() -> None:
    x = np.random.default_rng(0).normal(size=200)
    found = inference.problem_bootstrap(x)
    half = 1.96 * x.std() / math.sqrt(x.size)
    assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.02)


def test_sign_flip_equals_enumeration_and_mcnemar() -> None:
    x = np.array([1.0, 1, 1, -1, 0, 0.5])
    signs = itertools.product([1, -1], repeat=5)
    live = x[x != 0]
    extreme = [abs(sum(s * v for s, v in zip(each, live, strict=True))) >= abs(live.sum()) - 1e-9 for each in signs]
    assert inference.sign_flip(x) == pytest.approx(sum(extreme) / len(extreme))
    assert inference.sign_flip(np.repeat([1.0, -1.0], [9, 2])) == pytest.approx(inference.mcnemar(9, 2).exact)
    many = np.repeat([1.0, -1.0], [20, 9])
    assert inference.sign_flip(many) == pytest.approx(inference.mcnemar(20, 9).exact, abs=0.01)


def test_best_of_ten_equal_checkpoints_flatters_by_seven_to_eleven_points() -> None:
    rng = np.random.default_rng(5)
    even = (rng.random((10, 41)) < 0.28).astype(float)
    rates = np.clip(rng.beta(0.6, 1.5, 41), 0.02, 0.98)
    uneven = (rng.random((10, 41)) < rates).astype(float)
    for table in (even, uneven):
        found = inference.best_of(table)
        assert 0.06 < found.selection_bias < 0.12
        assert found.corrected < found.measured
    assert inference.best_of(even[:1]).selection_bias == 0.0


@pytest.mark.parametrize("samples", [1, 3, 10])
@pytest.mark.parametrize("problems", [41, 2100])
def test_best_of_equal_checkpoints_with_several_answers(samples: int, problems: int) -> None:
    """Against studies of ten equal checkpoints simulated here; with 2100 problems the normal branch is taken."""
    rng = np.random.default_rng(samples)
    rates = np.clip(rng.beta(0.6, 1.5, problems), 0.02, 0.98)
    spread = np.sqrt((rates * (1 - rates)).sum() / samples) / problems
    truth, found = [], []
    for _ in range(25):
        table = rng.binomial(samples, rates, size=(10, problems)) / samples
        truth.append(table.mean(axis=1).max() - rates.mean())
        found.append(inference.best_of(table, samples, resamples=200).selection_bias)
    assert np.mean(found) == pytest.approx(np.mean(truth), rel=0.25)
    # The largest of ten standard normal numbers is 1.539 on average.
    assert np.mean(found) == pytest.approx(1.539 * spread, rel=0.1)


def test_best_of_corrects_towards_the_truth() -> None:
    """Over many studies of equal checkpoints the corrected score is close to the true one, the raw is not."""
    rng = np.random.default_rng(2)
    found = [inference.best_of((rng.random((6, 41)) < 0.3).astype(float), resamples=200) for _ in range(80)]
    assert np.mean([each.corrected for each in found]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([each.measured for each in found]) > 0.36


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_holm_equals_statsmodels(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", int)  # theirs collects garbage in every call
    for p in np.random.default_rng(size).random((20, size)) ** 3:
        assert inference.holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))


@pytest.mark.parametrize(
    ("discordance", "problems"), [(0.10, 305), (0.15, 461), (0.20, 622), (0.30, 938), (0.40, 1253)]
)
def test_problems_needed_for_five_points(discordance: float, problems: int) -> None:
    """Connor's formula lies within 3 % of the numbers found by simulation."""
    assert inference.problems_needed(discordance, 0.05) == pytest.approx(problems, rel=0.03)


def test_needed_designs_do_see_the_difference() -> None:
    parts = inference.Components(0.0005, 0.02, 0.2)
    seeds = inference.seeds_needed(parts, 300, 0.06)
    assert seeds is not None and inference.detectable(parts, seeds, 300) <= 0.06
    assert inference.detectable(parts, seeds - 1, 300) > 0.06 or seeds == 2
    problems = inference.problems_needed_with(parts, 10, 0.06)
    assert problems is not None
    assert inference.detectable(parts, 10, problems) <= 0.06 < inference.detectable(parts, 10, problems - 1)
    assert inference.problems_needed_with(inference.Components(1.0, 0, 0), 3, 0.01) is None


def test_an_interval_that_touches_decides_nothing() -> None:
    touching = [inference.Interval(*ends) for ends in ((0.0, 0.2), (-0.2, 0.0))]
    assert not any(each.excludes_zero() for each in touching)
    assert inference.Interval(1e-9, 0.2).excludes_zero() and inference.Interval(-0.2, -1e-9).excludes_zero()
    assert not inference.Interval(-0.1, 0.2).inside(0.2) and not inference.Interval(-0.2, 0.1).inside(0.2)
    assert inference.Interval(-0.1, 0.2).inside(0.21) and inference.Interval(-0.2, 0.1).inside(0.21)


@pytest.mark.parametrize(("n", "c", "k"), [(3, -1, 1), (3, 4, 1), (3, 1, 0), (3, 1, 4), (0, 0, 1)])
def test_pass_at_k_at_the_ends(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@k"):
        inference.pass_at_k(n, c, k)
    assert inference.pass_at_k(3, 0, 3) == 0.0 and inference.pass_at_k(3, 3, 1) == inference.pass_at_k(3, 1, 3) == 1.0


def test_wilson_at_other_levels_and_of_nothing() -> None:
    assert inference.wilson(0, 0) == inference.Interval(0.0, 1.0, 0.95)
    found = inference.wilson(7, 20, 0.8)
    assert (found.low, found.high) == pytest.approx(proportion_confint(7, 20, alpha=0.2, method="wilson"))
    assert found.level == 0.8


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 4), (6, 6), (3, 2), (12, 2)])
def test_mid_p_counts_half_of_what_was_seen(a: int, b: int) -> None:
    """By hand from the binomial coefficients."""
    n, smaller = a + b, min(a, b)
    below = sum(math.comb(n, i) for i in range(smaller))
    assert inference.mcnemar(a, b).mid == pytest.approx(min(1.0, 2 * (below + math.comb(n, smaller) / 2) / 2**n))
    assert inference.mcnemar(0, 0) == inference.McNemar(0, 0, 1.0, 1.0)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(
    ("a", "b", "n"), [(0, 3, 10), (1, 0, 2), (2, 2, 4), (0, 4, 5), (7, 1, 9), (1, 1, 2000), (900, 950, 2000)]
)
def test_paired_interval_equals_brute_force(a: int, b: int, n: int, level: float) -> None:
    found, z = inference.paired_interval(a, b, n, level), stats.norm.isf((1 - level) / 2)
    for end, target in ((found.low, z), (found.high, -z)):
        assert brute_score(a, b, n, end) == pytest.approx(target, abs=5e-3)
    assert found.level == level


@pytest.mark.parametrize("n", [1, 2, 10, 400])
def test_paired_interval_where_nothing_or_everything_differed(n: int) -> None:
    """Without discordant pairs the score equation is solved by hand: z²/(n + z²)."""
    z = stats.norm.isf(0.025)
    none, all_b, all_a = (inference.paired_interval(*pair, n) for pair in ((0, 0), (0, n), (n, 0)))
    assert (none.low, none.high) == pytest.approx((-z * z / (n + z * z), z * z / (n + z * z)))
    assert all_b.high == 1.0 and all_a.low == -1.0 and all_b.low == pytest.approx(-all_a.high)
    # With every pair for b, the estimate at d has 2q + d = 1: the score is √(n (1 − d)/(1 + d)).
    assert all_b.low == pytest.approx((n - z * z) / (n + z * z), abs=1e-6)


@pytest.mark.parametrize(("a", "b", "n"), [(3, 3, 5), (0, 1, 0), (0, 0, 0)])
def test_more_pairs_than_there_are(a: int, b: int, n: int) -> None:
    with pytest.raises(ValueError, match="discordant pairs"):
        inference.paired_interval(a, b, n)


def table(S: int, P: int, seed: int = 0) -> inference.Floats:
    rng = np.random.default_rng(seed)
    return rng.normal(0.1, 0.3, (S, P)) + rng.normal(0, 0.2, (S, 1)) + rng.normal(0, 0.3, (1, P))


def mean_squares(d: inference.Floats) -> tuple[float, float, float]:
    """By loops over the cells."""
    S, P = d.shape
    mean = sum(d[s, p] for s in range(S) for p in range(P)) / (S * P)
    seed = sum(P * (d[s].mean() - mean) ** 2 for s in range(S)) / (S - 1)
    problem = sum(S * (d[:, p].mean() - mean) ** 2 for p in range(P)) / (P - 1)
    cells = [(d[s, p] - d[s].mean() - d[:, p].mean() + mean) ** 2 for s in range(S) for p in range(P)]
    return seed, problem, sum(cells) / ((S - 1) * (P - 1))


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("S", "P"), [(2, 2), (2, 20), (3, 20), (5, 7)])
def test_two_way_intervals_are_made_of_three_parts(S: int, P: int, level: float) -> None:
    """As in docs/statistics.md: each mean square with its own t, half of the rest moved to the seeds, df 3 for two."""
    d = table(S, P)
    seed, problem, rest = mean_squares(d)
    found = inference.two_way(d)
    assert found.components.seed == pytest.approx(max(0.0, seed - rest) / P)
    assert found.components.problem == pytest.approx(max(0.0, problem - rest) / S)
    assert found.components.rest == pytest.approx(rest)
    seed, problem = max(seed, rest), max(problem, rest)
    parts = [(seed - rest / 2, 3 if S == 2 else S - 1), (problem - rest, P - 1), (rest / 2, (S - 1) * (P - 1))]
    half = math.sqrt(sum(stats.t.isf((1 - level) / 2, df) ** 2 * square / (S * P) for square, df in parts))
    interval = found.interval(level)
    assert (interval.low, interval.high) == pytest.approx((d.mean() - half, d.mean() + half))
    assert interval.level == level
    # The width that a design lets one expect is that of data with just these mean squares.
    if found.components.seed and found.components.problem:
        assert inference.expected_half_width(found.components, S, P, level) == pytest.approx(half)


def test_seeds_and_problems_that_differ_less_than_the_rest_count_as_the_rest() -> None:
    """A checkerboard: all seeds and problems have the same mean, everything is rest."""
    d = np.array([[1.0, -1.0], [-1.0, 1.0]]) + 0.25
    found = inference.two_way(d)
    assert found.components == inference.Components(0.0, 0.0, 4.0)
    assert found.standard_error == pytest.approx(math.sqrt(4.0 / 4))


def test_two_way_p_at_its_ends() -> None:
    centred = np.array([[1.0, -1.0, 0.5], [-0.5, 1.0, -1.0]])
    assert inference.two_way(centred - centred.mean()).p == pytest.approx(1.0)
    assert inference.two_way(np.array([[0.0, 1, -1], [0, 1, -1]])).p == 1.0
    sure = inference.two_way(table(5, 300) / 1000 + 1)
    assert sure.p == 1e-12 and sure.interval().low > 0.99


@pytest.mark.parametrize(("mean", "pair"), [(1.0, (0, 10)), (-1.0, (10, 0)), (0.0, (0, 0))])
def test_without_spread_the_interval_is_tangos(mean: float, pair: tuple[int, int]) -> None:
    found = inference.two_way(np.full((3, 10), mean))
    assert found.interval(0.9) == inference.paired_interval(*pair, 10, 0.9) and found.standard_error == 0
    assert found.p == inference.sign_flip(np.full(10, mean))


def test_hardly_any_spread_is_not_none() -> None:
    assert inference.two_way(table(3, 10) * 1e-6).standard_error > 0
    with pytest.raises(ValueError, match="at least 2 seeds and 2 problems, got 3 and 1"):
        inference.two_way(np.zeros((3, 1)))


def test_crossed_bootstrap_equals_loops() -> None:
    d = table(3, 8)
    rng = np.random.default_rng(5)
    seeds, problems = rng.multinomial(3, [1 / 3] * 3, size=40), rng.multinomial(8, [1 / 8] * 8, size=40)
    means = []
    for s, p in zip(seeds, problems, strict=True):
        drawn = d[np.repeat(np.arange(3), s)][:, np.repeat(np.arange(8), p)]
        assert drawn.shape == d.shape
        means.append(drawn.mean())
    found = inference.crossed_bootstrap(d, 0.8, 40, 5)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9]))) and found.level == 0.8
    assert inference.problem_bootstrap(d[0]) == inference.crossed_bootstrap(d[:1], 0.95, 4000, 0)
    assert inference.problem_bootstrap(d[0], 0.9, 50, 3) == inference.crossed_bootstrap(d[:1], 0.9, 50, 3)
    assert inference.crossed_bootstrap(d) == inference.crossed_bootstrap(d, 0.95, 4000, 0)


def test_sign_flip_enumerates_fourteen_differences_and_draws_for_fifteen() -> None:
    for n in (1, 2, 14):
        assert inference.sign_flip(np.ones(n)) == 2 / 2**n
    drawn = inference.sign_flip(np.ones(15))
    assert drawn * 20_001 == pytest.approx(round(drawn * 20_001)) and drawn >= 1 / 20_001
    assert inference.sign_flip(np.ones(60)) == 1 / 20_001, "the observed table counts, so that no p is zero"
    assert inference.sign_flip(np.zeros(4)) == 1.0
    # 0.1 + 0.2 and 0.3 differ in the last bit, but are the same sum.
    assert inference.sign_flip(np.array([0.1, 0.2, -0.3, 0.0])) == 1.0
    assert inference.sign_flip(np.array([0.1, 0.2, 0.3])) == 0.25
    assert inference.sign_flip(np.array([0.1, 0.1, 0.1, 0.3])) == 2 / 16
    assert inference.sign_flip(-np.ones(15)) == drawn == inference.sign_flip(np.ones(15), 20_000, 0)


def test_best_of_equals_loops() -> None:
    scores = (np.random.default_rng(1).random((3, 5)) < 0.4).astype(float)
    scores[1] = scores[0]
    resamples = 60
    rng = np.random.default_rng(9)
    corrected = []
    for counts in rng.multinomial(5, [0.2] * 5, size=resamples):
        left = [p for p in range(5) if counts[p] == 0]
        if left:
            inside = [round(float(counts @ row), 9) for row in scores]
            tied = [c for c in range(3) if inside[c] == max(inside)]
            corrected.append(np.mean([scores[c][left].mean() for c in tied]))
    rates = [(scores[:, p].sum() + scores.mean()) / 4 for p in range(5)]
    equal = rng.binomial(2, rates, size=(resamples, 3, 5)) / 2
    found = inference.best_of(scores, 2, resamples, 9)
    assert found.measured == max(row.mean() for row in scores) and found.checkpoints == 3
    assert found.corrected == pytest.approx(np.mean(corrected))
    assert found.selection_bias == pytest.approx(np.mean([each.mean(axis=1).max() for each in equal]) - np.mean(rates))
    assert inference.best_of(scores) == inference.best_of(scores, 1, 2000, 0)
    assert math.isnan(inference.best_of(scores[:, :1]).corrected), "one problem cannot be left out"


def test_best_of_many_answers_is_a_normal_maximum() -> None:
    """5000 answers are drawn one by one, more of them as normal means."""
    rates = np.full((2, 2500), 0.5)
    rng = np.random.default_rng(0)
    rng.multinomial(2500, [1 / 2500] * 2500, size=10)
    drawn = rng.binomial(1, 0.5, size=(10, 2, 2500)).mean(axis=2).max(axis=1).mean() - 0.5
    assert inference.best_of(rates, 1, 10).selection_bias == pytest.approx(drawn)
    more = np.full((2, 2501), 0.5)
    rng = np.random.default_rng(0)
    rng.multinomial(2501, [1 / 2501] * 2501, size=10)
    normal = rng.standard_normal((10, 2)).max(axis=1).mean() * math.sqrt(0.25 / 4 / 2501)
    assert inference.best_of(more, 4, 10).selection_bias == pytest.approx(normal)


def test_problems_needed_is_connors_formula() -> None:
    def connor(discordance: float, difference: float, z_alpha: float, z_power: float) -> int:
        root = z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - difference**2)
        return math.ceil(root**2 / difference**2)

    assert inference.problems_needed(0.3, 0.1) == connor(0.3, 0.1, 1.959964, 0.841621) == 234
    assert inference.problems_needed(0.3, -0.1) == 234
    assert inference.problems_needed(0.3, 0.1, 0.9, 0.1) == connor(0.3, 0.1, 1.644854, 1.281552)
    assert inference.problems_needed(1.0, 1.0) == 4 and inference.problems_needed(0.2, 0.2) > 0
    for discordance, difference in ((0.3, 0.0), (0.1, 0.2), (0.1, -0.2), (1.1, 0.2)):
        with pytest.raises(ValueError, match="difference"):
            inference.problems_needed(discordance, difference)


def test_detectable_differences_are_found_four_times_of_five() -> None:
    parts, S, P = inference.Components(0.001, 0.02, 0.15), 4, 60
    difference = inference.detectable(parts, S, P)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(1500):
        d = difference + rng.normal(0, parts.rest**0.5, (S, P)) + rng.normal(0, parts.seed**0.5, (S, 1))
        found += inference.two_way(d + rng.normal(0, parts.problem**0.5, (1, P))).interval().excludes_zero()
    assert found / 1500 == pytest.approx(0.8, abs=0.035)
    assert inference.detectable(parts, S, P, 0.5) < difference < inference.detectable(parts, S, P, 0.95)
    assert inference.detectable(inference.Components(0, 0, 0), 3, 10) == 0.0
    assert inference.detectable(parts, S, P, 0.01) == 0.0, "that seldom it is found without any difference"


@pytest.mark.parametrize(("S", "P"), [(2, 5), (3, 4)])
def test_detectable_is_where_drawn_mean_squares_give_the_power(S: int, P: int) -> None:
    """One draw after the other: the interval that its three mean squares give, and how often it then excludes zero."""
    parts = inference.Components(0.01, 0.02, 0.15)
    rng, resamples = np.random.default_rng(0), 2000
    means = (P * parts.seed + parts.rest, S * parts.problem + parts.rest, parts.rest)
    squares = [
        m * rng.chisquare(df, resamples) / df for m, df in zip(means, (S - 1, P - 1, (S - 1) * (P - 1)), strict=True)
    ]
    difference, error, power = inference.detectable(parts, S, P), parts.standard_error(S, P), 0.0
    t_seed, t_problem, t_rest = (stats.t.isf(0.025, df) for df in (3 if S == 2 else S - 1, P - 1, (S - 1) * (P - 1)))
    for seed, problem, rest in zip(*squares, strict=True):
        seed, problem = max(seed, rest), max(problem, rest)
        width = t_seed**2 * (seed - rest / 2) + t_problem**2 * (problem - rest) + t_rest**2 * rest / 2
        half = math.sqrt(width / (S * P))
        power += stats.norm.sf((half - difference) / error) + stats.norm.cdf((-half - difference) / error)
    assert power / resamples == pytest.approx(0.8, abs=1e-4)


def test_results_cannot_be_changed() -> None:
    made = [each for each in vars(inference).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
    assert len(made) == 5 and all(each.__dataclass_params__.frozen for each in made)


def test_components_wear_away_with_what_they_are_of() -> None:
    parts = inference.Components(0.5, 0.75, 6.0)
    assert parts.standard_error(2, 3) ** 2 == pytest.approx(0.25 + 0.25 + 1)


def test_needed_designs_are_the_smallest() -> None:
    parts = inference.Components(0.0005, 0.02, 0.2)
    seen = [s for s in range(2, 13) if inference.detectable(parts, s, 100) <= 0.09]
    assert inference.seeds_needed(parts, 100, 0.09) == seen[0] > 2
    assert inference.seeds_needed(parts, 100, 0.09, seen[0]) == seen[0]
    assert inference.seeds_needed(parts, 100, 0.09, seen[0] - 1) is None
    few = inference.Components(0.0, 1e-6, 1e-6)
    assert inference.seeds_needed(few, 10, 0.5) == 2 and inference.problems_needed_with(few, 3, 0.5) == 2
    needed = inference.problems_needed_with(parts, 5, 0.09)
    assert needed is not None and needed == inference.problems_needed_with(parts, 5, 0.09, needed)
    assert inference.problems_needed_with(parts, 5, 0.09, needed - 1) is None
    grid = {s: inference.problems_needed_with(parts, s, 0.09) for s in (3, 5, 8, 10, 15, 20, 30, 50)}
    answers = {s: s * p for s, p in grid.items() if p is not None}
    best = min(answers, key=lambda s: answers[s])
    assert inference.design_needed(parts, 0.09) == (best, grid[best])
    assert inference.design_needed(inference.Components(100.0, 0, 0), 0.01) is None
