"""Greedy answers depend on rounding, and so on the shape of the batch: how often does that change a verdict?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kiyas.analyse.findings import Contrast, NumericalFloor, Redecoded
from kiyas.analyse.load import Loaded
from kiyas.runfolder import rows
from kiyas.runfolder.paths import RunDir
from kiyas.stats import inference
from kiyas.types import BASE_ARM, Judgment


def numerical_floor(loaded: Loaded, primary: Contrast | None) -> NumericalFloor | None:
    """None where no answer was decoded again. Answers with a missing verdict are not counted."""
    first = {each.key: each for of in loaded.answers.values() for judged in of.values() for each in judged}
    both = [
        (first[each.key], each)
        for each in rows.redecoded_judgments(RunDir(loaded.run))
        if each.key in first and not each.missing and not first[each.key].missing
    ]
    if not both:
        return None
    met = {again.adapter.arm for _, again in both}
    arms = tuple(_of_arm(loaded, arm, both) for arm in (BASE_ARM, *loaded.arms) if arm in met)
    flips, answers = sum(each.lost + each.gained for each in arms), len(both)
    rate, interval = flips / answers, inference.wilson(flips, answers)
    return NumericalFloor(arms, rate, interval, moved(primary, rate), moved(primary, interval.high))


def _of_arm(loaded: Loaded, arm: str, both: Sequence[tuple[Judgment, Judgment]]) -> Redecoded:
    of_arm = [(first, again) for first, again in both if again.adapter.arm == arm]
    return Redecoded(
        arm,
        len(of_arm),
        sum(not loaded.redecoded[again.key] for _, again in of_arm),
        sum(first.program != again.program for first, again in of_arm),
        sum(first.solved and not again.solved for first, again in of_arm),
        sum(again.solved and not first.solved for first, again in of_arm),
    )


def moved(primary: Contrast | None, rate: float) -> float | None:
    """SD of the change in a difference if all its answers were decoded again: √(f/n_a + f/n_b) at a flip rate f.

    A flip is +1 or −1 in one arm's sum, either way alike and each answer by itself; n are the answers of an arm.
    """
    if primary is None or not primary.pairs or math.isnan(primary.difference):
        return None
    sides = ({pair.a for pair in primary.pairs}, {pair.b for pair in primary.pairs})
    answers = [primary.problems * len(adapters) for adapters in sides]
    return math.sqrt(sum(rate / n for n in answers))
