"""Which checkpoint represents each training, and which learning rate each arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kiyas.analyse.findings import Choice, Curve, LearningRatePoint, Training
from kiyas.analyse.learning_rates import rate_points
from kiyas.analyse.load import Loaded, PassRates
from kiyas.analyse.losses import curves
from kiyas.analyse.metric import with_selection_bias
from kiyas.stats import inference
from kiyas.study.settings import Select
from kiyas.types import BASE, BASE_ARM, AdapterId

BySeed = Mapping[int, AdapterId]


@dataclass(frozen=True)
class Selection:
    """From here on an arm is its seeds at their chosen learning rates; the rest is in `points` and `at_rate`."""

    rates: PassRates
    """of every judged checkpoint"""
    judged: Mapping[Training, list[AdapterId]]
    """the checkpoints of each training that counts, in order of step"""
    choices: tuple[Choice, ...]
    chosen: Mapping[str, BySeed]
    """the checkpoints that represent each arm, the base among them"""
    at_rate: Mapping[tuple[str, str], BySeed]
    """the checkpoints that would represent it at each rate, by (arm, variant)"""
    points: tuple[LearningRatePoint, ...]
    curves: tuple[Curve, ...]

    @property
    def order(self) -> list[str]:
        """The base, then the arms that have verdicts."""
        return list(self.chosen)

    @property
    def columns(self) -> list[AdapterId]:
        """The base and all checkpoints that count, as far as they were judged."""
        shown = [BASE, *(adapter for adapters in self.judged.values() for adapter in adapters)]
        return [adapter for adapter in shown if adapter in self.rates]


def select(loaded: Loaded) -> Selection:
    """Chooses by the rule that the study declares."""
    rule = loaded.record.compare.select
    rates = {adapter: loaded.rates(adapter) for adapter in loaded.answers}
    first = next(iter(loaded.secondary.values()), None)
    development = {adapter: first.rates(adapter) for adapter in first.answers} if first else None
    all_curves = curves(loaded.log)
    curve_of = {curve.training: curve for curve in all_curves}
    every = trainings(loaded)
    choices = {
        training: with_selection_bias(
            choose(adapters, rates, curve_of.get(training), rule, loaded.samples, development), loaded, adapters
        )
        for training, adapters in every.items()
    }
    at_rate: dict[tuple[str, str], dict[int, AdapterId]] = {}
    for training, choice in choices.items():
        at_rate.setdefault((training.arm, training.variant), {})[training.seed] = choice.chosen
    points = rate_points(loaded, all_curves, at_rate, rates)
    variant_of = _variants(loaded, [*choices, *curve_of], points)

    def counts(training: Training) -> bool:
        return training.variant == variant_of.get((training.arm, training.seed))

    chosen: dict[str, BySeed] = {BASE_ARM: {0: BASE}} if BASE in loaded.answers else {}
    for arm in loaded.arms:
        of_arm = {
            t.seed: choice.chosen
            for t, choice in sorted(choices.items(), key=lambda item: item[0].seed)
            if t.arm == arm and counts(t)
        }
        if of_arm:
            chosen[arm] = of_arm
    judged = {training: adapters for training, adapters in every.items() if counts(training)}
    return Selection(
        rates,
        judged,
        tuple(choices[training] for training in judged),
        chosen,
        at_rate,
        points,
        tuple(curve for curve in all_curves if counts(curve.training)),
    )


def trainings(loaded: Loaded) -> dict[Training, list[AdapterId]]:
    """Judged checkpoints of each training, in order of step; arms in the study's order."""
    found: dict[Training, list[AdapterId]] = {}
    for arm in loaded.arms:
        for adapter in loaded.adapters(arm):
            found.setdefault(Training(*adapter.training), []).append(adapter)
    return found


def choose(
    candidates: list[AdapterId],
    rates: PassRates,
    curve: Curve | None,
    rule: Select,
    samples: int = 1,
    development: PassRates | None = None,
) -> Choice:
    """The checkpoint that represents a training. Ties go to the earlier step. `development`: the rates there."""
    last = candidates[-1]
    known = [r for a in candidates if not np.isnan(r := rates[a]).any()]
    best = _best(candidates, rates)
    losses = {point.step: point.loss for point in curve.validation} if curve else {}
    with_loss = [a for a in candidates if a.step in losses]
    lowest = min(with_loss, key=lambda a: (losses[a.step], a.step), default=None)
    chosen = {
        Select.LAST: last,
        Select.VALIDATION: lowest or last,
        Select.DEVELOPMENT: _best(candidates, development or {}),
        Select.PRIMARY: best,
    }[rule]
    if known:
        best_of = inference.best_of(np.stack(known), samples)
    else:
        best_of = inference.BestOf(math.nan, math.nan, math.nan, len(candidates))
    return Choice(Training(*last.training), chosen, last, best, lowest, best_of)


def _best(candidates: list[AdapterId], rates: PassRates) -> AdapterId:
    """The candidate with the highest rate among those with no verdict missing; else the last."""
    known = {a: r for a in candidates if not np.isnan(r := rates.get(a, np.array([np.nan]))).any()}
    # Rounded: the same count of right answers can give means that differ in the last bit.
    return max(known, key=lambda a: (round(float(known[a].mean()), 9), -a.step), default=candidates[-1])


def _variants(loaded: Loaded, met: list[Training], points: tuple[LearningRatePoint, ...]) -> dict[tuple[str, int], str]:
    """(arm, seed) → the variant that represents it: the grid's choice, else the arm's first by name (the plain one).

    Seeds that an older version trained to choose a rate, and nothing else, have none.
    """
    chosen = {(point.arm, seed): point.variant for point in points for seed in point.seeds}
    left_out = loaded.record.former_tuning_seeds
    found = {}
    for arm in loaded.arms:
        variants = sorted({training.variant for training in met if training.arm == arm})
        for seed in {training.seed for training in met if training.arm == arm} - left_out:
            found[arm, seed] = chosen.get((arm, seed), variants[0])
    return found
