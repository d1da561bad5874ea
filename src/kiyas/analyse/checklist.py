"""What a reviewer would ask, answered from the files. Codes here; the sentences are in report/phrases.

A tick (level OK) is given for evidence only: what the files do not say is a note.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from kiyas.analyse import outliers, provenance
from kiyas.analyse.findings import Choice, Curve, LearningRatePoint, Level, Remark, Score, Training, by_weight
from kiyas.analyse.learning_rates import rate_remarks
from kiyas.analyse.load import Loaded
from kiyas.analyse.losses import unstable
from kiyas.analyse.selection import Selection
from kiyas.judge import Problem, Tier
from kiyas.judge.tolerances import with_statement
from kiyas.judge.verdicts import SHARED, WITHIN
from kiyas.runfolder.record import Kind
from kiyas.study.settings import Accept, Select, as_text
from kiyas.types import AdapterId, LogKind

FEW_VALIDATION = 50
SAME_AS_BASE = 0.95
TOKENS_DIFFER = 1.1
STEPS_DIFFER = 1.02
ENOUGH_SEEDS = 3
WARN, NOTE, OK = Level.WARNING, Level.NOTE, Level.OK


def checklist(loaded: Loaded, selected: Selection, scores: tuple[Score, ...]) -> tuple[Remark, ...]:
    """Warnings first, then notes, then what was checked and is fine."""
    choices, curves = selected.choices, selected.curves
    like_base = {score.adapter for score in scores if (score.same_as_base or 0) >= SAME_AS_BASE}
    found = [
        *_declared(loaded),
        *provenance.accepted_changes(loaded),
        *_base(scores),
        *_quantised(loaded),
        *_owed(loaded, scores),
        *_tests(loaded),
        *outliers.problem_groups(loaded),
        *_seeds(loaded, choices),
        *outliers.seeds_apart(loaded, selected),
        *_selection(loaded, selected),
        *_budget(curves, selected),
        *_tokens(loaded),
        *provenance.unknown(loaded),
        *_recipes(loaded, selected.points),
        *provenance.shared_data(loaded),
        *provenance.contamination(loaded),
        *provenance.same_answers(loaded, like_base),
        *provenance.newer(loaded),
        *_validation(loaded, curves),
        *(Remark("unstable_seeds", WARN, {"arm": a, "spread": s, "gain": g}) for a, (s, g) in unstable(curves).items()),
        *_adapters(scores, like_base),
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
        return [Remark("declaration_unknown", NOTE)] if loaded.record.study else []
    return [Remark("declared_before", OK) if kept else Remark("declaration_changed", WARN)]


def _base(scores: tuple[Score, ...]) -> list[Remark]:
    if not scores:
        return [Remark("no_verdicts", WARN)]
    base = next((score for score in scores if score.adapter.is_base), None)
    if base is None:
        return [Remark("base_missing", WARN)]
    if base.missing:
        return [Remark("base_incomplete", WARN, {"n": base.missing})]
    return [Remark("base_measured", OK)]


def _quantised(loaded: Loaded) -> list[Remark]:
    """Is the base that was trained on another one than its name says?"""
    study = loaded.record.study
    if study is None or not study.training.load_in_4bit:
        return []
    return [Remark("base_in_4bit", NOTE, {"base": Path(study.model_name_or_path).name})]


def _owed(loaded: Loaded, scores: tuple[Score, ...]) -> list[Remark]:
    found = []
    if missing := {str(score.adapter): score.missing for score in scores if score.missing}:
        found.append(Remark("owed", WARN, {"n": sum(missing.values()), "where": _some(list(missing))}))
    for label, other in loaded.secondary.items():
        if n := sum(other.missing(score.adapter) for score in scores if score.adapter in other.answers):
            found.append(Remark("owed_beside", NOTE, {"n": n, "benchmark": label}))
    judged = {score.adapter.arm for score in scores}
    if scores and (silent := [arm for arm in loaded.arms if arm not in judged]):
        found.append(Remark("arms_not_judged", WARN, {"arms": ", ".join(silent)}))
    return found or ([Remark("nothing_missing", OK, {"problems": len(loaded.problems)})] if scores else [])


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
        if unsure := _other_tests(loaded):
            found.append(Remark("tests_not_confirmed", WARN, {**values, "n": unsure}))
        elif share is not None and share > 0.9:
            found.append(Remark("sample_tests_only", WARN, values))
        else:
            found.append(
                Remark("tests", OK, values) if share is not None else Remark("tests_maybe_samples", NOTE, values)
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


def _other_tests(loaded: Loaded) -> int:
    """Recorded verdicts that do not say that they are about all tests of their problem."""
    return sum(
        each.recorded and not each.missing and each.total != len(loaded.problems[problem].tests)
        for answers in loaded.answers.values()
        for problem, judged in answers.items()
        if loaded.problems[problem].test_code is None
        for each in judged
    )


def _seeds(loaded: Loaded, choices: tuple[Choice, ...]) -> list[Remark]:
    seeds = {arm: {c.training.seed for c in choices if c.training.arm == arm} for arm in loaded.arms}
    known = [each for each in seeds.values() if each]
    if not known:
        return []
    found, least, common = [], min(map(len, known)), set.intersection(*known)
    if least == 1:
        single = [arm for arm, each in seeds.items() if len(each) == 1]
        found.append(Remark("one_seed", WARN, {"arms": ", ".join(single)}))
    elif least < ENOUGH_SEEDS:
        found.append(Remark("few_seeds", WARN, {"seeds": least}))
    elif len(common) >= ENOUGH_SEEDS:
        found.append(Remark("seeds", OK, {"seeds": len(common)}))
    if any(each != common for each in known):
        listed = "; ".join(f"{arm}: {', '.join(map(str, sorted(each)))}" for arm, each in seeds.items())
        found.append(Remark("unequal_seeds", WARN, {"seeds": listed, "n": len(common)}))
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


def _selection(loaded: Loaded, selected: Selection) -> list[Remark]:
    """How the checkpoints that are compared were chosen, here or before they came here."""
    select, record = loaded.record.compare.select, loaded.record
    several = {training for training, adapters in selected.judged.items() if len(adapters) > 1}
    elsewhere = [
        arm for arm in loaded.arms if record.study is None or (arm in record.arms and record.arms[arm].is_given)
    ]
    single = [arm for arm in elsewhere if any(t.arm == arm and t not in several for t in selected.judged)]
    found = [Remark("choice_unknown", NOTE, {"arms": ", ".join(single)})] if single else []
    if not several:
        return found
    if select is Select.PRIMARY:
        return [*found, Remark("selected_on_test", WARN, {"k": max(len(each) for each in selected.judged.values())})]
    if record.study is None:
        found.append(Remark("selection_not_declared", NOTE))
    if select is Select.VALIDATION:
        found += _without_loss(selected)
    # A rule that was changed, or may have been, was perhaps chosen by the scores.
    if not found and record.declared_before:
        found.append(Remark("selection_clean", OK, {"select": select}))
    return found


def _without_loss(selected: Selection) -> list[Remark]:
    """Checkpoints that the rule `validation` could not choose, since no loss was logged at their step."""
    logged = {curve.training: {point.step for point in curve.validation} for curve in selected.curves}
    without = [
        str(adapter)
        for training, adapters in selected.judged.items()
        for adapter in adapters
        if adapter.step not in logged.get(training, set())  # a training may have no log
    ]
    if any(choice.lowest_validation is None for choice in selected.choices):
        return [Remark("no_validation_at_checkpoints", WARN)]
    values = {"n": len(without), "ids": _some(without)}
    return [Remark("validation_at_some", NOTE, values)] if without else []


def _budget(curves: tuple[Curve, ...], selected: Selection) -> list[Remark]:
    """Equal numbers of steps: only where every training has a log, and no checkpoint is beyond its end."""
    logged = {curve.training: steps for curve in curves if (steps := _logged(curve))}
    judged = {training: [adapter.step for adapter in adapters] for training, adapters in selected.judged.items()}
    beyond = {
        training: (max(steps), logged[training][-1])
        for training, steps in judged.items()
        if training in logged and max(steps) - logged[training][-1] >= _interval(logged[training])
    }
    found = []
    if beyond:
        listed = "; ".join(f"{_name(training)}: {last} > {end}" for training, (last, end) in beyond.items())
        found.append(Remark("judged_beyond_log", WARN, {"where": listed}))
    last = {t: max(*logged.get(t, [0]), *judged.get(t, [0])) for t in dict.fromkeys([*logged, *judged])}
    if len({training.arm for training in last}) > 1:
        values, most = {"steps": _by_arm(last)}, max(last.values())
        # A training ended before its next log row was due. Of one without a log, or with another's, no end is known.
        ends = {t: last[t] + _interval(logged[t]) if t in logged and t not in beyond else math.inf for t in last}
        short = [training for training, steps in last.items() if most > STEPS_DIFFER * steps]
        open_ended = [training for training in last if ends[training] == math.inf or training in short]
        if any(ends[training] <= most for training in short):
            found.append(Remark("unequal_steps", WARN, values))
        elif open_ended:
            arms = ", ".join(dict.fromkeys(training.arm for training in open_ended))
            found.append(Remark("steps_unknown", WARN if short else NOTE, {**values, "arms": arms}))
        else:
            found.append(Remark("equal_steps", OK, values))
    checkpoints: dict[str, set[int]] = {}
    for training, steps in judged.items():
        checkpoints.setdefault(training.arm, set()).update(steps)
    if len({len(steps) for steps in checkpoints.values()}) > 1:
        listed = ", ".join(f"{arm} {len(steps)}" for arm, steps in checkpoints.items())
        found.append(Remark("unequal_checkpoints", NOTE, {"counts": listed}))
    return found


def _logged(curve: Curve) -> list[int]:
    return sorted({point.step for points in (curve.train, curve.validation) for point in points})


def _interval(steps: list[int]) -> float:
    """How often a training was logged; of a single row, not known: any later step is beyond it."""
    return statistics.median([b - a for a, b in itertools.pairwise(steps)] or [1])


def _name(training: Training) -> str:
    return "/".join(filter(None, (training.arm, training.variant, f"seed-{training.seed}")))


def _by_arm(last: dict[Training, int]) -> str:
    """deep 300, diverse 280–300"""
    of_arm: dict[str, list[int]] = {}
    for training, steps in last.items():
        of_arm.setdefault(training.arm, []).append(steps)
    return ", ".join(f"{arm} {'–'.join(map(str, sorted({min(n), max(n)})))}" for arm, n in of_arm.items())


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


def _adapters(scores: tuple[Score, ...], like_base: set[AdapterId]) -> list[Remark]:
    """Was every adapter applied? Asked where the base was judged."""
    found = []
    if like_base:
        found.append(Remark("adapter_like_base", WARN, {"where": ", ".join(map(str, sorted(like_base)))}))
    trained = [score for score in scores if not score.adapter.is_base]
    silent = [str(score.adapter) for score in trained if score.same_as_base is None]
    if silent and len(trained) < len(scores):
        found.append(Remark("adapters_unknown", NOTE, {"n": len(silent), "ids": _some(silent)}))
    return found or ([Remark("adapters_differ", OK)] if trained and not silent else [])


def _judge(loaded: Loaded) -> list[Remark]:
    every = [each for answers in loaded.answers.values() for judged in answers.values() for each in judged]
    recorded = sum(each.recorded for each in every)
    if recorded:
        return [Remark("recorded_verdicts", NOTE, {"n": recorded, "all": len(every)})]
    every = [each for each in every if not each.missing]
    tiers = Counter(each.tier for each in every if each.tier)
    if len(tiers) > 1:
        return [Remark("mixed_isolation", NOTE, {"tiers": ", ".join(f"{t} {n}" for t, n in sorted(tiers.items()))})]
    if not every:
        return []
    recorded_tier = loaded.record.judge.tier if loaded.record.judge else None
    # What the verdicts themselves say comes first: the record can be edited, or be of another try.
    tier = next(iter(tiers), None) or recorded_tier
    if tier is None or 0 < tiers.total() < len(every):
        return [Remark("isolation_unknown", NOTE)]
    return [Remark("weak_isolation", NOTE)] if tier == Tier.WEAK else [Remark("judge_tier", OK, {"tier": tier})]


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
