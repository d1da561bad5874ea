"""Random-effects meta-analysis of a few differences: pure functions over numbers. No files, no words.

Shapes: K replications, P problems. An effect is a difference in pass@1, arm b minus arm a, as a share; an error is its
standard error.

Not guaranteed: independence. The formulas take the K errors as independent; replications that answered the same
problems share the luck of those problems, so that the pooled interval then speaks of these problems only
(docs/compare.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from kiyas.stats.inference import Floats, Interval


@dataclass(frozen=True)
class Meta:
    """K pooled effects. `tau2` is the variance of the true effects, `i2` its share in the measured variance.

    The intervals of both are None where the effects lie closer together than any τ² allows: the errors are then too
    wide. `prediction` is where the true effect of one more replication is expected; None below three.
    """

    mean: float
    standard_error: float
    df: int
    p: float
    q: float
    q_p: float
    tau2: float
    tau2_interval: Interval | None
    i2: float
    i2_interval: Interval | None
    weights: tuple[float, ...]
    prediction: Interval | None

    def interval(self, level: float = 0.95) -> Interval:
        return around(self.mean, float(stats.t.ppf(0.5 + level / 2, self.df)) * self.standard_error, level)


def around(centre: float, half: float, level: float = 0.95) -> Interval:
    return Interval(centre - half, centre + half, level)


def random_effects(effects_K: Floats, errors_K: Floats, level: float = 0.95) -> Meta:
    """Paule–Mandel's τ² (1982) and the modified Hartung–Knapp interval, with t(K−1).

    Paule–Mandel's τ² is where the generalised Q equals its expectation K−1. It is the one root of a falling function,
    needs no normal effects and does well with few studies (Veroniki et al. 2016). Hartung and Knapp multiply the
    variance by Q(τ²)/(K−1), the modified version by no less than 1 (Knapp & Hartung 2003; Röver, Knapp & Friede 2015).
    At Paule–Mandel's τ² > 0 that factor is 1, at τ² = 0 at most 1: the modified factor is always 1, and the interval
    never narrower than the fixed-effect one. Intervals of τ² and I² by the Q profile (Viechtbauer 2007), the
    prediction interval with t(K−2) (Higgins, Thompson & Spiegelhalter 2009).

    Raises ValueError with fewer than two effects, or an error that is not positive.
    """
    K = effects_K.size
    if K < 2 or errors_K.size != K or not (np.isfinite(effects_K).all() and (errors_K > 0).all()):
        raise ValueError("a meta-analysis needs at least 2 finite effects with positive standard errors")
    variances_K = errors_K**2
    df = K - 1
    q = generalised_q(effects_K, variances_K, 0.0)
    tau2 = _tau2_at(effects_K, variances_K, df)
    most, least = (float(stats.chi2.ppf(0.5 + side * level / 2, df)) for side in (1, -1))
    profile: Interval | None = None
    if q >= least:
        profile = Interval(_tau2_at(effects_K, variances_K, most), _tau2_at(effects_K, variances_K, least), level)
    # Higgins & Thompson's typical variance (2002).
    fixed_K = 1 / variances_K
    typical = df * float(fixed_K.sum()) / (float(fixed_K.sum()) ** 2 - float((fixed_K**2).sum()))
    weights_K = 1 / (variances_K + tau2)
    mean = float(weights_K @ effects_K / weights_K.sum())
    error = 1 / math.sqrt(float(weights_K.sum()))
    prediction = None
    if K > 2:
        prediction = around(
            mean, float(stats.t.ppf(0.5 + level / 2, K - 2)) * math.hypot(math.sqrt(tau2), error), level
        )
    return Meta(
        mean=mean,
        standard_error=error,
        df=df,
        p=2 * float(stats.t.sf(abs(mean) / error, df)),
        q=q,
        q_p=float(stats.chi2.sf(q, df)),
        tau2=tau2,
        tau2_interval=profile,
        i2=tau2 / (tau2 + typical),
        i2_interval=profile
        and Interval(profile.low / (profile.low + typical), profile.high / (profile.high + typical), level),
        weights=tuple(float(w) for w in weights_K / weights_K.sum()),
        prediction=prediction,
    )


def generalised_q(effects_K: Floats, variances_K: Floats, tau2: float) -> float:
    """Σ w (effect − weighted mean)², w = 1/(variance + τ²); at τ² = 0 it is Cochran's Q (1954)."""
    w_K = 1 / (variances_K + tau2)
    return float(w_K @ (effects_K - w_K @ effects_K / w_K.sum()) ** 2)


def _tau2_at(effects_K: Floats, variances_K: Floats, target: float) -> float:
    """The τ² at which the generalised Q falls to `target`; 0 where it is no larger at 0 already."""
    if generalised_q(effects_K, variances_K, 0.0) <= target:
        return 0.0
    # The weighted mean minimises Q, so Q(τ²) ≤ Σ (effect − mean)²/τ²: here it is no more than the target.
    above = float(((effects_K - effects_K.mean()) ** 2).sum()) / target
    found: float = optimize.brentq(
        lambda tau2: generalised_q(effects_K, variances_K, tau2) - target, 0.0, above * (1 + 1e-9), xtol=1e-14
    )
    return found


def paired_error(d_P: Floats, answers: int = 1) -> float:
    """Standard error of the mean of paired differences, never 0 (Bonett & Price 2012).

    Two made-up problems are added, on which one arm has one right answer more than the other. `answers` is the number
    of answers behind each share; Bonett and Price have one.
    """
    x = np.append(d_P, [1 / answers, -1 / answers])
    return float(x.std()) / math.sqrt(x.size)


@dataclass(frozen=True)
class Unpaired:
    """Difference of two proportions of which nobody knows the pairs, with Agresti and Caffo's interval."""

    difference: float
    centre: float
    standard_error: float

    @property
    def p(self) -> float:
        return 2 * float(stats.norm.sf(abs(self.centre) / self.standard_error))

    def interval(self, level: float = 0.95) -> Interval:
        half = float(stats.norm.ppf(0.5 + level / 2)) * self.standard_error
        return around(self.centre, half, level).clipped()


def unpaired(of_a: Sequence[tuple[float, int]], of_b: Sequence[tuple[float, int]]) -> Unpaired:
    """Agresti & Caffo (2000): one right and one wrong answer are added to each arm. Input: (solved, total) by seed.

    Seeds of an arm are averaged. The variance is that of one seed over its problems plus that of the mean over the
    seeds: since the seeds answered the same problems, averaging does not wear away the luck of the problems. That is
    too wide, by the noise of single answers, rather than too narrow.
    """
    rate, centre, variance = [], [], 0.0
    for rows in (of_a, of_b):
        rates, n = np.array([solved / total for solved, total in rows]), min(total for _, total in rows)
        shrunk = (float(rates.mean()) * n + 1) / (n + 2)
        variance += shrunk * (1 - shrunk) / (n + 2)
        variance += float(rates.var(ddof=1)) / rates.size if rates.size > 1 else 0.0
        rate.append(float(rates.mean()))
        centre.append(shrunk)
    return Unpaired(rate[1] - rate[0], centre[1] - centre[0], math.sqrt(variance))
