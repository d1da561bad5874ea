"""What a reviewer would ask, answered from the files. Codes here; the sentences are in report/phrases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from kiyas.analyse.findings import Choice, Curve, LearningRatePoint, Level, Remark, Score, by_weight
from kiyas.analyse.learning_rates import rate_remarks
from kiyas.analyse.load import Loaded
from kiyas.analyse.losses import unstable
from kiyas.analyse.selection import Selection
from kiyas.judge import Problem, Tier
from kiyas.judge.tolerances import with_statement
from kiyas.judge.verdicts import SHARED, WITHIN
from kiyas.runfolder.record import Kind
from kiyas.study.settings import Accept, Select, as_text, day_of
from kiyas.types import AdapterId, LogKind

FEW_VALIDATION = 50
SAME_AS_BASE = 0.95
TOKENS_DIFFER = 1.1
WARN, NOTE, OK = Level.WARNING, Level.NOTE, Level.OK


def checklist(loaded: Loaded, selected: Selection, scores: tuple[Score, ...]) -> tuple[Remark, ...]:
    """Warnings first, then notes, then what was checked and is fine."""
    choices, curves = selected.choices, selected.curves
    found = [
        *_declared(loaded),
        *_base(scores),
        *_quantised(loaded),
        *_owed(scores),
        *_tests(loaded),
        *_seeds(loaded, choices),
        *_selection(loaded, choices),
        *_budget(curves, scores),
        *_tokens(loaded),
        *_recipes(loaded, selected.points),
        *_contamination(loaded),
        *_newer(loaded),
        *_validation(loaded, curves),
        *(Remark("unstable_seeds", WARN, {"arm": a, "spread": s, "gain": g}) for a, (s, g) in unstable(curves).items()),
        *_adapters(scores),
        *_judge(loaded),
        *_tolerance(loaded),
        *_how_run(loaded),
        *_stops(loaded),
    ]
    return by_weight(found)


def _declared(loaded: Loaded) -> list[Remark]:
    """Was `compare` changed after the run started? Its digest was stamped into the run then."""
    kept = loaded.record.declared_before
    if kept is None:
        return []
    return [Remark("declared_before", OK) if kept else Remark("declaration_changed", WARN)]


def _base(scores: tuple[Score, ...]) -> list[Remark]:
    if not scores:
        return [Remark("no_verdicts", WARN)]
    measured = any(score.adapter.is_base for score in scores)
    return [Remark("base_measured", OK) if measured else Remark("base_missing", WARN)]


def _quantised(loaded: Loaded) -> list[Remark]:
    """Is the base that was trained on another one than its name says?"""
    study = loaded.record.study
    if study is None or not study.training.load_in_4bit:
        return []
    return [Remark("base_in_4bit", NOTE, {"base": Path(study.model_name_or_path).name})]


def _owed(scores: tuple[Score, ...]) -> list[Remark]:
    if missing := {str(score.adapter): score.missing for score in scores if score.missing}:
        return [Remark("owed", WARN, {"n": sum(missing.values()), "where": ", ".join(missing)})]
    return [Remark("nothing_missing", OK)] if scores else []


def samples_only(problems: Iterable[Problem]) -> float | None:
    """Share of tests whose input and output both are in the statement; None without tests or statements."""
    shown = total = 0
    for problem in problems:
        statement = "".join(problem.statement.split())
        for test in problem.tests:
            given, wanted = ("".join(text.split()) for text in (test.input, test.output))
            if statement:
                total += 1
                shown += given in statement and wanted in statement
    return shown / total if total else None


def _tests(loaded: Loaded) -> list[Remark]:
    counts = [len(problem.tests) for problem in loaded.problems.values() if problem.test_code is None]
    P = len(loaded.problems)
    found = []
    if P and any(counts):
        share = samples_only(loaded.problems.values())
        values = {"tests": sum(counts), "problems": P, "share": share}
        found.append(
            Remark("sample_tests_only", WARN, values) if share and share > 0.9 else Remark("tests", OK, values)
        )
    elif P and counts:
        totals = {
            problem: each.total
            for answers in loaded.answers.values()
            for problem, judged in answers.items()
            for each in judged
            if each.total
        }
        found.append(Remark("tests_unknown", WARN, {"tests": sum(totals.values()), "problems": P}))
    if 0 < P < 100:
        found.append(Remark("few_problems", NOTE, {"problems": P}))
    return found


def _seeds(loaded: Loaded, choices: tuple[Choice, ...]) -> list[Remark]:
    seeds = {arm: {c.training.seed for c in choices if c.training.arm == arm} for arm in loaded.arms}
    counts = {len(each) for each in seeds.values() if each}
    if not counts:
        return []
    found = []
    if min(counts) == 1:
        found.append(Remark("one_seed", WARN))
    elif min(counts) < 3:
        found.append(Remark("few_seeds", WARN, {"seeds": min(counts)}))
    else:
        found.append(Remark("seeds", OK, {"seeds": min(counts)}))
    if len(counts) > 1:
        found.append(Remark("unequal_seeds", WARN, {"seeds": ", ".join(f"{a} {len(n)}" for a, n in seeds.items())}))
    if loaded.record.study is not None:
        declared = set(loaded.record.study.seed_list)
        missing = {arm: sorted(declared - of) for arm, of in seeds.items() if of and declared - of}
        if missing:
            listed = "; ".join(f"{arm}: {', '.join(map(str, each))}" for arm, each in missing.items())
            found.append(Remark("seeds_missing", WARN, {"seeds": listed}))
    steps = {c.training.arm: {x.chosen.step for x in choices if x.training.arm == c.training.arm} for c in choices}
    if loaded.record.compare.select is Select.LAST and (
        uneven := [arm for arm, each in steps.items() if len(each) > 1]
    ):
        found.append(Remark("uneven_last_step", WARN, {"arms": ", ".join(uneven)}))
    return found


def _recipes(loaded: Loaded, points: tuple[LearningRatePoint, ...]) -> list[Remark]:
    """Hyper-parameters that differ between arms, and how the learning rate was chosen."""
    found = []
    own = {
        name: {
            f"{section}.{key}": value
            for section, own in (("training", arm.training), ("peft", arm.peft))
            for key, value in (own.model_dump(mode="json", exclude_none=True) if own else {}).items()
        }
        for name, arm in loaded.record.arms.items()
    }
    if told := "; ".join(
        f"{arm}: {', '.join(f'{key} {as_text(value)}' for key, value in differs.items())}"
        for arm, differs in own.items()
        if differs
    ):
        found.append(Remark("recipes_differ", WARN, {"differences": told}))
    given = [name for name, arm in loaded.record.arms.items() if arm.is_given]
    if given and len(own) > 1:
        found.append(Remark("recipe_unknown", WARN, {"arms": ", ".join(given)}))
    if whole := [name for name, arm in loaded.record.arms.items() if arm.model]:
        found.append(Remark("base_not_shared", WARN, {"arms": ", ".join(whole)}))
    if Accept.UNEQUAL_BUDGETS in loaded.record.compare.accept:
        found.append(Remark("unequal_budgets_accepted", WARN))
    met = {adapter.variant for adapter in loaded.answers if not adapter.is_base}
    if not points and len(met) > 1:
        found.append(Remark("variants", NOTE))
    if not points and loaded.record.kind is Kind.RUN and len(own) > 1:
        found.append(Remark("rate_not_asked", NOTE))
    found += rate_remarks(loaded, points)
    return found


def _contamination(loaded: Loaded) -> list[Remark]:
    if loaded.flagged is None:
        return []
    if not loaded.flagged:
        return [Remark("not_contaminated", OK, {"problems": len(loaded.problems)})]
    return [
        Remark("contaminated", WARN, {"arm": arm, "n": len(ids), "some": ", ".join(ids[:5]) + " …" * (len(ids) > 5)})
        for arm, ids in loaded.flagged.items()
    ]


def _newer(loaded: Loaded) -> list[Remark]:
    """Are the problems newer than what the data was made from? Asked only where problems have dates."""
    dates = [problem.date[:10] for problem in loaded.problems.values() if problem.date]
    if not dates or loaded.record.study is None:
        return []
    told = {name: arm.newest for name, arm in loaded.record.arms.items() if arm.dataset_name}
    if silent := [name for name, newest in told.items() if newest is None]:
        return [Remark("newest_unknown", NOTE, {"arms": ", ".join(silent)})]
    found = []
    for name, newest in told.items():
        last = day_of(newest, True)
        older = sum(day <= str(last) for day in dates)
        if older:
            found.append(
                Remark("older_problems", WARN, {"arm": name, "n": older, "of": len(dates), "newest": str(newest)})
            )
    return found or [Remark("newer_problems", OK, {"n": len(dates)})]


def _selection(loaded: Loaded, choices: tuple[Choice, ...]) -> list[Remark]:
    select, declared = loaded.record.compare.select, loaded.record.study is not None
    several = any(choice.best_of.checkpoints > 1 for choice in choices)
    if not several:
        return []
    if select is Select.PRIMARY:
        return [Remark("selected_on_test", WARN, {"k": max(c.best_of.checkpoints for c in choices)})]
    found = [] if declared else [Remark("selection_not_declared", NOTE)]
    if select is Select.VALIDATION and any(choice.lowest_validation is None for choice in choices):
        found.append(Remark("no_validation_at_checkpoints", WARN))
    return found or [Remark("selection_clean", OK, {"select": select})]


def _budget(curves: tuple[Curve, ...], scores: tuple[Score, ...]) -> list[Remark]:
    """Equal budgets: the last step that was logged or judged, per arm."""
    last: dict[str, int] = {}
    for curve in curves:
        for point in curve.train[-1:]:
            last[curve.training.arm] = max(last.get(curve.training.arm, 0), point.step)
    judged: dict[str, set[int]] = {}
    for score in scores:
        if not score.adapter.is_base:
            judged.setdefault(score.adapter.arm, set()).add(score.adapter.step)
    # An arm without a log is known by what was judged.
    last |= {arm: max(steps) for arm, steps in judged.items() if arm not in last}
    found = []
    if len(last) > 1:
        unequal = max(last.values()) / max(1, min(last.values())) > 1.02
        values = {"steps": ", ".join(f"{arm} {step}" for arm, step in last.items())}
        found.append(Remark("unequal_steps", WARN, values) if unequal else Remark("equal_steps", OK, values))
    if len({len(steps) for steps in judged.values()}) > 1:
        listed = ", ".join(f"{arm} {len(steps)}" for arm, steps in judged.items())
        found.append(Remark("unequal_checkpoints", NOTE, {"counts": listed}))
    return found


def _tokens(loaded: Loaded) -> list[Remark]:
    """Completion tokens that the longest training of each arm has learned from, as logged."""
    seen: dict[str, int] = {}
    for row in loaded.log:
        if row.kind is LogKind.TRAIN and row.tokens is not None:
            seen[row.adapter.arm] = max(seen.get(row.adapter.arm, 0), row.tokens)
    if len(seen) < 2 or max(seen.values()) <= TOKENS_DIFFER * min(seen.values()):
        return []
    return [Remark("unequal_tokens", NOTE, {"tokens": ", ".join(f"{arm} {count}" for arm, count in seen.items())})]


def _validation(loaded: Loaded, curves: tuple[Curve, ...]) -> list[Remark]:
    sizes = {arm: counts["validation"] for arm, counts in loaded.arm_counts.items()}
    small = {arm: size for arm, size in sizes.items() if 0 < size < FEW_VALIDATION}
    found = []
    if small:
        found.append(Remark("small_validation", WARN, {"rows": ", ".join(f"{a} {n}" for a, n in small.items())}))
    if curves and not any(curve.validation for curve in curves):
        found.append(Remark("no_validation", WARN))
    if below := dict.fromkeys(curve.training.arm for curve in curves if curve.reading and curve.reading.far_below):
        found.append(Remark("validation_far_below", WARN, {"arms": ", ".join(below)}))
    missing = [arm for arm in loaded.arms if arm not in {curve.training.arm for curve in curves}]
    if missing:
        found.append(Remark("no_log", NOTE, {"arms": ", ".join(missing)}))
    return found


def _adapters(scores: tuple[Score, ...]) -> list[Remark]:
    same: list[AdapterId] = [s.adapter for s in scores if (s.same_as_base or 0) >= SAME_AS_BASE]
    if same:
        return [Remark("adapter_like_base", WARN, {"where": ", ".join(map(str, same))})]
    compared = any(score.same_as_base is not None for score in scores)
    return [Remark("adapters_differ", OK)] if compared else []


def _judge(loaded: Loaded) -> list[Remark]:
    every = [each for answers in loaded.answers.values() for judged in answers.values() for each in judged]
    recorded = sum(each.recorded for each in every)
    if recorded:
        return [Remark("recorded_verdicts", NOTE, {"n": recorded, "all": len(every)})]
    tiers = Counter(each.tier for each in every if each.tier)
    if len(tiers) > 1:
        return [Remark("mixed_isolation", NOTE, {"tiers": ", ".join(f"{t} {n}" for t, n in sorted(tiers.items()))})]
    tier = loaded.record.judge.tier if loaded.record.judge else None
    if tier is Tier.WEAK:
        return [Remark("weak_isolation", NOTE)]
    return [Remark("judge_tier", OK, {"tier": tier})] if tier else []


def _tolerance(loaded: Loaded) -> list[Remark]:
    """Problems that are judged within the error of their statement, and accepted answers that depend on it."""
    study = loaded.record.study
    if study is None or not study.judge.allows_stated_errors or not (ids := with_statement(loaded.problems.values())):
        return []
    every = [each for answers in loaded.answers.values() for judged in answers.values() for each in judged]
    within = [each for each in every if each.solved and any(flag.startswith(WITHIN) for flag in each.flags)]
    values = {"n": len(ids), "all": len(loaded.problems), "ids": _some(ids), "within": len(within)}
    return [Remark("stated_tolerance", NOTE if within else OK, values)]


def _how_run(loaded: Loaded) -> list[Remark]:
    """Passes that a program could have forged, and programs of which not every test was run."""
    every = [each for answers in loaded.answers.values() for judged in answers.values() for each in judged]
    shared = {each.problem_id for each in every if SHARED in each.flags}
    stopped = [each for each in every if each.not_run]
    found = []
    if shared:
        values = {"n": len(shared), "all": len(loaded.problems), "ids": _some(sorted(shared))}
        found.append(Remark("shared_process", NOTE, values))
    if stopped:
        values = {"n": len(stopped), "all": len(every), "tests": sum(each.not_run for each in stopped)}
        found.append(Remark("stopped_programs", OK, values))
    return found


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")


def _stops(loaded: Loaded) -> list[Remark]:
    cut = {str(adapter): stops["length"] / stops.total() for adapter, stops in loaded.stops.items()}
    worst = max(cut.items(), key=lambda item: item[1], default=None)
    if worst and worst[1] > 0.05:
        return [Remark("answers_cut", WARN, {"where": worst[0], "share": worst[1]})]
    return []
