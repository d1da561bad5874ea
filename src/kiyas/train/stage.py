"""One worker's share of the train stage: from the run folder's data to log rows and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kiyas.data import hub
from kiyas.data.arms import tokenise
from kiyas.model import checkpoints
from kiyas.model.base import Base
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task, part_log, state_path
from kiyas.types import AdapterId, Example, TokenizedExample
from kiyas.work.workers import OnProgress


def merge_logs(folder: RunDir, parts: int) -> list[dict[str, Any]]:
    """All parts' rows in order of step, as `train/log.jsonl` holds them."""
    rows = [row for part in range(parts) for row in read_jsonl(part_log(folder, part))]
    rows.sort(key=lambda row: (row["step"], row["arm"], row["variant"], row["seed"], row["kind"]))
    return rows


def load_arms(
    folder: RunDir, study: Study, base: Base
) -> tuple[dict[str, list[list[TokenizedExample]]], dict[str, list[TokenizedExample]]]:
    """Training samples (by draw) and validation samples of every arm, tokenised from the run folder's data."""
    train: dict[str, list[list[TokenizedExample]]] = {}
    validation: dict[str, list[TokenizedExample]] = {}
    for arm in study.trained:
        rows = [Example(**row) for row in read_jsonl(folder.arm_data(arm))]
        train[arm] = [
            [tokenise(row, base.chat, study, arm) for row in rows if row.split == "train" and row.draw == draw]
            for draw in range(study.arms[arm].draws)
        ]
        validation[arm] = [tokenise(row, base.chat, study, arm) for row in rows if row.split == "validation"]
    return train, validation


def train_part(
    root: str,
    study_json: dict[str, Any],
    trainings: list[list[Any]],
    steps: dict[str, int],
    part: int,
    report: OnProgress,
) -> None:
    """One worker's share: the given [arm, variant, seed] trainings, from the run folder's data."""
    folder, study = RunDir(Path(root)), Study.model_validate(study_json)
    base = Base.load(hub.base_folder(study), study.training.device, study.training.dtype)
    train, validation = load_arms(folder, study, base)
    # Seeds take the draws in turn.
    turn = {seed: number for number, seed in enumerate([*study.seed_list, *study.tuning_seed_list])}
    tasks = [
        Task(AdapterId(arm, variant, seed), train[arm][turn[seed] % len(train[arm])], steps[arm])
        for arm, variant, seed in trainings
    ]
    JointTraining(base, tasks, validation, study, folder, part).run(report)


def saved_step(folder: RunDir, part: int) -> int:
    """The step of a part's saved state; 0 without one."""
    notes = checkpoints.state_notes(state_path(folder, part))
    return 0 if notes is None else int(notes["step"])
