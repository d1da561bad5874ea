"""From a run folder to findings: what is claimed, what is refused, and what is said beside it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kiyas import report
from kiyas.analyse import Decision, Findings, analyse
from kiyas.analyse.checklist import samples_only
from kiyas.analyse.decisions import corrected, decision_of
from kiyas.analyse.findings import LossPoint
from kiyas.analyse.losses import curves, loss_matrix, reading, unstable
from kiyas.analyse.problems import pattern
from kiyas.analyse.selection import choose
from kiyas.judge import Problem, Test
from kiyas.judge.verdicts import SHARED
from kiyas.runfolder.files import read_jsonl, write_json, write_jsonl
from kiyas.stats import inference
from kiyas.stats.inference import Interval
from kiyas.types import AdapterId, KiyasError, LogRow
from synthetic import STEPS, make_run, read

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
    assert decision_of(0.0, Interval(-0.02, 0.02), narrow, 0.9, None) is Decision.UNDECIDED
    assert decision_of(0.0, Interval(-0.02, 0.02), narrow, 0.9, 0.05) is Decision.EQUIVALENT


def test_interval_and_test_must_agree() -> None:
    clear, wide = Interval(0.02, 0.2), Interval(0.03, 0.19, 0.9)
    assert decision_of(0.1, clear, wide, 0.01, 0.05) is Decision.MORE
    assert decision_of(0.1, clear, wide, 0.06, 0.05) is Decision.UNDECIDED
    assert decision_of(0.1, Interval(-0.01, 0.2), wide, 0.04, 0.05) is Decision.UNDECIDED


@pytest.mark.parametrize("what", ["missing", "IE"])
def test_owed_work_refuses_a_conclusion(tmp_path: Path, what: str) -> None:
    def spoil(row: Row) -> Row | None:
        if (row["arm"], row["seed"], row["step"], row["problem_id"]) != ("deep", 1, STEPS[-1], "p007"):
            return row
        return None if what == "missing" else {**row, "verdict": "IE"}

    findings = analyse(make_run(tmp_path / "run", change=spoil))
    found = findings.primary
    assert found is not None and found.decision is Decision.MISSING and found.missing == 1
    assert math.isnan(found.difference)
    score = findings.score(AdapterId("deep", "", 1, STEPS[-1]))
    assert score is not None and math.isnan(score.rate) and score.missing == 1
    other = next(c for c in findings.contrasts if (c.a, c.b) == ("base", "diverse"))
    assert other.decision is not Decision.MISSING
    assert "owed" in codes(findings)


def test_a_whole_missing_seed_or_arm_is_owed(tmp_path: Path) -> None:
    seed = analyse(make_run(tmp_path / "seed", change=lambda r: None if (r["arm"], r["seed"]) == ("deep", 2) else r))
    assert seed.primary is not None and seed.primary.decision is Decision.MISSING
    assert "seeds_missing" in codes(seed)
    arm = analyse(make_run(tmp_path / "arm", change=lambda r: None if r["arm"] == "diverse" else r))
    assert arm.primary is None and arm.wanted == ("deep", "diverse")


def test_owed_elsewhere_does_not_stop_the_conclusion(tmp_path: Path) -> None:
    early = lambda r: None if (r["step"], r["problem_id"]) == (STEPS[0], "p003") else r  # noqa: E731
    found = analyse(make_run(tmp_path / "run", change=early)).primary
    assert found is not None and found.decision is not Decision.MISSING
    best = analyse(make_run(tmp_path / "best", change=early, compare={"select": "primary"})).primary
    assert best is not None and best.decision is Decision.MISSING


def test_one_seed_is_two_adapters(tmp_path: Path) -> None:
    findings = analyse(make_run(tmp_path / "run", seeds=(0,)))
    found = findings.primary
    assert found is not None and found.method == "pair" and found.pairs[0].exact_p is not None
    pair = found.pairs[0]
    assert pair.both + pair.only_a + pair.only_b + pair.neither == 41
    assert "one_seed" in codes(findings)


def test_several_samples(tmp_path: Path) -> None:
    findings = analyse(make_run(tmp_path / "run", seeds=(0,), samples=4, steps=(60, 120)))
    score = findings.score(AdapterId("deep", "", 0, 120))
    assert score is not None and set(score.at_k) == {"1", "4"}
    assert score.at_k["1"] == pytest.approx(score.rate)
    assert score.at_k["4"] >= score.at_k["1"]
    assert findings.primary is not None and findings.primary.pairs[0].exact_p is None
    shares = [[cell.right / 4 for cell in row.cells[1:3]] for row in findings.grid]
    assert findings.choices[0].best_of == inference.best_of(np.array(shares).T, samples=4)


@pytest.mark.parametrize("select", ["last", "validation", "primary"])
def test_checkpoint_rules(tmp_path: Path, select: str) -> None:
    findings = analyse(make_run(tmp_path / "run", compare={"select": select}))
    for choice in findings.choices:
        assert choice.last.step == STEPS[-1]
        rates = {s.adapter: s.rate for s in findings.scores if s.adapter.training == choice.last.training}
        assert rates[choice.best] == max(rates.values()) == pytest.approx(choice.best_of.measured)
        assert choice.lowest_validation is not None
        assert choice.lowest_validation.step in (60, 80)
        wanted = {"last": choice.last, "validation": choice.lowest_validation, "primary": choice.best}
        assert choice.chosen == wanted[select]
    assert ("selected_on_test" in codes(findings)) == (select == "primary")


def test_equal_checkpoints_go_to_the_earlier_step() -> None:
    """8 of 30 right in another order: the two means differ by float noise, in favour of the later step."""
    early, late = AdapterId("a", step=20), AdapterId("a", step=40)
    rates = {early: np.array([2, 1, 1, 0, 1, 0, 1, 0, 1, 1]) / 3, late: np.array([1, 0, 1, 0, 1, 1, 1, 2, 0, 1]) / 3}
    rng = np.random.default_rng(0)
    while rates[early].mean() >= rates[late].mean():
        rates = {a: rng.permutation(r) for a, r in rates.items()}
    assert round(3 * rates[early].sum()) == round(3 * rates[late].sum()) == 8
    assert choose([early, late], rates, None, "primary").chosen == early


def test_changed_declaration_and_unapplied_adapter(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", program="same everywhere {problem}")
    resolved = read(run / "resolved.json")
    resolved["study"]["compare"]["matters"] = 0.2
    write_json(run / "resolved.json", resolved)
    assert {"declaration_changed", "adapter_like_base"} <= codes(analyse(run))


def test_mixed_isolation_is_noted(tmp_path: Path) -> None:
    tier = lambda r: {**r, "tier": "weak" if r["step"] == STEPS[0] else "strong"}  # noqa: E731
    mixed = analyse(make_run(tmp_path / "mixed", seeds=(0,), problems=5, change=tier))
    found = next(remark for remark in mixed.remarks if remark.code == "mixed_isolation")
    assert found.values == {"tiers": "strong 55, weak 10"} and "judge_tier" not in codes(mixed)
    flagged = lambda r: {**r, "not_run": 3, "flags": [SHARED]} if r["step"] == STEPS[0] else r  # noqa: E731
    odd = analyse(make_run(tmp_path / "odd", seeds=(0,), problems=5, change=flagged))
    found_of = {remark.code: remark.values for remark in odd.remarks}
    assert found_of["shared_process"]["n"] == 5 and found_of["stopped_programs"] == {"n": 10, "all": 65, "tests": 30}
    same = analyse(make_run(tmp_path / "same", seeds=(0,), problems=5, change=lambda r: {**r, "tier": "strong"}))
    assert "judge_tier" in codes(same) and "mixed_isolation" not in codes(same)


def test_no_base_and_one_arm(tmp_path: Path) -> None:
    no_base = analyse(make_run(tmp_path / "a", base=False))
    assert "base_missing" in codes(no_base) and not no_base.base_measured
    one = analyse(make_run(tmp_path / "b", rates={"only": 0.4}))
    assert one.primary is not None and (one.primary.a, one.primary.b) == ("base", "only")
    alone = analyse(make_run(tmp_path / "c", rates={"only": 0.4}, base=False))
    assert alone.primary is None


@pytest.mark.parametrize("problems", [1, 2])
def test_hardly_any_problems(tmp_path: Path, problems: int) -> None:
    for seeds in ((0,), (0, 1)):
        findings = analyse(make_run(tmp_path / f"run{len(seeds)}", problems=problems, seeds=seeds, samples=len(seeds)))
        assert findings.primary is not None and findings.primary.decision is not Decision.MISSING


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match="no such file"):
        analyse(tmp_path)
    write_json(tmp_path / "resolved.json", {"kind": "run", "name": "x"})
    with pytest.raises(KiyasError, match="nothing to analyse"):
        analyse(tmp_path)


@pytest.mark.parametrize(
    ("solved", "expected"),
    [("111", "always"), ("000", "never"), ("011", "learned"), ("110", "forgotten"), ("010", "forgotten"),
     ("101", "flickering"), ("0101", "flickering"), ("1010", "flickering")],
)  # fmt: skip
def test_patterns(solved: str, expected: str) -> None:
    assert pattern([c == "1" for c in solved]) == expected


@pytest.mark.parametrize(("samples", "steps"), [(1, (20, 40, 60)), (3, (20, 40)), (1, (20,))])
def test_forgetting_starts_at_the_base(tmp_path: Path, samples: int, steps: tuple[int, ...]) -> None:
    """By brute force over the judgments' rows. The base's verdict on p004 is missing: that problem is not counted."""
    lost = lambda r: None if (r["arm"], r["problem_id"]) == ("base", "p004") else r  # noqa: E731
    run = make_run(tmp_path / "run", seeds=(0, 1), samples=samples, steps=steps, problems=60, change=lost)
    right: dict[tuple[str, int, int, str], int] = {}
    for row in read_jsonl(run / "judge" / "judgments.jsonl"):
        key = (row["arm"], row["seed"], row["step"], row["problem_id"])
        right[key] = right.get(key, 0) + (row["verdict"] == "AC")
    findings = analyse(run)
    assert len(findings.stability) == 4
    for each in findings.stability:
        arm, seed = each.training.arm, each.training.seed
        kinds: dict[str, list[str]] = {kind: [] for kind in ("always", "learned", "forgotten", "flickering", "never")}
        held = dropped = 0
        for problem in sorted({key[3] for key in right} - {"p004"}):
            at = [right["base", 0, 0, problem], *(right[arm, seed, step, problem] for step in steps)]
            went = "".join("1" if 2 * n >= samples else "0" for n in at)
            held += went[:-1].count("1")
            dropped += sum(went[i : i + 2] == "10" for i in range(len(went)))
            kind = "flickering"
            if re.fullmatch("1+", went):
                kind = "always"
            elif re.fullmatch("0+", went):
                kind = "never"
            elif re.fullmatch("0+1+", went):
                kind = "learned"
            elif re.fullmatch("0*1+0+", went):
                kind = "forgotten"
            kinds[kind].append(problem)
        assert {kind: list(getattr(each, kind)) for kind in kinds} == kinds
        assert each.checkpoints == len(steps) and each.forgetting_rate == pytest.approx(dropped / held)
    lost_at_once = [p for each in findings.stability for p in each.forgotten if right["base", 0, 0, p] * 2 >= samples]
    assert lost_at_once


def test_without_a_base_the_checkpoints_alone_are_counted(tmp_path: Path) -> None:
    alone = analyse(make_run(tmp_path / "a", base=False, seeds=(0,), steps=(20, 40)))
    assert [each.checkpoints for each in alone.stability] == [2, 2]
    missing = lambda r: {**r, "verdict": "IE"} if r["arm"] == "base" else r  # noqa: E731
    broken = analyse(make_run(tmp_path / "b", seeds=(0,), steps=(20, 40), change=missing))
    sizes = [sum(len(getattr(s, k)) for k in ("always", "learned", "forgotten", "flickering", "never"))
             for s in broken.stability]  # fmt: skip
    assert sizes == [41, 41]
    assert not analyse(make_run(tmp_path / "c", base=False, seeds=(0,), steps=(20,))).stability


def points(*losses: float) -> tuple[LossPoint, ...]:
    return tuple(LossPoint(10 * (i + 1), loss) for i, loss in enumerate(losses))


def test_reading_of_losses() -> None:
    turned = reading(points(1, 0.5, 0.3, 0.2, 0.1), points(1.0, 0.8, 0.7, 0.8, 0.9))
    assert turned is not None and turned.overfits and turned.lowest_step == 30
    assert turned.rise == pytest.approx(0.2) and turned.gap == pytest.approx(0.9 - 0.2)
    assert turned.slow_step == 30
    falling = reading(points(1, 0.9), points(1.0, 0.9, 0.8))
    assert falling is not None and not falling.overfits and falling.rise == 0
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


def test_a_claim_that_correction_takes_away() -> None:
    made = dataclasses.make_dataclass("Made", ["a", "b", "p", "decision", "declared", "holm"])
    each = [made("a", f"{p}", p, Decision.MORE, False, None) for p in (0.03, 0.04, 0.001)]
    found = corrected(each, {frozenset((one.a, one.b)) for one in each})  # type: ignore[arg-type]
    assert [one.decision for one in found] == [Decision.UNDECIDED, Decision.UNDECIDED, Decision.MORE]
    assert [one.holm for one in found] == pytest.approx([0.06, 0.06, 0.003])


def test_what_would_decide_tells_hours_where_the_run_tells_times(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert analyse(run).primary is not None
    for stage, seconds in (("train", 7200.0), ("generate", 1800.0), ("judge", 1800.0)):
        write_json(run / stage / "manifest.json", {"stage": stage, "inputs": {}, "counts": {}, "seconds": seconds})
    found = analyse(run)
    assert found.primary is not None and found.primary.needed is not None
    need = found.primary.needed
    # At 3 seeds × 41 problems neither more seeds nor more problems alone would do.
    (seeds, problems) = need.both
    assert (need.seeds, need.problems) == (None, None) and seeds > 3 and problems > 41
    assert need.both_hours == pytest.approx(2 * seeds / 3 + seeds / 3 * problems / 41)
    components = found.primary.components
    assert components is not None
    assert (
        inference.detectable(components, seeds, problems)
        <= 0.05
        < inference.detectable(components, seeds, problems - 1)
    )
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
    rows = read_jsonl(run / "judge" / "judgments.jsonl")
    for row in rows:
        if row["problem_id"] in leaked and row["arm"] != "base":
            row["verdict"] = "AC" if row["arm"] == "diverse" else "WA"
    write_jsonl(run / "judge" / "judgments.jsonl", rows)
    assert analyse(run).uncontaminated is None and not codes(analyse(run)) & {"contaminated", "not_contaminated"}
    none: Row = {"benchmark": "practice", "problems": 120, "exact": [], "ngram": [], "near": [], "solution": []}
    write_json(run / "data" / "contamination.json", [{**none, "arm": arm} for arm in ("deep", "diverse")])
    assert "not_contaminated" in codes(analyse(run))
    matches = [{"problem": id, "row": "1", "share": 1.0} for id in [*leaked, "of another benchmark"]]
    write_json(run / "data" / "contamination.json", [{**none, "arm": "diverse", "exact": matches}])
    found = analyse(run)
    assert found.flagged == {"diverse": tuple(leaked)} and "contaminated" in codes(found)
    assert found.primary is not None and found.primary.decision is Decision.MORE
    assert (
        found.uncontaminated is not None
        and found.uncontaminated.problems == 60
        and found.uncontaminated.decision is Decision.UNDECIDED
    )
    said = report.text(found, width=400)
    assert "Without the 60 problems that appear in training data: These numbers do not show" in said


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


@pytest.mark.parametrize(("problems", "decision"), [(8, Decision.UNDECIDED), (300, Decision.EQUIVALENT)])
def test_that_nothing_differed_is_no_proof_of_equality(tmp_path: Path, problems: int, decision: Decision) -> None:
    def never(row: Row) -> Row:
        return {**row, "verdict": "WA"}

    found = analyse(make_run(tmp_path / "run", problems=problems, steps=(20,), change=never)).primary
    assert found is not None and found.method == "two-way"
    tango = inference.paired_interval(0, 0, problems)
    assert (found.interval.low, found.interval.high) == pytest.approx((tango.low, tango.high)) and tango.high > 0.01
    assert (found.decision, found.p) == (decision, 1.0)
    if decision is Decision.UNDECIDED:
        assert found.needed is not None and found.needed.problems is not None
        assert inference.paired_interval(0, 0, found.needed.problems).high <= 0.05
        assert inference.paired_interval(0, 0, found.needed.problems - 1).high > 0.05


def test_given_checkpoints_are_never_certified_as_trained_alike(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    resolved = read(run / "resolved.json")
    resolved["study"]["arms"]["diverse"] = {"checkpoints": "out"}
    write_json(run / "resolved.json", resolved)
    rows = [row for row in read_jsonl(run / "train" / "log.jsonl") if row["arm"] == "deep"]
    write_jsonl(run / "train" / "log.jsonl", [row for row in rows if row["step"] <= 60])
    found = codes(analyse(run))
    assert {"recipe_unknown", "judged_beyond_log", "steps_unknown"} <= found and "equal_steps" not in found
