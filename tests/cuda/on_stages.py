"""Stages of the pipeline on a T4 that is not there, in float16. Runs in a process with the guard: see child.py."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import on_shadow
import stand_in
import torch

import tiny
from kiyas.pipeline import stages
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Trainee
from kiyas.work.engine import OnProgress

DOWN = "model.layers.0.mlp.down_proj.weight"


def save(folder: Path, wild: bool) -> Path:
    """A small Qwen2; `wild`: its first MLP writes values beyond float16 into the residual stream, as the real one's."""
    model = tiny.model("qwen2")
    if wild:
        with torch.no_grad():
            model.get_parameter(DOWN).mul_(1e5)
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def write(root: Path) -> None:
    """Two arms of short rows and a benchmark."""
    noise = random.Random(0)

    def text(longest: int) -> str:
        return "".join(noise.choice("abcdef +=()") for _ in range(noise.randrange(4, longest)))

    for arm in "ab":
        rows = [{"prompt": f"{i} {text(30)}", "completion": f"{text(40)} {i}"} for i in range(12)]
        (root / f"{arm}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tests = [{"input": "1\n", "output": "1\n"}]
    problems = [{"id": f"p{i}", "statement": text(30), "tests": tests} for i in range(4)]
    (root / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))


def study(root: Path, device: str) -> Study:
    settings = on_shadow.study(root / "base", device, dtype="auto", effective_batch_size=4).model_dump(mode="json")
    return Study.model_validate(
        {
            **settings,
            "arms": {arm: {"dataset_name": str(root / f"{arm}.jsonl")} for arm in "ab"},
            "dataset": {"validation_fraction": 0.2},
            "seeds": 2,
            "benchmarks": {"primary": {"dataset": str(root / "problems.jsonl")}},
            "judge": {"isolation": "best"},
        }
    )


def losses(folder: RunDir) -> list[float]:
    return [row["loss"] for row in read_jsonl(folder.train_log)]


def killed_at(step: int) -> Any:
    """A step, counted from 0, before which the run is killed."""
    real = JointTraining._step

    def dying(self: JointTraining, running: list[Trainee], report: OnProgress) -> None:
        if self.step == step:
            raise on_shadow.KilledError
        real(self, running, report)

    return mock.patch.object(JointTraining, "_step", dying)


def stages_in_float16(wild: bool) -> dict[str, Any]:
    """Up to the answers, in float32 on the CPU and as `auto` has it on a T4; there also killed and gone on."""
    with on_shadow.temporary() as root:
        save(root / "base", wild)
        write(root)
        cpu, t4, again = (RunDir(root / name) for name in ("cpu", "t4", "again"))
        stages.run(study(root, "cpu"), cpu, until=Stage.TRAIN)
        with stand_in.Device(replace(stand_in.T4)) as device:
            stages.run(study(root, "cuda"), t4, until=Stage.GENERATE)
            with killed_at(3), contextlib.suppress(on_shadow.KilledError):
                stages.run(study(root, "cuda"), again, until=Stage.TRAIN)
            begun = (again.train_state / "part-0.jsonl").exists()
            stages.run(study(root, "cuda"), again, until=Stage.GENERATE)
            record = read_record(t4)
            return {
                "dtype": record.dtype,
                "float32": record.float32_modules,
                "notes": list(record.notes),
                "losses": [losses(each) for each in (cpu, t4)],
                "begun": begun,
                "resumed": losses(again) == losses(t4)
                and torch.equal(on_shadow.weights(again), on_shadow.weights(t4))
                and read_jsonl(again.completions) == read_jsonl(t4.completions),
                "answers": len(read_jsonl(t4.completions)),
                "layout": read_json(t4.stage(Stage.TRAIN) / "manifest.json")["counts"]["layout"],
                "attention": list(device.attention),
                "live": device.live,
            }
