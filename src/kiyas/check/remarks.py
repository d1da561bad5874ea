"""From facts to remarks: what deserves a word, and how much. The words themselves stand in page.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations
from pathlib import PurePosixPath
from typing import Any

from kiyas.check.costs import Costs
from kiyas.check.leaks import Overlap
from kiyas.check.measure import ArmFacts
from kiyas.check.traps import ChatFacts
from kiyas.contamination import Contamination
from kiyas.study import NO_SPLIT, Study

FEW = 0.01
"""Share of rows below which an oddity is a note: one row in a hundred does not decide a comparison."""
MANY_TOO_LONG = 0.05
EXPECTED_WITHIN = 0.05
TOKENS_DIFFER = 1.1
STYLE_DIFFERS = 0.1


class Level(StrEnum):
    """A warning changes what a result means; a note is only good to know."""

    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Remark:
    """One thing worth a word: its code, and what the words need."""

    level: Level
    code: str
    values: dict[str, Any]


def arm_remarks(study: Study, arms: dict[str, ArmFacts], steps: dict[str, int]) -> Iterator[Remark]:
    """About the data of the arms."""
    yield from _swapped(study, arms)
    for name, facts in arms.items():
        rows = facts.read.rows if facts.read else 0
        for code, found in (
            ("duplicates", len(facts.duplicates)),
            ("near_duplicates", len(facts.near_duplicates)),
            ("unparsed", len(facts.unparsed)),
            ("no_program", len(facts.no_program)),
        ):
            if found:
                yield Remark(_level(found, rows, FEW), code, {"arm": name, "found": found, "rows": rows})
        if facts.lengths:
            values = {"arm": name, "rows": rows}
            if facts.lengths.too_long:
                found, limit = facts.lengths.too_long, study.recipe(name).max_length
                level = _level(found, rows, MANY_TOO_LONG)
                longest = facts.lengths.longest
                yield Remark(level, "too_long", {**values, "found": found, "limit": limit, "longest": longest})
            if facts.lengths.beyond_max_new_tokens:
                found, limit = facts.lengths.beyond_max_new_tokens, study.generation.max_new_tokens
                level, longest = _level(found, rows, FEW), facts.lengths.completion_longest
                yield Remark(level, "cut_answers", {**values, "found": found, "limit": limit, "longest": longest})
    yield from _unequal(study, arms, steps)


def _level(found: int, rows: int, few: float) -> Level:
    return Level.WARNING if found > few * rows else Level.NOTE


def _swapped(study: Study, arms: dict[str, ArmFacts]) -> Iterator[Remark]:
    for name, other in permutations(arms, 2):
        words = _words(arms[name].source)
        if not arms[name].derived and _words(other) <= words and not _words(name) <= words:
            yield Remark(Level.WARNING, "swapped_name", {"arm": name, "source": arms[name].source, "other": other})
    for name, facts in arms.items():
        expect = study.arms[name].expect
        counted = facts.trained
        for key, found in (("problems", counted.problems), ("solutions", counted.solutions_per_problem)):
            wanted = getattr(expect, key, None)
            if wanted is not None and abs(found - wanted) > EXPECTED_WITHIN * wanted:
                values = {"arm": name, "what": key, "wanted": wanted, "found": found}
                yield Remark(Level.WARNING, "not_as_expected", values)


def _words(source: str) -> set[str]:
    """Words in the last part of a file's or data set's name: CodeGen-Deep-5K.jsonl → codegen, deep, 5k."""
    name = PurePosixPath(source).name.casefold()
    return set(re.findall(r"[^\W_]+", re.sub(r"\.(jsonl|json|csv|parquet)$", "", name)))


def _unequal(study: Study, arms: dict[str, ArmFacts], steps: dict[str, int]) -> Iterator[Remark]:
    batch = {name: study.recipe(name).effective_batch_size for name in arms}
    per_step = {name: facts.completion_tokens / facts.trained.rows * batch[name] for name, facts in arms.items()}
    spent = {name: per_step[name] * steps[name] for name in arms}
    most, least = max(spent, key=spent.__getitem__, default=""), min(spent, key=spent.__getitem__, default="")
    if spent and spent[most] > TOKENS_DIFFER * spent[least]:
        yield Remark(
            Level.WARNING, "tokens_differ", {"most": most, "least": least, "times": spent[most] / spent[least]}
        )
    own = {name: facts for name, facts in arms.items() if facts.read}
    for code, key in (("thinking_differs", "thinking"), ("fences_differ", "fenced")):
        share = {
            name: getattr(facts, key) / max(1, facts.read.rows if facts.read else 0) for name, facts in own.items()
        }
        if share and max(share.values()) - min(share.values()) > STYLE_DIFFERS:
            yield Remark(Level.WARNING, code, {"shares": share})
        elif mixed := [name for name, part in share.items() if STYLE_DIFFERS < part < 1 - STYLE_DIFFERS]:
            yield Remark(Level.NOTE, code.replace("differs", "mixed").replace("differ", "mixed"), {"arms": mixed})


def leak_remarks(
    study: Study, own: list[Overlap], left: list[Overlap], contaminated: list[Contamination], arms: dict[str, ArmFacts]
) -> Iterator[Remark]:
    """About problems that stand where they must not."""
    ignored = study.dataset.split_column == NO_SPLIT
    for each in own:
        if each.most:
            level = Level.WARNING if each.split == "validation" and not ignored else Level.NOTE
            values = {
                "arm": each.arm,
                "split": each.split,
                "found": each.most,
                "problems": each.problems,
                "same_group": each.same_group,
                "lost": arms[each.arm].left_out.get("in_a_validation_set", 0),
                "ignored": ignored,
            }
            yield Remark(level, "split_leak", values)
    for each in left:
        if each.most:
            values = {"arm": each.arm, "found": each.most, "problems": each.problems, "exact": each.same_prompt}
            yield Remark(Level.WARNING, "near_leak", values)
    for one in contaminated:
        if one.found:
            kinds = {kind: len(getattr(one, kind)) for kind in ("exact", "ngram", "near", "solution")}
            values = {"arm": one.arm, "benchmark": one.benchmark, "problems": one.problems, "ids": one.found, **kinds}
            yield Remark(Level.WARNING, "contaminated", {**values, "found": len(one.found)})


def chat_remarks(chat: ChatFacts) -> Iterator[Remark]:
    """About the tokenizer and its template."""
    if not chat.template:
        yield Remark(Level.WARNING, "no_template", {})
    if chat.system_ignored and chat.system_prompt is not None:
        yield Remark(Level.WARNING, "system_ignored", {})
    if chat.system_refused and chat.system_prompt is None:
        yield Remark(Level.NOTE, "system_refused", {})
    if chat.default_system and chat.system_prompt is None:
        yield Remark(Level.WARNING, "default_system", {"text": chat.default_system})
    if chat.pad_is_end:
        yield Remark(Level.NOTE, "pad_is_end", {"token": chat.end_of_turn})
    if not chat.end_stops:
        yield Remark(Level.NOTE, "end_no_stop", {"token": chat.end_of_turn, "stops": list(chat.stop_tokens)})


def cost_remarks(costs: Costs, seeds: int) -> Iterator[Remark]:
    """About what the machine can hold, and how far a conclusion can reach."""
    if costs.memory_bytes > costs.memory_here:
        yield Remark(Level.WARNING, "memory", {"needed": costs.memory_bytes, "here": costs.memory_here})
    if costs.disk_bytes > costs.disk_free:
        yield Remark(Level.WARNING, "disk", {"needed": costs.disk_bytes, "free": costs.disk_free})
    if costs.judge_s is None:
        yield Remark(Level.WARNING, "no_isolation", {"reason": costs.judge_trouble.splitlines()[0]})
    if costs.wanted not in ("auto", "cpu") and costs.device == "cpu":
        yield Remark(Level.WARNING, "device_elsewhere", {"wanted": costs.wanted})
    if seeds == 1:
        yield Remark(Level.WARNING, "one_seed", {})
