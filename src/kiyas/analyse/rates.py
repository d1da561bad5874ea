"""The learning-rate grid: each arm's rate is chosen by validation loss on seeds that count for nothing else.

Whether the answer depends on the choice is seen from the same contrast at every point of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kiyas.analyse.findings import Contrast, Curve, Decision, RatePoint
from kiyas.analyse.load import Loaded
from kiyas.stats.inference import Floats
from kiyas.study.settings import rate_variants, tuning_seeds
from kiyas.types import AdapterId


def grid_of(study: Mapping[str, Any]) -> dict[str, float]:
    """variant → learning rate; empty where the study has no grid."""
    rates = (study.get("training") or {}).get("learning_rate")
    return rate_variants(rates) if isinstance(rates, list) else {}


def tuning_seeds_of(study: Mapping[str, Any], declared: set[int]) -> set[int]:
    """The seeds that only choose the rate."""
    count = (study.get("training") or {}).get("tuning_seeds") or 0
    return set(tuning_seeds(declared, count)) if grid_of(study) and declared else set()


def rate_points(
    loaded: Loaded,
    curves: tuple[Curve, ...],
    tuning: set[int],
    chosen: Mapping[tuple[str, str], Mapping[int, AdapterId]],
    rates: Mapping[AdapterId, Floats],
) -> tuple[RatePoint, ...]:
    """One row for each arm and rate. `chosen`: the checkpoint of each seed, by (arm, variant)."""
    grid = grid_of(loaded.study)
    diverged = {(str(row["arm"]), str(row["variant"])) for row in loaded.log if row.get("kind") == "diverged"}
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
                RatePoint(
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
