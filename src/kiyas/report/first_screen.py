"""What was compared, for the strip at the top of the page: base, arms, benchmark, recipe, time."""

from __future__ import annotations

from dataclasses import dataclass

from kiyas.analyse.findings import Findings
from kiyas.report import charts, sentences
from kiyas.report.language import Language
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, Record, read_record
from kiyas.study.settings import Study

HOURS = 5400
"""seconds from which on a time is said in hours"""


@dataclass(frozen=True)
class Fact:
    """A part of the strip: what kind of thing it is, its name, its colour on the page, and what is known of it."""

    kind: str
    name: str
    lines: tuple[str, ...]
    colour: str = ""


def facts(folder: RunDir, findings: Findings, words: Language) -> list[Fact]:
    """What is not known about a study is not mentioned."""
    record = read_record(folder)
    found = [*_base(record, findings, words), *(_arm(findings, words, arm) for arm in findings.arms)]
    if findings.problems:
        found.append(_benchmark(findings, words))
    if record.study is not None and record.study.trained:
        found.append(_recipe(record.study, words))
    return [*found, *(_spent(folder, words) if record.kind is Kind.RUN else [])]


def _base(record: Record, findings: Findings, words: Language) -> list[Fact]:
    if record.base is None and not findings.base_measured:
        return []
    base, lines = record.base, []
    if base is not None and base.parameters:
        lines.append(words("first.parameters", n=words.size(base.parameters)))
    if record.study is not None and record.study.training.load_in_4bit:
        lines.append(words("first.in_4bit"))
    if not findings.base_measured:
        lines.append(words("first.base_unmeasured"))
    name = base.name_or_path.rstrip("/").split("/")[-1] if base is not None else words("cell.base")
    return [Fact(words("first.base"), name, tuple(lines), charts.BASE_COLOUR)]


def _arm(findings: Findings, words: Language, arm: str) -> Fact:
    lines = []
    data = next((each for each in findings.data if each.arm == arm), None)
    if data is not None:
        solutions = words.count(round(data.solutions_per_problem, 1))
        lines.append(words("first.rows", rows=words.integer(data.rows)))
        lines.append(words("first.problems_of_arm", problems=words.integer(data.problems), solutions=solutions))
        lines.append(words("first.tokens", tokens=words.size(data.answer_tokens)))
    seeds = {curve.training.seed for curve in findings.curves if curve.training.arm == arm}
    seeds |= {adapter.seed for adapter in findings.columns if adapter.arm == arm}
    if seeds:
        lines.append(words("first.seeds", n=len(seeds)))
    return Fact(words("first.arm"), arm, tuple(lines), charts.arm_colour(findings, arm))


def _benchmark(findings: Findings, words: Language) -> Fact:
    lines = [words("first.problems", n=findings.problems), words("first.answers", n=findings.samples)]
    if findings.metric != "pass@1":
        lines.append(findings.metric)
    name, *more = [findings.benchmark, *lines] if findings.benchmark else lines
    return Fact(words("first.benchmark"), name, tuple(more))


def _recipe(study: Study, words: Language) -> Fact:
    training, lines = study.training, []
    for key, n in training.budget.model_dump(exclude_none=True).items():
        size = words.integer(n) if isinstance(n, int) else words.setting(n)
        lines.append(words(f"first.budget_{key}", n=size, batch=training.effective_batch_size))
    rate = training.learning_rate
    if isinstance(rate, list):
        lines.append(words("first.rates", n=len(rate)))
    else:
        lines.append(words("first.rate", rate=words.setting(rate)))
    lines.append(sentences.rule(words, study.compare.select))
    if any(arm.training or arm.peft for arm in study.arms.values()):
        lines.append(words("first.own_settings"))
    return Fact(words("first.recipe"), words("first.lora", r=study.peft.r), tuple(lines))


def _spent(folder: RunDir, words: Language) -> list[Fact]:
    """How long the stages took, in the processes that finished them. No finding: it differs from run to run."""
    manifests = {stage: folder.manifest(stage) for stage in (Stage.DATA, Stage.TRAIN, Stage.GENERATE, Stage.JUDGE)}
    spent = {stage: float(manifest["seconds"]) for stage, manifest in manifests.items() if manifest}
    lines = [
        words("first.spent_on", stage=words(f"stage.{stage}"), time=_time(spent[stage], words))
        for stage in (Stage.TRAIN, Stage.GENERATE, Stage.JUDGE)
        if stage in spent
    ]
    return [Fact(words("first.spent"), _time(sum(spent.values()), words), tuple(lines))] if lines else []


def _time(seconds: float, words: Language) -> str:
    if seconds < 90:
        return words("first.seconds", n=round(seconds))
    if seconds < HOURS:
        return words("first.minutes", n=round(seconds / 60))
    return words("first.hours", n=words.number(seconds / 3600))
