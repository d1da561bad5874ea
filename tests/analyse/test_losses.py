"""Loss curves, point by point: each rule at its boundary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kiyas.analyse.findings import Curve, LossPoint, Reading, Training
from kiyas.analyse.losses import curves, jitter, loss_matrix, reading, unstable
from kiyas.types import LogRow


def points(*losses: float) -> tuple[LossPoint, ...]:
    return tuple(LossPoint(10 * (i + 1), loss) for i, loss in enumerate(losses))


def read(train: tuple[LossPoint, ...], validation: tuple[LossPoint, ...]) -> Reading:
    found = reading(train, validation)
    assert found is not None
    return found


def curve(arm: str, seed: int, *losses: float, **others: tuple[LossPoint, ...]) -> Curve:
    return Curve(Training(arm, "", seed), (), points(*losses), others, None)


def test_curves_are_sorted_by_kind_set_and_step() -> None:
    def row(kind: str, step: int, loss: Any, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "arm": "b", "step": step, "loss": loss, **more}

    log = [
        row("train", 20, 3, epoch=0.5),
        row("train", 10, 4.0),
        row("validation", 20, 1.5),
        row("validation", 10, 2.5),
        row("validation", 10, 2.0),
        row("validation", 10, 7.0, on="a"),
        row("validation", 30, math.nan),
        row("train", 30, "1.0"),
        row("train", 40, None),
        {"kind": "diverged", "arm": "c", "step": 1},
        {"kind": "diverged", "arm": "d", "variant": "v", "seed": 3, "step": 1, "loss": 1.0},
        row("train", 10, 9.0, arm="a", seed=2),
    ]
    found = curves([LogRow.of(each) for each in log])
    assert [each.training for each in found] == [Training("b", "", 0), Training("d", "v", 3), Training("a", "", 2)]
    first, other, _ = found
    assert first.train == (LossPoint(10, 4.0), LossPoint(20, 3.0, 0.5))
    assert first.validation == (LossPoint(10, 2.0), LossPoint(20, 1.5)), "of one step the last row counts"
    assert first.others == {"a": (LossPoint(10, 7.0),)}
    assert first.reading == reading(first.train, first.validation) is not None
    assert (other.train, other.validation, other.others, other.reading) == ((), (), {}, None)


def test_loss_matrix_takes_the_last_loss_of_every_seed() -> None:
    found = loss_matrix(
        (curve("a", 0, 9, 2, 1.0, b=points(8, 7, 5.0)), curve("a", 1, 9, 1.5, b=()), curve("a", 2, 2.6))
    )
    cells = {(cell.arm, cell.on): (cell.mean, cell.low, cell.high, cell.seeds) for cell in found}
    assert cells.keys() == {("a", "a"), ("a", "b")}
    assert cells["a", "a"] == pytest.approx((1.7, 1.0, 2.6, 3)) and cells["a", "b"] == (5.0, 5.0, 5.0, 1)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([(2.0, 1.0), (2.0, 1.5)], (0.5, 0.75)),
        # A quarter of the gain is not yet far, a little more is.
        ([(2.0, 1.0, 1.0), (2.0, 1.0, 1.25)], None),
        ([(2.0, 1.0, 1.0), (2.0, 1.0, 1.3125)], (0.3125, 1.0)),
        # What counts is what the best checkpoint gained: these end badly, but not far apart for what they learned.
        ([(2.0, 1.0, 1.75), (2.0, 1.0, 1.9375)], None),
        ([(4.0, 1.0), (2.0, 1.0), (4.0, 2.0)], (1.0, 2.0)),
        # Nothing gained, or only one seed with a course: no measure.
        ([(1.0, 2.0), (1.0, 3.0)], None),
        ([(2.0, 1.0), (1.5,)], None),
        ([(2.0, 1.0), ()], None),
    ],
)
def test_far_apart_is_more_than_a_quarter_of_the_mean_gain(
    losses: list[tuple[float, ...]], told: tuple[float, float] | None
) -> None:
    others = [curve("b", seed, 2.0, 1.0) for seed in range(3)]
    found = unstable((*(curve("a", seed, *each) for seed, each in enumerate(losses)), *others))
    assert found == ({} if told is None else {"a": told})


def test_jitter_is_the_standard_deviation_of_noise_about_a_trend() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 4000)
    assert jitter(list(noise + np.linspace(50, 0, 4000))) == pytest.approx(0.3, rel=0.05)
    assert jitter([0.0, 1.0, 0.0]) == pytest.approx(2 * 1.4826 / math.sqrt(6))
    assert jitter([0.0, 1.0]) == 0.0


def test_two_validation_points_are_a_course_one_is_not() -> None:
    train = points(3.0, 2.0)
    assert read(train, points(1.0, 0.5)).of == "validation"
    alone = read(train, points(1.0))
    assert alone == Reading(20, 2.0, 20, 2.0, None, None, None, 20, "train")
    assert reading(points(1.0), points(1.0)) is None


@pytest.mark.parametrize(
    ("losses", "slow"),
    [
        ((1.0, 0.1, 0.0), 20),
        ((1.0, 0.11, 0.0), 30),
        ((1.0, 0.0, 2.0), 20),
        ((3.0, 1.2, 1.0), 20),
        ((3.0, 1.3, 1.0), 30),
        ((1.0, 1.0), None),
        ((1.0, 2.0), None),
    ],
)
def test_improvement_slows_where_nine_tenths_of_the_drop_are_made(losses: tuple[float, ...], slow: int | None) -> None:
    assert read((), points(*losses)).slow_step == slow


@pytest.mark.parametrize(
    ("losses", "turned"),
    [
        ((1.0, 0.5, 0.75, 1.0), True),
        ((1.0, 0.5, 1.0), False),  # one point after the lowest
        ((1.0, 0.5, 0.5, 1.0, 1.5), False),  # the lowest again: not all are higher
        ((0.5, 0.75, 1.0), True),
    ],
)
def test_turned_needs_two_later_points_all_higher(losses: tuple[float, ...], turned: bool) -> None:
    found = read((), points(*losses))
    assert found.overfits is turned and found.rise == losses[-1] - min(losses)
    assert found.lowest_step == 10 * (losses.index(min(losses)) + 1) and found.last == losses[-1]


def test_turned_needs_a_rise_of_more_than_twice_the_jitter() -> None:
    seen = []
    for end in np.linspace(0.005, 1, 200):
        losses = [0.5, 0.0, 0.4, float(end)]
        seen.append(read((), points(*losses)).overfits)
        assert seen[-1] is bool(end > 2 * jitter(losses))
    assert {True, False} == set(seen)
    straight = [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0]  # no jitter at all: any rise will do
    assert read((), points(*straight)).overfits


def test_gap_is_to_the_last_three_training_losses_up_to_there() -> None:
    validation = points(1.0, 0.9, 0.8)
    assert read(points(9.0, 0.3, 0.6, 5.0), validation).gap == pytest.approx(0.8 - 3.3)
    train = tuple(LossPoint(step, loss) for step, loss in ((5, 9.0), (10, 0.1), (20, 0.2), (30, 0.6), (31, 7.0)))
    assert read(train, validation).gap == pytest.approx(0.8 - 0.3)
    assert read((LossPoint(40, 0.1),), validation).gap is None
