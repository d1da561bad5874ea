"""pass@k as the declared metric: equal to enumerating subsets of the answers, and pass@1 is what it was."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kiyas import pooling, report
from kiyas.analyse import Decision, Findings, analyse
from kiyas.analyse.distinct import different_pairs
from kiyas.report import sentences, tables
from kiyas.report.language import Language, suffix
from kiyas.runfolder.files import read_jsonl
from kiyas.stats import inference
from kiyas.stats.pass_at_k import equal_checkpoints
from kiyas.stats.random_effects import two_way
from kiyas.study.settings import Study
from kiyas.types import KiyasError
from synthetic import make_run

Row = dict[str, Any]
SAMPLES = 6


def made(folder: Path, metric: str | None = None, compare: Row | None = None, **more: Any) -> Path:
    declared = {**(compare or {}), **({"metric": metric} if metric else {})}
    asked: Row = {"seeds": (0, 1), "steps": (60, 120), "problems": 12, "samples": SAMPLES}
    return make_run(folder, compare=declared, **{**asked, **more})


def by_subsets(run: Path, k: int) -> dict[tuple[str, int, int], list[float]]:
    """Of each checkpoint and problem the share of all sets of k answers that hold a right one."""
    right: dict[tuple[str, int, int], dict[str, list[bool]]] = {}
    for row in read_jsonl(run / "judge" / "judgments.jsonl"):
        of = right.setdefault((row["arm"], row["seed"], row["step"]), {})
        of.setdefault(row["problem_id"], []).append(row["verdict"] == "AC")
    return {
        who: [float(np.mean([any(s) for s in itertools.combinations(of[p], k)])) for p in sorted(of)]
        for who, of in right.items()
    }


@pytest.mark.parametrize("k", [2, 4, SAMPLES])
def test_the_metric_is_the_share_of_subsets_with_a_right_answer(tmp_path: Path, k: int) -> None:
    run = made(tmp_path / "run", f"pass@{k}")
    findings, expected = analyse(run), by_subsets(run, k)
    for score in findings.scores:
        mine = expected[score.adapter.arm, score.adapter.seed, score.adapter.step]
        assert score.rate == pytest.approx(np.mean(mine)) == pytest.approx(score.at_k[str(k)])
        assert score.solved == pytest.approx(sum(mine))
    d_SP = np.array([expected["diverse", s, 120] for s in (0, 1)]) - [expected["deep", s, 120] for s in (0, 1)]
    primary, dull = findings.primary, two_way(d_SP)
    assert primary is not None and primary.difference == pytest.approx(d_SP.mean())
    assert primary.p == pytest.approx(dull.p) and primary.interval.low == pytest.approx(dull.interval().low)
    deep = next(each for each in findings.results if each.arm == "deep")
    assert deep.mean == pytest.approx(np.mean([expected["deep", s, 120] for s in (0, 1)]))
    assert findings.aa_control[0].mean == pytest.approx(
        abs(np.mean(expected["deep", 0, 120]) - np.mean(expected["deep", 1, 120]))
    )


def test_pass_at_1_of_several_answers_is_what_it_was(tmp_path: Path) -> None:
    """The numbers of the version before metrics could be declared."""
    findings = analyse(made(tmp_path / "run"))
    last = {str(s.adapter): s for s in findings.scores if s.adapter.step in (0, 120)}
    assert [s.rate for s in last.values()] == pytest.approx(
        [0.347222222222, 0.319444444444, 0.263888888889, 0.458333333333, 0.361111111111]
    )
    assert last["diverse/seed-0/step-000120"].at_k == pytest.approx({"1": 0.458333333333, "5": 0.972222222222, "6": 1})
    assert last["deep/seed-1/step-000120"].solved == pytest.approx(3.166666666667)
    assert findings.metric == "pass@1" and findings.primary is not None
    assert findings.primary.difference == pytest.approx(0.118055555556)
    assert [c.best_of.selection_bias for c in findings.choices] == pytest.approx(
        [0.027909722222, 0.027715277778, 0.030395833333, 0.029875]
    )


def test_what_is_about_single_answers_stays_pass_at_1(tmp_path: Path) -> None:
    one, four = (analyse(made(tmp_path / "run", metric, seeds=(0,))) for metric in (None, "pass@4"))
    assert one.stability == four.stability and one.grid == four.grid
    assert json.dumps(one.behaviour, default=str) == json.dumps(four.behaviour, default=str)
    assert "counts single answers (pass@1)" in sentences.behaviour_lead(four, Language())
    assert "pass@1" not in sentences.behaviour_lead(one, Language())


def test_checkpoints_are_chosen_by_the_metric(tmp_path: Path) -> None:
    def steady_or_wide(row: Row) -> Row:
        """At step 60 two problems are always solved; at step 120 one answer of each of six problems is right."""
        p = int(row["problem_id"][1:])
        right = p < 2 if row["step"] == 60 else p < 6 and row["sample"] == 0
        return {**row, "verdict": "AC" if right else "WA"}

    for metric, step in (("pass@1", 60), ("pass@6", 120)):
        run = made(tmp_path / metric / "run", metric, change=steady_or_wide, compare={"select": "primary"})
        assert {choice.chosen.step for choice in analyse(run).choices} == {step}


def test_the_selection_bias_is_that_of_equal_checkpoints() -> None:
    rng = np.random.default_rng(1)
    p_P = rng.beta(0.5, 1.5, 30)
    shares = rng.binomial(SAMPLES, p_P, (5, 30)) / SAMPLES
    for k in (1, 3):
        shrunk = (shares.sum(axis=0) + shares.mean()) / 6
        best = []
        for _ in range(1500):  # the dull way
            c_CP = rng.binomial(SAMPLES, shrunk, (5, 30))
            best.append(max(np.mean([inference.pass_at_k(SAMPLES, c, k) for c in c_P]) for c_P in c_CP))
        expected = float(np.mean(best) - np.mean(1 - (1 - shrunk) ** k))
        assert equal_checkpoints(shares, SAMPLES, k) == pytest.approx(expected, abs=0.003)
    assert equal_checkpoints(shares, SAMPLES, 1) == pytest.approx(
        inference.best_of(shares, SAMPLES).selection_bias, abs=0.003
    )
    many = np.repeat(shares, 40, axis=1)  # the normal approximation
    drawn = rng.binomial(SAMPLES, (many.sum(axis=0) + many.mean()) / 6, (1000, 5, 1200))
    value = np.array([inference.pass_at_k(SAMPLES, c, 3) for c in range(SAMPLES + 1)])
    truth = np.mean(1 - (1 - (many.sum(axis=0) + many.mean()) / 6) ** 3)
    assert equal_checkpoints(many, SAMPLES, 3) == pytest.approx(
        value[drawn].mean(axis=2).max(axis=1).mean() - truth, abs=5e-4
    )


@pytest.mark.parametrize(
    ("generation", "metric", "wrong"),
    [
        ({"num_samples": 5, "temperature": 0.8}, "pass@6", "pass@6 needs 6 answers.*num_samples is 5"),
        ({}, "pass@2", "pass@2 needs 2 answers.*num_samples is 1 .*temperature"),
        ({}, "pass@0", "metric"),
        ({}, "maj@8", "metric"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_refused(generation: Row, metric: str, wrong: str) -> None:
    study = {"name": "x", "model_name_or_path": "practice", "arms": {"a": {"dataset_name": "practice/deep"}}}
    with pytest.raises(ValidationError, match=wrong):
        Study.model_validate({**study, "generation": generation, "compare": {"metric": metric}})


def test_a_missing_verdict_is_no_conclusion_under_any_metric(tmp_path: Path) -> None:
    def gone(row: Row) -> Row | None:
        lost = (row["arm"], row["step"], row["problem_id"], row["sample"]) == ("deep", 120, "p003", 5)
        return None if lost else row

    findings = analyse(made(tmp_path / "run", "pass@3", change=gone))
    assert findings.primary is not None and findings.primary.decision is Decision.MISSING
    assert findings.other_k == ()


def test_other_k_are_corrected_among_themselves(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "pass@3")
    findings = analyse(run)
    assert [each.k for each in findings.other_k] == [1, 5, 6]
    for each in findings.other_k:
        expected = by_subsets(run, each.k)
        a, b = (np.array([expected[arm, s, 120] for s in (0, 1)]) for arm in ("deep", "diverse"))
        assert each.difference == pytest.approx((b - a).mean()) and each.a_rate == pytest.approx(a.mean())
    assert [each.holm for each in findings.other_k] == inference.holm([each.p for each in findings.other_k])
    assert analyse(make_run(tmp_path / "one", steps=(60,), problems=4)).other_k == ()


def test_different_programs_that_solve_a_problem(tmp_path: Path) -> None:
    bodies = ["print(1)", "print(1)  # again", "print(1 + 1)", "for x in []: pass\nprint(1)"]

    def written(row: Row) -> Row:
        p, right = int(row["problem_id"][1:]), row["sample"] < 4
        known = row["arm"] == "diverse" and p < 3
        program = bodies[row["sample"] % 4] if p < 2 else "print(1)"
        return {**row, "verdict": "AC" if known and right else "WA", "program": program}

    found = {each.arm: each for each in analyse(made(tmp_path / "run", seeds=(0,), change=written)).accepted}
    assert found.keys() == {"diverse"}, "an arm without two accepted programs has no row"
    assert dataclasses.astuple(found["diverse"]) == pytest.approx(
        ("diverse", 3, 4.0, (3 + 3 + 1) / 3, 3, (5 / 6 + 5 / 6 + 0) / 3)
    )
    draws = [0, 0, 0, 1, 1, 2]
    pairs = [a != b for a, b in itertools.combinations(draws, 2)]
    assert different_pairs({"a": 3, "b": 2, "c": 1}) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("language", ["en", "tr"])
def test_every_label_names_the_metric(tmp_path: Path, language: str) -> None:
    run = made(tmp_path / "run", "pass@4", seeds=(0,))
    findings, words = analyse(run), Language(language)
    assert Findings.from_json(findings.to_json()).metric == "pass@4"
    page = report.write(run, findings, language=language).read_text(encoding="utf-8")
    text, folder, end = report.text(findings, language=language), run / "report", suffix(language, "en")
    made_tables = tables.tables(findings, words)
    for name in ("results", "checkpoints"):
        assert ("pass1", "pass@4") in made_tables[name].columns
        assert "pass4" in made_tables[name].raw[0] and "pass1" not in made_tables[name].raw[0]
    assert made_tables["checkpoints"].raw[1]["pass4"] == made_tables["checkpoints"].raw[1]["pass@4"]
    assert "pass@4" in text and "pass@1" not in text
    assert '<a href="#pass">pass@4</a>' in page and page.count("pass@4") > 10
    for path in (folder / f"methods{end}.txt", folder / f"report{end}.md"):
        assert "pass@4" in path.read_text(encoding="utf-8")
    charts = "".join((folder / "figures" / f"{name}{end}.svg").read_text() for name in ("pass", "differences"))
    assert "pass@4" in charts and "pass@1" not in charts


def test_runs_of_two_metrics_are_not_pooled(tmp_path: Path) -> None:
    small: Row = {"seeds": (0,), "steps": (60,), "problems": 12}
    one, four = made(tmp_path / "one", **small), made(tmp_path / "four", "pass@4", rng_seed=1, **small)
    with pytest.raises(KiyasError, match=r"different metrics: .*one pass@1, .*four pass@4"):
        pooling.pool([one, four])
    counted = tmp_path / "counts.csv"
    counted.write_text("study,arm,solved,total\nx,deep,5,12\nx,diverse,6,12\n")
    with pytest.raises(KiyasError, match=r"different metrics"):
        pooling.pool([four, counted])
    pooled = pooling.pool([four, made(tmp_path / "again", "pass@4", rng_seed=2, **small)])
    assert pooled.metric == "pass@4"
    from kiyas.report.pooled import text

    assert "The metric is pass@4" in " ".join(text(pooled).split())
