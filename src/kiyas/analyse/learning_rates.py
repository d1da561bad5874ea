"""The learning-rate grid: each arm's rate is chosen by validation loss on seeds that count for nothing else.

Whether the answer depends on the choice is seen from the same contrast at every point of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kiyas.analyse.findings import Contrast, Curve, Decision, LearningRatePoint
from kiyas.analyse.load import Loaded, PassRates
from kiyas.types import AdapterId, LogKind


def rate_points(
    loaded: Loaded,
    curves: tuple[Curve, ...],
    chosen: Mapping[tuple[str, str], Mapping[int, AdapterId]],
    rates: PassRates,
) -> tuple[LearningRatePoint, ...]:
    """One row for each arm and rate; none without a grid. `chosen`: the checkpoint of each seed, by (arm, variant)."""
    study = loaded.record.study
    if study is None or len(study.variants) == 1:
        return ()
    grid, tuning = study.variants, study.tuning_seed_list
    diverged = {(row.adapter.arm, row.adapter.variant) for row in loaded.log if row.kind is LogKind.DIVERGED}
    found = []
    for arm in loaded.arms:
        losses: dict[str, float] = {}
        for variant in grid:
            last = [
                curve.validation[-1].loss if curve.validation else math.nan
                for curve in curves
                if (curve.training.arm, curve.training.variant) == (arm, variant) and curve.training.seed in tuning
            ]
            # A point that failed on one seed is no choice, however good the others are.
            whole = len(last) == len(tuning) and (arm, variant) not in diverged
            losses[variant] = float(np.mean(last)) if last and whole else math.nan
        known = {variant: loss for variant, loss in losses.items() if math.isfinite(loss)}
        best = min(known, key=lambda variant: (known[variant], grid[variant]), default=None)
        for variant, rate in grid.items():
            adapters = chosen.get((arm, variant), {}).values()
            scores = [float(rates[adapter].mean()) for adapter in adapters]
            found.append(
                LearningRatePoint(
                    arm,
                    variant,
                    rate,
                    losses[variant],
                    float(np.mean(scores)) if scores else math.nan,
                    (arm, variant) in diverged,
                    variant == best,
                )
            )
    return tuple(found)


def depends(primary: Contrast, at_each_rate: tuple[Contrast, ...], margin: float) -> bool:
    """Does the sign of the difference flip over the grid by more than noise: decided there, or by more than `margin`?

    `margin` counts only against a difference that is itself decided.
    """
    every = [c for c in (primary, *at_each_rate) if math.isfinite(c.difference)]
    decided = {math.copysign(1, c.difference) for c in every if c.decision in (Decision.MORE, Decision.LESS)}
    if len(decided) == 2:
        return True
    return any(-sign * contrast.difference > margin for sign in decided for contrast in every)
