"""What a design can detect, before and after a run: pure functions. Shapes as in `random_effects`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, special, stats
from scipy.stats import chi2, qmc

from kiyas.stats.inference import Floats
from kiyas.stats.random_effects import Components, tail, variance_draws

STUDIES, DRAWS = 128, 256
"""Simulated studies of a design, and draws of the variance in each: a detectable difference is exact to about 2 %."""
MOST_SEEDS, MOST_PROBLEMS = 50, 20_000

ASSUMED = Components(seed=0.0004, problem=0.05, rest=0.25)
"""Variances of one difference before anything is measured, one answer a problem: SD of the seeds 2 points; discordance
.05 + .25 = .30. The half-widths known from practice come out."""
ANSWER_SHARE = 0.5
"""Share of the rest that is the luck of one answer, which more answers average out; the rest is seed × problem."""


def assumed(samples: int) -> Components:
    """The assumed components with so many answers a problem."""
    rest = ASSUMED.rest * (1 - ANSWER_SHARE + ANSWER_SHARE / samples)
    return Components(ASSUMED.seed, ASSUMED.problem, rest)


def problems_needed(discordance: float, difference: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Problems that two given adapters need for McNemar's test to see `difference` (Connor 1987)."""
    if not 0 < abs(difference) <= discordance <= 1:
        raise ValueError("needs 0 < |difference| <= discordance <= 1")
    z_alpha, z_power = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
    spread = math.sqrt(discordance - difference * difference)
    return math.ceil(((z_alpha * math.sqrt(discordance) + z_power * spread) / difference) ** 2)


def problems_needed_by_variance(variance: float, difference: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Problems that a normal test needs to see `difference`, if one problem's difference has this variance."""
    z = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    return math.ceil(variance * (z / difference) ** 2)


@functools.lru_cache(maxsize=64)
def _luck(freedom: tuple[int, ...]) -> Floats:
    """χ²(df)/df for each of the degrees of freedom, [., STUDIES]: how mean squares come out in normal data."""
    uniform = qmc.Sobol(len(freedom), scramble=True, seed=1).random(STUDIES)
    return np.stack([chi2.ppf(uniform[:, i], df) / df for i, df in enumerate(freedom)])


def half_widths(squares: tuple[Floats, Floats, Floats], seeds: int, problems: int, alpha: float = 0.05) -> Floats:
    """Half of the two-way interval at each triple of mean squares (seed, problem, rest), [N]."""
    variances_NB = variance_draws(*squares, S=seeds, P=problems, draws=DRAWS)
    scale_N = np.sqrt(np.median(variances_NB, axis=-1))
    low_N, high_N = np.log(np.full(scale_N.shape, 0.1)), np.log(np.full(scale_N.shape, 1e4))
    for _ in range(22):
        middle_N = (low_N + high_N) / 2
        wider = tail(np.exp(middle_N)[:, None] * scale_N[:, None] / np.sqrt(variances_NB)) > alpha
        low_N, high_N = np.where(wider, middle_N, low_N), np.where(wider, high_N, middle_N)
    found: Floats = np.exp((low_N + high_N) / 2) * scale_N
    return found


def detectable(parts: Components, seeds: int, problems: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true difference that `two_way` finds with the given power, if the components are right.

    Mean squares are drawn as normal data would give them, since the interval's width is itself a matter of luck.
    """
    S, P = seeds, problems
    error = parts.standard_error(S, P)
    if error == 0:
        return 0.0
    expected = (P * parts.seed + parts.rest, S * parts.problem + parts.rest, parts.rest)
    luck = _luck((S - 1, P - 1, (S - 1) * (P - 1)))
    seed, problem, rest = (mean * each for mean, each in zip(expected, luck, strict=True))
    half_N = half_widths((seed, problem, rest), S, P, alpha)

    def missing(difference: float) -> float:
        found = special.ndtr((difference - half_N) / error) + special.ndtr((-half_N - difference) / error)
        return float(np.mean(found)) - power

    high = float(half_N.max()) + 10 * error
    found: float = optimize.brentq(missing, 0.0, high, xtol=1e-6) if missing(0.0) < 0 else 0.0
    return found


def seeds_needed(parts: Components, problems: int, difference: float, alpha: float = 0.05) -> int | None:
    """Fewest seeds at this many problems that see `difference`; None where even MOST_SEEDS do not."""
    return _fewest(lambda seeds: detectable(parts, seeds, problems, alpha=alpha) <= difference, MOST_SEEDS)


def problems_needed_with(
    parts: Components, seeds: int, difference: float, alpha: float = 0.05, most: int = MOST_PROBLEMS
) -> int | None:
    """Fewest problems at this many seeds that see `difference`; None where even `most` do not."""
    return _fewest(lambda problems: detectable(parts, seeds, problems, alpha=alpha) <= difference, most)


def design_needed(parts: Components, difference: float, alpha: float = 0.05) -> tuple[int, int] | None:
    """(seeds, problems) that see `difference` with the fewest answers, among designs of up to MOST_SEEDS seeds."""
    best: tuple[int, int] | None = None
    for seeds in (3, 5, 8, 10, 15, 20, 30, MOST_SEEDS):
        most = MOST_PROBLEMS if best is None else min(MOST_PROBLEMS, best[0] * best[1] // seeds)
        if most >= 2 and (problems := problems_needed_with(parts, seeds, difference, alpha, most)) is not None:
            best = seeds, problems
    return best


def _fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 2 to `most` that is enough, where more of it is never less."""
    if not enough(most):
        return None
    low, high = 2, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
