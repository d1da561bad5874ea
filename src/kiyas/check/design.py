"""What a design can detect: problems × seeds × samples → the smallest true difference found with 80 % power.

Pure functions, before anything is measured, so the spread of a difference is assumed (`stats.planning.ASSUMED`): one
answer of each of two adapters differs on 30 % of the problems, two trainings on the same data are 2 points apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from kiyas.stats.planning import assumed, detectable

PROBLEMS = (100, 300, 1055)
SEEDS = (3, 5, 10)
SAMPLES = 10
POWER, ALPHA = 0.8, 0.05


@dataclass(frozen=True)
class Cell:
    """One design and the difference (0 to 1) that it can detect at POWER; hours where the cost is known."""

    seeds: int
    problems: int
    samples: int
    detectable: float
    hours: float | None = None


def sees(seeds: int, problems: int, samples: int = 1, alpha: float = ALPHA) -> float:
    """Smallest true difference that the design finds with POWER at level alpha, at most 1.

    Several seeds: the two-way interval (stats.detectable). One seed compares two adapters only:
    McNemar's mid-p with one answer, a normal test of the problems' means with several.
    """
    parts = assumed(samples)
    if problems < 2:
        return 1.0
    if seeds > 1:
        return min(1.0, detectable(parts, seeds, problems, POWER, alpha))
    discordance = parts.problem + parts.rest
    if samples == 1:
        return mcnemar_detectable(problems, discordance, alpha)
    return min(1.0, float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER)) * math.sqrt(discordance / problems))


def mcnemar_detectable(problems: int, discordance: float, alpha: float = ALPHA) -> float:
    """Smallest difference that McNemar's mid-p test finds with POWER; 1 where even full discordance does not do."""
    if mcnemar_power(problems, discordance, discordance, alpha) < POWER:
        return 1.0
    found: float = optimize.brentq(
        lambda x: mcnemar_power(problems, discordance, x, alpha) - POWER, 0.0, discordance, xtol=1e-6
    )
    return found


def mcnemar_power(problems: int, discordance: float, difference: float, alpha: float = ALPHA) -> float:
    """Power of the mid-p McNemar test, summed over all numbers of discordant pairs and all their splits."""
    n = np.arange(problems + 1)
    weight = stats.binom.pmf(n, problems, discordance)
    n, weight = n[weight > 1e-9], weight[weight > 1e-9]
    # The largest count of the rarer kind at which the test still rejects, for each number of discordant pairs.
    k = np.arange(problems // 2 + 1)[None, :]
    mid = 2 * stats.binom.cdf(k, n[:, None], 0.5) - stats.binom.pmf(k, n[:, None], 0.5)
    last = ((mid <= alpha) & (2 * k < n[:, None])).sum(axis=1) - 1
    share = 0.5 + difference / (2 * discordance)
    rejected = stats.binom.cdf(last, n, 1 - share) + stats.binom.cdf(last, n, share)
    return float((weight * np.where(last >= 0, rejected, 0.0)).sum())


def table(seeds: int, problems: int, samples: int, contrasts: int = 1) -> list[Cell]:
    """The study's own design first, then all others in order of samples, seeds and problems.

    Of several declared contrasts each is found at the level of Holm's first step: the power is that of one of them.
    """
    own = (seeds, problems, samples)
    others = [
        (s, p, m)
        for m in sorted({samples, SAMPLES})
        for s in sorted({seeds, *SEEDS})
        for p in sorted({problems, *PROBLEMS})
        if (s, p, m) != own
    ]
    return [Cell(s, p, m, sees(s, p, m, ALPHA / contrasts)) for s, p, m in (own, *others)]
