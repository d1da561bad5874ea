"""Statistics against brute force, scipy, statsmodels and published numbers."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from kiyas.stats import inference


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    right = [i < c for i in range(n)]
    draws = list(itertools.combinations(right, k))
    assert inference.pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


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
        assert 0.06 < found.flattery < 0.12
        assert found.corrected < found.measured
    assert inference.best_of(even[:1]).flattery == 0.0


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
        found.append(inference.best_of(table, samples, draws=200).flattery)
    assert np.mean(found) == pytest.approx(np.mean(truth), rel=0.25)
    # The largest of ten standard normal numbers is 1.539 on average.
    assert np.mean(found) == pytest.approx(1.539 * spread, rel=0.1)


def test_best_of_corrects_towards_the_truth() -> None:
    """Over many studies of equal checkpoints the corrected score is close to the true one, the raw is not."""
    rng = np.random.default_rng(2)
    found = [inference.best_of((rng.random((6, 41)) < 0.3).astype(float), draws=200) for _ in range(80)]
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
