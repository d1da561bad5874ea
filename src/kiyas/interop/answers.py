"""What the readers of the formats hand on: one answer of one model to one problem, whatever file it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from kiyas.interop.files import Row
from kiyas.judge import Outcome
from kiyas.types import KiyasError

MOST_STEPS = 10**12
"""No training makes more; a larger number is a mistake."""


@dataclass(frozen=True)
class Answer:
    """`verdict` None: the file has none; IE: the evaluation failed. In both cases it is missing.

    `text` is what the model wrote; `program` the code that was recorded. `chat`: `text` is a whole answer, in which
    our extraction finds the program; else only `program` is one. `problem` is a row in the judge's format, as far as
    the file knows it, and always has an `id`.
    """

    problem: Row
    verdict: Outcome | None
    sample: int = 0
    text: str | None = None
    program: str | None = None
    chat: bool = False
    passed: int | None = None
    total: int | None = None
    detail: str = ""
    measures: Row = field(default_factory=dict)
    """`cpu_s`, `wall_s`, `peak_mb`, `tests`, `flags`, where the file has them"""

    @property
    def id(self) -> str:
        return str(self.problem["id"])

    @property
    def missing(self) -> bool:
        return self.verdict in (None, Outcome.IE)


class Format(Protocol):
    """A module that reads one family of formats."""

    NAME: str

    def recognises(self, row: Row) -> bool:
        """Is this one of its rows?"""
        ...

    def answers(self, row: Row, where: str, odd: Counter[str]) -> Iterator[Answer]:
        """The row's answers. `odd` counts what was unusual about it; raises KiyasError for a row that is wrong."""
        ...


def whole(value: Any, key: str, where: str) -> int:
    """A whole number. Raises KiyasError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_STEPS:
        raise KiyasError(f"{where}: {key} is {value!r:.80}, expected a whole number")
    return value


def text_of(value: Any) -> str | None:
    return None if value is None else str(value)


def problem_of(id: Any, title: Any = None, statement: Any = None, **more: Any) -> Row:
    """A problem's row, without what is not known."""
    known = {"title": title, "statement": statement, **more}
    return {"id": str(id), **{key: str(value) for key, value in known.items() if value}}
