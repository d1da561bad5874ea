"""One worker's share of the train stage: from the run folder's data to log rows and checkpoints."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kiyas.data import hub
from kiyas.data.arms import tokenised
from kiyas.data.benchmarks import question
from kiyas.data.chat import Chat
from kiyas.model import checkpoints
from kiyas.model.base import Base
from kiyas.model.device import available_bytes, give_back_large_blocks, pick_device, pick_dtype
from kiyas.model.meter import Shape
from kiyas.runfolder.files import each_row, read_jsonl, read_sealed, write_sealed
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import float32_modules
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task, layout_path, part_log, refuse_changed_checkpoints, state_path
from kiyas.train.memory import Layout, training_budget
from kiyas.train.plan import Plan, is_small
from kiyas.types import AdapterId, Example, KiyasError, Samples
from kiyas.work.engine import OnProgress, Place

PROBED = 8
"""Texts that a float16 base is probed with."""


def merge_logs(folder: RunDir, parts: int) -> list[dict[str, Any]]:
    """All parts' rows in order of step, as `train/log.jsonl` holds them."""
    rows = [row for part in range(parts) for row in read_jsonl(part_log(folder, part))]
    rows.sort(key=lambda row: (row["step"], row["arm"], row["variant"], row["seed"], row["kind"]))
    return rows


def load_arms(folder: RunDir, study: Study, base: Base) -> tuple[dict[str, list[Samples]], dict[str, Samples]]:
    """Training samples (by draw) and validation samples of every arm, tokenised from the run folder's data."""
    train: dict[str, list[Samples]] = {}
    validation: dict[str, Samples] = {}
    for arm in study.trained:
        train[arm], validation[arm] = [Samples() for _ in range(study.arms[arm].draws)], Samples()
        read: deque[Example] = deque()

        def rows(arm: str = arm, read: deque[Example] = read) -> Iterator[Example]:
            for row in each_row(folder.arm_data(arm)):
                read.append(Example(**row))
                yield read[-1]

        for sample in tokenised(rows(), base.chat, study, arm):
            row = read.popleft()
            if row.split == "validation":
                validation[arm].append(sample)
            elif row.split == "train" and row.draw < len(train[arm]):
                train[arm][row.draw].append(sample)
    return train, validation


def train_part(
    place: Place,
    study_json: dict[str, Any],
    trainings: list[list[Any]],
    steps: dict[str, int],
    part: int,
    report: OnProgress,
) -> None:
    """One worker's share: the given [arm, variant, seed] trainings, from the run folder's data."""
    folder, study = RunDir(Path(place.root)), Study.model_validate(study_json)
    base = _base(folder, study, place)
    train, validation = load_arms(folder, study, base)
    # Seeds take the draws in turn.
    turn = {seed: number for number, seed in enumerate(study.seed_list)}
    tasks = [
        Task(AdapterId(arm, variant, seed), train[arm][turn[seed] % len(train[arm])], steps[arm])
        for arm, variant, seed in trainings
        if seed in turn  # an older version shared out seeds that only chose a learning rate
    ]
    longest = max(len(sample.ids) for rows in (*(t.samples for t in tasks), *validation.values()) for sample in rows)
    kind, parameters = base.device.type, base.parameters
    plan = Plan(Shape.of(base), study, [task.id for task in tasks], longest, parameters)
    counts = not is_small(kind, parameters)
    if counts and kind == "cpu":
        give_back_large_blocks()
    layout = kept_layout(folder, part)
    if layout is None:
        free = available_bytes(base.device) + base.nbytes
        layout = plan.chosen(training_budget(kind, free, place.sharing), kind)
    if restored := sum(min(saved_step(folder, part), task.steps) for task in tasks):
        report(restored, "")
    JointTraining(base, tasks, validation, study, folder, part, layout).run(report, try_largest=counts)


def files_of(study: Study, part: int, trainings: list[list[Any]]) -> tuple[list[str], list[str]]:
    """What `train_part` reads of the run folder, and what it writes there: patterns."""
    saved = [f"train/checkpoints/{Path(AdapterId(*each).folder).parent}/*/*" for each in trainings]
    return [f"data/{arm}.jsonl" for arm in study.trained], [f"train/state/*part-{part}.*", *saved]


def _base(folder: RunDir, study: Study, place: Place) -> Base:
    own, where = study.training, hub.base_folder(study, place.models)
    return Base.load(where, place.device, own.dtype, float32_modules(folder, study), own.load_in_4bit)


def plan_parts(
    place: Place, study_json: dict[str, Any], trainings: list[list[Any]], longest: int, report: OnProgress
) -> None:
    """Finds out how many of the trainings a GPU can hold at once, and writes the number to `together_path`."""
    folder, study = RunDir(Path(place.root)), Study.model_validate(study_json)
    path = hub.base_folder(study, place.models)
    own, device = study.training, pick_device(place.device)
    shape = Shape.probed(path, pick_dtype(own.dtype, device), Chat.load(path), own.load_in_4bit)
    shape = replace(shape, float32_modules=float32_modules(folder, study) or ())
    plan = Plan(shape, study, [AdapterId(*fields) for fields in trainings], longest, 0)
    write_sealed(together_path(folder), plan.together(training_budget("cuda", available_bytes(device), 1)))
    report(1, "")


def probe_range(place: Place, study_json: dict[str, Any], report: OnProgress) -> None:
    """In float16: finds the modules whose values leave its range on the longest samples and prompts, and writes their
    names to `range_path`."""
    folder, study = RunDir(Path(place.root)), Study.model_validate(study_json)
    base = _base(folder, study, place)
    train, _validation = load_arms(folder, study, base)
    texts = itertools.chain(
        (sample.ids for draws in train.values() for sample in draws[0]),
        (base.chat.prompt_ids(question(row), study.dataset.system) for row in each_row(folder.problems)),
    )
    by_length = ((len(ids), number, ids) for number, ids in enumerate(texts))
    longest = [ids for _, _, ids in sorted(heapq.nlargest(PROBED, by_length))]
    write_sealed(range_path(folder), sorted({*base.float32_modules, *base.out_of_range(longest)}))
    report(1, "")


def kept_layout(folder: RunDir, part: int) -> Layout | None:
    """How a part that was begun before cuts its steps; None for a new one."""
    path = layout_path(folder, part)
    if not path.exists():
        return None
    kept = read_sealed(path)
    return Layout(kept["pass_tokens"], kept["recompute"])


def together_path(folder: RunDir) -> Path:
    """Where the number of trainings that a GPU holds at once is kept until they are shared out."""
    return folder.train_state / "together.json"


def range_path(folder: RunDir) -> Path:
    """Where the modules that leave float16's range are kept until they are recorded."""
    return folder.train_state / "float32.json"


def refuse_changed(folder: RunDir, arms: Collection[str], parts: Sequence[int]) -> None:
    """Raises KiyasError for a checkpoint that was changed or removed since it was saved, or that no part saved."""
    notes = [checkpoints.state_notes(state_path(folder, part)) for part in parts]
    saved = [each["saved"] for each in notes if each is not None and "saved" in each]  # 0.1.0 noted none
    for each in saved:
        refuse_changed_checkpoints(folder, each)
    if len(saved) == len(parts):
        ours = {folder.checkpoints / name for each in saved for name in each}
        found = {path for arm in arms for path in (folder.checkpoints / arm).glob("**/step-*")}
        if strangers := sorted(found - ours):
            raise KiyasError(f"{strangers[0]} was not made by this run", "remove it, and run the same command again")


def saved_step(folder: RunDir, part: int) -> int:
    """The step of a part's saved state; 0 without one."""
    notes = checkpoints.state_notes(state_path(folder, part))
    return 0 if notes is None else int(notes["step"])
