"""PEFT checkpoints that were trained elsewhere → the run folder's checkpoints: "I already trained; judge these"."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas.interop import logs, names
from kiyas.interop.files import File, Notes, tables
from kiyas.interop.names import SEED, STEP, Named
from kiyas.runfolder.files import disk_errors, read_json
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId, KiyasError

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
STATE = "trainer_state.json"


@dataclass(frozen=True)
class Checkpoint:
    """One PEFT folder and what its path says; `step` is None where it is unknown."""

    path: Path
    seed: int
    step: int | None
    base: str
    """`base_model_name_or_path` of its configuration"""


def find(root: Path) -> tuple[list[Checkpoint], list[str]]:
    """All PEFT checkpoints in a folder, in order of seed and step, and what was odd.

    Seed and step come from the names below the folder (`seed-1/checkpoint-200`), a step also from `trainer_state.json`.
    An adapter without a step next to others that have one (a Trainer's last copy) is left out. Raises KiyasError where
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
                f"{checkpoint.path}: an adapter next to numbered checkpoints; left out as a copy of one of them"
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
            notes.append(f"{checkpoint.path}: its step is unknown; step 0 is assumed")
    return sorted(kept.values(), key=lambda each: (each.seed, each.step or 0)), notes


def _global_step(path: Path) -> int | None:
    state = read_json(path / STATE) if (path / STATE).is_file() else {}
    step = state.get("global_step") if isinstance(state, dict) else None
    return step if isinstance(step, int) else None


def adopt(arm: str, root: Path, folder: RunDir, base: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Copies an arm's checkpoints into the run folder. Returns the losses that were next to them, and what was unusual.

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
            file, odd = File(states[-1], False, ()), Notes()
            for table in tables(file, odd):
                if any(logs.recognises(row) for _, row in table):
                    rows += logs.losses(table, file, Named(arm, seed, None, None), odd)
            notes += odd.lines()
    return rows, notes


@dataclass(frozen=True)
class Trained:
    """The checkpoints of one arm that were met in someone's folders; `folder` holds all of them."""

    arm: str
    folder: Path
    checkpoints: list[Checkpoint]


def arms(folders: list[tuple[Path, tuple[str, ...]]], arm_of: Mapping[str, str], notes: Notes) -> list[Trained]:
    """PEFT folders, each with the names above it, by arm as the names say. Raises KiyasError where arms are mixed."""
    of_arm: dict[str, list[Path]] = defaultdict(list)
    found = [names.of_outcomes(path, arm_of, above) for path, above in folders]
    apart = names.in_study(names.told_apart(found, arm_of, copies=True))
    for (path, _), arm in zip(folders, apart, strict=True):
        of_arm[arm].append(path)
    for remark in names.notes_of([each.arm for each in found], apart):
        notes.add(remark)
    roots = {arm: Path(os.path.commonpath(paths)) for arm, paths in of_arm.items()}
    for arm, root in roots.items():
        inside = [
            path for other, paths in of_arm.items() if other != arm for path in paths if path.is_relative_to(root)
        ]
        if inside:
            raise KiyasError(
                f"{root} holds the checkpoints of arm {arm} and also {inside[0]}, which by its name is of another arm",
                "give each arm a folder of its own (deep/checkpoint-100), or name one arm for both: --arm 'GLOB=ARM'",
            )
    return [Trained(arm, root, find(root)[0]) for arm, root in sorted(roots.items())]


def study_file(name: str, trained: Sequence[Trained], problems: Path | None) -> str:
    """A study file that answers and judges these checkpoints: what could not be known is marked."""
    bases = sorted({checkpoint.base for each in trained for checkpoint in each.checkpoints if checkpoint.base})
    seeds = sorted({checkpoint.seed for each in trained for checkpoint in each.checkpoints})
    asked = (
        f"{{dataset: {json.dumps(str(problems.resolve()))}}}"
        if problems
        else "{dataset: livecodebench, release: release_v5, platform: atcoder, difficulty: [easy, medium], "
        "from: 2023-05, to: 2025-02}"
    )
    several = f"   # the adapters name several bases: {', '.join(bases)}" if len(bases) > 1 else ""
    lines = [
        "# Written by `kiyas import`: adapters that were trained elsewhere. `kiyas run` begins with their answers.",
        f"name: {name}",
        f"model_name_or_path: {json.dumps(bases[0] if bases else 'models/my-base')}{several}",
        "arms:",
        *(f"  {json.dumps(each.arm)}: {{checkpoints: {json.dumps(str(each.folder.resolve()))}}}" for each in trained),
        "dataset:",
        "  system: null   # the system prompt of the training, word for word; null: what the chat template does",
        f"seeds: {seeds}",
        "benchmarks:",
        f"  primary: {asked}",
        "generation: {temperature: 0.0, max_new_tokens: 2048}",
        "compare: {select: last, matters: 0.05}",
    ]
    return "\n".join(lines) + "\n"
