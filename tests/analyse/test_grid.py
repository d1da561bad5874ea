"""Learning-rate grids, recipes of an arm's own, other benchmarks beside the primary one, draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthetic
from kiyas import report
from kiyas.analyse import Decision, Findings, analyse
from kiyas.analyse.chosen import Finished
from kiyas.analyse.load import load
from kiyas.report import sentences
from kiyas.report.language import Language
from kiyas.runfolder.files import read_json, read_jsonl, write_json, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import read_record
from kiyas.types import AdapterId, KiyasError

RATES = [1e-4, 1e-3]
SEEDS, FORMER = (0, 1, 2), 3


def grid_run(
    folder: Path,
    scores: Mapping[str, tuple[float, float]],
    losses: Mapping[str, tuple[float | None, float | None]],
    problems: int = 200,
    turned: tuple[int, ...] = (),
) -> Path:
    """`scores`: each arm's true pass@1 at the two rates; `losses`: its validation loss there (None: training broke
    down), for the seeds of `turned` the other way round. An older version trained another seed to choose."""
    judgments: list[dict[str, Any]] = []
    log: list[dict[str, Any]] = []
    for point, rate in enumerate(RATES):
        variant = f"lr-{rate:g}"
        part = synthetic.make_run(
            folder, rates={arm: each[point] for arm, each in scores.items()}, steps=(60, 120), problems=problems
        )
        rows = read_jsonl(part / "judge" / "judgments.jsonl")
        judgments += [
            {**r, "variant": variant if r["arm"] != "base" else ""} for r in rows if r["arm"] != "base" or not point
        ]
        for arm, each in losses.items():
            for seed in (*SEEDS, FORMER):
                who = {"arm": arm, "variant": variant, "seed": seed, "step": 120}
                loss = each[1 - point if seed in (*turned, FORMER) else point]
                if loss is None:
                    log.append({"kind": "diverged", **who})
                    continue
                log.append({"kind": "validation", **who, "on": arm, "loss": loss})
                log.append({"kind": "train", **who, "loss": 0.5})
    write_jsonl(folder / "judge" / "judgments.jsonl", judgments)
    write_jsonl(folder / "train" / "log.jsonl", log)
    resolved = read_json(folder / "resolved.json")
    resolved["study"]["training"] = {"learning_rate": RATES, "tuning_seeds": 1}
    write_json(folder / "resolved.json", resolved)
    return folder


def remarks(findings: Findings) -> dict[str, Any]:
    return {remark.code: dict(remark.values) for remark in findings.remarks}


def test_each_seed_takes_the_rate_with_its_own_lowest_loss(tmp_path: Path) -> None:
    scores = {"deep": (0.3, 0.33), "diverse": (0.7, 0.75)}
    findings = analyse(grid_run(tmp_path / "run", scores, {"deep": (0.4, 0.9), "diverse": (0.8, 0.3)}, turned=(2,)))
    chosen = {(point.arm, point.variant): point.seeds for point in findings.learning_rates}
    assert chosen == {
        ("deep", "lr-0.0001"): (0, 1), ("deep", "lr-0.001"): (2,),
        ("diverse", "lr-0.0001"): (2,), ("diverse", "lr-0.001"): (0, 1),
    }  # fmt: skip
    assert findings.primary is not None and findings.primary.decision is Decision.MORE
    for pair, seed in zip(findings.primary.pairs, SEEDS, strict=True):
        for adapter in (pair.a, pair.b):
            assert adapter.seed == seed and seed in chosen[adapter.arm, adapter.variant]
    shown = {(a.arm, a.variant, a.seed) for a in findings.columns if not a.is_base}
    assert shown == {(arm, variant, seed) for (arm, variant), seeds in chosen.items() for seed in seeds}
    assert {curve.training.seed for curve in findings.curves} == set(SEEDS)
    assert [c.decision for c in findings.at_each_rate] == [Decision.MORE, Decision.MORE]
    differences = [round(c.difference, 9) for c in findings.at_each_rate]
    for variant, difference in zip(("lr-0.0001", "lr-0.001"), differences, strict=True):
        mean = {p.arm: p.mean for p in findings.learning_rates if p.variant == variant}
        assert difference == pytest.approx(mean["diverse"] - mean["deep"])
    found = remarks(findings)
    assert {"rate_tuned", "rate_at_edge"} <= found.keys() and "variants" not in found
    assert found["rate_tuned"] == {"rates": "deep 0.0001 (2), 0.001 (1); diverse 0.0001 (1), 0.001 (2)"}
    assert found["rate_rule_changed"] == {"n": 1}, "the seed that chose in an older version counts for nothing"


def test_a_difference_that_only_the_choice_of_rates_makes(tmp_path: Path) -> None:
    """At each rate the arms are alike; one arm's losses chose the good rate, the other's the bad one."""
    scores = {"deep": (0.3, 0.7), "diverse": (0.3, 0.7)}
    run = grid_run(tmp_path / "run", scores, {"deep": (0.4, 0.9), "diverse": (0.9, 0.4)})
    found = analyse(run)
    assert found.primary is not None and found.primary.difference > 0.3
    assert (found.primary.decision, found.primary.at_one_rate) == (Decision.DEPENDS, False)
    for language, words in (("en", "at none of these rates by itself"), ("tr", "bu oranların hiçbirinde")):
        assert words in sentences.conclusion(found, Language(language)).sentence


def test_a_difference_that_turns_round_within_the_grid_depends_on_the_learning_rate(tmp_path: Path) -> None:
    scores = {"deep": (0.3, 0.7), "diverse": (0.5, 0.5)}
    run = grid_run(tmp_path / "run", scores, {"deep": (0.4, 0.9), "diverse": (0.4, 0.9)})
    findings = analyse(run)
    assert findings.primary is not None and findings.primary.decision is Decision.DEPENDS
    assert [c.decision for c in findings.at_each_rate] == [Decision.MORE, Decision.LESS]
    for language, words in (("en", "depends on the learning rate"), ("tr", "öğrenme oranına bağlı")):
        said = sentences.conclusion(findings, Language(language)).sentence
        assert words in said and "more of these" not in said
        assert words in report.text(findings, language=language)
    report.write(run, findings)
    assert (run / "report" / "tables" / "at_each_rate.csv").read_text().count("\n") == 3


def test_noise_at_another_rate_does_not_overrule(tmp_path: Path) -> None:
    """Both arms hardly trained at one rate: a difference about zero there, on either side, says nothing."""
    scores = {"deep": (0.3, 0.3), "diverse": (0.3, 0.6)}
    losses = {"deep": (0.9, 0.4), "diverse": (0.9, 0.4)}
    findings = analyse(grid_run(tmp_path / "run", scores, losses))
    assert abs(findings.at_each_rate[0].difference) < 0.05
    assert findings.primary is not None and findings.primary.decision is Decision.MORE


def test_a_rate_at_which_training_broke_down_is_never_chosen(tmp_path: Path) -> None:
    scores = {"deep": (0.3, 0.3), "diverse": (0.3, 0.3)}
    findings = analyse(grid_run(tmp_path / "run", scores, {"deep": (0.9, None), "diverse": (0.4, 0.3)}))
    chosen = {point.arm: (point.variant, point.seeds) for point in findings.learning_rates if point.chosen}
    assert chosen == {"deep": ("lr-0.0001", SEEDS), "diverse": ("lr-0.001", SEEDS)}
    assert remarks(findings)["rate_diverged"] == {"where": "deep 0.001"}
    findings = analyse(grid_run(tmp_path / "none", scores, {"deep": (None, None), "diverse": (0.4, 0.3)}))
    assert remarks(findings)["rate_not_tuned"] == {"arm": "deep"}


def test_tokens_that_differ_and_rates_that_were_not_tried_are_noted(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run")
    assert "rate_not_asked" in remarks(analyse(run)) and "unequal_tokens" not in remarks(analyse(run))
    rows = read_jsonl(run / "train" / "log.jsonl")
    tokens = {"deep": 100, "diverse": 125}
    write_jsonl(
        run / "train" / "log.jsonl",
        [{**row, "tokens": tokens[row["arm"]] * row["step"]} if row["kind"] == "train" else row for row in rows],
    )
    assert remarks(analyse(run))["unequal_tokens"] == {"tokens": "deep 12000, diverse 15000"}


def test_recipes_that_differ_are_a_warning(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run")
    resolved = read_json(run / "resolved.json")
    own = {"weight_decay": 0.1, "learning_rate": None, "budget": {"steps": 7, "epochs": None}}
    resolved["study"]["arms"]["deep"] |= {"training": own, "peft": {"r": 8}}
    resolved["study"]["compare"]["accept"] = ["unequal_budgets"]
    write_json(run / "resolved.json", resolved)
    found = remarks(analyse(run))
    assert found["recipes_differ"] == {
        "differences": "deep: training.budget steps 7, training.weight_decay 0.1, peft.r 8"
    }
    assert "unequal_budgets_accepted" in found


def beside_run(folder: Path, **options: Any) -> Path:
    """The last 100 of 141 problems are another benchmark, where the arms stand the other way round."""
    rates = {"deep": 0.3, "diverse": 0.35}
    run = synthetic.make_run(folder, problems=141, rates=rates, also=["humaneval"], **options)
    rng = np.random.default_rng(1)
    problems = read_jsonl(run / "data" / "problems.jsonl")
    other = {row["id"] for row in problems[41:]}
    write_jsonl(
        run / "data" / "problems.jsonl", [{**r, "benchmark": "humaneval"} if r["id"] in other else r for r in problems]
    )
    rows = read_jsonl(run / "judge" / "judgments.jsonl")
    for row in rows:
        if row["problem_id"] in other:
            best = row["step"] == 40  # where a development benchmark would choose
            chance = {"base": 0.2, "deep": 0.7, "diverse": 0.3}[row["arm"]] + 0.2 * best
            row["verdict"] = "AC" if rng.random() < chance else "WA"
    write_jsonl(run / "judge" / "judgments.jsonl", rows)
    return run


def test_other_benchmarks_stand_beside_and_change_nothing(tmp_path: Path) -> None:
    findings = analyse(beside_run(tmp_path / "run"))
    assert (findings.problems, len(findings.grid)) == (41, 41)
    [other] = findings.secondary
    assert (other.benchmark, other.problems) == ("humaneval", 100)
    means = {result.arm: result.mean for result in other.results}
    assert means["deep"] - means["diverse"] > 0.25
    first = other.contrasts[0]
    assert (first.a, first.b, first.decision) == ("deep", "diverse", Decision.LESS)
    assert {adapter.step for result in other.results for adapter in result.adapters} == {0, 120}
    assert "humaneval" in report.text(findings)
    # Without them the findings about the primary benchmark are the same.
    run = beside_run(tmp_path / "run")
    for name in ("data/problems.jsonl", "judge/judgments.jsonl"):
        rows = read_jsonl(run / name)
        write_jsonl(run / name, [r for r in rows if str(r.get("problem_id", r.get("id"))) < "p041"])
    alone = analyse(run)
    assert alone.contrasts == findings.contrasts and alone.scores == findings.scores and not alone.secondary


def test_the_development_benchmark_chooses(tmp_path: Path) -> None:
    findings = analyse(beside_run(tmp_path / "run", compare={"select": "development"}))
    assert {choice.chosen.step for choice in findings.choices} == {40}
    assert "selection_clean" in remarks(findings)
    # A candidate whose verdicts there are missing could have been the best one: nothing is concluded.
    run = tmp_path / "run"
    rows = read_jsonl(run / "judge" / "judgments.jsonl")
    missing = [r for r in rows if (r["arm"], r["seed"], r["step"], r["problem_id"]) != ("deep", 1, 60, "p100")]
    write_jsonl(run / "judge" / "judgments.jsonl", missing)
    refused = analyse(run).primary
    assert refused is not None and (refused.decision, refused.missing) == (Decision.MISSING, 1)


@pytest.mark.parametrize(("draws", "words"), [(3, "holds for this way of drawing"), (1, "needs at least 3")])
def test_claims_about_a_way_of_making_data_need_draws(tmp_path: Path, draws: int, words: str) -> None:
    run = synthetic.make_run(tmp_path / "run")
    resolved = read_json(run / "resolved.json")
    resolved["study"]["arms"]["diverse"] = {"from_": "deep", "solutions": 1, "draws": draws}
    write_json(run / "resolved.json", resolved)
    assert words in report.text(analyse(run), width=400)


def test_a_command_means_the_chosen_point_unless_it_names_another(tmp_path: Path) -> None:
    scores = {"deep": (0.3, 0.5), "diverse": (0.3, 0.5)}
    run = grid_run(tmp_path / "run", scores, dict.fromkeys(scores, (0.9, 0.6)), problems=20)
    record = read_record(RunDir(run))
    assert record.study is not None
    found = Finished(RunDir(run), record, record.study, load(run))
    assert found.chosen("deep@1") == AdapterId("deep", "lr-0.001", 1, 120)
    other = found.chosen("deep@1", variant="lr-0.0001", step=60)
    assert other == AdapterId("deep", "lr-0.0001", 1, 60)
    assert found.by_rule(found.chosen("deep@1")) and not found.by_rule(other) and found.score(other).problems == 20
    with pytest.raises(KiyasError, match=r"(?s)no point 'lr-1'.*lr-0\.0001, lr-0\.001"):
        found.chosen("deep", variant="lr-1")
