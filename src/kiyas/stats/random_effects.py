"""The mean of a table of seeds × problems, with seed and problem as crossed random effects: pure functions.

Shapes: S seeds, P problems, G groups of problems, B draws of a variance, N studies. `d_SP` is the paired difference in
the share of solved samples, arm b minus arm a (or a rate), for each seed and problem. Seeds and problems are *crossed*:
every seed answers the same problems. docs/statistics.md has the simulations.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special
from scipy.stats import chi2, qmc

from kiyas.stats.inference import Floats, Interval, effective_problems, sign_flip

DRAWS = 2048
"""Of the three mean squares, from a fixed Sobol sequence: tail areas near .05 are exact to about .0005."""
FEW = 14
"""So many differences or fewer are not normal: the exact sign-flip test must agree."""


@dataclass(frozen=True)
class Components:
    """Variance of one difference, split: between seeds, between problems, and the rest."""

    seed: float
    problem: float
    rest: float

    def standard_error(self, seeds: int, problems: int) -> float:
        return math.sqrt(self.seed / seeds + self.problem / problems + self.rest / (seeds * problems))


@dataclass(frozen=True)
class Estimate:
    """A mean with a generalised confidence interval (Tsui & Weerahandi 1989, Weerahandi 1993).

    `variances_B` are draws of the variance of the mean, given the mean squares. An end of the interval is a true value
    that the data would meet with too small a probability; if it were true, at least so many of the `units` (problems,
    or groups of them) would differ, and the variance could not be smaller than theirs. Without this, the fewer problems
    differed, the surer the interval would be. (With one answer and no difference it is Tango's, z²/(P + z²).)
    """

    mean: float
    variances_B: Floats
    units: float
    unit_means: Floats
    a_rate: bool = False
    """the mean of numbers between 0 and 1, not of differences"""

    @property
    def exact_p(self) -> None:
        """Only two adapters with one answer each have one (`inference.Paired`)."""

    @functools.cached_property
    def p(self) -> float:
        """Two-sided, of no difference; never below the sign-flip test's where few problems differ."""
        flips = sign_flip(self.unit_means) if np.count_nonzero(self.unit_means) <= FEW else 0.0
        return max(flips, self.level_at(0.0))

    def level_at(self, value: float) -> float:
        """The alpha at which the interval ends at `value`."""
        if self.a_rate:
            least = value * (1 - value) / self.units
            return float(tail(standard(value - self.mean, np.maximum(self.variances_B, least))))
        return float(level_at(self.mean, self.variances_B, value, self.units))

    def interval(self, level: float = 0.95) -> Interval:
        """It holds zero whenever the test does not reject zero at this level."""
        low, high = (self._end(outer, 1 - level) for outer in (0.0 if self.a_rate else -1.0, 1.0))
        found = Interval(low, high, level)
        return found.with_zero() if not self.a_rate and self.p >= 1 - level else found

    def _end(self, outer: float, alpha: float) -> float:
        if abs(outer - self.mean) < 1e-12 or self.level_at(outer) >= alpha:
            return outer
        inner = self.mean + math.copysign(1e-12, outer - self.mean)
        if self.level_at(inner) <= alpha:
            return self.mean
        found: float = optimize.brentq(lambda x: self.level_at(x) - alpha, inner, outer, xtol=1e-9)
        return found


def level_at(mean: Any, variances_B: Floats, value: Any, units: float) -> Floats:
    """The alpha at which the interval of a difference ends at `value`; arrays of means have variances [..., B].

    If a difference of x were true, at least a share x of the units would differ, and the variance of the mean could not
    be smaller than x(1 − x)/units.
    """
    mean_1 = np.asarray(mean, dtype=np.float64)[..., None]

    def distance(value: Any) -> Floats:
        """In standard errors, for each draw."""
        x = np.minimum(np.abs(value), 0.5)
        return standard(value - mean_1, np.maximum(variances_B, x * (1 - x) / units))

    # The least variance vanishes at zero. Of the values beyond, this one is the likeliest; those before it are no less.
    beyond_1 = -mean_1 / (1 + 2 * np.abs(mean_1))
    between_1 = (value - beyond_1) * (value - mean_1) < 0
    return tail(np.where(between_1, np.minimum(distance(value), distance(beyond_1)), distance(value)))


def standard(distance: Any, variance: Floats) -> Floats:
    """A distance in standard errors; without any variance infinite, and zero where the distance is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.nan_to_num(np.abs(distance) / np.sqrt(variance), nan=0.0, posinf=np.inf)
    return found


def tail(z_B: Floats) -> Floats:
    """Two-sided normal tail beyond each distance, averaged over draws (the last axis)."""
    found: Floats = 2 * special.ndtr(-z_B).mean(axis=-1)
    return found


@dataclass(frozen=True)
class TwoWay(Estimate):
    components: Components = Components(0.0, 0.0, 0.0)
    ms_seed: float = 0.0
    seeds: int = 2

    @property
    def standard_error(self) -> float:
        return self.components.standard_error(self.seeds, self.unit_means.size)

    def seed_variance_at_most(self, sure: float = 0.8) -> float:
        """Upper confidence limit of the variance between seeds, which few seeds often estimate as zero."""
        seed, _, rest = _pivots(_freedom(self.seeds, self.unit_means.size), DRAWS)
        drawn_B = (self.ms_seed * seed - self.components.rest * rest) / self.unit_means.size
        return max(0.0, float(np.quantile(drawn_B, sure)))


def mean_squares(d_NSP: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean and mean squares of seeds, problems and rest, of each S × P table: four arrays without the last two axes."""
    S, P = d_NSP.shape[-2:]
    mean = d_NSP.mean(axis=(-2, -1))
    seeds, problems = d_NSP.mean(axis=-1), d_NSP.mean(axis=-2)
    ms_seed = P * ((seeds - mean[..., None]) ** 2).sum(-1) / (S - 1)
    ms_problem = S * ((problems - mean[..., None]) ** 2).sum(-1) / (P - 1)
    rest = d_NSP - seeds[..., None] - problems[..., None, :] + mean[..., None, None]
    return mean, ms_seed, ms_problem, (rest**2).sum((-2, -1)) / ((S - 1) * (P - 1))


def _freedom(S: int, P: float) -> tuple[float, float, float]:
    """Degrees of freedom of the mean squares of seeds, problems and rest."""
    problems = max(0.5, P - 1)
    return S - 1, problems, (S - 1) * problems


@functools.lru_cache(maxsize=256)
def _pivots(freedom: tuple[float, ...], draws: int) -> tuple[Floats, ...]:
    """df / χ²(df) for each of the degrees of freedom, [B] each: what a mean square is multiplied by."""
    uniform = qmc.Sobol(len(freedom), scramble=True, seed=0).random(draws)
    return tuple(df / chi2.ppf(uniform[:, i], df) for i, df in enumerate(freedom))


def variance_draws(
    ms_seed: Any, ms_problem: Any, ms_rest: Any, S: int, P: int, draws: int = DRAWS, units: float | None = None
) -> Floats:
    """Mean squares (numbers, or arrays of them) → draws of the variance of the mean, [..., B].

    `units`: the effective number of problems where they are groups of unequal size; it makes the degrees of freedom.

    Var(mean) = (E_seed + E_problem − E_rest)/(SP), each expected mean square drawn as mean square × df/χ²(df); it is no
    less than E_rest/(SP).
    """
    seed, problem, rest = _pivots(_freedom(S, P if units is None else units), draws)
    seed = np.asarray(ms_seed)[..., None] * seed
    problem = np.asarray(ms_problem)[..., None] * problem
    rest = np.asarray(ms_rest)[..., None] * rest
    found: Floats = np.maximum(seed + problem - rest, rest) / (S * P)
    return found


def two_way(d_SP: Floats, groups: Sequence[str] | None = None, *, a_rate: bool = False) -> TwoWay:
    """Two-way random effects without replication. `groups`: to which group each problem belongs, if to any.

    Raises ValueError with fewer than two seeds or two problems.
    """
    if min(d_SP.shape) < 2:
        raise ValueError(
            f"two-way random effects need at least 2 seeds and 2 problems, got {d_SP.shape[0]} and {d_SP.shape[1]}"
        )
    units = effective_units(groups, d_SP.shape[1])
    if groups is not None:
        d_SP = by_group(d_SP, groups)
    S, P = d_SP.shape
    mean, seed, problem, rest = map(float, mean_squares(d_SP))
    if seed + problem + rest <= 1e-15:
        seed = problem = rest = 0.0
    components = Components(max(0.0, (seed - rest) / P), max(0.0, (problem - rest) / S), rest)
    means_P = d_SP.mean(axis=0)
    draws = variance_draws(seed, problem, rest, S, P, units=units)
    return TwoWay(
        mean, draws, min(units, effective_problems(means_P, S)) if a_rate else units, means_P, a_rate,
        components=components, ms_seed=seed, seeds=S,
    )  # fmt: skip


def one_way(d_P: Floats, groups: Sequence[str] | None = None) -> Estimate:
    """Mean difference over the problems of two adapters: Student's t, with the same least variance."""
    units = effective_units(groups, d_P.size)
    if groups is not None:
        d_P = by_group(d_P[None], groups)[0]
    (pivot,) = _pivots((max(0.5, units - 1),), DRAWS)
    variance = float(d_P.var(ddof=1)) / d_P.size if d_P.size > 1 else 0.25
    return Estimate(float(d_P.mean()), variance * pivot, units, d_P)


def effective_units(groups: Sequence[str] | None, problems: int) -> float:
    """Groups of equal size that say as much as these: 1/Σ share² (Kish 1965); without groups, the problems."""
    if groups is None:
        return float(problems)
    return 1 / sum((count / problems) ** 2 for count in Counter(groups).values())


def by_group(d_SP: Floats, groups: Sequence[str]) -> Floats:
    """A column for each group, [S, G], with the means of the seeds: groups then take the place of problems.

    A group's column is its part in the deviation from the mean (the linearised total of survey statistics), so that
    groups weigh by their problems. A large group pulls the mean towards itself; its part is therefore divided by
    √(1 − share) (Bell & McCaffrey 2002).
    """
    names = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    member_PG = np.eye(len(names))[[names[name] for name in groups]]
    G, P = len(names), d_SP.shape[1]
    seeds_S1 = d_SP.mean(axis=1, keepdims=True)
    parts_SG = (d_SP - seeds_S1) @ member_PG * (G / P)
    # Groups of equal size come out as their means.
    parts_SG *= np.sqrt((1 - 1 / G) / (1 - member_PG.sum(axis=0) / P))
    found: Floats = seeds_S1 + parts_SG - parts_SG.mean(axis=1, keepdims=True)
    return found
