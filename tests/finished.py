"""A finished run folder, made without training: made-up verdicts (synthetic.py), and random adapters of a real base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kiyas import practice
from kiyas.model.adapters import AdapterStack, Spec, StackedModel
from kiyas.model.checkpoints import save_adapter
from kiyas.model.meter import empty_model
from kiyas.pipeline.identity import model_facts
from kiyas.runfolder import manifests
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import FORMAT, declared, new_id, read_record, write_record
from kiyas.study.settings import Dtype, Study
from kiyas.types import AdapterId
from synthetic import make_run

SEEDS, STEPS = (0, 1), (20, 40)


def make_finished(
    root: Path, study: Mapping[str, Any] | None = None, base: Path | None = None, until: Stage = Stage.JUDGE, **how: Any
) -> RunDir:
    """`study`: keys that differ from the made-up one; `base`: the folder of its base; `how`: as of `make_run`."""
    how = {"rates": {"deep": 0.3, "diverse": 0.4}, "seeds": SEEDS, "steps": STEPS, "problems": 12, **how}
    folder = RunDir(make_run(root, **how))
    record = read_record(folder)
    assert record.study is not None
    tree = {**record.study.model_dump(mode="json", by_alias=True), "peft": {"r": 4, "lora_alpha": 8}, **(study or {})}
    settings = Study.model_validate(tree)
    base = base or practice.base_path()
    update = {
        "format": FORMAT,
        "run_id": new_id(),
        "study": settings,
        "declared_sha256": declared(settings),
        "dtype": Dtype.FLOAT32,
        "base": model_facts(base, settings.model_name_or_path),
    }
    write_record(folder, record.model_copy(update=update))
    save_adapters(folder, settings, base, how["seeds"], how["steps"])
    for stage in (Stage.DATA, Stage.TRAIN, Stage.GENERATE, Stage.JUDGE):
        folder.stage(stage).mkdir(exist_ok=True)
        if stage not in until.later or stage is until:
            manifests.finish(folder, stage, {}, {}, 1.0)
    return folder


def save_adapters(folder: RunDir, study: Study, base: Path, seeds: Sequence[int], steps: Sequence[int]) -> None:
    """Random weights, so large that they change answers; another one for each arm, seed and step."""
    stacked = StackedModel(empty_model(base))
    for number, arm in enumerate(study.trained):
        for seed in seeds:
            for step in steps:
                id = AdapterId(arm, "", seed, step)
                noise = torch.Generator().manual_seed(1000 * number + 100 * seed + step)
                stack = AdapterStack(
                    [id], [Spec(study.peft.r, study.peft.lora_alpha)], stacked.sites, torch.device("cpu")
                )
                stack.theta.normal_(0, 0.2, generator=noise)
                save_adapter(folder.checkpoints / id.folder, stack, 0, stacked, "practice", 0.0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
