"""Loss curves, point by point: each rule at its boundary."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kiyas.analyse import analyse
from kiyas.analyse.findings import Curve, LossPoint, Reading, Training
from kiyas.analyse.losses import clear_rise, curves, final_rise, loss_matrix, reading, unstable
from kiyas.report import sentences
from kiyas.report.language import Language
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.types import LogRow
from synthetic import make_run


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


def test_a_rise_is_between_the_last_two_and_the_lowest_two_in_a_row() -> None:
    losses = [2.0, 1.0, 0.0, 1.0, 2.0, 1.5, 2.0, 2.5, 3.0]
    rise, noise = final_rise(losses)
    assert rise == pytest.approx(2.75 - 0.5)
    bends = np.diff(losses[3:], 2)
    assert noise == pytest.approx(math.sqrt(np.mean(bends**2) / 6))
    assert final_rise([3.0, 2.0, 1.0, 0.5, 0.25, 0.0, 0.0, 0.0])[0] < 0, "the last two are not held against themselves"
    both = final_rise(np.array([losses, losses[::-1]]))
    assert [each[0] for each in both] == pytest.approx([rise, noise])


def test_the_noise_is_the_standard_deviation_about_a_trend() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, (4000, 14))
    _, found = final_rise(noise + np.linspace(50, 0, 14))
    assert np.sqrt(np.mean(found**2)) == pytest.approx(0.3, rel=0.05)


def test_long_curves_are_averaged_in_pieces() -> None:
    fourteen = np.random.default_rng(0).normal(size=14)
    assert final_rise(np.repeat(fourteen, 5)) == pytest.approx(final_rise(fourteen))


def test_a_rise_is_clear_beyond_its_multiple_of_the_noise() -> None:
    assert [clear_rise(n) for n in (8, 20, 60, 1000)] == [6.6, 6.6, 4.8, 4.8] and 4.8 < clear_rise(30) < 6.6
    seen = []
    for end in np.linspace(0.01, 3, 200):
        losses = [2.0, 1.0, 0.5, 0.0, 0.2, 0.1, 0.3, 0.2, 0.25, 0.3, 0.3, float(end)]
        seen.append(read((), points(*losses)).overfits)
        rise, noise = final_rise(losses)
        assert seen[-1] is bool(rise > clear_rise(len(losses)) * noise)
    straight = [3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]  # no noise at all: any rise will do
    assert read((), points(*straight)).overfits
    for constant in (0.1, 1.7):
        assert read((), points(*[constant] * 37)).overfits is False


def test_a_few_points_do_not_tell_a_rise_from_noise() -> None:
    losses = [3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    few = read((), points(*losses[:7]))
    assert few.overfits is few.rise is None and read((), points(*losses)).overfits


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_noise_on_a_plateau_is_seldom_a_rise(correlation: float) -> None:
    """The whole simulation: benchmarks/overfitting_rule.py."""
    for n in (10, 30, 100):
        noise = np.random.default_rng(n).normal(size=(4000, n))
        for i in range(1, n):
            noise[:, i] = correlation * noise[:, i - 1] + math.sqrt(1 - correlation**2) * noise[:, i]
        rise, spread = final_rise(noise)
        assert np.mean(rise > clear_rise(n) * spread) < 0.08


def test_a_curve_as_the_original_study_logged_it(shared_data: Path) -> None:
    """What an eye sees: one falls to its end, one may have begun to rise, which eight points do not settle."""
    for name in ("deep", "diverse"):
        log = json.loads((shared_data / "study-seed" / f"{name}_training_log.json").read_text())
        rows = log["log_history"] if isinstance(log, dict) else log
        found = read((), points(*(row["eval_loss"] for row in rows if "eval_loss" in row)))
        assert found.overfits is False


def test_gap_is_to_the_last_three_training_losses_up_to_there() -> None:
    validation = points(1.0, 0.9, 0.8)
    assert read(points(9.0, 0.3, 0.6, 5.0), validation).gap == pytest.approx(0.8 - 3.3)
    train = tuple(LossPoint(step, loss) for step, loss in ((5, 9.0), (10, 0.1), (20, 0.2), (30, 0.6), (31, 7.0)))
    assert read(train, validation).gap == pytest.approx(0.8 - 0.3)
    assert read((LossPoint(40, 0.1),), validation).gap is None


@pytest.mark.parametrize(
    ("train", "far"),
    [
        ((1.0, 1.0, 1.0), False),
        ((1.0, 1.01, 1.2), False),
        ((1.01, 1.01, 1.01), True),
        ((0.5, 1.01, 1.2, 1.1), True),
        ((1.2, 1.2), False),  # two say little
    ],
)
def test_far_below_is_below_each_of_three_training_losses_by_a_tenth(train: tuple[float, ...], far: bool) -> None:
    assert read(points(*train), points(2.0, 1.0, 1.0, 0.9)).far_below is far


def test_a_validation_loss_far_below_is_a_remark(tmp_path: Path) -> None:
    """In one arm the validation loss ends a third lower: the checklist names it, and so does the reading."""
    run = make_run(tmp_path / "run", seeds=(0, 1), steps=(120,), problems=4)
    rows = read_jsonl(run / "train" / "log.jsonl")
    for row in rows:
        if row["kind"] == "validation":
            row["loss"] = 0.1 if row["arm"] == "deep" else 0.9
    write_jsonl(run / "train" / "log.jsonl", rows)
    findings = analyse(run)
    assert [each.values["arms"] for each in findings.remarks if each.code == "validation_far_below"] == ["deep"]
    words = Language("en")
    said = {curve.training.arm: sentences.reading(curve, words) for curve in findings.curves}
    assert "may also be in the training data" in said["deep"] and "above training loss" in said["diverse"]


def test_the_sentence_says_what_the_rule_says() -> None:
    def said(*losses: float) -> str:
        validation = points(*losses)
        return sentences.reading(
            Curve(Training("a", "", 0), (), validation, {}, reading((), validation)), Language("en")
        )

    assert "clearly rises" in said(3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert "7 points are too few" in said(3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert "no clear rise" in said(3.0, 2.0, 1.0, 1.3, 1.1, 1.2, 1.3, 1.1)
    assert "still at its lowest" in said(3.0, 2.0, 1.0)
