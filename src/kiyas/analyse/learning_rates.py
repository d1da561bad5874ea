"""The learning-rate grid: each training's rate is the one with its own lowest validation loss.

The luck of the choice is then part of what differs between seeds, and so of the interval. (A rate chosen once for all
seeds of an arm is luck that no seed shows: docs/statistics.md.) Whether the answer depends on the choice is seen from
the same contrast at every single rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kiyas.analyse.findings import (
    Contrast,
    Curve,
    Decision,
    LearningRatePoint,
    Level,
    Remark,
    Training,
)
from kiyas.analyse.load import Loaded, PassRates
from kiyas.types import BASE_ARM, AdapterId, LogKind

DECIDED = (Decision.MORE, Decision.LESS)


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
    last = {curve.training: curve.validation[-1].loss for curve in curves if curve.validation}
    diverged = {
        (row.adapter.arm, row.adapter.variant)
        for row in loaded.log
        if row.kind is LogKind.DIVERGED and row.adapter.seed in study.seed_list
    }
    found = []
    for arm in loaded.arms:
        losses = {
            variant: [last.get(Training(arm, variant, seed), math.nan) for seed in study.seed_list]
            for variant in study.variants
        }
        # A rate at which one seed broke down is no choice for the others.
        usable = [variant for variant in losses if (arm, variant) not in diverged]
        known = bool(usable) and all(np.isfinite(losses[variant]).all() for variant in usable)
        lowest = {
            seed: min(usable, key=lambda variant: (losses[variant][i], study.variants[variant]))
            for i, seed in enumerate(study.seed_list)
            if known
        }
        for variant, rate in study.variants.items():
            adapters = chosen.get((arm, variant), {}).values()
            scores = [float(rates[adapter].mean()) for adapter in adapters]
            seeds = tuple(seed for seed in lowest if lowest[seed] == variant)
            broken = (arm, variant) in diverged
            found.append(
                LearningRatePoint(
                    arm,
                    variant,
                    rate,
                    math.nan if broken else float(np.mean(losses[variant])),
                    float(np.mean(scores)) if scores else math.nan,
                    broken,
                    bool(seeds),
                    seeds,
                )
            )
    return tuple(found)


def signs_flip(primary: Contrast, at_each_rate: tuple[Contrast, ...], margin: float) -> bool:
    """Does the sign of the difference flip over the grid by more than noise: decided there, or by more than `margin`?

    `margin` counts only against a difference that is itself decided.
    """
    every = [c for c in (primary, *at_each_rate) if math.isfinite(c.difference)]
    decided = {math.copysign(1, c.difference) for c in every if c.decision in DECIDED}
    if len(decided) == 2:
        return True
    return any(-sign * contrast.difference > margin for sign in decided for contrast in every)


def at_one_rate(
    primary: Contrast, at_each_rate: tuple[Contrast, ...], points: tuple[LearningRatePoint, ...]
) -> bool | None:
    """Is the claim also made by the arms at one and the same rate, among those chosen? None where nothing is claimed.

    Where it is not, the choice of the rates may have made the difference.
    """
    if primary.decision not in DECIDED or not points:
        return None
    chosen = {point.variant for point in points if point.chosen and point.arm in (primary.a, primary.b)}
    return any(
        contrast.decision is primary.decision
        for contrast in at_each_rate
        if any(adapter.variant in chosen for pair in contrast.pairs for adapter in (pair.a, pair.b))
    )


def rate_chosen(found: Contrast, points: tuple[LearningRatePoint, ...]) -> bool:
    """Was a rate chosen for both arms? True without a grid."""
    chosen = {point.arm for point in points if point.chosen}
    return not points or {found.a, found.b} - {BASE_ARM} <= chosen


def rate_remarks(loaded: Loaded, points: tuple[LearningRatePoint, ...]) -> list[Remark]:
    """How the learning rates were chosen, and what speaks against the choice."""
    if not points:
        return []
    chosen = {arm: [point for point in points if point.arm == arm and point.chosen] for arm in loaded.arms}
    rates = sorted({point.rate for point in points})
    listed = "; ".join(f"{arm} {_listed(of_arm)}" for arm, of_arm in chosen.items() if of_arm)
    found = [Remark("rate_tuned", Level.OK, {"rates": listed})] if all(chosen.values()) else []
    for arm, of_arm in chosen.items():
        if not of_arm:
            found.append(Remark("rate_not_tuned", Level.WARNING, {"arm": arm}))
        elif edge := [point for point in of_arm if point.rate in (rates[0], rates[-1])]:
            found.append(Remark("rate_at_edge", Level.WARNING, {"arm": arm, "rate": _listed(edge)}))
    if diverged := ", ".join(f"{point.arm} {point.rate:g}" for point in points if point.diverged):
        found.append(Remark("rate_diverged", Level.NOTE, {"where": diverged}))
    if loaded.record.former_tuning_seeds:
        found.append(Remark("rate_rule_changed", Level.WARNING, {"n": len(loaded.record.former_tuning_seeds)}))
    return found


def _listed(points: list[LearningRatePoint]) -> str:
    """Each rate with its number of seeds: "0.0001 (2), 0.0002 (1)"."""
    return ", ".join(f"{point.rate:g} ({len(point.seeds)})" for point in points)
