"""Findings → sentences. Words follow numbers: every "more" here comes from a `Decision` of `analyse`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kiyas.analyse.decisions import informative_needed
from kiyas.analyse.findings import Contrast, Curve, DataFacts, Decision, Drawn, Findings, Level, Remark
from kiyas.report import metric
from kiyas.report.language import DASH, Language
from kiyas.report.numerical_floor import numerical_floor
from kiyas.runfolder.record import Kind
from kiyas.stats.inference import Interval
from kiyas.types import BASE_ARM, AdapterId

ENOUGH_DRAWS = 3


@dataclass(frozen=True)
class Conclusion:
    """`badge`: the decision in few words; `sentence`: what may be said; `scope`: about what, and what changes its
    reading; `decide`: what would decide it; `statistics`: what supports it."""

    decision: str
    badge: str
    sentence: str
    statistics: tuple[str, ...] = ()
    decide: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()

    @property
    def more(self) -> tuple[str, ...]:
        """All that follows the sentence."""
        return (*self.decide, *self.scope, *self.statistics)


def checkpoint(words: Language, adapter: AdapterId) -> str:
    return words("cell.base") if adapter.is_base else words("cell.step", step=adapter.step)


def trained(words: Language, adapter: AdapterId) -> str:
    """The arm of a checkpoint, with its learning rate where there is a grid."""
    return words("cell.base") if adapter.is_base else f"{adapter.arm} {adapter.variant}".strip()


def short(words: Language, adapter: AdapterId, *, seed: bool = False) -> str:
    """A checkpoint in few letters: "deep 300", with its seed where that distinguishes them."""
    if adapter.is_base:
        return words("cell.base")
    return f"{trained(words, adapter)} {adapter.step}" + (f" / {adapter.seed}" if seed else "")


def arm_name(words: Language, arm: str) -> str:
    return words("cell.base") if arm == "base" else arm


def method(words: Language, name: str) -> str:
    """By what an interval and a p-value were found."""
    return words(f"cell.method_{name.replace('-', '_')}")


def points_interval(words: Language, interval: Interval | None) -> str:
    """The level is said where several declared contrasts share the chance of a false claim."""
    said = words.points_interval(interval)
    adjusted = interval is not None and not math.isclose(interval.level, 0.95)
    return f"{said}, {words.level(interval)}" if adjusted and interval is not None else said


def behaviour_lead(findings: Findings, words: Language) -> str:
    left_out = findings.behaviour.left_out
    said = words("heading.behaviour_lead")
    if findings.k > 1:
        said += " " + words("metric.single", metric=findings.metric)
    return f"{said} {words('behaviour.left_out', n=left_out)}" if left_out else said


def changes(findings: Findings, words: Language) -> str:
    """What is learned and lost, in one sentence: from the base, or from the first checkpoint where it is unknown."""
    found = findings.behaviour.lost_and_gained
    start = found[0].start if found else None
    listed = [
        words("first.change", arm=each.arm, gained=words.number(each.gained), lost=words.number(each.lost))
        for each in found
        if each.start == start
    ]
    return words(f"first.changes_{start}", listed="; ".join(listed)) if listed else words("first.changes_unknown")


def data(findings: Findings, words: Language) -> str:
    """What about the training data bears on the answer: rows that arms share, benchmark problems in them, copies."""

    def counts(of: Callable[[DataFacts], int | None]) -> str:
        found = [(each.arm, of(each)) for each in findings.data]
        return ", ".join(f"{arm} {words.integer(n)}" for arm, n in found if n is not None) or DASH

    said = []
    if findings.shared_rows:
        rows, problems = (max(getattr(each, key) for each in findings.shared_rows) for key in ("a_shared", "problems"))
        said.append(words("first.shared", n=words.integer(rows), problems=words.integer(problems)))
    said.append(words("first.contaminated", listed=counts(lambda each: each.contaminated)))
    said.append(words("first.copies", listed=counts(lambda each: each.near_duplicates)))
    return " ".join(said)


def ways_to_fail(findings: Findings, words: Language) -> str:
    """How answers fail most, in one sentence."""
    listed = []
    for each in findings.behaviour.outcomes:
        if each.arm in (*findings.wanted, *findings.arms) and any(each.failures.values()):
            failure, n = max(each.failures.items(), key=lambda counted: counted[1])
            share = words.percent(n / each.answers)
            listed.append(
                words("first.fails", arm=arm_name(words, each.arm), failure=words(f"failure.{failure}"), share=share)
            )
    return words("first.ways_to_fail", listed="; ".join(listed)) if listed else words("first.ways_unknown")


def not_known(findings: Findings, words: Language) -> list[str]:
    """What the behaviour section cannot say about this run."""
    found, said = findings.behaviour, []
    if findings.results and not found.diversity:
        said.append(words("behaviour.no_diversity"))
    if found.no_data:
        said.append(words("behaviour.no_data", arms=", ".join(found.no_data)))
    return said


def conclusion(findings: Findings, words: Language) -> Conclusion:
    """The sentence about the question of the study."""
    found = findings.primary
    if found is None:
        return Conclusion("none", words("decision.none"), _nothing(findings, words))
    a, b = arm_name(words, found.a), arm_name(words, found.b)
    badge = metric.badge(words, findings.metric, words(f"decision.{found.decision}", a=a, b=b))
    if found.decision is Decision.MISSING:
        what = words("conclusion.owed_what", a=a, b=b)
        return Conclusion("owed", badge, words("conclusion.missing", n=found.missing, what=what))
    changed = any(each.code == "declaration_changed" for each in findings.remarks)
    if findings.select == "primary" or changed:
        badge = words("decision.exploratory", badge=badge)
    statistics, scope = [_test(found, words, a, b)], []
    if found.holm is not None:
        # Findings of an older version do not say how many there were.
        family = found.family or sum(each.holm is not None for each in findings.contrasts)
        level, key = words.level(found.interval), "holm" if found.exact_p is None else "holm_mid"
        statistics.append(words(f"conclusion.{key}", n=family, p=words.p(found.holm), level=level))
    statistics += _assumed(found, words)
    clean = findings.uncontaminated
    apart = found.decision is Decision.CONTAMINATED
    if clean is not None and not apart:
        n, values = found.problems - clean.problems, _difference(clean, words)
        scope.append(words("conclusion.uncontaminated", n=n, p=words.p(clean.p), **values))
    statistics += [
        words("conclusion.aa_control", arm=each.arm, n=each.pairs, largest=words.points(each.largest, signed=False))
        for each in findings.aa_control
        if each.arm in (found.a, found.b)
    ]
    statistics += numerical_floor(findings, words)
    statistics += _best_instead(findings, words)
    about = "scope_data" if found.method == "two-way" else "scope_pair"
    if about == "scope_data" and findings.kind == Kind.IMPORT:
        about = "scope_unknown"
    scope.append(words(f"conclusion.{about}", them=_them(found, words)))
    scope += [_draws(each, words) for each in findings.drawn if each.arm in (found.a, found.b)]
    if findings.select == "primary":
        scope.append(words("conclusion.exploratory"))
    said = _apart(found, clean, words) if apart else sentence(found, words)
    said = metric.sentence(words, findings.metric, said)
    return Conclusion(found.decision.value, badge, said, tuple(statistics), tuple(needed(found, words)), tuple(scope))


def _difference(found: Contrast, words: Language) -> dict[str, str]:
    """A difference and its interval, in words."""
    return {
        "difference": words.points(found.difference),
        "interval": words.points_interval(found.interval),
        "level": words.level(found.interval),
    }


def _apart(found: Contrast, clean: Contrast | None, words: Language) -> str:
    """With and without contaminated problems, the numbers say different things; or there are no others."""
    a, b = arm_name(words, found.a), arm_name(words, found.b)
    if clean is None:
        return words("conclusion.contaminated_whole", a=a, b=b, n=found.problems, **_difference(found, words))
    without = {f"{key}_without": value for key, value in _difference(clean, words).items()}
    n = found.problems - clean.problems
    return words("conclusion.undecided_apart", a=a, b=b, n=n, **_difference(found, words), **without)


def _draws(drawn: Drawn, words: Language) -> str:
    """A claim about a way of making data needs several draws; says whether there were."""
    key = "scope_draws" if drawn.draws >= ENOUGH_DRAWS else "few_draws"
    return words(f"conclusion.{key}", arm=drawn.arm, source=drawn.source, draws=drawn.draws)


def _best_instead(findings: Findings, words: Language) -> list[str]:
    """What the usual choice, the best on the benchmark, would have shown where no rule was declared."""
    if findings.select_declared or all(choice.best == choice.chosen for choice in findings.choices):
        return []
    listed, seeds = [], len({choice.training.seed for choice in findings.choices}) > 1
    for choice in findings.choices:
        score, left_out = findings.score(choice.best), findings.left_out(choice)
        if score is None or score.missing:
            listed.append(words("conclusion.best_unknown", arm=trained(words, choice.best)))
            continue
        solved = words("cell.of", solved=words.count(score.solved), n=score.problems)
        best = f"{short(words, choice.best, seed=seeds)}: {solved}"
        names = ", ".join(short(words, each.adapter, seed=seeds) for each in left_out)
        listed.append(words("conclusion.best_left_out", best=best, left_out=names) if left_out else best)
    return [words("conclusion.best_instead", listed=", ".join(listed))] if listed else []


def _nothing(findings: Findings, words: Language) -> str:
    if not findings.scores:
        return words("conclusion.no_verdicts")
    judged = {result.arm for result in findings.results}
    missing = [arm for arm in findings.wanted if arm not in judged]
    if len(findings.wanted) != 2:
        return words("conclusion.only_base")
    if missing == ["base"] and len(judged) == 1:
        return words("conclusion.one_arm")
    a, b = (arm_name(words, arm) for arm in findings.wanted)
    return words("conclusion.not_judged", a=a, b=b, missing=", ".join(arm_name(words, arm) for arm in missing))


def sentence(found: Contrast, words: Language) -> str:
    """One contrast in one sentence."""
    if found.decision is Decision.LESS:
        found = _other_way(found)
    kind = "data" if found.method == "two-way" else "pair"
    pair, key = found.pairs[0], f"{found.decision}_{kind}"
    if found.decision is Decision.DEPENDS:
        key = "depends_choice" if found.at_one_rate is False else "depends"
        key = key if found.rate_chosen else "depends_unchosen"
    elif key == "more_data" and BASE_ARM in (found.a, found.b):
        key = "more_base" if found.a == BASE_ARM else "less_base"
    return words(
        f"conclusion.{key}",
        them=_them(found, words),
        a=arm_name(words, found.a),
        b=arm_name(words, found.b),
        a_step=_step(words, pair.a),
        b_step=_step(words, pair.b),
        a_solved=words.count(pair.both + pair.only_a),
        b_solved=words.count(pair.both + pair.only_b),
        n=found.problems,
        seeds=found.seeds,
        **_difference(found, words),
        interval90=words.points_interval(found.interval90),
        level90=words.level(found.interval90),
        margin=words.points(found.margin, signed=False),
    ).replace(" ()", "")


def _them(found: Contrast, words: Language) -> str:
    """Two single models."""
    return words(f"conclusion.{'base_and_adapter' if BASE_ARM in (found.a, found.b) else 'two_adapters'}")


def _other_way(found: Contrast) -> Contrast:
    """Arm a against arm b, of the first pair: the winner is always the subject of the sentence."""
    pair = found.pairs[0]
    return replace(
        found,
        a=found.b,
        b=found.a,
        difference=-found.difference,
        interval=-found.interval,
        decision=Decision.MORE,
        pairs=(replace(pair, a=pair.b, b=pair.a, only_a=pair.only_b, only_b=pair.only_a),),
    )


def p_value(words: Language, p: float | None, exact: float | None) -> str:
    """A p-value; a mid-p one never without the exact one, which is larger."""
    return words.p(p) if exact is None else words("cell.p_both", mid=words.p(p), exact=words.p(exact))


def _step(words: Language, adapter: AdapterId) -> str:
    """ "base (base)" reads badly: the base has no step."""
    return "" if adapter.is_base else checkpoint(words, adapter)


def _test(found: Contrast, words: Language, a: str, b: str) -> str:
    if found.method == "two-way":
        return words("conclusion.test_data", p=words.p(found.p), bootstrap=words.points_interval(found.bootstrap))
    pair = found.pairs[0]
    if pair.exact_p is None:
        return words(
            "conclusion.test_pair_groups" if found.groups else "conclusion.test_pair_samples", mid=words.p(pair.mid_p)
        )
    return words(
        "conclusion.test_pair",
        a=a,
        b=b,
        only_a=words.count(pair.only_a),
        only_b=words.count(pair.only_b),
        exact=words.p(pair.exact_p),
        mid=words.p(pair.mid_p),
    )


def needed(found: Contrast, words: Language) -> list[str]:
    """What would decide an undecided contrast."""
    need = found.needed
    if found.decision is Decision.UNDECIDED and found.informative == 0:
        return [words("conclusion.nothing_informative", n=found.problems)]
    if need is None:
        return []
    difference = words.points(need.difference, signed=False)
    said = []
    if found.method == "two-way":
        designs = (
            ("seeds", need.seeds, found.problems, need.seeds_hours),
            ("problems", found.seeds, need.problems, need.problems_hours),
            ("both", *(need.both or (None, None)), need.both_hours),
        )
        options = [
            words(f"conclusion.needed_{what}_option", seeds=seeds, problems=problems) + _hours(hours, words)
            for what, seeds, problems, hours in designs
            if seeds is not None and problems is not None
        ]
        listed = f" {words('conclusion.or')} ".join(options) or words("conclusion.needed_no_option")
        said.append(words("conclusion.needed_design", difference=difference, options=listed))
    elif need.problems is not None:
        time = _hours(need.problems_hours, words)
        said.append(words("conclusion.needed_problems", difference=difference, problems=need.problems, time=time))
    if need.now_sees is not None:
        key = "now_sees" if need.now_sees < 1 else "now_sees_nothing"
        said.append(words(f"conclusion.{key}", points=words.points(need.now_sees, signed=False)))
    return said + _few_informative(found, words)


def _assumed(found: Contrast, words: Language) -> list[str]:
    """The spread of seeds that `needed` counts on."""
    need = found.needed
    if found.method != "two-way" or need is None or need.seed_sd is None:
        return []
    if need.seeds is None and need.problems is None and not need.both:
        return []
    sd, most = (words.points(each, signed=False) for each in (need.seed_sd, need.seed_sd_most))
    key = "needed_seed_sd" if need.seed_sd_most is None else "needed_seed_sds"
    return [words(f"conclusion.{key}", sd=sd, most=most, seeds=found.seeds)]


def against_base(findings: Findings, words: Language) -> str:
    """What the compared arms do beside the base; "" where that is the question itself or not known."""
    if not findings.base_measured or BASE_ARM in findings.wanted:
        return ""
    listed = []
    for each in findings.contrasts:
        if each.a == BASE_ARM and each.b in findings.wanted and math.isfinite(each.difference):
            limits = points_interval(words, each.interval)
            listed.append(
                words("first.than_base", arm=each.b, difference=words.points(each.difference), interval=limits)
            )
    return words("first.against_base", listed="; ".join(listed)) if listed else ""


def question(wanted: Sequence[str], words: Language) -> str:
    """What a study that compares these two asks; "" where it compares nothing."""
    if len(wanted) != 2:
        return ""
    a, b = wanted
    if BASE_ARM in wanted:
        return words("first.asked_base", arm=b if a == BASE_ARM else a)
    return words("first.asked", a=a, b=b)


def _few_informative(found: Contrast, words: Language) -> list[str]:
    """Why an interval within the margin is no equivalence."""
    if found.margin is None or found.informative is None or not found.interval90.inside(found.margin):
        return []
    least = informative_needed(found.margin, found.problems)
    if found.informative >= least:
        return []
    margin = words.points(found.margin, signed=False)
    values = {"informative": found.informative, "n": found.problems, "needed": least}
    return [words("conclusion.few_informative", margin=margin, **values)]


def _hours(hours: float | None, words: Language) -> str:
    """How long that would take here: " (about 3 hours here)"."""
    if hours is None:
        return ""
    if hours < 1:
        return " " + words("conclusion.needed_minutes", minutes=max(1, math.ceil(60 * hours)))
    return " " + words("conclusion.needed_hours", hours=words.count(float(f"{hours:.2g}")))


def remark(found: Remark, words: Language, findings: Findings) -> str:
    """One line of the checklist."""
    # Findings of earlier versions have the same remarks with fewer values.
    values = {"problems": findings.problems, "arms": DASH, "n": DASH, **found.values}
    shares = {key for key, value in values.items() if key.endswith("share") and isinstance(value, float)}
    values |= {key: words.percent(values[key]) for key in shares}
    values |= {key: words.number(values[key], 3) for key in ("spread", "gain") if key in values}
    if found.code.startswith("seed_apart"):
        values |= {key: words.percent(values[key]) for key in ("rate", "low", "high")}
    if "without" in values:
        values["without"] = words.points(values["without"])
    if found.code == "few_problems":
        values["one"] = words.points(1 / findings.problems, signed=False)
    if "select" in values:
        values["select"] = rule(words, str(values["select"]))
    return words(f"remark.{found.code}", **values)


def remarks(findings: Findings, words: Language, *levels: Level) -> list[tuple[Remark, str]]:
    return [(each, remark(each, words, findings)) for each in findings.remarks if each.level in levels]


def rule(words: Language, select: str) -> str:
    return words(f"rule.{select}")


def overfitting(curves: Sequence[Curve], words: Language) -> str:
    """In how many trainings of one arm validation loss rises again; "" for fewer than two of which it is known."""
    known = [curve.reading for curve in curves if curve.reading and curve.reading.overfits is not None]
    if len(known) < 2:
        return ""
    turned = [str(reading.lowest_step) for reading in known if reading.overfits]
    values = {"n": len(turned), "of": len(known), "steps": ", ".join(turned)}
    return words(f"document.{'turned' if turned else 'not_turned'}", arm=curves[0].training.arm, **values)


def reading(curve: Curve, words: Language) -> str:
    """What one training's losses say."""
    found = curve.reading
    if found is None or found.lowest is None or found.last is None:
        return words("reading.none")
    values = {
        "step": found.lowest_step,
        "loss": words.number(found.lowest, 3),
        "last": words.number(found.last, 3),
        "last_step": found.last_step,
    }
    said = []
    if found.of == "train":
        said.append(words("reading.train_only", first=words.number(curve.train[0].loss, 3), **values))
    elif found.overfits:
        said.append(words("reading.overfits", rise=words.number(found.rise or 0, 3), **values))
    elif found.lowest_step == found.last_step:
        said.append(words("reading.falling", **values))
    elif found.overfits is None:
        said.append(words("reading.few", n=len(curve.validation), **values))
    else:
        said.append(words("reading.flat", **values))
    if found.gap is not None:
        key = "gap" if found.gap >= 0 else "gap_far_below" if found.far_below else "gap_below"
        said.append(words(f"reading.{key}", gap=words.number(abs(found.gap), 3)))
    if found.slow_step is not None:
        said.append(words("reading.slow", step=found.slow_step))
    return " ".join(said)
