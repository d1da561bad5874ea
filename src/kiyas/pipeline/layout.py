"""How the work of a stage is laid out on this machine: decided once and kept, since rounding depends on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kiyas.pipeline import identity
from kiyas.runfolder.files import read_sealed, write_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record, write_record
from kiyas.study.settings import Dtype, Study
from kiyas.types import AdapterId, KiyasError
from kiyas.work import workers
from kiyas.work.progress import bar, tell

SMALL_BASE = 100_000_000
"""Weights below which a CPU computes in float32 without asking what is faster."""


@dataclass(frozen=True)
class Part:
    """A share of a stage's work, done by one worker without a break."""

    number: int
    units: list[list[Any]]
    place: int
    """which of the run's devices does it, counted from 0; with fewer devices they are counted round"""


def float32_modules(folder: RunDir, study: Study) -> None:
    """In float16: records once which modules of the base compute in float32, and says so."""
    record = read_record(folder)
    if study.training.dtype is not Dtype.FLOAT16 or record.float32_modules is not None:
        return
    from kiyas.model.device import in_words
    from kiyas.train.stage import probe_range, range_path

    tell("float16: looking for values that leave its range")
    with bar("probe", 1, "base") as progress:
        first = Part(0, [], 0)
        workers.run_parts(
            probe_range, lanes(study, [first], lambda _, own, __: (str(folder.root), own)), progress, in_words
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


def held_at_once(
    folder: RunDir, study: Study, trainings: list[list[Any]], longest: int, checkpoints: int
) -> int | None:
    """How many trainings a GPU holds at once; None where the processor computes.

    Also tries whether `checkpoints` can answer there. `longest`: tokens of the longest sample.
    """
    if not workers.gpus(study.training.device) or (folder.train_state / "layout.json").exists():
        return None
    from kiyas.generate.stage import try_answers
    from kiyas.model.device import in_words
    from kiyas.train.stage import plan_parts, together_path

    tell("trying the widest decoding, and how many trainings the GPU holds at once")
    with bar("plan", 2, "trials") as progress:
        first = Part(0, trainings, 0)
        trial = lanes(study, [first], lambda _, own, __: (str(folder.root), own, checkpoints))
        workers.run_parts(try_answers, trial, progress, in_words)
        made = lanes(study, [first], lambda part, own, _: (str(folder.root), own, part.units, longest))
        workers.run_parts(plan_parts, made, progress, in_words)
    return int(read_sealed(together_path(folder)))


def all_trainings(study: Study) -> list[AdapterId]:
    """Of all arms, seeds and learning rates, in the order in which they are shared out."""
    # Seeds together: the arms of one seed see the same order of samples, and stack best.
    return [
        AdapterId(arm, variant, seed) for seed in study.seed_list for variant in study.variants for arm in study.trained
    ]


def parts_of(
    folder: RunDir,
    stage: Stage,
    study: Study,
    units: list[list[Any]],
    most: int | None = None,
    alone: Sequence[list[Any]] = (),
) -> list[Part]:
    """How units are shared out when the stage starts, the same parts whenever it goes on: one a worker, or more where a
    part can hold only so many units (`most`). Those of `alone` are parts of their own, after the others."""
    path = folder.stage(stage) / "state" / "layout.json"
    if not path.exists():
        here = len(places(study, len(units)))
        size = min(-(-len(units) // here), most or len(units))
        shares = [units[start : start + size] for start in range(0, len(units), size)]
        shares += [[unit] for unit in alone]
        write_sealed(path, [asdict(Part(number, share, number % here)) for number, share in enumerate(shares)])
    # Version 0.1.0 kept the shares alone, one a worker.
    return [
        Part(**each) if isinstance(each, dict) else Part(number, each, number)
        for number, each in enumerate(read_sealed(path))
    ]


def lanes(
    study: Study, parts: list[Part], arguments: Callable[[Part, dict[str, Any], int], tuple[Any, ...]]
) -> list[list[tuple[Any, ...]]]:
    """Parts by the worker that does them, one after another, as arguments for `run_parts`.

    `arguments` makes them of the part, of the study as JSON, in which `training.device` is the worker's own, and of the
    number of workers that share that device's memory.
    """
    here = places(study, sum(len(part.units) for part in parts))
    found: list[list[tuple[Any, ...]]] = [[] for _ in here]
    for part in parts:
        place = part.place % len(here)
        own = study.training.model_copy(update={"device": here[place]})
        asked = study.model_copy(update={"training": own}).model_dump(mode="json")
        found[place].append(arguments(part, asked, here.count(here[place])))
    return [lane for lane in found if lane]


def places(study: Study, units: int) -> list[str]:
    """The device of each worker that would share so many units here."""
    whole = [identity.weights_in(Path(arm.model)) for arm in study.arms.values() if arm.model is not None]
    size = max(sum(path.stat().st_size for path in files) for files in (identity.model_files(study), *whole))
    return workers.places(study.training.device, study.training.workers, size, units)


# -- the number format -----------------------------------------------------------------------------------------


def settled(study: Study, folder: RunDir) -> Study:
    """The study with its number format: chosen when training starts, recorded, and the same whenever the run goes on.

    Raises KiyasError where the GPU does not compute in it.
    """
    record = read_record(folder)
    if not folder.stage(Stage.TRAIN).exists():
        dtype, why = number_format(study)
        if why:
            tell(f"the base computes in {dtype.value}: {why}")
    elif record.dtype is None:
        dtype = _of_version_0_1_0(study)
    else:
        dtype = record.dtype
        try:
            _on_gpus(dtype, workers.gpus(study.training.device))
        except KiyasError as error:
            raise KiyasError(
                f"{folder.root} was begun in {dtype.value}: {error.args[0]}",
                "go on on a machine that does, or add --redo train to repeat everything except the data",
            ) from error
    if record.dtype is not dtype:
        write_record(folder, record.model_copy(update={"dtype": dtype}))
    return study.model_copy(update={"training": study.training.model_copy(update={"dtype": dtype})})


def number_format(study: Study) -> tuple[Dtype, str]:
    """What the base would compute in on this machine, and why, where that is not plain."""
    wanted, devices = study.training.dtype, workers.gpus(study.training.device)
    if devices:
        return _on_gpus(wanted, devices), ""
    if wanted is not Dtype.AUTO:
        return wanted, ""
    shapes = identity.shapes(study) or []
    size = sum(map(math.prod, shapes))
    if size < SMALL_BASE:
        return Dtype.FLOAT32, ""
    from kiyas.model.device import pick_cpu_dtype

    # The shape that most weights have.
    common = Counter[tuple[int, ...]]()
    for shape in shapes:
        common[shape] += math.prod(shape) if len(shape) == 2 else 0
    outputs, inputs = common.most_common(1)[0][0]
    # In 4 bits its weights take the same memory whatever they are multiplied in.
    kept = 0 if study.training.load_in_4bit else size
    chosen, why = pick_cpu_dtype(kept, (outputs, inputs))
    return Dtype(str(chosen).removeprefix("torch.")), why


def _on_gpus(wanted: Dtype, devices: list[str]) -> Dtype:
    """What all of them compute: the format of the oldest."""
    if not devices:
        return wanted
    from kiyas.model.device import pick_dtype

    found = {Dtype(str(pick_dtype(wanted.value, each)).removeprefix("torch.")) for each in devices}
    return next(each for each in (Dtype.FLOAT32, Dtype.FLOAT16, Dtype.BFLOAT16) if each in found)


def _of_version_0_1_0(study: Study) -> Dtype:
    """What a run that recorded none was begun in: auto was bfloat16 on a GPU that computes it, else float32."""
    if study.training.dtype is not Dtype.AUTO:
        return study.training.dtype
    devices = workers.gpus(study.training.device)
    on_gpus = _on_gpus(Dtype.AUTO, devices) if devices else Dtype.FLOAT32
    return Dtype.BFLOAT16 if on_gpus is Dtype.BFLOAT16 else Dtype.FLOAT32
