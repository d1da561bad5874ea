"""Which greedy answers are decoded again, to see how often rounding alone changes a verdict.

Where two tokens are nearly tied, the shape of the batch decides which is greedy. So a sample of answers is given again
with other companions and at most half as many rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kiyas.generate.memory import Plan
from kiyas.study.settings import Study
from kiyas.types import BASE_ARM, AdapterId, Answered


def chosen(study: Study, answering: Sequence[AdapterId], problems: Sequence[str]) -> list[Answered]:
    """Answers of the last checkpoints of the arms that the study compares, to the primary benchmark's `problems`.

    Every checkpoint has as many, up to one, at even distances in the order of the problems, each its own. None where
    answers are sampled: their luck is in the spread of the answers already.
    """
    if study.generation.temperature > 0:
        return []
    arms = compared(study)
    last = {id.training: id for id in sorted(answering) if id.arm in arms}
    ids = sorted(last.values(), key=lambda id: (id.seed, id.variant, id.arm))
    number = min(study.generation.batch_invariance, len(ids) * len(problems))
    rounds = -(-number // max(1, len(ids)))
    turns = [(round, j) for round in range(rounds) for j in range(len(ids))][:number]
    return [(ids[j], problems[(round * len(ids) + j) * len(problems) // (rounds * len(ids))], 0) for round, j in turns]


def compared(study: Study) -> set[str]:
    """The arms of the declared contrasts."""
    first = tuple(study.arms)[:2] if len(study.arms) > 1 else (BASE_ARM, *study.arms)
    return {arm for pair in (study.compare.primary or first, *study.compare.contrasts) for arm in pair}


def other_shape(plans: Sequence[Plan], adapters: int, answers: int) -> Plan | None:
    """At most half of the rows that any plan had in flight. None where that is less than one."""
    rows = min(min(plan.rows for plan in plans) // 2, answers)
    if rows < 1:
        return None
    plan = min(plans, key=lambda plan: plan.adapters)
    return replace(plan, adapters=min(plan.adapters, adapters, rows), rows=rows, after=0)
