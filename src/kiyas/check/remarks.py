"""From facts to remarks: what deserves a word, and how much. The words themselves are in page.py."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kiyas.analyse.checklist import FEW_VALIDATION
from kiyas.analyse.findings import Level, Remark
from kiyas.analyse.provenance import shared_remark
from kiyas.check.chat_template import ChatFacts
from kiyas.check.leaks import Overlap
from kiyas.check.sources import Same
from kiyas.data.chat import DAY
from kiyas.judge import problem_from_row
from kiyas.judge.tolerances import with_statement
from kiyas.pipeline.measure import ArmFacts
from kiyas.pipeline.mistakes import recipes_differ
from kiyas.pipeline.prepare import Unexpected
from kiyas.similarity.contamination import Contamination
from kiyas.similarity.shared_rows import SharedRows
from kiyas.study.settings import NO_SPLIT, Study

if TYPE_CHECKING:
    from kiyas.check.cluster_costs import ClusterCosts
    from kiyas.check.costs import Costs

FEW = 0.01
"""Share of rows below which an oddity is a note: one row in a hundred does not decide a comparison."""
MANY_TOO_LONG = 0.05
TOKENS_DIFFER = 1.1
STYLE_DIFFERS = 0.1
READ_ONCE = 0.95
"""Epochs below which an arm is not read once: one row in twenty does not decide a comparison."""
MANY_EPOCHS = 16
"""Passes over the same rows beyond which more of them add next to nothing (Muennighoff et al. 2023)."""
FEW_POINTS = 2
"""Points, besides the start, that are not a curve."""
WORST = (
    "same_file",
    "same_data",
    "columns_swapped",
    "not_as_expected",
    "rate_impossible",
    "no_program",
    "no_isolation",
    "memory",
    "cluster_too_small",
    "card_too_small",
    "disk",
)
"""With any of these a run is wasted, or refused: they come first, in this order."""


def worst_first(found: Iterable[Remark]) -> list[Remark]:
    """The remarks as they are shown, without those that another one makes pointless."""
    remarks = list(found)
    alike = {
        frozenset((each.values["a"], each.values["b"])) for each in remarks if each.code in ("same_file", "same_data")
    }
    kept = [
        each
        for each in remarks
        if not (each.code == "swapped_name" and frozenset((each.values["arm"], each.values["other"])) in alike)
    ]
    return sorted(kept, key=_badness)


def _badness(remark: Remark) -> int:
    return WORST.index(remark.code) if remark.code in WORST and remark.level is Level.WARNING else len(WORST)


def arm_remarks(
    study: Study, arms: dict[str, ArmFacts], steps: dict[str, int], unexpected: list[Unexpected]
) -> Iterator[Remark]:
    """About the data of the arms."""
    yield from _swapped(arms)
    for each in unexpected:
        values = {"arm": each.arm, "what": each.key, "wanted": each.wanted, "found": each.found}
        yield Remark("not_as_expected", Level.WARNING, values)
    for name, facts in arms.items():
        rows = facts.read.rows if facts.read else 0
        for code, found in (
            ("duplicates", len(facts.duplicates)),
            ("near_duplicates", len(facts.near_duplicates)),
            ("unparsed", len(facts.unparsed)),
            ("columns_swapped" if facts.columns_swapped else "no_program", len(facts.no_program)),
        ):
            if found:
                yield Remark(code, _level(found, rows, FEW), {"arm": name, "found": found, "rows": rows})
        if facts.lengths:
            max_length, max_new_tokens = study.recipe(name).max_length, study.generation.max_new_tokens
            too_long, cut = facts.lengths.too_long, facts.lengths.beyond_max_new_tokens
            for code, found, few, limit, longest in (
                ("too_long", too_long, MANY_TOO_LONG, max_length, facts.lengths.longest),
                ("cut_answers", cut, FEW, max_new_tokens, facts.lengths.completion_longest),
            ):
                if found:
                    values = {"arm": name, "rows": rows, "found": found, "limit": limit, "longest": longest}
                    yield Remark(code, _level(found, rows, few), values)
        for code in ("other_system", "chat_tokens"):
            if code in facts.flags:
                values = {"arm": name, "found": facts.flags[code], "rows": rows}
                yield Remark(code, Level.WARNING, values)
        if facts.unused:
            yield Remark("unused_columns", Level.NOTE, {"arm": name, "columns": list(facts.unused)})
    yield from _unequal(study, arms, steps)


def _level(found: int, rows: int, few: float) -> Level:
    return Level.WARNING if found > few * rows else Level.NOTE


def _swapped(arms: dict[str, ArmFacts]) -> Iterator[Remark]:
    for name, other in permutations(arms, 2):
        words = _words(arms[name].source)
        if not arms[name].derived and _words(other) <= words and not _words(name) <= words:
            yield Remark("swapped_name", Level.WARNING, {"arm": name, "source": arms[name].source, "other": other})


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
            "tokens_differ", Level.WARNING, {"most": most, "least": least, "times": spent[most] / spent[least]}
        )
    own = {name: facts for name, facts in arms.items() if facts.read}
    for differs, mixes, key in (
        ("thinking_differs", "thinking_mixed", "thinking"),
        ("fences_differ", "fences_mixed", "fenced"),
    ):
        share = {
            name: getattr(facts, key) / max(1, facts.read.rows if facts.read else 0) for name, facts in own.items()
        }
        if share and max(share.values()) - min(share.values()) > STYLE_DIFFERS:
            yield Remark(differs, Level.WARNING, {"shares": share})
        elif mixed := [name for name, part in share.items() if STYLE_DIFFERS < part < 1 - STYLE_DIFFERS]:
            yield Remark(mixes, Level.NOTE, {"arms": mixed})


def budget_remarks(arms: Mapping[str, ArmFacts], epochs: Mapping[str, float]) -> Iterator[Remark]:
    """About a budget that is far from the data. `epochs`: how often each arm's rows are read."""
    unread = {
        name: (round(share * arms[name].trained.rows), arms[name].trained.rows)
        for name, share in epochs.items()
        if share < READ_ONCE
    }
    if unread:
        yield Remark("not_read_once", Level.WARNING, {"read": unread})
    # A derived arm is small on purpose, and repeats its rows.
    many = {name: share for name, share in epochs.items() if share > MANY_EPOCHS and not arms[name].derived}
    if many:
        yield Remark("many_epochs", Level.WARNING, {"epochs": many})


def curve_remarks(study: Study, arms: Mapping[str, ArmFacts], steps: Mapping[str, int]) -> Iterator[Remark]:
    """About save and eval steps that leave no curve, and about validation rows that are too few for one."""
    validation = {name: facts.validation for name, facts in arms.items()}
    fewest = min(steps.values(), default=0)
    every = study.training
    saves = math.ceil(fewest / every.save_steps)
    evals = len({step for key in (every.eval_steps, every.save_steps) for step in (*range(key, fewest, key), fewest)})
    for code, key, points, wanted in (
        ("few_checkpoints", "save_steps", saves, True),
        ("few_losses", "eval_steps", evals, any(validation.values())),
    ):
        if wanted and 0 < points <= FEW_POINTS:
            values = {"every": getattr(every, key), "steps": fewest, "points": points, "better": max(1, fewest // 5)}
            yield Remark(code, Level.WARNING, values)
    few = {name: rows for name, rows in validation.items() if rows < FEW_VALIDATION}
    if few and any(validation.values()):
        yield Remark("few_validation", Level.WARNING, {"validation": few})


def shared_remarks(study: Study, shared: list[SharedRows], same: list[Same]) -> Iterator[Remark]:
    """About rows that two arms are both trained on, where they are many, and about arms that read the same file."""
    alike = {(each.a, each.b): each for each in same}
    for each in shared:
        remark, file = shared_remark(each), alike.get((each.a, each.b))
        values = {**remark.values, "a_rows": each.a_rows, "b_rows": each.b_rows, "b_shared": each.b_shared}
        if remark.level is Level.OK and file is None:
            continue
        if recipes_differ(study, each.a, each.b):
            yield Remark("shared_other_recipe", Level.NOTE, values)
        elif file is not None:
            yield Remark("same_file", Level.WARNING, {**values, "sources": list(file.sources)})
        else:
            derived = study.arms[each.a].sources or study.arms[each.b].sources
            level = remark.level if derived else Level.WARNING
            yield dataclasses.replace(remark, level=level, values=values)


def leak_remarks(
    study: Study, own: list[Overlap], left: list[Overlap], contaminated: list[Contamination], arms: dict[str, ArmFacts]
) -> Iterator[Remark]:
    """About problems that are where they must not be."""
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
            yield Remark("split_leak", level, values)
    for each in left:
        if each.most:
            values = {"arm": each.arm, "found": each.most, "problems": each.problems, "exact": each.same_prompt}
            yield Remark("near_leak", Level.WARNING, values)
    for one in contaminated:
        if one.found:
            kinds = {kind: len(getattr(one, kind)) for kind in ("exact", "ngram", "near", "solution")}
            values = {"arm": one.arm, "benchmark": one.benchmark, "problems": one.problems, "ids": one.found, **kinds}
            yield Remark("contaminated", Level.WARNING, {**values, "found": len(one.found)})


def chat_remarks(chat: ChatFacts) -> Iterator[Remark]:
    """About the tokenizer and its template."""
    if not chat.template:
        yield Remark("no_template", Level.WARNING, {})
    if chat.system_ignored and chat.system_prompt is not None:
        yield Remark("system_ignored", Level.WARNING, {})
    if chat.system_refused and chat.system_prompt is None:
        yield Remark("system_refused", Level.NOTE, {})
    if chat.default_system and chat.system_prompt is None:
        yield Remark("default_system", Level.WARNING, {"text": chat.default_system})
    if chat.appends:
        yield Remark("end_appended", Level.WARNING, {"token": chat.appends})
    if chat.unopened:
        yield Remark("answer_unopened", Level.WARNING, {})
    elif chat.prompt_ends:
        yield Remark("prompt_ends", Level.WARNING, {"token": chat.end_of_turn})
    if chat.reads_clock:
        yield Remark("reads_clock", Level.WARNING, {"day": f"{DAY:%d %b %Y}"})
    if chat.pad_is_end:
        yield Remark("pad_is_end", Level.NOTE, {"token": chat.end_of_turn})
    if not chat.end_stops:
        yield Remark("end_no_stop", Level.NOTE, {"token": chat.end_of_turn, "stops": list(chat.stop_tokens)})


def problem_remarks(doubts: list[str]) -> Iterator[Remark]:
    """About problems that do not prove themselves."""
    for doubt in doubts:
        yield Remark("problems_found_wrong", Level.WARNING, {"what": doubt})


def judge_remarks(study: Study, problems: list[dict[str, Any]]) -> Iterator[Remark]:
    """About how answers are judged."""
    if study.judge.allows_stated_errors:
        ids = with_statement(problem_from_row(row, "kiyas") for row in problems)
        if ids:
            yield Remark("stated_tolerance", Level.NOTE, {"found": len(ids), "problems": len(problems), "ids": ids})


def design_remarks(study: Study) -> Iterator[Remark]:
    """About the limits of the conclusion."""
    if study.training.load_in_4bit:
        yield Remark("base_in_4bit", Level.NOTE, {})
    if len(study.seed_list) == 1:
        yield Remark("one_seed", Level.WARNING, {})
    if study.compare.k > 1:
        yield Remark("design_of_pass1", Level.NOTE, {"metric": study.compare.metric})


def cost_remarks(costs: Costs) -> Iterator[Remark]:
    """About the limits of the machine."""
    if costs.memory.trouble or costs.memory_bytes > costs.memory_here:
        values = {"needed": costs.memory_bytes, "here": costs.memory_here, "trouble": costs.memory.trouble}
        yield Remark("memory", Level.WARNING, values)
    if costs.disk_bytes > costs.disk_free:
        yield Remark("disk", Level.WARNING, {"needed": costs.disk_bytes, "free": costs.disk_free})
    if costs.judge_s is None:
        yield Remark("no_isolation", Level.WARNING, {"reason": costs.judge_trouble.splitlines()[0]})
    if costs.wanted not in ("auto", "cpu") and costs.device == "cpu" and not costs.on_card:
        yield Remark("device_elsewhere", Level.WARNING, {"wanted": costs.wanted})


def cluster_remarks(costs: ClusterCosts) -> Iterator[Remark]:
    """About cards that are too small, one by one, and about a cluster of such cards."""
    for each in costs.cards:
        if each.cannot_train or each.cannot_answer:
            takes = [
                stage for stage, cannot in (("train", each.cannot_train), ("answer", each.cannot_answer)) if cannot
            ]
            reason = each.cannot_train or each.cannot_answer
            yield Remark("card_too_small", Level.WARNING, {"card": each.title, "takes_no": takes, "reason": reason})
    if costs.train_s is None or costs.generate_s is None:
        yield Remark("cluster_too_small", Level.WARNING, {"train": costs.train_s is None})
