"""How a study was made, in sentences that can be cited: versions, commits and digests, drawn from the run folder.

A sentence stands only where everything that it tells is recorded; nothing is assumed. Whom the sentences cite stands in
`references`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from kiyas.analyse.findings import Findings
from kiyas.report import sentences
from kiyas.report.words import Words
from kiyas.rundir import RunDir, Stage, read_json, read_jsonl
from kiyas.study import PRACTICE, benchmark_label, flat

Row = Mapping[str, Any]
DIGITS = 12
PACKAGES = ("torch", "transformers")


def references() -> str:
    """BibTeX entries of the papers that the methods come from."""
    return (resources.files("kiyas.report") / "assets" / "references.bib").read_text(encoding="utf-8")


def paragraphs(run: Path, findings: Findings, words: Words) -> tuple[str, ...]:
    """Model and data; training; benchmark and judge; comparison; software: one paragraph each, where it is known.

    Raises KiyasError when resolved.json or a manifest is not valid JSON.
    """
    folder = RunDir(run)
    resolved = read_json(folder.resolved)
    study, data = resolved.get("study") or {}, folder.manifest(Stage.DATA) or {}
    told = _Told(words, str(resolved.get("kiyas_version") or ""), data.get("inputs") or {})
    parts = (
        [*told.base(resolved, study), *told.arms(study, (data.get("counts") or {}).get("arms") or {})],
        [*told.training(study, findings), *told.spent(folder, study, findings)] if told.trains(study) else [],
        [*told.benchmarks(study, findings), *told.decoding(study), *told.judge(resolved, study)],
        told.comparison(resolved, study, findings),
        told.software(resolved),
    )
    return tuple(" ".join(part) for part in parts if part)


class _Told:
    """The sentences of one run in one language. Every method returns those that may be said."""

    def __init__(self, words: Words, version: str, digests: Mapping[str, str]) -> None:
        self.words, self.version, self.digests = words, version, digests

    def say(self, key: str, **values: Any) -> list[str]:
        """The phrase, or nothing where one of its values is not known."""
        return [] if any(value is None for value in values.values()) else [self.words(f"methods.{key}", **values)]

    def number(self, value: Any) -> str | None:
        return self.words.setting(value) if isinstance(value, int | float) else None

    def value(self, value: Any) -> str:
        """A setting of the study file, of whatever kind."""
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {self.value(each)}" for key, each in flat(value).items() if each is not None)
        if isinstance(value, list):
            return ", ".join(map(self.value, value))
        return str(value) if isinstance(value, bool | str) else self.words.setting(value)

    def source(self, name: str, revision: Any = None) -> list[str]:
        """What pins a file or a repository: its commit, its digest, or the version of Kıyas that holds it."""
        if name.split("/")[0] == PRACTICE:
            return self.say("embedded", version=self.version)
        if digest := self.digests.get(name):
            return self.say("sha256", digest=digest[:DIGITS])
        return self.say("commit", commit=str(revision)[:DIGITS] if revision else None)

    def base(self, resolved: Row, study: Row) -> list[str]:
        base = resolved.get("base") or {}
        name = base.get("name_or_path")
        if resolved.get("kind") == "import":
            return self.say("imported", version=self.version, n=len(self.digests))
        if not name:
            return []
        size, fingerprint = base.get("parameters"), base.get("fingerprint")
        facts = self.source(name, study.get("model_revision"))
        facts += self.say("parameters", n=self.words.integer(size) if size else None)
        facts += self.say("fingerprint", digest=fingerprint[:DIGITS] if fingerprint else None)
        return self.say("base", name=with_facts(shown(name), facts))

    def arms(self, study: Row, counts: Row) -> list[str]:
        said = []
        for arm, settings in (study.get("arms") or {}).items():
            sources = [settings["from_"]] if settings.get("from_") else list(settings.get("mix") or ())
            facts: list[str] = []
            if sources:
                cuts = ("mix", "problems", "solutions", "fraction")
                facts = [f"{key}: {self.value(settings[key])}" for key in cuts if settings.get(key)]
                source = self.say("derived", sources=", ".join(sources), draws=settings.get("draws", 1))
            elif settings.get("checkpoints"):
                source = self.say("given", folder=shown(settings["checkpoints"]))
            else:
                name = settings.get("dataset_name") or arm
                source, facts = [shown(name)], self.source(name, settings.get("revision"))
            count = counts.get(arm) or {}
            for key, *names in (("samples", "train", "groups"), ("held_out", "validation")):
                known = {name: self.words.integer(count[name]) if name in count else None for name in names}
                facts += self.say(key, **known)
            said += self.say("arm", arm=arm, source=with_facts(source[0], facts))
        said += self.say("no_leak") if counts else []
        return said + self.say("system", system=(study.get("dataset") or {}).get("system"))

    def trains(self, study: Row) -> bool:
        return any(not arm.get("checkpoints") for arm in (study.get("arms") or {}).values())

    def training(self, study: Row, findings: Findings) -> list[str]:
        peft, recipe = study.get("peft") or {}, study.get("training") or {}
        modules = peft.get("target_modules")
        if modules is not None:
            modules = self.words("methods.all_linear") if modules == "all-linear" else ", ".join(modules)
        numbers = {key: self.number(peft.get(key)) for key in ("r", "lora_alpha", "lora_dropout")}
        said = self.say("lora", modules=modules, **numbers)
        rate, schedule, completion_only = (
            recipe.get(key) for key in ("learning_rate", "lr_scheduler_type", "completion_only_loss")
        )
        keys = ("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "effective_batch_size")
        said += self.say(
            "optimizer",
            rate=self.words("methods.from_grid") if isinstance(rate, list) else self.number(rate),
            schedule=self.words(f"methods.schedule_{schedule}") if schedule else None,
            warmup=self.words.percent(recipe.get("warmup_ratio")),
            **{key: self.number(recipe.get(key)) for key in keys},
        )
        said += self.say("longest", max_length=recipe.get("max_length"))
        if completion_only is not None:
            said += self.say("loss_completion" if completion_only else "loss_all")
        said += self.say("patience", n=recipe.get("patience"))
        if isinstance(rate, list):
            chosen = [f"{point.arm} {self.number(point.rate)}" for point in findings.rates if point.chosen]
            said += self.say(
                "grid",
                rates="; ".join(str(self.number(each)) for each in rate),
                n=recipe.get("tuning_seeds"),
                chosen="; ".join(chosen) or None,
            )
        for arm, settings in (study.get("arms") or {}).items():
            own = {**(settings.get("training") or {}), **(settings.get("peft") or {})}
            told = [f"{key} = {self.value(value)}" for key, value in own.items() if value is not None]
            said += self.say("differs", arm=arm, what=", ".join(told) or None)
        return said

    def spent(self, folder: RunDir, study: Row, findings: Findings) -> list[str]:
        """The declared budget, and what the longest training of each arm took."""
        recipe, seeds = study.get("training") or {}, study.get("seeds")
        listed = list(range(seeds)) if isinstance(seeds, int) else seeds
        budget = {key: n for key, n in (recipe.get("budget") or {}).items() if n is not None}
        said = []
        for key, n in budget.items():
            seeds = ", ".join(map(str, listed)) if listed else None
            said = self.say("budget", budget=self.words(f"methods.budget_{key}", n=self.words.count(n)), seeds=seeds)
        rows = read_jsonl(folder.train_log) if folder.train_log.exists() else []
        batch, told = recipe.get("effective_batch_size"), []
        for arm in findings.arms:
            of_arm = [row for row in rows if row["arm"] == arm and row.get("kind") == "train"]
            steps = max((row["step"] for row in of_arm), default=None)
            tokens = max((row["tokens"] for row in of_arm if row.get("tokens")), default=None)
            if steps is not None and batch and tokens:
                values = {"steps": steps, "examples": steps * batch, "tokens": tokens}
                told += self.say("spent_arm", arm=arm, **{k: self.words.integer(n) for k, n in values.items()})
        return said + self.say("spent", listed="; ".join(told) or None)

    def benchmarks(self, study: Row, findings: Findings) -> list[str]:
        declared = study.get("benchmarks") or {}
        primary = declared.get("primary") or {}
        counts = {"problems": findings.problems or None, "tests": findings.tests}
        said = self.say("benchmark", name=self.benchmark(primary, counts))
        for each in declared.get("also") or []:
            beside = next((b for b in findings.beside if b.benchmark == benchmark_label(each["dataset"])), None)
            counts = {"problems": beside.problems, "tests": beside.tests} if beside else {}
            said += self.say("also", name=self.benchmark(each, counts))
        return said

    def benchmark(self, settings: Row, counts: Mapping[str, int | None]) -> str | None:
        """A benchmark's name with its source, filters and size; None for one that nothing is known of."""
        dataset = settings.get("dataset")
        facts = self.source(dataset, settings.get("revision")) if dataset else []
        for key in ("release", "platform", "difficulty", "from_", "to", "problems"):
            if value := settings.get(key):
                facts.append(f"{key.strip('_')}: {self.value(value)}")
        facts += self.say("sample_tests") if settings.get("tests") == "public" else []
        for key, n in counts.items():
            facts += self.say(f"n_{key}", n=self.words.integer(n) if n else None)
        if not facts:
            return None
        known = f"methods.known_{dataset}"
        name = (
            self.words(known)
            if self.words.has(known)
            else benchmark_label(dataset)
            if dataset
            else self.words("methods.unnamed")
        )
        return with_facts(name, facts)

    def decoding(self, study: Row) -> list[str]:
        settings = study.get("generation") or {}
        temperature, longest = settings.get("temperature"), settings.get("max_new_tokens")
        if temperature is None or longest is None:
            return []
        if temperature == 0:
            return self.say("greedy", longest=longest)
        values = {"temperature": self.number(temperature), "top_p": self.number(settings.get("top_p"))}
        return self.say(
            "sampled", samples=settings.get("num_samples"), seed=settings.get("seed"), longest=longest, **values
        )

    def judge(self, resolved: Row, study: Row) -> list[str]:
        judge, limits = resolved.get("judge") or {}, study.get("judge")
        if not judge:
            return self.say("recorded") if resolved.get("kind") == "import" else []
        said = self.say("judge", tier=judge.get("tier"), mode=judge.get("mode"))
        if limits is None:
            return said
        time, memory = limits.get("time_limit_s"), limits.get("memory_limit_mb")
        own = self.words("methods.own_limit")
        return said + self.say(
            "limits",
            time=f"{self.number(time)} s" if time else f"{own} 6 s",
            memory=f"{memory} MB" if memory else f"{own} 1024 MB",
        )

    def comparison(self, resolved: Row, study: Row, findings: Findings) -> list[str]:
        words, primary = self.words, findings.primary
        rule = sentences.rule(words, findings.select)
        digest = resolved.get("declared_sha256")
        changed = any(remark.code == "declaration_changed" for remark in findings.remarks)
        said = self.say(
            "changed" if changed else "declared",
            what=", ".join(sentences.arm_name(words, arm) for arm in findings.wanted) or None,
            rule=rule,
            margin=words.points(findings.margin, signed=False) if findings.margin else None,
            digest=digest[:DIGITS] if digest else None,
        ) or self.say("not_declared", rule=rule)
        if not findings.scores:
            return said
        sampled = findings.samples > 1
        said += self.say("pass_sampled" if sampled else "pass_greedy")
        if primary is not None and primary.method != "none":
            single = "test_pair_sampled" if sampled else "test_pair"
            said += self.say("test_two_way" if primary.method == "two-way" else single)
            said += self.say("equivalence") if findings.margin else []
        family = [f"{each.b} − {each.a}" for each in findings.contrasts if each.declared]
        if len(family) > 1:
            said += self.say("holm", n=len(family), listed=", ".join(family))
        return said

    def software(self, resolved: Row) -> list[str]:
        if resolved.get("kind") == "import":
            return []
        packages = resolved.get("packages") or {}
        versions = [f"Kıyas {self.version}", *(f"{name} {packages[name]}" for name in PACKAGES if name in packages)]
        if python := resolved.get("python"):
            versions.append(f"Python {python}")
        device = resolved.get("device")
        said = self.say(
            "software",
            versions=", ".join(versions),
            platform=resolved.get("platform"),
            device=f" ({device.upper()})" if device else "",
            date=self.words.date(str(resolved.get("created") or "")),
        )
        git = resolved.get("git")
        if git:
            said += self.say("git_changed" if git.endswith("+") else "git", revision=git[:DIGITS])
        return said + self.say("digests", n=DIGITS)


def shown(name: str) -> str:
    """A Hub id as it is; of a path on this machine only the last part."""
    return Path(name).name if Path(name).is_absolute() else name


def with_facts(name: str, facts: list[str]) -> str:
    return f"{name} ({'; '.join(facts)})" if facts else name
