"""How a study was made, in sentences that can be cited: versions, commits and digests, drawn from the run folder.

A sentence appears only where everything that it says is recorded; nothing is assumed. The papers that they cite are
in `citations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kiyas.analyse.findings import Findings
from kiyas.judge.types import DEFAULT_MEMORY_MB, DEFAULT_TIME_S
from kiyas.report import citations, sentences
from kiyas.report.language import Language
from kiyas.runfolder import rows
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, Record, read_record
from kiyas.study.settings import HUB_BENCHMARKS, PRACTICE, Benchmark, Study, Tests, as_text
from kiyas.types import LogKind

DIGITS = 12
PACKAGES = ("torch", "transformers", "bitsandbytes")


def paragraphs(run: Path, findings: Findings, words: Language) -> tuple[str, ...]:
    """Model and data; training; benchmark and judge; comparison; software: one paragraph each, where it is known.

    Raises KiyasError when resolved.json or a manifest cannot be read.
    """
    folder = RunDir(run)
    record, manifest = read_record(folder), folder.manifest(Stage.DATA)
    told = _Told(words, record, manifest["inputs"] if manifest else {})
    study = record.study
    if study is None:
        parts = [told.imported(), [], told.judged_by(), told.comparison(findings), []]
    else:
        parts = [
            [*told.base(study), *told.arms(study, folder.arm_counts)],
            [*told.training(study, findings), *told.spent(folder, study, findings)] if study.trained else [],
            [*told.benchmarks(study, findings), *told.decoding(study), *told.redecoded(findings), *told.judged_by()],
            told.comparison(findings),
            told.software(),
        ]
    return tuple(" ".join(part) for part in parts if part)


class _Told:
    """The sentences of one run in one language. Every method returns those that may be said."""

    def __init__(self, words: Language, record: Record, digests: Mapping[str, str]) -> None:
        self.words, self.record, self.digests = words, record, digests

    def say(self, key: str, **values: Any) -> list[str]:
        """The phrase, or nothing where one of its values is not known."""
        return [] if any(value is None for value in values.values()) else [self.words(f"methods.{key}", **values)]

    def value(self, value: Any) -> str:
        """A setting of the study file, of whatever kind."""
        return as_text(value, self.words.setting)

    def seconds(self, n: float) -> str:
        return self.words("first.seconds", n=self.value(n))

    def settings(self, section: BaseModel, *keys: str) -> dict[str, str]:
        return {key: self.value(getattr(section, key)) for key in keys}

    def source(self, name: str, revision: str | None = None) -> list[str]:
        """What pins a file or a repository: its commit, its digest, or the version of Kıyas that holds it."""
        if name.split("/")[0] == PRACTICE:
            return self.say("embedded", version=self.record.kiyas_version)
        if digest := self.digests.get(name):
            return self.say("sha256", digest=digest[:DIGITS])
        return self.say("commit", commit=revision[:DIGITS] if revision else None)

    def imported(self) -> list[str]:
        return self.say("imported", version=self.record.kiyas_version, n=len(self.digests))

    def base(self, study: Study) -> list[str]:
        base = self.record.base
        if base is None:
            return []
        facts = self.source(base.name_or_path, study.model_revision)
        facts += self.say("parameters", n=self.words.integer(base.parameters) if base.parameters else None)
        facts += self.say("fingerprint", digest=base.fingerprint[:DIGITS] if base.fingerprint else None)
        said = self.say("base", name=with_facts(shown(base.name_or_path), facts))
        return said + (self.say("base_in_4bit") if study.training.load_in_4bit else [])

    def arms(self, study: Study, counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
        said = []
        for name, arm in study.arms.items():
            facts: list[str] = []
            if arm.sources:
                cuts = {key: getattr(arm, key) for key in ("mix", "problems", "solutions", "fraction")}
                facts = [
                    self.words(f"methods.fact_{key}", value=self.value(value)) for key, value in cuts.items() if value
                ]
                source = self.say("derived", sources=", ".join(arm.sources), draws=arm.draws)
            elif arm.checkpoints is not None:
                source = self.say("given", folder=shown(arm.checkpoints))
            elif arm.model is not None:
                source = self.say("given_model", folder=shown(arm.model))
            else:
                assert arm.dataset_name is not None
                source, facts = [shown(arm.dataset_name)], self.source(arm.dataset_name, arm.revision)
            if count := counts.get(name):
                samples = {key: self.words.integer(count[key]) for key in ("train", "groups")}
                facts += self.say("samples", **samples)
                facts += self.say("held_out", validation=self.words.integer(count["validation"]))
            said += self.say("arm", arm=name, source=with_facts(source[0], facts))
        said += self.say("no_leak") if counts else []
        return said + self.say("system", system=study.dataset.system)

    def training(self, study: Study, findings: Findings) -> list[str]:
        peft, recipe = study.peft, study.training
        every = peft.target_modules == "all-linear"
        modules = self.words("methods.all_linear") if every else ", ".join(peft.target_modules)
        said = self.say("lora", modules=modules, **self.settings(peft, "r", "lora_alpha", "lora_dropout"))
        keys = ("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "effective_batch_size")
        rate = recipe.learning_rate
        said += self.say(
            "optimizer",
            rate=self.words("methods.from_grid") if isinstance(rate, list) else self.value(rate),
            schedule=self.words(f"methods.schedule_{recipe.lr_scheduler_type}"),
            warmup=self.words.percent(recipe.warmup_ratio),
            **self.settings(recipe, *keys),
        )
        said += self.say("longest", max_length=recipe.max_length)
        said += self.say("loss_completion" if recipe.completion_only_loss else "loss_all")
        said += self.say("patience", n=recipe.patience)
        if isinstance(rate, list):
            chosen = [
                f"{point.arm} {self.value(point.rate)} ({len(point.seeds)})"
                for point in findings.learning_rates
                if point.chosen
            ]
            rates = "; ".join(map(self.value, rate))
            said += self.say("grid", rates=rates, chosen="; ".join(chosen) or None)
        for name, arm in study.arms.items():
            own = [each.model_dump(mode="json", exclude_none=True) for each in (arm.training, arm.peft) if each]
            told = [f"{key} = {self.value(value)}" for section in own for key, value in section.items()]
            said += self.say("differs", arm=name, what=", ".join(told) or None)
        return said

    def spent(self, folder: RunDir, study: Study, findings: Findings) -> list[str]:
        """The declared budget, and what the longest training of each arm took."""
        said, seeds = [], ", ".join(map(str, study.seed_list))
        for key, n in study.training.budget.model_dump(exclude_none=True).items():
            said = self.say("budget", budget=self.words(f"methods.budget_{key}", n=self.words.count(n)), seeds=seeds)
        trained = [row for row in rows.log(folder) if row.kind is LogKind.TRAIN]
        batch, told = study.training.effective_batch_size, []
        for arm in findings.arms:
            of_arm = [row for row in trained if row.adapter.arm == arm]
            steps = max((row.adapter.step for row in of_arm), default=None)
            tokens = max((row.tokens for row in of_arm if row.tokens), default=None)
            if steps is not None and tokens:
                values = {"steps": steps, "examples": steps * batch, "tokens": tokens}
                told += self.say("spent_arm", arm=arm, **{k: self.words.integer(n) for k, n in values.items()})
        return said + self.say("spent", listed="; ".join(told) or None)

    def benchmarks(self, study: Study, findings: Findings) -> list[str]:
        sizes = {findings.benchmark: (findings.problems, findings.tests)}
        sizes |= {each.benchmark: (each.problems, each.tests) for each in findings.secondary}
        said = []
        for label, benchmark in study.benchmarks.named.items():
            key = "benchmark" if benchmark is study.benchmarks.primary else "also"
            said += self.say(key, name=self.benchmark(benchmark, *sizes.get(label, (None, None))))
        return said

    def benchmark(self, benchmark: Benchmark, problems: int | None, tests: int | None) -> str:
        """A benchmark's name with its source, filters and size."""
        facts = self.source(benchmark.dataset, benchmark.revision)
        asked = benchmark.model_dump(mode="json")
        for key in ("release", "platform", "difficulty", "from_", "to", "problems"):
            if value := asked[key]:
                facts.append(self.words(f"methods.fact_{key.strip('_')}", value=self.value(value)))
        facts += self.say("sample_tests") if benchmark.tests is Tests.PUBLIC else []
        for key, n in (("n_problems", problems), ("n_tests", tests)):
            facts += self.say(key, n=self.words.integer(n) if n else None)
        return with_facts(self.title(benchmark), facts)

    def title(self, benchmark: Benchmark) -> str:
        if self.words.has(f"methods.known_{benchmark.dataset}"):
            return self.words(f"methods.known_{benchmark.dataset}")
        known = HUB_BENCHMARKS.get(benchmark.dataset)
        if known is None or not known.title:
            return benchmark.label
        key = citations.key(known.citation)
        return f"{known.title} {self.words.cite(f'@{key}')}" if key else known.title

    def decoding(self, study: Study) -> list[str]:
        settings = study.generation
        longest = settings.max_new_tokens
        if settings.temperature == 0:
            return self.say("greedy", longest=longest)
        values = self.settings(settings, "temperature", "top_p")
        return self.say("sampled", samples=settings.num_samples, seed=settings.seed, longest=longest, **values)

    def redecoded(self, findings: Findings) -> list[str]:
        found = findings.numerical_floor
        return self.say("redecoded", n=sum(each.answers for each in found.arms)) if found else []

    def judged_by(self) -> list[str]:
        judge, study = self.record.judge, self.record.study
        if judge is None:
            return self.say("recorded") if self.record.kind is Kind.IMPORT else []
        said = self.say("judge", tier=judge.tier, mode=judge.mode)
        if study is None:
            return said
        time, memory = study.judge.time_limit_s, study.judge.memory_limit_mb
        own = self.words("methods.own_limit")
        return said + self.say(
            "limits",
            time=self.seconds(time) if time else f"{own} {self.seconds(DEFAULT_TIME_S)}",
            memory=f"{memory} MB" if memory else f"{own} {DEFAULT_MEMORY_MB} MB",
        )

    def comparison(self, findings: Findings) -> list[str]:
        words, primary, digest = self.words, findings.primary, self.record.declared_sha256
        rule = sentences.rule(words, findings.select)
        changed = any(remark.code == "declaration_changed" for remark in findings.remarks)
        asked = {
            "what": ", ".join(sentences.arm_name(words, arm) for arm in findings.wanted) or None,
            "rule": rule,
            "margin": words.points(findings.margin, signed=False) if findings.margin else None,
        }
        if self.record.study is None:
            said = self.say("not_declared", rule=rule)
        elif digest is None:
            said = self.say("declaration_unknown", **asked)
        else:
            said = self.say("changed" if changed else "declared", **asked, digest=digest[:DIGITS])
        if not findings.scores:
            return said
        sampled = findings.samples > 1
        if findings.k > 1:
            said += self.say("pass_k", metric=findings.metric, k=findings.k, samples=findings.samples)
        else:
            said += self.say("pass_sampled" if sampled else "pass_greedy")
        if primary is not None and primary.method != "none":
            single = "test_pair_sampled" if sampled or primary.groups else "test_pair"
            said += self.say("test_two_way" if primary.method == "two-way" else single)
            said += self.say("groups", n=primary.problems, groups=primary.groups)
            said += self.say("equivalence") if findings.margin else []
        family = [f"{each.b} − {each.a}" for each in findings.contrasts if each.declared]
        if len(family) > 1:
            said += self.say("holm", n=len(family), listed=", ".join(family))
        return said

    def software(self) -> list[str]:
        record = self.record
        versions = {"Kıyas": record.kiyas_version, **{name: record.packages.get(name) for name in PACKAGES}}
        versions["Python"] = record.python
        said = self.say(
            "software",
            versions=", ".join(f"{name} {version}" for name, version in versions.items() if version),
            platform=record.platform or None,
            device=f" ({', '.join(filter(None, (record.device.upper(), record.dtype)))})" if record.device else "",
            date=self.words.date(record.created),
        )
        if record.git:
            said += self.say("git_changed" if record.git.endswith("+") else "git", revision=record.git[:DIGITS])
        return said + self.say("digests", n=DIGITS)


def shown(name: str) -> str:
    """A Hub id as it is; of a path on this machine only the last part."""
    return Path(name).name if Path(name).is_absolute() else name


def with_facts(name: str, facts: list[str]) -> str:
    return f"{name} ({'; '.join(facts)})" if facts else name
