"""PEFT checkpoints that were trained elsewhere → the run folder's checkpoints: "I already trained; judge these"."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas.interop import logs
from kiyas.interop.names import SEED, STEP, Named
from kiyas.rundir import RunDir, disk_errors, read_json
from kiyas.types import AdapterId, KiyasError

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
STATE = "trainer_state.json"


@dataclass(frozen=True)
class Checkpoint:
    """One PEFT folder and what its path says; `step` is None where nothing says it."""

    path: Path
    seed: int
    step: int | None
    base: str
    """`base_model_name_or_path` of its configuration"""


def find(root: Path) -> tuple[list[Checkpoint], list[str]]:
    """All PEFT checkpoints in a folder, in order of seed and step, and what was odd.

    Seed and step come from the names below the folder (`seed-1/checkpoint-200`), a step also from `trainer_state.json`.
    An adapter without a step beside others that have one (a Trainer's last copy) is left out. Raises KiyasError where
    there is none, where two are the same, or where one is not LoRA.
    """
    found, notes = [], []
    for path in sorted(config.parent for config in root.rglob(CONFIG)):
        if not any((path / name).is_file() for name in WEIGHTS):
            notes.append(f"{path}: {CONFIG} without weights (an interrupted save?); left out")
            continue
        config = read_json(path / CONFIG)
        if not isinstance(config, dict) or config.get("peft_type") != "LORA":
            raise KiyasError(f"{path / CONFIG}: not a LoRA adapter")
        below = str(path.relative_to(root))
        seed, step = SEED.search(below), STEP.search(path.name)
        at = int(step.group(1)) if step else _global_step(path)
        found.append(
            Checkpoint(path, int(seed.group(1)) if seed else 0, at, str(config.get("base_model_name_or_path") or ""))
        )
    if not found:
        raise KiyasError(f"no PEFT checkpoint in {root}", f"a checkpoint is a folder with {CONFIG} and {WEIGHTS[0]}")
    kept: dict[tuple[int, int | None], Checkpoint] = {}
    numbered = {checkpoint.seed for checkpoint in found if STEP.search(checkpoint.path.name)}
    for checkpoint in found:
        if not STEP.search(checkpoint.path.name) and checkpoint.seed in numbered:
            notes.append(
                f"{checkpoint.path}: an adapter beside numbered checkpoints; left out as a copy of one of them"
            )
            continue
        key = (checkpoint.seed, checkpoint.step)
        if key in kept:
            raise KiyasError(
                f"{checkpoint.path} and {kept[key].path} are both seed {key[0]}, step {key[1]}",
                "give each arm its own folder, or name the seeds: seed-1/checkpoint-200",
            )
        kept[key] = checkpoint
        if checkpoint.step is None:
            notes.append(f"{checkpoint.path}: nothing tells its step; taken as step 0")
    return sorted(kept.values(), key=lambda each: (each.seed, each.step or 0)), notes


def _global_step(path: Path) -> int | None:
    state = read_json(path / STATE) if (path / STATE).is_file() else {}
    step = state.get("global_step") if isinstance(state, dict) else None
    return step if isinstance(step, int) else None


def adopt(arm: str, root: Path, folder: RunDir, base: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Copies an arm's checkpoints into the run folder. Returns the losses that lay beside them, and what was odd.

    `base`: the model that they are about to be used with.
    """
    checkpoints, notes = find(root)
    others = sorted({each.base for each in checkpoints if each.base and Path(each.base).name != Path(base).name})
    notes += [f"trained on {other}, used with {base}" for other in others]
    rows: list[dict[str, Any]] = []
    of_seed: dict[int, list[Checkpoint]] = defaultdict(list)
    for checkpoint in checkpoints:
        of_seed[checkpoint.seed].append(checkpoint)
        place = folder.checkpoints / AdapterId(arm, "", checkpoint.seed, checkpoint.step or 0).folder
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
            for name in (CONFIG, *WEIGHTS):
                if (checkpoint.path / name).is_file():
                    shutil.copyfile(checkpoint.path / name, place / name)
    for seed, of_one in of_seed.items():
        # Each checkpoint's state holds the history so far: the last one's is all of it.
        states = [each.path / STATE for each in of_one if (each.path / STATE).is_file()]
        if states:
            rows += logs.read_log(states[-1], Named(arm, seed, None, None), notes)
    return rows, notes
