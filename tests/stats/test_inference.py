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


def test_results_cannot_be_changed() -> None:
    made = [each for each in vars(inference).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
    assert len(made) == 4 and all(each.__dataclass_params__.frozen for each in made)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_the_interval_of_a_pair_agrees_with_its_test(only_a: int, only_b: int, rest: int) -> None:
    if only_a + only_b + rest == 0:
        return
    found = inference.Paired(only_a, only_b, only_a + only_b + rest)
    dull = inference.paired_interval(only_a, only_b, found.n)
    assert found.interval().low <= dull.low and found.interval().high >= dull.high
    if found.p >= 0.05:
        assert not found.interval().excludes_zero()
    else:
        assert found.interval() == dull


def test_rates_of_one_answer_have_wilsons_interval() -> None:
    for right in range(11):
        rates = np.repeat([1.0, 0.0], [right, 10 - right])
        found, dull = inference.rate_interval(rates), inference.wilson(right, 10)
        assert (found.low, found.high) == pytest.approx((dull.low, dull.high))


@pytest.mark.parametrize("samples", [2, 10])
def test_nothing_solved_is_not_known_to_be_zero(samples: int) -> None:
    """As uncertain as with one answer: the problems are what was drawn."""
    assert inference.rate_interval(np.zeros(10), samples) == pytest.approx(inference.wilson(0, 10))
    half = inference.rate_interval(np.full(10, 0.5), samples)
    dull = inference.wilson(5 * samples, 10 * samples)
    assert half.high - half.low >= dull.high - dull.low - 1e-9, "never as if every answer were a problem of its own"


@pytest.mark.parametrize(("shape", "samples"), [((0.1, 0.6), 2), ((0.6, 1.5), 4), ((2.0, 2.0), 10)])
def test_intervals_of_rates_cover_the_truth(shape: tuple[float, float], samples: int) -> None:
    rng, truth = np.random.default_rng(1), shape[0] / sum(shape)
    covered = 0
    for _ in range(1500):
        found = inference.rate_interval(rng.binomial(samples, rng.beta(*shape, 60)) / samples, samples)
        covered += found.low <= truth <= found.high
    assert covered / 1500 >= 0.935
