"""Meta-analysis against statsmodels, published numbers, grids by brute force, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2, norm, t
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.proportion import confint_proportions_2indep

from kiyas.stats import meta_analysis
from kiyas.stats.inference import Floats, Interval

# Thirteen trials of the BCG vaccine (Colditz et al. 1994): ill and well with it, ill and well without.
BCG = np.array(
    [
        (4, 119, 11, 128),
        (6, 300, 29, 274),
        (3, 228, 11, 209),
        (62, 13536, 248, 12619),
        (33, 5036, 47, 5761),
        (180, 1361, 372, 1079),
        (8, 2537, 10, 619),
        (505, 87886, 499, 87892),
        (29, 7470, 45, 7232),
        (17, 1699, 65, 1600),
        (186, 50448, 141, 27197),
        (5, 2493, 3, 2338),
        (27, 16886, 29, 17825),
    ],
    dtype=float,
)


def log_risk_ratios() -> tuple[Floats, Floats]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b)) - np.log(c / (c + d)), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))


def test_published_numbers_of_the_bcg_trials() -> None:
    """Q and the Q-profile intervals of τ² and I² as Viechtbauer prints them (2010, J. Stat. Software 36(3))."""
    found = meta_analysis.random_effects(*log_risk_ratios())
    assert found.q == pytest.approx(152.2330, abs=1e-4) and found.df == 12
    assert found.tau2_interval is not None and found.i2_interval is not None
    assert (found.tau2_interval.low, found.tau2_interval.high) == pytest.approx((0.1197, 1.1115), abs=1e-4)
    assert (found.i2_interval.low, found.i2_interval.high) == pytest.approx((0.8192, 0.9768), abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_equals_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 14))
    errors = rng.uniform(0.03, 0.1, K)
    effects = rng.normal(0.02, errors) + rng.normal(0, 0.1 * (seed % 2), K)
    found = meta_analysis.random_effects(effects, errors)
    theirs = combine_effects(effects, errors**2, method_re="iterated", use_t=True)
    assert found.tau2 == pytest.approx(max(0.0, theirs.tau2), abs=2e-5)
    assert found.q == pytest.approx(theirs.q)
    assert found.q_p == pytest.approx(theirs.test_homogeneity().pvalue)
    assert found.mean == pytest.approx(theirs.mean_effect_re, abs=1e-5)
    assert found.standard_error == pytest.approx(theirs.sd_eff_w_re, abs=1e-4)
    assert found.weights == pytest.approx(theirs.weights_rel_re, abs=1e-4)
    if found.tau2 > 0:
        # There Hartung and Knapp's factor is 1, as random_effects claims.
        assert found.standard_error == pytest.approx(theirs.sd_eff_w_re_hksj, abs=1e-4)
        assert meta_analysis.generalised_q(effects, errors**2, found.tau2) == pytest.approx(K - 1)
    else:
        assert theirs.sd_eff_w_re_hksj <= found.standard_error + 1e-9
    fixed = theirs.sd_eff_w_fe
    assert found.interval().high - found.mean >= 1.96 * fixed, "never narrower than the fixed-effect interval"
    assert found.interval().excludes_zero() == (found.p < 0.05)


def test_tau2_and_its_profile_by_brute_force() -> None:
    effects, errors = log_risk_ratios()
    found = meta_analysis.random_effects(effects, errors)
    assert found.tau2_interval is not None
    grid = np.linspace(0, 2, 200_001)
    w = 1 / (errors[:, None] ** 2 + grid)
    means = (w * effects[:, None]).sum(0) / w.sum(0)
    q = (w * (effects[:, None] - means) ** 2).sum(0)
    assert (np.diff(q) < 0).all()
    for target, ours in (
        (12, found.tau2),
        (chi2.ppf(0.975, 12), found.tau2_interval.low),
        (chi2.ppf(0.025, 12), found.tau2_interval.high),
    ):
        assert grid[np.abs(q - target).argmin()] == pytest.approx(ours, abs=2e-5)
    half = t.ppf(0.975, 11) * math.sqrt(found.tau2 + found.standard_error**2)
    assert found.prediction is not None and found.prediction.high - found.mean == pytest.approx(half)


def test_two_replications_are_told_honestly() -> None:
    found = meta_analysis.random_effects(np.array([0.05, 0.07]), np.array([0.03, 0.03]))
    assert found.prediction is None and found.tau2 == 0 and found.df == 1
    assert found.interval().high - found.mean == pytest.approx(12.706 * 0.03 / math.sqrt(2), rel=1e-3)
    for effects, errors in (([0.1], [0.1]), ([0.1, 0.2], [0.1, 0.0]), ([0.1, math.nan], [0.1, 0.1])):
        with pytest.raises(ValueError, match="at least 2"):
            meta_analysis.random_effects(np.array(effects), np.array(errors))


def test_effects_too_close_together_have_no_interval_of_tau2() -> None:
    found = meta_analysis.random_effects(np.array([0.01, 0.011, 0.012, 0.009]), np.full(4, 0.1))
    assert found.q < chi2.ppf(0.025, 3) and found.tau2 == 0
    assert found.tau2_interval is None and found.i2_interval is None


@pytest.mark.parametrize(("K", "tau"), [(3, 0.0), (3, 0.06), (13, 0.0), (13, 0.06)])
def test_coverage(K: int, tau: float) -> None:
    """Simulated, at a true mean of 0. What prediction intervals lack where effects spread: docs/compare.md."""
    rng, resamples = np.random.default_rng(K), 300
    mean = new = 0
    for _ in range(resamples):
        errors = rng.uniform(0.05, 0.09, K)
        found = meta_analysis.random_effects(rng.normal(0, tau, K) + rng.normal(0, errors), errors)
        mean += not found.interval().excludes_zero()
        assert found.prediction is not None
        new += found.prediction.low <= rng.normal(0, tau) <= found.prediction.high
    assert mean / resamples >= 0.93
    assert new / resamples >= (0.93 if tau == 0 else 0.8)


@pytest.mark.parametrize(("a", "b", "n"), [(11, 13, 41), (0, 0, 41), (41, 30, 41), (3, 9, 300)])
def test_unpaired_equals_statsmodels(a: int, b: int, n: int) -> None:
    found = meta_analysis.unpaired([(a, n)], [(b, n)])
    theirs = confint_proportions_2indep(b, n, a, n, method="agresti-caffo", compare="diff")
    assert (found.interval().low, found.interval().high) == pytest.approx(theirs, abs=1e-9)
    assert found.difference == pytest.approx((b - a) / n)
    assert found.standard_error > 0


def test_unpaired_seeds_are_averaged_with_their_variance() -> None:
    found = meta_analysis.unpaired([(10, 40), (14, 40)], [(12, 40)])
    shrunk = 13 / 42
    assert found.difference == 0.0
    assert found.standard_error**2 == pytest.approx(2 * shrunk * (1 - shrunk) / 42 + 0.005 / 2)


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(0, 0, 41), (2, 5, 41), (30, 60, 300)])
def test_paired_error_is_bonett_and_prices(only_a: int, only_b: int, n: int) -> None:
    d = np.repeat([-1.0, 1.0, 0.0], [only_a, only_b, n - only_a - only_b])
    p, q = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    assert meta_analysis.paired_error(d) == pytest.approx(math.sqrt((p + q - (q - p) ** 2) / (n + 2)))
    if only_a:
        assert meta_analysis.paired_error(d) == pytest.approx(d.std(ddof=1) / math.sqrt(n), rel=0.12)
    assert 2 * norm.sf(abs(d.mean()) / meta_analysis.paired_error(d)) <= 1


def test_levels_and_shares_of_the_bcg_trials() -> None:
    effects, errors = log_risk_ratios()
    found, narrow = (meta_analysis.random_effects(effects, errors, level) for level in (0.95, 0.8))
    assert found.tau2_interval is not None and found.i2_interval is not None and narrow.tau2_interval is not None
    for tau2, target in ((narrow.tau2_interval.low, 0.9), (narrow.tau2_interval.high, 0.1)):
        assert meta_analysis.generalised_q(effects, errors**2, tau2) == pytest.approx(chi2.ppf(target, 12))
    # I² takes its measure of the usual variance from Higgins & Thompson: 12 Σw / ((Σw)² − Σw²).
    w = 1 / errors**2
    typical = 12 * w.sum() / (w.sum() ** 2 - (w**2).sum())
    assert found.i2 == pytest.approx(found.tau2 / (found.tau2 + typical))
    assert found.i2_interval.low == pytest.approx(found.tau2_interval.low / (found.tau2_interval.low + typical))
    assert found.i2_interval.high == pytest.approx(found.tau2_interval.high / (found.tau2_interval.high + typical))
    assert narrow.prediction is not None and narrow.tau2_interval.level == narrow.prediction.level == 0.8
    half = t.ppf(0.9, 11) * math.sqrt(narrow.tau2 + narrow.standard_error**2)
    assert (narrow.prediction.low, narrow.prediction.high) == pytest.approx((narrow.mean - half, narrow.mean + half))
    assert found.p == pytest.approx(2 * t.sf(abs(found.mean) / found.standard_error, 12))
    interval = found.interval(0.8)
    assert (interval.low + interval.high) / 2 == pytest.approx(found.mean) and interval.level == 0.8
    assert interval.high - found.mean == pytest.approx(t.ppf(0.9, 12) * found.standard_error)


def test_three_replications_have_a_prediction() -> None:
    found = meta_analysis.random_effects(np.array([0.1, 0.2, 0.4]), np.array([0.01, 0.02, 0.03]))
    assert found.prediction is not None and found.tau2 > 0
    half = 12.7062 * math.sqrt(found.tau2 + found.standard_error**2)
    assert found.prediction.high - found.mean == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize(
    ("effects", "errors"),
    [([0.1, 0.2], [0.1]), ([0.1, 0.2], [0.1, 0.1, 0.1]), ([0.1, 0.2], [0.1, -0.1]), ([0.1, math.inf], [0.1, 0.1]),
     ([], []), ([0.1, 0.2], [0.1, math.nan])],
)  # fmt: skip
def test_what_is_no_meta_analysis(effects: list[float], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        meta_analysis.random_effects(np.array(effects), np.array(errors))


def test_effects_as_far_apart_as_their_errors_have_no_variance_of_their_own() -> None:
    effects, errors = np.array([-1.0, 1.0, 0.0]), np.ones(3)
    assert meta_analysis.generalised_q(effects, errors**2, 0.0) == 2 == 3 - 1
    assert meta_analysis.random_effects(effects, errors).tau2 == 0.0
    wider = meta_analysis.random_effects(effects * 2, errors)
    assert wider.q == pytest.approx(8) and wider.tau2 == pytest.approx(3), "the root where Q/(1 + τ²) is 2"
    assert meta_analysis.generalised_q(effects * 2, errors, wider.tau2) == pytest.approx(2)


@pytest.mark.parametrize("answers", [1, 4, 10])
@pytest.mark.parametrize("d", [[0.0] * 20, [0.5, -0.25, 0.0, 0.75], [1.0] * 7])
def test_paired_error_adds_one_answer_to_either_side(d: list[float], answers: int) -> None:
    n = len(d) + 2
    squares = sum(x * x for x in d) + 2 / answers**2
    assert meta_analysis.paired_error(np.array(d), answers) ** 2 == pytest.approx((squares - sum(d) ** 2 / n) / n**2)
    if answers == 1:
        assert meta_analysis.paired_error(np.array(d)) == meta_analysis.paired_error(np.array(d), 1)
    if answers == 4 and not any(d):
        assert meta_analysis.paired_error(np.array(d), answers) == pytest.approx(math.sqrt(2 / 16) / n)


def test_unpaired_by_hand() -> None:
    """Two seeds and one, of other sizes: the smaller total counts, one right and one wrong answer are added."""
    found = meta_analysis.unpaired([(10, 40), (10, 20)], [(15, 30)])
    a, b = (0.375 * 20 + 1) / 22, 16 / 32
    assert found.difference == pytest.approx(0.5 - 0.375) and found.centre == pytest.approx(b - a)
    variance = a * (1 - a) / 22 + b * (1 - b) / 32 + 0.25**2 / 2 / 2
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.p == pytest.approx(2 * norm.sf((b - a) / math.sqrt(variance)))
    interval = found.interval(0.8)
    half = norm.isf(0.1) * math.sqrt(variance)
    assert (interval.low, interval.high) == pytest.approx((b - a - half, b - a + half)) and interval.level == 0.8
    turned = meta_analysis.unpaired([(15, 30)], [(10, 40), (10, 20)])
    assert turned.p == pytest.approx(found.p) and turned.centre == pytest.approx(-found.centre)
    for a_solved, b_solved, ends in ((0, 2, (None, 1.0)), (2, 0, (-1.0, None))):
        clipped = meta_analysis.unpaired([(a_solved, 2)], [(b_solved, 2)]).interval(0.99)
        assert ends[0] in (None, clipped.low) and ends[1] in (None, clipped.high)


def test_around() -> None:
    assert meta_analysis.around(0.5, 0.25, 0.9) == Interval(0.25, 0.75, 0.9)
    assert meta_analysis.around(0.5, 0.25).level == 0.95
