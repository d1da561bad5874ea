"""Every table of the report, made once: the page, report.md, the terminal and the CSV files print these."""

from __future__ import annotations

import math
from typing import Any

from kiyas.analyse.findings import Contrast, Findings, Score
from kiyas.report import behaviour, details, sentences
from kiyas.report.table import Table, bounds, columns
from kiyas.report.words import DASH, Words

__all__ = ["Table", "tables"]

METHODS = {"two-way": "method_two_way", "pair": "method_pair", "none": "method_none"}


def tables(findings: Findings, words: Words) -> dict[str, Table]:
    """All tables by name; a table without rows is left out."""
    made = [
        results(findings, words),
        contrasts(findings, words),
        rates(findings, words),
        at_each_rate(findings, words),
        beside(findings, words),
        beside_contrasts(findings, words),
        pairs(findings, words),
        checkpoints(findings, words),
        best_of(findings, words),
        details.readings(findings, words),
        details.loss_matrix(findings, words),
        details.losses(findings, words),
        details.partial(findings, words),
        details.stability(findings, words),
        details.trajectories(findings, words),
        details.forgotten(findings, words),
        details.grid(findings, words),
        *behaviour.tables(findings, words),
    ]
    return {table.name: table for table in made if table.raw}


def _score_cells(score: Score, words: Words) -> dict[str, str]:
    solved = words("cell.of", solved=words.count(score.solved), n=score.problems)
    return {
        "pass1": words("cell.owed", n=score.owed) if score.owed else words.percent(score.rate),
        "solved": solved,
        "interval": words.share_interval(score.interval),
        "tests_passed": words.percent(score.tests_passed),
    }


def results(findings: Findings, words: Words) -> Table:
    """Base, then each arm: a row per seed, and the mean when there are several."""
    shown: list[dict[str, str]] = []
    raw: list[dict[str, Any]] = []
    strong: set[int] = set()
    against = {(c.a, c.b): c for c in findings.contrasts}
    for result in findings.results:
        contrast = against.get(("base", result.arm))
        pair_of = {pair.b: pair for pair in contrast.pairs} if contrast else {}
        name = sentences.arm_name(words, result.arm)
        several = len(result.adapters) > 1
        if several:
            strong.add(len(shown))
            steps = sorted({adapter.step for adapter in result.adapters})
            key = "cell.step" if len(steps) == 1 else "cell.steps"
            diff = contrast if contrast else None
            shown.append(
                {
                    "arm": name,
                    "checkpoint": words(key, step=steps[0], steps=", ".join(map(str, steps))),
                    "seed": words("cell.mean", n=len(result.adapters)),
                    "pass1": words("cell.owed", n=result.owed) if result.owed else words.percent(result.mean),
                    "solved": words("cell.of", solved=words.count(result.solved), n=findings.problems),
                    "interval": words.share_interval(result.interval),
                    "vs_base": words.points(diff.difference) if diff else DASH,
                    "vs_base_interval": words.points_interval(diff.interval) if diff else DASH,
                }
            )
            raw.append(
                {
                    "arm": result.arm,
                    "checkpoint": " ".join(map(str, steps)),
                    "seed": "mean",
                    "pass1": result.mean,
                    "solved": result.solved,
                    "problems": findings.problems,
                    "owed": result.owed,
                    **bounds("interval", result.interval),
                    "vs_base": diff.difference if diff else None,
                    **bounds("vs_base", diff.interval if diff else None),
                }
            )
        for adapter in result.adapters:
            score = findings.score(adapter)
            if score is None:
                continue
            pair = pair_of.get(adapter)
            if not several:
                strong.add(len(shown))
            shown.append(
                {
                    "arm": "" if several else name,
                    "checkpoint": DASH if adapter.is_base else sentences.checkpoint(words, adapter),
                    "seed": DASH if adapter.is_base else str(adapter.seed),
                    **_score_cells(score, words),
                    "vs_base": words.points(pair.difference) if pair else DASH,
                    "vs_base_interval": words.points_interval(pair.interval) if pair else DASH,
                }
            )
            raw.append(
                {
                    "arm": result.arm,
                    "checkpoint": adapter.step,
                    "seed": adapter.seed,
                    "pass1": score.rate,
                    "solved": score.solved,
                    "problems": score.problems,
                    "owed": score.owed,
                    **bounds("interval", score.interval),
                    "vs_base": pair.difference if pair else None,
                    **bounds("vs_base", pair.interval if pair else None),
                    "tests_passed": score.tests_passed,
                }
            )
    keys = ["arm", "checkpoint", "seed", "pass1", "solved", "interval"]
    keys += ["vs_base", "vs_base_interval"] if findings.base_measured else []
    keys += ["tests_passed"]
    numeric = frozenset({"pass1", "solved", "interval", "vs_base", "vs_base_interval", "tests_passed"})
    return Table(
        "results",
        words("table.results"),
        columns(words, *keys),
        tuple(shown),
        tuple(raw),
        frozenset(strong),
        numeric,
    )


def contrasts(findings: Findings, words: Words) -> Table:
    shown, raw = [], []
    for each in findings.contrasts:
        row, plain = _contrast_row(each, words)
        kind = "question" if each.primary else "declared" if each.declared else "exploratory"
        shown.append(
            {
                **row,
                "primary": words(f"cell.{kind}"),
                "holm": words.p(each.holm) if each.holm is not None else DASH,
                "test": words(f"cell.{METHODS[each.method]}"),
                "seeds": str(each.seeds),
            }
        )
        raw.append(
            {
                **plain,
                "question": int(each.primary),
                "declared": int(each.declared),
                "p_holm": each.holm,
                **bounds("interval90", each.interval90),
                **bounds("bootstrap95", each.bootstrap),
                "method": each.method,
                "margin": each.margin,
            }
        )
    holm = ("holm",) if any(each.holm is not None for each in findings.contrasts) else ()
    keys = ("comparison", "primary", "difference", "interval", "p", *holm, "test", "seeds", "decision")
    numeric = frozenset({"difference", "interval", "p", "holm", "seeds"})
    strong = frozenset(i for i, each in enumerate(findings.contrasts) if each.primary)
    return Table(
        "contrasts",
        words("table.contrasts"),
        columns(words, *keys),
        tuple(shown),
        tuple(raw),
        strong,
        numeric,
    )


def rates(findings: Findings, words: Words) -> Table:
    """The learning-rate grid: what chose the rate of each arm."""
    shown, raw = [], []
    for point in findings.rates:
        shown.append(
            {
                "arm": point.arm,
                "rate": f"{point.rate:g}",
                "tuning_loss": words("cell.diverged") if point.diverged else words.number(point.tuning_loss, 3),
                "pass1": words.percent(point.mean),
                "chosen": "●" if point.chosen else "",
            }
        )
        raw.append(
            {
                "arm": point.arm,
                "learning_rate": point.rate,
                "tuning_loss": point.tuning_loss,
                "diverged": int(point.diverged),
                "pass1": point.mean,
                "chosen": int(point.chosen),
            }
        )
    keys = ("arm", "rate", "tuning_loss", "pass1", "chosen")
    strong = frozenset(i for i, point in enumerate(findings.rates) if point.chosen)
    numeric = frozenset({"rate", "tuning_loss", "pass1"})
    return Table("rates", words("table.rates"), columns(words, *keys), tuple(shown), tuple(raw), strong, numeric)


def _contrast_row(each: Contrast, words: Words) -> tuple[dict[str, str], dict[str, Any]]:
    a, b = sentences.arm_name(words, each.a), sentences.arm_name(words, each.b)
    shown = {
        "comparison": words("cell.minus", a=a, b=b),
        "difference": words.points(each.difference),
        "interval": words.points_interval(each.interval),
        "p": words.p(each.p),
        "decision": words(f"decision.{each.decision}", a=a, b=b),
    }
    raw = {
        "a": each.a,
        "b": each.b,
        "difference": each.difference,
        **bounds("interval95", each.interval),
        "p": each.p,
        "seeds": each.seeds,
        "problems": each.problems,
        "decision": each.decision.value,
        "owed": each.owed,
    }
    return shown, raw


def at_each_rate(findings: Findings, words: Words) -> Table:
    """The question of the study, asked at every learning rate of the grid."""
    shown, raw = [], []
    grid = list(dict.fromkeys(point.variant for point in findings.rates))
    rate_of = {point.variant: point.rate for point in findings.rates}
    compared = {a.variant: each for each in findings.at_each_rate for pair in each.pairs for a in (pair.a, pair.b)}
    for variant in grid:
        if variant in compared:
            row, plain = _contrast_row(compared[variant], words)
            shown.append({"rate": f"{rate_of[variant]:g}", **row})
            raw.append({"learning_rate": rate_of[variant], **plain})
    keys = ("rate", "comparison", "difference", "interval", "p", "decision")
    numeric = frozenset({"rate", "difference", "interval", "p"})
    title = words("table.at_each_rate")
    return Table("at_each_rate", title, columns(words, *keys), tuple(shown), tuple(raw), numeric=numeric)


def beside(findings: Findings, words: Words) -> Table:
    """The chosen checkpoints on the other benchmarks."""
    shown, raw = [], []
    for other in findings.beside:
        for result in other.results:
            shown.append(
                {
                    "benchmark": other.benchmark,
                    "arm": sentences.arm_name(words, result.arm),
                    "pass1": words("cell.owed", n=result.owed) if result.owed else words.percent(result.mean),
                    "solved": words("cell.of", solved=words.count(result.solved), n=other.problems),
                    "interval": words.share_interval(result.interval),
                }
            )
            raw.append(
                {
                    "benchmark": other.benchmark,
                    "arm": result.arm,
                    "pass1": result.mean,
                    "solved": result.solved,
                    "problems": other.problems,
                    "owed": result.owed,
                    **bounds("interval", result.interval),
                }
            )
    keys = ("benchmark", "arm", "pass1", "solved", "interval")
    return Table(
        "beside",
        words("table.beside"),
        columns(words, *keys),
        tuple(shown),
        tuple(raw),
        numeric=frozenset(keys[2:]),
    )


def beside_contrasts(findings: Findings, words: Words) -> Table:
    """The differences on the other benchmarks."""
    shown, raw = [], []
    for other in findings.beside:
        for each in other.contrasts:
            row, plain = _contrast_row(each, words)
            shown.append({"benchmark": other.benchmark, **row})
            raw.append({"benchmark": other.benchmark, **plain})
    keys = ("benchmark", "comparison", "difference", "interval", "p", "decision")
    numeric = frozenset({"difference", "interval", "p"})
    title = words("table.beside_contrasts")
    return Table("beside_contrasts", title, columns(words, *keys), tuple(shown), tuple(raw), numeric=numeric)


def pairs(findings: Findings, words: Words) -> Table:
    """Two given checkpoints at a time: what a single seed can say."""
    shown, raw = [], []
    for contrast in findings.contrasts:
        for each in contrast.pairs:
            shown.append(
                {
                    "a": sentences.short(words, each.a),
                    "b": sentences.short(words, each.b),
                    "seed": str(max(each.a.seed, each.b.seed)),
                    "difference": words.points(each.difference),
                    "interval": words.points_interval(each.interval),
                    "only_a": words.count(each.only_a),
                    "only_b": words.count(each.only_b),
                    "exact_p": words.p(each.exact_p),
                    "mid_p": words.p(each.mid_p),
                }
            )
            raw.append(
                {
                    "a": str(each.a),
                    "b": str(each.b),
                    "both": each.both,
                    "only_a": each.only_a,
                    "only_b": each.only_b,
                    "neither": each.neither,
                    "difference": each.difference,
                    **bounds("interval95", each.interval),
                    "exact_p": each.exact_p,
                    "mid_p": each.mid_p,
                    "owed": each.owed,
                }
            )
    keys = ("a", "b", "seed", "difference", "interval", "only_a", "only_b", "exact_p", "mid_p")
    return Table(
        "pairs",
        words("table.pairs"),
        columns(words, *keys),
        tuple(shown),
        tuple(raw),
        numeric=frozenset(keys[3:]),
    )


def checkpoints(findings: Findings, words: Words) -> Table:
    chosen = {adapter for result in findings.results for adapter in result.adapters}
    losses = {
        (c.training.arm, c.training.variant, c.training.seed, p.step): p.loss
        for c in findings.curves
        for p in c.validation
    }
    shown, raw = [], []
    for score in findings.scores:
        adapter = score.adapter
        loss = losses.get((*adapter.training, adapter.step))
        verdicts = ", ".join(f"{verdict} {n}" for verdict, n in sorted(score.verdicts.items(), key=lambda x: -x[1]))
        is_chosen = adapter in chosen and not adapter.is_base
        shown.append(
            {
                "arm": sentences.arm_name(words, adapter.arm) + (f" {adapter.variant}" if adapter.variant else ""),
                "seed": DASH if adapter.is_base else str(adapter.seed),
                "step": DASH if adapter.is_base else str(adapter.step),
                **_score_cells(score, words),
                "validation_loss": words.number(loss, 3) if loss is not None else DASH,
                "verdicts": verdicts,
                "chosen": "●" if is_chosen else "",
            }
        )
        raw.append(
            {
                **adapter.fields(),
                "pass1": score.rate,
                "solved": score.solved,
                "problems": score.problems,
                "samples": score.samples,
                "owed": score.owed,
                **bounds("interval", score.interval),
                "tests_passed": score.tests_passed,
                "validation_loss": loss,
                "chosen": int(is_chosen),
                **{f"pass@{k}": value for k, value in score.at_k.items()},
                "verdicts": verdicts,
            }
        )
    keys = (
        "arm",
        "seed",
        "step",
        "pass1",
        "solved",
        "interval",
        "tests_passed",
        "validation_loss",
        "verdicts",
        "chosen",
    )
    return Table(
        "checkpoints",
        words("table.checkpoints"),
        columns(words, *keys),
        tuple(shown),
        tuple(raw),
        frozenset(i for i, row in enumerate(shown) if row["chosen"]),
        frozenset(keys[2:8]),
    )


def best_of(findings: Findings, words: Words) -> Table:
    shown, raw = [], []
    for choice in findings.choices:
        found, training = choice.best_of, choice.training
        if found.checkpoints < 2 or not math.isfinite(found.measured):
            continue
        shown.append(
            {
                "arm": training.arm,
                "seed": str(training.seed),
                "k": str(found.checkpoints),
                "best_step": words("cell.step", step=choice.best.step),
                "measured": words.percent(found.measured),
                "corrected": words.percent(found.corrected),
                "flattery": words.points(found.flattery),
            }
        )
        raw.append(
            {
                "arm": training.arm,
                "variant": training.variant,
                "seed": training.seed,
                "checkpoints": found.checkpoints,
                "best_step": choice.best.step,
                "measured": found.measured,
                "corrected": found.corrected,
                "flattery": found.flattery,
            }
        )
    keys = ("arm", "seed", "k", "best_step", "measured", "corrected", "flattery")
    return Table(
        "best_of",
        words("table.best_of"),
        columns(words, *keys),
        tuple(shown),
        tuple(raw),
        numeric=frozenset(keys[2:]),
    )
