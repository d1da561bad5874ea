"""Problem by problem: the grid of verdicts, and how solutions come and go over the checkpoints."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kiyas.analyse.findings import Cell, GridRow, Stability, Training
from kiyas.analyse.load import Loaded, PassRates
from kiyas.analyse.tags import tags_of
from kiyas.stats import inference
from kiyas.stats.inference import Floats
from kiyas.types import BASE, AdapterId, Judgment


def cell(judged: list[Judgment]) -> Cell:
    """The leading verdict is the commonest failing one; the tests are those of its first sample."""
    if not judged:
        return Cell("", 0, 0, None, None)
    failing = [each for each in judged if not each.solved]
    shown = judged[0]
    if failing:
        commonest = Counter(each.verdict for each in failing).most_common(1)[0][0]
        shown = next(each for each in failing if each.verdict is commonest)
    return Cell(shown.verdict or "", len(judged) - len(failing), len(judged), shown.passed, shown.total, shown.not_run)


def grid(loaded: Loaded, columns: list[AdapterId]) -> tuple[GridRow, ...]:
    """Problems in the benchmark's order × checkpoints in the order of `columns`."""
    _, tags = tags_of(loaded.problems)
    return tuple(
        GridRow(
            id,
            problem.title or id,
            tuple(cell(loaded.answers[adapter].get(id, [])) for adapter in columns),
            tags[id],
        )
        for id, problem in loaded.problems.items()
    )


def pattern(solved: list[bool]) -> str:
    """always | never | learned | forgotten | flickering, for one problem over the base and the checkpoints in order.

    Learned: not, then solved to the end. Forgotten: was solved once (perhaps from the start) and is not at
    the end. Flickering: anything that changes more often.
    """
    changes = sum(a != b for a, b in itertools.pairwise(solved))
    if changes == 0:
        return "always" if solved[0] else "never"
    if solved[-1]:
        return "learned" if changes == 1 else "flickering"
    return "forgotten" if changes <= 2 else "flickering"


def in_random_order(points: int, solved: int) -> dict[str, float]:
    """Chances of the patterns if the points at which a problem is solved were in random order; none if all or no."""
    if solved in (0, points):
        return {}
    orders = math.comb(points, solved)
    # Learned: all of them at the end. Forgotten: in one piece that does not reach the end.
    learned, forgotten = 1 / orders, (points - solved) / orders
    return {"learned": learned, "forgotten": forgotten, "flickering": 1 - learned - forgotten}


def stability(loaded: Loaded, trainings: Mapping[Training, list[AdapterId]], rates: PassRates) -> tuple[Stability, ...]:
    """For every training with at least two measured points: the base first, step 0 of them all, then its checkpoints.

    A problem counts where no verdict is missing.
    """
    found = []
    names = list(loaded.problems)
    start = [BASE] if BASE in rates and not np.isnan(rates[BASE]).all() else []
    for training, adapters in trainings.items():
        points = [*start, *adapters]
        if len(points) < 2:
            continue
        table_CP = np.stack([rates[a] for a in points])
        kinds: dict[str, list[str]] = {kind: [] for kind in ("always", "learned", "forgotten", "flickering", "never")}
        lost_P, from_P = np.zeros(len(names)), np.zeros(len(names))
        shuffled = dict.fromkeys(("learned", "forgotten", "flickering"), 0.0)
        for i, name in enumerate(names):
            if np.isnan(table_CP[:, i]).any():
                continue
            solved = [bool(rate >= 0.5) for rate in table_CP[:, i]]
            kinds[pattern(solved)].append(name)
            for kind, chance in in_random_order(len(solved), sum(solved)).items():
                shuffled[kind] += chance
            from_P[i] = sum(solved[:-1])
            lost_P[i] = sum(a and not b for a, b in itertools.pairwise(solved))
        rate, interval = ratio(lost_P, from_P)
        found.append(
            Stability(
                training,
                len(adapters),
                always=tuple(kinds["always"]),
                learned=tuple(kinds["learned"]),
                forgotten=tuple(kinds["forgotten"]),
                flickering=tuple(kinds["flickering"]),
                never=tuple(kinds["never"]),
                forgetting_rate=rate,
                forgetting=interval,
                shuffled=shuffled,
            )
        )
    return tuple(found)


def ratio(lost_P: Floats, from_P: Floats) -> tuple[float | None, inference.Interval | None]:
    """Lost per step from solved, problems drawn anew (a problem's steps go together). None where nothing was solved."""
    total = float(from_P.sum())
    if total == 0:
        return None, None
    if lost_P.sum() == 0:
        return 0.0, inference.wilson(0, int((from_P > 0).sum()))
    draws_BP = redrawn(from_P.size)
    bottom = draws_BP @ from_P
    ratios = (draws_BP @ lost_P)[bottom > 0] / bottom[bottom > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(lost_P.sum()) / total, inference.Interval(float(low), float(high))


def redrawn(P: int) -> NDArray[np.int64]:
    """How often each of P problems is drawn in 2000 draws of P with replacement: [2000, P]."""
    return np.random.default_rng(0).multinomial(P, np.full(P, 1 / P), size=2000)
