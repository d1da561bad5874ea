"""Every table of the report, made once: page, report.md, terminal and CSV files print these.

A new one is a function here or in its neighbours, and its name in `TABLES`. See docs/add-a-statistic.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kiyas.analyse.findings import (
    Accepted,
    ArmResult,
    Choice,
    Contrast,
    Decision,
    Findings,
    LearningRatePoint,
    OtherK,
    Pair,
    Redecoded,
    Score,
)
from kiyas.report import behaviour, details, sentences, training_data
from kiyas.report.language import DASH, Language
from kiyas.report.table import Column, Place, Table, bounds, interval, label, mark, number, table
from kiyas.stats.inference import Interval, wilson
from kiyas.study.settings import Select
from kiyas.types import AdapterId

__all__ = ["TABLES", "Table", "tables"]


def tables(findings: Findings, words: Language) -> dict[str, Table]:
    """All tables by name, in the order of `TABLES`; a table without rows is left out."""
    made = (each(findings, words) for each in TABLES)
    return {table.name: table for table in made if table.raw}


@dataclass(frozen=True)
class Scored:
    """An arm, or one of its checkpoints, on a benchmark. `solved` sums the share of right answers over problems."""

    arm: str
    rate: float
    solved: float
    problems: int
    missing: int
    interval: Interval


def _solved(row: Scored, words: Language) -> str:
    """3/41; what is missing is named, so that nobody takes it for wrong."""
    key = "cell.of_known" if row.missing else "cell.of"
    return words(key, solved=words.count(row.solved), n=row.problems, missing=row.missing)


def _pass1(row: Scored, words: Language) -> str:
    return words("cell.missing", n=row.missing) if row.missing else words.percent(row.rate)


def by_metric(findings: Findings) -> Column[Scored]:
    """The declared metric; the file calls it pass1, or passK."""
    file = f"pass{findings.k}"
    return Column(
        "pass1",
        lambda row: row.rate,
        _pass1,
        True,
        findings.metric,
        file,
        about="pass1" if findings.k == 1 else "passk",
    )


SOLVED: Column[Scored] = Column("solved", lambda row: {"solved": row.solved, "problems": row.problems}, _solved, True)
OWED: Column[Scored] = Column("owed", lambda row: row.missing)
INTERVAL: Column[Scored] = interval("interval", lambda row: row.interval, Language.share_interval)


@dataclass(frozen=True)
class _Result(Scored):
    """A checkpoint of `arm`, or the mean of its `adapters`, with what it is against the base."""

    adapters: tuple[AdapterId, ...]
    several: bool
    against: Contrast | Pair | None
    tests_passed: tuple[float | None, float | None]
    """at least and at most: not all tests of a program are run after a time-out"""

    @property
    def mean(self) -> bool:
        return len(self.adapters) > 1

    @property
    def steps(self) -> list[int]:
        return sorted({adapter.step for adapter in self.adapters})


def _checkpoint(row: _Result, words: Language) -> str:
    if row.adapters[0].is_base:
        return DASH
    key = "cell.step" if len(row.steps) == 1 else "cell.steps"
    return words(key, step=row.steps[0], steps=", ".join(map(str, row.steps)))


def _who(row: _Result, words: Language) -> str:
    """The arm, with its number of seeds where they are averaged; below such a row, a seed."""
    if row.adapters[0].is_base:
        return sentences.arm_name(words, row.arm)
    seed = words("cell.seed", seed=row.adapters[0].seed)
    if not row.mean and row.several:
        return seed
    return f"{row.arm}, {words('cell.mean', n=len(row.adapters)) if row.mean else seed}"


def tests_passed(least: float | None, most: float | None) -> dict[str, float | None]:
    """The columns of the file."""
    return {"tests_passed": least, "tests_passed_most": most}


def results(findings: Findings, words: Language) -> Table:
    """Base, then each arm: a row per seed, and the mean when there are several."""
    rows: list[_Result] = []
    against = {(c.a, c.b): c for c in findings.contrasts}
    for found in findings.results:
        contrast, several = against.get(("base", found.arm)), len(found.adapters) > 1
        pair_of = {pair.b: pair for pair in contrast.pairs} if contrast else {}
        if several:
            measured = (found.mean, found.solved, findings.problems, found.missing, found.interval)
            rows.append(_Result(found.arm, *measured, found.adapters, several, contrast, (None, None)))
        for adapter in found.adapters:
            if score := findings.score(adapter):
                measured = (score.rate, score.solved, score.problems, score.missing, score.interval)
                pair = pair_of.get(adapter)
                passed = (score.tests_passed, score.tests_passed_most)
                rows.append(_Result(found.arm, *measured, (adapter,), several, pair, passed))
    columns: tuple[Column[_Result], ...] = (
        Column("arm", lambda row: row.arm, _who),
        Column("checkpoint", lambda row: " ".join(map(str, row.steps)), _checkpoint),
        Column("seed", lambda row: "mean" if row.mean else row.adapters[0].seed),
        by_metric(findings),
        SOLVED,
        OWED,
        INTERVAL,
        number("vs_base", lambda row: row.against.difference if row.against else None, Language.points),
        interval(
            "vs_base_interval",
            lambda row: row.against.interval if row.against else None,
            sentences.points_interval,
            file="vs_base",
            terminal=False,
            about="interval",
        ),
        Column("tests_passed", lambda row: tests_passed(*row.tests_passed)),
    )
    against_base = ("vs_base", "vs_base_interval") if findings.base_measured else ()
    steps = sorted({step for row in rows if not row.adapters[0].is_base for step in row.steps})
    one = words("cell.step", step=steps[0]) if len(steps) == 1 else ""
    return table(
        "results",
        words,
        rows,
        columns,
        shown=("arm", "pass1", "interval", *against_base, "solved", *(() if one else ("checkpoint",))),
        strong=lambda row: row.mean or not row.several,
        lead=words("lead.results", rule=sentences.rule(words, findings.select) + (f", {one}" if one else "")),
        place=Place(section="results", terminal=True, heading=""),
    )


@dataclass(frozen=True)
class _Asked:
    """A contrast, and the learning rate or the benchmark at which it was asked."""

    contrast: Contrast
    rate: float = math.nan
    benchmark: str = ""


def _sides(row: _Asked, words: Language) -> dict[str, str]:
    return {"a": sentences.arm_name(words, row.contrast.a), "b": sentences.arm_name(words, row.contrast.b)}


def _p(row: _Asked, words: Language) -> str:
    return sentences.p_value(words, row.contrast.p, row.contrast.exact_p)


CLAIMS = (Decision.MORE, Decision.LESS, Decision.EQUIVALENT)


def _decision(row: _Asked, words: Language) -> str:
    """A claim that was not declared beforehand is not corrected either: it says so wherever it is shown."""
    found = row.contrast
    said = words(f"decision.{found.decision}", **_sides(row, words))
    open_to_doubt = found.decision in CLAIMS and not (found.primary or found.declared)
    return words("decision.exploratory", badge=said) if open_to_doubt else said


CONTRAST: tuple[Column[_Asked], ...] = (
    Column(
        "comparison",
        lambda row: {"a": row.contrast.a, "b": row.contrast.b},
        lambda row, words: words("cell.minus", **_sides(row, words)),
    ),
    number("difference", lambda row: row.contrast.difference, Language.points),
    interval("interval", lambda row: row.contrast.interval, sentences.points_interval),
    Column("level", lambda row: row.contrast.interval.level),
    Column("p", lambda row: {"p": row.contrast.p, "p_exact": row.contrast.exact_p}, _p, numeric=True),
    number("seeds", lambda row: row.contrast.seeds, terminal=False),
    Column("problems", lambda row: row.contrast.problems),
    Column(
        "decision",
        lambda row: row.contrast.decision.value,
        _decision,
    ),
    Column("owed", lambda row: row.contrast.missing),
)


def _asked(words: Language, rows: Sequence[_Asked]) -> tuple[Column[_Asked], ...]:
    """The columns of every contrast; where two adapters are compared, their two p-values are named."""
    if all(row.contrast.exact_p is None for row in rows):
        return CONTRAST
    return tuple(replace(each, title=words("column.p_both")) if each.key == "p" else each for each in CONTRAST)


ASKED = ("comparison", "difference", "interval", "p", "decision")


def _kind(row: _Asked, words: Language) -> str:
    kind = "question" if row.contrast.primary else "declared" if row.contrast.declared else "exploratory"
    return words(f"cell.{kind}")


def contrasts(findings: Findings, words: Language) -> Table:
    rows = [_Asked(each) for each in findings.contrasts]
    of_mid = any(row.contrast.holm is not None and row.contrast.exact_p is not None for row in rows)
    columns: tuple[Column[_Asked], ...] = (
        *_asked(words, rows),
        Column(
            "primary",
            lambda row: {"question": int(row.contrast.primary), "declared": int(row.contrast.declared)},
            _kind,
            terminal=False,
        ),
        number(
            "holm",
            lambda row: row.contrast.holm,
            Language.p,
            file="p_holm",
            title=words("column.holm_mid" if of_mid else "column.holm"),
        ),
        Column("equivalence", lambda row: bounds("equivalence", row.contrast.interval90)),
        Column("bootstrap95", lambda row: bounds("bootstrap95", row.contrast.bootstrap)),
        label("test", lambda row: row.contrast.method, sentences.method, file="method", terminal=False),
        Column("margin", lambda row: row.contrast.margin),
    )
    holm = ("holm",) if any(each.holm is not None for each in findings.contrasts) else ()
    return table(
        "contrasts",
        words,
        rows,
        columns,
        shown=("comparison", "primary", "difference", "interval", "p", *holm, "test", "seeds", "decision"),
        strong=lambda row: row.contrast.primary,
        place=Place(section="results", terminal=True, fold=words("table.contrasts"), figure="differences"),
    )


def rates(findings: Findings, words: Language) -> Table:
    """The learning-rate grid: what chose the rate of each arm."""
    columns: tuple[Column[LearningRatePoint], ...] = (
        label("arm", lambda point: point.arm),
        number("rate", lambda point: point.rate, Language.setting, file="learning_rate"),
        Column(
            "tuning_loss",
            lambda point: point.tuning_loss,
            lambda point, words: words("cell.diverged") if point.diverged else words.number(point.tuning_loss, 3),
            numeric=True,
        ),
        Column("diverged", lambda point: int(point.diverged)),
        number(
            "pass1",
            lambda point: point.mean,
            Language.percent,
            title=findings.metric,
            file=f"pass{findings.k}",
            about="pass1" if findings.k == 1 else "passk",
        ),
        Column("chosen", lambda point: len(point.seeds), numeric=True),
    )
    place = Place(section="results", chapter="training", terminal=True, fold=words("table.rates"))
    return table("rates", words, findings.learning_rates, columns, strong=lambda point: point.chosen, place=place)


def at_each_rate(findings: Findings, words: Language) -> Table:
    """The question of the study, asked at every learning rate of the grid."""
    rate_of = {point.variant: point.rate for point in findings.learning_rates}
    compared = {a.variant: each for each in findings.at_each_rate for pair in each.pairs for a in (pair.a, pair.b)}
    rows = [_Asked(compared[variant], rate=rate) for variant, rate in rate_of.items() if variant in compared]
    columns: tuple[Column[_Asked], ...] = (
        number("rate", lambda row: row.rate, Language.setting, file="learning_rate"),
        *_asked(words, rows),
    )
    place = Place(section="results", terminal=True, fold=words("table.at_each_rate"))
    return table("at_each_rate", words, rows, columns, shown=("rate", *ASKED), place=place)


def other_k(findings: Findings, words: Language) -> Table:
    """The question by pass@k for other k."""
    a, b = (sentences.arm_name(words, arm) for arm in findings.wanted) if findings.other_k else ("", "")
    columns: tuple[Column[OtherK], ...] = (
        Column("metric", lambda row: {"k": row.k}, lambda row, _: f"pass@{row.k}"),
        Column("arms", lambda row: {"a": row.a, "b": row.b}),
        number("a_rate", lambda row: row.a_rate, Language.percent, title=a, about="arm_rate"),
        number("b_rate", lambda row: row.b_rate, Language.percent, title=b, about="arm_rate"),
        number("difference", lambda row: row.difference, Language.points),
        interval("interval", lambda row: row.interval, Language.points_interval, file="interval95"),
        number("p", lambda row: row.p, Language.p),
        number("holm", lambda row: row.holm, Language.p, file="p_holm"),
    )
    lead = words("lead.other_k", metric=findings.metric)
    return table(
        "other_k",
        words,
        findings.other_k,
        columns,
        lead=lead,
        place=Place(section="results", fold=words("table.other_k")),
    )


def accepted(findings: Findings, words: Language) -> Table:
    """How many different programs solve a problem."""
    two = lambda words, value: words.number(value, 2)  # noqa: E731
    columns: tuple[Column[Accepted], ...] = (
        label("arm", lambda row: row.arm, sentences.arm_name),
        number("problems", lambda row: row.problems),
        number("accepted_answers", lambda row: row.answers, two),
        number("trees", lambda row: row.trees, two),
        Column("paired", lambda row: row.paired),
        number("different_pairs", lambda row: row.pairs, Language.percent),
    )
    place = Place(section="results", fold=words("table.accepted"))
    return table("accepted", words, findings.accepted, columns, place=place)


def redecoded(findings: Findings, words: Language) -> Table:
    """Answers decoded again in another batch shape, and what rounding changed: one row an arm."""

    def rate(row: Redecoded) -> float:
        return (row.lost + row.gained) / row.answers

    def limits(row: Redecoded) -> Interval:
        return wilson(row.lost + row.gained, row.answers)

    columns: tuple[Column[Redecoded], ...] = (
        label("arm", lambda row: row.arm, sentences.arm_name),
        number("answers", lambda row: row.answers),
        number("texts_differ", lambda row: row.texts),
        number("programs_differ", lambda row: row.programs),
        number("right_to_wrong", lambda row: row.lost),
        number("wrong_to_right", lambda row: row.gained),
        number("flip_rate", rate, Language.percent),
        interval("interval", limits, Language.share_interval, file="interval95"),
    )
    rows = findings.numerical_floor.arms if findings.numerical_floor else ()
    place = Place(section="results", fold=words("table.redecoded"))
    return table("redecoded", words, rows, columns, place=place)


@dataclass(frozen=True)
class _Beside(Scored):
    """An arm's chosen checkpoints on another benchmark."""

    benchmark: str


def beside(findings: Findings, words: Language) -> Table:
    """The chosen checkpoints on the other benchmarks."""

    def row(benchmark: str, problems: int, found: ArmResult) -> _Beside:
        return _Beside(found.arm, found.mean, found.solved, problems, found.missing, found.interval, benchmark)

    rows = [row(other.benchmark, other.problems, found) for other in findings.secondary for found in other.results]
    columns: tuple[Column[_Beside], ...] = (
        label("benchmark", lambda row: row.benchmark),
        label("arm", lambda row: row.arm, sentences.arm_name),
        by_metric(findings),
        SOLVED,
        OWED,
        INTERVAL,
    )
    lead = words("lead.beside_chosen" if findings.select is Select.DEVELOPMENT else "lead.beside")
    return table("beside", words, rows, columns, lead=lead, place=Place(section="results", terminal=True))


def beside_contrasts(findings: Findings, words: Language) -> Table:
    """The differences on the other benchmarks."""
    rows = [_Asked(each, benchmark=other.benchmark) for other in findings.secondary for each in other.contrasts]
    columns: tuple[Column[_Asked], ...] = (label("benchmark", lambda row: row.benchmark), *_asked(words, rows))
    place = Place(section="results", terminal=True, heading="")
    return table("beside_contrasts", words, rows, columns, shown=("benchmark", *ASKED), place=place)


def best_of(findings: Findings, words: Language) -> Table:
    """The selection bias of a best checkpoint."""

    def left_out(choice: Choice) -> str:
        return ", ".join(str(score.adapter.step) for score in findings.left_out(choice))

    several = [each for each in findings.choices if each.best_of.checkpoints > 1 or left_out(each)]
    rows = [each for each in several if math.isfinite(each.best_of.measured)]
    columns: tuple[Column[Choice], ...] = (
        *details.TRAINING,
        number("k", lambda choice: choice.best_of.checkpoints, file="checkpoints"),
        label("left_out", left_out, terminal=False),
        number("best_step", lambda choice: choice.best.step, lambda words, step: words("cell.step", step=step)),
        number("measured", lambda choice: choice.best_of.measured, Language.percent),
        number("corrected", lambda choice: choice.best_of.corrected, Language.percent),
        number("flattery", lambda choice: choice.best_of.selection_bias, Language.points),
    )
    keys = ("arm", "seed", "k", *(("left_out",) if any(map(left_out, rows)) else ()))
    # The terminal shows it where a best checkpoint was, or might have been, chosen.
    flatters = findings.select == "primary" or not findings.select_declared
    place = Place(section="results", terminal=flatters, fold=words("heading.best_of"))
    shown = (*keys, "best_step", "measured", "corrected", "flattery")
    return table("best_of", words, rows, columns, shown=shown, place=place)


@dataclass(frozen=True)
class _Checkpoint(Scored):
    score: Score
    loss: float | None
    chosen: bool

    @property
    def verdicts(self) -> str:
        most = sorted(self.score.verdicts.items(), key=lambda verdict: -verdict[1])
        return ", ".join(f"{verdict} {n}" for verdict, n in most)


def checkpoints(findings: Findings, words: Language) -> Table:
    chosen = {adapter for result in findings.results for adapter in result.adapters if not adapter.is_base}
    losses = {
        (c.training.arm, c.training.variant, c.training.seed, p.step): p.loss
        for c in findings.curves
        for p in c.validation
    }

    def row(score: Score) -> _Checkpoint:
        who, measured = score.adapter, (score.rate, score.solved, score.problems, score.missing, score.interval)
        return _Checkpoint(who.arm, *measured, score, losses.get((*who.training, who.step)), who in chosen)

    def unless_base(row: _Checkpoint, value: int) -> str:
        return DASH if row.score.adapter.is_base else str(value)

    columns: tuple[Column[_Checkpoint], ...] = (
        Column("arm", lambda row: row.arm, lambda row, words: sentences.trained(words, row.score.adapter)),
        Column("variant", lambda row: row.score.adapter.variant),
        Column("seed", lambda row: row.score.adapter.seed, lambda row, _: unless_base(row, row.score.adapter.seed)),
        Column(
            "step",
            lambda row: row.score.adapter.step,
            lambda row, _: unless_base(row, row.score.adapter.step),
            numeric=True,
        ),
        by_metric(findings),
        SOLVED,
        Column("samples", lambda row: row.score.samples),
        OWED,
        INTERVAL,
        Column(
            "tests_passed",
            lambda row: tests_passed(row.score.tests_passed, row.score.tests_passed_most),
            lambda row, words: words.between(row.score.tests_passed, row.score.tests_passed_most),
            numeric=True,
        ),
        number("validation_loss", lambda row: row.loss, lambda words, loss: words.number(loss, 3)),
        mark("chosen", lambda row: row.chosen),
        Column("at_k", lambda row: {f"pass@{k}": value for k, value in row.score.at_k.items()}),
        label("verdicts", lambda row: row.verdicts),
    )
    return table(
        "checkpoints",
        words,
        [row(score) for score in findings.scores],
        columns,
        shown=(
            *("arm", "seed", "step", "pass1", "solved", "interval"),
            *("tests_passed", "validation_loss", "verdicts", "chosen"),
        ),
        strong=lambda row: row.chosen,
        place=Place(
            section="pass",
            figure="pass",
            fold=words("table.checkpoints"),
        ),
    )


def pairs(findings: Findings, words: Language) -> Table:
    """Two given checkpoints at a time: what a single seed can say."""
    # Without an exact p it is not McNemar's.
    mcnemar = any(pair.exact_p is not None for contrast in findings.contrasts for pair in contrast.pairs)
    columns: tuple[Column[Pair], ...] = (
        Column("a", lambda pair: str(pair.a), lambda pair, words: sentences.short(words, pair.a)),
        Column("b", lambda pair: str(pair.b), lambda pair, words: sentences.short(words, pair.b)),
        Column("seed", show=lambda pair, words: str(max(pair.a.seed, pair.b.seed))),
        Column("both", lambda pair: pair.both),
        number("only_a", lambda pair: pair.only_a, Language.count),
        number("only_b", lambda pair: pair.only_b, Language.count),
        Column("neither", lambda pair: pair.neither),
        number("difference", lambda pair: pair.difference, Language.points),
        interval("interval", lambda pair: pair.interval, Language.points_interval, file="interval95"),
        number("exact_p", lambda pair: pair.exact_p, Language.p),
        number(
            "mid_p",
            lambda pair: pair.mid_p,
            Language.p,
            title=words("column.mid_p" if mcnemar else "column.p"),
            about="mid_p" if mcnemar else "p",
        ),
        Column("owed", lambda pair: pair.missing),
    )
    return table(
        "pairs",
        words,
        [pair for contrast in findings.contrasts for pair in contrast.pairs],
        columns,
        shown=(
            "a",
            "b",
            "seed",
            "difference",
            "interval",
            "only_a",
            "only_b",
            *(("exact_p",) if mcnemar else ()),
            "mid_p",
        ),
        place=Place(section="method", fold=words("table.pairs")),
    )


TABLES: tuple[Callable[[Findings, Language], Table], ...] = (
    training_data.data,
    training_data.shared_rows,
    details.readings,
    details.losses,
    details.loss_matrix,
    results,
    contrasts,
    rates,
    at_each_rate,
    other_k,
    accepted,
    redecoded,
    beside,
    beside_contrasts,
    best_of,
    checkpoints,
    pairs,
    details.grid,
    details.partial,
    details.stability,
    details.trajectories,
    details.forgotten,
    behaviour.failures,
    behaviour.sharing,
    behaviour.shared,
    behaviour.groups,
    behaviour.lost_and_gained,
    behaviour.stuck,
    behaviour.diversity,
    behaviour.copying,
    behaviour.copied,
)
"""The order on the page and in report.md, within a section or a chapter."""
