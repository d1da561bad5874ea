"""Studies unlike the practice one: many arms, trainings that went wrong, names that are texts of strangers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from kiyas.analyse import Decision, Findings, analyse
from kiyas.report import charts, page
from kiyas.report.language import Language
from kiyas.report.terms import Terms
from synthetic import make_run

WORDS = Language("en")


def test_a_training_that_diverged_does_not_press_the_curves_flat(analysed: tuple[Path, Findings]) -> None:
    findings = analysed[1]
    before = charts._span(findings.curves)
    broken, *others = findings.curves
    last = dataclasses.replace(broken.train[-1], loss=1e9)
    curves = (dataclasses.replace(broken, train=(*broken.train[:-1], last)), *others)
    after = charts._span(curves)
    assert before is not None and after is not None
    assert after[1] < 10 * before[1]
    made = charts.charts(dataclasses.replace(findings, curves=curves), WORDS)
    titles = {
        chart.arm: {str(layer["encoding"]["y"]["title"]) for layer in chart.spec["layer"][1:3]}
        for chart in made.values()
        if chart.arm
    }
    cut, whole = WORDS("chart.loss_cut"), WORDS("chart.loss")
    assert titles == {arm: {cut if arm == broken.training.arm else whole} for arm in findings.arms}


def test_many_arms_and_many_sets_can_be_told_apart() -> None:
    for cycle in (charts.COLOURS, charts.DASHES):
        looks = {(str(cycle[i % len(cycle)]), charts.SHAPES[i % len(charts.SHAPES)]) for i in range(40)}
        assert len(looks) == 40


def test_an_arm_may_have_the_name_of_a_term() -> None:
    sentence = "These numbers do not show whether arm or one seed at base solves more: a seed, a base, every Arm."
    plain = [key for _, key in Terms(WORDS).pieces(sentence) if key]
    pieces = list(Terms(WORDS, ("one seed at base", "arm")).pieces(sentence))
    assert plain == ["arm", "seed", "base"]
    assert [text for text, key in pieces if key] == ["seed", "base", "Arm"]
    assert pieces[0][0].endswith("solves more: a ") and "".join(text for text, _ in pieces) == sentence


def test_missing_verdicts_leave_no_empty_picture_and_no_endless_list(tmp_path: Path) -> None:
    lost = lambda row: {**row, "verdict": "IE"} if row["problem_id"] == "p003" else row  # noqa: E731
    run = make_run(tmp_path / "owed", problems=4, steps=(120,), change=lost)
    findings = analyse(run)
    (owed,) = [remark for remark in findings.remarks if remark.code == "owed"]
    assert owed.values["n"] == 7 and owed.values["where"].count("/step-") == 4 and owed.values["where"].endswith("…")
    found = page.page(run, findings, WORDS, {}, charts.charts(findings, WORDS), [], "")
    assert 'class="answer"' in found and 'class="picture"' not in found


def test_no_decision_takes_the_looks_of_another_thing() -> None:
    """The box of the answer has the decision for a class."""
    alone = re.findall(r"(?:^|[},])\.([\w-]+)(?=[{,])", "".join(map(page.asset, page.STYLES)), re.MULTILINE)
    assert len(alone) > 40 and not {"none", "owed", *Decision} & set(alone)
