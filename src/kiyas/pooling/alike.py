"""What should be alike in replications: everything that may change the difference, and nothing else.

Compared by content, not by path or name: training rows, the base's files, statements. Not compared: how work was laid
out, what is only logged, seeds of noise, versions of packages, and what the rest makes irrelevant (`top_p` in greedy
decoding, `save_steps` where the last checkpoint counts). What a run does not record is not compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from kiyas.analyse import Level, Remark
from kiyas.analyse.load import Loaded
from kiyas.runfolder import rows
from kiyas.runfolder.files import digest
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import BaseModelFacts
from kiyas.study.settings import HARMLESS, Dtype, Peft, Select, Study, as_text, flat
from kiyas.types import BASE_ARM

LOGGED = ("logging_steps", "eval_steps")
"""Keys of `training` that only say what is logged."""
DECODING = ("temperature", "top_p", "max_new_tokens")
JUDGED_BY = ("time_limit_s", "memory_limit_mb", "mode", "extraction", "tolerance", "python")
"""Keys of `judge` that may change whether a program is right."""
SHOWN_CHARACTERS, SHOWN_DIGITS = 60, 8


@dataclass(frozen=True)
class Fact:
    """A setting of one run: `same` is equal where it is the same in another one, `shown` is what readers see."""

    same: Hashable
    shown: str


Facts: TypeAlias = dict[str, Fact]


def differences(loaded: Mapping[str, tuple[Loaded, tuple[str, str]]], a: str, b: str) -> list[Remark]:
    """One remark for everything that differs. `loaded`: the runs by name, with what each calls its arms a and b."""
    facts = {name: _facts(run, arms, (a, b)) for name, (run, arms) in loaded.items()}
    found = []
    for key in dict.fromkeys(key for of_run in facts.values() for key in of_run):
        groups: dict[Hashable, list[str]] = {}
        shown: dict[Hashable, str] = {}
        for name, of_run in facts.items():
            if key in of_run:
                groups.setdefault(of_run[key].same, []).append(name)
                shown.setdefault(of_run[key].same, of_run[key].shown)
        if len(groups) > 1:
            told = "; ".join(f"{shown[same]} ({', '.join(who)})" for same, who in groups.items())
            section, _, arm = key.partition(".")
            what = ("differs_rows", {"arm": arm}) if section == "arms" else ("differs", {"what": key})
            found.append(Remark(what[0], Level.WARNING, {**what[1], "values": told}))
    return [*found, *_statements([run for run, _ in loaded.values()])]


def _statements(runs: Sequence[Loaded]) -> list[Remark]:
    """The same id may have another wording: then the models were asked something else."""
    shared = set.intersection(*(set(run.problems) for run in runs)) if runs else set()
    worded = {id: {run.problems[id].statement for run in runs} - {""} for id in shared}
    other = sorted(id for id, texts in worded.items() if len(texts) > 1)
    return (
        [Remark("statements_differ", Level.WARNING, {"n": len(other), "some": ", ".join(other[:3])})] if other else []
    )


def _facts(run: Loaded, own: tuple[str, str], called: tuple[str, str]) -> Facts:
    """`own`: the two arms as the run calls them; `called`: as they are called here."""
    record, study = run.record, run.record.study
    found = {"model_name_or_path": _base(record.base)} if record.base is not None else {}
    if study is None:
        return found
    found["compare.select"] = _value(study.compare.select)
    found["dataset.system"] = _value(study.dataset.system)
    rows_of = {arm: _training_rows(run, study, arm) for arm in own}
    for arm, name in zip(own, called, strict=True):
        if (data := rows_of[arm]) is not None:
            found[f"arms.{name}"] = data
    recipes = [_recipe(run, study, arm, rows_of[arm] is not None) for arm in own]
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = {name: recipe[key] for name, recipe in zip(called, recipes, strict=True) if key in recipe}
        alone = len(values) == len(own) and len({each.same for each in values.values()}) == 1
        shown = next(iter(values.values())).shown if alone else ", ".join(f"{n} {v.shown}" for n, v in values.items())
        found[key] = Fact(tuple(sorted((name, each.same) for name, each in values.items())), shown)
    return found | _answers(run, study) | _verdicts(run, study)


def _value(value: Any) -> Fact:
    text = "–" if value is None else as_text(value)
    short = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… [{digest(text)[:SHOWN_DIGITS]}]"
    return Fact(text, short)


def _base(base: BaseModelFacts) -> Fact:
    """By its files, wherever they lie; else by its fingerprint, else by its name."""
    name = Path(base.name_or_path).name
    known = digest(sorted(base.digests.items())) if base.digests else base.fingerprint
    return Fact(known, f"{name} [{known[:SHOWN_DIGITS]}]") if known else Fact(name, name)


def _training_rows(run: Loaded, study: Study, arm: str) -> Fact | None:
    """By prompts, answers and splits, in any order; None where the run folder has none."""
    total = count = 0
    for row in rows.examples(RunDir(run.run), arm):
        text = "\0".join((row.split, str(row.draw), row.prompt, row.completion))
        total += int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        count += row.split == "train"
    if not total:
        return None
    source = study.arms[arm].dataset_name or arm
    known = f"{total % 2**256:064x}"
    return Fact(known, f"{Path(source).name}, {count:,} × [{known[:SHOWN_DIGITS]}]")


def _recipe(run: Loaded, study: Study, arm: str, rows_known: bool) -> Facts:
    """How an arm was trained: what its own settings and the study's make together. Nothing, if elsewhere or not."""
    if arm == BASE_ARM or study.arms[arm].is_given:
        return {}
    training, counts = study.recipe(arm), RunDir(run.run).counts(Stage.TRAIN)
    steps = counts["steps"][arm] if "steps" in counts and arm in counts["steps"] else None
    settings = training.model_dump(mode="json")
    settings["learning_rate"] = list(study.variants_of(arm).values())
    for key in LOGGED:
        del settings[key]
    if study.compare.select is Select.LAST and training.patience is None:
        del settings["save_steps"]
    if rows_known:  # it has left out what it leaves out
        del settings["max_length"]
    if steps is not None:
        settings["budget"] = {"steps": steps}
    del settings["dtype"]
    number_format = run.record.dtype or training.dtype
    if number_format is not Dtype.AUTO:
        settings["dtype"] = number_format
    lora: Peft = study.peft_of(arm)
    named = flat(settings, "training.") | flat(lora.model_dump(mode="json"), "peft.")
    return {key: _value(value) for key, value in named.items() if key not in HARMLESS}


def _answers(run: Loaded, study: Study) -> Facts:
    settings = study.generation.model_dump(mode="json")
    wanted = DECODING if study.generation.temperature > 0 else ("temperature", "max_new_tokens")
    return {f"generation.{key}": _value(settings[key]) for key in wanted}


def _verdicts(run: Loaded, study: Study) -> Facts:
    settings = study.judge.model_dump(mode="json")
    settings["tolerance"] = "statement" if study.judge.allows_stated_errors else "exact"
    found = {f"judge.{key}": _value(settings[key]) for key in JUDGED_BY}
    if run.record.judge is not None:
        found["judge.isolation"] = _value(run.record.judge.tier)
    if study.judge.python is None and run.record.python:
        version = ".".join(run.record.python.split(".")[:2])
        found["judge.python"] = Fact(version, f"Python {version}")
    return found
