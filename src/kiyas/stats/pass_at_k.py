"""What pass@k needs beyond its estimate (`inference.pass_at_k`). Pure functions.

Shapes: C checkpoints, P problems, B draws, n answers to a problem.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from kiyas.stats.inference import Floats, pass_at_k

EXACT = 5_000
"""Checkpoints × problems up to which answers are drawn one by one; above, means of problems are taken as normal."""


def equal_checkpoints(shares_CP: Floats, samples: int, k: int, resamples: int = 2000, seed: int = 0) -> float:
    """By how much the best of C equal checkpoints exceeds its true pass@k, by chance alone.

    As `inference.best_of` does it for pass@1: every checkpoint answers each problem `samples` times at that problem's
    observed share of right answers (shrunk by one pseudo-checkpoint), and is scored by the unbiased pass@k.
    """
    C, P = shares_CP.shape
    p_P = (shares_CP.sum(axis=0) + shares_CP.mean()) / (C + 1)
    value_n = np.array([pass_at_k(samples, c, k) for c in range(samples + 1)])
    truth = float((1 - (1 - p_P) ** k).mean())  # the estimate is unbiased
    rng = np.random.default_rng(seed)
    if C * P <= EXACT:
        score_BC = value_n[rng.binomial(samples, p_P, size=(resamples, C, P))].mean(axis=2)
    else:
        chance_Pn = stats.binom.pmf(np.arange(samples + 1), samples, p_P[:, None])
        variance_P = chance_Pn @ value_n**2 - (chance_Pn @ value_n) ** 2
        spread = math.sqrt(max(0.0, float(variance_P.sum()))) / P
        score_BC = truth + spread * rng.standard_normal((resamples, C))
    return float(score_BC.max(axis=1).mean()) - truth
