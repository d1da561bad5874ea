"""What there is to answer, cut into waves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WAVE = 4


@dataclass(frozen=True)
class Question:
    """One problem as the model is asked it."""

    problem_id: str
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """One answer to give: adapter k of the stack, a question, which sample."""

    k: int
    question: Question
    sample: int


def waves(adapters: int, questions: Sequence[Question], samples: int, rows: int) -> list[list[Job]]:
    """All work, cut into waves. All adapters of a question are in one wave, so that every wave is balanced."""
    per_wave = max(1, WAVE * rows // adapters)
    asked = [(question, sample) for question in questions for sample in range(samples)]
    return [
        [Job(k, question, sample) for k in range(adapters) for question, sample in asked[start : start + per_wave]]
        for start in range(0, len(asked), per_wave)
    ]
