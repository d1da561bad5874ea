"""The same problem in two splits: what is trained on must not be held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kiyas.data.arms import ArmData
from kiyas.pipeline.looks import Clusters
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
