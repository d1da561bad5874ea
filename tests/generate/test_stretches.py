"""Long waves are decoded in stretches: a kill at any write costs one, and changes no bit. Short waves are as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from kiyas.generate import stage
from kiyas.generate.decoder import Flight, Generator
from kiyas.generate.stage import generate_part, part_file, plans_file
from kiyas.generate.work import Job, Question
from kiyas.model.adapters import AdapterStack, Spec, StackedModel
from kiyas.model.base import Base
from kiyas.runfolder import files
from kiyas.runfolder.files import read_jsonl, read_sealed
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Generation, Study
from kiyas.types import BASE, AdapterId, Completion, KiyasError
from kiyas.work import deadline
from kiyas.work.engine import Place

IDS = [BASE, AdapterId("x", "", 0, 1)]
PROBLEMS = {f"p{i}": "Print " + "x" * (i % 5) + str(i) for i in range(12)}


class KilledError(BaseException):
    pass


@pytest.fixture
def folder(made_run: Callable[..., RunDir]) -> RunDir:
    return made_run(IDS, PROBLEMS)


def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stretch is measured as five steps; with its cache it ends after every one."""
    monkeypatch.setattr(stage, "STRETCH_S", 0.0)
    monkeypatch.setattr(stage, "SHARE", 0)
    monkeypatch.setattr(stage, "FEWEST_STEPS", 5)


def shaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding errors larger than they are: logits depend a little on how many rows are in flight."""
    choose = Generator._choose

    def rounded(self: Generator, logits_BV: torch.Tensor, uniform_B: torch.Tensor | None) -> torch.Tensor:
        error_V = torch.sin(torch.arange(logits_BV.shape[1]) * len(logits_BV))
        return choose(self, logits_BV + 0.05 * error_V, uniform_B)

    monkeypatch.setattr(Generator, "_choose", rounded)


def run(folder: RunDir, base: Path, temperature: float, report: Callable[[int, str], None] | None = None) -> None:
    study = Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": str(base),
            "arms": {"x": {"dataset_name": "x"}},
            "generation": {"max_new_tokens": 14, "temperature": temperature, "max_rows": 4},
        }
    )
    adapters = [[*id.fields().values()] for id in IDS]
    place = Place(str(folder.root), "cpu")
    generate_part(place, study.model_dump(mode="json"), adapters, None, 0, [], report or (lambda n, t: None))


def made(folder: RunDir) -> list[bytes]:
    rows = part_file(folder, 0).read_bytes().splitlines()
    assert len(set(rows)) == len(rows) == len(IDS) * len(PROBLEMS), "every answer exactly once"
    return sorted(rows)


def as_if_it_could(base: Base, packed: bool) -> Base:
    """A base that can pack, or is taken for one that cannot."""
    if not packed:
        base.packed = False
        base.model.set_attn_implementation("sdpa")
    return base


def begin_anew(folder: RunDir) -> None:
    for path in part_file(folder, 0).parent.iterdir():
        path.unlink()


def how(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What is written of a flight: its cache, or tokens, of a base that packs or of one that cannot."""
    load = Base.load
    monkeypatch.setattr(Base, "load", lambda *asked: as_if_it_could(load(*asked), kind != "padded"))
    if kind != "cache":
        monkeypatch.setattr(stage, "keeps_cache", lambda base: False)


SLOW = [(0.0, "cache"), (0.0, "tokens"), (0.8, "padded"), (0.0, "padded")]


@pytest.mark.parametrize(
    ("temperature", "kind"),
    [(0.8, "cache"), (0.8, "tokens"), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
)
def test_killed_at_every_write_and_gone_on(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch, temperature: float, kind: str
) -> None:
    shaky(monkeypatch)
    how(monkeypatch, kind)
    if kind != "cache":
        short(monkeypatch)
    counted: list[int] = []
    run(folder, base_folder, temperature, lambda n, t: counted.append(n))
    expected = made(folder)
    assert [plan["stretch"] for plan in read_sealed(plans_file(folder, 0))] == [0 if kind == "cache" else 5]
    assert sum(counted) == len(expected)
    short(monkeypatch)
    begin_anew(folder)
    writes, stop = 0, 0

    def counting(write: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*given: Any, **named: Any) -> Any:
            nonlocal writes
            writes += 1
            if writes == stop:
                raise KilledError
            return write(*given, **named)

        return instead

    monkeypatch.setattr(stage, "write_sealed", counting(stage.write_sealed))
    monkeypatch.setattr(Flight, "save", counting(Flight.save))
    monkeypatch.setattr(files.JsonlWriter, "write", counting(files.JsonlWriter.write))
    kills = 0
    while True:  # the n-th start dies at its n-th write: one stretch is gained now and then
        writes, stop = 0, (12 if kind == "cache" else 2) + kills % 5
        counted.clear()
        try:
            run(folder, base_folder, temperature, lambda n, t: counted.append(n))
            break
        except KilledError:
            kills += 1
    assert kills > 5 and made(folder) == expected
    assert sum(counted) == len(expected), "what was there before is counted once"


@pytest.mark.parametrize("kind", ["tokens", pytest.param("cache", marks=pytest.mark.slow)])
def test_time_ends_between_stretches(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shaky(monkeypatch)
    how(monkeypatch, kind)
    short(monkeypatch)
    run(folder, base_folder, 0.8)
    expected = made(folder)
    begin_anew(folder)
    stops = 0
    while True:
        try:
            with deadline.within(1e-9):
                run(folder, base_folder, 0.8)
            break
        except deadline.OutOfTimeError:
            stops += 1
    assert stops > 4 and made(folder) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cache", "tokens"])
def test_a_damaged_flight_is_refused_and_may_be_removed(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    how(monkeypatch, kind)
    short(monkeypatch)
    run(folder, base_folder, 0.8)
    expected = made(folder)
    begin_anew(folder)
    for _ in range(2):
        with pytest.raises(deadline.OutOfTimeError), deadline.within(1e-9):
            run(folder, base_folder, 0.8)
    (path,) = part_file(folder, 0).parent.glob("part-0.flight.*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(KiyasError, match=rf"{path.name}.*\n.*remove it, and the answers in flight are begun again"):
        run(folder, base_folder, 0.8)
    path.unlink()
    run(folder, base_folder, 0.8)
    assert made(folder) == expected


def test_memory_that_runs_out_keeps_whole_stretches(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how(monkeypatch, "tokens")
    short(monkeypatch)
    step, steps = Flight.step, [0]

    def tight(self: Flight) -> Iterator[Completion]:
        steps[0] += 1
        if steps[0] > 12 and len(self.jobs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        yield from step(self)

    monkeypatch.setattr(Flight, "step", tight)
    run(folder, base_folder, 0.8)
    first, second = read_sealed(plans_file(folder, 0))
    assert (first["rows"], first["stretch"], second["rows"], second["stretch"]) == (4, 5, 2, 5)
    assert 0 < second["after"] < 16, "a part of a wave is kept"
    expected = made(folder)
    run(folder, base_folder, 0.8)
    assert made(folder) == expected


def answers(
    base: Any, model: StackedModel, stack: AdapterStack, settings: Generation, stretch: int, prefill: int = 4096
) -> dict[Any, Completion]:
    """A wave, decoded in stretches of so many steps."""
    generator = Generator(base, model, stack, settings, prefill_tokens=prefill)
    questions = [Question(f"p{i}", tuple(range(2, 6 + 5 * (i % 4)))) for i in range(7)]
    left, found = [Job(k, each, 0) for k in range(len(stack)) for each in questions], list[Completion]()
    while left:
        found += list(generator.answer(left, 10, lambda steps: steps < stretch))
        left = generator.left
    assert model.stack is None and len(found) == 7 * len(stack)
    return {each.key: each for each in found}


@pytest.mark.parametrize(
    ("temperature", "packed"),
    [(0.0, True), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0.0, False), (0.7, True), (0.7, False)))],
)
def test_stretches_give_the_answers_of_one(packed: bool, temperature: float) -> None:
    base = as_if_it_could(tiny.base(), packed)
    model = StackedModel(base.model)
    stack = AdapterStack([AdapterId("x", step=k) for k in range(3)], [Spec(4, 8)] * 3, model.sites, base.device)
    stack.theta.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    settings = Generation(max_new_tokens=30, temperature=temperature)
    whole = answers(base, model, stack, settings, 1000)
    assert answers(base, model, stack, settings, 4) == whole
    assert answers(base, model, stack, settings, 1) == whole
    assert answers(base, model, stack, settings, 7, prefill=60) == whole, "few adapters at a time are read again"


def test_a_wave_that_is_short_is_one_stretch(folder: RunDir, base_folder: Path) -> None:
    run(folder, base_folder, 0.8)
    assert sorted(path.name for path in part_file(folder, 0).parent.iterdir()) == [
        ".part-0.jsonl.seal", "part-0.jsonl", "part-0.layout.json",
    ]  # fmt: skip
    assert read_sealed(plans_file(folder, 0))[0]["stretch"] == 0 and len(read_jsonl(part_file(folder, 0))) == 24


def test_a_flight_of_before_the_part_went_on_elsewhere(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node has no cache of answers in flight, and adds rows: what an older cache says of them is not believed."""
    shaky(monkeypatch)
    how(monkeypatch, "cache")
    run(folder, base_folder, 0.8)
    expected = made(folder)
    short(monkeypatch)
    begin_anew(folder)
    save, saves = Flight.save, 0

    def killed_after(count: int) -> None:
        nonlocal saves
        saves = 0

        def instead(flight: Flight, *given: Any) -> None:
            nonlocal saves
            save(flight, *given)
            saves += 1
            if saves == count:
                raise KilledError

        monkeypatch.setattr(Flight, "save", instead)
        with pytest.raises(KilledError):
            run(folder, base_folder, 0.8)

    killed_after(30)
    cache = part_file(folder, 0).with_suffix(".flight.safetensors")
    older = cache.read_bytes()
    cache.unlink()
    killed_after(2)
    cache.write_bytes(older)
    monkeypatch.setattr(Flight, "save", save)
    run(folder, base_folder, 0.8)
    assert made(folder) == expected
