"""What the numbers can carry: pure functions over counts and arrays. No files, no words, no torch.

Shapes: S seeds, P problems, C checkpoints, B bootstrap draws. `d_SP` is the paired difference in the share of
solved samples, arm b minus arm a, for each seed and problem. Seeds and problems are *crossed*: every seed
answers the same problems.

Not guaranteed: that a claim about these data files holds for other data made in the same way; that needs
several draws of the data, which no function here can replace. See docs/statistics.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval; `level` is its nominal coverage."""

    low: float
    high: float
    level: float = 0.95

    def __neg__(self) -> Interval:
        """The interval of the opposite difference."""
        return Interval(-self.high, -self.low, self.level)

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def inside(self, margin: float) -> bool:
        """Wholly within ±margin."""
        return -margin < self.low and self.high < margin


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased pass@k from n samples of which c are right: 1 − C(n−c, k)/C(n, k) (Chen et al. 2021)."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (1927). `successes` may be a sum of shares."""
    if n == 0:
        return Interval(0.0, 1.0, level)
    z = float(stats.norm.ppf(0.5 + level / 2))
    p = successes / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), level)


@dataclass(frozen=True)
class McNemar:
    """Two-sided p-values for paired yes/no outcomes. Only the discordant pairs count."""

    only_a: int
    only_b: int
    exact: float
    mid: float


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """Exact (binomial) and mid-p McNemar test (Fagerland, Lydersen & Laake 2013)."""
    n = only_a + only_b
    if n == 0:
        return McNemar(only_a, only_b, 1.0, 1.0)
    smaller = min(only_a, only_b)
    exact = min(1.0, 2 * float(stats.binom.cdf(smaller, n, 0.5)))
    mid = 2 * float(stats.binom.cdf(smaller, n, 0.5)) - float(stats.binom.pmf(smaller, n, 0.5))
    return McNemar(only_a, only_b, exact, min(1.0, mid))


def paired_interval(only_a: int, only_b: int, n: int, level: float = 0.95) -> Interval:
    """Tango's score interval (1998) of the paired difference (only_b − only_a)/n.

    It is made of all differences that the score test does not reject; at zero that test is McNemar's.
    """
    if only_a + only_b > n or n < 1:
        raise ValueError(f"{only_a} + {only_b} discordant pairs of {n}")
    z = float(stats.norm.ppf(0.5 + level / 2))
    estimate = (only_b - only_a) / n

    def score(delta: float) -> float:
        # The constrained maximum likelihood estimate of P(only a), given the difference delta.
        linear = -only_b - only_a + (2 * n - only_b + only_a) * delta
        constant = -only_a * delta * (1 - delta)
        q = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        gap = only_b - only_a - n * delta
        if variance <= 0:
            return 0.0 if abs(gap) < 1e-12 else math.copysign(math.inf, gap)
        return gap / math.sqrt(variance)

    def solve(target: float, outer: float) -> float:
        edge = outer * (1 - 1e-9)
        if abs(estimate - outer) < 1e-9 or abs(score(edge)) < abs(target):
            return outer
        # A capped score keeps the end points finite for the root finder.
        found: float = optimize.brentq(
            lambda x: max(-1e6, min(1e6, score(x))) - target, *sorted((estimate, edge)), xtol=1e-10
        )
        return found

    return Interval(solve(z, -1.0), solve(-z, 1.0), level)


@dataclass(frozen=True)
class Components:
    """Variance of one difference, split: between seeds, between problems, and the rest."""

    seed: float
    problem: float
    rest: float

    def standard_error(self, seeds: int, problems: int) -> float:
        return math.sqrt(self.seed / seeds + self.problem / problems + self.rest / (seeds * problems))


TWO_SEEDS_DF = 3.0
"""With one degree of freedom nothing could ever be said; with three, two seeds that lie far apart say too much."""
SURE_OF_REST = 0.5
"""Share of the residual mean square not counted to the part that few seeds estimate badly: chosen by simulation."""


@dataclass(frozen=True)
class TwoWay:
    """Mean of d_SP with seed and problem as crossed random effects. `parts`: (variance of the mean, its degrees of
    freedom), whose sum is the variance of the mean."""

    mean: float
    parts: tuple[tuple[float, float], ...]
    components: Components
    problem_means: Floats

    @property
    def standard_error(self) -> float:
        return math.sqrt(sum(variance for variance, _ in self.parts))

    @functools.cached_property
    def p(self) -> float:
        """The level at which the interval touches zero; without any spread, that of the sign flip over problems."""
        if self.standard_error == 0:
            return sign_flip(self.problem_means)
        return _level_at(self.parts, abs(self.mean))

    def interval(self, level: float = 0.95) -> Interval:
        """Without any spread, Tango's for as many problems: that none differed does not prove that none ever will."""
        if self.standard_error == 0:
            P = self.problem_means.size
            changed = round(abs(self.mean) * P)
            return paired_interval(*((0, changed) if self.mean > 0 else (changed, 0)), P, level)
        half = float(_half_width(self.parts, 1 - level))
        return Interval(self.mean - half, self.mean + half, level)


def _half_width(parts: Sequence[tuple[Any, float]], alpha: float) -> Any:
    """Half of a two-sided interval: each part of the variance with the quantile of its own degrees of freedom."""
    return np.sqrt(sum(_quantile(alpha, df) ** 2 * variance for variance, df in parts))


@functools.lru_cache(maxsize=4096)
def _quantile(alpha: float, df: float) -> float:
    """Student's t that is exceeded, either way, with probability alpha."""
    return float(stats.t.isf(alpha / 2, df))


def _parts(seed: Any, problem: Any, rest: Any, S: int, P: int) -> tuple[tuple[Any, float], ...]:
    """Three mean squares of an S × P table (numbers or arrays of them) → the parts of the variance of its mean."""
    # Neither can be smaller than the rest in expectation; one that came out smaller did so by luck.
    seed, problem = np.maximum(seed, rest), np.maximum(problem, rest)
    parts = (
        (seed - SURE_OF_REST * rest, TWO_SEEDS_DF if S == 2 else S - 1),
        (problem - rest, P - 1),
        (SURE_OF_REST * rest, (S - 1) * (P - 1)),
    )
    return tuple((square / (S * P), float(df)) for square, df in parts)


def two_way(d_SP: Floats) -> TwoWay:
    """Two-way random effects without replication, with a modified large-sample interval (Graybill & Wang 1980).

    Var(mean) = σ²_seed/S + σ²_problem/P + σ²_rest/(SP), estimated from the three mean squares as
    (MS_S + MS_P − MS_R)/(SP). The interval squares and adds the half-widths of the parts, each with Student's t of its
    own degrees of freedom, since few seeds estimate their part badly and many problems theirs well. Satterthwaite's t
    of the sum decides too often with three to five seeds that differ: simulations in docs/statistics.md.
    """
    S, P = d_SP.shape
    if S < 2 or P < 2:
        raise ValueError(f"two-way random effects need at least 2 seeds and 2 problems, got {S} and {P}")
    mean = float(d_SP.mean())
    seed_means, problem_means = d_SP.mean(axis=1), d_SP.mean(axis=0)
    ms_seed = P * float(((seed_means - mean) ** 2).sum()) / (S - 1)
    ms_problem = S * float(((problem_means - mean) ** 2).sum()) / (P - 1)
    residual = d_SP - seed_means[:, None] - problem_means[None, :] + mean
    ms_rest = float((residual**2).sum()) / ((S - 1) * (P - 1))

    components = Components(max(0.0, (ms_seed - ms_rest) / P), max(0.0, (ms_problem - ms_rest) / S), ms_rest)
    parts = _parts(ms_seed, ms_problem, ms_rest, S, P)
    if sum(variance for variance, _ in parts) <= 1e-15 / (S * P):
        parts = ((0.0, 1.0),)
    return TwoWay(mean, parts, components, problem_means)


def _level_at(parts: Sequence[tuple[float, float]], distance: float) -> float:
    """The alpha at which the half-width is `distance`; at least 1e-12."""
    if _half_width(parts, 1e-12) <= distance:
        return 1e-12
    if distance == 0:
        return 1.0
    log: float = optimize.brentq(lambda x: _half_width(parts, math.exp(x)) - distance, math.log(1e-12), 0.0, xtol=1e-10)
    return math.exp(log)


def crossed_bootstrap(d_SP: Floats, level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Interval:
    """Percentile interval of the mean; seeds and problems are drawn anew, one draw of problems for all seeds.

    With few seeds it is too narrow by about √((S−1)/S): show it with the t interval, not in its place.
    """
    seeds_BS, problems_BP = _crossed_draws(*d_SP.shape, resamples, seed)
    means_B = np.einsum("bp,bp->b", seeds_BS @ d_SP, problems_BP)
    low, high = np.quantile(means_B, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high), level)


@functools.lru_cache(maxsize=4)
def _crossed_draws(S: int, P: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """How often each seed and each problem is drawn, as shares: [B, S] and [B, P]."""
    rng = np.random.default_rng(seed)
    seeds_BS = rng.multinomial(S, np.full(S, 1 / S), size=resamples) / S
    return seeds_BS, rng.multinomial(P, np.full(P, 1 / P), size=resamples) / P


def problem_bootstrap(x_P: Floats, level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Interval:
    """Percentile interval of a mean over problems, problems drawn anew."""
    return crossed_bootstrap(x_P[None, :], level, resamples, seed)


def sign_flip(d_P: Floats, resamples: int = 20_000, seed: int = 0) -> float:
    """Two-sided permutation p of mean zero: the sign of each problem's difference is flipped.

    Exact by enumeration up to 14 non-zero differences, otherwise by Monte Carlo with the observed table
    counted in, so that the p-value is never zero (Phipson & Smyth 2010).
    """
    x = d_P[d_P != 0]
    if x.size == 0:
        return 1.0
    observed = abs(float(x.sum())) - 1e-12
    if x.size <= 14:
        signs = 1 - 2 * ((np.arange(2**x.size)[:, None] >> np.arange(x.size)) & 1)
        return float((np.abs(signs @ x) >= observed).mean())
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(resamples, x.size))
    return float(((np.abs(signs @ x) >= observed).sum() + 1) / (resamples + 1))


@dataclass(frozen=True)
class BestOf:
    """The best of several checkpoints on the very problems it was chosen by."""

    measured: float
    corrected: float
    selection_bias: float
    checkpoints: int


def best_of(scores_CP: Floats, samples: int = 1, resamples: int = 2000, seed: int = 0) -> BestOf:
    """Choose and score on resampled problems. `scores_CP` are shares of `samples` answers that were right.

    `corrected`: checkpoints are chosen on a draw of the problems and scored on the problems left out of it
    (ties share). `flattery`: by how much the best of as many *equal* checkpoints beats its true value, every
    checkpoint answering each problem `samples` times at the observed rate of that problem (rates shrunk by one
    pseudo-checkpoint).
    """
    C, P = scores_CP.shape
    rng = np.random.default_rng(seed)
    counts_BP = rng.multinomial(P, np.full(P, 1 / P), size=resamples)
    inside_BC = counts_BP @ scores_CP.T / P
    out_BP = (counts_BP == 0).astype(np.float64)
    left = out_BP.sum(axis=1)
    usable = left > 0
    outside_BC = (out_BP @ scores_CP.T)[usable] / left[usable, None]
    best_BC = (inside_BC >= inside_BC.max(axis=1, keepdims=True) - 1e-12)[usable]
    chosen_B = (outside_BC * best_BC).sum(axis=1) / best_BC.sum(axis=1)
    corrected = float(chosen_B.mean()) if usable.any() else float("nan")

    rates_P = (scores_CP.sum(axis=0) + scores_CP.mean()) / (C + 1)
    if C * P <= 5_000:
        equal_BC = rng.binomial(samples, rates_P, size=(resamples, C, P)).mean(axis=2) / samples
    else:
        spread = math.sqrt(float((rates_P * (1 - rates_P)).sum()) / samples) / P
        equal_BC = rates_P.mean() + spread * rng.standard_normal((resamples, C))
    flattery = float(equal_BC.max(axis=1).mean() - rates_P.mean())
    return BestOf(float(scores_CP.mean(axis=1).max()), corrected, flattery if C > 1 else 0.0, C)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order given."""
    m = len(p_values)
    adjusted, running = [0.0] * m, 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def problems_needed(discordance: float, difference: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Problems that two given adapters need for McNemar's test to see `difference` (Connor 1987)."""
    if not 0 < abs(difference) <= discordance <= 1:
        raise ValueError("needs 0 < |difference| <= discordance <= 1")
    z_alpha, z_power = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
    spread = math.sqrt(discordance - difference * difference)
    return math.ceil(((z_alpha * math.sqrt(discordance) + z_power * spread) / difference) ** 2)


def expected_half_width(parts: Components, seeds: int, problems: int, level: float = 0.95) -> float:
    """Half of the two-way interval of a design, at the mean squares that the components let one expect."""
    rest = parts.rest
    expected = _parts(problems * parts.seed + rest, seeds * parts.problem + rest, rest, seeds, problems)
    return float(_half_width(expected, 1 - level))


def detectable(parts: Components, seeds: int, problems: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true difference that `two_way` finds with the given power at level alpha, if the components are right.

    Mean squares are drawn as normal data would give them, since the interval's width is itself a matter of luck.
    """
    S, P, rng = seeds, problems, np.random.default_rng(0)
    expected = (P * parts.seed + parts.rest, S * parts.problem + parts.rest, parts.rest)
    freedom = (S - 1, P - 1, (S - 1) * (P - 1))
    seed, problem, rest = (mean * rng.chisquare(df, 2000) / df for mean, df in zip(expected, freedom, strict=True))
    half_B = _half_width(_parts(seed, problem, rest, S, P), alpha)
    error = parts.standard_error(S, P)
    if error == 0:
        return 0.0

    def missing(difference: float) -> float:
        found = stats.norm.sf((half_B - difference) / error) + stats.norm.cdf((-half_B - difference) / error)
        return float(np.mean(found)) - power

    high = float(half_B.max()) + 10 * error
    found: float = optimize.brentq(missing, 0.0, high, xtol=1e-6) if missing(0.0) < 0 else 0.0
    return found


def seeds_needed(parts: Components, problems: int, difference: float, limit: int = 50) -> int | None:
    """Fewest seeds at this many problems that see `difference`; None where even `limit` seeds do not."""
    return next((s for s in range(2, limit + 1) if detectable(parts, s, problems) <= difference), None)


def design_needed(parts: Components, difference: float) -> tuple[int, int] | None:
    """(seeds, problems) that see `difference` with the fewest answers, among designs of up to 50 seeds."""
    designs = [(s, problems_needed_with(parts, s, difference)) for s in (3, 5, 8, 10, 15, 20, 30, 50)]
    return min(((s, p) for s, p in designs if p is not None), key=lambda design: design[0] * design[1], default=None)


def problems_needed_with(parts: Components, seeds: int, difference: float, limit: int = 20_000) -> int | None:
    """Fewest problems at this many seeds that see `difference`; None where even `limit` problems do not."""
    if detectable(parts, seeds, limit) > difference:
        return None
    low, high = 2, limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(parts, seeds, middle) <= difference else (middle + 1, high)
    return low
