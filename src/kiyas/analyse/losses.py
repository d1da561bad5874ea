"""Loss curves and what they say: where validation loss starts to rise, the gap to training, where improvement slows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from kiyas.analyse.findings import Curve, LossCell, LossPoint, Reading, Training
from kiyas.stats.inference import Floats
from kiyas.types import LogKind, LogRow

UNSTABLE = 0.25
SLOW_SHARE = 0.9
"""Improvement "slows" at the first step by which this share of the whole drop has been made."""
FEWEST = 8
"""Fewer points of validation loss cannot tell a rise from noise."""
PIECES = 14
"""Longer curves are averaged in so many pieces, in which noise is small and hardly goes on from one to the next."""
ROUNDING = 1e-9
FAR_BELOW = 0.1
"""A share of the training loss that dropout and averages over steps do not explain: in real logs validation was at
most 6 % below the lowest of three training losses, and only early in training."""


def curves(log: list[LogRow]) -> tuple[Curve, ...]:
    """One curve for each training in the log, in order of arm as met, variant and seed."""
    train: dict[Training, list[LossPoint]] = defaultdict(list)
    validation: dict[Training, dict[str, list[LossPoint]]] = defaultdict(lambda: defaultdict(list))
    met: dict[Training, None] = {}
    for row in log:
        training = Training(*row.adapter.training)
        if row.loss is None:
            continue
        met[training] = None
        point = LossPoint(row.adapter.step, row.loss, row.epoch)
        if row.kind is LogKind.TRAIN:
            train[training].append(point)
        elif row.kind is LogKind.VALIDATION:
            validation[training][row.on or training.arm].append(point)
    found = []
    for training in met:
        sets = {on: _ordered(points) for on, points in validation[training].items()}
        own = sets.pop(training.arm, ())
        trained = _ordered(train[training])
        found.append(Curve(training, trained, own, sets, reading(trained, own)))
    return tuple(found)


def loss_matrix(found: tuple[Curve, ...]) -> tuple[LossCell, ...]:
    """Every arm's last losses on every arm's validation set, over the seeds."""
    last: dict[tuple[str, str], list[float]] = defaultdict(list)
    for curve in found:
        for on, points in ((curve.training.arm, curve.validation), *curve.others.items()):
            if points:
                last[curve.training.arm, on].append(points[-1].loss)
    return tuple(
        LossCell(arm, on, sum(losses) / len(losses), min(losses), max(losses), len(losses))
        for (arm, on), losses in last.items()
    )


def unstable(found: tuple[Curve, ...]) -> dict[str, tuple[float, float]]:
    """Arms whose seeds end far apart: (range of their last validation losses, mean improvement), by arm.

    Far: more than UNSTABLE of what training gained on average.
    """
    told = {}
    for arm in dict.fromkeys(curve.training.arm for curve in found):
        curves_ = [curve.validation for curve in found if curve.training.arm == arm and len(curve.validation) > 1]
        if len(curves_) > 1:
            ends = [points[-1].loss for points in curves_]
            gains = [points[0].loss - min(point.loss for point in points) for points in curves_]
            spread, gain = max(ends) - min(ends), sum(gains) / len(gains)
            if gain > 0 and spread > UNSTABLE * gain:
                told[arm] = (spread, gain)
    return told


def _ordered(points: list[LossPoint]) -> tuple[LossPoint, ...]:
    return tuple(sorted({point.step: point for point in points}.values(), key=lambda point: point.step))


def final_rise(losses: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    """How far curves end above their lowest stretch, and the noise of that: (rise, noise), over the last axis.

    A curve is averaged in at most PIECES pieces. *Rise*: the mean of the last two minus the lowest mean of two
    neighbours before them. *Noise*: root mean square of the pieces' second differences / √6, without the first third,
    where losses fall steeply.
    """
    curves_n = np.asarray(losses, dtype=np.float64)
    parts = np.array_split(curves_n, min(PIECES, curves_n.shape[-1]), axis=-1)
    pieces = np.stack([part.mean(axis=-1) for part in parts], axis=-1)
    pairs = (pieces[..., 1:] + pieces[..., :-1]) / 2
    bends = np.diff(pieces[..., len(parts) // 3 :], 2, axis=-1)
    return pairs[..., -1] - pairs[..., :-2].min(axis=-1), np.sqrt((bends**2).mean(axis=-1) / 6)


def clear_rise(points: int) -> float:
    """Times the noise by which a curve of so many points must rise: white noise needs half of it, AR(.7) noise all.

    Chosen by simulation, for at most .07 false: `benchmarks/overfitting_rule.py`.
    """
    return float(np.interp(math.log(points), np.log([20, 60]), [6.6, 4.8]))


def reading(train: tuple[LossPoint, ...], validation: tuple[LossPoint, ...]) -> Reading | None:
    """Computed, not judged by eye.

    *Overfits*: validation loss ends clearly above its lowest stretch (`final_rise`, `clear_rise`); None with fewer
    than FEWEST points. *Gap*: validation at its last point minus the training loss there (mean of the last three
    logged values up to that step). *Far below*: below each of these three by more than FAR_BELOW of it. *Slows*: first
    step with 90 % of the drop.
    """
    of = "validation" if len(validation) >= 2 else "train"
    points = validation if of == "validation" else train
    if len(points) < 2:
        return None
    lowest = min(points, key=lambda point: point.loss)
    last = points[-1]
    drop = points[0].loss - lowest.loss
    slow = next((p.step for p in points if points[0].loss - p.loss >= SLOW_SHARE * drop), None) if drop > 0 else None
    overfits = rise = gap = None
    far_below = False
    if of == "validation":
        losses = [point.loss for point in points]
        if len(losses) >= FEWEST:
            rise, noise = map(float, final_rise(losses))
            overfits = rise > max(clear_rise(len(losses)) * noise, ROUNDING)
        before = [point.loss for point in train if point.step <= last.step][-3:]
        gap = last.loss - sum(before) / len(before) if before else None
        far_below = len(before) == 3 and last.loss < (1 - FAR_BELOW) * min(before)
    return Reading(lowest.step, lowest.loss, last.step, last.loss, overfits, rise, gap, slow, of, far_below)
