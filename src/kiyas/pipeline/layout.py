"""How the work of a stage is laid out on this machine: decided once and kept, since rounding depends on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from kiyas.pipeline import identity
from kiyas.runfolder.files import read_json, write_json
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from kiyas.work import workers


@dataclass(frozen=True)
class Part:
    """A share of a stage's work, done by one worker without a break."""

    number: int
    units: list[list[Any]]
    place: int
    """which of the run's devices does it, counted from 0; with fewer devices they are counted round"""


def parts_of(folder: RunDir, stage: Stage, study: Study, units: list[list[Any]]) -> list[Part]:
    """How units are shared out: one part a worker when the stage starts, the same parts whenever it goes on."""
    path = folder.stage(stage) / "state" / "layout.json"
    if not path.exists():
        size = -(-len(units) // len(places(study, len(units))))
        shares = [units[start : start + size] for start in range(0, len(units), size)]
        write_json(path, [asdict(Part(number, share, number)) for number, share in enumerate(shares)])
    # Version 0.1.0 kept the shares alone, one a worker.
    return [
        Part(**each) if isinstance(each, dict) else Part(number, each, number)
        for number, each in enumerate(read_json(path))
    ]


def lanes(
    study: Study, parts: list[Part], arguments: Callable[[Part, dict[str, Any]], tuple[Any, ...]]
) -> list[list[tuple[Any, ...]]]:
    """Parts by the worker that does them, one after another, as arguments for `run_parts`.

    `arguments` makes them of the part and of the study as JSON, in which `training.device` is the worker's own.
    """
    here = places(study, sum(len(part.units) for part in parts))
    found: list[list[tuple[Any, ...]]] = [[] for _ in here]
    for part in parts:
        place = part.place % len(here)
        own = study.training.model_copy(update={"device": here[place]})
        found[place].append(arguments(part, study.model_copy(update={"training": own}).model_dump(mode="json")))
    return [lane for lane in found if lane]


def places(study: Study, units: int) -> list[str]:
    """The device of each worker that would share so many units here."""
    size = sum(path.stat().st_size for path in identity.model_files(study))
    return workers.places(study.training.device, study.training.workers, size, units)
