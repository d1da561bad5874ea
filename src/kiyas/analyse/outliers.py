"""What the mean over seeds hides: a training that fell apart, and problems that are not independent."""

from __future__ import annotations

import math
import statistics

import numpy as np

from kiyas.analyse.contrasts import by_seed
from kiyas.analyse.decisions import wanted_pair
from kiyas.analyse.findings import Level, Remark
from kiyas.analyse.load import Loaded
from kiyas.analyse.selection import Selection
from kiyas.types import BASE_ARM

FAR, TIMES = 0.10, 3.0
"""A seed is apart if its pass@1 is so far below the median of the others, and by so many times their range, or the
standard error of one seed."""


def seeds_apart(loaded: Loaded, selected: Selection) -> list[Remark]:
    """Seeds of an arm that solve far less than its others, with the difference of the arms without them."""
    found = []
    for arm, of_arm in selected.chosen.items():
        means = {seed: float(selected.rates[adapter].mean()) for seed, adapter in of_arm.items()}
        if arm == BASE_ARM or len(means) < 3 or any(math.isnan(mean) for mean in means.values()):
            continue
        lowest = min(means, key=lambda seed: means[seed])
        others = [mean for seed, mean in means.items() if seed != lowest]
        typical = statistics.median(others)
        luck = math.sqrt(typical * (1 - typical) / len(loaded.problems))
        if typical - means[lowest] > max(FAR, TIMES * (max(others) - min(others)), TIMES * luck):
            without = _difference_without(loaded, selected, arm, lowest)
            values = {"arm": arm, "seed": lowest, "rate": means[lowest], "low": min(others), "high": max(others)}
            code = "seed_apart" if without is None else "seed_apart_difference"
            found.append(Remark(code, Level.WARNING, values if without is None else {**values, "without": without}))
    return found


def _difference_without(loaded: Loaded, selected: Selection, arm: str, seed: int) -> float | None:
    """Of the compared arms; None where this arm is not one of them."""
    wanted = wanted_pair(loaded)
    if arm not in wanted or len(wanted) != 2 or any(each not in selected.chosen for each in wanted):
        return None
    pairs = [pair for common, pair in by_seed(selected.chosen, *wanted).items() if common != seed]
    if not pairs:
        return None
    return float(np.mean([selected.rates[y].mean() - selected.rates[x].mean() for x, y in pairs]))


def problem_groups(loaded: Loaded) -> list[Remark]:
    """Whether problems belong together (a contest, a template) is known of some benchmarks only."""
    if not loaded.answers:
        return []
    if groups := loaded.groups:
        return [Remark("groups", Level.OK, {"n": len(groups), "groups": len(set(groups))})]
    named = {problem.group for problem in loaded.problems.values()}
    if len(named) == 1 and len(loaded.problems) > 1 and named != {""}:
        return [Remark("one_group", Level.WARNING, {"n": len(loaded.problems)})]
    if named != {""}:
        return []
    return [Remark("groups_unknown", Level.NOTE, {"n": len(loaded.problems)})]
