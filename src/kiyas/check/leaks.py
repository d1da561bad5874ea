"""The same problem in two splits: what is trained on must not be held out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kiyas.data.arms import ArmData
from kiyas.similarity import near_duplicates
from kiyas.similarity.looks import Prompts
from kiyas.types import Example


@dataclass(frozen=True)
class Overlap:
    """Problems of one split that are in the training split too."""

    arm: str
    split: str
    """validation or test, in the source's own words or as Kıyas holds out"""
    problems: int
    """of that split"""
    same_group: int
    same_prompt: int
    near_prompt: int
    """the same prompt or one near to it (near_duplicates.py)"""

    @property
    def most(self) -> int:
        return max(self.same_group, self.near_prompt)


@dataclass(frozen=True)
class Clusters:
    """Which prompts are the same or near to each other."""

    number: Mapping[Hashable, int]
    """by a prompt's key, its place"""
    leader: Sequence[int]
    """by place, one number for those that are the same or near"""
    plain: Sequence[bytes]
    """by place, one digest for those that are the same in their words"""

    def near(self, row: Example) -> int:
        return self.leader[self.number[row.prompt_key]]

    def same(self, row: Example) -> bytes:
        return self.plain[self.number[row.prompt_key]]


class LazyTexts(Sequence[str]):
    """The prompts or completions of rows, read when they are asked for."""

    def __init__(self, rows: Sequence[Example], name: Literal["prompt", "completion"]) -> None:
        self._rows, self._name = rows, name

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [getattr(row, self._name) for row in self._rows[at]]
        return getattr(self._rows[at], self._name)


def clusters(prompts: Prompts) -> Clusters:
    """Of prompts that were looked at."""
    leader = near_duplicates.leaders(LazyTexts(prompts.example, "prompt"), prompts.prints)
    return Clusters(prompts.number, leader, prompts.prints.plain)


def overlap(arm: str, train: Sequence[Example], held: Sequence[Example], split: str, cluster: Clusters) -> Overlap:
    """How many problems (groups) of `held` are trained on too."""
    groups, prompts = {row.group_key for row in train}, {cluster.same(row) for row in train}
    near = {cluster.near(row) for row in train}
    return Overlap(
        arm,
        split,
        len({row.group_key for row in held}),
        len({row.group_key for row in held if row.group_key in groups}),
        len({row.group_key for row in held if cluster.same(row) in prompts}),
        len({row.group_key for row in held if cluster.near(row) in near}),
    )


def own_overlaps(name: str, arm: ArmData, cluster: Clusters) -> list[Overlap]:
    """Between the source's own splits, before anything is left out."""
    train = [row for row in arm.read if row.split == "train"]
    splits = [split for split in dict.fromkeys(row.split for row in arm.read) if split not in ("train", "")]
    return [
        overlap(name, train, [row for row in arm.read if row.split == split], split, cluster)
        for split in splits
        if train
    ]


def left_overlaps(arms: Mapping[str, ArmData], cluster: Clusters) -> list[Overlap]:
    """Between what is trained on and the validation problems of all arms, after Kıyas has left out what it does."""
    held = [row for arm in arms.values() for row in arm.split("validation")]
    return [overlap(name, arm.split("train"), held, "validation", cluster) for name, arm in arms.items() if held]
