"""The model card of an exported checkpoint: its figures with their intervals, what the study concludes, and what warns
against reading more into it. Metadata in the Hub's own format, made and read by its own library.

All numbers are those of the report. Names and texts of others are quoted, in YAML by the library, in Markdown here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiyas.analyse.chosen import Finished
from kiyas.analyse.findings import Contrast, Findings, Level, Score
from kiyas.export.hub import task_of
from kiyas.export.licence import UNKNOWN, Licence
from kiyas.export.weights import Written, base_name
from kiyas.report import sentences
from kiyas.report.language import Language
from kiyas.report.quoting import markdown as quoted
from kiyas.runfolder import manifests
from kiyas.runfolder.files import atomic_text
from kiyas.runfolder.paths import Stage
from kiyas.study.settings import HARMLESS, PRACTICE, Benchmark, Dtype, Study, as_text, flat, is_hub_id
from kiyas.types import BASE, AdapterId

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData

EVAL_RESULTS = ".eval_results"
NO_RECIPE = HARMLESS | {"training.logging_steps", "training.eval_steps"}
"""settings that no weight depends on"""
PLACE = re.compile(r"(?<![\w/:~.])~?(?:/[^\s/:;,()]+)+/")
"""where something lies on this machine: nobody else's business"""
WORDS = Language("en")
"""The Hub's cards are in English."""


@dataclass(frozen=True)
class Subject:
    """What a card is about."""

    run: Finished
    findings: Findings
    adapter: AdapterId
    written: Written
    merged: bool
    licence: Licence
    has_template: bool
    """the tokenizer has a chat template"""

    @property
    def study(self) -> Study:
        return self.run.study

    @property
    def name(self) -> str:
        return f"{self.study.name} {self.label}"

    @property
    def label(self) -> str:
        """`deep seed 0`, with its learning rate where there is a grid."""
        return f"{sentences.trained(WORDS, self.adapter)} seed {self.adapter.seed}"

    @property
    def base_on_hub(self) -> bool:
        return is_hub_id(self.study.model_name_or_path)

    @property
    def sources(self) -> dict[str, str]:
        """The training data of the arm, by the names of the arms that have it."""
        arms, arm = self.study.arms, self.study.arms[self.adapter.arm]
        names = arm.sources or [self.adapter.arm]
        return {name: source for name in names if (source := arms[name].dataset_name) is not None}

    @property
    def scores(self) -> dict[str, Score]:
        """Of this checkpoint on the study's benchmarks, by their labels, the primary one first. Only whole ones."""
        primary = self.study.benchmarks.primary.label
        found = {primary: self.run.score(self.adapter), **self.run.secondary(self.adapter)}
        return {label: score for label, score in found.items() if not score.missing}


def write(folder: Path, subject: Subject) -> list[str]:
    """Writes README.md, and a file in `.eval_results/` for each benchmark of the Hub that was run whole.

    Returns why a benchmark has no such file, in words.
    """
    from huggingface_hub import ModelCard, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    text = f"---\n{metadata(subject).to_yaml()}\n---\n\n{body(subject)}"
    atomic_text(folder / "README.md", str(ModelCard(text)))
    for label, entry in entries(subject).items():
        atomic_text(folder / EVAL_RESULTS / f"{label}.yaml", yaml_dump(eval_result_entries_to_yaml([entry])))
    return left_out(subject)


# -- metadata ---------------------------------------------------------------------------------------------------------


def metadata(subject: Subject) -> ModelCardData:
    """The block at the top of the card. What is not on the Hub is not named there as if it were."""
    from huggingface_hub import ModelCardData

    more: dict[str, Any] = {}
    if subject.base_on_hub:
        more["base_model_relation"] = "finetune" if subject.merged else "adapter"
    on_hub = sorted(source for source in set(subject.sources.values()) if is_hub_id(source))
    licence = subject.licence
    return ModelCardData(
        license=licence.id,
        license_name=licence.name,
        license_link=licence.link,
        library_name="transformers" if subject.merged else "peft",
        pipeline_tag="text-generation",
        base_model=subject.study.model_name_or_path if subject.base_on_hub else None,
        datasets=on_hub or None,
        tags=["code", "kiyas", *([] if subject.merged else ["lora"])],
        model_name=subject.name,
        eval_results=eval_results(subject) or None,
        **more,
    )


def eval_results(subject: Subject) -> list[EvalResult]:
    """The figures of this checkpoint, not of its arm: a share with its 95 % interval, and what it was measured on."""
    from huggingface_hub import EvalResult

    found, metric = [], subject.findings.metric
    for label, score in subject.scores.items():
        benchmark = subject.study.benchmarks.named[label]
        known = benchmark.known
        found.append(
            EvalResult(
                task_type="text-generation",
                task_name="Python programs",
                dataset_type=benchmark.hub_id or label,
                dataset_name=known.title if known is not None and known.title else label,
                dataset_config=known.hub_config if known is not None else None,
                dataset_revision=benchmark.revision,
                dataset_args=part_of(benchmark) or None,
                metric_type=metric,
                metric_name=metric,
                metric_value=_share(score.rate),
                metric_args={
                    "problems": score.problems,
                    "answers": score.samples,
                    "interval_95": [_share(score.interval.low), _share(score.interval.high)],
                },
            )
        )
    return found


def entries(subject: Subject) -> dict[str, EvalResultEntry]:
    """For the Hub's leaderboards, by label: only benchmarks that are on the Hub and were run whole.

    A leaderboard compares one number with everybody else's, so a part of a benchmark has no place there.
    """
    from huggingface_hub import EvalResultEntry

    found = {}
    for label, score in subject.scores.items():
        benchmark = subject.study.benchmarks.named[label]
        if benchmark.hub_id is None or part_of(benchmark):
            continue
        found[label] = EvalResultEntry(
            dataset_id=benchmark.hub_id,
            task_id=task_of(benchmark),
            dataset_revision=benchmark.revision,
            value=_share(score.rate),
            date=subject.findings.created[:10],
            notes=f"{subject.findings.metric}, {_decoding(subject.study)}, {score.problems} problems, "
            f"95% interval {_share(score.interval.low)} to {_share(score.interval.high)}, judged by Kıyas",
        )
    return found


def left_out(subject: Subject) -> list[str]:
    """Why a benchmark of the Hub has no file for its leaderboard."""
    return [
        f"no {EVAL_RESULTS} file for {label}: only a part of it was run ({as_text(part)}), and a leaderboard compares "
        "complete runs"
        for label in subject.scores
        if (benchmark := subject.study.benchmarks.named[label]).hub_id and (part := part_of(benchmark))
    ]


def part_of(benchmark: Benchmark) -> dict[str, Any]:
    """The filters of a benchmark; a release is no filter."""
    given = benchmark.model_dump(mode="json", exclude_defaults=True, exclude={"dataset", "revision", "release"})
    return {key.removesuffix("_"): len(value) if key == "ids" else value for key, value in given.items()}


def _share(value: float) -> float:
    return round(value, 4)


# -- the text ---------------------------------------------------------------------------------------------------------


def body(subject: Subject) -> str:
    """The card's text, in Markdown."""
    parts = [
        f"# {quoted(subject.name)}",
        _what(subject),
        "## Results",
        *_results(subject),
        "## What the study concludes",
        *_conclusion(subject.findings),
        "## Read this first",
        *_caveats(subject),
        "## Training data",
        *_data(subject),
        "## Recipe",
        _facts("setting", _recipe(subject)),
        "## Base",
        *_base(subject),
        "## How to use it",
        *_use(subject),
        "## How it was measured",
        _facts("", _measured(subject)),
        "## Licence",
        _licence(subject.licence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(subject: Subject) -> str:
    adapter, seeds = subject.adapter, subject.run.seeds(subject.adapter.arm)
    kind = "A LoRA adapter of" if not subject.merged else "A LoRA adapter merged into"
    said = [
        f"{kind} {quoted(base_name(subject.study))}, trained on the data of the arm {quoted(adapter.arm)} in the study "
        f"{quoted(subject.study.name)}, which compares training data for code models.",
        f"It is the training of seed {adapter.seed} ({_seeds(seeds)}) at step {adapter.step}.",
    ]
    rule = sentences.rule(WORDS, subject.findings.select.value)
    if subject.run.by_rule(adapter):
        said.append(f"The study's rule chose the checkpoint: {quoted(rule)}.")
    else:
        said.append(
            f"The study's rule ({quoted(rule)}) chose another checkpoint; the study's report is about that one."
        )
    if subject.merged:
        said.append(_merged(subject.written, subject.run.record.dtype))
    return " ".join(said)


def _merged(written: Written, computed: Dtype | None) -> str:
    measured = f" in {computed.value}" if computed is not None else ""
    said = f"Its weights are in {written.dtype}. The figures were measured with the unmerged adapter{measured}."
    if written.difference is None or not math.isfinite(written.difference):
        return said
    return (
        f"{said} On a short text its logits differ from those of base and adapter by at most {written.difference:.2g} "
        f"(the largest logit is {written.largest:.3g})."
    )


def _results(subject: Subject) -> Iterable[str]:
    findings, metric = subject.findings, subject.findings.metric
    for label, score in subject.scores.items():
        yield (
            f"{quoted(label)}: {quoted(metric)} **{WORDS.percent(score.rate)}** (95% interval "
            f"{WORDS.share_interval(score.interval)}), {WORDS.count(score.solved)} of {score.problems} problems"
            f"{_part(subject.study.benchmarks.named[label])}, {_decoding(subject.study)}. The interval is about this "
            "checkpoint on other problems like these, not about other trainings."
        )
    if subject.adapter not in {each.adapter for each in findings.scores}:
        yield "The study did not choose this learning rate; the table below shows the arms as the study compares them."
    rows = [
        (
            quoted(sentences.arm_name(WORDS, each.arm)),
            str(len(each.adapters)) if each.arm != BASE.arm else "",
            WORDS.percent(each.mean),
            WORDS.share_interval(each.interval),
        )
        for each in findings.results
    ]
    yield f"All arms of the study on {quoted(findings.benchmark)}, each the mean over its seeds:"
    yield _table(("arm", "seeds", metric, "95% interval"), rows)
    differences = [_difference(each) for each in findings.contrasts if subject.adapter.arm in (each.a, each.b)]
    if differences:
        yield "Differences in percentage points:"
        yield _table(("difference", "points", "interval", "p", "declared before the run"), differences)


def _difference(found: Contrast) -> tuple[str, ...]:
    a, b = (quoted(sentences.arm_name(WORDS, arm)) for arm in (found.a, found.b))
    interval = f"{WORDS.points_interval(found.interval)} ({WORDS.level(found.interval)})"
    p = sentences.p_value(WORDS, found.p, found.exact_p)
    return f"{b} minus {a}", WORDS.points(found.difference), interval, quoted(p), "yes" if found.declared else "no"


def _part(benchmark: Benchmark) -> str:
    part = part_of(benchmark)
    return f" (a part of it: {quoted(as_text(part))})" if part else ""


def _decoding(study: Study) -> str:
    own = study.generation
    if own.temperature == 0:
        return "greedy answers"
    answers = f"{own.num_samples} answers per problem" if own.num_samples > 1 else "one answer per problem"
    return f"{answers} at temperature {own.temperature:g}"


def _conclusion(findings: Findings) -> Iterable[str]:
    # What would decide it is for those who run the study.
    contrasts = tuple(replace(each, needed=None) for each in findings.contrasts)
    found = sentences.conclusion(replace(findings, contrasts=contrasts), WORDS)
    yield f"**{quoted(found.badge)}.** {quoted(found.sentence)}"
    yield _list(found.more)


def _caveats(subject: Subject) -> Iterable[str]:
    remarks = [text for _, text in sentences.remarks(subject.findings, WORDS, Level.WARNING, Level.NOTE)]
    own = [
        "The model writes programs that nobody has checked: run them in a sandbox.",
        "The figures hold for this benchmark and this prompt format. Nothing else that the model writes was examined.",
    ]
    if subject.study.training.load_in_4bit:
        own.append(
            "The base answered in 4 bits (NF4). "
            + ("The merged weights are these 4-bit weights, dequantised. " if subject.merged else "")
            + "In 16 bits the base is a different model, which was not measured."
        )
    yield _list([*own, *(PLACE.sub("…/", each) for each in (*remarks, *subject.findings.notes))])


def _data(subject: Subject) -> Iterable[str]:
    study, adapter = subject.study, subject.adapter
    arm = study.arms[adapter.arm]
    if arm.is_given:
        yield "The adapter was trained elsewhere; the study only judged it. Its training data are not known."
        return
    rows: dict[str, str] = {}
    for name, source in subject.sources.items():
        place = source if is_hub_id(source) or source.startswith("practice/") else Path(source).name
        revision = study.arms[name].revision
        rows[f"source{'' if name == adapter.arm else f' ({name})'}"] = place + (
            f", commit {revision}" if revision else ""
        )
    if arm.sources:
        settings = arm.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        rows["drawn from it"] = as_text(settings) + f" ({arm.draws} random draws, which the seeds use in turn)"
    facts = next((each for each in subject.findings.data if each.arm == adapter.arm), None)
    if facts is not None:
        rows["training rows"] = WORDS.integer(facts.rows)
        rows["validation rows"] = WORDS.integer(facts.validation)
        rows["problems"] = WORDS.integer(facts.problems)
        rows["solutions per problem, on average"] = WORDS.number(facts.solutions_per_problem)
        rows["answer tokens in one epoch"] = WORDS.integer(facts.answer_tokens)
        if facts.contaminated is not None:
            rows["benchmark problems found in it"] = WORDS.integer(facts.contaminated)
    made = manifests.outputs(subject.run.folder, Stage.DATA) or {}
    name = f"data/{adapter.arm}.jsonl"
    if name in made:
        rows["SHA-256 of the rows as trained on"] = str(made[name]["sha256"])
    yield _facts("", rows)


def _recipe(subject: Subject) -> dict[str, str]:
    study, adapter = subject.study, subject.adapter
    rows = {"seed": str(adapter.seed), "step of this checkpoint": str(adapter.step)}
    if study.arms[adapter.arm].is_given:
        return rows
    own, lora = study.recipe(adapter.arm, adapter.variant), study.peft_of(adapter.arm)
    shown = flat({"peft": lora.model_dump(mode="json"), "training": own.model_dump(mode="json")})
    rows |= {
        key: as_text(value, WORDS.setting) for key, value in shown.items() if value is not None and key not in NO_RECIPE
    }
    if subject.run.record.dtype is not None:
        rows["training.dtype"] = subject.run.record.dtype.value
    if study.dataset.system is not None:
        rows["dataset.system"] = study.dataset.system
    return rows


def _base(subject: Subject) -> Iterable[str]:
    study, facts = subject.study, subject.run.record.base
    digests = (facts.digests if facts is not None else None) or {}
    if subject.base_on_hub:
        commit = f" at commit {study.model_revision}" if study.model_revision else ""
        yield f"[{quoted(study.model_name_or_path)}](https://huggingface.co/{study.model_name_or_path}){commit}."
    elif study.model_name_or_path == PRACTICE:
        yield (
            "The tiny base of the practice world, which comes with Kıyas (`kiyas.practice.base_path()`). It is not on "
            "the Hub, so no `base_model` is named above. It can solve problems of the practice world only."
        )
    else:
        yield (
            f"{quoted(base_name(study))}, a local folder. It is not on the Hub, so no `base_model` is named above; the "
            "digests identify it."
        )
    weights = {name: sha for name, sha in digests.items() if name.endswith((".safetensors", ".bin"))}
    if weights:
        yield _table(("file", "SHA-256"), ((quoted(name), sha) for name, sha in weights.items()))


def _use(subject: Subject) -> Iterable[str]:
    study = subject.study
    if subject.base_on_hub:
        before, base = [], json.dumps(study.model_name_or_path)
    elif study.model_name_or_path == PRACTICE:
        before, base = ["import kiyas.practice"], "kiyas.practice.base_path()"
    else:
        before, base = [], '"BASE_FOLDER"'
    loaded = "FOLDER" if subject.merged else base
    model = f"AutoModelForCausalLM.from_pretrained({loaded})"
    before += [] if subject.merged else ["from peft import PeftModel"]
    lines = [
        *before,
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'FOLDER = "."  # this folder, or its name on the Hub',
        f"model = {model}" if subject.merged else f"model = PeftModel.from_pretrained({model}, FOLDER)",
        f"tokenizer = AutoTokenizer.from_pretrained({loaded})",
        *_prompt(study.dataset.system, subject.has_template),
        f"answer = model.generate(**inputs, max_new_tokens={study.generation.max_new_tokens}, do_sample=False)",
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    yield "```python\n" + "\n".join(lines) + "\n```"
    yield "The model was trained and judged with prompts in this format."


def _prompt(system: str | None, has_template: bool) -> list[str]:
    statement = "The statement of a problem"
    if not has_template:
        text = (f"{system}\n\n" if system else "") + statement + "\n"
        return [f'inputs = tokenizer({json.dumps(text)}, return_tensors="pt")']
    turns = [("system", system)] if system is not None else []
    chat = ", ".join(json.dumps({"role": role, "content": said}) for role, said in (*turns, ("user", statement)))
    return [
        f"chat = [{chat}]",
        "inputs = tokenizer.apply_chat_template(",
        '    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
        ")",
    ]


def _measured(subject: Subject) -> dict[str, str]:
    study, record = subject.study, subject.run.record
    judge = record.judge
    rows = {
        "answers": _decoding(study),
        "judge": f"every program was run on every test, in {judge.tier.value} isolation; outputs were compared in mode "
        f"{judge.mode.value}"
        if judge is not None
        else "",
        "the comparison was declared before the run": {True: "yes", False: "no: it was changed", None: "not recorded"}[
            record.declared_before
        ],
        "study begun": record.created,
        "Kıyas": record.kiyas_version,
        **{name: version for name, version in record.packages.items() if name in ("torch", "transformers")},
    }
    if record.study_file_sha256 is not None:
        rows["SHA-256 of the study file"] = record.study_file_sha256
    return rows


def _licence(licence: Licence) -> str:
    if licence.id == UNKNOWN:
        return (
            f"Unknown: {licence.whence}. Ask the owners of the base and of the training data before you use or share "
            "the model."
        )
    return (
        f"{quoted(licence.id)}{f' ({quoted(licence.name)})' if licence.name else ''}, {licence.whence}. "
        "The licences of the training data were not checked."
    )


def _facts(of: str, rows: Mapping[str, str]) -> str:
    return _table((of, ""), ((quoted(name), quoted(value)) for name, value in rows.items()))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """The cells are Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {quoted(text)}" for text in texts)


def _seeds(seeds: Sequence[int]) -> str:
    return f"of {_listed(seeds)}" if len(seeds) > 1 else "the only one"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
