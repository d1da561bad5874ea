"""How the work of a stage is laid out on this machine: decided once and kept, since rounding depends on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kiyas.data import hub
from kiyas.pipeline import identity
from kiyas.runfolder.files import read_sealed, write_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import BaseModelFacts, read_record, write_record
from kiyas.study.settings import Dtype, Study
from kiyas.types import AdapterId, KiyasError
from kiyas.work.engine import Engine, Job, Model
from kiyas.work.progress import Bar, bar, tell

SMALL_BASE = 100_000_000
"""Weights below which a CPU computes in float32 without asking what is faster."""


@dataclass(frozen=True)
class Part:
    """A share of a stage's work, done by one worker without a break."""

    number: int
    units: list[list[Any]]
    place: int
    """which of the run's devices does it, counted from 0; with fewer devices they are counted round"""
    problems: tuple[int, int] | None = None
    """from which problem to before which its units answer; None: all"""


def do(
    engine: Engine,
    folder: RunDir,
    study: Study,
    function: Callable[..., None],
    parts: Sequence[Part],
    arguments: Callable[[Part], tuple[Any, ...]],
    files: Callable[[Part], tuple[list[str], list[str]]],
    progress: Bar,
) -> None:
    """Calls `function(place, study as JSON, *arguments(part), report)` for every part.

    `files`: patterns of what a part reads in the run folder beside its record, and of what it writes there.
    """
    from kiyas.model.device import in_words

    asked = study.model_dump(mode="json")
    jobs = []
    for part in parts:
        reads, own = files(part)
        jobs.append(Job(part.number, part.place, (asked, *arguments(part)), (folder.resolved.name, *reads), tuple(own)))
    here = places(engine, study, sum(len(part.units) for part in parts))
    engine.run(function, folder.root, jobs, here, partial(_models, folder, study), progress, in_words)


def _models(folder: RunDir, study: Study) -> dict[str, Model]:
    """The base, and arms that are whole models."""
    record = read_record(folder)
    base = hub.base_folder(study)
    found = {study.model_name_or_path: _model(base, record.base)}
    whole = {name: arm.model for name, arm in study.arms.items() if arm.model is not None}
    return found | {path: _model(Path(path), record.models.get(name)) for name, path in whole.items()}


def _model(folder: Path, facts: BaseModelFacts | None) -> Model:
    known = facts.digests if facts is not None else None  # 0.1.0 noted none
    return Model(folder, known or identity.model_facts(folder, str(folder)).digests or {})


def float32_modules(engine: Engine, folder: RunDir, study: Study) -> None:
    """In float16: records once which modules of the base compute in float32, and says so."""
    record = read_record(folder)
    if study.training.dtype is not Dtype.FLOAT16 or record.float32_modules is not None:
        return
    from kiyas.train.stage import probe_range, range_path

    tell("float16: looking for values that leave its range")
    with bar("probe", 1, "base") as progress:
        do(
            engine,
            folder,
            study,
            probe_range,
            [Part(0, [], 0)],
            lambda _: (),
            lambda _: (["data/*.jsonl"], [_inside(folder, range_path(folder))]),
            progress,
        )
    found = read_sealed(range_path(folder))
    write_record(folder, record.model_copy(update={"float32_modules": tuple(found)}))
    if found:
        line = (
            f"float16: the values of {len(found)} modules of the base leave its range or come near its end; these "
            f"compute in float32 ({', '.join(found[:3])}{' …' if len(found) > 3 else ''})"
        )
        tell(line)
        identity.note(folder, [line])


def _inside(folder: RunDir, path: Path) -> str:
    return path.relative_to(folder.root).as_posix()


def held_at_once(
    engine: Engine, folder: RunDir, study: Study, trainings: list[list[Any]], longest: int, checkpoints: int
) -> int | None:
    """How many trainings a GPU holds at once; None where the processor computes.

    Also tries whether `checkpoints` can answer there. `longest`: tokens of the longest sample.
    """
    if not engine.gpus(study.training.device) or (folder.train_state / "layout.json").exists():
        return None
    from kiyas.generate.stage import try_answers
    from kiyas.train.stage import plan_parts, together_path

    tell("trying the widest decoding, and how many trainings the GPU holds at once")
    with bar("plan", 2, "trials") as progress:
        first = [Part(0, trainings, 0)]
        do(
            engine,
            folder,
            study,
            try_answers,
            first,
            lambda _: (checkpoints,),
            lambda _: ([_inside(folder, folder.problems)], []),
            progress,
        )
        do(
            engine,
            folder,
            study,
            plan_parts,
            first,
            lambda part: (part.units, longest),
            lambda _: ([], [_inside(folder, together_path(folder))]),
            progress,
        )
    return int(read_sealed(together_path(folder)))


def all_trainings(study: Study) -> list[AdapterId]:
    """Of all arms, seeds and learning rates, in the order in which they are shared out."""
    # Seeds together: the arms of one seed see the same order of samples, and stack best.
    return [
        AdapterId(arm, variant, seed) for seed in study.seed_list for variant in study.variants for arm in study.trained
    ]


def parts_of(
    engine: Engine,
    folder: RunDir,
    stage: Stage,
    study: Study,
    units: list[list[Any]],
    most: int | None = None,
    alone: Sequence[list[Any]] = (),
    problems: int = 1,
) -> list[Part]:
    """How units are shared out when the stage starts, the same parts whenever it goes on: one a worker, or more where a
    part can hold only so many units (`most`). Those of `alone` are parts of their own, after the others.

    `problems`: how many there are to answer; an engine may share them out, too.
    """
    path = folder.stage(stage) / "state" / "layout.json"
    if not path.exists():
        here = len(places(engine, study, len(units)))
        groups, blocks = engine.cut(here, study.training.workers, len(units), problems)
        size, length = min(-(-len(units) // groups), most or len(units)), -(-problems // blocks)
        shares = [units[start : start + size] for start in range(0, len(units), size)]
        shares += [[unit] for unit in alone]
        ranges = [(start, min(start + length, problems)) for start in range(0, problems, length)]
        cut = [(share, range if blocks > 1 else None) for share in shares for range in ranges]
        made = [Part(number, share, number % here, range) for number, (share, range) in enumerate(cut)]
        write_sealed(path, list(map(asdict, made)))
    # Version 0.1.0 kept the shares alone, one a worker.
    return [
        Part(**each) if isinstance(each, dict) else Part(number, each, number)
        for number, each in enumerate(read_sealed(path))
    ]


def places(engine: Engine, study: Study, units: int) -> list[str]:
    """The device of each worker that would share so many units."""
    whole = [identity.weights_in(Path(arm.model)) for arm in study.arms.values() if arm.model is not None]
    size = max(sum(path.stat().st_size for path in files) for files in (identity.model_files(study), *whole))
    return engine.places(study.training.device, study.training.workers, size, units)


# -- the number format -----------------------------------------------------------------------------------------


def settled(engine: Engine, study: Study, folder: RunDir) -> Study:
    """The study with its number format: chosen when training starts, recorded, and the same whenever the run goes on.

    Raises KiyasError where the GPU does not compute in it.
    """
    record = read_record(folder)
    if not folder.stage(Stage.TRAIN).exists():
        dtype, why = number_format(engine, study)
        if why:
            tell(f"the base computes in {dtype.value}: {why}")
    elif record.dtype is None:
        dtype = _of_version_0_1_0(engine, study)
    else:
        dtype = record.dtype
        try:
            _on_gpus(engine, study, dtype)
        except KiyasError as error:
            raise KiyasError(
                f"{folder.root} was begun in {dtype.value}: {error.args[0]}",
                "go on on a machine that does, or add --redo train to repeat everything except the data",
            ) from error
    if record.dtype is not dtype:
        write_record(folder, record.model_copy(update={"dtype": dtype}))
    return study.model_copy(update={"training": study.training.model_copy(update={"dtype": dtype})})


def number_format(engine: Engine, study: Study) -> tuple[Dtype, str]:
    """What the base would compute in, and why, where that is not plain."""
    wanted = study.training.dtype
    if engine.gpus(study.training.device):
        return _on_gpus(engine, study, wanted), ""
    if wanted is not Dtype.AUTO:
        return wanted, ""
    shapes = identity.shapes(study) or []
    size = sum(map(math.prod, shapes))
    if size < SMALL_BASE:
        return Dtype.FLOAT32, ""
    # The shape that most weights have.
    common = Counter[tuple[int, ...]]()
    for shape in shapes:
        common[shape] += math.prod(shape) if len(shape) == 2 else 0
    outputs, inputs = common.most_common(1)[0][0]
    # In 4 bits its weights take the same memory whatever they are multiplied in.
    kept = 0 if study.training.load_in_4bit else size
    return _oldest(engine.asked(_on_processor, study.training.device, kept, (outputs, inputs)))


def _on_processor(kept: int, shape: tuple[int, int], device: str) -> tuple[Dtype, str]:
    from kiyas.model.device import pick_cpu_dtype

    chosen, why = pick_cpu_dtype(kept, shape)
    return Dtype(str(chosen).removeprefix("torch.")), why


def _on_gpus(engine: Engine, study: Study, wanted: Dtype) -> Dtype:
    """What all of them compute; without one what is wanted."""
    if not engine.gpus(study.training.device):
        return wanted
    return _oldest(engine.asked(_on_gpu, study.training.device, wanted.value))[0]


def _on_gpu(wanted: str, device: str) -> tuple[Dtype, str]:
    from kiyas.model.device import pick_dtype

    return Dtype(str(pick_dtype(wanted, device)).removeprefix("torch.")), ""


def _oldest(found: list[tuple[Dtype, str]]) -> tuple[Dtype, str]:
    """What all devices compute: the format of the oldest."""
    return next(each for dtype in (Dtype.FLOAT32, Dtype.FLOAT16, Dtype.BFLOAT16) for each in found if each[0] is dtype)


def _of_version_0_1_0(engine: Engine, study: Study) -> Dtype:
    """What a run that recorded none was begun in: auto was bfloat16 on a GPU that computes it, else float32."""
    if study.training.dtype is not Dtype.AUTO:
        return study.training.dtype
    on_gpus = _on_gpus(engine, study, Dtype.AUTO) if engine.gpus(study.training.device) else Dtype.FLOAT32
    return Dtype.BFLOAT16 if on_gpus is Dtype.BFLOAT16 else Dtype.FLOAT32
