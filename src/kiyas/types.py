"""The nouns that cross stages. Plain, frozen, free of heavy imports: stages meet here and in files.

A *study* compares *arms* (training recipes) of one frozen *base* model. A trained (arm, variant, seed) at a
step is an *adapter*; the base itself is one too, so that it is answered, judged and counted like the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

BASE_ARM = "base"
Problems = Literal["same", "shared", "own"]
"""How runs on different problems are compared: refused, on those that all have, or each run on its own."""


class KiyasError(Exception):
    """The user's mistake or the machine's limit, told in words: what, where, what to do. Exit code 1.

    Anything else that escapes is our bug (exit code 2).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  hint: {self.hint}" if self.hint else message


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
        """The four keys as they stand in every JSONL row about this adapter."""
        return {"arm": self.arm, "variant": self.variant, "seed": self.seed, "step": self.step}

    @classmethod
    def of(cls, row: dict[str, Any]) -> AdapterId:
        """The adapter that a JSONL row is about."""
        return cls(row["arm"], row.get("variant", ""), row.get("seed", 0), row.get("step", 0))

    @classmethod
    def parse_folder(cls, folder: str) -> AdapterId:
        """Inverse of `folder`. Raises ValueError for anything else."""
        match = re.fullmatch(r"([^/]+)(?:/([^/]+))?/seed-(\d+)/step-(\d+)", folder)
        if match is None:
            raise ValueError(f"not a checkpoint folder: {folder!r}")
        arm, variant, seed, step = match.groups()
        return cls(arm, variant or "", int(seed), int(step))


BASE = AdapterId(BASE_ARM)


@dataclass(frozen=True)
class Example:
    """One training or validation sample: the chat's user text and the answer to learn.

    `group` is the key (usually the problem) that must never stand on both sides of a split.
    """

    id: str
    prompt: str
    completion: str
    group: str
    split: str = "train"
    draw: int = 0
    """of a derived arm's random draws: the training that takes this one"""


@dataclass(frozen=True)
class Sample:
    """A tokenised example. Tokens from `start` on are learned; the first token of all never is."""

    ids: tuple[int, ...]
    start: int

    @property
    def labels(self) -> int:
        return len(self.ids) - max(1, self.start)


@dataclass(frozen=True)
class Completion:
    """What one adapter answered to one problem. `stop` is "eos" or "length"; `tokens` counts the answer's."""

    adapter: AdapterId
    problem_id: str
    sample: int
    text: str
    prompt_tokens: int
    tokens: int
    stop: str

    @property
    def key(self) -> tuple[AdapterId, str, int]:
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
    def of(cls, row: dict[str, Any]) -> Completion:
        return cls(
            AdapterId.of(row),
            str(row["problem_id"]),
            row["sample"],
            row["text"],
            row["prompt_tokens"],
            row["tokens"],
            row["stop"],
        )
