"""What there is to answer, cut into waves."""

from __future__ import annotations

from collections.abc import Container, Sequence
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
    made: tuple[int, ...] = ()
    """tokens of the answer so far, where an earlier stretch of the wave began it"""

    @property
    def ids(self) -> tuple[int, ...]:
        """What the model has read and written so far."""
        return self.question.prompt + self.made


def waves_of(jobs: Sequence[Job], rows: int) -> list[list[Job]]:
    """Single jobs, cut into waves in their order."""
    size = WAVE * rows
    return [sorted(jobs[at : at + size], key=lambda job: job.k) for at in range(0, len(jobs), size)]


def waves(
    adapters: int,
    questions: Sequence[Question],
    samples: int,
    rows: int,
    made: Container[tuple[int, str, int]] = frozenset(),
) -> list[list[Job]]:
    """All work but what is `made` (adapter, problem, sample), cut into waves.

    All adapters of a question are in one wave, so that every wave is balanced.
    """
    per_wave = max(1, WAVE * rows // adapters)
    asked = [
        [Job(k, question, sample) for k in range(adapters) if (k, question.problem_id, sample) not in made]
        for question in questions
        for sample in range(samples)
    ]
    missing = [jobs for jobs in asked if jobs]
    return [
        sorted((job for jobs in missing[start : start + per_wave] for job in jobs), key=lambda job: job.k)
        for start in range(0, len(missing), per_wave)
    ]
