"""How many different programs solve a problem: data with many solutions to a problem are said to act there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from kiyas.analyse.findings import Accepted
from kiyas.analyse.load import Loaded
from kiyas.similarity.fingerprint import fingerprint
from kiyas.types import AdapterId


def accepted(loaded: Loaded, chosen: Mapping[str, tuple[AdapterId, ...]]) -> tuple[Accepted, ...]:
    """One row an arm; an arm is left out where no problem has two accepted programs. Programs that were not recorded
    or do not parse are not counted."""
    found = (_of_arm(loaded, arm, adapters) for arm, adapters in chosen.items())
    return tuple(each for each in found if each is not None)


def _of_arm(loaded: Loaded, arm: str, adapters: tuple[AdapterId, ...]) -> Accepted | None:
    answers, trees, pairs = [], [], []
    for problem in loaded.problems:
        right = [each for adapter in adapters for each in loaded.judged(adapter, problem) if each.solved]
        written = Counter(each.program for each in right if each.program)
        prints: Counter[str] = Counter()
        for program, times in written.items():
            if (found := fingerprint(program)) is not None:
                prints[found] += times
        n = prints.total()
        if n:
            answers.append(n)
            trees.append(len(prints))
        if n > 1:
            pairs.append(different_pairs(prints))
    if not pairs:
        return None
    means = (float(np.mean(values)) for values in (answers, trees, pairs))
    of_answers, of_trees, of_pairs = means
    return Accepted(arm, len(answers), of_answers, of_trees, len(pairs), of_pairs)


def different_pairs(prints: Mapping[str, int]) -> float:
    """Of all pairs of programs, the share that differ: 1 − Σ m(m − 1)/(n(n − 1)) (Simpson 1949, unbiased)."""
    n = sum(prints.values())
    return 1 - sum(m * (m - 1) for m in prints.values()) / (n * (n - 1))
