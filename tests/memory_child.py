"""One training pass and one decoding, at full size: prints what was predicted and what the process took, in bytes.

A process of its own, since what a process took is a maximum over its life. Arguments: a shape as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import tiny
from kiyas.check.memory import Room, memory
from kiyas.data.chat import Chat
from kiyas.generate.trial import try_widest
from kiyas.model.adapters import StackedModel
from kiyas.model.base import Base
from kiyas.model.device import give_back_large_blocks, resident_bytes
from kiyas.model.meter import Shape
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task
from kiyas.types import AdapterId, TokenizedExample


def study(asked: dict[str, Any]) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {"a": {"dataset_name": "practice/deep"}, "b": {"dataset_name": "practice/diverse"}},
            "peft": {"r": 16, "lora_dropout": asked.get("dropout", 0.0)},
            "training": {"effective_batch_size": 16, "max_tokens_per_pass": asked.get("pass_tokens")},
            "benchmarks": {"primary": {"dataset": "practice"}},
            "generation": {"max_new_tokens": asked["answer"], "max_rows": asked.get("rows")},
            "compare": {"primary": ["a", "b"]},
        }
    )


def most_held() -> int:
    """Bytes. Not `ru_maxrss`, which a process inherits from the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main(asked: dict[str, Any]) -> None:
    give_back_large_blocks()
    torch.set_num_threads(2)
    settings, config = study(asked), AutoConfig.for_model(**asked["config"])
    dtype = getattr(torch, asked["dtype"])
    ids = [AdapterId("ab"[k % 2], seed=k // 2) for k in range(asked["trainings"])]
    shape = Shape(config, dtype, packed=True, plain_head=True)
    # As much memory as it is asked to find its layout by, whatever this machine has.
    room = Room("cpu", int(asked["room"] * 1e9), taken=resident_bytes())
    probe = AutoModelForCausalLM.from_config(config, dtype=dtype)
    base = Base.of(probe, Chat(tiny.tokenizer(), "tiny"))
    found = memory(
        settings, shape, base.nbytes, ids, asked["checkpoints"], 64, asked["longest"], asked["prompt"], room,
        base.model.num_parameters(),
    )  # fmt: skip
    noise = torch.Generator().manual_seed(0)
    sample = TokenizedExample(tuple(torch.randint(0, 250, (asked["longest"],), generator=noise).tolist()), 1)
    before = most_held()
    made: dict[str, Any] = {"layout": str(found.layout), "rows": found.decoding.rows}
    if asked["what"] == "training":
        training = JointTraining(base, [Task(id, [sample], 1) for id in ids], {}, settings, layout=found.layout)
        training._try_largest()
        made["predicted"] = found.training
    else:
        model = StackedModel(base.model)
        try_widest(base, model, settings.generation, found.decoding, asked["prompt"], 16)
        made["predicted"] = found.answering
    made["before"] = before
    made["measured"] = most_held()
    print(json.dumps(made))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
