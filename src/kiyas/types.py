"""The nouns that cross stages. Plain, frozen, free of heavy imports: stages meet here and in files.

A *study* compares *arms* (training recipes) of one frozen *base* model. A trained (arm, variant, seed) at a
step is an *adapter*; the base itself is one too, so that it is answered, judged and counted like the rest.
"""

from __future__ import annotations

import difflib
import math
import re
from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal, overload

from kiyas.judge.terminal import printable
from kiyas.judge.types import Extraction, Outcome, TestResult, Verdict

BASE_ARM = "base"
MOST = 2**53
"""Numbers in somebody's files are below this, so that every reader of JSON reads the same."""
Problems = Literal["same", "shared", "own"]
"""How runs on different problems are compared: refused, on those that all have, or each run on its own."""


class KiyasError(Exception):
    """A mistake of the user or a limit of the machine: what is wrong, where, and what to do. Exit code 1.

    Any other exception is our bug (exit code 2).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return printable(f"{message}\n  hint: {self.hint}" if self.hint else message)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message alone, as on the command line."""
        return [f"kiyas: {self}"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean check?`, where something like the word is known."""
    close = difflib.get_close_matches(word, list(known), 1, 0.7)
    return f"; did you mean {close[0]}?" if close else ""


@dataclass(frozen=True, order=True)
class AdapterId:
    """Which weights answered: (arm, variant, seed, step). `variant` names a learning-rate grid point, usually ""."""

    arm: str
    variant: str = ""
    seed: int = 0
    step: int = 0

    @property
    def is_base(self) -> bool:
        return self.arm == BASE_ARM

    @property
    def training(self) -> tuple[str, str, int]:
        """The training this checkpoint belongs to: (arm, variant, seed)."""
        return (self.arm, self.variant, self.seed)

    @property
    def folder(self) -> str:
        """Path below `train/checkpoints/`: ARM[/VARIANT]/seed-S/step-000200."""
        parts = [
            self.arm,
            *([self.variant] if self.variant else []),
            f"seed-{self.seed}",
            f"step-{self.step:06d}",
        ]
        return "/".join(parts)

    def __str__(self) -> str:
        return BASE_ARM if self.is_base else self.folder

    def fields(self) -> dict[str, Any]:
        """The four keys as they are in every JSONL row about this adapter."""
        return {"arm": self.arm, "variant": self.variant, "seed": self.seed, "step": self.step}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> AdapterId:
        """The adapter that a JSONL row is about. Raises KeyError or ValueError where it cannot be read."""
        found = cls(row["arm"], row.get("variant", ""), row.get("seed", 0), row.get("step", 0))
        if not (isinstance(found.arm, str) and isinstance(found.variant, str)):
            raise ValueError("the name of an arm")
        if not all(type(number) is int and abs(number) < MOST for number in (found.seed, found.step)):
            raise ValueError("a seed or a step")
        return found

    @classmethod
    def parse_folder(cls, folder: str) -> AdapterId:
        """Inverse of `folder`. Raises ValueError for anything else."""
        match = re.fullmatch(r"([^/]+)(?:/([^/]+))?/seed-(\d+)/step-(\d+)", folder)
        if match is None:
            raise ValueError(f"not a checkpoint folder: {folder!r}")
        arm, variant, seed, step = match.groups()
        return cls(arm, variant or "", int(seed), int(step))


BASE = AdapterId(BASE_ARM)


@dataclass(frozen=True, slots=True)
class Example:
    """One training or validation sample: the chat's user text and the answer to learn.

    `group` is the key (usually the problem) that must never be on both sides of a split.
    """

    id: str
    prompt: str
    completion: str
    group: str
    split: str = "train"
    draw: int = 0
    """of a derived arm's random draws: the training that takes this one"""

    @property
    def prompt_key(self) -> Hashable:
        """Equal where the prompts are: what to compare and count by, without the text itself."""
        return self.prompt

    @property
    def completion_key(self) -> Hashable:
        return self.completion

    @property
    def group_key(self) -> Hashable:
        return self.group

    def to_row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "prompt": self.prompt,
            "completion": self.completion,
            "group": self.group,
            "split": self.split,
            "draw": self.draw,
        }

    def moved(self, split: str | None = None, draw: int | None = None) -> Example:
        """The same row in another split or draw."""
        return replace(self, split=self.split if split is None else split, draw=self.draw if draw is None else draw)


@dataclass(frozen=True)
class TokenizedExample:
    """A tokenised example. Tokens from `start` on are learned; the first token of all never is."""

    ids: tuple[int, ...]
    start: int

    @property
    def labels(self) -> int:
        return len(self.ids) - max(1, self.start)


class Samples(Sequence[TokenizedExample]):
    """Many tokenised examples in little memory: 4 bytes a token. One is made whenever it is asked for."""

    def __init__(self, samples: Iterable[TokenizedExample] = ()) -> None:
        self._ids, self._ends, self._starts = array("i"), array("q", [0]), array("i")
        for sample in samples:
            self.append(sample)

    def append(self, sample: TokenizedExample) -> None:
        self._ids.extend(sample.ids)
        self._ends.append(len(self._ids))
        self._starts.append(sample.start)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, at: int) -> TokenizedExample: ...
    @overload
    def __getitem__(self, at: slice) -> list[TokenizedExample]: ...
    def __getitem__(self, at: int | slice) -> TokenizedExample | list[TokenizedExample]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        number = range(len(self))[at]
        return TokenizedExample(tuple(self._ids[self._ends[number] : self._ends[number + 1]]), self._starts[number])


Answered = tuple[AdapterId, str, int]
"""Which answer: (adapter, problem, sample)."""


@dataclass(frozen=True)
class Completion:
    """What one adapter answered to one problem. `stop` is "eos" or "length"; `tokens` counts the answer's.

    An import may not know the last three.
    """

    adapter: AdapterId
    problem_id: str
    sample: int
    text: str
    prompt_tokens: int | None
    tokens: int | None
    stop: str | None

    @property
    def key(self) -> Answered:
        return (self.adapter, self.problem_id, self.sample)

    def to_row(self) -> dict[str, Any]:
        return {
            **self.adapter.fields(),
            "problem_id": self.problem_id,
            "sample": self.sample,
            "text": self.text,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "stop": self.stop,
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Completion:
        return cls(
            AdapterId.of(row),
            str(row["problem_id"]),
            row["sample"],
            row["text"],
            row.get("prompt_tokens"),
            row.get("tokens"),
            row.get("stop"),
        )


@dataclass(frozen=True)
class Judgment:
    """The verdict on one completion's program: a row of judge/judgments.jsonl.

    What an import does not know is None or empty. A verdict that is None or IE is *missing*: it never counts as wrong.
    """

    adapter: AdapterId
    problem_id: str
    sample: int
    program: str | None
    verdict: Outcome | None
    passed: int | None = None
    total: int | None = None
    tests: tuple[TestResult, ...] = ()
    detail: str = ""
    flags: tuple[str, ...] = ()
    tier: str = ""
    recorded: bool = False
    """read from somebody's results, not produced by our judge"""
    not_run: int = 0
    """tests that were not run, since the program was stopped at a time-out: how many would pass is not known"""

    @property
    def key(self) -> Answered:
        return (self.adapter, self.problem_id, self.sample)

    @property
    def solved(self) -> bool:
        return self.verdict is Outcome.AC

    @property
    def missing(self) -> bool:
        return self.verdict in (None, Outcome.IE)

    @property
    def share(self) -> float | None:
        """Share of the tests passed, at least: a test that was not run counts as failed. None where it is not known."""
        return self.passed / self.total if self.total and self.passed is not None else None

    @property
    def share_most(self) -> float | None:
        """As `share`, at most: as if every test that was not run had passed."""
        return (self.passed + self.not_run) / self.total if self.total and self.passed is not None else None

    @property
    def partly(self) -> bool:
        """Some of the tests passed, not all."""
        return self.share is not None and 0 < self.share < 1

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Judgment:
        """Reads a row. Raises KeyError, TypeError or ValueError where whose verdict it is, or which, cannot be read."""
        program = row.get("program")
        try:
            tests = tuple(map(TestResult.of, listed(row.get("tests"))))
        except (AttributeError, KeyError, TypeError, ValueError):
            tests = ()  # single tests in somebody's own format say nothing
        return cls(
            AdapterId.of(row),
            str(row["problem_id"]),
            int(row.get("sample", 0)),
            program if isinstance(program, str) else None,
            Outcome(row["verdict"]) if row["verdict"] else None,
            _counted(row.get("passed")),
            _counted(row.get("total")),
            tests,
            _text(row.get("detail")),
            tuple(map(str, listed(row.get("flags")))),
            str(row.get("tier") or ""),
            bool(row.get("recorded")),
            int(row["not_run"]) if "not_run" in row else 0,
        )

    @staticmethod
    def row(completion: Completion, extraction: Extraction, verdict: Verdict) -> dict[str, Any]:
        """The row of a program that our judge ran: whose it is, how it was extracted, and what the judge measured."""
        return {
            **completion.adapter.fields(),
            "problem_id": completion.problem_id,
            "sample": completion.sample,
            "program": extraction.program,
            "extraction": {"method": extraction.method, "reason": extraction.reason},
            **verdict.to_row(),
        }


def listed(value: Any) -> Sequence[Any]:
    """A list as it is; anything else holds nothing."""
    return value if isinstance(value, list | tuple) else []


def _counted(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value < MOST):
        raise ValueError("a number of tests")
    return value


def _text(value: Any) -> str:
    """Details may be text or a small object: one line a key."""
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {item}" for key, item in value.items() if item not in (None, "", [], {}))
    return "" if value is None else str(value)


class LogKind(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    DIVERGED = "diverged"
    """of a learning-rate grid: the loss of this training is no longer a number; it ends here"""


@dataclass(frozen=True)
class LogRow:
    """A row of train/log.jsonl. `on`: the arm whose validation set was measured; None: its own."""

    kind: LogKind
    adapter: AdapterId
    loss: float | None = None
    """mean over completion tokens; None where it was not a finite number"""
    epoch: float | None = None
    tokens: int | None = None
    """completion tokens seen so far (training), or measured on (validation)"""
    on: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> LogRow:
        """Reads a row. Raises KeyError or ValueError where it is not one."""
        loss = row.get("loss")
        return cls(
            LogKind(row["kind"]),
            AdapterId.of(row),
            float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None,
            row.get("epoch"),
            row.get("tokens"),
            row.get("on"),
        )
