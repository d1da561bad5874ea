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

    def with_zero(self) -> Interval:
        """Extended to zero, where it excludes it."""
        return Interval(min(self.low, 0.0), max(self.high, 0.0), self.level)

    def clipped(self) -> Interval:
        """Within what a difference of shares can be."""
        return Interval(max(-1.0, self.low), min(1.0, self.high), self.level)

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
    return wilson_of(successes / n, n, level) if n else Interval(0.0, 1.0, level)


def wilson_of(p: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of the proportion `p` of `n`, which may be an effective number."""
    z = float(stats.norm.ppf(0.5 + level / 2))
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), level)


def rate_interval(rates_P: Floats, answers: int = 1, level: float = 0.95) -> Interval:
    """Of the mean of rates over problems: Wilson's, for the effective number of problems (Korn & Graubard 1998).

    That is the number of yes/no problems with the same variance of the mean, found with two solved and two unsolved
    problems added, so that rates which hardly differ do not count as certain. With one answer to each problem it is the
    number of problems; it is never more than the number of answers.
    """
    return wilson_of(float(rates_P.mean()), effective_problems(rates_P, answers), level)


def effective_problems(rates_P: Floats, answers: int = 1) -> float:
    """P rates, each of so many answers → the number of yes/no problems that would say as much about their mean."""
    if answers == 1:
        return float(rates_P.size)
    padded = np.concatenate([rates_P, [0.0, 0.0, 1.0, 1.0]])
    mean = float(padded.mean())
    return float(min(rates_P.size * mean * (1 - mean) / padded.var(), rates_P.size * answers))


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


@dataclass(frozen=True)
class Paired:
    """Two given adapters, one answer to each of `n` problems: mid-p McNemar, with Tango's interval."""

    only_a: int
    only_b: int
    n: int

    @property
    def mean(self) -> float:
        return (self.only_b - self.only_a) / self.n

    @property
    def p(self) -> float:
        return mcnemar(self.only_a, self.only_b).mid

    @property
    def exact_p(self) -> float:
        return mcnemar(self.only_a, self.only_b).exact

    def interval(self, level: float = 0.95) -> Interval:
        """It holds zero whenever the test does not reject zero at this level."""
        found = paired_interval(self.only_a, self.only_b, self.n, level)
        return found.with_zero() if self.p >= 1 - level else found


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


def crossed_bootstrap(d_SP: Floats, level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Interval:
    """Percentile interval of the mean; seeds and problems are drawn anew, one draw of problems for all seeds.

    With few seeds it is too narrow by about √((S−1)/S): show it with the two-way interval, not in its place.
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
