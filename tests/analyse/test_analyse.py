"""From a run folder to findings: what is claimed, what is refused, and what is said beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kiyas import report
from kiyas.analyse import Decision, Findings, analyse
from kiyas.analyse.checklist import samples_only
from kiyas.analyse.decisions import decision_of
from kiyas.analyse.findings import LossPoint
from kiyas.analyse.losses import curves, loss_matrix, reading, unstable
from kiyas.judge import Problem, Test
from kiyas.runfolder.files import read_jsonl, write_json, write_jsonl
from kiyas.stats import inference
from kiyas.stats.inference import Interval
from kiyas.types import AdapterId, LogRow
from synthetic import STEPS, make_run, read, solved_by_one

Row = dict[str, Any]


def codes(findings: Findings) -> set[str]:
    return {remark.code for remark in findings.remarks}


def test_several_seeds_speak_of_the_data(tmp_path: Path) -> None:
    findings = analyse(make_run(tmp_path / "run"))
    found = findings.primary
    assert found is not None and (found.a, found.b) == ("deep", "diverse")
    assert found.method == "two-way" and found.seeds == 3 and found.bootstrap is not None
    assert len(found.pairs) == 3 and len(findings.columns) == 1 + 2 * 3 * len(STEPS)
    by_hand = np.mean([pair.difference for pair in found.pairs])
    assert found.difference == pytest.approx(by_hand)
    assert {each.arm for each in findings.aa_control} == {"deep", "diverse"}
    assert {"base_measured", "nothing_missing", "seeds", "selection_clean", "declared_before"} <= codes(findings)
    assert {(c.a, c.b) for c in findings.contrasts} == {("deep", "diverse"), ("base", "deep"), ("base", "diverse")}


def test_findings_survive_json(tmp_path: Path) -> None:
    findings = analyse(
        make_run(tmp_path / "run", seeds=(0,), change=lambda r: None if r["problem_id"] == "p001" else r)
    )
    again = Findings.from_json(json.loads(json.dumps(findings.to_json(), allow_nan=False)))
    assert again.to_json() == findings.to_json()
    assert type(again.columns[0]) is AdapterId and type(again.contrasts[0].decision) is Decision
    with pytest.raises(ValueError, match="format"):
        Findings.from_json({"format": 0})


def test_a_clear_winner_and_its_mirror(tmp_path: Path) -> None:
    up = analyse(make_run(tmp_path / "up", rates={"a": 0.15, "b": 0.75})).primary
    down = analyse(make_run(tmp_path / "down", rates={"a": 0.75, "b": 0.15})).primary
    assert up is not None and up.decision is Decision.MORE and up.needed is None
    assert down is not None and down.decision is Decision.LESS


def test_equivalent_needs_a_declared_margin(tmp_path: Path) -> None:
    wide = {"compare": {"matters": 0.4}}
    found = analyse(make_run(tmp_path / "run", rates={"a": 0.4, "b": 0.4}, problems=120, **wide)).primary  # type: ignore[arg-type]
    assert found is not None and found.decision is Decision.EQUIVALENT
    assert found.interval90.inside(0.4)
    narrow = Interval(-0.01, 0.01, 0.9)
    assert decision_of(Interval(-0.02, 0.02), narrow, None, 30, 41) is Decision.UNDECIDED
    assert decision_of(Interval(-0.02, 0.02), narrow, 0.05, 30, 41) is Decision.EQUIVALENT
    assert decision_of(Interval(-0.02, 0.02), narrow, 0.05, None, None) is Decision.EQUIVALENT


@pytest.mark.parametrize(
    ("informative", "problems", "margin", "enough"),
    [
        (9, 41, 0.05, False),
        (10, 41, 0.05, True),
        (15, 300, 0.05, False),
        (16, 300, 0.05, True),
        (52, 1055, 0.05, False),
    ],
)
def test_equivalence_needs_problems_that_could_have_shown_a_difference(
    informative: int, problems: int, margin: float, enough: bool
) -> None:
    found = decision_of(Interval(-0.02, 0.02), Interval(-0.01, 0.01, 0.9), margin, informative, problems)
    assert found is (Decision.EQUIVALENT if enough else Decision.UNDECIDED)


def points(*losses: float) -> tuple[LossPoint, ...]:
    return tuple(LossPoint(10 * (i + 1), loss) for i, loss in enumerate(losses))


def test_reading_of_losses() -> None:
    turned = reading(points(1, 0.5, 0.3, 0.2, 0.1), points(1.0, 0.8, 0.7, 0.72, 0.75, 0.8, 0.85, 0.9))
    assert turned is not None and turned.overfits and turned.lowest_step == 30
    assert turned.rise == pytest.approx(0.875 - 0.71) and turned.gap == pytest.approx(0.9 - 0.2)
    assert turned.slow_step == 30
    falling = reading(points(1, 0.9), points(1.0, 0.9, 0.8))
    assert falling is not None and not falling.overfits and falling.rise is None
    jitter = reading((), points(1.0, 0.80, 0.84, 0.81, 0.85, 0.81, 0.84, 0.82))
    assert jitter is not None and not jitter.overfits
    only = reading(points(1.0, 0.5), ())
    assert only is not None and only.of == "train" and only.overfits is None
    assert reading((), ()) is None


def test_sample_tests_are_recognised() -> None:
    statement = "Sample Input 1\n\n3 4\n\nSample Output 1\n\n7"
    assert samples_only([Problem("p", (Test("3 4\n", "7\n"),), statement=statement)]) == 1.0
    assert samples_only([Problem("p", (Test("9 9\n", "18\n"),), statement=statement)]) == 0.0
    assert samples_only([Problem("p", ())]) is None


def test_several_declared_contrasts_share_the_chance_of_a_false_claim(tmp_path: Path) -> None:
    rates = {"a": 0.3, "b": 0.36, "c": 0.5}
    compare: Row = {"primary": ["a", "b"], "contrasts": [["a", "c"], ["base", "c"]]}
    found = analyse(make_run(tmp_path / "run", rates=rates, problems=300, compare=compare))
    declared = [(each.a, each.b) for each in found.contrasts if each.declared]
    assert declared == [("a", "b"), ("a", "c"), ("base", "c")] == [(c.a, c.b) for c in found.contrasts[:3]]
    plain = [each.p for each in found.contrasts if each.declared]
    assert [each.holm for each in found.contrasts if each.declared] == pytest.approx(inference.holm(plain))
    assert all(each.holm is None for each in found.contrasts if not each.declared)
    for each in found.contrasts:
        if each.holm is not None and each.holm >= 0.05:
            assert each.decision in (Decision.UNDECIDED, Decision.EQUIVALENT)
    assert "corrected for multiple testing, p = " in report.text(found, width=400)
    alone = analyse(make_run(tmp_path / "one", rates=rates, problems=60))
    assert [each.holm for each in alone.contrasts if each.declared] == [None], "one question needs no correction"


def test_what_would_decide_tells_hours_where_the_run_tells_times(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert analyse(run).primary is not None
    for stage, seconds in (("train", 7200.0), ("generate", 1800.0), ("judge", 1800.0)):
        write_json(run / stage / "manifest.json", {"stage": stage, "inputs": {}, "counts": {}, "seconds": seconds})
    found = analyse(run)
    assert found.primary is not None and found.primary.needed is not None
    need = found.primary.needed
    # No more problems make up for three seeds; more of both would do.
    assert need.problems is None and (need.seeds or need.both)
    if need.seeds is not None:
        assert need.seeds_hours == pytest.approx(2 * need.seeds / 3 + need.seeds / 3)
    else:
        seeds, problems = need.both
        assert need.both_hours == pytest.approx(2 * seeds / 3 + seeds / 3 * problems / 41)
    assert "hours on this machine" in report.text(found, width=400)


def test_loss_matrix_and_seeds_that_end_far_apart() -> None:
    def row(arm: str, seed: int, step: int, on: str, loss: float) -> Row:
        return {"kind": "validation", "arm": arm, "variant": "", "seed": seed, "step": step, "on": on, "loss": loss}

    log = [row(arm, seed, step, on, 2.0 - step / 100 + (0.3 if (arm, seed, step) == ("b", 1, 100) else 0.0))
           for arm in "ab" for seed in (0, 1) for step in (0, 50, 100) for on in "ab"]  # fmt: skip
    found = curves([LogRow.of(each) for each in log])
    matrix = {(cell.arm, cell.on): (cell.mean, cell.low, cell.high, cell.seeds) for cell in loss_matrix(found)}
    assert matrix["a", "b"] == pytest.approx((1.0, 1.0, 1.0, 2)) and matrix["b", "b"] == pytest.approx(
        (1.15, 1.0, 1.3, 2)
    )
    assert unstable(found) == {"b": pytest.approx((0.3, 0.925), abs=0.1)}


def test_problems_that_stand_in_training_data_are_left_out_of_a_second_answer(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", problems=120, rates={"deep": 0.3, "diverse": 0.32})
    leaked = [f"p{i:03d}" for i in range(60)]
    solved_by_one(run, "diverse", leaked)
    assert analyse(run).uncontaminated is None and not codes(analyse(run)) & {"contaminated", "not_contaminated"}
    none: Row = {"benchmark": "practice", "problems": 120, "exact": [], "ngram": [], "near": [], "solution": []}
    write_json(run / "data" / "contamination.json", [{**none, "arm": arm} for arm in ("deep", "diverse")])
    assert "not_contaminated" in codes(analyse(run))
    matches = [{"problem": id, "row": "1", "share": 1.0} for id in [*leaked, "of another benchmark"]]
    write_json(run / "data" / "contamination.json", [{**none, "arm": "diverse", "exact": matches}])
    found = analyse(run)
    assert found.flagged == {"diverse": tuple(leaked)} and "contaminated" in codes(found)
    clean = found.uncontaminated
    assert found.primary is not None and found.primary.alone is Decision.MORE
    assert clean is not None and clean.problems == 60 and clean.alone is Decision.UNDECIDED
    assert found.primary.decision is clean.decision is Decision.CONTAMINATED, "a claim needs both"
    assert found.primary.needed is None
    said = report.text(found, width=400)
    assert "Whether diverse or deep solves more depends on the 60 problems that appear in training data" in said
    matches = [{"problem": f"p{i:03d}", "row": "1", "share": 1.0} for i in range(120)]
    write_json(run / "data" / "contamination.json", [{**none, "arm": "diverse", "exact": matches}])
    found = analyse(run)
    assert "contaminated_whole" in codes(found) and found.uncontaminated is None
    assert found.primary is not None and found.primary.alone is Decision.MORE
    assert found.primary.decision is Decision.CONTAMINATED, "nothing but problems that may have been memorised"
    assert "all 120 problems of the benchmark appear in training data" in report.text(found, width=400)


@pytest.mark.parametrize(
    ("newest", "code"),
    [({}, "newest_unknown"), ({"deep": "2024-06", "diverse": 2025}, "older_problems"),
     ({"deep": "2024-06", "diverse": "2023"}, "newer_problems")],
)  # fmt: skip
def test_problems_should_be_newer_than_the_data(tmp_path: Path, newest: dict[str, Any], code: str) -> None:
    run = make_run(tmp_path / "run")
    asked = {"newest_unknown", "older_problems", "newer_problems"}
    assert not codes(analyse(run)) & asked, "not asked where problems have no dates"
    rows = read_jsonl(run / "data" / "problems.jsonl")
    write_jsonl(run / "data" / "problems.jsonl", [{**row, "date": "2024-08-03"} for row in rows])
    resolved = read(run / "resolved.json")
    for arm, day in newest.items():
        resolved["study"]["arms"][arm]["newest"] = str(day)
    write_json(run / "resolved.json", resolved)
    found = analyse(run)
    assert codes(found) & asked == {code}
    if code == "older_problems":
        (remark,) = [dict(each.values) for each in found.remarks if each.code == code]
        assert remark == {"arm": "diverse", "n": 41, "of": 41, "newest": "2025"}


@pytest.mark.parametrize("problems", [8, 300])
def test_that_nothing_was_solved_is_no_equality(tmp_path: Path, problems: int) -> None:
    def never(row: Row) -> Row:
        return {**row, "verdict": "WA"}

    findings = analyse(make_run(tmp_path / "run", problems=problems, steps=(20,), change=never))
    found = findings.primary
    assert found is not None and found.method == "two-way"
    tango = inference.paired_interval(0, 0, problems)
    ends = pytest.approx((tango.low, tango.high), abs=1e-6)
    assert (found.interval.low, found.interval.high) == ends and tango.high > 0.01
    assert (found.decision, found.p, found.informative) == (Decision.UNDECIDED, 1.0, 0)
    assert all(score.interval.high > 0.01 for score in findings.scores)
    assert f"On none of the {problems} problems are some of these answers right" in report.text(findings, width=400)


def test_given_checkpoints_are_never_certified_as_trained_alike(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    resolved = read(run / "resolved.json")
    resolved["study"]["arms"]["diverse"] = {"checkpoints": "out"}
    write_json(run / "resolved.json", resolved)
    rows = [row for row in read_jsonl(run / "train" / "log.jsonl") if row["arm"] == "deep"]
    write_jsonl(run / "train" / "log.jsonl", [row for row in rows if row["step"] <= 60])
    found = codes(analyse(run))
    assert {"recipe_unknown", "judged_beyond_log", "steps_unknown"} <= found and "equal_steps" not in found
