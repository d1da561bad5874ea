"""Loss curves and what they say: where validation loss starts to rise, the gap to training, where improvement slows."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from kiyas.analyse.findings import Curve, LossCell, LossPoint, Reading, Training
from kiyas.types import LogKind, LogRow

UNSTABLE = 0.25
SLOW_SHARE = 0.9
"""Improvement "slows" at the first step by which this share of the whole drop has been made."""


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


def jitter(losses: list[float]) -> float:
    """Typical size of the up and down between neighbouring points, trend taken out (second differences)."""
    if len(losses) < 3:
        return 0.0
    return float(np.median(np.abs(np.diff(losses, 2)))) / math.sqrt(6) * 1.4826


def reading(train: tuple[LossPoint, ...], validation: tuple[LossPoint, ...]) -> Reading | None:
    """Computed, not judged by eye.

    *Turned*: the lowest validation loss is followed by at least two more points, all of them higher, and the
    last is higher by more than twice the jitter. *Gap*: validation at its last point minus the training loss
    there (mean of the last three logged values up to that step). *Slows*: first step with 90 % of the drop.
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
    if of == "validation":
        after = [point.loss for point in points if point.step > lowest.step]
        rise = last.loss - lowest.loss
        noise = jitter([point.loss for point in points])
        overfits = len(after) >= 2 and min(after) > lowest.loss and rise > 2 * noise
        before = [point.loss for point in train if point.step <= last.step][-3:]
        gap = last.loss - sum(before) / len(before) if before else None
    return Reading(lowest.step, lowest.loss, last.step, last.loss, overfits, rise, gap, slow, of)
