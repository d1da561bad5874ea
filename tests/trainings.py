"""A small joint training: three trainings of two arms, with what tests ask of it."""

from __future__ import annotations

from typing import Any

import torch

import tiny
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task
from kiyas.types import AdapterId

STEPS = 20


def study(**training: Any) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {"x": {"dataset_name": "practice/deep"}, "y": {"dataset_name": "practice/diverse"}},
            "peft": {"r": 4, "lora_alpha": 8},
            "training": {
                "budget": {"steps": STEPS},
                "learning_rate": 5e-3,
                "weight_decay": 0.1,
                "effective_batch_size": 4,
                "logging_steps": 1,
                "eval_steps": 5,
                "save_steps": 10,
                "warmup_ratio": 0.1,
                **training,
            },
        }
    )


def runs(steps: tuple[int, ...] = (STEPS, STEPS, STEPS)) -> list[Task]:
    return [
        Task(AdapterId("x", seed=0), tiny.samples(13, 1), steps[0]),
        Task(AdapterId("y", seed=0), tiny.samples(9, 2, longest=50), steps[1]),
        Task(AdapterId("y", seed=1), tiny.samples(9, 2, longest=50), steps[2]),
    ]


VALIDATION = {"x": tiny.samples(5, 3), "y": tiny.samples(4, 4)}


def losses(training: JointTraining, id: AdapterId, kind: str = "train") -> list[float]:
    return [r["loss"] for r in training.rows if r["kind"] == kind and (r["arm"], r["seed"]) == (id.arm, id.seed)]


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    return bool((a - b).norm() <= tolerance * b.norm())
